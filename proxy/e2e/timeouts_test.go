package e2e

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
	"whsentry/proxy/listen"
)

func testConnectTimeout(t *testing.T) {
	addr := deafAddress(t)
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectTimeout = 200 * time.Millisecond })
	began := time.Now()
	r := s.exchange("GET http://" + addr + "/ HTTP/1.1\r\nHost: x\r\n\r\n")
	r.check(t, "502 Bad Gateway", "1004")
	r.checkText(t, "timed out", "connecting", addr)
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("gave up after %v; want 200ms at least", took)
	}
	c := s.dial()
	c.send("CONNECT " + addr + " HTTP/1.1\r\nHost: x\r\n\r\n")
	if r := c.receive("GET"); r.code() != 502 || r.reason() != "1004" || !strings.Contains(r.status, "connecting") {
		t.Errorf("got %q and %q to a CONNECT; want 502 and 1004, and why in the status line", r.status, r.reason())
	}
}

func testTLSHandshakeTimeout(t *testing.T) {
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectTimeout = time.Second })
	o := swallowing(t)
	r := s.exchange("GET http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\nX-WhSentry-TLS: 1\r\n\r\n")
	r.check(t, "502 Bad Gateway", "1004")
	r.checkText(t, "timed out", "TLS handshake")
	s.waitMetric(busyConnections, "0")
}

func TestConnectionRefused(t *testing.T) {
	t.Parallel()
	_, addr := boundSocket(t)
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.AccessLog.Type = accesslog.JSON })
	r := s.exchange("GET http://" + addr + "/ HTTP/1.1\r\nHost: x\r\n\r\n")
	r.check(t, "502 Bad Gateway", "1006")
	r.checkText(t, addr)
	line := s.jsonLines(1)[0]
	if _, timed := line["connect_ms"]; !timed || line["upstream_addr"] != addr || line["conn_reused"] != nil || line["delivered"] != "no" {
		t.Errorf("got the line %v; want the time that the attempt took, the address tried, and nothing delivered", line)
	}
}

// drip writes s a byte at a time, one each pause.
func drip(w io.Writer, s string, pause time.Duration) {
	for i := range len(s) {
		if i > 0 {
			time.Sleep(pause)
		}
		if _, err := io.WriteString(w, s[i:i+1]); err != nil {
			return
		}
	}
}

func testReadTimeoutRolls(t *testing.T) {
	const timeout = 2 * time.Second
	const pause = 3 * timeout / 10 // four of them are longer
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = timeout })
	tests := []struct {
		name, before, dripped, after string
	}{
		{"in the head", "HTTP/1.1 20", "0 O", "K\r\nContent-Length: 4\r\n\r\nbody"},
		{"in the body by length", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "bod", "y"},
		{"in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\n", "body\r\n0\r\n\r\n"},
		{"before the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n", "0\r\n", "\r\n"},
		{"in a body until close", "HTTP/1.1 200 OK\r\n\r\n", "bod", "y"},
	}
	allAtOnce(t, func(run func(name string, test func(t *testing.T))) {
		for _, tt := range tests {
			run(tt.name, func(t *testing.T) {
				o := newOrigin(t, func(c *originConn) {
					c.request()
					io.WriteString(c, tt.before)
					time.Sleep(pause)
					drip(c, tt.dripped, pause)
					time.Sleep(pause)
					io.WriteString(c, tt.after)
				})
				r := s.exchangeFor(t, get(o, "/"))
				r.check(t, "200 OK", "")
				if r.body != "body" || r.bodyErr != nil {
					t.Errorf("got %q, %v; want body", r.body, r.bodyErr)
				}
			})
		}
	})
}

func testReadTimeoutOnSilence(t *testing.T) {
	const timeout = 2 * time.Second
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = timeout })
	tests := []struct{ name, before string }{
		{"no answer", ""},
		{"within the head", "HTTP/1.1 200 OK\r\nConte"},
		{"after an interim response", "HTTP/1.1 100 Continue\r\n\r\n"},
		{"no body", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"},
		{"within a small body", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo"},
		{"within chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n"},
		{"within a body until close", "HTTP/1.1 200 OK\r\n\r\nbody"},
		{"a body of 64 KiB but for its last chunk", strings.TrimSuffix(chunked(pattern(64<<10), 64<<10), "0\r\n\r\n")},
	}
	allAtOnce(t, func(run func(name string, test func(t *testing.T))) {
		for _, tt := range tests {
			run(tt.name, func(t *testing.T) {
				o := newOrigin(t, func(c *originConn) {
					c.request()
					io.WriteString(c, tt.before)
					io.Copy(io.Discard, c.r)
				})
				began := time.Now()
				c := s.dialFor(t)
				c.send(post(o, "/", "hook"))
				r := c.receive("POST")
				r.check(t, "502 Bad Gateway", "1004")
				r.checkText(t, "timed out", "idle")
				if took := time.Since(began); took < timeout {
					t.Errorf("gave up after %v; want %v at least", took, timeout)
				}
				if n := o.requestCount("POST"); n != 1 {
					t.Errorf("got %d requests at the destination; want 1", n)
				}
				c.send(get(answering(t, okResponse), "/"))
				c.receive("GET").check(t, "200 OK", "")
			})
		}
	})
}

func testReadTimeoutAfterTheAnswerHasBegun(t *testing.T) {
	large := pattern(100_000)
	for _, tt := range []struct{ name, before string }{
		{"by length", "HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n" + large},
		{"in chunks", strings.TrimSuffix(chunked(large, 10_000), "0\r\n\r\n")},
		{"until close", "HTTP/1.1 200 OK\r\n\r\n" + large},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
				cfg.ReadTimeout = 2 * time.Second
				cfg.AccessLog.Type = accesslog.JSON
			})
			o := newOrigin(t, func(c *originConn) {
				c.request()
				io.WriteString(c, tt.before)
				io.Copy(io.Discard, c.r)
			})
			c := s.dial()
			c.send(get(o, "/"))
			r := c.receive("GET")
			r.check(t, "200 OK", "")
			if r.bodyErr == nil {
				t.Errorf("the client takes a cut response for a whole one: %d bytes", len(r.body))
			}
			c.waitEnd()
			if line := s.jsonLines(1)[0]; line["response_code"] != 200.0 || line["reason_code"] != 1004.0 {
				t.Errorf("got the log line %v; want response_code 200 and reason_code 1004", line)
			}
		})
	}
}

func testConnectionLifetime(t *testing.T) {
	const lifetime = 2 * time.Second
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.ConnectionLifetime = lifetime
		cfg.ReadTimeout = 10 * lifetime
	})
	forever := func(before string) *origin {
		return newOrigin(t, func(c *originConn) {
			c.request()
			io.WriteString(c, before)
			for {
				if _, err := io.WriteString(c, "x"); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	began := time.Now()
	small, large := s.dial(), s.dial()
	small.send(get(forever("HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n"), "/"))
	large.send(get(forever("HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n"+pattern(70_000)), "/"))
	r := small.receive("GET")
	r.check(t, "502 Bad Gateway", "1004")
	r.checkText(t, "timed out", "lifetime")
	if took := time.Since(began); took < lifetime {
		t.Errorf("cut after %v; want %v at least", took, lifetime)
	}
	r = large.receive("GET")
	r.check(t, "200 OK", "")
	if r.bodyErr == nil {
		t.Errorf("a response beyond the lifetime came to its end: %d bytes", len(r.body))
	}
	s.waitMetric(`whsentry_destination_connections_closed_total{why="lifetime"}`, "2")
}

func testClientTimeout(t *testing.T) {
	const timeout = 250 * time.Millisecond
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ClientTimeout = timeout })
	o := answering(t, okResponse)
	head := "POST http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\n"
	tests := []struct{ name, sent string }{
		{"within the request line", "POST http://"},
		{"within the head", head},
		{"before the body", head + "Content-Length: 5\r\n\r\n"},
		{"within the body", head + "Content-Length: 5\r\n\r\nabcd"},
		{"within a large body", head + "Content-Length: 500000\r\n\r\n" + pattern(400_000)},
		{"within a chunk", head + "Transfer-Encoding: chunked\r\n\r\n5\r\nab"},
		{"before the last chunk", head + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"},
		{"within the trailers", head + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX: 1\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			c := s.dialFor(t)
			c.send(tt.sent)
			r := c.receive("POST")
			r.check(t, "408 Request Timeout", "1017")
			if !r.closing {
				t.Errorf("got no Connection: close")
			}
			if took := time.Since(began); took < timeout {
				t.Errorf("gave up after %v; want %v at least", took, timeout)
			}
			c.waitEnd()
		})
	}
	t.Run("a dripped head", func(t *testing.T) {
		t.Parallel() // the limit is on all of it
		c := s.dialFor(t)
		go drip(c, head+strings.Repeat("X-Y: z\r\n", 100), 20*time.Millisecond) // ends with the connection
		c.receive("POST").check(t, "408 Request Timeout", "1017")
	})
	t.Cleanup(func() {
		if n := o.connections(); n != 0 {
			t.Errorf("got %d connections to the destination; want none", n)
		}
	})
}

func testClientTimeoutRollsWithinTheBody(t *testing.T) {
	const timeout = 2 * time.Second
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ClientTimeout = timeout })
	o := answering(t, okResponse)
	for _, tt := range []struct{ name, framing, body string }{
		{"by length", "Content-Length: 4\r\n\r\n", "abcd"},
		{"in chunks", "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0", "\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := s.dialFor(t)
			c.send("POST http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\n" + tt.framing)
			drip(c, tt.body, 4*timeout/10)
			c.receive("POST").check(t, "200 OK", "")
		})
	}
}

func testClientIdleTimeout(t *testing.T) {
	const timeout = 2 * time.Second
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ClientIdleTimeout = timeout })
	o := answering(t, okResponse)
	began := time.Now()
	conns := []*rawConn{s.dial(), s.dial()} // on which as many requests are sent as their index says
	conns[1].send(get(o, "/"))
	conns[1].receive("GET").check(t, "200 OK", "")
	for requests, c := range conns {
		if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
			t.Errorf("after %d requests: got %q and %v; want the connection closed without a word", requests, rest, err)
		}
		if took := time.Since(began); took < timeout {
			t.Errorf("closed after %v; want %v at least", took, timeout)
		}
	}
	s.waitMetric(clientGauge, "0")
	if n := len(s.logLines(1)); n != 1 {
		t.Errorf("got %d log lines; want 1, for nothing was asked otherwise", n)
	}
}

// A client that reads slowly is not the destination's idleness.
func testSlowReadingClient(t *testing.T) {
	const timeout = 1500 * time.Millisecond
	const size = 12 << 20 // more than the sockets on the way take
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.MaxResponseBodySize = size
		cfg.ReadTimeout = timeout
	})
	o := answering(t, withLength(strings.Repeat("x", size)))
	c := s.dial()
	c.Conn.(*net.TCPConn).SetReadBuffer(32 << 10)
	c.send(get(o, "/"))
	c.r.ReadByte()
	c.r.UnreadByte()
	time.Sleep(2 * timeout)
	r := c.receive("GET")
	if r.check(t, "200 OK", ""); len(r.body) != size || r.bodyErr != nil {
		t.Errorf("got %d bytes and %v; want %d", len(r.body), r.bodyErr, size)
	}
}

// A client that reads nothing at all for clientTimeout is one that has gone.
func testClientThatDoesNotRead(t *testing.T) {
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.MaxResponseBodySize = 64 << 20
		cfg.ClientTimeout = 200 * time.Millisecond
	})
	o := newOrigin(t, func(c *originConn) {
		c.request()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 33554432\r\n\r\n")
		io.WriteString(c, strings.Repeat("x", 32<<20))
	})
	c := s.dial()
	c.Conn.(*net.TCPConn).SetReadBuffer(4096)
	c.send(get(o, "/"))
	if line := s.logLines(1)[0]; !strings.Contains(line, " 499 ") {
		t.Errorf("got the line %q; want a 499", line)
	}
	s.waitMetric(busyConnections, "0")
	s.waitMetric(clientGauge, "0")
}

// withTLSListener makes the proxy's listener an https one and returns what a client needs to trust it.
func withTLSListener(t *testing.T) (func(cfg *proxy.Config), *tls.Config) {
	t.Helper()
	authority := catest.Root(t, "listener")
	certFile, keyFile := catest.Files(t, authority.Leaf(t, "127.0.0.1"))
	return func(cfg *proxy.Config) {
		cfg.Listeners[0].Type = listen.HTTPS
		cfg.Listeners[0].CertFile, cfg.Listeners[0].KeyFile = certFile, keyFile
	}, &tls.Config{RootCAs: authority.Pool(), ServerName: "127.0.0.1"}
}

// muteConn stops sending after its first write, which is a ClientHello.
type muteConn struct {
	net.Conn
	writes atomic.Int32
}

func (m *muteConn) Write(p []byte) (int, error) {
	if m.writes.Add(1) > 1 {
		return len(p), nil
	}
	return m.Conn.Write(p)
}

func testClientTimeoutInTheTLSHandshake(t *testing.T) {
	configure, clientConfig := withTLSListener(t)
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
		configure(cfg)
		cfg.ClientTimeout = 200 * time.Millisecond
	})
	for _, tt := range []struct {
		name  string
		begin func(c *rawConn)
	}{
		{"nothing sent", func(c *rawConn) {}},
		{"a part of the ClientHello", func(c *rawConn) { c.send("\x16\x03\x01\x02") }},
		{"the ClientHello alone", func(c *rawConn) { tls.Client(&muteConn{Conn: c.Conn}, clientConfig).Handshake() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := s.dialFor(t)
			tt.begin(c)
			c.waitEnd()
		})
	}
}
