package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"whsentry/guard"
	"whsentry/proxy"
)

func TestReuse(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	for i := range 5 { // clients come and go, the connection to the destination stays
		s.exchange(post(o, fmt.Sprintf("/%d", i), "x")).check(t, "200 OK", "")
	}
	if n := o.connections(); n != 1 {
		t.Errorf("got %d connections; want 1", n)
	}
	s.waitMetric("whsentry_destination_connections_opened_total", "1")
	s.waitMetric("whsentry_destination_connections_reused_total", "4")
	s.waitMetric(idleConnections, "1")
	s.waitMetric(busyConnections, "0")
}

// What the connection was used for decides whether it is used again.
func TestWhatIsReused(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, tt := range []struct {
		name, method, answer string
		reused               bool
	}{
		{"a length", "GET", okResponse, true},
		{"chunks", "GET", chunked("body", 2), true},
		{"chunks with trailers", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\n\r\n", true},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", true},
		{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", true},
		{"304 with a length", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", true},
		{"an interim response", "GET", "HTTP/1.1 103 Early Hints\r\n\r\n" + okResponse, true},
		{"HTTP/1.0 with keep-alive", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", true},
		{"HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false},
		{"close", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false},
		{"close among others", "GET", "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok", false},
		{"a bare LF", "GET", "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok", false},
		{"bytes after the body", "GET", okResponse + "x", false},
		{"a whole response after the body", "GET", okResponse + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", false},
		{"a body after HEAD", "HEAD", okResponse, false},
		{"a body after 204", "GET", "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", false},
		{"bytes after the last chunk", "GET", chunked("body", 2) + "x", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := answering(t, tt.answer)
			c := s.dialFor(t)
			for range 3 {
				c.send(tt.method + " http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\n\r\n")
				r := c.receive(tt.method)
				for r.code() == 103 {
					r = c.receive(tt.method)
				}
				if r.code() >= 400 || strings.Contains(r.body, "evil") {
					t.Fatalf("got %q with %q", r.status, r.body)
				}
			}
			want := 3
			if tt.reused {
				want = 1
			}
			if n := o.connections(); n != want {
				t.Errorf("got %d connections; want %d", n, want)
			}
		})
	}
}

// Bytes that come after a response, however late, belong to no request.
func TestLateBytesReachNobody(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	sent := make(chan struct{}, 100)
	release := make(chan struct{}, 100)
	o := newOrigin(t, func(c *originConn) {
		for {
			if _, _, ok := c.request(); !ok {
				return
			}
			io.WriteString(c, okResponse)
			<-release
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
			waitArrived(c.Conn)
			sent <- struct{}{}
		}
	})
	for range 5 {
		if r := s.exchange(get(o, "/")); r.body != "ok" {
			t.Fatalf("got %q; want ok", r.body)
		}
		release <- struct{}{}
		<-sent
	}
	if n := o.connections(); n != 5 {
		t.Errorf("got %d connections; want 5", n)
	}
}

// The connection used last is used first, so that those beyond what is needed come to rest and go.
func TestReuseIsLastInFirstOut(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	var together sync.WaitGroup
	together.Add(3)
	o := newOrigin(t, func(c *originConn) {
		for first := true; ; first = false {
			if _, _, ok := c.request(); !ok {
				return
			}
			if first {
				together.Done()
				together.Wait()
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", c.number)
		}
	})
	clients := make([]*rawConn, 3)
	for i := range clients {
		clients[i] = s.dial()
		clients[i].send(get(o, "/"))
	}
	for _, c := range clients {
		c.receive("GET").check(t, "200 OK", "")
	}
	s.waitMetric(idleConnections, "3")
	first := s.exchange(get(o, "/")).body
	for range 5 {
		if got := s.exchange(get(o, "/")).body; got != first {
			t.Errorf("got connection %s; want %s, which was used last", got, first)
		}
	}
	if n := o.connections(); n != 3 {
		t.Errorf("got %d connections; want 3", n)
	}
}

func testIdleConnectionsAreClosed(t *testing.T) {
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = 2 * time.Second })
	closed := make(chan struct{}, 1)
	o := newOrigin(t, func(c *originConn) {
		c.request()
		io.WriteString(c, okResponse)
		io.Copy(io.Discard, c.r)
		closed <- struct{}{}
	})
	s.exchange(get(o, "/")).check(t, "200 OK", "")
	<-closed
	s.waitMetric(`whsentry_destination_connections_closed_total{why="idle"}`, "1")
	s.waitMetric(idleConnections, "0")
}

func testHalfTheLifetimeEndsReuse(t *testing.T) {
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectionLifetime = 2 * time.Second })
	o := answering(t, okResponse)
	s.exchange(get(o, "/")).check(t, "200 OK", "")
	time.Sleep(1010 * time.Millisecond)
	s.exchange(get(o, "/")).check(t, "200 OK", "")
	if n := o.connections(); n != 2 {
		t.Errorf("got %d connections; want 2, for the first was older than half its lifetime", n)
	}
	eventually(t, "a connection closed for its age", func() bool {
		return s.metric(`whsentry_destination_connections_closed_total{why="lifetime"}`) != "0"
	})
}

// A connection that the destination has closed while it was at rest is not used.
func TestClosedConnectionsAreNoticed(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, how := range []string{"FIN", "RST"} {
		o := answering(t, okResponse)
		for range 50 {
			s.exchange(post(o, "/", "x")).check(t, "200 OK", "")
			o.mu.Lock()
			last := o.conns[len(o.conns)-1].(*net.TCPConn)
			o.mu.Unlock()
			if how == "RST" {
				last.SetLinger(0)
			} else {
				last.CloseWrite()
				waitArrived(last)
			}
			last.Close()
		}
		if n := o.requestCount("POST"); n != 50 {
			t.Errorf("%s: got %d requests at the destination; want 50", how, n)
		}
	}
}

// Thousands of POSTs while the destination closes connections at any moment: none arrives twice, none is reported
// as delivered that was not, and none fails because a connection was closed while it was at rest.
func TestPOSTIsNeverDeliveredTwice(t *testing.T) {
	s := start(t, nil)
	var mu sync.Mutex
	delivered := make(map[string]int)
	refusedWhole := 0 // requests that were read whole, whose answer was withheld
	o := newOrigin(t, func(c *originConn) {
		for {
			_, body, ok := c.request()
			if !ok {
				return
			}
			whim := rand.IntN(20)
			mu.Lock()
			delivered[body]++
			if whim == 0 {
				refusedWhole++
			}
			mu.Unlock()
			switch whim {
			case 0: // close with the request in hand
				return
			case 1: // close behind the answer, with no warning
				io.WriteString(c, okResponse)
				return
			case 2: // close a moment after it
				io.WriteString(c, okResponse)
				time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
				return
			case 3: // reset
				io.WriteString(c, okResponse)
				c.Conn.(*net.TCPConn).SetLinger(0)
				time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
				return
			default:
				io.WriteString(c, okResponse)
			}
		}
	})
	const clients, each = 8, 400
	var answered, failed atomic.Int64
	var sending sync.WaitGroup
	for n := range clients {
		sending.Add(1)
		c := s.dial()
		go func() { // awaited below
			defer sending.Done()
			for i := range each {
				if _, err := io.WriteString(c.Conn, post(o, "/", fmt.Sprintf("%d-%d", n, i))); err != nil {
					t.Errorf("send: %v", err)
					return
				}
				r, err := c.tryReceive("POST")
				switch {
				case err != nil:
					t.Errorf("receive: %v", err)
					return
				case r.code() == 200:
					answered.Add(1)
				case r.code() == 502 && r.reason() == "1011":
					failed.Add(1)
				default:
					t.Errorf("got %q and reason %q", r.status, r.reason())
				}
			}
		}()
	}
	sending.Wait()
	mu.Lock()
	defer mu.Unlock()
	for body, n := range delivered {
		if n > 1 {
			t.Errorf("%q was delivered %d times", body, n)
		}
	}
	if int(answered.Load()) > len(delivered) || answered.Load()+failed.Load() != clients*each {
		t.Errorf("got %d answers and %d failures for %d requests, of which %d were delivered", answered.Load(), failed.Load(), clients*each, len(delivered))
	}
	// What fails beyond those that the destination dropped itself are the closings that crossed a request on its way.
	t.Logf("%d answered, %d failed, of which %d were dropped by the destination", answered.Load(), failed.Load(), refusedWhole)
	s.waitMetric(busyConnections, "0")
}

// dropSecond is an origin that closes each connection once it has a second request on it, unanswered.
func dropSecond(t *testing.T) *origin {
	t.Helper()
	return newOrigin(t, func(c *originConn) {
		c.request()
		io.WriteString(c, okResponse)
		c.request()
	})
}

func TestRetryOnAStaleConnection(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, tt := range []struct {
		method string
		again  bool
	}{
		{"GET", true}, {"HEAD", true}, {"OPTIONS", true}, {"PUT", true}, {"DELETE", true}, {"TRACE", true},
		{"POST", false}, {"PATCH", false}, {"MADEUP", false}, {"get", false},
	} {
		t.Run(tt.method, func(t *testing.T) {
			t.Parallel()
			o := dropSecond(t)
			request := tt.method + " http://" + o.addr + "/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
			c := s.dialFor(t)
			c.send(get(o, "/first"))
			c.receive("GET").check(t, "200 OK", "")
			c.send(request)
			r := c.receive(tt.method)
			arrived := strings.Count(o.bytes(), tt.method+" /x")
			if tt.again {
				r.check(t, "200 OK", "")
				if arrived != 2 || o.connections() != 2 {
					t.Errorf("arrived %d times over %d connections; want 2 and 2", arrived, o.connections())
				}
				return
			}
			r.check(t, "502 Bad Gateway", "1011")
			if arrived != 1 || o.connections() != 1 {
				t.Errorf("arrived %d times over %d connections; want 1 and 1", arrived, o.connections())
			}
		})
	}
}

func TestNoRetryOnAFreshConnection(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := newOrigin(t, func(c *originConn) { c.request() })
	for i, method := range []string{"GET", "PUT", "POST"} {
		r := s.exchange(method + " http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\n\r\n")
		r.check(t, "502 Bad Gateway", "1011")
		if n := o.connections(); n != i+1 {
			t.Errorf("after %s: got %d connections; want %d", method, n, i+1)
		}
	}
}

func testNoRetryOnceAnAnswerHasBegun(t *testing.T) {
	impatient := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = 2 * time.Second })
	patient := start(t, nil)
	for _, tt := range []struct{ name, second, status, reason string }{
		{"half a head", "HTTP/1.1 200", "502 Bad Gateway", "1011"},
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhi", "502 Bad Gateway", "1011"},
		{"an interim response", "HTTP/1.1 100 Continue\r\n\r\n", "502 Bad Gateway", "1011"},
		{"nothing, for too long", "-", "502 Bad Gateway", "1004"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t, func(c *originConn) {
				c.request()
				io.WriteString(c, okResponse)
				c.request()
				if tt.second == "-" {
					io.Copy(io.Discard, c.r)
					return
				}
				io.WriteString(c, tt.second)
			})
			s := patient
			if tt.second == "-" {
				s = impatient
			}
			c := s.dialFor(t)
			c.send(get(o, "/first"))
			c.receive("GET").check(t, "200 OK", "")
			c.send(get(o, "/second"))
			c.receive("GET").check(t, tt.status, tt.reason)
			if n := o.connections(); n != 1 {
				t.Errorf("got %d connections; want 1", n)
			}
		})
	}
}
