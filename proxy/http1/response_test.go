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

// responseTests are heads; refused is a part of the text, "" where the head is taken, and untidy what was tidied then.
var responseTests = []struct {
	name, raw, refused, untidy string
}{
	{"ordinary", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "", ""},
	{"no fields", "HTTP/1.1 200 OK\r\n\r\n", "", ""},
	{"no phrase", "HTTP/1.1 200 \r\n\r\n", "", ""},
	{"no phrase and no space", "HTTP/1.1 200\r\n\r\n", "", ""},
	{"phrase beyond ASCII", "HTTP/1.1 200 \xc3\xa4\xff\t!\r\n\r\n", "", ""},
	{"smallest status", "HTTP/1.1 102 a\r\n\r\n", "", ""},
	{"largest status", "HTTP/1.1 599 a\r\n\r\n", "", ""},
	{"1.0", "HTTP/1.0 200 OK\r\n\r\n", "", ""},
	{"obs-text in a value", "HTTP/1.1 200 OK\r\nA: \xff\r\n\r\n", "", ""},
	{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", "", ""},
	{"bytes behind it", "HTTP/1.1 200 OK\r\n\r\nbody\n\n", "", ""},

	{"bare LF after the status line", "HTTP/1.1 200 OK\nA: b\r\n\r\n", "", "bare_lf"},
	{"bare LF after a field", "HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", "", "bare_lf"},
	{"bare LF as the empty line", "HTTP/1.1 200 OK\r\nA: b\r\n\n", "", "bare_lf"},
	{"bare LF everywhere", "HTTP/1.1 200 OK\nContent-Length: 2\n\n", "", "bare_lf"},
	{"folded with a space", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "", "folded"},
	{"folded with a tab", "HTTP/1.1 200 OK\r\nA: b\r\n\tc\r\n\td\r\n\r\n", "", "folded"},
	{"folded with bare LF", "HTTP/1.1 200 OK\nA: b\n c\n\n", "", "bare_lf folded"},
	{"folded into a colon", "HTTP/1.1 200 OK\r\nA: b\r\n Content-Length: 5\r\n\r\n", "", "folded"},
	{"folded into white space", "HTTP/1.1 200 OK\r\nA: b\r\n \r\n\t\r\nC: d\r\n\r\n", "", "folded"},
	{"folded Connection", "HTTP/1.1 200 OK\r\nConnection: a,\r\n close\r\n\r\n", "", "folded"},

	{"folded first field", "HTTP/1.1 200 OK\r\n A: b\r\n\r\n", "begins with white space", ""},
	{"folded length", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n 2\r\n\r\n", "is folded", ""},
	{"folded length with its digits below", "HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\n", "not a number", ""},
	{"folded coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n ,gzip\r\n\r\n", "is folded", ""},
	{"folded coding of white space", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n \r\n\r\n", "is folded", ""},
	{"CR CR LF", "HTTP/1.1 200 OK\r\nA: b\r\r\n\r\n", "control byte", ""},
	{"bare CR in a value", "HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n", "control byte", ""},
	{"bare CR in the phrase", "HTTP/1.1 200 OK\rA: b\r\n\r\n", "control byte", ""},
	{"NUL in a value", "HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n", "control byte", ""},
	{"NUL in the phrase", "HTTP/1.1 200 O\x00K\r\n\r\n", "control byte", ""},
	{"escape in the phrase", "HTTP/1.1 200 \x1b[2J\r\n\r\n", "control byte", ""},

	{"status 000", "HTTP/1.1 000 OK\r\n\r\n", "status is 000", ""},
	{"status 099", "HTTP/1.1 099 OK\r\n\r\n", "status is 099", ""},
	{"status of two digits", "HTTP/1.1 20 OK OK\r\n\r\n", "three digits", ""},
	{"status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", "three digits", ""},
	{"status with a sign", "HTTP/1.1 +20 OK\r\n\r\n", "three digits", ""},
	{"status in hexadecimal", "HTTP/1.1 0xC OK\r\n\r\n", "three digits", ""},
	{"two spaces before the status", "HTTP/1.1  200 OK\r\n\r\n", "three digits", ""},
	{"tab before the status", "HTTP/1.1\t200 OK\r\n\r\n", "not an HTTP/1.1 status line", ""},
	{"tab after the status", "HTTP/1.1 200\tOK\r\n\r\n", "three digits", ""},
	{"switching protocols", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "switches protocols", ""},
	{"version 2", "HTTP/2 200 OK\r\n\r\n", "not an HTTP/1.1 status line", ""},
	{"version 1.2", "HTTP/1.2 200 OK\r\n\r\n", "not an HTTP/1.1 status line", ""},
	{"version 1.10", "HTTP/1.10 200 OK\r\n\r\n", "not an HTTP/1.1 status line", ""},
	{"version in small letters", "http/1.1 200 OK\r\n\r\n", "not an HTTP/1.1 status line", ""},
	{"a mail server", "220 mail ESMTP\r\n", "not an HTTP/1.1 status line", ""},
	{"a banner that does not end", "220 mail", "does not begin", ""},
	{"HTTP/0.9", "<html>\r\n\r\n", "not an HTTP/1.1 status line", ""},
	{"a request", "GET / HTTP/1.1\r\n\r\n", "not an HTTP/1.1 status line", ""},
	{"a first line that ends early", "HTTP/1.1\r\n\r\n", "not an HTTP/1.1 status line", ""},

	{"negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not a number", ""},
	{"empty length", "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", "not a number", ""},
	{"coding list", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "nothing else", ""},
	{"empty coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n", "nothing else", ""},

	{"bare LF after an empty line in front", "\nHTTP/1.1 200 OK\r\n\r\n", "", "bare_lf blank_lines"},
	{"an empty line in front", "\r\nHTTP/1.1 200 OK\r\n\r\n", "", "blank_lines"},
	{"many empty lines in front", "\r\n\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "", "blank_lines"},
	{"empty lines and a mail server", "\r\n220 mail ESMTP", "does not begin", ""},
	{"empty lines and white space", "\r\n HTTP/1.1 200 OK\r\n\r\n", "not an HTTP/1.1 status line", ""},
	{"empty lines with a bare CR", "\r\r\nHTTP/1.1 200 OK\r\n\r\n", "not an HTTP/1.1 status line", ""},
	{"status 600", "HTTP/1.1 600 OK\r\n\r\n", "", "status"},
	{"status 999", "HTTP/1.1 999 OK\r\n\r\n", "", "status"},
	{"status 1000", "HTTP/1.1 1000 OK\r\n\r\n", "three digits", ""},

	{"space before the colon", "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "", "bad_line"},
	{"tab before the colon", "HTTP/1.1 200 OK\r\nA\t: b\r\n\r\n", "", "bad_line"},
	{"space in a name", "HTTP/1.1 200 OK\r\nA B: b\r\n\r\n", "", "bad_line"},
	{"empty name", "HTTP/1.1 200 OK\r\n: b\r\n\r\n", "", "bad_line"},
	{"no colon", "HTTP/1.1 200 OK\r\nAb\r\n\r\n", "", "bad_line"},
	{"bytes beyond ASCII in a name", "HTTP/1.1 200 OK\r\n\xc3\xa4: b\r\n\r\n", "", "bad_line"},
	{"control byte in a value", "HTTP/1.1 200 OK\r\nA: \x01\r\n\r\n", "", "bad_line"},
	{"control byte in a name", "HTTP/1.1 200 OK\r\nA\x1b: b\r\n\r\n", "", "bad_line"},
	{"DEL in a value", "HTTP/1.1 200 OK\r\nA: \x7f\r\n\r\n", "", "bad_line"},
	{"control byte in a fold", "HTTP/1.1 200 OK\r\nA: b\r\n \x01\r\n\r\n", "", "bad_line"},
	{"control byte in a second fold", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n \x01\r\n d\r\n\r\n", "", "folded bad_line"},
	{"folded to a bad line", "HTTP/1.1 200 OK\r\nA\r\n Content-Length: 5\r\n \x01\r\nB: c\r\n\r\n", "", "bad_line"},
	{"bad line as the last", "HTTP/1.1 200 OK\r\nA: b\r\nC\r\n\r\n", "", "bad_line"},
	{"only bad lines, with bare LF", "HTTP/1.1 200 OK\nA\nB\n\n", "", "bare_lf bad_line"},
	{"half of a framing name", "HTTP/1.1 200 OK\r\nContent Length: 5\r\n\r\n", "", "bad_line"},
	{"framing within a name", "HTTP/1.1 200 OK\r\nA Content-Length: 5\r\n\r\n", "", "bad_line"},
	{"a length and no colon", "HTTP/1.1 200 OK\r\nContent-Length 5\r\n\r\n", "", "bad_line"},
	{"space before the colon of a length", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n", "white space before the colon", ""},
	{"space before the colon of a coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding\t: chunked\r\n\r\n", "white space before the colon", ""},
	{"space before the colon of Connection", "HTTP/1.1 200 OK\r\nConnection : close\r\n\r\n", "white space before the colon", ""},
	{"control byte before a length", "HTTP/1.1 200 OK\r\n\x01Content-Length: 5\r\n\r\n", "not a token", ""},
	{"quotes around a length", "HTTP/1.1 200 OK\r\n\"content-length\": 5\r\n\r\n", "not a token", ""},
	{"no-break space behind a coding", "HTTP/1.1 200 OK\r\ntransfer-encoding\xa0: chunked\r\n\r\n", "not a token", ""},
	{"a length alone", "HTTP/1.1 200 OK\r\nContent-Length\r\n\r\n", "no colon", ""},
	{"a coding alone, in brackets", "HTTP/1.1 200 OK\r\n[Transfer-Encoding]\r\n\r\n", "no colon", ""},
	{"control byte in a length", "HTTP/1.1 200 OK\r\nContent-Length: 5\x01\r\n\r\n", "control byte", ""},
	{"control byte in a coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", "control byte", ""},
	{"control byte in Connection", "HTTP/1.1 200 OK\r\nConnection: a\x01\r\n\r\n", "control byte", ""},
	{"control byte in a fold of Connection", "HTTP/1.1 200 OK\r\nConnection: a\r\n \x01\r\n\r\n", "control byte", ""},
	{"NUL in a name", "HTTP/1.1 200 OK\r\nA\x00B: c\r\n\r\n", "not a token", ""},
	{"NUL in a line without a colon", "HTTP/1.1 200 OK\r\nA\x00B\r\n\r\n", "no colon", ""},
	{"bare CR in a line without a colon", "HTTP/1.1 200 OK\r\nA\rB\r\n\r\n", "no colon", ""},
	{"bare CR in a name", "HTTP/1.1 200 OK\r\nA\rB: c\r\n\r\n", "not a token", ""},
	{"bare CR in a fold", "HTTP/1.1 200 OK\r\nA: b\r\n c\rd\r\n\r\n", "control byte", ""},
	{"NUL in a fold", "HTTP/1.1 200 OK\r\nA: b\r\n \x00\r\n\r\n", "control byte", ""},
	{"NUL in what is folded to a bad line", "HTTP/1.1 200 OK\r\nA\r\n \x00\r\n\r\n", "control byte", ""},
	{"bare CR in what is folded to a bad line", "HTTP/1.1 200 OK\r\nA\r\n b\rc\r\n\r\n", "control byte", ""},

	{"both framings", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "", "length_beside_chunked"},
	{"both framings the other way round", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", "", "length_beside_chunked"},
	{"both framings of an interim one", "HTTP/1.1 103 a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "", "length_beside_chunked"},
	{"both framings, and no length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: x\r\n\r\n", "not a number", ""},
	{"both framings, and two lengths", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", "more than one", ""},
	{"both framings, and a length twice", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", "", "length_beside_chunked length_repeated"},
	{"length twice", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", "", "length_repeated"},
	{"length list", "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\n", "", "length_repeated"},
	{"length list and another", "HTTP/1.1 200 OK\r\nContent-Length: 3 ,3\r\nContent-Length: 03\r\n\r\n", "", "length_repeated"},
	{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", "more than one", ""},
	{"two lengths in a list", "HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\n", "more than one", ""},
	{"length list with an empty element", "HTTP/1.1 200 OK\r\nContent-Length: 3,,3\r\n\r\n", "not a number", ""},
	{"length list that ends with a comma", "HTTP/1.1 200 OK\r\nContent-Length: 3,\r\n\r\n", "not a number", ""},
	{"length list with a word", "HTTP/1.1 200 OK\r\nContent-Length: 3, b\r\n\r\n", "not a number", ""},
	{"length with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n", "not a number", ""},
	{"coding twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "", "chunked_twice"},
	{"coding twice in a list", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, Chunked\r\n\r\n", "", "chunked_twice"},
	{"coding list with an empty element", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked,\r\n\r\n", "nothing else", ""},
	{"coding with a parameter", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked;q=1\r\n\r\n", "nothing else", ""},
	{"gzip and then chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", "nothing else", ""},
	{"identity", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n", "", "identity"},
	{"identity and a length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Identity\r\nContent-Length: 3\r\n\r\n", "", "identity"},
	{"identity and chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n", "", "identity"},
	{"identity with a parameter", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity;q=1\r\n\r\n", "nothing else", ""},
	{"chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "", "chunked_in_http10"},
	{"everything at once", "\nHTTP/1.0 600\nTransfer-Encoding: chunked, identity\nTransfer-Encoding: chunked\nContent-Length: 3, 3\nA: b\n c\nD\n\n", "", "bare_lf folded chunked_twice length_beside_chunked length_repeated chunked_in_http10 identity bad_line blank_lines status"},
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
			if got := names(r.Untidy); got != tt.untidy {
				t.Errorf("got untidy %q; want %q", got, tt.untidy)
			}
			if r.Untidy != 0 && r.Reusable() {
				t.Error("got its connection reusable; want it closed")
			}
		})
	}
}

// names is what is in the set, in a form that can be compared.
func names(u Untidy) string {
	var all []string
	for what := range u.Names {
		all = append(all, what)
	}
	return strings.Join(all, " ")
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
		{"kept for two seconds", "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=2\r\n\r\n", true, false, true},
		{"kept for a second", "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\n\r\n", false, false, true},
		{"not kept", "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=0\r\n\r\n", false, false, true},
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
		{"bad lines", "A: b\n", "c\n"},
		{"folded to a bad line", "A\n", " c\n"},
		{"lengths in a list", "Content-Length: 1\nContent-Length: " + strings.Repeat("1,", size/2) + "1\n", "c:\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := "HTTP/1.1 200 OK\n" + tt.head + strings.Repeat(tt.part, size/len(tt.part)) + "\n"
			if _, got := scanResponse(raw); got.length != len(raw) {
				t.Errorf("got %+v; want it taken", got)
			}
		})
	}
}
