package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
)

// testDrippingInEveryPhase has destinations that send a byte now and then, often enough never to be idle: the
// connection's lifetime is what ends them. (Between a byte and the next there would be a second, were it not a test.)
func testDrippingInEveryPhase(t *testing.T) {
	const pace = 40 * time.Millisecond
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.ConnectionLifetime = 3 * time.Second
		cfg.ReadTimeout = 10 * time.Second
		cfg.AccessLog.Type = accesslog.JSON
	})
	large := pattern(100_000)
	tests := []struct {
		name, before, dripped string
		begun                 bool
	}{
		{"the status line", "", "HTTP/1.1 200 " + strings.Repeat("OK", 100), false},
		{"a field", "HTTP/1.1 200 OK\r\n", "A: " + strings.Repeat("a", 200), false},
		{"fields", "HTTP/1.1 200 OK\r\n", strings.Repeat("A: a\r\n", 50), false},
		{"interim responses", "", strings.Repeat("HTTP/1.1 102 P\r\n\r\n", 20), false},
		{"a small body", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", large[:200], false},
		{"an extension", chunkedHead, "4;" + strings.Repeat("a", 200), false},
		{"a chunk", chunkedHead + "200\r\n", large[:200], false},
		{"chunks", chunkedHead, strings.Repeat("1\r\na\r\n", 50), false},
		{"a trailer", chunkedHead + "0\r\n", "A: " + strings.Repeat("a", 200), false},
		{"trailers", chunkedHead + "0\r\n", strings.Repeat("A: a\r\n", 50), false},
		{"a body without length", "HTTP/1.1 200 OK\r\n\r\n", large[:200], false},
		{"a large body", "HTTP/1.1 200 OK\r\nContent-Length: 101000\r\n\r\n" + large, large[:200], true},
		{"a large body's chunks", chunkedHead + "186a0\r\n" + large + "\r\n", strings.Repeat("1\r\na\r\n", 50), true},
		{"a large body's trailers", chunkedHead + "186a0\r\n" + large + "\r\n0\r\n", strings.Repeat("A: a\r\n", 50), true},
		{"a large body without length", "HTTP/1.1 200 OK\r\n\r\n" + large, large[:200], true},
	}
	allAtOnce(t, func(run func(name string, test func(t *testing.T))) {
		for _, secure := range []bool{false, true} {
			for _, tt := range tests {
				run(fmt.Sprintf("tls %v %s", secure, tt.name), func(t *testing.T) {
					serve := func(s side) {
						if req, err := http.ReadRequest(s.r); err == nil {
							io.Copy(io.Discard, req.Body)
						}
						io.WriteString(s.w, tt.before)
						drip(s.w, tt.dripped, pace)
					}
					request := requestTo(t, root, secure, serve)
					c := s.dialFor(t)
					c.send(request)
					r := c.receive("POST")
					for r.code() == 102 {
						r = c.receive("POST")
					}
					if tt.begun {
						r.check(t, "200 OK", "")
						if r.bodyErr == nil {
							t.Errorf("got %d bytes as a whole body; want it cut", len(r.body))
						}
						return
					}
					r.check(t, "502 Bad Gateway", "1004")
					r.checkText(t, "lifetime")
				})
			}
		}
	})
	for _, line := range s.jsonLines(2 * len(tests)) {
		if line["reason_code"] != 1004.0 {
			t.Errorf("got the line %v; want the reason 1004", line)
		}
	}
	s.waitMetric(`whsentry_destination_connections_closed_total{why="lifetime"}`, fmt.Sprint(2*len(tests)))
	s.waitMetric(busyConnections, "0")
	s.waitMetric(idleConnections, "0")
}

// testBodiesWithoutEnd has destinations that never stop sending. Each is stopped by the limit that it meets first, and
// its connection is closed.
func testBodiesWithoutEnd(t *testing.T) {
	const limit = 200_000
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.MaxResponseBodySize = limit
		cfg.ReadTimeout = 3 * time.Second // what comes behind an answer may be seen only after this
	})
	tests := []struct {
		name, method, begin, part string
		reason                    string // of the client's answer
		whole                     bool   // the answer is right, whatever comes behind it
	}{
		{"chunks", "POST", chunkedHead, "400\r\n" + pattern(1024) + "\r\n", "", false},
		{"tiny chunks", "POST", chunkedHead, "1\r\na\r\n", "", false},
		{"one chunk", "POST", chunkedHead + "fffffffffff\r\n", pattern(1024), "", false},
		{"until close", "POST", "HTTP/1.1 200 OK\r\n\r\n", pattern(1024), "", false},
		{"a length", "POST", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", pattern(1024), "1008", false},
		{"after a length", "POST", okResponse, pattern(1024), "", true},
		{"after a HEAD's answer", "HEAD", okResponse, pattern(1024), "", true},
		{"after a 204", "POST", "HTTP/1.1 204 No Content\r\n\r\n", pattern(1024), "", true},
		{"after a 304", "GET", "HTTP/1.1 304 Not Modified\r\n\r\n", pattern(1024), "", true},
		{"after the last chunk", "POST", chunked("ok", 2), pattern(1024), "", true},
		{"answers", "POST", "", okResponse, "", true},
		{"not HTTP", "POST", "", pattern(1024), "1011", false},
		{"zeros", "POST", "", strings.Repeat("\x00", 1024), "1011", false},
		{"line ends", "POST", "", strings.Repeat("\r\n", 512), "1011", false},
	}
	allAtOnce(t, func(run func(name string, test func(t *testing.T))) {
		for _, tt := range tests {
			for _, secure := range []bool{false, true} {
				run(fmt.Sprintf("tls %v %s", secure, tt.name), func(t *testing.T) {
					stopped := make(chan struct{}, 2)
					serve := func(s side) {
						defer func() { stopped <- struct{}{} }()
						if req, err := http.ReadRequest(s.r); err == nil {
							io.Copy(io.Discard, req.Body)
						}
						io.WriteString(s.w, tt.begin)
						for part := []byte(strings.Repeat(tt.part, 20)); ; {
							if _, err := s.w.Write(part); err != nil {
								return
							}
						}
					}
					request := requestTo(t, root, secure, serve)
					c := s.dialFor(t)
					c.send(strings.Replace(request, "POST", tt.method, 1))
					r := c.receive(tt.method)
					switch {
					case tt.reason != "":
						r.check(t, "502 Bad Gateway", tt.reason)
					case r.code() >= 400 || (r.bodyErr == nil) != tt.whole || len(r.body) > limit:
						t.Errorf("got %q, %d bytes and %v; want a 2xx or 3xx, whole: %v", r.status, len(r.body), r.bodyErr, tt.whole)
					}
					<-stopped // because its connection was closed
				})
			}
		}
	})
	s.waitMetric(busyConnections, "0")
	s.waitMetric(idleConnections, "0")
	s.waitMetric("whsentry_destination_connections_reused_total", "0")
}

// TestTinyChunks holds that a destination which sends its body a byte a chunk does not make the proxy write it so.
func TestTinyChunks(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	const size = 300_000
	o := answeringOnce(t, chunkedHead+strings.Repeat("1\r\na\r\n", size)+"0\r\n\r\n")
	c := s.dial()
	var all strings.Builder
	c.r.Reset(io.TeeReader(c.Conn, &all))
	c.send(get(o, "/"))
	if r := c.receive("GET"); len(r.body) != size || r.bodyErr != nil {
		t.Errorf("got %d bytes and %v; want %d", len(r.body), r.bodyErr, size)
	}
	if n := strings.Count(all.String(), "\r\n"); n > size/100 { // two a chunk
		t.Errorf("got %d lines and chunks; want them put together", n)
	}
}

// TestUploadsThatAreHardlyTaken has destinations that do not read what they are sent, or next to nothing of it.
func TestUploadsThatAreHardlyTaken(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text     string
		idle, lifetime time.Duration
		take           func(c *originConn)
	}{
		{"nothing is read", "idle", time.Second, patience, func(c *originConn) { waitClosed(c.Conn) }},
		{"a little now and then", "lifetime", patience, 3 * time.Second, func(c *originConn) {
			for buf := make([]byte, 32<<10); ; time.Sleep(20 * time.Millisecond) {
				if _, err := c.Conn.Read(buf); err != nil {
					return
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
				cfg.ReadTimeout, cfg.ConnectionLifetime = tt.idle, tt.lifetime
			})
			o := newOrigin(t, func(c *originConn) {
				c.Conn.(*net.TCPConn).SetReadBuffer(16 << 10)
				tt.take(c)
			})
			c := s.dialFor(t)
			c.send(post(o, "/", pattern(10<<20)))
			r := c.receive("POST")
			r.check(t, "502 Bad Gateway", "1004")
			r.checkText(t, tt.text)
			s.waitMetric(busyConnections, "0")
			s.waitMetric("whsentry_buffered_bytes", "0")
		})
	}
}

// requestTo returns a POST to a new destination, over TLS with a certificate of root where it is secure, whose every
// connection is served by serve.
func requestTo(t *testing.T, root *catest.Authority, secure bool, serve func(s side)) string {
	t.Helper()
	if secure {
		o := newTLSOrigin(t, serving(root.Leaf(t, hooksHost)), func(c *tlsConn) { serve(side{r: c.r, w: c}) })
		return overTLS(o.to(hooksHost), "/", "hook")
	}
	return post(newOrigin(t, func(c *originConn) { serve(side{r: c.r, w: c}) }), "/", "hook")
}
