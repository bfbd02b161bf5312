package proxy

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"whsentry/proxy/e2e/corpus"
)

// carried is what becomes of the first request in some bytes, without a guard and a network.
type carried struct {
	refused string // what is wrong with it
	sent    string // what its destination would get
	rest    string // what follows on it
}

// carry reads the first request in raw, as handle does, and checks that what would be sent is read by another parser as
// that request and no other. ok is false where raw ends within it.
func carry(t *testing.T, raw string) (c carried, ok bool) {
	t.Helper()
	h, got := scanWhole(raw)
	if got.refused != "" || got.length == 0 {
		return carried{refused: got.refused}, got.refused != ""
	}
	body, length, refused := takenBody(h, raw[got.length:])
	if refused != "" || length < 0 {
		return carried{refused: refused}, refused != ""
	}
	c.rest = raw[got.length+length:]
	target, f := parseTarget(h.target.of(h.raw))
	if reject := h.checkHost(); reject != nil {
		f = reject
	}
	if f != nil {
		c.refused = f.Text
		return c, true
	}
	ex := exchangeFor(t, raw[:got.length])
	defer ex.release()
	c.sent = string(ex.appendRequestHead(nil, len(body))) + body
	checkRewritten(t, ex, &target, body)
	checkOriginal(t, h, []byte(raw), body)
	return c, true
}

// takenBody returns the body behind a head and how many of raw's bytes it takes; -1 where raw ends within it.
func takenBody(h *requestHead, raw string) (body string, length int, refused string) {
	switch {
	case h.chunked:
		got := decode(raw, kiB)
		switch {
		case got.err != nil:
			return "", 0, got.err.Error()
		case !got.done:
			return "", -1, ""
		}
		return got.data, got.consumed, ""
	case h.contentLength > DefaultConfig().MaxRequestBodySize:
		return "", 0, "request body too large"
	case h.contentLength > int64(len(raw)):
		return "", -1, ""
	case h.contentLength > 0:
		return raw[:h.contentLength], int(h.contentLength), ""
	}
	return "", 0, ""
}

// TestCorpusOfRequests holds the parsers alone to the corpus.
func TestCorpusOfRequests(t *testing.T) {
	for _, row := range corpus.Requests(t) {
		t.Run(row.Name, func(t *testing.T) {
			row = row.To("h.test:8080")
			var sent string
			rest := row.Sends
			for i, want := range row.Answers {
				c, ok := carry(t, rest)
				if !ok {
					t.Fatalf("answer %d: %q is no whole request", i, rest)
				}
				// What the guard, the port or a certificate's alias refuses is a request that would be sent.
				if refused := want.Status == 400 && want.Reason != "1010" || want.Status == 413; refused && !strings.HasPrefix(rest, "CONNECT ") {
					if c.refused == "" {
						t.Fatalf("answer %d: got %q at the destination; want it refused", i, c.sent)
					}
				} else if c.refused != "" && !strings.HasPrefix(rest, "CONNECT ") {
					t.Fatalf("answer %d: got it refused: %s", i, c.refused)
				}
				if want.Reason == "" {
					sent += c.sent
				}
				rest = c.rest
			}
			if sent != row.Passed {
				t.Errorf("got %q at the destination; want %q", sent, row.Passed)
			}
		})
	}
}

// oddBytes are those that parsers have been seen to disagree about, and a few that mean something in a head.
var oddBytes = []byte("\x00\x01\x08\t\n\x0b\x0c\r\x1b\x1c\x1f !\"#%'()*+,-./09:;<=?@A[\\]_x{|}~\x7f\x80\x85\xa0\xad\xb3\xc2\xe2\xff")

// TestDisguises puts an odd byte at each place, and in place of each byte, of requests with both framings and with one.
// What is taken all the same must be what another parser takes it for.
func TestDisguises(t *testing.T) {
	const chunks = "\r\n3\r\nabc\r\n0\r\n\r\n"
	for _, tt := range []struct{ name, before, disguised, after string }{
		{"coding", "POST http://h/ HTTP/1.1\r\nHost: h\r\n", "Transfer-Encoding: chunked\r\n", chunks},
		{"coding behind a length", "POST http://h/ HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", chunks},
		{"coding before a length", "POST http://h/ HTTP/1.1\r\nHost: h\r\n", "Transfer-Encoding: chunked\r\n", "Content-Length: 3\r\n" + chunks},
		{"length", "POST http://h/ HTTP/1.1\r\nHost: h\r\n", "Content-Length: 13\r\n", chunks},
		{"length behind a length", "POST http://h/ HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n", "Content-Length: 13\r\n", chunks},
		{"Host behind a Host", "GET http://h/ HTTP/1.1\r\nHost: h\r\n", "Host: i\r\n", "\r\n"},
		{"request line", "", "GET http://h/ HTTP/1.1\r\n", "Host: h\r\n\r\n"},
		{"empty line", "POST http://h/ HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n", "\r\n", "abc"},
		{"chunks", "POST http://h/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", "3;a=b\r\nabc\r\n0\r\nA: b\r\n\r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			taken := 0
			disguises(tt.disguised, func(disguised string) {
				if c, ok := carry(t, tt.before+disguised+tt.after); ok && c.refused == "" {
					taken++
				}
			})
			if taken == 0 && !strings.Contains(tt.name, " a length") {
				t.Error("got everything refused; want what is merely odd to be taken")
			}
		})
	}
}

// disguises calls try with s in which one odd byte has been put somewhere, or in place of another.
func disguises(s string, try func(disguised string)) {
	for i := range len(s) + 1 {
		for _, c := range oddBytes {
			try(s[:i] + string([]byte{c}) + s[i:])
			if i < len(s) {
				try(s[:i] + string([]byte{c}) + s[i+1:])
			}
		}
	}
}

// answered is what becomes of the response in some bytes.
type answered struct {
	refused string
	status  int
	body    string
	rest    string // what follows on it
}

// answer reads the final response in raw to a request with that method, as receiveHead and passBody do, and checks
// that what the client would get is one response. ok is false where raw ends within it.
func answer(t *testing.T, raw, method string) (a answered, ok bool) {
	t.Helper()
	for {
		r, got := scanResponse(raw)
		if got.refused != "" || got.length == 0 {
			return answered{refused: got.refused}, got.refused != ""
		}
		raw = raw[got.length:]
		if r.interim() {
			checkResponse(t, r, framingNone)
			continue
		}
		for _, how := range []framing{framingNone, framingLength, framingChunked, framingClose} {
			checkResponse(t, r, how)
		}
		a.status = r.status
		switch {
		case r.bodiless(method == "HEAD"):
			a.rest = raw
		case r.chunked:
			got := decode(raw, kiB)
			if got.err != nil {
				return answered{refused: got.err.Error()}, true
			}
			a.body, a.rest, ok = got.data, raw[got.consumed:], got.done
			return a, ok
		case r.contentLength > int64(len(raw)):
			return a, false
		case r.contentLength >= 0:
			a.body, a.rest = raw[:r.contentLength], raw[r.contentLength:]
		default:
			a.body = raw
		}
		return a, true
	}
}

// checkAnswered holds that another parser finds the same response in what the destination sent.
func checkAnswered(t *testing.T, raw, method string, a answered) {
	t.Helper()
	in := bufio.NewReader(strings.NewReader(raw))
	for {
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return // it is stricter about a name, and about a fold
		}
		body, err := io.ReadAll(resp.Body)
		if resp.StatusCode < 200 {
			continue
		}
		rest, _ := io.ReadAll(in)
		if err != nil || resp.StatusCode != a.status || string(body) != a.body || string(rest) != a.rest {
			t.Fatalf("%q: got %+v; net/http reads %d with %q, %v, and %q behind", raw, a, resp.StatusCode, body, err, rest)
		}
		return
	}
}

// TestCorpusOfResponses holds the parsers alone to the corpus.
func TestCorpusOfResponses(t *testing.T) {
	for _, row := range corpus.Responses(t) {
		t.Run(row.Name, func(t *testing.T) {
			a, ok := answer(t, row.Sends, row.Method)
			switch {
			case row.Passed == "" && row.Answer.Reason == "1011":
				if ok && a.refused == "" || !ok && !row.HangsUp && len(row.Sends) > len("HTTP/1.1") {
					t.Fatalf("got %+v; want it refused", a)
				}
				return
			case row.Passed == "":
				return
			case !ok || a.refused != "":
				t.Fatalf("got %+v; want it taken", a)
			}
			checkAnswered(t, row.Sends, row.Method, a)
			passed, ok := answer(t, row.Passed, row.Method)
			if want := (answered{status: a.status, body: a.body}); !ok || passed != want {
				t.Errorf("got %+v of what the client gets; want %+v", passed, want)
			}
			if row.Reused && a.rest != "" {
				t.Errorf("got %q behind a response whose connection is used again; want nothing", a.rest)
			}
		})
	}
}

// TestDisguisesOfResponses is TestDisguises for what a destination sends.
func TestDisguisesOfResponses(t *testing.T) {
	const chunks = "\r\n3\r\nabc\r\n0\r\n\r\n"
	for _, tt := range []struct{ name, before, disguised, after string }{
		{"coding", "HTTP/1.1 200 OK\r\n", "Transfer-Encoding: chunked\r\n", chunks},
		{"coding behind a length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", chunks},
		{"coding before a length", "HTTP/1.1 200 OK\r\n", "Transfer-Encoding: chunked\r\n", "Content-Length: 3\r\n" + chunks},
		{"length", "HTTP/1.1 200 OK\r\n", "Content-Length: 13\r\n", chunks},
		{"length behind a length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", "Content-Length: 13\r\n", chunks},
		{"status line", "", "HTTP/1.1 200 OK\r\n", "Content-Length: 3\r\n\r\nabc"},
		{"interim", "", "HTTP/1.1 103 A\r\nB: c\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"},
		{"empty line", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", "\r\n", "abc"},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "3;a=b\r\nabc\r\n0\r\nA: b\r\n\r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			disguises(tt.disguised, func(disguised string) {
				raw := tt.before + disguised + tt.after
				if a, ok := answer(t, raw, "GET"); ok && a.refused == "" {
					checkAnswered(t, raw, "GET", a)
				}
			})
		})
	}
}

// FuzzRequests carries whatever comes in one piece, request after request, as a pipeline would be.
func FuzzRequests(f *testing.F) {
	for _, row := range corpus.Requests(f) {
		f.Add([]byte(row.To("h.test:8080").Sends))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		rest := string(raw)
		for {
			c, ok := carry(t, rest)
			if !ok || c.refused != "" && c.rest == "" || len(c.rest) == len(rest) {
				return
			}
			rest = c.rest
		}
	})
}

// FuzzResponses reads whatever a destination sends, with its body.
func FuzzResponses(f *testing.F) {
	for _, row := range corpus.Responses(f) {
		f.Add([]byte(row.Sends), row.Method == "HEAD")
	}
	f.Fuzz(func(t *testing.T, raw []byte, head bool) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		if a, ok := answer(t, string(raw), method); ok && a.refused == "" {
			checkAnswered(t, string(raw), method, a)
		}
	})
}
