package http1

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"whsentry/proxy/e2e/corpus"
)

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
		if r.Interim() {
			checkResponse(t, r, NoBody)
			continue
		}
		for _, how := range []Framing{NoBody, ByLength, ByChunks, ByClose} {
			checkResponse(t, r, how)
		}
		a.status = r.Status
		switch {
		case r.Bodiless(method == "HEAD"):
			a.rest = raw
		case r.Chunked:
			got := decode(raw, 1024)
			if got.err != nil {
				return answered{refused: got.err.Error()}, true
			}
			a.body, a.rest, ok = got.data, raw[got.consumed:], got.done
			return a, ok
		case r.ContentLength > int64(len(raw)):
			return a, false
		case r.ContentLength >= 0:
			a.body, a.rest = raw[:r.ContentLength], raw[r.ContentLength:]
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
			corpus.Disguises(tt.disguised, func(disguised string) {
				raw := tt.before + disguised + tt.after
				if a, ok := answer(t, raw, "GET"); ok && a.refused == "" {
					checkAnswered(t, raw, "GET", a)
				}
			})
		})
	}
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
