package e2e

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
)

// startHTTPS starts a proxy with an https listener whose certificate is signed by root, for localhost.
func startHTTPS(t *testing.T, root *catest.Authority, change func(cfg *proxy.Config, g *guard.Config)) *sentry {
	t.Helper()
	return startTLS(t, root, nil, func(cfg *proxy.Config, g *guard.Config) {
		httpsListener(t, cfg, root.Leaf(t, "localhost"))
		if change != nil {
			change(cfg, g)
		}
	})
}

// dialTLS opens a connection to an https listener.
func (s *sentry) dialTLS(t *testing.T, root *catest.Authority, certs ...tls.Certificate) *rawConn {
	t.Helper()
	return s.dialFor(t).secure(clientConfig(root, "localhost", certs...))
}

// TestHTTPSListener carries requests over both versions, and speaks no others.
func TestHTTPSListener(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startHTTPS(t, root, nil)
	o := answering(t, okResponse)
	for _, version := range tlsVersions {
		t.Run(version.name, func(t *testing.T) {
			c := s.dialFor(t).secure(only(clientConfig(root, "localhost"), version.version))
			for i := range 3 {
				c.send(post(o, fmt.Sprintf("/%d", i), pattern(i*20000)))
				c.receive("POST").check(t, "200 OK", "")
			}
			c.send(get(o, "/1") + post(o, "/2", "x") + get(o, "/3"))
			for range 3 {
				c.receive("GET").check(t, "200 OK", "")
			}
			c.send("GET http://10.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n")
			c.receive("GET").check(t, "403 Forbidden", "1000")
		})
	}
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		conn := tls.Client(s.dial().Conn, only(clientConfig(root, "localhost"), version))
		if conn.Handshake() == nil {
			t.Errorf("got a connection over %s; want none", tls.VersionName(version))
		}
	}
	if line := s.logLines(1)[0]; !strings.Contains(line, " POST http://"+o.addr+"/0 200 ") {
		t.Errorf("got the line %q; want the destination's scheme in it, not the listener's", line)
	}
}

// testHTTPSListenerEnd ends every connection in order, for some clients take anything else for a cut.
func testHTTPSListenerEnd(t *testing.T) {
	root := catest.Root(t, "Root")
	s := startHTTPS(t, root, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.ClientTimeout, cfg.ClientIdleTimeout, cfg.MaxRequestBodySize = 2*time.Second, 2*time.Second, 1000
	})
	small, large := answering(t, okResponse), answeringOnce(t, untilClose(pattern(200<<10)))
	cut := answeringOnce(t, strings.Replace(chunked(pattern(200<<10), 1000), "0\r\n\r\n", "", 1))
	http10 := func(o *origin) string { return strings.Replace(get(o, "/"), "HTTP/1.1", "HTTP/1.0", 1) }
	for _, test := range []struct {
		name, raw, status string
		whole, torn       bool
	}{
		{"Connection: close", strings.Replace(get(small, "/"), "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1), "200 OK", true, false},
		{"HTTP/1.0", http10(small), "200 OK", true, false},
		{"HTTP/1.0, until the end", http10(large), "200 OK", true, false},
		{"HTTP/1.0, cut", http10(cut), "200 OK", false, true},
		{"idle", get(small, "/"), "200 OK", true, false},
		{"framing error", "GET / HTTP/1.1\r\nHost : x\r\n\r\n", "400 Bad Request", true, false},
		{"too slow", "GET / HTTP/1.1\r\nHo", "408 Request Timeout", true, false},
		{"too large", post(small, "/", pattern(100000)), "413 Request Entity Too Large", true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := s.dialTLS(t, root)
			c.send(test.raw)
			r, err := c.tryReceive("GET")
			if err != nil && !test.torn {
				t.Fatalf("read a response: %v", err)
			}
			if err == nil && (r.status != test.status || (r.bodyErr == nil) != test.whole) {
				t.Errorf("got %q, %v; want %q, whole: %v", r.status, r.bodyErr, test.status, test.whole)
			}
			if _, err := c.r.ReadByte(); (err == io.EOF) == test.torn {
				t.Errorf("got %v at the end; want a close_notify: %v", err, !test.torn)
			} else if !test.torn && !sawCloseNotify(c) {
				t.Errorf("got a FIN without a close_notify")
			}
		})
	}
}

// sawCloseNotify reports whether the end of c, which has been read, was TLS' own.
func sawCloseNotify(c *rawConn) bool {
	conn := c.Conn.(*tls.Conn)
	under := conn.NetConn().(*packingConn)
	return !under.sawEOF
}

// TestHTTPSListenerPlain is sent what is no TLS. Each leaves a line, and none gets anywhere.
func TestHTTPSListenerPlain(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startHTTPS(t, root, nil)
	o := answering(t, okResponse)
	began := time.Now()
	c := s.dial()
	c.send(post(o, "/", "x"))
	r := c.receive("POST")
	r.check(t, "400 Bad Request", "1002")
	r.checkText(t, "plain HTTP")
	c.waitEnd()
	for _, raw := range []string{"\x00\x00\x00\x00\x00\x00", "\x16\x03\x01\x00\x04nono", "GET / HTTP/1.1\r\n\r\n"} {
		c := s.dial()
		c.send(raw)
		c.waitEnd()
	}
	for _, raw := range []string{"", "\x16\x03\x01"} { // a look whether the port is open, and a client that leaves
		c := s.dial()
		c.send(raw)
		c.halfClose()
		c.waitEnd()
	}
	if n := o.connections(); n != 0 {
		t.Errorf("got %d connections at the origin; want none", n)
	}
	good := s.dialTLS(t, root)
	good.send(get(o, "/"))
	good.receive("GET").check(t, "200 OK", "")
	lines := s.logLines(5)
	for i, line := range lines {
		if want := " - - 400 "; i < 4 && !strings.Contains(line, want) {
			t.Errorf("line %d: got %q; want %q in it", i, line, want)
		}
		if took := textLineTook(t, line); took > time.Since(began) {
			t.Errorf("line %d: got %q, %s; that is longer ago than its connection", i, line, took)
		}
	}
	if len(lines) != 5 {
		t.Errorf("got %d lines; want 5", len(lines))
	}
	s.waitMetric(clientGauge, "1")
}

// textLineTook is how long a request took by its line in the text log.
func textLineTook(t *testing.T, line string) time.Duration {
	t.Helper()
	for _, field := range strings.Fields(line) {
		if ms, ok := strings.CutSuffix(field, "ms"); ok {
			if took, err := time.ParseDuration(ms + "ms"); err == nil {
				return took
			}
		}
	}
	t.Fatalf("no time in %q", line)
	return 0
}

// TestHTTPSListenerClientCA lets in only clients with a certificate by the CA, also with sessions resumed.
func TestHTTPSListenerClientCA(t *testing.T) {
	t.Parallel()
	root, clients := catest.Root(t, "Root"), catest.Root(t, "Clients")
	s := startHTTPS(t, root, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.Listeners[0].ClientCAFile = catest.File(t, "clients.pem", clients.PEM())
	})
	o := answering(t, okResponse)
	for _, version := range tlsVersions {
		for _, test := range []struct {
			name string
			cert []tls.Certificate
			want bool
		}{
			{"right", []tls.Certificate{clients.Leaf(t, "client")}, true},
			{"none", nil, false},
			{"by another CA", []tls.Certificate{catest.Root(t, "Clients").Leaf(t, "client")}, false},
			{"by the listener's CA", []tls.Certificate{root.Leaf(t, "client")}, false},
			{"expired", []tls.Certificate{clients.Leaf(t, "client", catest.Expired())}, false},
			{"self-signed", []tls.Certificate{catest.SelfSigned(t, "client")}, false},
		} {
			t.Run(version.name+" "+test.name, func(t *testing.T) {
				cfg := only(clientConfig(root, "localhost", test.cert...), version.version)
				cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				for range 2 {
					raw := s.dialFor(t)
					conn := tls.Client(raw.Conn, cfg)
					_, err := io.WriteString(conn, get(o, "/"+strings.ReplaceAll(test.name, " ", "-")))
					if err == nil {
						_, err = newRawConn(t, conn).tryReceive("GET")
					}
					if (err == nil) != test.want {
						t.Errorf("got %v; want an answer: %v", err, test.want)
					}
				}
			})
		}
	}
	for _, refused := range []string{"/none", "/by", "/expired", "/self"} {
		if strings.Contains(o.bytes(), refused) {
			t.Errorf("%s: a client without the right certificate got through", refused)
		}
	}
}

// testHTTPSListenerSlowHandshake is bounded by clientTimeout, however the bytes trickle in.
func testHTTPSListenerSlowHandshake(t *testing.T) {
	root := catest.Root(t, "Root")
	s := startHTTPS(t, root, func(cfg *proxy.Config, _ *guard.Config) { cfg.ClientTimeout = 300 * time.Millisecond })
	for _, test := range []struct {
		name  string
		begin func(c *rawConn)
	}{
		{"nothing", func(*rawConn) {}},
		{"half a record", func(c *rawConn) { c.send("\x16\x03\x01\x02\x00\x01") }},
		{"a byte at a time", func(c *rawConn) {
			trickling("\x16\x03\x01\x20\x00\x01\x00\x1f\xfc\x03\x03" + strings.Repeat("r", 1000))(c.Conn)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			c := s.dialFor(t)
			test.begin(c)
			c.waitEnd()
			if took := time.Since(began); took < 300*time.Millisecond {
				t.Errorf("closed after %s; want at least 300ms", took)
			}
		})
	}
	t.Cleanup(func() { // once the rows have ended
		if got := s.requests(408, 1017); got != "3" {
			t.Errorf("got %q clients counted as too slow; want 3", got)
		}
	})
}

// testHTTPSListenerSlowReader takes a large answer slowly, which is all right, or not at all, which is not.
func testHTTPSListenerSlowReader(t *testing.T) {
	root := catest.Root(t, "Root")
	body := pattern(12 << 20)
	s := startHTTPS(t, root, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.ClientTimeout, cfg.ReadTimeout, cfg.MaxResponseBodySize = 2*time.Second, 10*time.Second, 64<<20
	})
	o := answering(t, withLength(body))
	allAtOnce(t, func(run func(name string, test func(t *testing.T))) {
		run("slow", func(t *testing.T) {
			c := s.dialTLS(t, root)
			c.Conn.(*tls.Conn).NetConn().(*packingConn).Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
			c.send(get(o, "/"))
			resp, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatalf("read a response: %v", err)
			}
			var got bytes.Buffer
			for err == nil {
				_, err = io.CopyN(&got, resp.Body, 1<<20)
				time.Sleep(200 * time.Millisecond) // in all longer than the limit
			}
			if got.String() != body {
				t.Errorf("got %d bytes, %v; want %d", got.Len(), err, len(body))
			}
		})
		run("never", func(t *testing.T) {
			c := s.dialTLS(t, root)
			c.send(get(o, "/never"))
			eventually(t, "the log's line", func() bool { return strings.Contains(s.wholeLog(), "/never 499 ") })
		})
	})
}

// TestHTTPSListenerVanishing leaves, in several ways, while the destination is waited for.
func TestHTTPSListenerVanishing(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	s := startHTTPS(t, root, nil)
	m := startMITM(t, root, issuer, nil)
	for _, test := range []struct {
		name  string
		leave func(c *tls.Conn, tcp *net.TCPConn)
	}{
		{"close_notify and FIN", func(c *tls.Conn, tcp *net.TCPConn) { c.CloseWrite(); tcp.CloseWrite() }},
		{"close_notify and close", func(c *tls.Conn, tcp *net.TCPConn) { c.CloseWrite(); tcp.Close() }},
		{"FIN", func(_ *tls.Conn, tcp *net.TCPConn) { tcp.CloseWrite() }},
		{"reset", func(_ *tls.Conn, tcp *net.TCPConn) { tcp.SetLinger(0); tcp.Close() }},
	} {
		path := "/" + strings.ReplaceAll(test.name, " ", "-")
		leave := func(c *rawConn) {
			conn := c.Conn.(*tls.Conn)
			test.leave(conn, conn.NetConn().(*packingConn).Conn.(*net.TCPConn))
		}
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := swallowing(t)
			c := s.dialTLS(t, root)
			c.send(post(o, path, "x"))
			eventually(t, "the request", func() bool { return o.requestCount("POST") == 1 })
			leave(c)
			eventually(t, "the log's line", func() bool { return strings.Contains(s.wholeLog(), path+" 499 ") })
		})
		t.Run(test.name+", intercepted", func(t *testing.T) {
			t.Parallel()
			o := newTLSOrigin(t, serving(root.Leaf(t, hooksHost)), func(c *tlsConn) { io.Copy(io.Discard, c.r) })
			c := m.dialFor(t).intercepted(issuer, o.to(hooksHost))
			c.send(inOrigin(o.to(hooksHost), path, "x"))
			eventually(t, "the request", func() bool { return strings.Contains(o.decrypted(), path) })
			leave(c)
			eventually(t, "the log's line", func() bool { return strings.Contains(m.wholeLog(), path+" 499 ") })
		})
	}
}

// TestHTTPSListenerReload changes the certificate and the client CA under connections that are open.
func TestHTTPSListenerReload(t *testing.T) {
	t.Parallel()
	root, second, clients := catest.Root(t, "Root"), catest.Root(t, "Second"), catest.Root(t, "Clients")
	s := startHTTPS(t, root, nil)
	release := make(chan struct{})
	o := responding(t, func(c *originConn, body string) bool {
		if body == "wait" {
			<-release
		}
		_, err := io.WriteString(c, okResponse)
		return err == nil
	})
	idle, busy := s.dialTLS(t, root), s.dialTLS(t, root)
	idle.send(get(o, "/"))
	idle.receive("GET").check(t, "200 OK", "")
	busy.send(post(o, "/", "wait"))
	eventually(t, "the request", func() bool { return o.requestCount("POST") == 1 })

	err := s.reload(func(cfg *proxy.Config, _ *guard.Config) {
		httpsListener(t, cfg, second.Leaf(t, "localhost"))
		cfg.Listeners[0].ClientCAFile = catest.File(t, "clients.pem", clients.PEM())
	})
	if err != nil {
		t.Fatalf("reload: %v", err)
	}
	close(release)
	for _, c := range []*rawConn{idle, busy} {
		if c == idle {
			c.send(get(o, "/"))
		}
		c.receive("GET").check(t, "200 OK", "")
	}
	fresh := s.dialTLS(t, second, clients.Leaf(t, "client"))
	fresh.send(get(o, "/"))
	fresh.receive("GET").check(t, "200 OK", "")
	if conn := tls.Client(s.dial().Conn, clientConfig(root, "localhost")); conn.Handshake() == nil {
		t.Errorf("the old certificate is still presented")
	}

	// What cannot be read leaves everything as it is.
	before := s.cfg.Listeners[0].CertFile
	if err := s.reload(func(cfg *proxy.Config, _ *guard.Config) { cfg.Listeners[0].CertFile = "missing.pem" }); err == nil ||
		!strings.Contains(err.Error(), "missing.pem") {
		t.Errorf("got %v from a reload with a missing file; want its name", err)
	}
	s.cfg.Listeners[0].CertFile = before
	fresh = s.dialTLS(t, second, clients.Leaf(t, "client"))
	fresh.send(get(o, "/"))
	fresh.receive("GET").check(t, "200 OK", "")
}

// TestHTTPSListenerTunnel carries both directions at once, half-closes included, and an intercepted tunnel: TLS in TLS.
func TestHTTPSListenerTunnel(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	s := startHTTPS(t, root, nil)
	t.Run("both directions", func(t *testing.T) {
		t.Parallel()
		o := echoing(t)
		c := s.dialTLS(t, root)
		if r := c.open(o.addr); r.code() != 200 {
			t.Fatalf("got %q; want 200", r.status)
		}
		body := pattern(4 << 20)
		var sending sync.WaitGroup
		sending.Go(func() {
			io.WriteString(c.Conn, body)
			c.Conn.(*tls.Conn).CloseWrite()
		})
		got, err := io.ReadAll(c.r)
		sending.Wait()
		if string(got) != body || err != nil {
			t.Errorf("got %d bytes, %v; want %d", len(got), err, len(body))
		}
		if !sawCloseNotify(c) {
			t.Errorf("got a FIN without a close_notify")
		}
	})
	t.Run("the destination ends first", func(t *testing.T) {
		t.Parallel()
		after := make(chan string, 1)
		o := newOrigin(t, func(c *originConn) {
			io.WriteString(c, "bye")
			c.Conn.(*net.TCPConn).CloseWrite()
			rest, _ := io.ReadAll(c.r)
			after <- string(rest)
		})
		c := s.dialTLS(t, root)
		c.open(o.addr)
		if got, err := io.ReadAll(c.r); string(got) != "bye" || err != nil {
			t.Fatalf("got %q, %v; want the destination's bye", got, err)
		}
		c.send("still here")
		c.Conn.(*tls.Conn).CloseWrite()
		if got := <-after; got != "still here" {
			t.Errorf("the destination got %q; want what was sent after its half-close", got)
		}
	})
	t.Run("intercepted", func(t *testing.T) {
		t.Parallel()
		m := startMITM(t, root, issuer, func(cfg *proxy.Config, _ *guard.Config) { httpsListener(t, cfg, root.Leaf(t, "localhost")) })
		o := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
		in := m.dialTLS(t, root).intercepted(issuer, o.to(hooksHost))
		for range 2 {
			in.send(inOrigin(o.to(hooksHost), "/", pattern(100000)))
			in.receive("POST").check(t, "200 OK", "")
		}
	})
}

// A client that takes nothing for longer than clientTimeout keeps its tunnel, in both directions: clientTimeout is about
// requests, and the tunnel has its readTimeout.
func TestHTTPSListenerTunnelSlowReader(t *testing.T) {
	root := catest.Root(t, "Root")
	s := startHTTPS(t, root, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.ClientTimeout, cfg.ReadTimeout = 200*time.Millisecond, patience
	})
	for _, plain := range []string{proxy.PlainInspect, proxy.PlainOpaque} {
		if err := s.reload(func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectPlain = plain }); err != nil {
			t.Fatal(err)
		}
		const size = 12 << 20
		heard := make(chan string, 1)
		o := newOrigin(t, func(c *originConn) {
			first, _ := c.r.ReadByte()
			go io.WriteString(c, pattern(size)) // ends with the connection
			rest, _ := io.ReadAll(c.r)
			heard <- string(first) + string(rest)
		})
		c := s.dialTLS(t, root)
		c.Conn.(*tls.Conn).NetConn().(*packingConn).Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
		c.open(o.addr)
		c.send("\x00")
		if _, err := c.r.Peek(1); err != nil {
			t.Fatalf("%s: read: %v", plain, err)
		}
		for range 4 {
			time.Sleep(s.cfg.ClientTimeout) // it is to pass
			c.send("x")
		}
		got, err := io.ReadAll(io.LimitReader(c.r, size))
		c.Conn.(*tls.Conn).CloseWrite()
		if up := <-heard; string(got) != pattern(size) || up != "\x00xxxx" {
			t.Errorf("%s: got %d bytes, %v, and the destination %q; want %d and all that was sent", plain, len(got), err, up, size)
		}
	}
}

// TestHTTPSListenerLinger refuses a body while it is still being sent.
func TestHTTPSListenerLinger(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startHTTPS(t, root, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxRequestBodySize = 1000 })
	o := answering(t, okResponse)
	c := s.dialTLS(t, root)
	var sending sync.WaitGroup
	sending.Go(func() { io.WriteString(c.Conn, post(o, "/", pattern(8<<20))) })
	c.receive("POST").check(t, "413 Request Entity Too Large", "1012")
	if !c.ended() {
		t.Errorf("the connection is open after a 413")
	}
	sending.Wait()
	c.Close()
	if n := o.connections(); n != 0 {
		t.Errorf("got %d connections at the origin; want none", n)
	}
}

// TestHTTPSListenerExcess tells one client too many so, inside TLS.
func TestHTTPSListenerExcess(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startHTTPS(t, root, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxConnections = 1 })
	o := answering(t, okResponse)
	first := s.dialTLS(t, root)
	second := s.dialTLS(t, root)
	second.send(get(o, "/"))
	r := second.receive("GET")
	r.check(t, "503 Service Unavailable", "1014")
	if r.header.Get("Retry-After") == "" || !second.ended() || !sawCloseNotify(second) {
		t.Errorf("got Retry-After %q; want one, and the end in order", r.header.Get("Retry-After"))
	}
	first.send(get(o, "/"))
	first.receive("GET").check(t, "200 OK", "")
}

// TestHTTPSListenerStops leaves no client of an https listener waiting, wherever it is.
func TestHTTPSListenerStops(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startHTTPS(t, root, nil)
	release := make(chan struct{})
	o := responding(t, func(c *originConn, _ string) bool {
		<-release
		io.WriteString(c, okResponse)
		return true
	})
	idle, busy, shaking := s.dialTLS(t, root), s.dialTLS(t, root), s.dial()
	shaking.send("\x16\x03")
	busy.send(get(o, "/"))
	eventually(t, "the request", func() bool { return o.requestCount("GET") == 1 })
	s.waitMetric(clientGauge, "3")
	stopped := make(chan struct{})
	go func() { // awaited below
		defer close(stopped)
		s.stop(patience)
	}()
	if !idle.ended() || !sawCloseNotify(idle) {
		t.Errorf("got no close_notify on an idle connection")
	}
	shaking.waitEnd()
	close(release)
	if r := busy.receive("GET"); r.code() != 200 || !r.closing || !busy.ended() || !sawCloseNotify(busy) {
		t.Errorf("got %q, closing %v; want the answer, and the end in order", r.status, r.closing)
	}
	<-stopped
	if all := s.wholeLog(); strings.Count(all, "\n") != 1 {
		t.Errorf("got the log %q; want one line", all)
	}
}

// TestHTTPSListenerRecords counts the records of an answer: each is a call to the system.
func TestHTTPSListenerRecords(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startHTTPS(t, root, nil)
	o := answering(t, withLength(pattern(10<<10)))
	raw := s.dial()
	var wire bytes.Buffer
	raw.r.Reset(io.TeeReader(raw.Conn, &wire))
	c := raw.secure(only(clientConfig(root, "localhost"), tls.VersionTLS12))
	wire.Reset()
	c.send(get(o, "/"))
	c.receive("GET").check(t, "200 OK", "")
	if got := strings.Count(string(records(wire.String())), "\x17"); got != 1 {
		t.Errorf("got an answer of 10 KiB in %d records; want 1", got)
	}
}
