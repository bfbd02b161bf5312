package e2e

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
	"whsentry/proxy/admin"
)

// statusPage returns the page at metrics.address.
func (s *sentry) statusPage() string {
	s.t.Helper()
	status, body := s.admin("/")
	if status != http.StatusOK {
		s.t.Fatalf("the status page: got %d; want 200", status)
	}
	return body
}

// statusPageAfter is statusPage once it shows n refusals, for they come after their lines in the log.
func (s *sentry) statusPageAfter(n int) string {
	s.t.Helper()
	var page string
	eventually(s.t, fmt.Sprintf("%d refusals in the status page", n), func() bool {
		page = s.statusPage()
		return strings.Count(page, "<time ") >= n
	})
	return page
}

// The status page answers GET and HEAD, and tells the browser to load nothing and to keep nothing.
func TestStatusPageMethods(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, tt := range []struct {
		method, path string
		status       int
		body         bool
	}{
		{"GET", "/", 200, true}, {"GET", "/?x", 200, true}, {"HEAD", "/", 200, false}, {"POST", "/", 405, true}, {"DELETE", "/", 405, true},
		{"OPTIONS", "/", 405, true}, {"GET", "/status.json", 404, true}, {"GET", "/index.html", 404, true}, {"GET", "//", 200, true},
	} {
		req, err := http.NewRequest(tt.method, s.metrics+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != tt.status || len(body) > 0 != tt.body {
			t.Errorf("%s %s: got %d with %d bytes (%v); want %d, and a body: %v", tt.method, tt.path, resp.StatusCode, len(body), err, tt.status, tt.body)
		}
		if tt.status != 200 {
			continue
		}
		for name, want := range map[string]string{
			"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": "default-src 'none';", "Cache-Control": "no-store",
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		} {
			if got := resp.Header.Get(name); !strings.HasPrefix(got, want) {
				t.Errorf("%s %s: got %s %q; want %q", tt.method, tt.path, name, got, want)
			}
		}
	}
}

// The page shows what went through and what did not, with the rule that refused it.
func TestStatusPageShows(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	page := s.statusPage()
	for _, want := range []string{"whsentry test", "up for ", "commit none", "none since the start", "http " + s.addr} {
		if !strings.Contains(page, want) {
			t.Errorf("before the first request the page lacks %q", want)
		}
	}
	o := answering(t, okResponse)
	s.exchange(post(o, "/delivered-and-not-shown", "body")).check(t, "200 OK", "")
	s.exchange("GET http://10.1.2.3/a HTTP/1.1\r\nHost: x\r\n\r\n").check(t, "403 Forbidden", "1000")
	s.exchange("CONNECT 127.0.0.1:25 HTTP/1.1\r\nHost: 127.0.0.1:25\r\n\r\n").check(t, "403 port 25 is blocked (1013)", "1013")
	s.logLines(3)
	s.waitMetric(idleConnections, "1")
	page = s.statusPageAfter(2)
	for _, want := range []string{
		`<b class="policy">1000</b> <bdi>IP 10.1.2.3 is blocked</bdi>`, "<code>GET http://10.1.2.3</code>", "rule 10.0.0.0/8 Private-Use (RFC 1918)",
		`<b class="policy">1013</b> <bdi>port 25 is blocked</bdi>`, "<code>CONNECT 127.0.0.1:25</code>",
		`<th scope="row">2xx</th>`, `<th scope="row">1000 <small>address refused</small></th>`, `<th scope="row">Private-Use</th>`,
		`<th scope="row">idle</th><td>1</td>`, "3 since the start",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "not-shown") {
		t.Errorf("the page shows a request that was delivered")
	}
}

// Whatever a client sends, the page has it as text.
func TestStatusPageEscapes(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	hostile := `</code><script>alert(1)</script><img/src=x/onerror=alert(1)>'"&amp;{{.}}`
	s.exchange("GET http://10.1.2.3/"+hostile+"\xff HTTP/1.1\r\nHost: x\r\n\r\n").check(t, "403 Forbidden", "1000")
	s.exchange("GET http://10.1.2.3/ HTTP/1.1\r\nHost: x\r\nRequest-ID: "+hostile+"\r\n\r\n").check(t, "403 Forbidden", "1000")
	s.exchange("GET <b>:"+hostile+" HTTP/1.1\r\nHost: x\r\n\r\n").check(t, "400 Bad Request", "1002")
	s.exchange("X!#$%&'*+-.^_`|~"+strings.Repeat("Y", 100)+" http://10.1.2.3/ HTTP/1.1\r\nHost: x\r\n\r\n").check(t, "403 Forbidden", "1000")
	s.logLines(4)
	page := s.statusPageAfter(3) // two of them are one entry
	if strings.Contains(page, "alert(1)<") || strings.Contains(page, "<img") || strings.Count(page, "<script>") != 1 {
		t.Errorf("what a client sent is HTML in the page")
	}
	if text := html.UnescapeString(page); !strings.Contains(text, "X!#$%&'*+-.^_`|~YYYY") {
		t.Errorf("the page does not show what a client sent")
	}
	if strings.Contains(page, strings.Repeat("Y", 40)) {
		t.Errorf("the page shows all of a long method")
	}
}

// The page shows hosts alone, whatever the access log has: a path, a query or a password may be a secret.
func TestStatusPageShowsHosts(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{accesslog.URLFull, accesslog.URLPath, accesslog.URLHost} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.AccessLog.URL = mode })
			s.exchange("POST http://10.1.2.3/path?zzz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").check(t, "403 Forbidden", "1000")
			s.exchange("POST http://bob:hunter2@10.1.2.3/path?zzz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").check(t, "400 Bad Request", "1002")
			s.logLines(2)
			page := s.statusPageAfter(2)
			if want := "<code>POST http://10.1.2.3</code>"; !strings.Contains(page, want) {
				t.Errorf("the page lacks %s", want)
			}
			for _, never := range []string{"/path", "zzz", "hunter2"} {
				if strings.Contains(page, never) {
					t.Errorf("the page shows %s", never)
				}
			}
		})
	}
}

// However many requests are refused, and however long they are, the page stays small.
func TestStatusPageIsBounded(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	c := s.dial()
	const n = 200
	for i := range n {
		c.send(fmt.Sprintf("GET http://10.1.2.%d/%s HTTP/1.1\r\nHost: x\r\n\r\n", i, strings.Repeat("\"", 8000)))
		c.receive("GET").check(t, "403 Forbidden", "1000")
	}
	s.logLines(n)
	var page string
	eventually(t, "the last refusal in the status page", func() bool {
		page = s.statusPage()
		return strings.Contains(page, fmt.Sprintf("http://10.1.2.%d<", n-1))
	})
	if got := strings.Count(page, "<time "); got != 1 || !strings.Contains(page, fmt.Sprintf("<b>%d times</b>", n)) {
		t.Errorf("got %d refusals in the page; want one of %d times, for one client asked for many hosts", got, n)
	}
	if strings.Contains(page, fmt.Sprintf("http://10.1.2.%d<", n-10)) {
		t.Errorf("the page shows more than the latest")
	}
	if len(page) > 100_000 {
		t.Errorf("got a page of %d bytes; want at most 100,000", len(page))
	}
}

// Of many clients the latest refusals are kept.
func TestStatusPageOfManyClients(t *testing.T) {
	t.Parallel()
	s := start(t, fromBalancer)
	const n, kept = 70, 50
	for i := range n {
		s.exchange(balanced(i, "GET", fmt.Sprintf("10.1.2.%d", i))).check(t, "403 Forbidden", "1000")
	}
	s.logLines(n)
	var page string
	eventually(t, "the last refusal in the status page", func() bool {
		page = s.statusPage()
		return strings.Contains(page, fmt.Sprintf("http://10.1.2.%d<", n-1))
	})
	if got := strings.Count(page, "<time "); got != kept || strings.Contains(page, fmt.Sprintf("http://10.1.2.%d<", n-1-kept)) {
		t.Errorf("got %d refusals in the page; want the last %d", got, kept)
	}
}

// fromBalancer has the proxy believe what balanced says of a client.
func fromBalancer(cfg *proxy.Config, _ *guard.Config) {
	for i := range cfg.Listeners {
		cfg.Listeners[i].ProxyProtocol = true
		cfg.Listeners[i].ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}
}

// balanced is a request to host by the client of that number, as a load balancer passes it on.
func balanced(client int, method, host string) string {
	return fmt.Sprintf("PROXY TCP4 203.0.113.%d 127.0.0.1 50000 9090\r\n%s http://%s/secret HTTP/1.1\r\nHost: x\r\n\r\n", client, method, host)
}

// The page shows the configuration in force: what a reload cannot change stays as it was.
func TestStatusPageSettings(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	if strings.Contains(s.statusPage(), "Configuration in force") {
		t.Errorf("the page shows a configuration that it was not told")
	}
	s.deps.Settings = func(cfg proxy.Config) []admin.Setting {
		return []admin.Setting{{Key: "metrics.address", Value: cfg.Metrics.Address, Origin: "config.yaml:7"}, {Key: "<b>", Value: cfg.UserAgent}}
	}
	cfg := s.cfg
	cfg.Metrics.Address, cfg.UserAgent = "127.0.0.1:1", "<script>"
	if err := s.proxy.Reload(cfg, s.deps); err != nil {
		t.Fatal(err)
	}
	page := s.statusPage()
	for _, want := range []string{"Configuration in force", "<code>127.0.0.1:0</code> <small>config.yaml:7</small>", "&lt;b&gt;</th><td><code>&lt;script&gt;</code>", "1 more, with their defaults"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

// Pages are asked for while requests are refused and settings reloaded.
func TestStatusPageAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	done := make(chan struct{})
	go func() { // awaited below
		defer close(done)
		for range 20 {
			s.admin("/")
		}
	}()
	for range 50 {
		s.exchange("GET http://10.1.2.3/a HTTP/1.1\r\nHost: x\r\n\r\n").check(t, "403 Forbidden", "1000")
	}
	s.mustReload(nil)
	<-done
}
