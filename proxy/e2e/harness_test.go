// Package e2e tests the proxy from end to end: real sockets on the loopback interface, one file a promise.
package e2e

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/policy"
	"whsentry/proxy"
	"whsentry/proxy/metrics"
)

// TestMain has many tests run at once, for most of the time they wait; the command line's -parallel wins. A test that
// others would slow down more than it can bear, such as one with a limit in time, or one that would slow them down, is
// not parallel: those come first, one after the other. Those among them that mostly wait are parts of TestLimitsInTime or
// of TestDestinationsThatGoWrong.
func TestMain(m *testing.M) {
	flag.Set("test.parallel", "24")
	goleak.VerifyTestMain(m)
}

// patience bounds every wait of a test; nothing waits that long unless it fails.
const patience = time.Minute

// sentry is a proxy under test. It may reach 127.0.0.1 and nothing else that is not public.
type sentry struct {
	t       *testing.T
	proxy   *proxy.Proxy
	deps    proxy.Dependencies
	cfg     proxy.Config
	guard   guard.Config
	trust   func(cfg *ca.Config) // changes the defaults of what is trusted and presented; nil: nothing
	policy  policy.Config        // who may send where
	addr    string
	metrics string
	logFile string
	stopped sync.Once
}

// start starts a proxy with the defaults, as changed by change, and stops it when the test ends.
func start(t *testing.T, change func(cfg *proxy.Config, g *guard.Config)) *sentry {
	t.Helper()
	return startTrusting(t, nil, change)
}

// startTrusting is start with other certificates than the defaults.
func startTrusting(t *testing.T, trust func(cfg *ca.Config), change func(cfg *proxy.Config, g *guard.Config)) *sentry {
	t.Helper()
	return startRuled(t, policy.Config{}, trust, change)
}

// startRuled is startTrusting with rules about who may send where.
func startRuled(t *testing.T, rules policy.Config, trust func(cfg *ca.Config), change func(cfg *proxy.Config, g *guard.Config)) *sentry {
	t.Helper()
	s := &sentry{t: t, cfg: proxy.DefaultConfig(), guard: guard.DefaultConfig(), policy: rules, trust: trust, logFile: filepath.Join(t.TempDir(), "access.log")}
	s.cfg.Listeners[0].Address = "127.0.0.1:0"
	s.cfg.Metrics.Address = "127.0.0.1:0"
	s.cfg.AccessLog.File = s.logFile
	s.guard.AllowList = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	s.guard.PortDenyList = []uint16{25}
	if change != nil {
		change(&s.cfg, &s.guard)
	}
	m := metrics.New("test", "none")
	s.deps = s.dependencies(m)
	p, err := proxy.New(s.cfg, s.deps)
	if err != nil {
		t.Fatalf("start the proxy: %v", err)
	}
	s.proxy, s.addr = p, p.Addrs()[0].String()
	if a := p.MetricsAddr(); a != nil {
		s.metrics = "http://" + a.String()
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve() }() // awaited below
	t.Cleanup(func() {
		s.stop(patience)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

func (s *sentry) dependencies(m *metrics.Metrics) proxy.Dependencies {
	s.t.Helper()
	g, err := guard.New(s.guard, m.GuardHooks())
	if err != nil {
		s.t.Fatalf("make the guard: %v", err)
	}
	caConfig := ca.DefaultConfig()
	caConfig.Bundle.URL, caConfig.Bundle.File = "", ""
	if s.trust != nil {
		s.trust(&caConfig)
	}
	for _, d := range s.policy.Destinations {
		caConfig.Destinations = append(caConfig.Destinations, ca.RulesConfig{CAFile: d.CAFile, Pins: d.Pins,
			MinVersion: d.TLS.MinVersion, LegacyCiphers: d.TLS.LegacyCiphers, Renegotiation: d.TLS.Renegotiation})
	}
	store, err := ca.New(caConfig, ca.Hooks{})
	if err != nil {
		s.t.Fatalf("make the trust store: %v", err)
	}
	s.t.Cleanup(store.Close)
	rules := s.policy
	rules.Aliases = maps.Clone(rules.Aliases)
	if rules.Aliases == nil {
		rules.Aliases = make(map[string][]string)
	}
	if caConfig.ClientCert.CertFile != "" {
		rules.Aliases[policy.DefaultAlias] = nil
	}
	for alias := range caConfig.ClientCerts {
		rules.Aliases[alias] = caConfig.ClientCertHosts[alias]
	}
	p, err := policy.New(rules, s.deps.Policy, time.Now())
	if err != nil {
		s.t.Fatalf("make the policy: %v", err)
	}
	log := zerolog.New(zerolog.TestWriter{T: s.t}).Level(zerolog.WarnLevel)
	return proxy.Dependencies{Guard: g, Dialer: guard.NewDialer(g), CA: store, Policy: p, Log: log, Metrics: m}
}

// stop stops the proxy, once, and lets what runs finish within d.
func (s *sentry) stop(d time.Duration) {
	s.stopped.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		if err := s.proxy.Shutdown(ctx); err != nil && d == patience {
			s.t.Errorf("Shutdown: %v", err)
		}
	})
}

// logLines returns the access log's lines once there are n.
func (s *sentry) logLines(n int) []string {
	s.t.Helper()
	var lines []string
	eventually(s.t, fmt.Sprintf("%d lines in the access log", n), func() bool {
		b, err := os.ReadFile(s.logFile)
		if err != nil {
			return false
		}
		lines = strings.Split(string(b), "\n")
		lines = lines[:len(lines)-1] // what follows the last line's end is nothing, or a line that is being written
		return len(lines) >= n
	})
	return lines
}

// metric returns the value of the metric with that name and labels, "" where it is not there.
func (s *sentry) metric(name string) string {
	s.t.Helper()
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(s.metrics + "/metrics")
	if err != nil {
		s.t.Fatalf("get the metrics: %v", err)
	}
	defer resp.Body.Close()
	for scan := bufio.NewScanner(resp.Body); scan.Scan(); {
		if value, ok := strings.CutPrefix(scan.Text(), name+" "); ok {
			return value
		}
	}
	return ""
}

// eventually waits until done, and fails the test where that takes longer than patience.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

// dial opens a client's connection to the proxy.
func (s *sentry) dial() *rawConn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatalf("connect to the proxy: %v", err)
	}
	return newRawConn(s.t, conn)
}

// exchange sends raw on a connection of its own, reads one response and whether the connection then ends.
func (s *sentry) exchange(raw string) *response {
	s.t.Helper()
	c := s.dial()
	c.send(raw)
	return c.receive("GET")
}

// rawConn is a connection on which a test decides about every byte.
type rawConn struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func newRawConn(t *testing.T, conn net.Conn) *rawConn {
	conn.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { conn.Close() })
	return &rawConn{t: t, Conn: conn, r: bufio.NewReader(conn)}
}

func (c *rawConn) send(raw string) {
	c.t.Helper()
	for len(raw) > 0 {
		piece := raw[:min(len(raw), 1<<20)] // a copy of all of it would be large
		if _, err := io.WriteString(c.Conn, piece); err != nil {
			c.t.Fatalf("send: %v", err)
		}
		raw = raw[len(piece):]
	}
}

// response is a response as it was received.
type response struct {
	status  string // the status line without its version
	header  http.Header
	body    string
	bodyErr error
	closing bool
}

func (r *response) code() int {
	var code int
	fmt.Sscanf(r.status, "%d", &code)
	return code
}

func (r *response) reason() string { return r.header.Get("X-Whsentry-Reasoncode") }

// receive reads one response to a request with that method.
func (c *rawConn) receive(method string) *response {
	c.t.Helper()
	r, err := c.tryReceive(method)
	if err != nil {
		c.t.Fatalf("read a response: %v", err)
	}
	return r
}

func (c *rawConn) tryReceive(method string) (*response, error) {
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		return nil, err
	}
	body, bodyErr := io.ReadAll(resp.Body)
	return &response{status: resp.Status, header: resp.Header, body: string(body), bodyErr: bodyErr, closing: resp.Close}, nil
}

// ended reports whether the connection has been closed, or reset, by the other side with nothing more to read.
func (c *rawConn) ended() bool {
	c.t.Helper()
	n, err := c.r.Read(make([]byte, 1))
	if n > 0 || err == nil {
		return false
	}
	timeout, ok := err.(net.Error)
	return !ok || !timeout.Timeout()
}

// origin is a destination that the test owns. It counts what reaches it.
type origin struct {
	t        *testing.T
	addr     string
	mu       sync.Mutex
	received []*recording // what came in, by connection
	conns    []net.Conn
}

// newOrigin serves every connection with serve, which is given the connection's number, from 0.
func newOrigin(t *testing.T, serve func(conn *originConn)) *origin {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	o := &origin{t: t, addr: ln.Addr().String()}
	var serving sync.WaitGroup
	serving.Add(1)
	go func() { // ends with the listener
		defer serving.Done()
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			oc := o.accept(conn)
			serving.Add(1)
			go func() { // ends with the connection
				defer serving.Done()
				defer conn.Close()
				serve(oc)
			}()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		o.closeAll()
		serving.Wait()
	})
	return o
}

// closeAll closes every connection.
func (o *origin) closeAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.conns {
		c.Close()
	}
}

// originConn is a connection that an origin serves.
type originConn struct {
	net.Conn
	number int
	r      *bufio.Reader
}

func (o *origin) accept(conn net.Conn) *originConn {
	conn.SetDeadline(time.Now().Add(patience))
	o.mu.Lock()
	defer o.mu.Unlock()
	seen := &recording{mu: &o.mu}
	o.conns = append(o.conns, conn)
	o.received = append(o.received, seen)
	return &originConn{Conn: conn, number: len(o.received) - 1, r: bufio.NewReader(io.TeeReader(conn, seen))}
}

// request reads a whole request, and reports whether there was one.
func (c *originConn) request() (*http.Request, string, bool) {
	c.SetDeadline(time.Now().Add(patience))
	req, err := http.ReadRequest(c.r)
	if err != nil {
		return nil, "", false
	}
	body, err := io.ReadAll(req.Body)
	return req, string(body), err == nil
}

// connections returns how many connections were made.
func (o *origin) connections() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.received)
}

// bytes returns everything that was received, connection after connection.
func (o *origin) bytes() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return recorded(o.received)
}

// answering is an origin that answers every request with raw.
func answering(t *testing.T, raw string) *origin {
	t.Helper()
	return newOrigin(t, func(c *originConn) {
		for {
			if _, _, ok := c.request(); !ok {
				return
			}
			if _, err := io.WriteString(c, raw); err != nil {
				return
			}
		}
	})
}

// answeringOnce is an origin that answers one request a connection with raw, and then closes it.
func answeringOnce(t *testing.T, raw string) *origin {
	t.Helper()
	return newOrigin(t, func(c *originConn) {
		if _, _, ok := c.request(); ok {
			io.WriteString(c, raw)
		}
	})
}

const okResponse = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func get(o *origin, path string) string {
	return "GET http://" + o.addr + path + " HTTP/1.1\r\nHost: " + o.addr + "\r\n\r\n"
}

func post(o *origin, path, body string) string {
	return fmt.Sprintf("POST http://%s%s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", o.addr, path, o.addr, len(body), body)
}
