package e2e

import (
	"strings"
	"testing"

	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
)

// TestMisspeltAsks is what a request asks of the proxy with a field that there is not, or in a place where it means nothing: a
// sender that believes it has asked for TLS is told so, and nothing leaves.
func TestMisspeltAsks(t *testing.T) {
	t.Parallel()
	o := answering(t, okResponse)
	modes := make(map[string]*sentry)
	for _, mode := range []string{proxy.ConnectTunnel, proxy.ConnectDeny} {
		modes[mode] = start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectMode = mode })
	}
	for _, tt := range []struct {
		name, method, fields string
		mode, reason         string
		named                string // the field, in the reason
	}{
		{"misspelt", "POST", "X-WhSentry-TSL: true\r\n", "", "1002", "X-WhSentry-TSL"},
		{"misspelt, means nothing", "POST", "x-whsentry-tls-: false\r\n", "", "1002", "x-whsentry-tls-"},
		{"of an answer", "POST", "X-WhSentry-Reason: 1\r\n", "", "1002", "X-WhSentry-Reason"},
		{"TLS twice", "POST", "X-WhSentry-TLS: 0\r\nX-WhSentry-TLS: 0\r\n", "", "1002", "X-WhSentry-TLS"},
		{"timeout twice", "POST", "X-WhSentry-Timeout: 9s\r\nX-WhSentry-Timeout: 9s\r\n", "", "1002", "X-WhSentry-Timeout"},
		{"timeout", "POST", "X-WhSentry-Timeout: 9s\r\n", "", "", ""},
		{"timeout without a unit", "POST", "X-WhSentry-Timeout: 9\r\n", "", "1002", "X-WhSentry-Timeout"},
		{"timeout of 0", "POST", "X-WhSentry-Timeout: 0s\r\n", "", "1002", "X-WhSentry-Timeout"},
		{"timeout below 0", "POST", "X-WhSentry-Timeout: -9s\r\n", "", "1002", "X-WhSentry-Timeout"},
		{"timeout that is empty", "POST", "X-WhSentry-Timeout:\r\n", "", "1002", "X-WhSentry-Timeout"},
		{"plain", "POST", "X-WhSentry-TLS: OFF\r\n", "", "", ""},
		{"certificate without TLS", "POST", "X-WhSentry-ClientCert: acme\r\n", "", "1002", "X-WhSentry-ClientCert"},
		{"certificate, TLS declined", "POST", "X-WhSentry-TLS: no\r\nX-WhSentry-ClientCert: acme\r\n", "", "1002", "X-WhSentry-ClientCert"},
		{"CONNECT with TLS", "CONNECT", "X-WhSentry-TLS: 1\r\n", "", "1002", "X-WhSentry-TLS"},
		{"CONNECT with a certificate", "CONNECT", "X-WhSentry-ClientCert: acme\r\n", "", "1002", "X-WhSentry-ClientCert"},
		{"CONNECT, misspelt", "CONNECT", "X-WhSentry-Tunnel: 1\r\n", "", "1002", "X-WhSentry-Tunnel"},
		{"CONNECT, plain", "CONNECT", "X-WhSentry-TLS: false\r\n", "", "", ""},
		{"CONNECT denied", "CONNECT", "X-WhSentry-TLS: false\r\n", proxy.ConnectDeny, "1015", ""},
		{"CONNECT denied, but first of all misspelt", "CONNECT", "X-WhSentry-TLS: 1\r\n", proxy.ConnectDeny, "1002", "X-WhSentry-TLS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mode := tt.mode
			if mode == "" {
				mode = proxy.ConnectTunnel
			}
			before := o.connections()
			raw := strings.Replace(post(o, "/", "x"), "\r\n", "\r\n"+tt.fields, 1)
			if tt.method == "CONNECT" {
				raw = "CONNECT " + o.addr + " HTTP/1.1\r\nHost: " + o.addr + "\r\n" + tt.fields + "\r\n"
			}
			c := modes[mode].dialFor(t)
			defer c.Close()
			c.send(raw)
			receive := func() *response { return c.receive(tt.method) }
			if tt.method == "CONNECT" {
				receive = c.receiveConnect // a tunnel has no body to wait for the end of
			}
			r := receive()
			if r.reason() != tt.reason || !strings.Contains(r.header.Get("X-Whsentry-Reason"), tt.named) {
				t.Errorf("got %q with %q (%s); want %q that names %q", r.status, r.reason(), r.header.Get("X-Whsentry-Reason"), tt.reason, tt.named)
			}
			if got := r.header.Get("Allow"); (got != "") != (r.code() == 405) {
				t.Errorf("got %q with Allow %q; want it with a 405", r.status, got)
			}
			if tt.reason == "1002" && (r.code() != 400 || r.closing || o.connections() != before) {
				t.Errorf("got %q, closing %v, and %d connections to the destination; want 400, open, none", r.status, r.closing, o.connections()-before)
			}
		})
	}
}

// TestClientCertHeaderOff holds that a certificate which a request names is nobody's choice then.
func TestClientCertHeaderOff(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	secured, plain := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse), answering(t, okResponse)
	s := startTLS(t, root, tenants(t, root), func(cfg *proxy.Config, _ *guard.Config) { cfg.ClientCertHeader = false })
	for name, raw := range map[string]string{
		"over TLS": overTLS(secured.to(hooksHost), "/", "x", alias("initech")),
		"plain":    strings.Replace(post(plain, "/", "x"), "\r\n", "\r\n"+alias("initech"), 1),
	} {
		s.exchangeFor(t, raw).check(t, "200 OK", "")
		if got := secured.decrypted() + plain.bytes(); strings.Contains(got, "initech") {
			t.Errorf("%s: got %q at the destination; want no alias in it", name, got)
		}
	}
}
