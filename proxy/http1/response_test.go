package http1

import (
	"bytes"
	"strings"
	"testing"
)

// scanResponse scans raw as it grows to each of cuts and then to the whole, each time in other memory, as a buffer
// that grows does it: what was tidied stays tidied.
func scanResponse(raw string, cuts ...int) (*Response, scanned) {
	r := new(Response)
	r.Reset()
	var buf []byte
	for _, cut := range append(cuts, len(raw)) {
		buf = append(bytes.Clone(buf), raw[len(buf):cut]...)
		n, err := r.Scan(buf)
		if n > 0 || err != nil {
			return r, scannedOf(n, err)
		}
	}
	return r, scanned{}
}

// responseTests are heads; refused is a part of the text, "" where the head is taken, and untidy says that it is
// taken but ends its connection.
var responseTests = []struct {
	name, raw, refused string
	untidy             bool
}{
	{"ordinary", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "", false},
	{"no fields", "HTTP/1.1 200 OK\r\n\r\n", "", false},
	{"no phrase", "HTTP/1.1 200 \r\n\r\n", "", false},
	{"no phrase and no space", "HTTP/1.1 200\r\n\r\n", "", false},
	{"phrase beyond ASCII", "HTTP/1.1 200 \xc3\xa4\xff\t!\r\n\r\n", "", false},
	{"smallest status", "HTTP/1.1 102 a\r\n\r\n", "", false},
	{"largest status", "HTTP/1.1 599 a\r\n\r\n", "", false},
	{"1.0", "HTTP/1.0 200 OK\r\n\r\n", "", false},
	{"obs-text in a value", "HTTP/1.1 200 OK\r\nA: \xff\r\n\r\n", "", false},
	{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", "", false},
	{"bytes behind it", "HTTP/1.1 200 OK\r\n\r\nbody\n\n", "", false},

	{"bare LF after the status line", "HTTP/1.1 200 OK\nA: b\r\n\r\n", "", true},
	{"bare LF after a field", "HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", "", true},
	{"bare LF as the empty line", "HTTP/1.1 200 OK\r\nA: b\r\n\n", "", true},
	{"bare LF everywhere", "HTTP/1.1 200 OK\nContent-Length: 2\n\n", "", true},
	{"folded with a space", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "", true},
	{"folded with a tab", "HTTP/1.1 200 OK\r\nA: b\r\n\tc\r\n\td\r\n\r\n", "", true},
	{"folded with bare LF", "HTTP/1.1 200 OK\nA: b\n c\n\n", "", true},
	{"folded into a colon", "HTTP/1.1 200 OK\r\nA: b\r\n Content-Length: 5\r\n\r\n", "", true},
	{"folded into white space", "HTTP/1.1 200 OK\r\nA: b\r\n \r\n\t\r\nC: d\r\n\r\n", "", true},
	{"folded Connection", "HTTP/1.1 200 OK\r\nConnection: a,\r\n close\r\n\r\n", "", true},

	{"folded first field", "HTTP/1.1 200 OK\r\n A: b\r\n\r\n", "begins with white space", false},
	{"folded length", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n 2\r\n\r\n", "is folded", false},
	{"folded length with its digits below", "HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\n", "not a number", false},
	{"folded coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n ,gzip\r\n\r\n", "is folded", false},
	{"folded coding of white space", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n \r\n\r\n", "is folded", false},
	{"control byte in a fold", "HTTP/1.1 200 OK\r\nA: b\r\n \x00\r\n\r\n", "control byte", false},
	{"CR CR LF", "HTTP/1.1 200 OK\r\nA: b\r\r\n\r\n", "control byte", false},
	{"bare CR in a value", "HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n", "control byte", false},
	{"bare CR in the phrase", "HTTP/1.1 200 OK\rA: b\r\n\r\n", "control byte", false},
	{"NUL in a value", "HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n", "control byte", false},
	{"NUL in the phrase", "HTTP/1.1 200 O\x00K\r\n\r\n", "control byte", false},
	{"escape in the phrase", "HTTP/1.1 200 \x1b[2J\r\n\r\n", "control byte", false},
	{"space before the colon", "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "before the colon", false},
	{"space in a name", "HTTP/1.1 200 OK\r\nA B: b\r\n\r\n", "not a token", false},
	{"empty name", "HTTP/1.1 200 OK\r\n: b\r\n\r\n", "not a token", false},
	{"no colon", "HTTP/1.1 200 OK\r\nAb\r\n\r\n", "no colon", false},

	{"status 000", "HTTP/1.1 000 OK\r\n\r\n", "status is 000", false},
	{"status 099", "HTTP/1.1 099 OK\r\n\r\n", "status is 099", false},
	{"status 600", "HTTP/1.1 600 OK\r\n\r\n", "status is 600", false},
	{"status 999", "HTTP/1.1 999 OK\r\n\r\n", "status is 999", false},
	{"status of two digits", "HTTP/1.1 20 OK OK\r\n\r\n", "three digits", false},
	{"status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", "three digits", false},
	{"status with a sign", "HTTP/1.1 +20 OK\r\n\r\n", "three digits", false},
	{"status in hexadecimal", "HTTP/1.1 0xC OK\r\n\r\n", "three digits", false},
	{"two spaces before the status", "HTTP/1.1  200 OK\r\n\r\n", "three digits", false},
	{"tab before the status", "HTTP/1.1\t200 OK\r\n\r\n", "not an HTTP/1.1 status line", false},
	{"tab after the status", "HTTP/1.1 200\tOK\r\n\r\n", "three digits", false},
	{"switching protocols", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "switches protocols", false},
	{"version 2", "HTTP/2 200 OK\r\n\r\n", "not an HTTP/1.1 status line", false},
	{"version 1.2", "HTTP/1.2 200 OK\r\n\r\n", "not an HTTP/1.1 status line", false},
	{"version 1.10", "HTTP/1.10 200 OK\r\n\r\n", "not an HTTP/1.1 status line", false},
	{"version in small letters", "http/1.1 200 OK\r\n\r\n", "not an HTTP/1.1 status line", false},
	{"an empty line in front", "\r\nHTTP/1.1 200 OK\r\n\r\n", "not an HTTP/1.1 status line", false},
	{"a mail server", "220 mail ESMTP\r\n", "not an HTTP/1.1 status line", false},
	{"a banner that does not end", "220 mail", "does not begin", false},
	{"HTTP/0.9", "<html>\r\n\r\n", "not an HTTP/1.1 status line", false},
	{"a request", "GET / HTTP/1.1\r\n\r\n", "not an HTTP/1.1 status line", false},
	{"an empty first line", "\r\n\r\n", "not an HTTP/1.1 status line", false},
	{"a first line that ends early", "HTTP/1.1\r\n\r\n", "not an HTTP/1.1 status line", false},

	{"both framings", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "both", false},
	{"length twice", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", "more than one", false},
	{"length list", "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\n", "not a number", false},
	{"negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not a number", false},
	{"empty length", "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", "not a number", false},
	{"coding twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "nothing else", false},
	{"coding list", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "nothing else", false},
	{"identity", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n", "nothing else", false},
	{"empty coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n", "nothing else", false},
	{"chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0 does not know", false},
	{"both framings of an interim one", "HTTP/1.1 103 a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "both", false},
}

func TestResponseHead(t *testing.T) {
	for _, tt := range responseTests {
		t.Run(tt.name, func(t *testing.T) {
			r, got := scanResponse(tt.raw)
			if tt.refused != "" {
				if !strings.Contains(got.refused, tt.refused) || !strings.HasPrefix(got.refused, "malformed response: ") {
					t.Errorf("got %+v; want it refused with %q", got, tt.refused)
				}
				return
			}
			if got.refused != "" || got.length == 0 {
				t.Fatalf("got %+v; want it taken", got)
			}
			if r.Untidy != tt.untidy {
				t.Errorf("got untidy %v; want %v", r.Untidy, tt.untidy)
			}
		})
	}
}

// TestResponseHeadInPieces holds that it makes no difference to a head in how many pieces it comes.
func TestResponseHeadInPieces(t *testing.T) {
	for _, tt := range responseTests {
		t.Run(tt.name, func(t *testing.T) {
			whole, want := scanResponse(tt.raw)
			check := func(how string, r *Response, got scanned) {
				t.Helper()
				if (got.refused != "") != (want.refused != "") || got.length != want.length {
					t.Fatalf("%s: got %+v; want %+v", how, got, want)
				}
				if got.length > 0 && (!bytes.Equal(responseFields(r), responseFields(whole)) || r.Untidy != whole.Untidy) {
					t.Fatalf("%s: got %q; want %q", how, responseFields(r), responseFields(whole))
				}
			}
			var every []int
			for i := range len(tt.raw) {
				r, got := scanResponse(tt.raw, i)
				check("cut in two", r, got)
				every = append(every, i)
			}
			r, got := scanResponse(tt.raw, every...)
			check("byte by byte", r, got)
		})
	}
}

// responseFields is all that the fields of a head say, to compare two.
func responseFields(r *Response) []byte {
	b := append([]byte(nil), r.Reason.Of(r.Raw)...)
	for _, f := range r.Fields {
		b = append(b, '|', byte('0'+f.Kind))
		b = AppendField(b, f.Name.Of(r.Raw), f.Value.Of(r.Raw))
	}
	return b
}

func TestResponseMeaning(t *testing.T) {
	for _, tt := range []struct {
		name, raw                string
		reusable, bodiless, head bool // head: bodiless as the answer to a HEAD
	}{
		{"1.1", "HTTP/1.1 200 OK\r\n\r\n", true, false, true},
		{"1.1 close", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", false, false, true},
		{"1.1 close in a list", "HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n", false, false, true},
		{"1.1 close in a fold", "HTTP/1.1 200 OK\r\nConnection: x,\r\n close\r\n\r\n", false, false, true},
		{"1.0", "HTTP/1.0 200 OK\r\n\r\n", false, false, true},
		{"1.0 keep-alive", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", true, false, true},
		{"1.0 both", "HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\n\r\n", false, false, true},
		{"untidy", "HTTP/1.1 200 OK\n\n", false, false, true},
		{"204", "HTTP/1.1 204 a\r\n\r\n", true, true, true},
		{"304", "HTTP/1.1 304 a\r\nContent-Length: 7\r\n\r\n", true, true, true},
		{"205 has a length", "HTTP/1.1 205 a\r\nContent-Length: 0\r\n\r\n", true, false, true},
		{"103", "HTTP/1.1 103 a\r\n\r\n", true, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, got := scanResponse(tt.raw)
			if got.refused != "" {
				t.Fatal(got.refused)
			}
			if r.Reusable() != tt.reusable || r.Bodiless(false) != tt.bodiless || r.Bodiless(true) != tt.head {
				t.Errorf("got reusable %v, bodiless %v and %v; want %v, %v and %v",
					r.Reusable(), r.Bodiless(false), r.Bodiless(true), tt.reusable, tt.bodiless, tt.head)
			}
		})
	}
}

// TestManyFoldedLines holds that folds, and names in Connection, do not make a large head quadratic. Were it so, the
// test would take minutes.
func TestManyFoldedLines(t *testing.T) {
	const size = 1 << 20
	for _, tt := range []struct{ name, head, part string }{
		{"of white space", "A: b\n", " \n"},
		{"of white space, below nothing", "A:\n", " \r\n"},
		{"of text", "A: b\n", " c\n"},
		{"names and fields", "Connection: " + strings.Repeat("a,", size/2) + "b\n", "c:\n"},
		{"one long name", "Connection: " + strings.Repeat("a", size) + "\n", "c:\n"},
		{"folded names", "Connection: b\nConnection: a\n", " ,a\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := "HTTP/1.1 200 OK\n" + tt.head + strings.Repeat(tt.part, size/len(tt.part)) + "\n"
			if _, got := scanResponse(raw); got.length != len(raw) {
				t.Errorf("got %+v; want it taken", got)
			}
		})
	}
}
