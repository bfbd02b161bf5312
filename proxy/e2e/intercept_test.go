package e2e

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"whsentry/ca"
	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
)

// startMITM starts a proxy that trusts root and intercepts tunnels as issuer.
func startMITM(t *testing.T, root, issuer *catest.Authority, change func(cfg *proxy.Config, g *guard.Config)) *sentry {
	t.Helper()
	certFile, keyFile := issuer.Files(t)
	clients := tenants(t, root)
	return startTLS(t, root, func(cfg *ca.Config) {
		clients(cfg)
		cfg.MITMIssuer = ca.KeyPairFiles{CertFile: certFile, KeyFile: keyFile}
	}, func(cfg *proxy.Config, g *guard.Config) {
		cfg.ConnectMode = proxy.ConnectMITM
		if change != nil {
			change(cfg, g)
		}
	})
}

// TestInterceptLeaf looks at the certificate that a client sees: it is for the CONNECT host, whatever the SNI says.
func TestInterceptLeaf(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	s := startMITM(t, root, issuer, nil)
	o := answeringTLS(t, serving(root.Leaf(t, "", catest.Names(hooksHost, "a_b.test", "127.0.0.1"))), okResponse)
	for _, test := range []struct{ name, host, sni, valid string }{
		{"name", hooksHost, hooksHost, hooksHost},
		{"other letters", "HOOKS.test", hooksHost, hooksHost},
		{"trailing dot", hooksHost + ".", hooksHost, hooksHost},
		{"underscore", "a_b.test", "a_b.test", "a_b.test"},
		{"address", "127.0.0.1", "", "127.0.0.1"},
		{"other SNI", hooksHost, "evil.test", hooksHost},
		{"other SNI for an address", "127.0.0.1", "evil.test", "127.0.0.1"},
		{"no SNI", hooksHost, "", hooksHost},
	} {
		for _, version := range tlsVersions {
			t.Run(test.name+" "+version.name, func(t *testing.T) {
				c := s.dialFor(t)
				if r := c.open(o.to(test.host)); r.code() != http.StatusOK {
					t.Fatalf("got %q; want 200", r.status)
				}
				cfg := only(clientConfig(issuer, test.sni), version.version)
				cfg.InsecureSkipVerify = true // verified below, by the name that should count
				in := c.secure(cfg)
				state := in.Conn.(*tls.Conn).ConnectionState()
				leaf := state.PeerCertificates[0]
				if err := leaf.VerifyHostname(test.valid); err != nil {
					t.Errorf("the certificate is not for %s: %v", test.valid, err)
				}
				if err := leaf.CheckSignatureFrom(issuer.Certificate); err != nil {
					t.Errorf("the certificate is not the issuer's: %v", err)
				}
				if state.NegotiatedProtocol != "http/1.1" {
					t.Errorf("got ALPN %q; want http/1.1", state.NegotiatedProtocol)
				}
				in.send(inOrigin(o.to(test.host), "/", "x"))
				in.receive("POST").check(t, "200 OK", "")
			})
		}
	}
	for i, hello := range o.hellos {
		if strings.Contains(hello.ServerName, "evil") {
			t.Errorf("connection %d: the client's SNI reached the destination", i)
		}
	}
}

// TestInterceptRefusals are the answers to the CONNECT itself, in the status line as well. Each leaves one line.
func TestInterceptRefusals(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	o := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	s := startMITM(t, root, issuer, func(cfg *proxy.Config, _ *guard.Config) {
		for port := uint16(1); port < 65535; port++ {
			if port != 7 {
				cfg.ConnectPorts = append(cfg.ConnectPorts, port)
			}
		}
	})
	tests := []struct{ name, authority, fields, status, reason, text string }{
		{"address", "10.0.0.1:443", "", "403", "1000", "IP 10.0.0.1 is blocked"},
		{"mapped address", "[::ffff:10.0.0.1]:443", "", "403", "1000", "is blocked"},
		{"name", "no.such.name:443", "", "502", "1001", "no.such.name"},
		{"port", hooksHost + ":25", "", "403", "1013", "25"},
		{"connect.ports", hooksHost + ":7", "", "403", "1015", "CONNECT to port 7 is not allowed"},
		{"alias", o.to(hooksHost), alias("initech"), "400", "1010", "initech"},
		{"alias before the address", "10.0.0.1:443", alias("initech"), "400", "1010", "initech"},
		{"no port", hooksHost, "", "400", "1002", "has no port"},
		{"number", "2130706433:443", "", "400", "1002", "strict IP address"},
		{"body", o.to(hooksHost), "Content-Length: 1\r\n", "400", "1002", "body"},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := s.dialFor(t).open(test.authority, test.fields)
			s.logLines(i + 1) // or the next one's line might come first
			if !strings.HasPrefix(r.status, test.status+" ") || r.reason() != test.reason {
				t.Fatalf("got %q with %q; want %s with %s", r.status, r.reason(), test.status, test.reason)
			}
			if r.status != test.status+" "+r.header.Get("X-Whsentry-Reason")+" ("+test.reason+")" || !strings.Contains(r.status, test.text) {
				t.Errorf("got the status line %q, the reason %q; want %q in both", r.status, r.header.Get("X-Whsentry-Reason"), test.text)
			}
		})
	}
	lines := s.logLines(len(tests))
	for i, test := range tests {
		if !strings.Contains(lines[i], " CONNECT "+test.authority+" "+test.status+" ") {
			t.Errorf("%s: got the line %q", test.name, lines[i])
		}
	}
	if n := o.connections(); n != 0 {
		t.Errorf("got %d connections at the origin; want none", n)
	}
}

// TestInterceptInside is what becomes of requests in an intercepted tunnel, all in one.
func TestInterceptInside(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	s := startMITM(t, root, issuer, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.MaxResponseBodySize, cfg.AccessLog.Type = 1000, accesslog.JSON
	})
	cfg := serving(root.Leaf(t, hooksHost))
	cfg.ClientAuth = tls.RequestClientCert
	o := newTLSOrigin(t, cfg, func(c *tlsConn) {
		for {
			req, err := http.ReadRequest(c.r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			body := presented(c.ConnectionState()) + " " + req.Method + " " + req.RequestURI + " " + req.Host
			if req.URL.Path == "/large" {
				body = pattern(1001)
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-WhSentry-Reason: forged\r\nX-WhSentry-ReasonCode: 1000\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
	})
	at := o.to(hooksHost)
	in := s.dial().intercepted(issuer, at, alias("acme"))
	request := func(line, fields string) string { return line + " HTTP/1.1\r\n" + fields + "\r\n" }

	tests := []struct{ name, raw, status, reason, body string }{
		{"origin form", request("GET /a/../b?x=%2F", "Host: "+at+"\r\n"), "200 OK", "", "acme GET /a/../b?x=%2F " + at},
		{"absolute form", request("GET https://"+at+"/c", "Host: "+at+"\r\n"), "200 OK", "", "acme GET /c " + at},
		{"asterisk", request("OPTIONS *", "Host: "+at+"\r\n"), "200 OK", "", "acme OPTIONS * " + at},
		{"other letters", request("GET HTTPS://HOOKS.test:"+o.port+"/d", "Host: Hooks.Test.:"+o.port+"\r\n"), "200 OK", "", "acme GET /d HOOKS.test:" + o.port},
		{"X-WhSentry-TLS: false", request("GET /e", "Host: "+at+"\r\nX-WhSentry-TLS: false\r\n"), "200 OK", "", "acme GET /e " + at},
		{"another certificate", request("GET /f", "Host: "+at+"\r\n"+alias("globex")), "200 OK", "", "globex GET /f " + at},
		{"unknown certificate", request("GET /g", "Host: "+at+"\r\n"+alias("initech")), "400 Bad Request", "1010", ""},
		{"double slash", request("GET //evil.test/", "Host: "+at+"\r\n"), "200 OK", "", "acme GET //evil.test/ " + at},
		{"other Host", request("GET /", "Host: evil.test:"+o.port+"\r\n"), "400 Bad Request", "1002", ""},
		{"other port in Host", request("GET /", "Host: "+hooksHost+":1\r\n"), "400 Bad Request", "1002", ""},
		{"no port in Host", request("GET /", "Host: "+hooksHost+"\r\n"), "400 Bad Request", "1002", ""},
		{"other URI", request("GET https://evil.test:"+o.port+"/", "Host: "+at+"\r\n"), "400 Bad Request", "1002", ""},
		{"other URI and Host", request("GET https://evil.test/", "Host: evil.test\r\n"), "400 Bad Request", "1002", ""},
		{"other port in URI", request("GET https://"+hooksHost+"/", "Host: "+at+"\r\n"), "400 Bad Request", "1002", ""},
		{"plain URI", request("GET http://"+at+"/", "Host: "+at+"\r\n"), "400 Bad Request", "1002", ""},
		{"other scheme", request("GET ftp://"+at+"/", "Host: "+at+"\r\n"), "400 Bad Request", "1003", ""},
		{"no Host", request("GET /", ""), "400 Bad Request", "1002", ""},
		{"fragment", request("GET /#x", "Host: "+at+"\r\n"), "400 Bad Request", "1002", ""},
		{"CONNECT", request("CONNECT "+at, "Host: "+at+"\r\n"), "405 CONNECT is not allowed inside a tunnel (1015)", "1015", ""},
		{"CONNECT elsewhere", request("CONNECT 10.0.0.1:443", "Host: 10.0.0.1:443\r\n"), "405 CONNECT is not allowed inside a tunnel (1015)", "1015", ""},
		{"CONNECT without Host", request("CONNECT "+at, ""), "400 malformed request: it has no Host (1002)", "1002", ""},
		{"CONNECT with a misspelt field", request("CONNECT "+at, "Host: "+at+"\r\nX-WhSentry-TSL: true\r\n"),
			"400 malformed request: it has the field X-WhSentry-TSL, which does not exist (1002)", "1002", ""},
		{"other scheme without Host", request("GET ftp://"+at+"/", ""), "400 Bad Request", "1002", ""},
		{"body", inOrigin(at, "/h", "hello"), "200 OK", "", "acme POST /h " + at},
		{"large response", request("GET /large", "Host: "+at+"\r\n"), "502 Bad Gateway", "1008", ""},
		{"after all that", request("GET /z", "Host: "+at+"\r\nProxy-Authorization: x\r\nUser-Agent: mine\r\n"), "200 OK", "", "acme GET /z " + at},
	}
	for _, test := range tests {
		in.send(test.raw)
		r, err := in.tryReceive("GET")
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if r.status != test.status || r.reason() != test.reason || test.reason == "" && r.body != test.body {
			t.Errorf("%s: got %q with %q (%q); want %q with %q (%q)", test.name, r.status, r.reason(), r.body, test.status, test.reason, test.body)
		}
		if r.closing {
			t.Errorf("%s: the connection is closed; want it open", test.name)
		}
	}
	for _, leak := range []string{"WhSentry", "Proxy-", "mine", "evil.test:"} {
		if strings.Contains(o.decrypted(), leak) {
			t.Errorf("%q reached the destination", leak)
		}
	}
	for i, line := range s.jsonLines(len(tests)) {
		wantReason := any(nil)
		if tests[i].reason != "" {
			wantReason = float64(1000 + int(tests[i].reason[2]-'0')*10 + int(tests[i].reason[3]-'0'))
		}
		if line["reason_code"] != wantReason {
			t.Errorf("%s: got the reason code %v in the log; want %v", tests[i].name, line["reason_code"], wantReason)
		}
		if url := line["url"].(string); tests[i].reason == "" && !strings.HasPrefix(strings.ToLower(url), "https://"+at+"/") && tests[i].name != "asterisk" {
			t.Errorf("%s: got the URL %q in the log; want https://%s", tests[i].name, url, at)
		}
	}
	if n := strings.Count(s.wholeLog(), `"method":"CONNECT"`); n != 4 {
		t.Errorf("got %d lines for a CONNECT; want 4, for those inside", n)
	}
}

// TestInterceptPipelined sends several requests at once, and what breaks the framing last.
func TestInterceptPipelined(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	o := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	s := startMITM(t, root, issuer, nil)
	at := o.to(hooksHost)
	in := s.dial().intercepted(issuer, at)
	in.send(inOrigin(at, "/1", pattern(30000)) + inOrigin(at, "/2", "x") + inOrigin("evil.test", "/3", "x") + inOrigin(at, "/4", "") +
		"GET /5 HTTP/1.1\r\nHost: " + at + "\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
	for i, want := range []string{"200 OK", "200 OK", "400 Bad Request", "200 OK", "400 Bad Request"} {
		if r := in.receive("POST"); r.status != want || r.closing != (i == 4) {
			t.Errorf("response %d: got %q, closing %v; want %q", i+1, r.status, r.closing, want)
		}
	}
	if !in.ended() {
		t.Errorf("the connection is open after a framing error")
	}
	if n := o.connections(); n != 1 {
		t.Errorf("got %d connections; want 1", n)
	}
}

// testInterceptFailures are destinations inside a tunnel that are not well.
func testInterceptFailures(t *testing.T) {
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	s := startMITM(t, root, issuer, nil)
	short := startMITM(t, root, issuer, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = time.Second })
	expired := answeringTLS(t, serving(root.Leaf(t, hooksHost, catest.Expired())), okResponse)
	plain := answering(t, okResponse)
	demands := answeringTLS(t, demanding(serving(root.Leaf(t, hooksHost)), catest.Root(t, "Stranger")), okResponse)
	silent := newTLSOrigin(t, serving(root.Leaf(t, hooksHost)), func(c *tlsConn) { io.Copy(io.Discard, c) })
	_, plainPort, _ := net.SplitHostPort(plain.addr)
	for _, test := range []struct{ name, at, reason, text string }{
		{"certificate", expired.to(hooksHost), "1007", "certificate expired on 2020-03-01"},
		{"plain", hooksHost + ":" + plainPort, "1005", "the server closed the connection during the TLS handshake"},
		{"our certificate", demands.to(hooksHost), "1005", "the server rejected the client certificate ("},
		{"silent", silent.to(hooksHost), "1004", "was idle for 1s"},
		{"nobody", hooksHost + ":1", "1006", "127.0.0.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := s
			if test.name == "silent" {
				s = short
			}
			in := s.dialFor(t).intercepted(issuer, test.at)
			for range 2 {
				in.send(inOrigin(test.at, "/secret", "x"))
				r := in.receive("POST")
				r.check(t, "502 Bad Gateway", test.reason)
				r.checkText(t, test.text)
			}
		})
	}
	t.Cleanup(func() { // once the rows have ended
		if strings.Contains(plain.bytes(), "secret") {
			t.Errorf("a request from inside a tunnel left in plain text: %q", plain.bytes())
		}
	})
}

// TestInterceptConnect are the ways in which clients begin.
func TestInterceptConnect(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	o := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	s := startMITM(t, root, issuer, nil)
	at := o.to(hooksHost)

	t.Run("HTTP/1.0", func(t *testing.T) {
		c := s.dialFor(t)
		c.send("CONNECT " + at + " HTTP/1.0\r\n\r\n")
		if r := c.receiveConnect(); r.code() != 200 {
			t.Fatalf("got %q; want 200", r.status)
		}
		in := c.secure(clientConfig(issuer, hooksHost))
		for range 2 {
			in.send(inOrigin(at, "/", "x"))
			in.receive("POST").check(t, "200 OK", "")
		}
		in.send("GET / HTTP/1.0\r\n\r\n")
		if r := in.receive("GET"); r.code() != 200 || !r.closing || !in.ended() {
			t.Errorf("got %q, closing %v to HTTP/1.0 inside; want 200 and the end", r.status, r.closing)
		}
	})
	t.Run("Connection: close", func(t *testing.T) {
		in := s.dialFor(t).intercepted(issuer, at, "Connection: close\r\n")
		for range 2 {
			in.send(inOrigin(at, "/", "x"))
			in.receive("POST").check(t, "200 OK", "")
		}
	})
	t.Run("after another request", func(t *testing.T) {
		c := s.dialFor(t)
		c.send(overTLS(at, "/", "x"))
		c.receive("POST").check(t, "200 OK", "")
		in := c.intercepted(issuer, at)
		in.send(inOrigin(at, "/", "x"))
		in.receive("POST").check(t, "200 OK", "")
	})
	t.Run("ClientHello in one packet with the CONNECT", func(t *testing.T) {
		c := s.dialFor(t)
		early := &eagerConn{packingConn: &packingConn{Conn: c.Conn, r: c.r, packs: true}, t: t}
		early.packed = []byte("CONNECT " + at + " HTTP/1.1\r\nHost: " + at + "\r\n\r\n")
		early.then = func() {
			if r := c.receiveConnect(); r.code() != 200 {
				t.Errorf("got %q; want 200", r.status)
			}
		}
		conn := tls.Client(early, clientConfig(issuer, hooksHost))
		in := &rawConn{t: t, Conn: conn, r: bufio.NewReader(conn)}
		in.send(inOrigin(at, "/", "x"))
		in.receive("POST").check(t, "200 OK", "")
	})
}

// eagerConn sends its first flight with what was packed before, and calls then before it first reads.
type eagerConn struct {
	*packingConn
	t    *testing.T
	then func()
}

func (e *eagerConn) Read(b []byte) (int, error) {
	if e.packs {
		e.unpack()
		e.then()
	}
	return e.packingConn.Read(b)
}

// testInterceptSlowHandshake never starts the handshake, or never ends it.
func testInterceptSlowHandshake(t *testing.T) {
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	o := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	s := startMITM(t, root, issuer, func(cfg *proxy.Config, _ *guard.Config) { cfg.ClientTimeout = 500 * time.Millisecond })
	for _, test := range []struct{ name, bytes string }{
		{"never started", ""},
		{"never ended", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := s.dialFor(t)
			began := time.Now()
			c.open(o.to(hooksHost))
			c.send(test.bytes)
			c.waitEnd()
			if took := time.Since(began); took < 200*time.Millisecond {
				t.Errorf("closed after %s; want about 500ms", took)
			}
		})
	}
}

// TestInterceptReload takes away what a tunnel was opened with.
func TestInterceptReload(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	certFile, keyFile := issuer.Files(t)
	o := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	current := map[string]ca.KeyPairFiles{"acme": keyPair(t, root.Leaf(t, "acme"))}
	s := startTLS(t, root, func(cfg *ca.Config) {
		cfg.ClientCerts, cfg.MITMIssuer = current, ca.KeyPairFiles{CertFile: certFile, KeyFile: keyFile}
	}, func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectMode = proxy.ConnectMITM })
	in := s.dial().intercepted(issuer, o.to(hooksHost), alias("acme"))
	in.send(inOrigin(o.to(hooksHost), "/", "x"))
	in.receive("POST").check(t, "200 OK", "")

	current = nil
	if err := s.reload(func(_ *proxy.Config, g *guard.Config) {}); err != nil {
		t.Fatalf("reload: %v", err)
	}
	in.send(inOrigin(o.to(hooksHost), "/", "x"))
	in.receive("POST").check(t, "400 Bad Request", "1010")

	if err := s.reload(func(_ *proxy.Config, g *guard.Config) { g.AllowList = nil }); err != nil {
		t.Fatalf("reload: %v", err)
	}
	in = s.dial()
	if r := in.open(o.to("127.0.0.1")); r.reason() != "1000" {
		t.Errorf("got %q; want a refusal after the reload", r.status)
	}
}

// TestInterceptReloadOfIssuer has another CA sign: what the one before has signed for ends with its next answer, as where
// its files have changed, and a tunnel whose client speaks no TLS goes on.
func TestInterceptReloadOfIssuer(t *testing.T) {
	t.Parallel()
	root, first, second := catest.Root(t, "Root"), catest.Root(t, "First"), catest.Root(t, "Second")
	pair := func(a *catest.Authority) ca.KeyPairFiles {
		certFile, keyFile := a.Files(t)
		return ca.KeyPairFiles{CertFile: certFile, KeyFile: keyFile}
	}
	current := pair(first)
	o := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	p := answering(t, okResponse)
	s := startTLS(t, root, func(cfg *ca.Config) { cfg.MITMIssuer = current }, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.ConnectMode = proxy.ConnectMITM
	})
	ask := func(c *rawConn, authority string) {
		t.Helper()
		c.send(inOrigin(authority, "/", "x"))
		c.receive("POST").check(t, "200 OK", "")
	}
	in, plain := s.dial().intercepted(first, o.to(hooksHost)), s.tunnelTo(t, p.addr)
	ask(in, o.to(hooksHost))
	ask(plain, p.addr)
	s.mustReload(nil)
	ask(in, o.to(hooksHost))
	current = pair(second)
	s.mustReload(nil)
	ask(in, o.to(hooksHost))
	in.waitEnd()
	ask(plain, p.addr)
	ask(s.dial().intercepted(second, o.to(hooksHost)), o.to(hooksHost))
}

// TestInterceptAfterOtherRequests intercepts a tunnel on a connection that has carried requests before, and leaves it at
// rest for longer than a connection without TLS keeps its goroutine.
func TestInterceptAfterOtherRequests(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	s := startMITM(t, root, issuer, nil)
	o := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	c := s.dialFor(t)
	for range 2 {
		if got := c.open("10.0.0.1:443").code(); got != http.StatusForbidden {
			t.Fatalf("got %d; want 403", got)
		}
	}
	in := c.intercepted(issuer, o.to(hooksHost))
	for range 2 {
		in.send(inOrigin(o.to(hooksHost), "/", "x"))
		in.receive("POST").check(t, "200 OK", "")
		in.SetReadDeadline(time.Now().Add(1700 * time.Millisecond))
		if _, err := in.r.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("at rest: got %v; want nothing to come", err)
		}
		in.SetReadDeadline(time.Now().Add(patience))
	}
}
