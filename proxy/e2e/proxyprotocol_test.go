package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
)

const (
	version1 = "PROXY TCP4 203.0.113.7 192.0.2.1 56324 9090\r\n"
	version2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\xc0\x00\x02\x01\xdc\x04\x23\x82"
	local    = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
)

// behindBalancer starts a proxy that takes PROXY protocol from the addresses of from.
func behindBalancer(t *testing.T, from string, change func(cfg *proxy.Config)) *sentry {
	return start(t, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.Listeners[0].ProxyProtocol = true
		cfg.Listeners[0].ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix(from)}
		if change != nil {
			change(cfg)
		}
	})
}

// The access log has the client that the load balancer names, for each request of its connection.
func TestProxyProtocolNamesTheClient(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, header, client string }{
		{"version 1", version1, "203.0.113.7:56324"},
		{"version 1 over IPv6", "PROXY TCP6 2001:db8::7 2001:db8::1 56324 9090\r\n", "[2001:db8::7]:56324"},
		{"version 2", version2, "203.0.113.7:56324"},
		{"the balancer's own", local, "127.0.0.1:"},
		{"unknown", "PROXY UNKNOWN\r\n", "127.0.0.1:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := behindBalancer(t, "127.0.0.0/8", nil)
			o := answering(t, okResponse)
			together := s.dialFor(t)
			together.send(tt.header + post(o, "/1", "x"))
			together.receive("POST").check(t, "200 OK", "")
			apart := s.dialFor(t)
			for i := range tt.header {
				apart.send(tt.header[i : i+1])
			}
			apart.send(post(o, "/2", "x"))
			apart.receive("POST").check(t, "200 OK", "")
			together.send(post(o, "/3", pattern(100<<10)))
			together.receive("POST").check(t, "200 OK", "")
			for _, line := range s.logLines(3) {
				if !strings.Contains(line, "] ") || !strings.Contains(line, " "+tt.client) {
					t.Errorf("got the line %q; want it to name the client %s", line, tt.client)
				}
			}
			if strings.Contains(o.bytes(), "PROXY") || strings.Contains(o.bytes(), "QUIT") {
				t.Errorf("the destination got the header: %q", o.bytes())
			}
		})
	}
}

// Whoever a load balancer's header cannot come from, or comes from without it, is refused, and nothing is forwarded.
func TestProxyProtocolIsNotGuessed(t *testing.T) {
	t.Parallel()
	o := answering(t, okResponse)
	for _, tt := range []struct{ name, from, raw, text string }{
		{"from a stranger, version 1", "192.0.2.0/24", version1 + post(o, "/", "x"), "request line"},
		{"from a stranger, version 2", "192.0.2.0/24", version2 + post(o, "/", "x"), "request line"},
		{"none from the balancer", "127.0.0.1/32", post(o, "/", "x"), "PROXY protocol header"},
		{"twice", "127.0.0.1/32", version1 + version1 + post(o, "/", "x"), "request line"},
		{"malformed", "127.0.0.1/32", "PROXY TCP4 nonsense\r\n" + post(o, "/", "x"), "PROXY protocol header is malformed"},
		{"without end", "127.0.0.1/32", "PROXY TCP4 " + strings.Repeat("1", 200), "longer than 107 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := behindBalancer(t, tt.from, nil)
			c := s.dialFor(t)
			c.send(tt.raw)
			r := c.receive("POST")
			r.check(t, "400 Bad Request", "1002")
			r.checkText(t, tt.text)
			if !c.ended() {
				t.Errorf("the connection is still open")
			}
			if line := s.logLines(1)[0]; !strings.Contains(line, " 400 ") || strings.Contains(line, "203.0.113.7:56324 POST") {
				t.Errorf("got the line %q", line)
			}
		})
	}
	if n := o.connections(); n != 0 {
		t.Errorf("got %d connections at the destination; want none", n)
	}
}

// A stranger who sends no header is an ordinary client.
func TestProxyProtocolFromOthers(t *testing.T) {
	t.Parallel()
	s := behindBalancer(t, "192.0.2.0/24", nil)
	o := answering(t, okResponse)
	s.exchangeFor(t, post(o, "/", "x")).check(t, "200 OK", "")
	if line := s.logLines(1)[0]; !strings.Contains(line, " 127.0.0.1:") {
		t.Errorf("got the line %q; want the peer's own address", line)
	}
}

// Whom the header is taken from changes with a reload, for connections that come after it.
func TestProxyProtocolReload(t *testing.T) {
	t.Parallel()
	s := behindBalancer(t, "192.0.2.0/24", nil)
	o := answering(t, okResponse)
	kept := s.dialFor(t)
	kept.send(post(o, "/1", "x"))
	kept.receive("POST").check(t, "200 OK", "")
	taken := func(on bool) func(cfg *proxy.Config, _ *guard.Config) {
		return func(cfg *proxy.Config, _ *guard.Config) {
			cfg.Listeners = slices.Clone(cfg.Listeners) // the proxy has the others
			cfg.Listeners[0].ProxyProtocol = on
			cfg.Listeners[0].ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}
	}
	s.mustReload(taken(true))
	kept.send(post(o, "/2", "x"))
	kept.receive("POST").check(t, "200 OK", "")
	s.exchangeFor(t, version1+post(o, "/3", "x")).check(t, "200 OK", "")
	if line := s.logLines(3)[2]; !strings.Contains(line, " 203.0.113.7:56324 ") {
		t.Errorf("got the line %q; want the client that the balancer names", line)
	}
	s.mustReload(taken(false))
	s.exchangeFor(t, version1+post(o, "/4", "x")).check(t, "400 Bad Request", "1002")
	s.exchangeFor(t, post(o, "/5", "x")).check(t, "200 OK", "")
}

func testProxyProtocolHasATimeLimit(t *testing.T) {
	s := behindBalancer(t, "127.0.0.1/32", func(cfg *proxy.Config) { cfg.ClientTimeout = 1500 * time.Millisecond })
	slow, silent := s.dialFor(t), s.dialFor(t)
	slow.send(version1[:20])
	slow.receive("GET").check(t, "408 Request Timeout", "1017")
	silent.waitEnd()
	if line := s.logLines(1)[0]; !strings.Contains(line, " - - 408 ") {
		t.Errorf("got the line %q; want one of what was no request", line)
	}
}

// On an https listener the header comes before TLS.
func TestProxyProtocolBeforeTLS(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := behindBalancer(t, "127.0.0.1/32", func(cfg *proxy.Config) {
		httpsListener(t, cfg, root.Leaf(t, "localhost"))
	})
	o := answering(t, okResponse)
	for i, header := range []string{version1, version2} {
		c := s.dialFor(t)
		c.send(header)
		c = c.secure(clientConfig(root, "localhost"))
		c.send(post(o, fmt.Sprintf("/%d", i), "x"))
		c.receive("POST").check(t, "200 OK", "")
	}
	for _, line := range s.logLines(2) {
		if !strings.Contains(line, " 203.0.113.7:56324 POST") {
			t.Errorf("got the line %q; want the client that the header names", line)
		}
	}
}
