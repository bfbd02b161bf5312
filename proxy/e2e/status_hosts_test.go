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
		return s.askMetrics("GET", target, fields).status
	}
	for _, tt := range []struct{ target, fields, status string }{
		{"/", "Host: localhost:2112\r\n", "200"}, {"/", "Host: OPS.example.com.\r\n", "200"}, {"/?x", "Host: whsentry.default.svc\r\n", "200"},
		{"/", "Host: rebound.example\r\n", "421"}, {"//", "Host: rebound.example\r\n", "421"}, {"/", "", "421"}, {"/", "Host: \r\n", "421"},
		{"/metrics", "Host: rebound.example\r\n", "200"}, {"/healthz", "Host: rebound.example\r\n", "200"}, {"/readyz", "Host: a.b.example:1\r\n", "200"},
		{"/metrics", "", "200"}, {"/healthz", "", "200"}, {"/readyz", "Host:\r\n", "200"}, {"/other", "", "404"},
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

// Without a Host the answer is that of any: a HEAD has no body, and what is no GET is not allowed.
func TestMetricsWithoutHost(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, tt := range []struct{ method, target, status, body string }{
		{"GET", "/healthz", "200", "ok\n"}, {"HEAD", "/healthz", "200", ""}, {"HEAD", "/", "421", ""}, {"POST", "/healthz", "405", "method not allowed\n"},
	} {
		r := s.askMetrics(tt.method, tt.target, "")
		if !strings.HasPrefix(r.status, tt.status) || r.body != tt.body || r.header.Get("Date") != "" {
			t.Errorf("%s %s: got %s, %v, %q; want %s and %q", tt.method, tt.target, r.status, r.header, r.body, tt.status, tt.body)
		}
	}
}

// askMetrics asks the metrics' address, with no other fields than these, and sees to it that nothing follows the answer.
func (s *sentry) askMetrics(method, target, fields string) *response {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.metrics, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	c := newRawConn(s.t, conn)
	c.send(method + " " + target + " HTTP/1.1\r\n" + fields + "Connection: close\r\n\r\n")
	r := c.receive(method)
	if !c.ended() {
		s.t.Errorf("%s %s: something follows the answer", method, target)
	}
	return r
}
