package proxy

import (
	"errors"
	"strings"
	"testing"

	"whsentry/proxy/e2e/corpus"
	"whsentry/proxy/http1"
)

// scanned is what a head came to.
type scanned struct {
	length  int
	refused string
}

func scannedOf(n int, err error) scanned {
	if err != nil {
		return scanned{refused: err.Error()}
	}
	return scanned{length: n}
}

func scanWhole(raw string) (*http1.Request, scanned) {
	var g http1.Gate
	g.Reset(64 * kiB)
	h := new(http1.Request)
	h.Reset()
	n, err := g.Scan([]byte(raw))
	if n > 0 {
		err = h.Scan([]byte(raw[g.Blank():n]), "request-id")
	}
	return h, scannedOf(n, err)
}

func scanResponse(raw string) (*http1.Response, scanned) {
	r := new(http1.Response)
	r.Reset()
	n, err := r.Scan([]byte(raw))
	return r, scannedOf(n, err)
}

// decode takes the chunked coding off what raw begins with.
func decode(raw string) (body string, consumed int, done bool, err error) {
	var d http1.Chunks
	d.Reset(kiB, false)
	for err == nil && !d.Done() && consumed < len(raw) {
		data, n, wrong := d.Next([]byte(raw[consumed:]))
		body, consumed, err = body+string(data), consumed+n, wrong
	}
	return body, consumed, d.Done(), err
}

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
	target, err := http1.ParseTarget(h.Target)
	if reject := h.CheckHost(); reject != nil {
		err = reject
	} else if reject := h.CheckSentryFields(); reject != nil {
		err = reject
	}
	if err == nil && h.Aliases > 0 && !h.TLS && !target.HTTPS {
		err = errors.New("a certificate without TLS")
	}
	if err != nil {
		c.refused = err.Error()
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
func takenBody(h *http1.Request, raw string) (body string, length int, refused string) {
	switch {
	case h.Chunked:
		data, consumed, done, err := decode(raw)
		switch {
		case err != nil:
			return "", 0, err.Error()
		case !done:
			return "", -1, ""
		}
		return data, consumed, ""
	case h.ContentLength > DefaultConfig().MaxRequestBodySize:
		return "", 0, "request body too large"
	case h.ContentLength > int64(len(raw)):
		return "", -1, ""
	case h.ContentLength > 0:
		return raw[:h.ContentLength], int(h.ContentLength), ""
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
			corpus.Disguises(tt.disguised, func(disguised string) {
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
