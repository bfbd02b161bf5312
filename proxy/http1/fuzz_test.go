package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"whsentry/proxy/e2e/corpus"
)

// FuzzResponseHead holds that whatever is taken of a destination and rewritten is read by another parser as exactly
// one response with the same status, and that it forges nothing.
func FuzzResponseHead(f *testing.F) {
	for _, tt := range responseTests {
		f.Add([]byte(tt.raw))
	}
	f.Add([]byte("HTTP/1.1 403 No\r\nX-WhSentry-Reason: a\r\n b\r\nConnection: a,\r\n\tb\r\nA: 1\r\nB: 2\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, got := scanResponse(string(raw))
		var every []int
		for i := range raw {
			every = append(every, i)
		}
		pieces, gotPieces := scanResponse(string(raw), every...)
		if (gotPieces.refused != "") != (got.refused != "") || gotPieces.length != got.length {
			t.Fatalf("byte by byte: got %+v; want %+v", gotPieces, got)
		}
		if got.length == 0 {
			return
		}
		if !bytes.Equal(responseFields(pieces), responseFields(r)) {
			t.Fatalf("byte by byte: got %q; want %q", responseFields(pieces), responseFields(r))
		}
		for _, how := range []Framing{NoBody, ByLength, ByChunks, ByClose} {
			checkResponse(t, r, how)
		}
	})
}

// checkResponse reads what the client would be sent.
func checkResponse(t *testing.T, r *Response, how Framing) {
	t.Helper()
	var body, rest = "abc", "HTTP/1.1 200 next\r\n\r\n"
	wire := body
	switch {
	case r.Bodiless(false) || how == NoBody:
		body, wire, how = "", "", NoBody
	case how == ByChunks:
		wire = "3\r\nabc\r\n0\r\n\r\n"
	case how == ByClose:
		rest = ""
	}
	connection := ""
	if how == ByClose {
		connection = "close"
	}
	head := AppendResponseHead(nil, r, how, int64(len(body)), connection)
	in := bufio.NewReader(strings.NewReader(string(head) + wire + rest))
	method := "GET"
	if how == NoBody {
		method = "HEAD"
	}
	resp, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%q is not a response: %v", head, err)
	}
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != body || resp.StatusCode != r.Status {
		t.Fatalf("got %d with %q, %v; want %d with %q, of %q", resp.StatusCode, got, err, r.Status, body, head)
	}
	for name := range resp.Header {
		if kind := classify([]byte(name)); kind == KindHopByHop || kind == KindSentry {
			t.Fatalf("got %s in %q; want it dropped", name, head)
		}
	}
	if got, _ := io.ReadAll(in); string(got) != rest {
		t.Fatalf("got %q behind the response; want %q", got, rest)
	}
}

// FuzzChunked holds that a chunked body that is taken is, to another parser, the same data and of the same length.
func FuzzChunked(f *testing.F) {
	for _, tt := range chunkTests {
		f.Add([]byte(tt.raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		const limit = 1024
		got := decode(string(raw), limit)
		var every []int
		for i := range raw {
			every = append(every, i)
		}
		if pieces := decode(string(raw), limit, every...); pieces != got {
			t.Fatalf("byte by byte: got %+v; want %+v", pieces, got)
		}
		if got.err != nil || !got.done {
			return
		}
		const next = "GET /next HTTP/1.1\r\nHost: next\r\n\r\n"
		in := bufio.NewReader(strings.NewReader("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + string(raw[:got.consumed]) + next))
		req, err := http.ReadRequest(in)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(req.Body)
		if err != nil || string(data) != got.data {
			t.Fatalf("got %q; net/http reads %q, %v", got.data, data, err)
		}
		if rest, _ := io.ReadAll(in); string(rest) != next {
			t.Fatalf("got %d bytes consumed; net/http leaves %q", got.consumed, rest)
		}
	})
}

// FuzzRequest holds the strict pass to another parser: what it takes is, there, a request with the same method, the same
// body and the same fields.
func FuzzRequest(f *testing.F) {
	for _, row := range corpus.Requests(f) {
		f.Add([]byte(row.To("h.test:8080").Sends))
	}
	for _, tt := range headTests {
		f.Add([]byte(tt.raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, got := scanWhole(string(raw))
		if _, pieces := scanPieces(string(raw), everyByte(string(raw))...); (pieces.refused != "") != (got.refused != "") || pieces.length != got.length {
			t.Fatalf("byte by byte: got %+v; want %+v", pieces, got)
		}
		if got.length == 0 {
			return
		}
		raw = bytes.TrimLeft(raw, "\r\n")
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return // it is stricter about a URI, and about a length over an int64
		}
		if req.Method != string(h.Method) || req.ProtoAtLeast(1, 1) == h.HTTP10 {
			t.Fatalf("got %s, HTTP/1.0 %v; net/http reads %s %s", h.Method, h.HTTP10, req.Method, req.Proto)
		}
		if chunked := len(req.TransferEncoding) > 0; chunked != h.Chunked || !chunked && req.ContentLength != max(h.ContentLength, 0) {
			t.Fatalf("got a length of %d, chunked %v; net/http reads %d, %v", h.ContentLength, h.Chunked, req.ContentLength, req.TransferEncoding)
		}
		for _, field := range h.Fields {
			name, value := http.CanonicalHeaderKey(string(field.Name.Of(h.Raw))), string(field.Value.Of(h.Raw))
			switch name {
			case "Host", "Content-Length", "Transfer-Encoding", "Trailer": // net/http takes these out
			default:
				if !slices.Contains(req.Header[name], value) {
					t.Fatalf("got %s: %q; net/http reads %q", name, value, req.Header[name])
				}
			}
		}
	})
}
