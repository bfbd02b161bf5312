package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
)

func jsonLog(cfg *proxy.Config, _ *guard.Config) { cfg.AccessLog.Type = accesslog.JSON }

// tunnelTo opens a tunnel to authority.
func (s *sentry) tunnelTo(t *testing.T, authority string) *rawConn {
	t.Helper()
	c := s.dialFor(t)
	if r := c.open(authority); r.code() != 200 {
		t.Fatalf("got %q to the CONNECT; want 200", r.status)
	}
	return c
}

// TestInspectedTunnel sends webhooks to an http:// URL by CONNECT, as many clients do: they are forwarded like any other,
// the first on the connection that the CONNECT has made, and each has its line in the log, in the CONNECT's place.
func TestInspectedTunnel(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.AccessLog.Type = accesslog.JSON
		cfg.MaxConnectionsPerDestination = 1
	})
	o := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-WhSentry-Reason: forged\r\n\r\nok")
	c := s.tunnelTo(t, o.addr)
	for range 2 {
		c.send(inOrigin(o.addr, "/hook?a=b", "abc", "User-Agent: other\r\nProxy-X: y\r\n"))
		r := c.receive("POST")
		if r.check(t, "200 OK", ""); r.header.Get("X-Whsentry-Reason") != "" || r.body != "ok" {
			t.Errorf("got %v, %q; want ok without a reason", r.header, r.body)
		}
	}
	s.waitMetric("whsentry_tunnels", "0")
	s.waitMetric("whsentry_tunnels_total", "1")
	want := "POST /hook?a=b HTTP/1.1\r\nHost: " + o.addr + "\r\nUser-Agent: Webhook Sentry/0.1\r\nContent-Length: 3\r\n\r\nabc"
	if got := o.bytes(); got != want+want || o.connections() != 1 {
		t.Errorf("got %q on %d connections; want %q twice on 1", got, o.connections(), want)
	}
	for i, line := range s.jsonLines(2) {
		if line["method"] != "POST" || line["url"] != "http://"+o.addr+"/hook?a=b" || line["upstream_addr"] != o.addr || line["conn_reused"] != (i == 1) {
			t.Errorf("got the line %v; want POST http://%s/hook?a=b, reused %v", line, o.addr, i == 1)
		}
		if _, there := line["connect_ms"]; there != (i == 0) {
			t.Errorf("got connect_ms %v in line %d; want it in the first alone", there, i)
		}
	}
	c.Close()
	s.stop(patience)
	if got := len(s.jsonLines(2)); got != 2 {
		t.Errorf("got %d lines; want 2, none for the CONNECT", got)
	}
}

// TestInspectedPieces: the request may come with the CONNECT, or byte by byte.
func TestInspectedPieces(t *testing.T) {
	t.Parallel()
	s, o := start(t, nil), answering(t, okResponse)
	t.Run("one packet", func(t *testing.T) {
		t.Parallel()
		c := s.dialFor(t)
		c.send(connectRequest(o) + inOrigin(o.addr, "/", "x") + inOrigin(o.addr, "/", "y"))
		c.receiveConnect()
		for range 2 {
			c.receive("POST").check(t, "200 OK", "")
		}
	})
	t.Run("bytes", func(t *testing.T) {
		t.Parallel()
		c := s.tunnelTo(t, o.addr)
		for _, b := range []byte(inOrigin(o.addr, "/", "x")) {
			c.send(string(b))
			time.Sleep(time.Millisecond) // so that each is read by itself
		}
		c.receive("POST").check(t, "200 OK", "")
	})
	t.Run("a head of many KiB", func(t *testing.T) {
		t.Parallel()
		c := s.tunnelTo(t, o.addr)
		for _, size := range []int{30_000, 10, 30_000} {
			c.send(inOrigin(o.addr, "/", "x", "X-Long: "+pattern(size)+"\r\n"))
			c.receive("POST").check(t, "200 OK", "")
		}
	})
	t.Run("a large CONNECT", func(t *testing.T) {
		t.Parallel()
		c := s.dialFor(t)
		c.open(o.addr, "X-Long: "+pattern(5000)+"\r\n")
		for range 2 {
			c.send(inOrigin(o.addr, "/", "x"))
			c.receive("POST").check(t, "200 OK", "")
		}
	})
	t.Run("HTTP/1.0 and Connection: close of the CONNECT", func(t *testing.T) {
		t.Parallel()
		c := s.dialFor(t)
		c.send("CONNECT " + o.addr + " HTTP/1.0\r\nConnection: close\r\n\r\n")
		c.receiveConnect()
		for range 2 {
			c.send(inOrigin(o.addr, "/", "x"))
			c.receive("POST").check(t, "200 OK", "")
		}
	})
}

// TestInspectedHost: a request inside is for the CONNECT's host and port, however it is written.
func TestInspectedHost(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, nil)
	o := answering(t, okResponse)
	_, port, _ := net.SplitHostPort(o.addr)
	for _, tt := range []struct{ name, target, host, reason string }{
		{"the CONNECT's port", "/", "hooks.test:" + port, ""},
		{"no port", "/", "hooks.test", ""},
		{"443", "/", "hooks.test:443", ""},
		{"other letters and a dot", "/", "HOOKS.test.", ""},
		{"absolute", "http://hooks.test:" + port + "/", "x", "1002"},
		{"absolute and Host", "http://hooks.test/", "hooks.test", ""},
		{"another port", "/", "hooks.test:80", "1002"},
		{"another name", "/", "other.test:" + port, "1002"},
		{"its address", "/", o.addr, "1002"},
		{"another absolute", "http://other.test/", "hooks.test", "1002"},
		{"absolute https", "https://hooks.test/", "hooks.test", "1002"},
		{"none", "/", "", "1002"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := s.tunnelTo(t, "hooks.test:"+port)
			c.send("GET " + tt.target + " HTTP/1.1\r\nHost: " + tt.host + "\r\n\r\n")
			if r := c.receive("GET"); r.reason() != tt.reason {
				t.Errorf("got %q with %q; want %q", r.status, r.reason(), tt.reason)
			}
		})
	}
}

// TestInspectedAbsolute: where a request inside has a URI, the Host that goes on is its, as that of any other request.
func TestInspectedAbsolute(t *testing.T) {
	t.Parallel()
	s, o := start(t, nil), answering(t, okResponse)
	c := s.tunnelTo(t, o.addr)
	for _, tt := range []struct{ uri, host, want string }{
		{o.addr, "127.0.0.1", o.addr}, {"127.0.0.1", o.addr, "127.0.0.1"}, {"127.0.0.1:443", o.addr, "127.0.0.1:443"},
	} {
		before := len(o.bytes())
		c.send("GET http://" + tt.uri + "/ HTTP/1.1\r\nHost: " + tt.host + "\r\n\r\n")
		c.receive("GET").check(t, "200 OK", "")
		if got := o.bytes()[before:]; !strings.Contains(got, "\r\nHost: "+tt.want+"\r\n") {
			t.Errorf("http://%s/ with the Host %s: got %q; want the Host %s", tt.uri, tt.host, got, tt.want)
		}
	}
}

// TestInspectedTLS: X-WhSentry-TLS inside means what it means elsewhere, and is never sent in clear text.
func TestInspectedTLS(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, jsonLog)
	o := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	at := o.to(hooksHost)
	c := s.tunnelTo(t, at)
	for range 2 {
		c.send(inOrigin(hooksHost, "/", "secret", "X-WhSentry-TLS: true\r\n"))
		c.receive("POST").check(t, "200 OK", "")
	}
	for i, line := range s.jsonLines(2) {
		if line["url"] != "https://"+hooksHost+"/" || line["tls_version"] != "TLSv1.3" || line["conn_reused"] != (i == 1) {
			t.Errorf("got the line %v; want https://%s/ over TLS 1.3, reused %v", line, hooksHost, i == 1)
		}
	}
	s.waitMetric(busyConnections, "0")
}

// TestInspectedRefusals are requests inside that are refused. None of them reaches the destination.
func TestInspectedRefusals(t *testing.T) {
	t.Parallel()
	s := start(t, jsonLog)
	o := answering(t, okResponse)
	for _, tt := range []struct {
		name, raw, status, reason, text string
		closing                         bool
	}{
		{"a misspelt field", inOrigin(o.addr, "/", "x", "X-WhSentry-TSL: true\r\n"), "400 Bad Request", "1002", "X-WhSentry-TSL", false},
		{"one twice", inOrigin(o.addr, "/", "x", "X-WhSentry-TLS: no\r\nX-WhSentry-TLS: no\r\n"), "400 Bad Request", "1002", "X-WhSentry-TLS", false},
		{"WebSocket with TLS", "GET / HTTP/1.1\r\nHost: " + o.addr + "\r\nX-WhSentry-TLS: true\r\nConnection: Upgrade\r\nUpgrade: h2c, WebSocket\r\n\r\n", "400 Bad Request", "1002", "X-WhSentry", false},
		{"CONNECT", connectRequest(o), "405 CONNECT is not allowed inside a tunnel (1015)", "1015", "inside", false},
		{"a field without a colon", "GET / HTTP/1.1\r\nHost: " + o.addr + "\r\nnonsense\r\n\r\n", "400 Bad Request", "1002", "colon", true},
		{"bare LF", "GET / HTTP/1.1\nHost: " + o.addr + "\n\n", "400 Bad Request", "1002", "LF", true},
		{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: " + o.addr + "\r\n\r\n", "400 Bad Request", "1002", "version", true},
		{"a head that is too large", "GET / HTTP/1.1\r\nHost: " + o.addr + "\r\nX: " + pattern(70_000) + "\r\n\r\n", "431 Request Header Fields Too Large", "1012", "head", true},
		{"a request line that is too large", "GET /" + pattern(70_000) + " HTTP/1.1\r\n\r\n", "431 Request Header Fields Too Large", "1012", "head", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := s.tunnelTo(t, o.addr)
			c.send(tt.raw)
			r := c.receive("POST")
			r.check(t, tt.status, tt.reason)
			r.checkText(t, tt.text)
			if !tt.closing {
				c.send(inOrigin(o.addr, "/next", "x"))
				c.receive("POST").check(t, "200 OK", "")
				c.Close()
			} else if !r.closing || !c.ended() {
				t.Errorf("the connection goes on; want it closed")
			}
		})
	}
	for _, part := range strings.Split(o.bytes(), "POST ") {
		if part != "" && !strings.HasPrefix(part, "/next") {
			t.Errorf("%q has reached the destination", part)
		}
	}
	for _, line := range s.jsonLines(9 + 4) {
		if line["method"] == "CONNECT" && line["reason_code"] != 1015.0 {
			t.Errorf("got the line %v for the CONNECT; want none", line)
		}
	}
}

// TestUpgradeStaysOpaque: WebSocket is passed on unseen, both ways.
func TestUpgradeStaysOpaque(t *testing.T) {
	t.Parallel()
	s := start(t, jsonLog)
	const upgrade = "GET /chat HTTP/1.1\r\nHost: anything\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	got := make(chan string, 1)
	o := newOrigin(t, func(c *originConn) {
		head := make([]byte, len(upgrade)+2)
		io.ReadFull(c.r, head)
		got <- string(head)
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02hi")
		io.Copy(c, c.r)
	})
	c := s.tunnelTo(t, o.addr)
	c.send(upgrade + "\x81\x00")
	if head := <-got; head != upgrade+"\x81\x00" {
		t.Errorf("got %q at the destination; want what was sent", head)
	}
	if head := c.readHead(); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		t.Errorf("got %q; want the 101", head)
	}
	c.send("frame")
	c.halfClose()
	if rest, err := io.ReadAll(c.r); string(rest) != "\x81\x02hiframe" || err != nil {
		t.Errorf("got %q, %v; want the frames", rest, err)
	}
	if line := s.jsonLines(1)[0]; line["method"] != "CONNECT" || line["response_code"] != 200.0 || line["request_bytes"] != float64(len(upgrade)+2+5) {
		t.Errorf("got the line %v; want the CONNECT's, with %d bytes", line, len(upgrade)+7)
	}
}

// TestOpaqueOpenings: what is no request is passed on as it comes.
func TestOpaqueOpenings(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, tt := range []struct{ name, opening string }{
		{"TLS", "\x16\x03\x01\x02\x00\x01"},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
		{"SSH", "SSH-2.0-Go\r\n"},
		{"HTTP/0.9", "GET /\r\n"},
		{"a word", "PING"},
		{"part of a request line", "POST /hook HTTP/1."},
		{"a long word", pattern(100_000)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			o := newOrigin(t, func(c *originConn) {
				b := make([]byte, len(tt.opening))
				io.ReadFull(c.r, b)
				got <- string(b)
				io.WriteString(c, "answer")
			})
			c := s.tunnelTo(t, o.addr)
			c.send(tt.opening)
			if b := <-got; b != tt.opening {
				t.Errorf("got %q at the destination; want %q", b, tt.opening)
			}
			if answer, _ := io.ReadAll(c.r); string(answer) != "answer" {
				t.Errorf("got %q; want the answer", answer)
			}
		})
	}
	t.Run("the end within a word", func(t *testing.T) {
		t.Parallel()
		o := newOrigin(t, func(c *originConn) {
			all, _ := io.ReadAll(c.r)
			fmt.Fprintf(c, "got %s", all)
		})
		c := s.tunnelTo(t, o.addr)
		c.send("PIN")
		c.halfClose()
		if answer, _ := io.ReadAll(c.r); string(answer) != "got PIN" {
			t.Errorf("got %q; want got PIN", answer)
		}
	})
}

// TestServerSpeaksFirst: while nothing has come from the client, the destination's bytes are passed on at once.
func TestServerSpeaksFirst(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	t.Run("SMTP", func(t *testing.T) {
		t.Parallel()
		o := newOrigin(t, func(c *originConn) {
			io.WriteString(c, "220 mail.test ESMTP\r\n")
			for line, err := c.r.ReadString('\n'); err == nil; line, err = c.r.ReadString('\n') {
				io.WriteString(c, "250 "+line)
			}
		})
		c := s.tunnelTo(t, o.addr)
		for _, step := range []struct{ send, want string }{{"", "220 mail.test ESMTP\r\n"}, {"EHLO h\r\n", "250 EHLO h\r\n"}, {"QUIT\r\n", "250 QUIT\r\n"}} {
			c.send(step.send)
			if line, err := c.r.ReadString('\n'); line != step.want || err != nil {
				t.Fatalf("got %q, %v; want %q", line, err, step.want)
			}
		}
	})
	t.Run("and then HTTP", func(t *testing.T) {
		t.Parallel()
		o := newOrigin(t, func(c *originConn) {
			io.WriteString(c, "hello\n")
			for _, _, ok := c.request(); ok; _, _, ok = c.request() {
				io.WriteString(c, okResponse)
			}
		})
		c := s.tunnelTo(t, o.addr)
		c.r.ReadString('\n')
		c.send(inOrigin(o.addr, "/", "x"))
		// What it has said could be taken for the answer, and say that the proxy had not delivered the request.
		if all, err := io.ReadAll(c.r); len(all) > 0 || err != nil {
			t.Errorf("got %q, %v; want the end", all, err)
		}
		s.waitMetric(busyConnections, "0")
		if n := o.connections(); n != 1 || strings.Contains(o.bytes(), "POST") {
			t.Errorf("got %d connections and %q; want 1 without a request", n, o.bytes())
		}
	})
	t.Run("and ends", func(t *testing.T) {
		t.Parallel()
		o := newOrigin(t, func(c *originConn) {
			io.WriteString(c, "bye\n")
			c.Conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c.r)
		})
		c := s.tunnelTo(t, o.addr)
		if all, err := io.ReadAll(c.r); string(all) != "bye\n" || err != nil {
			t.Fatalf("got %q, %v; want bye and the end", all, err)
		}
		c.send(inOrigin(o.addr, "/secret", "x"))
		s.waitMetric(busyConnections, "0")
		if strings.Contains(o.bytes(), "secret") {
			t.Errorf("a request nobody can be answered for has reached the destination")
		}
	})
}

// testInspectedLimits: between the requests clientIdleTimeout holds, and a head has clientTimeout.
func testInspectedLimits(t *testing.T) {
	limited := func(t *testing.T, clientTimeout time.Duration) *sentry {
		return start(t, func(cfg *proxy.Config, _ *guard.Config) {
			cfg.ReadTimeout = time.Second
			cfg.ClientIdleTimeout = 2500 * time.Millisecond
			cfg.ClientTimeout = clientTimeout
			cfg.ConnectionLifetime = time.Second
			cfg.AccessLog.Type = accesslog.JSON
		})
	}
	o := answering(t, okResponse)
	t.Run("rest", func(t *testing.T) {
		t.Parallel()
		s := limited(t, time.Second)
		c := s.tunnelTo(t, o.addr)
		for range 2 {
			c.send(inOrigin(o.addr, "/", "x"))
			c.receive("POST").check(t, "200 OK", "")
			time.Sleep(1200 * time.Millisecond) // over readTimeout and connectionLifetime
		}
		if c.waitEnd(); len(s.jsonLines(2)) != 2 {
			t.Errorf("got %v; want two lines", s.jsonLines(2))
		}
	})
	t.Run("a head", func(t *testing.T) {
		t.Parallel()
		s := limited(t, 500*time.Millisecond)
		c := s.tunnelTo(t, o.addr)
		c.send("POST / HTTP/1.1\r\nHost:")
		r := c.receive("POST")
		r.check(t, "408 Request Timeout", "1017")
		s.waitMetric(busyConnections, "0")
	})
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		s := limited(t, 500*time.Millisecond)
		c := s.tunnelTo(t, o.addr)
		c.waitEnd()
		if line := s.jsonLines(1)[0]; line["method"] != "CONNECT" || line["reason_code"] != 1004.0 {
			t.Errorf("got the line %v; want the CONNECT's, 1004", line)
		}
	})
}

// TestPlainOpaque: connect.plain: opaque has requests inside go out as they are.
func TestPlainOpaque(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectPlain = proxy.PlainOpaque })
	o := answering(t, okResponse)
	c := s.tunnelTo(t, o.addr)
	raw := inOrigin("anything", "/", "x", "X-WhSentry-TLS: true\r\n")
	c.send(raw)
	c.receive("POST").check(t, "200 OK", "")
	if got := o.bytes(); got != raw {
		t.Errorf("got %q at the destination; want %q", got, raw)
	}
	c.Close()
	if line := s.logLines(1)[0]; !strings.Contains(line, " CONNECT "+o.addr+" 200 ") {
		t.Errorf("got the line %q; want the CONNECT's", line)
	}
}

// TestPlainUnderMITMIsOpaque: where what is plain stays opaque, be it all of it or a WebSocket, only TLS is intercepted.
func TestPlainUnderMITMIsOpaque(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	request := inOrigin("anything", "/", "x", "X-WhSentry-TLS: true\r\n")
	const upgrade = "GET /chat HTTP/1.1\r\nHost: anything\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	for _, tt := range []struct{ name, plain, begins string }{
		{"a request", proxy.PlainOpaque, request},
		{"a request that is announced slowly", proxy.PlainOpaque, request},
		{"a WebSocket", proxy.PlainInspect, upgrade},
		{"a WebSocket where all is", proxy.PlainOpaque, upgrade},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startMITM(t, root, issuer, func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectPlain = tt.plain })
			o := answering(t, okResponse)
			c := s.tunnelTo(t, o.addr)
			if o.connections() != 0 {
				t.Error("the destination was connected to before it was clear what the client begins with")
			}
			first := 1
			if !strings.Contains(tt.name, "slowly") {
				first = len(tt.begins)
			}
			c.send(tt.begins[:first])
			c.send(tt.begins[first:])
			c.receive("POST").check(t, "200 OK", "")
			if got := o.bytes(); got != tt.begins {
				t.Errorf("got %q at the destination; want %q", got, tt.begins)
			}
			c.Close()
			if line := s.logLines(1)[0]; !strings.Contains(line, " CONNECT "+o.addr+" 200 ") {
				t.Errorf("got the line %q; want the CONNECT's", line)
			}
		})
	}
	t.Run("nobody is there", func(t *testing.T) {
		s := startMITM(t, root, issuer, func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectPlain = proxy.PlainOpaque })
		_, to := boundSocket(t)
		c := s.tunnelTo(t, to)
		c.send(request)
		c.waitEnd()
		if line := s.logLines(1)[0]; !strings.Contains(line, " CONNECT "+to+" 200 ") || !strings.Contains(line, " 1006 ") {
			t.Errorf("got the line %q; want the CONNECT's, with 1006", line)
		}
	})
	t.Run("TLS is intercepted all the same", func(t *testing.T) {
		s := startMITM(t, root, issuer, func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectPlain = proxy.PlainOpaque })
		o := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
		at := o.to(hooksHost)
		in := s.dialFor(t).intercepted(issuer, at)
		in.send(inOrigin(at, "/", "x"))
		in.receive("POST").check(t, "200 OK", "")
	})
}

// TestConnectFields: fields for the proxy that a tunnel cannot give are refused, and those that do not exist.
func TestConnectFields(t *testing.T) {
	t.Parallel()
	s, o := start(t, nil), answering(t, okResponse)
	for _, tt := range []struct{ name, fields, reason string }{
		{"TLS", "X-WhSentry-TLS: 1\r\n", "1002"},
		{"no TLS", "X-WhSentry-TLS: off\r\n", ""},
		{"client certificate", "X-WhSentry-ClientCert: acme\r\n", "1002"},
		{"misspelt", "X-WhSentry-TLSS: off\r\n", "1002"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := s.dialFor(t).open(o.addr, tt.fields)
			if r.reason() != tt.reason || tt.reason == "" && r.code() != 200 {
				t.Fatalf("got %q with %q; want %q", r.status, r.reason(), tt.reason)
			}
			if name, _, _ := strings.Cut(tt.fields, ":"); tt.reason != "" {
				r.checkText(t, name)
			}
		})
	}
}

// TestInspectedUnderMITM: a tunnel that begins with a request is served as such where others are intercepted.
func TestInspectedUnderMITM(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	s := startMITM(t, root, issuer, func(cfg *proxy.Config, g *guard.Config) {
		cfg.AccessLog.Type = accesslog.JSON
		g.PortDenyList = []uint16{25, 443}
	})
	plain := answering(t, okResponse)
	secure := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)

	c := s.tunnelTo(t, plain.addr)
	for range 2 {
		c.send(inOrigin(plain.addr, "/", "x"))
		c.receive("POST").check(t, "200 OK", "")
	}
	in := s.dialFor(t).intercepted(issuer, secure.to(hooksHost))
	in.send(inOrigin(secure.to(hooksHost), "/", "x"))
	in.receive("POST").check(t, "200 OK", "")
	c = s.tunnelTo(t, secure.to(hooksHost))
	c.send(inOrigin(hooksHost, "/", "x", "X-WhSentry-TLS: true\r\n"))
	c.receive("POST").check(t, "200 OK", "")
	c = s.tunnelTo(t, "127.0.0.1:80")
	c.send(inOrigin("127.0.0.1", "/", "x", "X-WhSentry-TLS: true\r\n"))
	r := c.receive("POST")
	r.check(t, "403 Forbidden", "1013")
	r.checkText(t, "443")
	c.send(inOrigin("127.0.0.1", "/", "x", "X-WhSentry-TSL: true\r\n"))
	c.receive("POST").check(t, "400 Bad Request", "1002")
	for _, line := range s.jsonLines(6) {
		if line["method"] != "POST" {
			t.Errorf("got the line %v; want those of the requests alone", line)
		}
	}
	if line := s.jsonLines(6)[4]; line["url"] != "https://127.0.0.1/" {
		t.Errorf("got the URL %v; want https://127.0.0.1/", line["url"])
	}
}

// TestInspectedPorts: TLS inside goes to 443 in place of 80, which connect.ports may not allow.
func TestInspectedPorts(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	s := startMITM(t, root, issuer, func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectPorts = []uint16{80} })
	c := s.tunnelTo(t, "127.0.0.1:80")
	c.send(inOrigin("127.0.0.1:443", "/", "x", "X-WhSentry-TLS: true\r\n"))
	r := c.receive("POST")
	r.check(t, "403 Forbidden", "1015")
	r.checkText(t, "443")
}

// TestInspectedOverTLS: a client of an https listener may tunnel http:// too.
func TestInspectedOverTLS(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
		httpsListener(t, cfg, root.Leaf(t, "", catest.Names("127.0.0.1")))
	})
	o := answering(t, okResponse)
	for _, opening := range []string{"PING", "GET / HTTP/1.1\r\nHost: " + o.addr + "\r\n\r\n"} {
		conn, err := tls.Dial("tcp", s.addr, clientConfig(root, "127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		c := newRawConn(t, conn)
		c.open(o.addr)
		c.send(opening[:3])
		c.send(opening[3:])
		if opening == "PING" {
			c.send("\r\n\r\n") // not before it goes on as it is
			eventually(t, "the word", func() bool { return strings.HasPrefix(o.bytes(), "PING\r\n") })
			continue
		}
		c.receive("GET").check(t, "200 OK", "")
		c.send(inOrigin(o.addr, "/", "x"))
		c.receive("POST").check(t, "200 OK", "")
	}
}

// A CONNECT whose head fills the buffer to its last byte leaves room for what is inside.
func TestConnectFillsTheBuffer(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	for _, size := range []int{4095, 4096, 4097, 8192} {
		head := "CONNECT " + o.addr + " HTTP/1.1\r\nHost: x\r\nX-Pad: \r\n\r\n"
		head = strings.Replace(head, "X-Pad: ", "X-Pad: "+strings.Repeat("p", size-len(head)), 1)
		c := s.dialFor(t)
		c.send(head)
		if status := c.readHead(); !strings.Contains(status, " 200 ") {
			t.Fatalf("%d bytes: got %q; want 200", size, status)
		}
		c.send(inOrigin(o.addr, "/", "x"))
		c.receive("POST").check(t, "200 OK", "")
	}
}
