package e2e

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
	"whsentry/proxy/listen"
)

var loopback = netip.MustParsePrefix("127.0.0.1/32")

func (s *sentry) mustReload(change func(cfg *proxy.Config, g *guard.Config)) {
	s.t.Helper()
	if err := s.reload(change); err != nil {
		s.t.Fatalf("reload: %v", err)
	}
}

func TestReloadChangesTheNextRequest(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	c := s.dial() // one connection all along: it survives every reload
	ask := func(request string) *response {
		t.Helper()
		c.send(request)
		return c.receive("POST")
	}
	ask(post(o, "/", "12345")).check(t, "200 OK", "")

	s.mustReload(func(_ *proxy.Config, g *guard.Config) { g.DenyList = []netip.Prefix{loopback} })
	ask(post(o, "/", "12345")).check(t, "403 Forbidden", "1000")
	s.mustReload(func(_ *proxy.Config, g *guard.Config) { g.DenyList = nil })
	ask(post(o, "/", "12345")).check(t, "200 OK", "")

	s.mustReload(func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxResponseBodySize = 1 })
	ask(post(o, "/", "12345")).check(t, "502 Bad Gateway", "1008")
	s.mustReload(func(cfg *proxy.Config, _ *guard.Config) {
		cfg.MaxResponseBodySize, cfg.UserAgent, cfg.AccessLog.URL = 100, "changed/1", accesslog.URLHost
	})
	ask(post(o, "/secret", "12345")).check(t, "200 OK", "")
	if got := o.bytes(); !strings.Contains(got, "User-Agent: changed/1\r\n") {
		t.Errorf("got %q at the destination; want the new User-Agent", got)
	}
	if lines := s.logLines(5); strings.Contains(lines[4], "secret") {
		t.Errorf("got the line %q; want the host alone", lines[4])
	}
	s.mustReload(func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectMode = proxy.ConnectDeny })
	c.send(connectRequest(o))
	c.receive("GET").check(t, "405 CONNECT is not allowed (1015)", "1015")

	s.mustReload(func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxRequestBodySize = 4 })
	ask(post(o, "/", "12345")).check(t, "413 Request Entity Too Large", "1012")
	s.waitMetric(`whsentry_config_reloads_total{result="ok"}`, "6")
}

func TestReloadRetiresPooledConnections(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	closed := make(chan struct{}, 1)
	o := newOrigin(t, func(c *originConn) {
		for {
			if _, _, ok := c.request(); !ok {
				break
			}
			io.WriteString(c, okResponse)
		}
		closed <- struct{}{}
	})
	s.exchange(get(o, "/")).check(t, "200 OK", "")
	s.mustReload(nil)
	s.exchange(get(o, "/")).check(t, "200 OK", "")
	if n := o.connections(); n != 2 {
		t.Errorf("got %d connections; want 2, for the first was made before the reload", n)
	}
	<-closed
	s.mustReload(nil)
	<-closed // without another request, too
	s.waitMetric(`whsentry_destination_connections_closed_total{why="retired"}`, "2")
}

// A request in flight ends under the settings that it began with; its connection was judged by them, and is not kept.
func TestReloadLeavesRequestsInFlightAlone(t *testing.T) {
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectPlain = proxy.PlainOpaque })
	release := make(chan struct{})
	o := responding(t, func(c *originConn, body string) bool {
		if body == "slow" {
			<-release
		}
		_, err := io.WriteString(c, okResponse)
		return err == nil
	})
	inFlight := s.dial()
	inFlight.send(post(o, "/", "slow"))
	tunnel := s.dial()
	tunnel.connectTo(o)
	s.waitMetric(busyConnections, "2")
	s.mustReload(func(cfg *proxy.Config, g *guard.Config) {
		g.DenyList = []netip.Prefix{loopback}
		cfg.MaxResponseBodySize, cfg.ReadTimeout = 1, time.Second
	})
	s.exchange(get(o, "/")).check(t, "403 Forbidden", "1000")
	close(release)
	inFlight.receive("POST").check(t, "200 OK", "")
	tunnel.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	tunnel.receive("GET").check(t, "200 OK", "")
	inFlight.send(post(o, "/", "next"))
	inFlight.receive("POST").check(t, "403 Forbidden", "1000")
	tunnel.Close()
	s.waitMetric(busyConnections, "0")
	s.waitMetric(idleConnections, "0")
}

// A request that began before the deny list changed, and connects after it, must leave no connection behind that
// the next request could use.
func TestReloadWhileARequestArrives(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	c := s.dial()
	full := post(o, "/", "body")
	c.send(full[:len(full)-1])
	s.waitMetric("whsentry_buffered_bytes", "3") // it has begun
	s.mustReload(func(_ *proxy.Config, g *guard.Config) { g.DenyList = []netip.Prefix{loopback} })
	c.send(full[len(full)-1:])
	c.receive("POST").check(t, "200 OK", "")
	s.exchange(post(o, "/", "body")).check(t, "403 Forbidden", "1000")
	if n := o.requestCount("POST"); n != 1 {
		t.Errorf("got %d requests at the destination; want 1", n)
	}
}

func TestBadReloadChangesNothing(t *testing.T) {
	s := start(t, nil)
	o := answering(t, okResponse)
	s.exchange(get(o, "/")).check(t, "200 OK", "")
	for _, tt := range []struct {
		name   string
		change func(cfg *proxy.Config)
	}{
		{"a bad value", func(cfg *proxy.Config) { cfg.ReadTimeout = -1 }},
		{"a log in a folder that is not there", func(cfg *proxy.Config) {
			cfg.AccessLog.File = filepath.Join(t.TempDir(), "missing", "access.log")
		}},
	} {
		cfg := s.cfg
		cfg.MaxResponseBodySize = 1 // by which a change would show
		tt.change(&cfg)
		if err := s.proxy.Reload(cfg, s.deps); err == nil {
			t.Errorf("%s: got no error", tt.name)
		}
		s.proxy.ReloadFailed()
		s.exchange(get(o, "/")).check(t, "200 OK", "")
	}
	if n := o.connections(); n != 1 {
		t.Errorf("got %d connections; want 1: nothing has changed", n)
	}
	s.waitMetric(`whsentry_config_reloads_total{result="failed"}`, "2")
	s.waitMetric(`whsentry_config_reloads_total{result="ok"}`, "0")
	if n := len(s.logLines(3)); n != 3 {
		t.Errorf("got %d log lines in the old log; want 3", n)
	}
}

func TestReloadKeepsListenersAndLogType(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.mustReload(func(cfg *proxy.Config, _ *guard.Config) {
		cfg.Listeners = []listen.Config{
			{Type: listen.HTTP, Address: "127.0.0.1:1"}, {Type: listen.HTTP, Address: "127.0.0.1:2"},
		}
		cfg.Metrics.Address = ""
		cfg.AccessLog.Type = accesslog.JSON
	})
	o := answering(t, okResponse)
	s.exchange(get(o, "/")).check(t, "200 OK", "")
	if line := s.logLines(1)[0]; !strings.HasPrefix(line, "[") {
		t.Errorf("got the line %q; want a text line as before", line)
	}
	if status, _ := s.admin("/healthz"); status != 200 {
		t.Errorf("got %d for /healthz; want 200", status)
	}
	s.mustReload(nil) // and once more, from what has been kept
	s.exchange(get(o, "/")).check(t, "200 OK", "")
}

func TestReloadMovesTheLog(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.exchange("\x00")
	s.logLines(1) // which the reload must not overtake
	second := filepath.Join(t.TempDir(), "second.log")
	old := s.logFile
	s.mustReload(func(cfg *proxy.Config, _ *guard.Config) { cfg.AccessLog.File = second })
	s.logFile = second
	s.exchange("\x00")
	s.logLines(1)
	if b, err := os.ReadFile(old); err != nil || strings.Count(string(b), "\n") != 1 {
		t.Errorf("got %q, %v in the old log; want its one line", b, err)
	}
}

// Reloads under load: no connection is lost and no request fails.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	done := make(chan struct{})
	failed := make(chan string, 4)
	for range 4 {
		c := s.dial()
		go func() { // ends with done, and is awaited below
			for {
				select {
				case <-done:
					failed <- ""
					return
				default:
				}
				io.WriteString(c.Conn, post(o, "/", "body"))
				if r, err := c.tryReceive("POST"); err != nil || r.code() != 200 {
					failed <- "a request failed"
					return
				}
			}
		}()
	}
	for range 20 {
		s.mustReload(nil)
		time.Sleep(5 * time.Millisecond) // of load
	}
	close(done)
	for range 4 {
		if what := <-failed; what != "" {
			t.Error(what)
		}
	}
}

// A bug in the way of a request answers that request with 500, and costs nobody else anything.
func TestPanicIsOneRequestsOwn(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxConnectionsPerDestination = 1 })
	o := answering(t, okResponse)
	good := s.deps
	bad := s.deps
	bad.Log = bad.Log.Output(io.Discard)
	bad.Dialer = new(guard.Dialer) // which has no guard
	if err := s.proxy.Reload(s.cfg, bad); err != nil {
		t.Fatal(err)
	}
	for _, request := range []string{post(o, "/", "body"), connectRequest(o)} {
		for range 2 {
			c := s.dial()
			c.send(request)
			r := c.receive("POST")
			if r.code() != 500 || r.reason() != "1009" || !r.closing {
				t.Errorf("got %q, reason %q, closing %v; want 500 and 1009, closing", r.status, r.reason(), r.closing)
			}
			if text := r.header.Get("X-Whsentry-Reason"); text != "internal error" {
				t.Errorf("got the reason %q; want nothing of the inside", text)
			}
			c.waitEnd()
		}
	}
	if err := s.proxy.Reload(s.cfg, good); err != nil {
		t.Fatal(err)
	}
	s.exchange(post(o, "/", "body")).check(t, "200 OK", "")
	s.waitMetric(busyConnections, "0")
	s.waitMetric("whsentry_buffered_bytes", "0")
	s.waitMetric(series(500, 1009), "4")
	if n := len(s.logLines(5)); n != 5 {
		t.Errorf("got %d log lines; want 5", n)
	}
}
