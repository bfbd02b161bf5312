package e2e

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"whsentry/guard"
	"whsentry/proxy"
)

// shutdown begins to stop the proxy, which may take d, and returns what tells how that ended.
func (s *sentry) shutdown(d time.Duration) <-chan error {
	ended := make(chan error, 1)
	s.stopped.Do(func() {
		go func() { // awaited by whoever asked
			ctx, cancel := context.WithTimeout(context.Background(), d)
			defer cancel()
			ended <- s.proxy.Shutdown(ctx)
		}()
	})
	return ended
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	release := make(chan struct{})
	o := responding(t, func(c *originConn, _ string) bool {
		<-release
		_, err := io.WriteString(c, okResponse)
		return err == nil
	})
	idle := s.dial()
	running := s.dial()
	running.send(post(o, "/", "body"))
	arriving := s.dial()
	request := post(o, "/late", "body")
	arriving.send(request[:10])
	s.waitMetric(busyConnections, "1")
	if status, body := s.admin("/readyz"); status != 200 {
		t.Errorf("got %d, %q for /readyz; want 200", status, body)
	}

	ended := s.shutdown(patience)
	if rest, err := io.ReadAll(idle.r); err != nil || len(rest) > 0 {
		t.Errorf("got %q, %v on an idle connection; want it closed", rest, err)
	}
	if status, _ := s.admin("/readyz"); status != 503 {
		t.Errorf("got %d for /readyz while stopping; want 503", status)
	}
	if status, _ := s.admin("/healthz"); status != 200 {
		t.Errorf("got %d for /healthz while stopping; want 200", status)
	}
	if conn, err := net.DialTimeout("tcp", s.addr, time.Second); err == nil {
		t.Errorf("a new connection is taken while stopping")
		conn.Close()
	}
	select {
	case err := <-ended:
		t.Fatalf("stopped (%v) under a running request", err)
	default:
	}
	arriving.send(request[10:])
	close(release)
	for _, c := range []*rawConn{running, arriving} {
		r := c.receive("POST")
		r.check(t, "200 OK", "")
		if !r.closing {
			t.Errorf("got an answer without Connection: close while stopping")
		}
		c.waitEnd()
	}
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if n := len(s.logLines(2)); n != 2 {
		t.Errorf("got %d log lines; want 2", n)
	}
}

// TestShutdownEndsWhatDoesNot: whoever still has no answer is told that the proxy is stopping, and what has begun is cut.
func TestShutdownEndsWhatDoesNot(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	silent := swallowing(t)
	streaming := newOrigin(t, func(c *originConn) {
		c.request()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"+pattern(100_000))
		io.Copy(io.Discard, c.r)
	})
	clients := make([]*rawConn, 6)
	for i := range clients {
		clients[i] = s.dial()
	}
	clients[3].send("POST http://x") // within its head; first, for nothing tells when that has been read
	clients[0].send(post(silent, "/", "body"))
	clients[1].send(get(streaming, "/"))
	clients[1].readHead()
	clients[2].connectTo(silent)
	clients[4].send("POST http://x/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nbody") // within its body
	clients[5].send("GET https://" + silent.addr + "/ HTTP/1.1\r\nHost: x\r\n\r\n")          // in the TLS handshake
	s.waitMetric("whsentry_tunnels", "1")
	eventually(t, "all connections", func() bool { return silent.connections() == 3 && streaming.connections() == 1 })
	s.waitMetric("whsentry_buffered_bytes", "8")

	began := time.Now()
	err := <-s.shutdown(time.Second)
	if err == nil {
		t.Errorf("got no error, though requests were cut off")
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("stopped after %v; want 1s at least", took)
	}
	for i, delivered := range map[int]string{0: "maybe", 3: "no", 4: "no", 5: "no"} {
		r := clients[i].receive("POST")
		r.check(t, "502 Bad Gateway", "1004")
		r.checkText(t, "stopping")
		if got := r.header.Get("X-Whsentry-Delivered"); got != delivered {
			t.Errorf("client %d: got delivered %q; want %q", i, got, delivered)
		}
	}
	for _, c := range clients {
		c.waitEnd()
	}
	b, err := os.ReadFile(s.logFile)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "\n"); n != len(clients) {
		t.Errorf("got %d log lines; want one for each of %d clients:\n%s", n, len(clients), b)
	}
	if strings.Contains(string(b), " 499 ") {
		t.Errorf("got lines of clients that went away; want none:\n%s", b)
	}
}

// Tunnels are given their time, and those that end within it are not cut.
func TestShutdownWaitsForTunnels(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := echoing(t)
	c := s.dial()
	c.connectTo(o)
	ended := s.shutdown(patience)
	eventually(t, "the listener to close", func() bool {
		conn, err := net.Dial("tcp", s.addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	c.send("still there")
	got := make([]byte, 11)
	if _, err := io.ReadFull(c.r, got); err != nil || string(got) != "still there" {
		t.Errorf("got %q, %v through a tunnel while stopping", got, err)
	}
	c.halfClose()
	c.waitEnd()
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestShutdownClosesConnectionsAtRest(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = patience })
	closed := make(chan struct{})
	o := newOrigin(t, func(c *originConn) {
		c.request()
		io.WriteString(c, okResponse)
		io.Copy(io.Discard, c.r)
		close(closed)
	})
	s.exchange(get(o, "/")).check(t, "200 OK", "")
	if err := <-s.shutdown(patience); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	<-closed
}

// A client that sends one request after another is told to stop, and none of its requests is lost unanswered.
func TestShutdownUnderLoad(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	const clients = 8
	type count struct{ answered, cut int }
	counts := make(chan count, clients)
	for range clients {
		c := s.dial()
		go func() { // ends when the proxy closes the connection; awaited below
			var n count
			for {
				if _, err := io.WriteString(c.Conn, post(o, "/", "body")); err != nil {
					break
				}
				r, err := c.tryReceive("POST")
				if err != nil {
					n.cut++ // it crossed the closing of an idle connection; no byte of an answer came
					break
				}
				n.answered++
				if r.closing {
					break
				}
			}
			counts <- n
		}()
	}
	time.Sleep(50 * time.Millisecond) // of load
	if err := <-s.shutdown(patience); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	answered := 0
	for range clients {
		answered += (<-counts).answered
	}
	b, err := os.ReadFile(s.logFile)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "\n"); n != answered {
		t.Errorf("got %d log lines; want %d, one for each answer", n, answered)
	}
	if n := o.requestCount("POST"); n != answered {
		t.Errorf("got %d requests at the destination; want %d, one for each answer", n, answered)
	}
}

// A request of which the first byte has arrived when Shutdown comes is answered.
func TestShutdownFinishesWhatHasJustBegun(t *testing.T) {
	for range 10 {
		s := start(t, nil)
		o := answering(t, okResponse)
		var posting sync.WaitGroup
		for range 30 {
			c := s.dial()
			posting.Go(func() {
				raw := post(o, "/", "hello")
				head, body := raw[:len(raw)-5], raw[len(raw)-5:]
				for {
					if _, err := io.WriteString(c.Conn, head); err != nil {
						return
					}
					time.Sleep(100 * time.Microsecond)
					if _, err := io.WriteString(c.Conn, body); err != nil {
						return
					}
					if r, err := c.tryReceive("POST"); err != nil || r.closing {
						return
					}
				}
			})
		}
		s.logLines(30)
		s.stop(patience)
		posting.Wait()
		log, err := os.ReadFile(s.logFile)
		if err != nil {
			t.Fatal(err)
		}
		if lost := strings.Count(string(log), " 499 "); lost > 0 {
			t.Fatalf("got %d requests that had begun and were dropped; want none", lost)
		}
	}
}
