package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/metrics"
)

// shifts are clients that send one request after the other: half of them each on a connection of its own, the others
// on one that they keep for as long as they may.
type shifts struct {
	answered, again atomic.Int64
	mu              sync.Mutex // guards the following
	failed          []string
}

// work sends until quit is closed.
func (s *shifts) work(addr string, o *origin, number int, quit <-chan struct{}) {
	var c *rawClient
	for i := 0; ; i++ {
		select {
		case <-quit:
			c.close()
			return
		case <-time.After(time.Millisecond): // a load, not a flood
		}
		fresh := c == nil
		if fresh {
			var err error
			if c, err = dialRaw(addr); err != nil {
				s.fail("connect: %v", err)
				continue
			}
		}
		resp, err := c.post(post(o, fmt.Sprintf("/%d/%d", number, i), "body"))
		switch {
		case err != nil && !fresh:
			s.again.Add(1) // it crossed the closing of the connection; a client tries that again on another
			i--
		case err != nil || resp.code() != 200:
			s.fail("request %d of client %d, on a connection that was new (%v): %+v, %v", i, number, fresh, resp, err)
		default:
			s.answered.Add(1)
		}
		if err != nil || resp.closing || number%2 == 0 {
			c.close()
			c = nil
		}
	}
}

func (s *shifts) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = append(s.failed, fmt.Sprintf(format, args...))
}

// rawClient is a client's connection outside the test's own goroutine; nil is none.
type rawClient struct{ *rawConn }

func dialRaw(addr string) (*rawClient, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(patience))
	return &rawClient{&rawConn{Conn: conn, r: bufio.NewReader(conn)}}, nil
}

func (c *rawClient) post(raw string) (*response, error) {
	if _, err := io.WriteString(c.Conn, raw); err != nil {
		return nil, err
	}
	r, err := c.tryReceive("POST")
	if err == nil {
		err = r.bodyErr
	}
	return r, err
}

func (c *rawClient) close() {
	if c != nil {
		c.Conn.Close()
	}
}

// TestTakeover has one proxy after the other take over the port from the one before, under load: no request fails.
func TestTakeover(t *testing.T) {
	t.Parallel()
	o := answering(t, okResponse)
	share := func(addr string) *sentry {
		return start(t, func(cfg *proxy.Config, _ *guard.Config) {
			cfg.Listeners[0].Address, cfg.Listeners[0].ReusePort = addr, true
		})
	}
	current := share("127.0.0.1:0")
	addr := current.addr
	var s shifts
	var working sync.WaitGroup
	quit := make(chan struct{})
	for number := range 8 {
		working.Go(func() { s.work(addr, o, number, quit) }) // until quit
	}
	for round := range 2 {
		former := current
		current = share(addr)
		before := s.answered.Load()
		eventually(t, "load on both", func() bool { return s.answered.Load() > before+100 })
		if err := <-former.shutdown(patience); err != nil {
			t.Errorf("round %d: Shutdown: %v", round, err)
		}
		before = s.answered.Load()
		eventually(t, "load on the new one", func() bool { return s.answered.Load() > before+100 })
	}
	close(quit)
	working.Wait()
	if len(s.failed) > 0 {
		t.Errorf("got %d failed requests; want none:\n%s", len(s.failed), strings.Join(s.failed[:min(len(s.failed), 10)], "\n"))
	}
	if n := o.requestCount("POST"); int64(n) != s.answered.Load() {
		t.Errorf("got %d requests at the destination; want %d, one for each answer", n, s.answered.Load())
	}
	t.Logf("%d requests, %d of them sent again on a new connection", s.answered.Load(), s.again.Load())
}

// TestShutdownServesWhatWaits: connections that the system has made, and that nobody has accepted yet, are served.
func TestShutdownServesWhatWaits(t *testing.T) {
	t.Parallel()
	o := answering(t, okResponse)
	s := &sentry{t: t, cfg: proxy.DefaultConfig(), guard: guard.DefaultConfig()}
	s.cfg.Listeners[0].Address, s.cfg.Metrics.Address = "127.0.0.1:0", ""
	s.cfg.AccessLog.File = filepath.Join(t.TempDir(), "access.log")
	s.guard.InsecureSkipDenyList = true
	p, err := proxy.New(s.cfg, s.dependencies(metrics.New("test", "none")))
	if err != nil {
		t.Fatal(err)
	}
	s.addr = p.Addrs()[0].String()
	clients := make([]*rawConn, 50)
	for i := range clients {
		clients[i] = s.dial()
		clients[i].send(post(o, "/", "body"))
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve() }() // awaited below
	ended := make(chan error, 1)
	go func() { // awaited below
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ended <- p.Shutdown(ctx)
	}()
	for i, c := range clients {
		r := c.receive("POST")
		r.check(t, "200 OK", "")
		if !r.closing || !c.ended() {
			t.Errorf("connection %d: got an answer without Connection: close, or no end", i)
		}
	}
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// TestShutdownWaitsForTheBusy: a client that sends its next request soon is told to close with the answer; one that
// does not is closed between two requests.
func TestShutdownWaitsForTheBusy(t *testing.T) {
	t.Parallel()
	unlessStalled(t, stopTheBusy)
}

func stopTheBusy(t *testing.T) (problems []string) {
	s := start(t, nil)
	o := answering(t, okResponse)
	busy, idle, silent := s.dial(), s.dial(), s.dial()
	idle.send(post(o, "/", "body"))
	if r := idle.receive("POST"); r.closing {
		t.Fatal("got Connection: close before the stop")
	}
	s.waitMetric(clientGauge, "3")
	told := make(chan error, 1)
	go func() { // ends when the connection does; awaited below
		c := &rawClient{busy}
		for {
			r, err := c.post(post(o, "/", "body"))
			if err != nil || r.closing {
				told <- err
				return
			}
		}
	}()
	s.logLines(10)
	ended := s.shutdown(patience)
	if err := <-told; err != nil || !busy.ended() {
		problems = append(problems, fmt.Sprintf("got %v; want an answer with Connection: close, and then the end", err))
	}
	for _, c := range []*rawConn{idle, silent} {
		if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
			t.Errorf("got %q, %v; want it closed with nothing", rest, err)
		}
	}
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	return problems
}
