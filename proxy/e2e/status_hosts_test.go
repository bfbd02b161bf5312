package e2e

import (
	"net"
	"strings"
	"testing"

	"whsentry/guard"
	"whsentry/proxy"
)

// The page answers to names that no stranger can own, and to those of metrics.hosts, which a reload changes; everything
// else answers to any.
func TestStatusPageHosts(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.Metrics.Hosts = []string{"ops.example.com"} })
	ask := func(target, fields string) string {
		t.Helper()
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.metrics, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		c := newRawConn(t, conn)
		c.send("GET " + target + " HTTP/1.1\r\n" + fields + "Connection: close\r\n\r\n")
		return c.receive("GET").status
	}
	for _, tt := range []struct{ target, fields, status string }{
		{"/", "Host: localhost:2112\r\n", "200"}, {"/", "Host: OPS.example.com.\r\n", "200"}, {"/?x", "Host: whsentry.default.svc\r\n", "200"},
		{"/", "Host: rebound.example\r\n", "421"}, {"//", "Host: rebound.example\r\n", "421"}, {"/", "", "421"}, {"/", "Host: \r\n", "421"},
		{"/metrics", "Host: rebound.example\r\n", "200"}, {"/healthz", "Host: rebound.example\r\n", "200"}, {"/readyz", "Host: a.b.example:1\r\n", "200"},
	} {
		if got := ask(tt.target, tt.fields); !strings.HasPrefix(got, tt.status) {
			t.Errorf("GET %s, %q: got %s; want %s", tt.target, tt.fields, got, tt.status)
		}
	}
	if err := s.reload(func(cfg *proxy.Config, _ *guard.Config) { cfg.Metrics.Hosts = []string{"rebound.example"} }); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{"ops.example.com": "421", "rebound.example": "200"} {
		if got := ask("/", "Host: "+host+"\r\n"); !strings.HasPrefix(got, want) {
			t.Errorf("after a reload, %s: got %s; want %s", host, got, want)
		}
	}
}
