package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

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
		if !bytes.Equal(responseFields(pieces), responseFields(r)) || pieces.Untidy != r.Untidy || pieces.BodyFraming != r.BodyFraming {
			t.Fatalf("byte by byte: got %q, %q, %v; want %q, %q, %v",
				responseFields(pieces), names(pieces.Untidy), pieces.BodyFraming, responseFields(r), names(r.Untidy), r.BodyFraming)
		}
		if r.Chunked && r.ContentLength >= 0 || r.Received != 0 && r.Received != r.Status || (r.Received == 0) != r.Interim() {
			t.Fatalf("got chunked %v and a length of %d, status %d and received %d", r.Chunked, r.ContentLength, r.Status, r.Received)
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
	checkTidy(t, r, head, how, int64(len(body)))
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

// checkTidy scans what the client would be sent: it is in order, and says once where its body ends.
func checkTidy(t *testing.T, r *Response, head []byte, how Framing, length int64) {
	t.Helper()
	again, got := scanResponse(string(head))
	if got.length != len(head) || again.Untidy&^OddStatus != 0 || again.Status != r.Status {
		t.Fatalf("got %+v of %q, untidy %q; want it taken", got, head, names(again.Untidy))
	}
	want := BodyFraming{ContentLength: -1, Chunked: how == ByChunks}
	if how == ByLength {
		want.ContentLength = length
	}
	if again.BodyFraming != want {
		t.Fatalf("got the framing %v of %q; want %v", again.BodyFraming, head, want)
	}
	framing := 0
	for _, f := range again.Fields {
		if f.Kind == KindContentLength || f.Kind == KindTransferEncoding {
			framing++
		}
	}
	if once := how == ByLength || how == ByChunks; once != (framing == 1) {
		t.Fatalf("got %d fields that frame the body in %q", framing, head)
	}
}

// FuzzChunkedResponse holds that a body whose trailers are tidied is what it is to the strict decoder, where that takes
// it, and else differs in lines of the trailer section alone, each of which ends with CRLF.
func FuzzChunkedResponse(f *testing.F) {
	for _, tt := range chunkTests {
		f.Add([]byte(tt.raw))
	}
	f.Add([]byte("1\r\na\r\n0\r\nA B\r\n c\r\nHost: d\r\nE: \x01\r\n\r\nrest"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		const limit = 1024
		got := decodeResponse(string(raw), limit)
		if pieces := decodeResponse(string(raw), limit, everyByte(string(raw))...); pieces != got {
			t.Fatalf("byte by byte: got %+v; want %+v", pieces, got)
		}
		strict := decode(string(raw), limit)
		if strict.err == nil && got != strict {
			t.Fatalf("got %+v; want %+v", got, strict)
		}
		if !got.done || !got.odd {
			return
		}
		if strict.err != errTrailer || strict.data != got.data {
			t.Fatalf("got %+v; the strict decoder %+v", got, strict)
		}
		trailers := raw[strict.consumed:got.consumed]
		if ends := bytes.Count(trailers, []byte("\r\n")); bytes.Count(trailers, []byte{'\n'}) != ends || bytes.Count(trailers, []byte{'\r'}) != ends {
			t.Fatalf("got %q passed over; want CRLF alone to end its lines", trailers)
		}
		if !bytes.HasSuffix(trailers, []byte("\r\n\r\n")) {
			t.Fatalf("got %q passed over; want it to end with an empty line", trailers)
		}
	})
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
	f.Add([]byte("GET http://h/ HTTP/1.1\r\nConnection: a\r\n" + strings.Repeat("a:\r\n", keptFields) + "Host: h\r\nB: c\r\n\r\n"))
	f.Add([]byte("GET http://h/ HTTP/1.1\r\n" + strings.Repeat("a:\r\n", keptFields+1) + "a b\r\nHost: h\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, got := scanWhole(string(raw))
		if _, pieces := scanPieces(string(raw), everyByte(string(raw))...); (pieces.refused != "") != (got.refused != "") || pieces.length != got.length {
			t.Fatalf("byte by byte: got %+v; want %+v", pieces, got)
		}
		for _, field := range h.Fields() { // the log looks through those of a refused head too
			field.Value.Of(h.Raw)
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
		for _, field := range h.Fields() {
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

// FuzzTarget holds that the host of a target that is taken is a name or a literal, and the one that other parsers
// of URLs would go to.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{
		"http://h/", "https://Example.COM.:8443/a?b", "http://[::1]:80/", "http://[::ffff:1.2.3.4]", "http://1.2.3.4:5/", "http://0x7f.1/",
		"http://a\\@b/", "http:/\\h/", "http://h:80:81/", "http://h#@evil/", "http://h?@evil/", "http://u:p@h/", "ftp://h/", "http://1.2.3.4./",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, failed := ParseTarget([]byte(raw))
		if failed != nil {
			var wrong *Error
			if !errors.As(failed, &wrong) || wrong.Kind != BadTarget && wrong.Kind != BadScheme {
				t.Fatalf("got %v; want it to be about the target or its scheme", failed)
			}
			return
		}
		checkAuthority(t, &got.Authority)
		if host := browserHost(raw); host != string(got.Authority.Raw) {
			t.Fatalf("%q: got the authority %q; a browser reads %q", raw, got.Authority.Raw, host)
		}
		u, err := url.Parse(raw)
		if err != nil {
			if _, pathErr := url.Parse(string(got.Path)); pathErr == nil && !strings.ContainsAny(string(got.Path), ":") {
				t.Fatalf("%q is no URL: %v", raw, err)
			}
			return
		}
		if u.Host != string(got.Authority.Raw) || u.User != nil || u.Fragment != "" || (u.Scheme == "https") != got.HTTPS {
			t.Fatalf("%q: got the authority %q; net/url reads %q", raw, got.Authority.Raw, u.Host)
		}
	})
}

// checkAuthority holds that an authority's host is a name or a literal in its one form.
func checkAuthority(t *testing.T, a *Authority) {
	t.Helper()
	host := string(a.AppendHost(nil))
	if strings.ContainsFunc(host, func(r rune) bool { return unicode.IsUpper(r) || r > 0x7e || r <= ' ' }) {
		t.Fatalf("got the host %q; want small letters of ASCII", host)
	}
	if a.Port == 0 || a.Port > 65535 {
		t.Fatalf("got port %d", a.Port)
	}
	if literal, err := netip.ParseAddr(host); err == nil {
		if literal.String() != host || literal.Zone() != "" || literal != a.Literal {
			t.Fatalf("got the literal %q; want %s", host, literal)
		}
		return
	}
	if a.Literal.IsValid() || host == "" || len(host) > maxNameLen || strings.HasSuffix(host, ".") {
		t.Fatalf("got the name %q from %+v", host, a)
	}
	if endsInNumber.MatchString(host) {
		t.Fatalf("got the name %q, which ends in a number", host)
	}
}

// endsInNumber is what the WHATWG URL standard takes for an IPv4 address, or for a failed attempt at one.
var endsInNumber = regexp.MustCompile(`(^|\.)([0-9]+|0[xX][0-9a-fA-F]*)\.?$`)

// browserHost is the authority that the WHATWG URL standard finds in a URL with http or https: slashes may be
// missing, too many or backslashes, and tabs and line ends do not count.
func browserHost(raw string) string {
	raw = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(raw)
	_, rest, _ := strings.Cut(raw, ":")
	rest = strings.TrimLeft(rest, `/\`)
	if end := strings.IndexAny(rest, `/\?#`); end >= 0 {
		rest = rest[:end]
	}
	return rest[strings.LastIndexByte(rest, '@')+1:]
}

// FuzzConnectAuthority holds that host and port of a CONNECT are those that net reads.
func FuzzConnectAuthority(f *testing.F) {
	for _, seed := range []string{"h:443", "[::1]:443", "1.2.3.4:80", "::1:80", "h:", "u@h:1", "a.:00443", "127.1:80", "[::1%25lo]:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, failed := ParseConnectTarget([]byte(raw))
		if failed != nil {
			return
		}
		checkAuthority(t, &got)
		host, port, err := net.SplitHostPort(raw)
		if err != nil || host != string(got.Host) {
			t.Fatalf("%q: got the host %q; net reads %q, %v", raw, got.Host, host, err)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || uint16(n) != got.PortOr(0) {
			t.Fatalf("%q: got port %d; net reads %q", raw, got.Port, port)
		}
	})
}
