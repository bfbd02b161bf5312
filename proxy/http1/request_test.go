package http1

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// scanned is what a request's head came to, in a form that can be compared.
type scanned struct {
	length  int
	refused string
}

// scanWhole scans raw as it comes in one piece.
func scanWhole(raw string) (*Request, scanned) { return scanPieces(raw) }

func scannedOf(n int, err error) scanned {
	if err != nil {
		return scanned{refused: err.Error()}
	}
	return scanned{length: n}
}

// scanPieces scans raw as it grows to each of cuts and then to the whole, each time in other memory.
func scanPieces(raw string, cuts ...int) (*Request, scanned) {
	var g Gate
	g.Reset(64 << 10)
	h := new(Request)
	h.Reset()
	for _, cut := range append(cuts, len(raw)) {
		n, err := g.Scan([]byte(raw[:cut]))
		if n > 0 {
			err = h.Scan([]byte(raw[g.Blank():n]), "request-id")
		}
		if n > 0 || err != nil {
			return h, scannedOf(n, err)
		}
	}
	return h, scanned{}
}

const ordinaryHead = "POST http://example.com/hook?a=1 HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\n"

// headTests are whole heads; refused is a part of the text, "" where the head is taken.
var headTests = []struct{ name, raw, refused string }{
	{"ordinary", ordinaryHead, ""},
	{"no fields", "GET / HTTP/1.0\r\n\r\n", ""},
	{"empty lines before it", "\r\n\r\nGET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n", ""},
	{"bytes behind it", "GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\nGET /2", ""},
	{"every token character", "!#$%&'*+-.^_`|~09azAZ http://h/ HTTP/1.1\r\n!#$%&'*+-.^_`|~09azAZ: 1\r\n\r\n", ""},
	{"obs-text and tabs in a value", "GET / HTTP/1.1\r\nA:\t\x80\xff\tb\t\r\n\r\n", ""},
	{"obs-text in the target", "GET http://h/\xe4 HTTP/1.1\r\n\r\n", ""},
	{"no value", "GET / HTTP/1.1\r\nA:\r\nB: \t\r\n\r\n", ""},
	{"chunked in capitals", "POST / HTTP/1.1\r\nTRANSFER-ENCODING: ChUnKeD\r\n\r\n", ""},
	{"chunked with spaces around it", "POST / HTTP/1.1\r\nTransfer-Encoding:\t chunked \t\r\n\r\n", ""},
	{"length with zeros in front", "POST / HTTP/1.1\r\nContent-Length: 0003\r\n\r\n", ""},
	{"length over an int64", "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", ""},
	{"a field that only looks like one", "POST / HTTP/1.1\r\nTransfer_Encoding: gzip\r\nContent_Length: x\r\n\r\n", ""},

	{"bare LF after the request line", "GET / HTTP/1.1\nHost: h\r\n\r\n", "bare LF"},
	{"bare LF after a field", "GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n", "bare LF"},
	{"bare LF as the empty line", "GET / HTTP/1.1\r\nHost: h\r\n\n", "bare LF"},
	{"bare LF as the first byte", "\nGET / HTTP/1.1\r\n\r\n", "bare LF"},
	{"bare LF everywhere", "GET / HTTP/1.1\nHost: h\n\n", "bare LF"},
	{"bare CR in the request line", "GET / HTTP/1.1\rHost: h\r\n\r\n", "control byte"},
	{"bare CR in the target", "GET /\rx HTTP/1.1\r\n\r\n", "control byte"},
	{"bare CR in a name", "GET / HTTP/1.1\r\nA\rB: c\r\n\r\n", "not a token"},
	{"bare CR in a value", "GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n", "control byte"},
	{"CR CR LF", "GET / HTTP/1.1\r\nA: b\r\r\n\r\n", "control byte"},
	{"CR CR LF as the empty line", "GET / HTTP/1.1\r\nA: b\r\n\r\r\n", "no colon"},
	{"LF CR", "GET / HTTP/1.1\r\nA: b\n\rC: d\r\n\r\n", "bare LF"},
	{"folded with a space", "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", "folded"},
	{"folded with a tab", "GET / HTTP/1.1\r\nA: b\r\n\tc\r\n\r\n", "folded"},
	{"folded length", "GET / HTTP/1.1\r\nContent-Length:\r\n 3\r\n\r\n", "not a number"},
	{"folded first field", "GET / HTTP/1.1\r\n A: b\r\n\r\n", "folded"},
	{"a line of a space", "GET / HTTP/1.1\r\nA: b\r\n \r\n\r\n", "folded"},
	{"space before the colon", "GET / HTTP/1.1\r\nA : b\r\n\r\n", "before the colon"},
	{"tab before the colon", "GET / HTTP/1.1\r\nA\t: b\r\n\r\n", "before the colon"},
	{"space in a name", "GET / HTTP/1.1\r\nTransfer Encoding: chunked\r\n\r\n", "not a token"},
	{"empty name", "GET / HTTP/1.1\r\n: b\r\n\r\n", "not a token"},
	{"no colon", "GET / HTTP/1.1\r\nAb\r\n\r\n", "no colon"},
	{"obs-text in a name", "GET / HTTP/1.1\r\nContent-Length\xa0: 3\r\n\r\n", "not a token"},
	{"NUL in a name", "GET / HTTP/1.1\r\nA\x00: b\r\n\r\n", "not a token"},
	{"NUL in a value", "GET / HTTP/1.1\r\nA: b\x00c\r\n\r\n", "control byte"},
	{"vertical tab in a value", "GET / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", "control byte"},
	{"DEL in a value", "GET / HTTP/1.1\r\nA: \x7f\r\n\r\n", "control byte"},
	{"escape in a value", "GET / HTTP/1.1\r\nA: \x1b[2J\r\n\r\n", "control byte"},

	{"no version", "GET http://h/\r\n\r\n", "no HTTP version"},
	{"only a method", "GET\r\n\r\n", "not a request line"},
	{"no target", "GET  HTTP/1.1\r\n\r\n", "no target"},
	{"two spaces before the target", "GET  / HTTP/1.1\r\n\r\n", "white space"},
	{"two spaces before the version", "GET /  HTTP/1.1\r\n\r\n", "white space"},
	{"space in the target", "GET /a b HTTP/1.1\r\n\r\n", "white space"},
	{"tab in the request line", "GET\t/ HTTP/1.1\r\n\r\n", "not a request line"},
	{"tab in the target", "GET /a\tb HTTP/1.1\r\n\r\n", "white space"},
	{"space at the end", "GET / HTTP/1.1 \r\n\r\n", "white space"},
	{"space at the beginning", " GET / HTTP/1.1\r\n\r\n", "not a request line"},
	{"NUL in the method", "G\x00T / HTTP/1.1\r\n\r\n", "not a request line"},
	{"NUL in the target", "GET /\x00 HTTP/1.1\r\n\r\n", "control byte"},
	{"DEL in the target", "GET /\x7f HTTP/1.1\r\n\r\n", "control byte"},
	{"method that is not a token", "G(T / HTTP/1.1\r\n\r\n", "not a request line"},
	{"version 0.9", "GET / HTTP/0.9\r\n\r\n", "neither 1.0 nor 1.1"},
	{"version 1.2", "GET / HTTP/1.2\r\n\r\n", "neither 1.0 nor 1.1"},
	{"version 1.10", "GET / HTTP/1.10\r\n\r\n", "neither 1.0 nor 1.1"},
	{"version 01.1", "GET / HTTP/01.1\r\n\r\n", "neither 1.0 nor 1.1"},
	{"version 2.0", "PRI * HTTP/2.0\r\n\r\n", "neither 1.0 nor 1.1"},
	{"version in small letters", "GET / http/1.1\r\n\r\n", "neither 1.0 nor 1.1"},

	{"both framings", "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "both"},
	{"both framings the other way round", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", "both"},
	{"length twice", "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", "more than one Content-Length"},
	{"two lengths", "POST / HTTP/1.1\r\nContent-Length: 3\r\ncontent-length: 4\r\n\r\n", "more than one Content-Length"},
	{"length list", "POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n", "not a number"},
	{"empty length", "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", "not a number"},
	{"negative length", "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "not a number"},
	{"length with a sign", "POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n", "not a number"},
	{"hexadecimal length", "POST / HTTP/1.1\r\nContent-Length: 0x3\r\n\r\n", "not a number"},
	{"length with a point", "POST / HTTP/1.1\r\nContent-Length: 3.0\r\n\r\n", "not a number"},
	{"length with a space", "POST / HTTP/1.1\r\nContent-Length: 1 2\r\n\r\n", "not a number"},
	{"length with an underscore", "POST / HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n", "not a number"},
	{"length in other digits", "POST / HTTP/1.1\r\nContent-Length: \xd9\xa3\r\n\r\n", "not a number"},
	{"coding twice", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "not chunked and nothing else"},
	{"coding list", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "not chunked and nothing else"},
	{"chunked, chunked", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", "not chunked and nothing else"},
	{"chunked with an empty element", "POST / HTTP/1.1\r\nTransfer-Encoding: ,chunked\r\n\r\n", "not chunked and nothing else"},
	{"coding with a parameter", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked;q=1\r\n\r\n", "not chunked and nothing else"},
	{"coding in quotes", "POST / HTTP/1.1\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", "not chunked and nothing else"},
	{"identity", "POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n", "not chunked and nothing else"},
	{"identity and a length", "POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n\r\n", "not chunked and nothing else"},
	{"xchunked", "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n", "not chunked and nothing else"},
	{"empty coding", "POST / HTTP/1.1\r\nTransfer-Encoding:\r\n\r\n", "not chunked and nothing else"},
	{"chunked in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0 does not know"},
	{"two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", "more than one Host"},
	{"two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "more than one Host"},

	{"TLS on a plain listener", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "control byte"},
}

func TestRequestHead(t *testing.T) {
	for _, tt := range headTests {
		t.Run(tt.name, func(t *testing.T) {
			_, got := scanWhole(tt.raw)
			if tt.refused != "" {
				if !strings.Contains(got.refused, tt.refused) {
					t.Errorf("got %+v; want it refused with %q", got, tt.refused)
				}
				return
			}
			if want := strings.Index(tt.raw, "\r\n\r\n") + 4; got.refused != "" || got.length < want {
				t.Errorf("got %+v; want a head of %d bytes", got, want)
			}
		})
	}
}

// TestRequestHeadInPieces holds that it makes no difference to a head in how many pieces it comes.
func TestRequestHeadInPieces(t *testing.T) {
	for _, tt := range headTests {
		t.Run(tt.name, func(t *testing.T) {
			whole, want := scanWhole(tt.raw)
			check := func(how string, h *Request, got scanned) {
				t.Helper()
				if (got.refused != "") != (want.refused != "") || got.length != want.length {
					t.Fatalf("%s: got %+v; want %+v", how, got, want)
				}
				if got.length > 0 && !bytes.Equal(rewrittenHead(h), rewrittenHead(whole)) {
					t.Fatalf("%s: got %q; want %q", how, rewrittenHead(h), rewrittenHead(whole))
				}
			}
			var every []int
			for i := range len(tt.raw) {
				h, got := scanPieces(tt.raw, i)
				check("cut in two", h, got)
				every = append(every, i)
			}
			h, got := scanPieces(tt.raw, every...)
			check("byte by byte", h, got)
		})
	}
}

// rewrittenHead is all that the fields of a head say, to compare two.
func rewrittenHead(h *Request) []byte {
	var b []byte
	b = append(append(append(b, h.Method...), ' '), h.Target...)
	for _, f := range h.Fields() {
		b = append(b, '|', byte('0'+f.Kind))
		b = AppendField(b, f.Name.Of(h.Raw), f.Value.Of(h.Raw))
	}
	return b
}

// TestRequestHeadOfManyLines: of a head with more fields than are kept all are there all the same, each for what it is,
// and each time that they are asked for.
func TestRequestHeadOfManyLines(t *testing.T) {
	for _, n := range []int{keptFields - 4, keptFields - 3, keptFields - 2, 5000} {
		raw := "GET / HTTP/1.1\r\nconnection: last\r\nFirst:  a \r\n" + strings.Repeat("b:\r\n", n) + "last: c\r\nHOST: h\r\n\r\n"
		h, got := scanWhole(raw)
		if got.refused != "" || h.spilled != (n+4 > keptFields) || len(h.fields) > keptFields {
			t.Fatalf("%d lines: got %+v, %d fields kept; want it taken and %d kept", n, got, len(h.fields), keptFields)
		}
		want := "GET /|2connection: last\r\n|0First: a\r\n" + strings.Repeat("|0b:\r\n", n) + "|1last: c\r\n|4HOST: h\r\n" // by Kind
		for range 2 {
			if all := string(rewrittenHead(h)); all != want {
				t.Fatalf("%d lines: got %d bytes, %.200q; want %d, %.200q", n, len(all), all, len(want), want)
			}
		}
		if string(h.Host.Of(h.Raw)) != "h" || h.Hosts != 1 {
			t.Errorf("%d lines: got %d Hosts; want that behind them", n, h.Hosts)
		}
	}
}

func TestRequestHeadMeaning(t *testing.T) {
	for _, tt := range []struct {
		name, line, fields string
		check              func(h *Request) bool
	}{
		{"1.1 keeps alive", "GET / HTTP/1.1", "", func(h *Request) bool { return h.KeepsAlive() && !h.HTTP10 }},
		{"1.1 close", "GET / HTTP/1.1", "Connection: close\r\n", func(h *Request) bool { return !h.KeepsAlive() }},
		{"close in capitals", "GET / HTTP/1.1", "CONNECTION: CLOSE\r\n", func(h *Request) bool { return !h.KeepsAlive() }},
		{"close in a list", "GET / HTTP/1.1", "Connection: foo ,\tclose, bar\r\n", func(h *Request) bool { return !h.KeepsAlive() && h.names }},
		{"close in a second field", "GET / HTTP/1.1", "Connection: foo\r\nConnection: close\r\n", func(h *Request) bool { return !h.KeepsAlive() }},
		{"close beats keep-alive", "GET / HTTP/1.1", "Connection: keep-alive, close\r\n", func(h *Request) bool { return !h.KeepsAlive() }},
		{"closed is not close", "GET / HTTP/1.1", "Connection: closed\r\n", func(h *Request) bool { return h.KeepsAlive() }},
		{"1.0 closes", "GET / HTTP/1.0", "", func(h *Request) bool { return !h.KeepsAlive() && h.HTTP10 }},
		{"1.0 keep-alive", "GET / HTTP/1.0", "Connection: Keep-Alive\r\n", func(h *Request) bool { return h.KeepsAlive() }},
		{"Proxy-Connection means nothing", "GET / HTTP/1.0", "Proxy-Connection: keep-alive\r\n", func(h *Request) bool { return !h.KeepsAlive() }},
		{"TLS true", "GET / HTTP/1.1", "X-WhSentry-TLS: true\r\n", func(h *Request) bool { return h.TLS }},
		{"TLS in other letters", "GET / HTTP/1.1", "x-whsentry-tls: yes\r\n", func(h *Request) bool { return h.TLS }},
		{"TLS 1", "GET / HTTP/1.1", "X-WHSENTRY-TLS: 1\r\n", func(h *Request) bool { return h.TLS }},
		{"TLS 0", "GET / HTTP/1.1", "X-WhSentry-TLS: 0\r\n", func(h *Request) bool { return !h.TLS }},
		{"TLS False", "GET / HTTP/1.1", "X-WhSentry-TLS: False\r\n", func(h *Request) bool { return !h.TLS }},
		{"TLS no", "GET / HTTP/1.1", "X-WhSentry-TLS: No\r\n", func(h *Request) bool { return !h.TLS && h.TLSFields == 1 && h.Stray.Empty() }},
		{"TLS off", "GET / HTTP/1.1", "X-WhSentry-TLS: OFF\r\n", func(h *Request) bool { return !h.TLS }},
		{"TLS without a value", "GET / HTTP/1.1", "X-WhSentry-TLS:\r\n", func(h *Request) bool { return h.TLS }},
		{"TLS none", "GET / HTTP/1.1", "X-WhSentry-TLS: none\r\n", func(h *Request) bool { return h.TLS }},
		{"TLS twice", "GET / HTTP/1.1", "X-WhSentry-TLS: 0\r\nx-whsentry-tls: 1\r\n", func(h *Request) bool {
			return h.TLS && h.TLSFields == 2 && string(h.Stray.Of(h.Raw)) == "x-whsentry-tls"
		}},
		{"timeout", "GET / HTTP/1.1", "X-WhSentry-Timeout: 2500ms\r\n", func(h *Request) bool {
			return h.Timeouts == 1 && string(h.Timeout.Of(h.Raw)) == "2500ms" && h.Stray.Empty()
		}},
		{"TLS 00 is a value", "GET / HTTP/1.1", "X-WhSentry-TLS: 00\r\n", func(h *Request) bool { return h.TLS }},
		{"no TLS", "GET / HTTP/1.1", "", func(h *Request) bool { return !h.TLS && h.Aliases == 0 }},
		{"alias", "GET / HTTP/1.1", "X-WhSentry-ClientCert: acme\r\n", func(h *Request) bool { return h.Aliases == 1 && string(h.Alias.Of(h.Raw)) == "acme" }},
		{"two aliases", "GET / HTTP/1.1", "X-WhSentry-ClientCert: a\r\nX-WhSentry-ClientCert: b\r\n", func(h *Request) bool { return h.Aliases == 2 }},
		{"expect", "POST / HTTP/1.1", "Expect: 100-Continue\r\n", func(h *Request) bool { return h.Expect }},
		{"expect something else", "POST / HTTP/1.1", "Expect: 200-ok\r\n", func(h *Request) bool { return !h.Expect }},
		{"id", "GET / HTTP/1.1", "request-id:  abc \r\n", func(h *Request) bool { return string(h.ID.Of(h.Raw)) == "abc" }},
		{"first id counts", "GET / HTTP/1.1", "Request-Id: a\r\nRequest-Id: b\r\n", func(h *Request) bool { return string(h.ID.Of(h.Raw)) == "a" }},
		{"length", "POST / HTTP/1.1", "Content-Length: 12\r\n", func(h *Request) bool { return h.ContentLength == 12 && !h.Chunked }},
		{"no length", "POST / HTTP/1.1", "", func(h *Request) bool { return h.ContentLength == -1 && !h.Chunked }},
		{"largest length", "POST / HTTP/1.1", "Content-Length: 9223372036854775808\r\n", func(h *Request) bool { return h.ContentLength == 1<<63-1 }},
		{"chunked", "POST / HTTP/1.1", "Transfer-Encoding: chunked\r\n", func(h *Request) bool { return h.Chunked && h.ContentLength == -1 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, got := scanWhole(tt.line + "\r\n" + tt.fields + "\r\n")
			if got.refused != "" {
				t.Fatalf("got it refused: %s", got.refused)
			}
			if !tt.check(h) {
				t.Errorf("got %+v", h)
			}
		})
	}
}

func TestCheckSentryFields(t *testing.T) {
	for _, tt := range []struct{ name, fields, refused string }{
		{"none", "", ""},
		{"all that exist", "X-WhSentry-TLS: 1\r\nx-whsentry-clientcert: a\r\nX-WHSENTRY-TIMEOUT: 1s\r\n", ""},
		{"a namesake of another family", "X-WhSentry: 1\r\nX-WhSentryTLS: 1\r\n", ""},
		{"a misspelt one", "X-WhSentry-TSL: 1\r\n", "has the field X-WhSentry-TSL, which does not exist"},
		{"a longer one", "X-WhSentry-TLS-: 1\r\n", "has the field X-WhSentry-TLS-, "},
		{"no name", "X-WhSentry-: 1\r\n", "has the field X-WhSentry-, "},
		{"an answer's", "X-WhSentry-Reason: 1\r\n", "has the field X-WhSentry-Reason, "},
		{"TLS twice", "X-WhSentry-TLS: 0\r\nX-WhSentry-TLS: 0\r\n", "more than one X-WhSentry-TLS"},
		{"aliases", "X-WhSentry-ClientCert: a\r\nX-WhSentry-Clientcert: a\r\n", "more than one X-WhSentry-Clientcert"},
		{"timeouts", "X-WhSentry-Timeout: 1s\r\nX-WhSentry-Timeout: 2s\r\n", "more than one X-WhSentry-Timeout"},
		{"the first is named", "X-WhSentry-A: 1\r\nX-WhSentry-B: 1\r\n", "X-WhSentry-A"},
		{"named by Connection", "Connection: X-WhSentry-A\r\nX-WhSentry-A: 1\r\n", "X-WhSentry-A"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, got := scanWhole("GET http://h/ HTTP/1.1\r\nHost: h\r\n" + tt.fields + "\r\n")
			if got.refused != "" {
				t.Fatalf("got it refused: %s", got.refused)
			}
			err := h.CheckSentryFields()
			var wrong *Error
			switch {
			case tt.refused == "" && err != nil:
				t.Errorf("got %v; want it taken", err)
			case tt.refused != "" && (!errors.As(err, &wrong) || wrong.Kind != BadTarget || !strings.Contains(wrong.Text, tt.refused)):
				t.Errorf("got %v; want it refused with %q", err, tt.refused)
			}
		})
	}
}
