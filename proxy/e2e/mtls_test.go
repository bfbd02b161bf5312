package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"testing"

	"whsentry/ca"
	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
)

// alias is the header line that chooses a client certificate.
func alias(name string) string { return "X-WhSentry-ClientCert: " + name + "\r\n" }

// tenants configures the client certificates ours (the default one), acme and globex, by authority.
func tenants(t *testing.T, authority *catest.Authority) func(cfg *ca.Config) {
	t.Helper()
	ours := keyPair(t, authority.Leaf(t, "ours"))
	others := map[string]ca.KeyPairFiles{"acme": keyPair(t, authority.Leaf(t, "acme")), "globex": keyPair(t, authority.Leaf(t, "globex"))}
	return func(cfg *ca.Config) { cfg.ClientCert, cfg.ClientCerts = ours, others }
}

// TestClientCertificate shows each tenant's certificate and no other's, with connections pooled and sessions kept.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startTLS(t, root, tenants(t, root), nil)
	for _, version := range tlsVersions {
		for _, pooled := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s pooled=%v", version.name, pooled), func(t *testing.T) {
				t.Parallel()
				answered := make(chan string, 1)
				o := newTLSOrigin(t, demanding(only(serving(root.Leaf(t, hooksHost)), version.version), root), func(c *tlsConn) {
					for c.request() {
						answered <- presented(c.ConnectionState())
						if !pooled {
							io.WriteString(c, strings.Replace(okResponse, "\r\n", "\r\nConnection: close\r\n", 1))
							return
						}
						io.WriteString(c, okResponse)
					}
				})
				for i, step := range []struct{ field, want string }{
					{"", "ours"}, {alias("acme"), "acme"}, {alias("globex"), "globex"}, {alias("default"), "ours"},
					{"", "ours"}, {alias("globex"), "globex"}, {alias("acme"), "acme"}, {alias("  acme\t"), "acme"},
					{"x-whsentry-clientcert: acme\r\n", "acme"},
				} {
					s.exchangeFor(t, overTLS(o.to(hooksHost), "/", "x", step.field)).check(t, "200 OK", "")
					if got := <-answered; got != step.want {
						t.Errorf("request %d (%q): the origin saw %q; want %q", i, step.field, got, step.want)
					}
				}
				if n := o.connections(); pooled && n > 4 {
					t.Errorf("got %d connections; want one for each certificate", n)
				}
				if strings.Contains(o.decrypted(), "acme") {
					t.Errorf("the alias reached the destination: %q", o.decrypted())
				}
			})
		}
	}
}

// TestClientCertificateRefused asks for what is not configured.
func TestClientCertificateRefused(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	o := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	s := startTLS(t, root, tenants(t, root), nil)
	plain := answering(t, okResponse)
	for _, test := range []struct{ name, raw, reason string }{
		{"unknown", overTLS(o.to(hooksHost), "/", "x", alias("initech")), "1010"},
		{"other letters", overTLS(o.to(hooksHost), "/", "x", alias("ACME")), "1010"},
		{"empty", overTLS(o.to(hooksHost), "/", "x", alias("")), "1010"},
		{"two", overTLS(o.to(hooksHost), "/", "x", alias("acme"), alias("globex")), "1002"},
		{"the same twice", overTLS(o.to(hooksHost), "/", "x", alias("acme"), alias("acme")), "1002"},
		{"before the name is looked up", overTLS("no.such.name:"+o.port, "/", "x", alias("initech")), "1010"},
		{"before the address is judged", overTLS("10.0.0.1:"+o.port, "/", "x", alias("initech")), "1010"},
		{"after the port", overTLS(hooksHost+":25", "/", "x", alias("initech")), "1013"},
		{"after the scheme", strings.Replace(overTLS(hooksHost, "/", "x", alias("initech")), "http:", "ftp:", 1), "1003"},
		{"after the syntax", overTLS("user@"+hooksHost, "/", "x", alias("initech")), "1002"},
		{"without TLS", strings.Replace(post(plain, "/", "x"), "\r\n", "\r\n"+alias("initech"), 1), "1002"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := s.dialFor(t)
			c.send(test.raw)
			r := c.receive("POST")
			if r.reason() != test.reason || test.reason == "1010" && r.status != "400 Bad Request" {
				t.Errorf("got %q with %q; want %q", r.status, r.reason(), test.reason)
			}
			if r.closing {
				t.Errorf("the connection is closed; want it open")
			}
		})
	}
	if n := o.connections(); n != 0 {
		t.Errorf("got %d connections; want none", n)
	}
}

// TestClientCertificateDemanded is a destination that wants a certificate, or another one. A TLS 1.3 server says so only
// after the handshake, when the request is on its way.
func TestClientCertificateDemanded(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	stranger := catest.Root(t, "Stranger")
	strange := keyPair(t, stranger.Leaf(t, "strange"))
	stale := keyPair(t, root.Leaf(t, "stale", catest.Expired()))
	s := startTLS(t, root, func(cfg *ca.Config) {
		cfg.ClientCerts = map[string]ca.KeyPairFiles{"strange": strange, "stale": stale}
	}, nil)
	const wants, rejected = "the server demands a client certificate and none is configured", "the server rejected the client certificate ("
	for _, version := range tlsVersions {
		for _, test := range []struct{ name, fields, body, text string }{
			{"none", "", "body", wants},
			{"none, large request", "", pattern(2 << 20), wants},
			{"of a stranger", alias("strange"), "body", rejected},
			{"expired", alias("stale"), "body", rejected},
		} {
			t.Run(version.name+" "+test.name, func(t *testing.T) {
				t.Parallel()
				o := newTLSOrigin(t, demanding(only(serving(root.Leaf(t, hooksHost)), version.version), root), func(*tlsConn) {
					t.Error("the handshake succeeded")
				})
				c := s.dialFor(t)
				for range 2 { // nothing of it is pooled, and no session is resumed
					c.send(overTLS(o.to(hooksHost), "/", test.body, test.fields))
					r := c.receive("POST")
					r.check(t, "502 Bad Gateway", "1005")
					r.checkText(t, "TLS handshake with hooks.test failed: "+test.text)
				}
				if n := o.connections(); n != 2 {
					t.Errorf("got %d connections; want one for each request", n)
				}
			})
		}
	}
}

// TestClientCertificateOptional is a destination that asks and does not insist.
func TestClientCertificateOptional(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	cfg := serving(root.Leaf(t, hooksHost))
	cfg.ClientAuth = tls.RequestClientCert
	o := answeringTLS(t, cfg, okResponse)
	s := startTLS(t, root, nil, nil)
	s.exchange(overTLS(o.to(hooksHost), "/", "x")).check(t, "200 OK", "")
	if got := presented(o.state(0)); got != "" {
		t.Errorf("the origin saw %q; want no certificate", got)
	}
}

// TestClientCertificateReload changes a tenant's certificate, and takes another's away.
func TestClientCertificateReload(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	o := answeringTLS(t, demanding(serving(root.Leaf(t, hooksHost)), root), okResponse)
	current := map[string]ca.KeyPairFiles{"acme": keyPair(t, root.Leaf(t, "acme 1")), "globex": keyPair(t, root.Leaf(t, "globex"))}
	s := startTLS(t, root, func(cfg *ca.Config) { cfg.ClientCerts = current }, nil)
	client := s.dial()
	ask := func(tenant string) *response {
		client.send(overTLS(o.to(hooksHost), "/", "x", alias(tenant)))
		return client.receive("POST")
	}
	ask("acme").check(t, "200 OK", "")
	ask("globex").check(t, "200 OK", "")
	ask("acme").check(t, "200 OK", "")
	if n := o.handshakes(); n != 2 {
		t.Fatalf("got %d handshakes; want 2", n)
	}

	current = map[string]ca.KeyPairFiles{"acme": keyPair(t, root.Leaf(t, "acme 2"))}
	if err := s.reload(func(*proxy.Config, *guard.Config) {}); err != nil {
		t.Fatalf("reload: %v", err)
	}
	ask("acme").check(t, "200 OK", "")
	if got := presented(o.state(2)); got != "acme 2" || o.state(2).DidResume {
		t.Errorf("the origin saw %q, resumed %v; want the new certificate", got, o.state(2).DidResume)
	}
	ask("globex").check(t, "400 Bad Request", "1010")
	if n := o.handshakes(); n != 3 {
		t.Errorf("got %d handshakes; want 3", n)
	}
	eventually(t, "the old connections to be closed", func() bool { return s.metric(idleConnections) == "1" })
}
