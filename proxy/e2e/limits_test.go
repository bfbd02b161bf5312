package e2e

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
)

func TestMaxResponseBodySize(t *testing.T) {
	t.Parallel()
	const small, large = 1000, 200_000 // of which only the second is passed on before it has ended
	tests := []struct {
		name   string
		limit  int64
		answer string
		status string
		reason string
		size   int  // of the body that arrives
		cut    bool // the client sees that it is incomplete
	}{
		{"a length of the limit", small, withLength(pattern(small)), "200 OK", "", small, false},
		{"a length over the limit", small, withLength(pattern(small + 1)), "502 Bad Gateway", "1008", 0, false},
		{"chunks of the limit", small, chunked(pattern(small), 100), "200 OK", "", small, false},
		{"chunks over the limit", small, chunked(pattern(small+1), 100), "502 Bad Gateway", "1008", 0, false},
		{"until close, the limit", small, untilClose(pattern(small)), "200 OK", "", small, false},
		{"until close, over the limit", small, untilClose(pattern(small + 1)), "502 Bad Gateway", "1008", 0, false},
		{"nothing where nothing is allowed", 0, withLength(""), "200 OK", "", 0, false},
		{"no chunk where nothing is allowed", 0, chunked("", 1), "200 OK", "", 0, false},
		{"a byte where nothing is allowed", 0, withLength("x"), "502 Bad Gateway", "1008", 0, false},
		{"a large length of the limit", large, withLength(pattern(large)), "200 OK", "", large, false},
		{"a large length over the limit", large, withLength(pattern(large + 1)), "502 Bad Gateway", "1008", 0, false},
		{"large chunks of the limit", large, chunked(pattern(large), 5000), "200 OK", "", large, false},
		{"large chunks over the limit", large, chunked(pattern(large+1), 5000), "200 OK", "", 0, true},
		{"large until close, the limit", large, untilClose(pattern(large)), "200 OK", "", large, false},
		{"large until close, over the limit", large, untilClose(pattern(large + 1)), "200 OK", "", 0, true},
		{"a length beyond every number", large, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n", "502 Bad Gateway", "1008", 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
				cfg.MaxResponseBodySize = tt.limit
				cfg.AccessLog.Type = accesslog.JSON
			})
			o := answeringOnce(t, tt.answer)
			c := s.dialFor(t)
			c.send(get(o, "/"))
			r := c.receive("GET")
			r.check(t, tt.status, tt.reason)
			if tt.reason == "" && !tt.cut && (r.bodyErr != nil || r.body != pattern(tt.size)) {
				t.Errorf("got %d bytes and %v; want %d", len(r.body), r.bodyErr, tt.size)
			}
			if tt.cut != (r.bodyErr != nil) {
				t.Errorf("got %v at the body's end; want an error: %v", r.bodyErr, tt.cut)
			}
			if int64(len(r.body)) > tt.limit && tt.reason == "" {
				t.Errorf("got %d bytes; want %d at most", len(r.body), tt.limit)
			}
			if tt.cut {
				line := s.jsonLines(1)[0]
				if line["response_code"] != 200.0 || line["reason_code"] != 1008.0 {
					t.Errorf("got the log line %v; want response_code 200 and reason_code 1008", line)
				}
				return
			}
			// After every one of them, the client's connection goes on.
			c.send(get(o, "/"))
			c.receive("GET")
		})
	}
}

func TestMaxRequestBodySize(t *testing.T) {
	t.Parallel()
	const limit = 100_000
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxRequestBodySize = limit })
	o := answering(t, okResponse)
	announcing := "POST http://" + o.addr + "/ HTTP/1.1\r\nHost: " + o.addr + "\r\nTransfer-Encoding: chunked\r\n\r\n"
	tests := []struct {
		name, request string
		fits          bool
	}{
		{"a length of the limit", post(o, "/", pattern(limit)), true},
		{"a length over the limit", post(o, "/", pattern(limit+1)), false},
		{"chunks of the limit", postChunked(o, "/", pattern(limit), 3333), true},
		{"chunks over the limit", postChunked(o, "/", pattern(limit+1), 3333), false},
		{"one chunk over the limit", postChunked(o, "/", pattern(limit+1), limit+1), false},
		{"a chunk that is announced over the limit", announcing + "186a1\r\n", false},
		{"a chunk that is announced far over the limit", announcing + "3fffffffffffffff;a", false},
		{"a chunk as large as can be counted", announcing + "7fffffffffffffff\r\n", false},
		{"a second chunk as large as can be counted", announcing + "1\r\na\r\n7fffffffffffffff\r\n", false},
		{"a second chunk that is announced over the limit", announcing + "1\r\na\r\n186a0\r\n", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := o.requestCount("POST")
			c := s.dialFor(t)
			c.send(tt.request)
			r := c.receive("POST")
			if tt.fits {
				r.check(t, "200 OK", "")
				if !strings.HasSuffix(o.bytes(), pattern(limit)) {
					t.Errorf("the destination did not get the body")
				}
				return
			}
			r.check(t, "413 Request Entity Too Large", "1012")
			r.checkText(t, strconv.Itoa(limit))
			c.waitEnd()
			if n := o.requestCount("POST") - before; n != 0 {
				t.Errorf("got %d requests at the destination; want none", n)
			}
		})
	}
	s.waitMetric("whsentry_buffered_bytes", "0")
}

// A 413 or 431 must arrive at a client that sends all it has before it reads.
func TestRefusalIsReadableWhileStillSending(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxRequestBodySize = 100 })
	o := answering(t, okResponse)
	body := strings.Repeat("x", 5<<20)
	head := "POST http://" + o.addr + "/ HTTP/1.1\r\nHost: " + o.addr + "\r\n"
	tests := []struct{ name, request, status string }{
		{"413 by length", head + "Content-Length: 5242880\r\n\r\n" + body, "413 Request Entity Too Large"},
		{"413 by chunks", head + "Transfer-Encoding: chunked\r\n\r\n500000\r\n" + body + "\r\n0\r\n\r\n", "413 Request Entity Too Large"},
		{"431", head + "Content-Length: 5242880\r\nX: " + body[:100_000] + "\r\n\r\n" + body, "431 Request Header Fields Too Large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := s.dialFor(t)
			c.send(tt.request) // fails the test where the proxy resets the connection under it
			r := c.receive("POST")
			r.check(t, tt.status, "1012")
			if !r.closing {
				t.Errorf("got no Connection: close")
			}
			c.waitEnd()
		})
	}
	t.Cleanup(func() {
		if n := o.connections(); n != 0 {
			t.Errorf("got %d connections to the destination; want none", n)
		}
	})
}

func TestMaxHeaderSize(t *testing.T) {
	t.Parallel()
	const limit = 4096
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxHeaderSize = limit })
	o := answering(t, okResponse)
	withHead := func(n int) string {
		head := "POST http://" + o.addr + "/ HTTP/1.1\r\nHost: " + o.addr + "\r\nContent-Length: 2\r\nX: "
		return head + strings.Repeat("x", n-len(head)-4) + "\r\n\r\nhi"
	}
	tests := []struct {
		name string
		size int
		want string
	}{
		{"the limit", limit, "200 OK"},
		{"one more", limit + 1, "431 Request Header Fields Too Large"},
		{"twice the limit", 2 * limit, "431 Request Header Fields Too Large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, piece := range []int{1 << 20, 1000} {
				c := s.dialFor(t)
				for raw := withHead(tt.size); raw != ""; raw = raw[min(piece, len(raw)):] {
					if _, err := io.WriteString(c.Conn, raw[:min(piece, len(raw))]); err != nil {
						break // it has been refused already
					}
				}
				if r := c.receive("POST"); r.status != tt.want {
					t.Errorf("in pieces of %d: got %q; want %q", piece, r.status, tt.want)
				}
			}
		})
	}
	if n := o.requestCount("POST"); n != 2 {
		t.Errorf("got %d requests at the destination; want 2", n)
	}
}

// TestHeadsOfManyLines: a head that is made of thousands of lines is forwarded like any other, wherever it comes, and the
// connection goes on behind it.
func TestHeadsOfManyLines(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	plain, https := start(t, nil), startHTTPS(t, root, nil)
	for name, dial := range map[string]func(t *testing.T, o *origin) (c *rawConn, uri string){
		"a listener":    func(t *testing.T, o *origin) (*rawConn, string) { return plain.dialFor(t), "http://" + o.addr },
		"https":         func(t *testing.T, o *origin) (*rawConn, string) { return https.dialTLS(t, root), "http://" + o.addr },
		"inside tunnel": func(t *testing.T, o *origin) (*rawConn, string) { return plain.tunnelTo(t, o.addr), "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := answering(t, okResponse)
			c, uri := dial(t, o)
			for _, lines := range []int{16000, 1, 256, 257, 3000} {
				before := len(o.bytes())
				many := strings.Repeat("a:\r\n", lines-1)
				c.send("POST " + uri + "/many HTTP/1.1\r\nHost: " + o.addr + "\r\nConnection: named\r\n" + many +
					"Named: n\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
				c.receive("POST").check(t, "200 OK", "")
				want := "POST /many HTTP/1.1\r\nHost: " + o.addr + "\r\n" + many + "Content-Length: 3\r\nUser-Agent: Webhook Sentry/0.1\r\n\r\nabc"
				if got := o.bytes()[before:]; got != want {
					t.Fatalf("%d lines: the destination got %d bytes, %.200q; want %d, %.200q", lines, len(got), got, len(want), want)
				}
			}
			c.send("GET " + uri + "/ HTTP/1.1\r\n" + strings.Repeat("a:\r\n", 3000) + "b : c\r\nHost: " + o.addr + "\r\n\r\n")
			if c.receive("GET").check(t, "400 Bad Request", "1002"); !c.ended() {
				t.Error("the connection goes on behind a malformed head; want it closed")
			}
		})
	}
}

func TestMaxHeaderSizeOfResponses(t *testing.T) {
	t.Parallel()
	const limit = 4096
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxHeaderSize = limit })
	withHead := func(n int) string {
		head := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: "
		return head + strings.Repeat("x", n-len(head)-4) + "\r\n\r\nhi"
	}
	hint := "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
	hints := func(n int) string {
		last := "HTTP/1.1 103 Early Hints\r\nLink: "
		return hint + hint + last + strings.Repeat("x", n-2*len(hint)-len(last)-4) + "\r\n\r\n"
	}
	trailers := func(n int) string {
		return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + strings.Repeat("x", n) + "\r\n\r\n"
	}
	tests := []struct{ name, answer, status, reason string }{
		{"the limit", withHead(limit), "200 OK", ""},
		{"one more", withHead(limit + 1), "502 Bad Gateway", "1011"},
		{"the limit after interim responses", hint + hint + withHead(limit), "200 OK", ""},
		{"one more after interim responses", hint + hint + withHead(limit+1), "502 Bad Gateway", "1011"},
		{"interim responses of the limit", hints(limit) + okResponse, "200 OK", ""},
		{"interim responses, one more", hints(limit+1) + okResponse, "502 Bad Gateway", "1011"},
		{"interim responses without end", strings.Repeat(hint, 200), "502 Bad Gateway", "1011"},
		{"trailers within the limit", trailers(limit - 10), "200 OK", ""},
		{"trailers over the limit", trailers(limit + 1), "502 Bad Gateway", "1011"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := answeringOnce(t, tt.answer)
			c := s.dialFor(t)
			c.send(get(o, "/"))
			r := c.receive("GET")
			for r.code() == 103 {
				r = c.receive("GET")
			}
			r.check(t, tt.status, tt.reason)
		})
	}
}

func TestMaxBufferedBytes(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxBufferedBytes = 1000 })
	o := answering(t, okResponse)
	holder := s.dial()
	full := post(o, "/held", pattern(600))
	holder.send(full[:len(full)-1])
	s.waitMetric("whsentry_buffered_bytes", "599")

	for _, tt := range []struct{ name, request string }{
		{"by length", post(o, "/", pattern(402))},
		{"by chunks", postChunked(o, "/", pattern(402), 50)},
	} {
		c := s.dial()
		c.send(tt.request)
		r := c.receive("POST")
		r.check(t, "503 Service Unavailable", "1014")
		if after := r.header.Get("Retry-After"); after == "" {
			t.Errorf("%s: got no Retry-After", tt.name)
		}
	}
	s.waitMetric("whsentry_buffered_bytes", "599")
	if n := o.connections(); n != 0 {
		t.Errorf("got %d connections to the destination; want none", n)
	}
	// What fits beside it, and a request without a body, are let through.
	s.exchange(post(o, "/", pattern(400))).check(t, "200 OK", "")
	s.exchange(postChunked(o, "/", pattern(400), 7)).check(t, "200 OK", "")
	s.exchange(get(o, "/")).check(t, "200 OK", "")
	holder.send(full[len(full)-1:])
	holder.receive("POST").check(t, "200 OK", "")
	s.waitMetric("whsentry_buffered_bytes", "0")
	s.exchange(post(o, "/", pattern(1000))).check(t, "200 OK", "")
	s.exchange(post(o, "/", pattern(1001))).check(t, "503 Service Unavailable", "1014")
}

func TestMaxConnections(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxConnections = 2 })
	o := answering(t, okResponse)
	first, second := s.dial(), s.dial()
	for _, c := range []*rawConn{first, second} {
		c.send(get(o, "/"))
		c.receive("GET").check(t, "200 OK", "")
	}
	for _, request := range []string{
		get(o, "/"), post(o, "/", "body"), "GET /relative HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT " + o.addr + " HTTP/1.1\r\nHost: " + o.addr + "\r\n\r\n",
	} {
		third := s.dial()
		third.send(request)
		r := third.receive("GET")
		if r.code() != 503 || r.reason() != "1014" || r.header.Get("Retry-After") == "" {
			t.Errorf("got %q, reason %q, Retry-After %q to one connection more; want 503 and 1014",
				r.status, r.reason(), r.header.Get("Retry-After"))
		}
		third.waitEnd()
		third.Close()
	}
	if n := o.requestCount("GET"); n != 2 {
		t.Errorf("got %d requests at the destination; want 2", n)
	}
	// Those who have a place keep it, and a place that is given back is taken by the next at once, whoever else
	// has been told to wait and is still there.
	s.waitMetric(clientGauge, "2")
	waiting := s.dial()
	s.waitMetric(clientGauge, "3")
	first.send(get(o, "/"))
	first.receive("GET").check(t, "200 OK", "")
	second.Close()
	s.waitMetric(clientGauge, "2")
	fourth := s.dial()
	fourth.send(get(o, "/"))
	fourth.receive("GET").check(t, "200 OK", "")
	waiting.send(get(o, "/"))
	waiting.receive("GET").check(t, "503 Service Unavailable", "1014")
}

func TestMaxConnectionsPerDestination(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxConnectionsPerDestination = 2 })
	release := make(chan struct{})
	slow := newOrigin(t, func(c *originConn) {
		for {
			req, _, ok := c.request()
			if !ok {
				return
			}
			if req.URL.Path == "/slow" {
				<-release
			}
			io.WriteString(c, okResponse)
		}
	})
	other := answering(t, okResponse)

	refused := func(what, request string) {
		t.Helper()
		before := slow.connections()
		r := s.exchange(request)
		if r.code() != 503 || r.reason() != "1014" || r.header.Get("Retry-After") == "" {
			t.Errorf("%s: got %q and %q; want 503 and 1014 with Retry-After", what, r.status, r.reason())
		}
		if n := slow.connections(); n != before {
			t.Errorf("%s: got %d connections more; want none", what, n-before)
		}
	}
	connect := "CONNECT " + slow.addr + " HTTP/1.1\r\nHost: " + slow.addr + "\r\n\r\n"

	held := s.dial()
	held.send(get(slow, "/slow"))
	tunnel := s.dial()
	tunnel.connectTo(slow)
	s.waitMetric(busyConnections, "2")
	eventually(t, "both connections", func() bool { return slow.connections() == 2 })
	refused("a third request", get(slow, "/"))
	refused("a third tunnel", connect)
	s.exchange(get(other, "/")).check(t, "200 OK", "")

	tunnel.Close() // a tunnel gives its place back
	s.waitMetric(busyConnections, "1")
	s.exchange(get(slow, "/")).check(t, "200 OK", "")

	// The connection that is now at rest does not count.
	s.waitMetric(idleConnections, "2") // to slow, and to other
	tunnel = s.dial()
	tunnel.connectTo(slow)
	eventually(t, "the tunnel's connection", func() bool { return slow.connections() == 4 })
	refused("beside one at rest", get(slow, "/"))
	close(release)
	held.receive("GET").check(t, "200 OK", "")
	tunnel.Close()
	s.waitMetric(busyConnections, "0")
	for i := range 3 {
		s.exchange(get(slow, fmt.Sprintf("/%d", i))).check(t, "200 OK", "")
	}
}

// A body counts until its request ends, also where its memory has been given back by then.
func TestBodyCountsUntilItsRequestEnds(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	answer := make(chan struct{})
	o := newOrigin(t, func(c *originConn) {
		for {
			if _, _, ok := c.request(); !ok {
				return
			}
			<-answer
			io.WriteString(c, okResponse)
		}
	})
	for _, tt := range []struct {
		name, request, held string
	}{
		{"a small POST", post(o, "/", pattern(1000)), "1000"},
		{"a large POST", post(o, "/", pattern(300_000)), "300000"},
		{"a PUT on a kept connection", strings.Replace(post(o, "/", pattern(1000)), "POST", "PUT", 1), "1000"},
	} {
		c, before := s.dialFor(t), strings.Count(o.bytes(), pattern(1000))
		c.send(tt.request)
		eventually(t, tt.name+" to arrive", func() bool { return strings.Count(o.bytes(), pattern(1000)) > before })
		s.waitMetric("whsentry_buffered_bytes", tt.held)
		answer <- struct{}{}
		c.receive("POST").check(t, "200 OK", "")
		s.waitMetric("whsentry_buffered_bytes", "0")
	}
	if n := o.connections(); n != 1 {
		t.Errorf("got %d connections; want one, kept", n)
	}
}
