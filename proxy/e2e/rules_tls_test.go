package e2e

import (
	"crypto/tls"
	"io"
	"strings"
	"testing"

	"whsentry/ca"
	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/policy"
	"whsentry/proxy"
)

// TestClientInsideInterception judges each request inside by the CONNECT's client, which counts once with the first.
func TestClientInsideInterception(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	s := startMITM(t, root, issuer, withJSONLog)
	o := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	one := 1
	s.policy = clientsOf(
		client("billing", billingToken, nil),
		client("trial", crmToken, func(c *policy.ClientConfig) {
			c.RequestsPerSecond, c.Mode, c.DenyHosts = &one, "report", []string{hooksHost}
		}))
	s.mustReload(nil)
	if r := s.dial().open(o.to(hooksHost)); r.reason() != "1016" {
		t.Fatalf("got %s %s without a credential; want 1016", r.status, r.reason())
	}
	billing := s.dial().intercepted(issuer, o.to(hooksHost), bearer(billingToken))
	for _, fields := range []string{"", bearer("wrong"), bearer(crmToken)} {
		billing.send(inOrigin(o.to(hooksHost), "/billing", "x", fields))
		billing.receive("POST").check(t, "200 OK", "")
	}
	trial := s.dial().intercepted(issuer, o.to(hooksHost), bearer(crmToken))
	trial.send(inOrigin(o.to(hooksHost), "/first", "x"))
	trial.receive("POST").check(t, "200 OK", "") // counted with the CONNECT
	eventually(t, "a request over the rate", func() bool {
		trial.send(inOrigin(o.to(hooksHost), "/more", "x"))
		return trial.receive("POST").reason() == "1020"
	})
	if strings.Contains(o.decrypted(), "Authorization") {
		t.Errorf("a credential has reached the destination")
	}
	if line := s.jsonLines(5)[4]; line["client"] != "trial" || line["would_deny"] != 1019.0 {
		t.Errorf("got client %v and would_deny %v for the first request; want trial and 1019", line["client"], line["would_deny"])
	}
	s.policy = clientsOf(client("billing", crmToken, nil))
	s.mustReload(nil)
	billing.send(inOrigin(o.to(hooksHost), "/late", "x"))
	r := billing.receive("POST")
	if r.reason() != "1016" || !r.closing {
		t.Errorf("got %s %s after the credential was gone; want 1016 and the end", r.status, r.reason())
	}
	if strings.Contains(o.decrypted(), "/late") {
		t.Errorf("the request has reached the destination")
	}
}

// TestClientByCertificate tells clients by certificates, and those of a CA that is gone no longer.
func TestClientByCertificate(t *testing.T) {
	t.Parallel()
	root, clients, others := catest.Root(t, "Root"), catest.Root(t, "Clients"), catest.Root(t, "Others")
	o := answering(t, okResponse)
	s := startHTTPS(t, root, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.Listeners[0].ClientCAFile = catest.File(t, "clients.pem", clients.PEM())
	})
	s.policy = policy.Config{ClientCertificates: true, Clients: []policy.ClientConfig{{Name: "billing", Certificates: []string{"dns:billing.internal"}}}}
	s.mustReload(nil)
	billing := s.dialTLS(t, root, clients.Leaf(t, "billing.internal"))
	billing.send(get(o, "/"))
	billing.receive("GET").check(t, "200 OK", "")
	other := s.dialTLS(t, root, clients.Leaf(t, "crm.internal"))
	other.send(get(o, "/"))
	other.receive("GET").check(t, "403 Forbidden", "1016")
	s.mustReload(nil)
	billing.send(get(o, "/")) // the same CA, read again
	billing.receive("GET").check(t, "200 OK", "")
	s.mustReload(func(cfg *proxy.Config, _ *guard.Config) {
		cfg.Listeners[0].ClientCAFile = catest.File(t, "others.pem", others.PEM())
	})
	billing.send(get(o, "/late"))
	r := billing.receive("GET")
	r.check(t, "403 Forbidden", "1016")
	if !r.closing || strings.Contains(o.bytes(), "/late") {
		t.Errorf("the connection goes on, or the request has reached the destination")
	}
}

// TestAliasRules shows a destination the certificate that rules let it see, and no other.
func TestAliasRules(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	certificates := tenants(t, root)
	s := startTLS(t, root, func(cfg *ca.Config) {
		certificates(cfg)
		cfg.ClientCertHosts = map[string][]string{"globex": {"globex.test"}}
	}, nil)
	o := newTLSOrigin(t, asking(serving(root.Leaf(t, hooksHost)), root), func(c *tlsConn) {
		for c.request() {
			io.WriteString(c, withLength(presented(c.ConnectionState())))
		}
	})
	named := func(alias string) string { return "X-WhSentry-ClientCert: " + alias + "\r\n" }
	entry := []policy.DestinationConfig{{Hosts: []string{hooksHost}, ClientCert: "acme"}}
	only := func(aliases ...string) []policy.ClientConfig {
		return clientsOf(client("billing", billingToken, func(c *policy.ClientConfig) { c.ClientCerts = aliases })).Clients
	}
	for _, tt := range []struct {
		name   string
		rules  policy.Config
		header bool
		fields string
		want   string // the certificate, or status and reason
	}{
		{"the default", policy.Config{}, true, "", "ours"},
		{"named", policy.Config{}, true, named("acme"), "acme"},
		{"named, unknown", policy.Config{}, true, named("nobody"), "400 1010"},
		{"named, not for this host", policy.Config{}, true, named("globex"), "403 1010"},
		{"the entry's", policy.Config{Destinations: entry}, true, "", "acme"},
		{"named beats the entry's", policy.Config{Destinations: entry}, true, named("default"), "ours"},
		{"the header is not obeyed", policy.Config{Destinations: entry}, false, named("nobody"), "acme"},
		{"not the client's, named", policy.Config{Clients: only("default")}, true, bearer(billingToken) + named("acme"), "400 1010"},
		{"not the client's, the entry's", policy.Config{Clients: only("default"), Destinations: entry}, true, bearer(billingToken), ""},
		{"none at all", policy.Config{Clients: only("none")}, true, bearer(billingToken), ""},
	} {
		s.policy = tt.rules
		s.mustReload(func(cfg *proxy.Config, _ *guard.Config) { cfg.ClientCertHeader = tt.header })
		r := s.exchangeFor(t, overTLS(o.to(hooksHost), "/", "x", tt.fields))
		got := r.body
		if r.reason() != "" {
			got = r.status[:3] + " " + r.reason()
		}
		if got != tt.want {
			t.Errorf("%s: got %q (%s); want %q", tt.name, got, r.header.Get("X-Whsentry-Reason"), tt.want)
		}
	}
}

// asking makes a server's configuration ask for a client certificate, and take the lack of one.
func asking(cfg *tls.Config, authority *catest.Authority) *tls.Config {
	cfg.ClientAuth, cfg.ClientCAs = tls.VerifyClientCertIfGiven, authority.Pool()
	return cfg
}
