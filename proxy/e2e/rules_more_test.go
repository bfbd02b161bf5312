package e2e

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"whsentry/ca"
	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/policy"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
)

// TestClientByAddress goes by the address of the PROXY header, and knows nobody where that has none.
func TestClientByAddress(t *testing.T) {
	t.Parallel()
	o := answering(t, okResponse)
	rules := clientsOf(client("near", "", func(c *policy.ClientConfig) { c.Addresses = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")} }))
	s := startRuled(t, rules, nil, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.Listeners[0].ProxyProtocol, cfg.Listeners[0].ProxyProtocolFrom = true, []netip.Prefix{loopback}
	})
	for _, tt := range []struct{ header, status, reason string }{
		{"PROXY TCP4 10.1.2.3 127.0.0.1 1000 2000\r\n", "200 OK", ""},
		{"PROXY TCP6 ::ffff:10.1.2.3 ::1 1000 2000\r\n", "200 OK", ""},
		{"PROXY TCP4 10.2.2.3 127.0.0.1 1000 2000\r\n", "403 Forbidden", "1016"},
		{"PROXY UNKNOWN\r\n", "403 Forbidden", "1016"},
	} {
		s.exchangeFor(t, tt.header+get(o, "/")).check(t, tt.status, tt.reason)
	}
}

// TestDestinationsTLS trusts further roots, or keys, for the hosts of an entry alone, and no more once that is gone.
func TestDestinationsTLS(t *testing.T) {
	t.Parallel()
	root, corporate := catest.Root(t, "Root"), catest.Root(t, "Corporate")
	s := startTLS(t, root, nil, nil)
	o := answeringTLS(t, serving(corporate.Leaf(t, "", catest.Names(hooksHost, "other.test"))), okResponse)
	c := s.dial()
	ask := func(host, status, reason string) {
		t.Helper()
		c.send(overTLS(o.to(host), "/", "x"))
		c.receive("POST").check(t, status, reason)
	}
	ask(hooksHost, "502 Bad Gateway", "1007")
	s.policy.Destinations = []policy.DestinationConfig{{Hosts: []string{hooksHost}, CAFile: catest.File(t, "corp.pem", corporate.PEM())}}
	s.mustReload(nil)
	ask(hooksHost, "200 OK", "")
	ask(hooksHost, "200 OK", "")
	ask("other.test", "502 Bad Gateway", "1007")
	s.policy.Destinations = nil
	s.mustReload(nil)
	ask(hooksHost, "502 Bad Gateway", "1007") // neither a kept connection nor a session
}

// TestDestinationsTimes takes an entry's times in place of the global ones, longer ones too.
func TestDestinationsTimes(t *testing.T) {
	t.Parallel()
	slow := responding(t, func(c *originConn, _ string) bool {
		time.Sleep(400 * time.Millisecond) // longer than readTimeout, shorter than the entry's
		_, err := c.Write([]byte(okResponse))
		return err == nil
	})
	long, short := patience, 100*time.Millisecond
	entry := func(d *time.Duration) policy.Config {
		return policy.Config{Destinations: []policy.DestinationConfig{{Hosts: []string{"127.0.0.1"}, ReadTimeout: d}}}
	}
	s := startRuled(t, entry(&long), nil, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = 100 * time.Millisecond })
	s.exchange(get(slow, "/")).check(t, "200 OK", "")
	s.policy = entry(&short)
	s.mustReload(func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = patience })
	s.exchange(get(slow, "/")).check(t, "502 Bad Gateway", "1004")
	s.waitMetric(`whsentry_limit_reached_total{limit="destinations.readTimeout"}`, "1")
}

// TestOwnListeners are never a destination, whatever a list says.
func TestOwnListeners(t *testing.T) {
	t.Parallel()
	s := start(t, func(_ *proxy.Config, g *guard.Config) { g.InsecureSkipDenyList = true })
	for range 2 {
		s.exchange("GET http://"+s.addr+"/ HTTP/1.1\r\nHost: x\r\n\r\n").check(t, "403 Forbidden", "1000")
		s.exchange("GET "+s.metrics+"/ HTTP/1.1\r\nHost: x\r\n\r\n").check(t, "403 Forbidden", "1000")
		s.mustReload(nil)
	}
}

// TestClientHoldsItsPlace counts a request for as long as its client is slow to take the answer, and no longer.
func TestClientHoldsItsPlace(t *testing.T) {
	t.Parallel()
	one := 1
	large := pattern(8 << 20) // more than the system takes for a client that reads nothing
	for _, mode := range []string{proxy.IncompleteError, proxy.IncompletePass} {
		o := responding(t, func(c *originConn, body string) bool {
			answer := okResponse
			if body == "large" {
				answer = withLength(large)
			}
			_, err := io.WriteString(c, answer)
			return err == nil
		})
		billing := client("billing", billingToken, func(c *policy.ClientConfig) { c.MaxConnections = &one })
		s := startRuled(t, clientsOf(billing), nil, func(cfg *proxy.Config, _ *guard.Config) {
			cfg.MaxResponseBodySize, cfg.IncompleteResponses = 16<<20, mode
		})
		slow, other := s.dial(), s.dial()
		slow.send(with(post(o, "/", "large"), bearer(billingToken)))
		if _, err := slow.r.Peek(1); err != nil { // the answer has begun
			t.Fatal(err)
		}
		ask := func() string {
			other.send(with(get(o, "/"), bearer(billingToken)))
			return other.receive("GET").reason()
		}
		eventually(t, "the place to be taken", func() bool { return ask() == "1020" })
		if got := ask(); got != "1020" {
			t.Errorf("%s: got reason %q beside an answer that is not taken; want 1020", mode, got)
		}
		if r := slow.receive("POST"); r.body != large {
			t.Errorf("%s: got %d bytes of the answer; want %d", mode, len(r.body), len(large))
		}
		other.send(with(get(o, "/"), bearer(billingToken)))
		other.receive("GET").check(t, "200 OK", "")
	}
}

// TestExpectIsRefusedInOrder answers a client that waits for a 100 as one that does not: by the breaker, before the name
// is looked up, and counts what it finds.
func TestExpectIsRefusedInOrder(t *testing.T) {
	t.Parallel()
	_, refusing := boundSocket(t)
	s := startRuled(t, policy.Config{Breaker: policy.BreakerConfig{Failures: 1, OpenFor: time.Minute}}, nil, func(cfg *proxy.Config, g *guard.Config) {
		cfg.MaxConnectionsPerDestination = 1
		g.DNSServers = []netip.AddrPort{startResolver(t)}
	})
	waiting := func(authority string) *response {
		return s.exchange("POST http://" + authority + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
	}
	s.exchange("GET http://"+refusing+"/ HTTP/1.1\r\nHost: x\r\n\r\n").check(t, "502 Bad Gateway", "1006")
	waiting(refusing).check(t, "503 Service Unavailable", "1018")
	waiting("nowhere.example").check(t, "502 Bad Gateway", "1001")
	waiting("nowhere.example").check(t, "503 Service Unavailable", "1018")
	full := swallowing(t)
	s.dial().connectTo(full)
	waiting(full.addr).check(t, "503 Service Unavailable", "1014")
}

// TestDestinationsEgress connects from the entry's own address, in tunnels too, and in no family that it names none of.
func TestDestinationsEgress(t *testing.T) {
	t.Parallel()
	own, others := netip.MustParseAddr("127.0.0.8"), netip.MustParseAddr("127.0.0.7")
	rules := policy.Config{EgressAddresses: []netip.Addr{others, own}, Destinations: []policy.DestinationConfig{
		{Hosts: []string{"127.0.0.1", "::1"}, Egress: []netip.Addr{own}},
	}}
	s := startRuled(t, rules, nil, func(_ *proxy.Config, g *guard.Config) {
		g.EgressAddresses = rules.EgressAddresses
		g.AllowList = append(g.AllowList, netip.MustParsePrefix("::1/128"))
	})
	for range 4 { // each a host and port of its own, which the choice among all addresses goes by
		o := answering(t, okResponse)
		s.exchange(get(o, "/")).check(t, "200 OK", "")
		s.dial().connectTo(o)
		eventually(t, "both connections", func() bool { return o.connections() == 2 })
		for _, conn := range o.conns {
			if from := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); from != own {
				t.Errorf("got a connection from %s; want one from the entry's %s", from, own)
			}
		}
	}
	r := s.exchange("GET http://[::1]:1/ HTTP/1.1\r\nHost: x\r\n\r\n")
	r.check(t, "502 Bad Gateway", "1006")
	r.checkText(t, "no egress address of its family")
}

// TestDestinationsPins takes the keys of an entry for everything that a certificate is asked for, for its hosts alone.
func TestDestinationsPins(t *testing.T) {
	t.Parallel()
	root, stranger := catest.Root(t, "Root"), catest.Root(t, "Stranger")
	s := startTLS(t, root, nil, nil)
	leaf := stranger.Leaf(t, "", catest.Names("elsewhere.test"))
	pinned, other := answeringTLS(t, serving(leaf), okResponse), answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	sum := sha256.Sum256(leaf.Leaf.RawSubjectPublicKeyInfo)
	pin := "sha256/" + base64.StdEncoding.EncodeToString(sum[:])
	s.policy.Destinations = []policy.DestinationConfig{{Hosts: []string{hooksHost}, Pins: []string{pin}}}
	s.mustReload(nil)
	for _, tt := range []struct{ name, authority, fields, status, reason string }{
		{"the key", pinned.to(hooksHost), "", "200 OK", ""},
		{"the key, on a session that is resumed", pinned.to(hooksHost), "Connection: close\r\n", "200 OK", ""},
		{"the key, of another host", pinned.to("elsewhere2.test"), "", "502 Bad Gateway", "1007"},
		{"another key, well signed", other.to(hooksHost), "", "502 Bad Gateway", "1007"},
	} {
		r := s.exchange(overTLS(tt.authority, "/", "x", tt.fields))
		if r.status != tt.status || r.reason() != tt.reason {
			t.Errorf("%s: got %s %s (%s); want %s %s", tt.name, r.status, r.reason(), r.header.Get("X-Whsentry-Reason"), tt.status, tt.reason)
		}
	}
	if got := other.decrypted(); got != "" {
		t.Errorf("a server without the key has got %q", got)
	}
	s.policy.Destinations = nil
	s.mustReload(nil)
	s.exchange(overTLS(pinned.to(hooksHost), "/", "x")).check(t, "502 Bad Gateway", "1007") // neither a kept connection nor a session
}

// TestRenegotiationIsRefused is 1005 and never sends a request again, be the connection new or kept, and its body large.
func TestRenegotiationIsRefused(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, nil)
	for _, tt := range []struct {
		name, method string
		answered     int // requests on the connection before the one that it is asked at
		body         string
		begun        string // of the answer, when it is asked
		delivered    string
	}{
		{"a new connection", "POST", 0, "x", "", "maybe"},
		{"a kept connection", "PUT", 1, "x", "", "maybe"},
		{"a large body", "PUT", 0, pattern(4 << 20), "", "maybe"},
		{"a large body on a kept connection", "PUT", 1, pattern(4 << 20), "", "maybe"},
		{"within the answer's body", "POST", 0, "x", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha", "yes"},
	} {
		var requests atomic.Int32
		o := newOrigin(t, func(c *originConn) {
			r, err := catest.NewRenegotiator(c, serving(root.Leaf(t, hooksHost)))
			if err != nil {
				return
			}
			in := bufio.NewReader(r)
			for n := 0; ; n++ {
				req, err := http.ReadRequest(in) // of a large one the head
				if err != nil {
					return
				}
				requests.Add(1)
				if n == tt.answered {
					break
				}
				io.Copy(io.Discard, req.Body)
				io.WriteString(r, okResponse)
			}
			io.WriteString(r, tt.begun)
			if err := r.Ask(); err != nil {
				t.Errorf("%s: ask for a renegotiation: %v", tt.name, err)
			}
			io.Copy(io.Discard, c) // until the proxy closes it
		})
		_, port, _ := strings.Cut(o.addr, ":")
		request := strings.Replace(overTLS(hooksHost+":"+port, "/", tt.body), "POST", tt.method, 1)
		c := s.dial()
		for range tt.answered {
			c.send(request)
			c.receive(tt.method).check(t, "200 OK", "")
		}
		c.send(request)
		r := c.receive(tt.method)
		if r.status != "502 Bad Gateway" || r.reason() != "1005" || r.header.Get("X-Whsentry-Delivered") != tt.delivered {
			t.Errorf("%s: got %s %s (%s), delivered %s; want 502, 1005, %s", tt.name, r.status, r.reason(), r.header.Get("X-Whsentry-Reason"),
				r.header.Get("X-Whsentry-Delivered"), tt.delivered)
		}
		r.checkText(t, "renegotiation")
		if got := requests.Load(); int(got) != tt.answered+1 || o.connections() != 1 {
			t.Errorf("%s: got %d requests on %d connections; want each once, on one", tt.name, got, o.connections())
		}
	}
}

// TestClientOfBrokenRequests: what is no request is a client's too where it comes by a tunnel, which is known before it is
// read, and it is told where it would have gone.
func TestClientOfBrokenRequests(t *testing.T) {
	t.Parallel()
	issuer := catest.Root(t, "Issuer")
	certFile, keyFile := issuer.Files(t)
	o := answering(t, okResponse)
	rules := clientsOf(client("billing", billingToken, nil))
	quick := func(cfg *proxy.Config, _ *guard.Config) {
		cfg.AccessLog.Type, cfg.ClientTimeout = accesslog.JSON, time.Second
	}
	inspecting := startRuled(t, rules, nil, quick)
	intercepting := startRuled(t, rules, func(cfg *ca.Config) {
		cfg.MITMIssuer = ca.KeyPairFiles{CertFile: certFile, KeyFile: keyFile}
	}, func(cfg *proxy.Config, g *guard.Config) {
		quick(cfg, g)
		cfg.ConnectMode = proxy.ConnectMITM
	})
	authority := o.addr
	plain := func(s *sentry) *rawConn {
		c := s.dial()
		if r := c.open(authority, bearer(billingToken)); r.code() != 200 {
			t.Fatalf("got %q to the CONNECT; want 200", r.status)
		}
		return c
	}
	for _, tt := range []struct{ name, sent, code string }{
		{"head", "GET /a HTTP/1.1\r\nHost : x\r\n\r\n", "1002"},
		{"framing", "GET /a HTTP/1.1\r\nHost: " + authority + "\r\nContent-Length: 1, 2\r\n\r\n", "1002"},
		{"large", "GET /a HTTP/1.1\r\nHost: " + authority + "\r\nX: " + strings.Repeat("x", 70_000) + "\r\n\r\n", "1012"},
		{"slow", "GET /a HTTP/1.1\r\nHost: ", "1017"},
	} {
		for _, way := range []struct {
			name, url string
			s         *sentry
			open      func(s *sentry) *rawConn
		}{
			{"inspected", "http://", inspecting, plain},
			{"plain in an intercepting proxy's", "http://", intercepting, plain},
			{"intercepted", "https://", intercepting, func(s *sentry) *rawConn {
				return s.dial().intercepted(issuer, authority, bearer(billingToken))
			}},
		} {
			before := len(way.s.jsonLines(0))
			c := way.open(way.s)
			c.send(tt.sent)
			if r := c.receive("GET"); r.reason() != tt.code {
				t.Errorf("%s, %s: got %q, reason %s; want %s", tt.name, way.name, r.status, r.reason(), tt.code)
			}
			line := way.s.jsonLines(before + 1)[before]
			if line["client"] != "billing" || line["url"] != way.url+authority+"/a" {
				t.Errorf("%s, %s: got the line %v; want billing's, for %s%s/a", tt.name, way.name, line, way.url, authority)
			}
		}
	}
	inspecting.waitMetric(`whsentry_client_requests_total{client="billing",reason="1002"}`, "2")
	if n := inspecting.metric(`whsentry_client_requests_total{client="",reason="1002"}`); n != "" {
		t.Errorf("got %s requests of no client; want none", n)
	}
	intercepting.waitMetric(`whsentry_client_requests_total{client="billing",reason="1017"}`, "2")
	if n := o.requestCount("GET"); n != 0 {
		t.Errorf("got %d requests at the destination; want none", n)
	}
}

// TestReportedCONNECT: what only the CONNECT would have been refused for is in the log with the first that comes of it,
// which counts as one with it.
func TestReportedCONNECT(t *testing.T) {
	t.Parallel()
	o := answering(t, okResponse)
	trial := client("trial", billingToken, func(c *policy.ClientConfig) { c.Mode, c.AllowHosts = "report", []string{"other.example"} })
	s := startRuled(t, clientsOf(trial), nil, jsonLog)
	for _, tt := range []struct {
		name, sent string
		denied     []bool // of each line
	}{
		{"no request", "GET / HTTP/1.1\r\nHost : x\r\n\r\n", []bool{true}},
		{"refused before the rules", with(inOrigin(o.addr, "/", ""), "X-WhSentry-Other: x\r\n") + inOrigin("x.example", "/", ""), []bool{true, false}},
		{"two requests", inOrigin(o.addr, "/", "x") + inOrigin(o.addr, "/", "y"), []bool{true, true}},
	} {
		before := len(s.jsonLines(0))
		c := s.dial()
		if r := c.open(o.addr, bearer(billingToken)); r.code() != 200 {
			t.Fatalf("%s: got %q to the CONNECT; want 200", tt.name, r.status)
		}
		c.send(tt.sent)
		for range tt.denied {
			c.receive("POST")
		}
		for i, line := range s.jsonLines(before + len(tt.denied))[before:] {
			if got := line["would_deny"] == 1019.0; got != tt.denied[i] || line["client"] != "trial" {
				t.Errorf("%s: got the line %v; want trial's, would_deny %v", tt.name, line, tt.denied[i])
			}
		}
	}
	s.waitMetric(`whsentry_would_deny_total{client="trial"}`, "4")
}
