package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"whsentry/ca"
	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
)

// TestTLSIsChosen is the table of SPEC section 4: what makes the proxy speak TLS to the destination. The origin
// speaks whatever the first byte says, and notes it.
func TestTLSIsChosen(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	var mu sync.Mutex
	secured := make(map[string]bool) // by path
	cfg := serving(root.Leaf(t, hooksHost))
	o := newOrigin(t, func(c *originConn) {
		first, err := c.r.Peek(1)
		if err != nil {
			return
		}
		isTLS := first[0] == 0x16
		if isTLS {
			conn := tls.Server(&packingConn{Conn: c.Conn, r: c.r}, cfg)
			c = &originConn{Conn: conn, r: newRawConn(t, conn).r}
		}
		for {
			req, _, ok := c.request()
			if !ok {
				return
			}
			mu.Lock()
			secured[req.URL.Path] = isTLS
			mu.Unlock()
			io.WriteString(c, okResponse)
		}
	})
	s := startTLS(t, root, nil, nil)
	_, port, _ := net.SplitHostPort(o.addr)

	tests := []struct {
		name, scheme, field string
		want                bool
	}{
		{"no field", "http", "", false},
		{"no field, scheme in capitals", "HTTP", "", false},
		{"true", "http", "X-WhSentry-TLS: true\r\n", true},
		{"1", "http", "X-WhSentry-TLS: 1\r\n", true},
		{"yes", "http", "X-WhSentry-TLS: yes\r\n", true},
		{"no", "http", "X-WhSentry-TLS: no\r\n", false},
		{"off", "http", "X-WhSentry-TLS: off\r\n", false},
		{"00", "http", "X-WhSentry-TLS: 00\r\n", true},
		{"0, 0", "http", "X-WhSentry-TLS: 0, 0\r\n", true},
		{"quoted false", "http", "X-WhSentry-TLS: \"false\"\r\n", true},
		{"TRUE", "http", "X-WhSentry-TLS: TRUE\r\n", true},
		{"field in small letters", "http", "x-whsentry-tls: true\r\n", true},
		{"field in capitals", "http", "X-WHSENTRY-TLS: true\r\n", true},
		{"white space around it", "http", "X-WhSentry-TLS: \t true \t\r\n", true},
		{"0", "http", "X-WhSentry-TLS: 0\r\n", false},
		{"false", "http", "X-WhSentry-TLS: false\r\n", false},
		{"False", "http", "X-WhSentry-TLS: False\r\n", false},
		{"FALSE", "http", "X-WHSENTRY-TLS:FALSE\r\n", false},
		{"false with white space", "http", "X-WhSentry-TLS: \tfalse \r\n", false},
		{"scheme in capitals", "HTTP", "X-WhSentry-TLS: true\r\n", true},
		{"scheme in mixed letters", "hTtP", "X-WhSentry-TLS: true\r\n", true},
		{"https", "https", "", true},
		{"HTTPS", "HTTPS", "", true},
		{"https and true", "https", "X-WhSentry-TLS: true\r\n", true},
		{"https and false", "https", "X-WhSentry-TLS: false\r\n", true},
		{"named by Connection", "http", "Connection: X-WhSentry-TLS\r\nX-WhSentry-TLS: true\r\n", true},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := fmt.Sprintf("/row%d", i)
			s.exchangeFor(t, "POST "+test.scheme+"://"+hooksHost+":"+port+path+" HTTP/1.1\r\nHost: x\r\n"+test.field+
				"Content-Length: 0\r\n\r\n").check(t, "200 OK", "")
			s.logLines(i + 1) // or the next one's line might come first
			mu.Lock()
			got, ok := secured[path]
			mu.Unlock()
			if !ok || got != test.want {
				t.Errorf("got TLS %v (arrived: %v); want %v", got, ok, test.want)
			}
		})
	}
	want := "http"
	for i, line := range s.logLines(len(tests)) {
		if want = "http"; tests[i].want {
			want = "https"
		}
		if !strings.Contains(line, fmt.Sprintf(" %s://%s:%s/row%d ", want, hooksHost, port, i)) {
			t.Errorf("%s: got the line %q; want %s in it", tests[i].name, line, want)
		}
	}
}

// TestTLSIsNeverPlain sends what must go over TLS to a server that speaks plain HTTP.
func TestTLSIsNeverPlain(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, nil)
	for _, test := range []struct{ name, scheme, field string }{
		{"field", "http", "X-WhSentry-TLS: true\r\n"},
		{"scheme in capitals", "HTTP", "X-WhSentry-TLS: true\r\n"},
		{"https", "https", ""},
		{"HTTPS and false", "HTTPS", "X-WhSentry-TLS: false\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			canary := newOrigin(t, func(c *originConn) {
				c.r.Peek(1)
				io.WriteString(c, okResponse)
				io.Copy(io.Discard, c.r)
			})
			_, port, _ := net.SplitHostPort(canary.addr)
			r := s.exchangeFor(t, "POST "+test.scheme+"://"+hooksHost+":"+port+"/secret HTTP/1.1\r\nHost: x\r\n"+test.field+
				"Authorization: secret\r\nContent-Length: 6\r\n\r\nsecret")
			r.check(t, "502 Bad Gateway", "1005")
			r.checkText(t, "TLS handshake with hooks.test failed: the server answered with plain HTTP instead of TLS")
			for _, leak := range []string{"POST", "secret", "Authorization"} {
				if strings.Contains(canary.bytes(), leak) {
					t.Errorf("%q left in plain text: %q", leak, canary.bytes())
				}
			}
			if n := canary.connections(); n != 1 {
				t.Errorf("got %d connections; want 1", n)
			}
		})
	}
}

// TestTLSDefaultPort looks at where the proxy connects, which on these ports nobody listens, by its own words.
func TestTLSDefaultPort(t *testing.T) {
	t.Parallel()
	s := startTLS(t, catest.Root(t, "Root"), nil, nil)
	for _, test := range []struct{ name, target, field, want string }{
		{"field", "http://127.0.0.1/", "X-WhSentry-TLS: true\r\n", "127.0.0.1:443"},
		{"https", "https://127.0.0.1/", "", "127.0.0.1:443"},
		{"empty port", "https://127.0.0.1:/", "", "127.0.0.1:443"},
		{"explicit port", "https://127.0.0.1:1023/", "", "127.0.0.1:1023"},
		{"explicit port 80", "http://127.0.0.1:80/", "X-WhSentry-TLS: true\r\n", "127.0.0.1:443"},
		{"explicit port 80, https", "https://127.0.0.1:80/", "", "127.0.0.1:80"},
		{"explicit port 80, https and field", "https://127.0.0.1:80/", "X-WhSentry-TLS: true\r\n", "127.0.0.1:80"},
		{"explicit port, field", "http://127.0.0.1:1023/", "X-WhSentry-TLS: true\r\n", "127.0.0.1:1023"},
		{"plain", "http://127.0.0.1/", "X-WhSentry-TLS: false\r\n", "127.0.0.1:80"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if conn, err := net.Dial("tcp", test.want); err == nil {
				conn.Close()
				t.Skipf("something listens on %s", test.want)
			}
			r := s.exchangeFor(t, "GET "+test.target+" HTTP/1.1\r\nHost: x\r\n"+test.field+"\r\n")
			r.check(t, "502 Bad Gateway", "1006")
			if text := r.header.Get("X-Whsentry-Reason"); !strings.Contains(text+" ", test.want+" ") && !strings.Contains(text, test.want+":") {
				t.Errorf("got the reason %q; want %q in it", text, test.want)
			}
		})
	}
}

// TestTLSHello is what a destination is told before it has proved who it is.
func TestTLSHello(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	cert := root.Leaf(t, hooksHost, catest.Names(hooksHost, "127.0.0.1"))
	s := startTLS(t, root, nil, nil)
	for _, test := range []struct{ name, host, sni string }{
		{"name", hooksHost, hooksHost},
		{"other letters", "HOOKS.Test", hooksHost},
		{"trailing dot", hooksHost + ".", hooksHost},
		{"address", "127.0.0.1", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := answeringTLS(t, serving(cert), okResponse)
			s.exchangeFor(t, overTLS(o.to(test.host), "/", "")).check(t, "200 OK", "")
			hello := o.hellos[0]
			if hello.ServerName != test.sni {
				t.Errorf("got SNI %q; want %q", hello.ServerName, test.sni)
			}
			if got := fmt.Sprint(hello.SupportedProtos); got != "[http/1.1]" {
				t.Errorf("got ALPN %s; want [http/1.1]", got)
			}
			for _, v := range hello.SupportedVersions {
				if v < tls.VersionTLS12 {
					t.Errorf("got an offer of %s; want TLS 1.2 and 1.3", tls.VersionName(v))
				}
			}
			if want := "Host: " + o.to(test.host) + "\r\n"; !strings.Contains(o.decrypted(), want) {
				t.Errorf("got %q inside; want %q in it", o.decrypted(), want)
			}
		})
	}
}

// TestTLSFailures is each way in which a destination's TLS can be wrong, to the client's answer.
func TestTLSFailures(t *testing.T) {
	root := catest.Root(t, "Known Root", catest.RSA(t, 2048))
	good := serving(root.Leaf(t, hooksHost))
	withCert := func(c tls.Certificate) func(net.Conn) { return handshaking(serving(c)) }
	say := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			c.Read(make([]byte, 1))
			io.WriteString(c, text)
			io.Copy(io.Discard, c)
		}
	}
	old := good.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	s := startTLS(t, root, nil, func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectTimeout = 5 * time.Second })
	short := startTLS(t, root, nil, func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectTimeout = time.Second })

	tests := []struct {
		name   string
		serve  func(net.Conn)
		s      *sentry
		reason string
		text   string
	}{
		{"expired", withCert(root.Leaf(t, hooksHost, catest.Expired())), s, "1007", "certificate expired on 2020-03-01"},
		{"not yet valid", withCert(root.Leaf(t, hooksHost, catest.NotYetValid())), s, "1007", "certificate is not valid before 2090-03-01"},
		{"wrong name", withCert(root.Leaf(t, "*.other.test")), s, "1007", "certificate is for *.other.test, not for hooks.test"},
		{"self-signed", withCert(catest.SelfSigned(t, hooksHost)), s, "1007", "certificate is self-signed"},
		{"unknown authority", withCert(catest.Root(t, "Stranger").Leaf(t, hooksHost)), s, "1007", `unknown authority, "Stranger"`},
		{"short key", withCert(root.Leaf(t, hooksHost, catest.RSA(t, 1024))), s, "1007", "has an RSA key of 1024 bits"},
		{"sha-1", withCert(root.Leaf(t, hooksHost, catest.Digest(5-2))), s, "1007", "is signed with SHA-1"},
		{"for clients", withCert(root.Leaf(t, hooksHost, catest.Usage(x509.ExtKeyUsageClientAuth))), s, "1007", "extended key usage"},
		{"control bytes in a name", withCert(catest.Root(t, "Evil\r\nX-Injected: 1").Leaf(t, hooksHost)), s, "1007", `"Evil\r\nX-Injected: 1"`},

		{"tls 1.1", handshaking(old), s, "1005", "the server supports neither TLS 1.2 nor TLS 1.3"},
		{"http/2 alone", say("\x15\x03\x03\x00\x02\x02\x78"), s, "1005", "the server does not speak HTTP/1.1 over TLS"},
		{"garbage", say("220 mail.test ESMTP\r\n"), s, "1005", "not TLS"},
		{"closed", func(c net.Conn) { c.Read(make([]byte, 4096)) }, s, "1005", "the server closed the connection during the TLS handshake"},
		{"reset", func(c net.Conn) { c.Read(make([]byte, 1)); c.(*net.TCPConn).SetLinger(0) }, s, "1005", "the server reset the connection"},
		{"closed within a record", say("\x16\x03\x03\x10\x00\x02"), short, "1004", "timed out in the TLS handshake with hooks.test after 1s"},

		{"stalled", func(c net.Conn) { io.Copy(io.Discard, c) }, short, "1004", "timed out in the TLS handshake with hooks.test after 1s"},
		{"a byte at a time", trickling("\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03" + strings.Repeat("r", 4000)), short, "1004", "timed out in the TLS handshake"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t, func(c *originConn) { test.serve(c.Conn) })
			_, port, _ := net.SplitHostPort(o.addr)
			began := time.Now()
			c := test.s.dialFor(t)
			c.send(overTLS(hooksHost+":"+port, "/secret", "secret"))
			r := c.receive("POST")
			r.check(t, "502 Bad Gateway", test.reason)
			r.checkText(t, test.text)
			if r.header.Get("X-Injected") != "" {
				t.Errorf("a certificate forged a field: %v", r.header)
			}
			if test.s == short && time.Since(began) < time.Second {
				t.Errorf("got the answer after %s; want at least 1s", time.Since(began))
			}
			if r.closing {
				t.Errorf("the client's connection is closed; want it open, for the body was read")
			}
			want := 1
			if slices.Contains([]string{"closed", "reset", "stalled"}, test.name) {
				want = 2 // not a byte of an answer: once more, without ML-KEM
			}
			if n := o.connections(); n != want {
				t.Errorf("got %d connections to the origin; want %d", n, want)
			}
		})
	}
}

// handshaking makes a handshake and answers whoever gets through it.
func handshaking(cfg *tls.Config) func(net.Conn) {
	return func(c net.Conn) {
		conn := tls.Server(c, cfg)
		if conn.Handshake() == nil {
			io.WriteString(conn, okResponse)
		}
		io.Copy(io.Discard, c)
	}
}

func trickling(text string) func(net.Conn) {
	return func(c net.Conn) {
		for i := range text {
			if _, err := io.WriteString(c, text[i:i+1]); err != nil {
				return
			}
			time.Sleep(2 * time.Millisecond) // the pace of the attack
		}
	}
}

// TestTLSBodyEnd is where a body ends with the connection: a close_notify makes it whole, and, for many servers know no
// better, a FIN between two records.
func TestTLSBodyEnd(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, nil)
	large := pattern(200 << 10)
	const head, chunkedHead = "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	polite := func(c *tlsConn) { c.CloseWrite() }
	fin := func(c *tlsConn) { c.tcp.CloseWrite() }
	torn := func(c *tlsConn) { // within a record
		c.tcp.Write([]byte("\x17\x03\x03\x01\x00half"))
		c.tcp.CloseWrite()
	}
	reset := func(c *tlsConn) { c.tcp.SetLinger(0); c.tcp.Close() }
	alerted := func(c *tlsConn) { c.tcp.Write([]byte("\x15\x03\x03\x00\x02\x02\x50")); c.tcp.CloseWrite() }

	tests := []struct {
		name, response string
		end            func(*tlsConn)
		whole          bool
	}{
		{"close_notify", head + "small", polite, true},
		{"close_notify, large", head + large, polite, true},
		{"fin", head + "small", fin, true},
		{"fin, large", head + large, fin, true},
		{"fin within a record", head + "small", torn, false},
		{"reset", head + "small", reset, false},
		{"forged alert", head + "small", alerted, false},
		{"fin before any of it", head, fin, true},
		{"close_notify before any of it", head, polite, true},
		{"fin before the last chunk", chunkedHead + "5\r\nsmall\r\n", fin, false},
		{"fin within the length", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsmall", fin, false},
		{"fin within the head", "HTTP/1.1 200 OK\r\n", fin, false},
		{"fin after the last chunk", chunkedHead + "5\r\nsmall\r\n0\r\n\r\n", fin, true},
		{"close_notify before the last chunk", chunkedHead + "5\r\nsmall\r\n", polite, false},
		{"close_notify within the length", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsmall", polite, false},
		{"fin after the length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall", fin, true},
	}
	for _, version := range tlsVersions {
		for _, test := range tests {
			t.Run(version.name+" "+test.name, func(t *testing.T) {
				t.Parallel()
				ended := make(chan struct{}, 2)
				o := newTLSOrigin(t, only(serving(root.Leaf(t, hooksHost)), version.version), func(c *tlsConn) {
					if c.request() {
						io.WriteString(c, test.response)
						test.end(c)
						waitArrived(c.tcp)
						ended <- struct{}{}
						io.Copy(io.Discard, c)
					}
				})
				large := len(test.response) > 100<<10
				for _, client := range []string{"1.1", "1.0"} {
					c := s.dialFor(t)
					c.send("POST https://" + o.to(hooksHost) + "/ HTTP/" + client + "\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
					r, err := c.tryReceive("POST")
					switch {
					case err != nil && !test.whole && large && client == "1.0": // reset before the head was read
					case err != nil:
						t.Errorf("HTTP/%s: %v", client, err)
					case test.whole && (r.code() != 200 || r.bodyErr != nil):
						t.Errorf("HTTP/%s: got %q, %v; want the whole response", client, r.status, r.bodyErr)
					case !test.whole && !large && r.reason() != "1011":
						t.Errorf("HTTP/%s: got %q with %q; want 502 with 1011", client, r.status, r.reason())
					case !test.whole && large && r.bodyErr == nil:
						t.Errorf("HTTP/%s: got a cut response as a whole one of %d bytes", client, len(r.body))
					}
					if !large {
						<-ended
					}
				}
				if n := o.connections(); n != 2 {
					t.Errorf("got %d connections; want 2, none used twice", n)
				}
			})
		}
	}
}

// TestTLSCloseNotifyAtRest says good-bye with the last response, or after it, and leaves TCP open: a POST sent on
// such a connection would be lost.
func TestTLSCloseNotifyAtRest(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, nil)
	for _, version := range tlsVersions {
		for _, packed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s packed=%v", version.name, packed), func(t *testing.T) {
				t.Parallel()
				leave, left := make(chan struct{}, 3), make(chan struct{}, 3)
				o := newTLSOrigin(t, only(serving(root.Leaf(t, hooksHost)), version.version), func(c *tlsConn) {
					if !c.request() {
						return
					}
					c.wire.packs = packed
					io.WriteString(c, okResponse)
					if !packed {
						<-leave
					}
					c.CloseWrite()
					if packed {
						c.wire.unpack()
					}
					waitArrived(c.tcp)
					left <- struct{}{}
					io.Copy(io.Discard, c.r)
				})
				t.Cleanup(func() { close(leave) })
				for i := range 3 {
					c := s.dialFor(t)
					c.send(overTLS(o.to(hooksHost), "/", "body"))
					c.receive("POST").check(t, "200 OK", "")
					leave <- struct{}{}
					<-left
					if n := o.connections(); n != i+1 {
						t.Errorf("got %d connections after %d requests; want one each", n, i+1)
					}
				}
			})
		}
	}
}

// TestTLSPool reuses a connection, and never one of another scheme.
func TestTLSPool(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	o := answeringTLS(t, serving(root.Leaf(t, hooksHost, catest.Names(hooksHost, "other.test"))), okResponse)
	s := startTLS(t, root, nil, func(cfg *proxy.Config, _ *guard.Config) { cfg.AccessLog.Type = accesslog.JSON })
	for i := range 3 {
		s.exchange(overTLS(o.to(hooksHost), "/", "body")).check(t, "200 OK", "")
		s.logLines(i + 1) // or the next one's line might come first
	}
	s.exchange("POST HTTPS://Hooks.Test.:"+o.port+"/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").check(t, "200 OK", "")
	s.logLines(4)
	if n := o.handshakes(); n != 1 {
		t.Errorf("got %d handshakes for four requests; want 1", n)
	}
	s.exchange(overTLS(o.to("other.test"), "/", "body")).check(t, "200 OK", "")
	s.logLines(5)
	if n := o.handshakes(); n != 2 {
		t.Errorf("got %d handshakes after a request to another name; want 2", n)
	}
	if o.state(1).DidResume {
		t.Errorf("a session went from one name to another")
	}
	if got := s.exchange("GET http://" + o.to(hooksHost) + "/ HTTP/1.1\r\nHost: x\r\n\r\n"); got.code() == 200 {
		t.Errorf("got %q to plain HTTP on a TLS port; want an error", got.status)
	}
	lines := s.jsonLines(6)
	for i, want := range []struct {
		reused  any
		version any
	}{{false, "TLSv1.3"}, {true, "TLSv1.3"}, {true, "TLSv1.3"}, {true, "TLSv1.3"}, {false, "TLSv1.3"}, {false, nil}} {
		l := lines[i]
		if l["conn_reused"] != want.reused || l["tls_version"] != want.version {
			t.Errorf("line %d: got reused %v, version %v; want %v, %v", i, l["conn_reused"], l["tls_version"], want.reused, want.version)
		}
		if _, timed := l["tls_ms"]; timed != (want.version != nil && want.reused == false) {
			t.Errorf("line %d: got tls_ms %v; want it where there was a handshake", i, l["tls_ms"])
		}
	}
}

// TestTLSResumption resumes sessions for the same host and port, and for no other.
func TestTLSResumption(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, nil)
	for _, version := range tlsVersions {
		t.Run(version.name, func(t *testing.T) {
			cfg := only(serving(root.Leaf(t, hooksHost)), version.version)
			cfg.SetSessionTicketKeys([][32]byte{{1}}) // the same at both ports
			closing := strings.Replace(okResponse, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1)
			a, b := answeringTLS(t, cfg, closing), answeringTLS(t, cfg, closing)
			for i, step := range []struct {
				o      *tlsOrigin
				n      int
				resume bool
			}{{a, 0, false}, {a, 1, true}, {b, 0, false}, {b, 1, true}, {a, 2, true}} {
				s.exchangeFor(t, overTLS(step.o.to(hooksHost), "/", "x")).check(t, "200 OK", "")
				if got := step.o.state(step.n).DidResume; got != step.resume {
					t.Errorf("request %d: got resumed %v; want %v", i, got, step.resume)
				}
			}
		})
	}
}

// TestTLSRecords counts the records in which requests arrive.
func TestTLSRecords(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, nil)
	for _, version := range tlsVersions {
		for _, test := range []struct {
			name string
			size int
			want int
		}{{"empty", 0, 1}, {"10 KiB", 10 << 10, 1}, {"15 KiB", 15 << 10, 1}, {"40 KiB", 40 << 10, 3}} {
			t.Run(version.name+" "+test.name, func(t *testing.T) {
				o := answeringTLS(t, only(serving(root.Leaf(t, hooksHost)), version.version), okResponse)
				s.exchangeFor(t, overTLS(o.to(hooksHost), "/", pattern(test.size))).check(t, "200 OK", "")
				data := strings.Count(string(records(o.bytes())), "\x17")
				if version.version == tls.VersionTLS13 {
					data-- // the Finished looks the same
				}
				if data != test.want {
					t.Errorf("got %d records of data; want %d", data, test.want)
				}
			})
		}
	}
}

// testTLSLargeRequest sends more than the destination's socket takes at once. A TLS 1.3 server's session tickets lie
// unread meanwhile, and are no answer.
func testTLSLargeRequest(t *testing.T) {
	root := catest.Root(t, "Root")
	body := pattern(6 << 20)
	s := startTLS(t, root, nil, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.ClientIdleTimeout = 2 * time.Second // so that the sweeper comes round often
	})
	for _, version := range tlsVersions {
		for _, slow := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s slow=%v", version.name, slow), func(t *testing.T) {
				t.Parallel()
				cfg := only(serving(root.Leaf(t, hooksHost)), version.version)
				pause := func() {
					if slow { // so that the writes block for several rounds of the sweeper
						time.Sleep(500 * time.Millisecond)
					}
				}
				// The tickets come after the client's Finished, as most servers send them, and late: when a write blocks already.
				cfg.ClientAuth = tls.RequestClientCert
				cfg.VerifyConnection = func(tls.ConnectionState) error { pause(); return nil }
				o := newTLSOrigin(t, cfg, func(c *tlsConn) {
					c.tcp.SetReadBuffer(256 << 10)
					for {
						if pause(); !c.request() {
							return
						}
						io.WriteString(c, okResponse)
					}
				})
				c := s.dialFor(t)
				for range 2 {
					c.send(overTLS(o.to(hooksHost), "/", body))
					c.receive("POST").check(t, "200 OK", "")
				}
				if n := o.connections(); n != 1 {
					t.Errorf("got %d connections; want 1, used twice", n)
				}
			})
		}
	}
}

// TestTLSEarlyAnswer answers before the body has arrived, and takes no more of it.
func TestTLSEarlyAnswer(t *testing.T) {
	root := catest.Root(t, "Root")
	body := pattern(4 << 20)
	const refusal = "HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nmuch"
	s := startTLS(t, root, nil, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = 3 * time.Second })
	for _, version := range tlsVersions {
		for _, closes := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s closes=%v", version.name, closes), func(t *testing.T) {
				t.Parallel()
				hold := make(chan struct{})
				o := newTLSOrigin(t, only(serving(root.Leaf(t, hooksHost)), version.version), func(c *tlsConn) {
					c.r.Peek(1)
					io.WriteString(c, refusal)
					if closes {
						c.Close()
						return
					}
					<-hold
				})
				t.Cleanup(func() { close(hold) })
				c := s.dialFor(t)
				c.send(overTLS(o.to(hooksHost), "/", body))
				c.receive("POST").check(t, "413 Too Large", "")
				if n := o.connections(); n != 1 {
					t.Errorf("got %d connections; want 1", n)
				}
			})
		}
	}
}

// TestTLSHandshakeAbandoned is a client that leaves while the destination's handshake stalls.
func TestTLSHandshakeAbandoned(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, nil)
	ended := make(chan struct{})
	o := newOrigin(t, func(c *originConn) {
		io.Copy(io.Discard, c.r)
		close(ended)
	})
	_, port, _ := net.SplitHostPort(o.addr)
	c := s.dial()
	c.send(overTLS(hooksHost+":"+port, "/abandoned", "x"))
	eventually(t, "the ClientHello", func() bool { return len(o.bytes()) > 0 })
	c.abort()
	<-ended
	if line := s.logLines(1)[0]; !strings.Contains(line, "/abandoned 499 ") {
		t.Errorf("got the line %q; want the status 499", line)
	}
	s.waitMetric(busyConnections, "0")
}

// TestTLSHandshakesCount within maxConnectionsPerDestination.
func TestTLSHandshakesCount(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxConnectionsPerDestination = 1 })
	o := swallowing(t)
	_, port, _ := net.SplitHostPort(o.addr)
	first := s.dial()
	first.send(overTLS(hooksHost+":"+port, "/", "x"))
	eventually(t, "the ClientHello", func() bool { return len(o.bytes()) > 0 })
	r := s.exchange(overTLS(hooksHost+":"+port, "/", "x"))
	r.check(t, "503 Service Unavailable", "1014")
	o.closeAll()
	eventually(t, "the second attempt, in the first one's place", func() bool { return o.connections() == 2 })
	o.closeAll()
	first.receive("POST").check(t, "502 Bad Gateway", "1005")
	if n := o.connections(); n != 2 {
		t.Errorf("got %d connections; want 2", n)
	}
}

// TestTLSAtMostOnce closes a connection that is used again after it has read the second request.
func TestTLSAtMostOnce(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, nil)
	for _, version := range tlsVersions {
		for _, test := range []struct {
			method, status, reason string
			connections, requests  int
		}{
			{"POST", "502 Bad Gateway", "1011", 1, 2},
			{"PATCH", "502 Bad Gateway", "1011", 1, 2},
			{"PUT", "200 OK", "", 2, 3},
			{"GET", "200 OK", "", 2, 3},
		} {
			for _, polite := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s %s polite=%v", version.name, test.method, polite), func(t *testing.T) {
					t.Parallel()
					o := newTLSOrigin(t, only(serving(root.Leaf(t, hooksHost)), version.version), func(c *tlsConn) {
						for i := 0; c.request(); i++ {
							if c.number == 0 && i == 1 {
								if polite {
									c.Close()
								}
								return
							}
							io.WriteString(c, okResponse)
						}
					})
					c := s.dialFor(t)
					c.send(overTLS(o.to(hooksHost), "/", "x"))
					c.receive("POST").check(t, "200 OK", "")
					c.send(strings.Replace(overTLS(o.to(hooksHost), "/", "x"), "POST", test.method, 1))
					c.receive(test.method).check(t, test.status, test.reason)
					if got := strings.Count(o.decrypted(), " / HTTP/1.1\r\n"); got != test.requests || o.connections() != test.connections {
						t.Errorf("got %d requests on %d connections; want %d on %d", got, o.connections(), test.requests, test.connections)
					}
				})
			}
		}
	}
}

// TestTLSLeftover sends more than the response, in a record of its own that comes in one packet with it: it must not
// become the answer to another request.
func TestTLSLeftover(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, nil)
	for _, version := range tlsVersions {
		for _, extra := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "\n"} {
			for _, first := range []string{okResponse, "HTTP/1.1 204 No Content\r\n\r\n", chunked("ok", 2)} {
				t.Run(version.name, func(t *testing.T) {
					o := newTLSOrigin(t, only(serving(root.Leaf(t, hooksHost)), version.version), func(c *tlsConn) {
						for c.request() {
							c.wire.packs = true
							io.WriteString(c, first)
							io.WriteString(c, extra)
							c.wire.unpack()
							c.wire.packed = nil
						}
					})
					for i := range 2 {
						if r := s.exchangeFor(t, overTLS(o.to(hooksHost), "/", "x")); r.body == "evil" || r.code() >= 300 {
							t.Errorf("request %d: got %q, %q; want the response to it", i, r.status, r.body)
						}
					}
					if n := o.connections(); n != 2 {
						t.Errorf("got %d connections; want 2", n)
					}
				})
			}
		}
	}
}

// TestTLSInsecure accepts any certificate where that is asked for, and still speaks TLS.
func TestTLSInsecure(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startTLS(t, root, func(cfg *ca.Config) { cfg.InsecureSkipVerify = true }, nil)
	for name, cert := range map[string]tls.Certificate{
		"expired": root.Leaf(t, hooksHost, catest.Expired()), "wrong name": root.Leaf(t, "other.test"),
		"self-signed": catest.SelfSigned(t, hooksHost), "short key": root.Leaf(t, hooksHost, catest.RSA(t, 1024)),
	} {
		t.Run(name, func(t *testing.T) {
			o := answeringTLS(t, serving(cert), okResponse)
			s.exchangeFor(t, overTLS(o.to(hooksHost), "/", "x")).check(t, "200 OK", "")
			if o.handshakes() != 1 {
				t.Errorf("got %d handshakes; want 1", o.handshakes())
			}
		})
	}
	plain := answering(t, okResponse)
	s.exchange(overTLS(plain.addr, "/", "x")).check(t, "502 Bad Gateway", "1005")
}

// TestTLSReload changes whom the proxy trusts while connections are pooled and sessions kept.
func TestTLSReload(t *testing.T) {
	t.Parallel()
	root, other := catest.Root(t, "Root"), catest.Root(t, "Other")
	o := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	extra := catest.File(t, "extra.pem", root.PEM())
	s := startTLS(t, root, func(cfg *ca.Config) { cfg.Bundle.ExtraFile = extra }, nil)
	s.exchange(overTLS(o.to(hooksHost), "/1", "x")).check(t, "200 OK", "")
	s.exchange(overTLS(o.to(hooksHost), "/2", "x")).check(t, "200 OK", "")
	if n := o.connections(); n != 1 {
		t.Fatalf("got %d connections; want 1", n)
	}

	extra = catest.File(t, "extra.pem", other.PEM())
	if err := s.reload(nil); err != nil {
		t.Fatalf("reload: %v", err)
	}
	r := s.exchange(overTLS(o.to(hooksHost), "/3", "x"))
	r.check(t, "502 Bad Gateway", "1007")
	r.checkText(t, "unknown authority")
	if strings.Contains(o.decrypted(), "/3") {
		t.Errorf("a request reached a destination that is no longer trusted")
	}

	extra = catest.File(t, "extra.pem", root.PEM())
	if err := s.reload(nil); err != nil {
		t.Fatalf("reload: %v", err)
	}
	s.exchange(overTLS(o.to(hooksHost), "/4", "x")).check(t, "200 OK", "")
}

// testTrickledRecord sends an answer's TLS record in pieces, each soon enough, all of them later than readTimeout: bytes
// that have come end the idleness, whole record or not.
func testTrickledRecord(t *testing.T) {
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = 2 * time.Second })
	o := newTLSOrigin(t, serving(root.Leaf(t, hooksHost)), func(c *tlsConn) {
		if !c.request() {
			return
		}
		c.wire.packs = true
		io.WriteString(c, okResponse)
		for piece := range slices.Chunk(c.wire.packed, len(c.wire.packed)/7+1) {
			c.wire.Conn.Write(piece)
			time.Sleep(400 * time.Millisecond) // what a trickle is
		}
	})
	r := s.exchangeFor(t, overTLS(o.to(hooksHost), "/", "x"))
	r.check(t, "200 OK", "")
}
