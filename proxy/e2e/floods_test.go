package e2e

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
)

// TestConnectionFlood opens many times the connections that there are places for. Those who have one keep it, everybody
// else is told 503 or just closed, and once the flood is over everything is as it was before.
func TestConnectionFlood(t *testing.T) {
	const places, flood = 10, 600
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxConnections = places })
	o := answering(t, okResponse)
	var held []*rawConn
	for range places {
		c := s.dial()
		c.send(get(o, "/"))
		c.receive("GET").check(t, "200 OK", "")
		held = append(held, c)
	}
	var told, closed atomic.Int64
	var running sync.WaitGroup
	for i := range flood {
		c := s.dial()
		running.Go(func() { // awaited below
			io.WriteString(c.Conn, post(o, "/"+strconv.Itoa(i), "body"))
			switch r, err := c.tryReceive("POST"); {
			case err != nil:
				closed.Add(1)
			case r.code() == 503 && r.reason() == "1014" && r.header.Get("Retry-After") != "" && r.bodyErr == nil:
				told.Add(1)
			default:
				t.Errorf("got %q with %q; want 503 and 1014", r.status, r.reason())
			}
			c.waitEnd()
			c.Conn.Close()
		})
		if i%(flood/20) == 0 {
			held[i%places].send(get(o, "/held"))
			held[i%places].receive("GET").check(t, "200 OK", "")
		}
	}
	running.Wait()
	if told.Load() < flood/2 {
		t.Errorf("told %d of %d clients that there are too many, and just closed %d; want more to be told", told.Load(), flood, closed.Load())
	}
	if n := o.requestCount("POST"); n != 0 {
		t.Errorf("got %d requests of the flood at the destination; want none", n)
	}
	s.waitMetric(clientGauge, strconv.Itoa(places))
	s.waitMetric(clientCounter, strconv.Itoa(places+flood))
	for _, c := range held {
		c.send(get(o, "/"))
		c.receive("GET").check(t, "200 OK", "")
		c.Conn.Close()
	}
	s.waitMetric(clientGauge, "0")
	s.exchange(get(o, "/")).check(t, "200 OK", "")
}

// TestMuteConnectionFlood is the same of clients that say nothing: only so many more than there are places stay open,
// and they take no place from those who come when there is one again. Over TLS they do not even begin the handshake.
func TestMuteConnectionFlood(t *testing.T) {
	const places, flood = 4, 400
	const excess = 256 // that may wait to be told
	root := catest.Root(t, "Root")
	o := answering(t, okResponse)
	for _, w := range entrances(t, root, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxConnections = places }) {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			var held []*rawConn
			for range places {
				c, _ := w.dial(t)
				c.send(get(o, "/"))
				c.receive("GET").check(t, "200 OK", "")
				held = append(held, c)
			}
			var mute []*rawConn
			for range flood {
				mute = append(mute, w.s.dialFor(t))
			}
			w.s.waitMetric(clientCounter, strconv.Itoa(places+flood))
			w.s.waitMetric(clientGauge, strconv.Itoa(places+excess))
			w.s.waitMetric(series(503, 1014), strconv.Itoa(flood-excess)) // who is turned away at the door is counted, and logged
			w.s.waitMetric(`whsentry_limit_reached_total{limit="maxConnections"}`, strconv.Itoa(flood-excess))
			if lines := w.s.logLines(places + flood - excess); !strings.HasSuffix(lines[len(lines)-1], "ms 1014 -") || !strings.Contains(lines[len(lines)-1], " - - 503 ") {
				t.Errorf("got the line %q; want one of a client that was turned away", lines[len(lines)-1])
			}
			for _, c := range held {
				c.send(get(o, "/"))
				c.receive("GET").check(t, "200 OK", "")
			}
			held[0].Conn.Close()
			w.s.waitMetric(clientGauge, strconv.Itoa(places+excess-1))
			c, _ := w.dial(t)
			c.send(get(o, "/"))
			c.receive("GET").check(t, "200 OK", "")
			for _, c := range mute {
				c.Conn.Close()
			}
			w.s.waitMetric(clientGauge, strconv.Itoa(places))
		})
	}
}

// TestBodyFlood sends many times what there is memory for, from clients that wait for nobody, some of which leave
// halfway. The gauge never shows more than the limit, and nothing once they have gone.
func TestBodyFlood(t *testing.T) {
	const limit, size, clients = 300_000, 40_000, 60
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.MaxBufferedBytes, cfg.MaxConnectionsPerDestination = limit, 1000
	})
	release := make(chan struct{})
	o := newOrigin(t, func(c *originConn) {
		for {
			if _, _, ok := c.request(); !ok {
				return
			}
			<-release
			io.WriteString(c, okResponse)
		}
	})
	body := pattern(size)
	requests := []string{
		post(o, "/", body),
		postChunked(o, "/", body, 3000),
		strings.Replace(post(o, "/", body), "\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n", 1),
	}
	var served, refused, left atomic.Int64
	var running sync.WaitGroup
	for i := range clients {
		c := s.dial()
		running.Go(func() { // awaited below
			request := requests[i%len(requests)]
			if i%4 == 3 {
				io.WriteString(c.Conn, request[:len(request)/2])
				c.abort()
				left.Add(1)
				return
			}
			drip := request
			for drip != "" {
				piece := drip[:min(len(drip), 9000)]
				if _, err := io.WriteString(c.Conn, piece); err != nil {
					break // it has been refused already
				}
				drip = drip[len(piece):]
				time.Sleep(time.Millisecond)
			}
			r, err := c.tryReceive("POST")
			for err == nil && r.code() == 100 {
				r, err = c.tryReceive("POST")
			}
			switch {
			case err != nil:
				t.Errorf("got no answer: %v", err)
			case r.code() == 200:
				served.Add(1)
			case r.code() == 503 && r.reason() == "1014" && r.header.Get("Retry-After") != "" && r.closing:
				refused.Add(1)
			default:
				t.Errorf("got %q with %q; want 200, or 503 with 1014", r.status, r.reason())
			}
			c.Conn.Close()
		})
	}
	for served.Load()+refused.Load()+left.Load() < clients*3/4 && refused.Load() < clients/4 {
		if got, _ := strconv.ParseInt(s.metric("whsentry_buffered_bytes"), 10, 64); got > limit {
			t.Errorf("got %d bytes buffered; want %d at most", got, limit)
		}
	}
	s.exchange(get(o, "/none")[:0]+"GET http://10.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n").check(t, "403 Forbidden", "1000")
	close(release)
	running.Wait()
	if served.Load() == 0 || refused.Load() == 0 {
		t.Errorf("got %d requests served, %d refused; want some of both", served.Load(), refused.Load())
	}
	s.waitMetric("whsentry_buffered_bytes", "0")
	s.waitMetric(busyConnections, "0")
	s.exchange(post(o, "/", body)).check(t, "200 OK", "")
}

// TestAnnouncedBodies refuses what is announced beyond the limit before any of it is sent, be it asked for or not.
func TestAnnouncedBodies(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxBufferedBytes, cfg.MaxRequestBodySize = 1000, 1<<40 })
	o := answering(t, okResponse)
	for _, fields := range []string{"", "Expect: 100-continue\r\n"} {
		for _, length := range []string{"1001", "1099511627776"} {
			c := s.dial()
			c.send("POST http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\n" + fields + "Content-Length: " + length + "\r\n\r\n")
			c.receive("POST").check(t, "503 Service Unavailable", "1014")
			c.Conn.Close()
		}
	}
	s.waitMetric("whsentry_buffered_bytes", "0")
	if n := o.connections(); n != 0 {
		t.Errorf("got %d connections to the destination; want none", n)
	}
}

// testPipeliningFlood sends request behind request and reads no answer. The proxy reads no further than its answers are
// taken, and breaks the connection off where they are not taken for clientTimeout; others notice nothing.
func testPipeliningFlood(t *testing.T) {
	root := catest.Root(t, "Root")
	o := answering(t, withLength(pattern(60_000)))
	ways := entrances(t, root, func(cfg *proxy.Config, _ *guard.Config) { cfg.ClientTimeout = 2 * time.Second })
	allAtOnce(t, func(run func(name string, test func(t *testing.T))) {
		for _, w := range ways {
			requests := []string{get(o, "/")}
			if w.name == "plain" {
				requests = append(requests, "GET http://10.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n")
			}
			for _, request := range requests {
				run(w.name, func(t *testing.T) {
					c, _ := w.dial(t)
					many := strings.Repeat(request, 1000)
					var err error
					for err == nil {
						_, err = io.WriteString(c.Conn, many)
					}
					if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
						t.Errorf("the flood was neither taken nor ended")
					}
					other, _ := w.dial(t)
					other.send(get(o, "/"))
					other.receive("GET").check(t, "200 OK", "")
				})
			}
		}
	})
	for _, w := range ways {
		w.s.waitMetric(clientGauge, "0")
		w.s.waitMetric(busyConnections, "0")
		if w.s.requests(499, 0) == "" {
			t.Errorf("%s: no 499 in the metrics", w.name)
		}
	}
}

// TestPipelinedInOrder sends hundreds of requests in one go, good and bad ones, and reads along: there is one answer to
// each, in order.
func TestPipelinedInOrder(t *testing.T) {
	root := catest.Root(t, "Root")
	o := responding(t, func(c *originConn, body string) bool {
		_, err := io.WriteString(c, withLength(body))
		return err == nil
	})
	const requests = 600
	var all strings.Builder
	want := make([]string, requests)
	for i := range requests {
		id := fmt.Sprintf("<%d>", i)
		switch i % 4 {
		case 0:
			all.WriteString(post(o, "/", id))
			want[i] = id
		case 1:
			all.WriteString(postChunked(o, "/", id, 2))
			want[i] = id
		case 2:
			fmt.Fprintf(&all, "GET http://10.0.%d.%d/ HTTP/1.1\r\nHost: x\r\n\r\n", i>>8, i&255)
			want[i] = fmt.Sprintf("IP 10.0.%d.%d is blocked\n", i>>8, i&255)
		case 3:
			fmt.Fprintf(&all, "\r\nPOST s%d://x/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", i)
			want[i] = fmt.Sprintf("scheme \"s%d\" is neither http nor https\n", i)
		}
	}
	for _, w := range entrances(t, root, nil) {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			c, _ := w.dial(t)
			go io.WriteString(c.Conn, all.String()) // ends with the connection
			for i := range requests {
				if r := c.receive("POST"); r.body != want[i] {
					t.Fatalf("answer %d: got %q (%s); want %q", i, r.body, r.status, want[i])
				}
			}
		})
	}
}

// testSlowHeadsEverywhere drips the head of a request, and of one inside a tunnel, which has clientTimeout in all.
func testSlowHeadsEverywhere(t *testing.T) {
	ways := everyWayWithin(t, 3*time.Second)
	allAtOnce(t, func(run func(name string, test func(t *testing.T))) {
		for _, w := range ways {
			for _, row := range []struct{ name, at, slow string }{
				{"a dripped head", "", w.head("POST", "/silent/") + strings.Repeat("X-Y: z\r\n", 500)},
				{"a stalled head", w.head("POST", "/silent/"), ""},
				{"a stalled body", w.head("POST", "/silent/") + "Content-Length: 5\r\n\r\nabcd", ""},
				{"a stalled chunk", w.head("POST", "/silent/") + "Transfer-Encoding: chunked\r\n\r\n5\r\nabcd", ""},
				{"a body asked for", w.head("POST", "/silent/") + "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n", ""},
			} {
				run(w.name+", "+row.name, func(t *testing.T) {
					c, _ := w.dial(t)
					c.send(row.at)
					if row.slow != "" {
						go drip(c, row.slow, 10*time.Millisecond) // ends with the connection
					}
					r := c.receive("POST")
					if r.code() == 100 {
						r = c.receive("POST")
					}
					r.check(t, "408 Request Timeout", "1017")
					c.waitEnd()
				})
			}
		}
	})
	for _, w := range ways {
		w.s.waitMetric(clientGauge, "0")
		w.s.waitMetric("whsentry_buffered_bytes", "0")
		if n := w.rude.count(w.rude.begun, "/silent/"); n != 0 {
			t.Errorf("%s: got %d requests at the destination; want none", w.name, n)
		}
	}
}

// testDeafClientsEverywhere takes nothing of a large answer. The connection is broken off after clientTimeout: closed in
// good order, it would leave what was sent with the system, to be kept for as long as the client likes.
func testDeafClientsEverywhere(t *testing.T) {
	ways := everyWayWithin(t, 1500*time.Millisecond)
	allAtOnce(t, func(run func(name string, test func(t *testing.T))) {
		for _, w := range ways {
			run(w.name, func(t *testing.T) {
				c, _ := w.dial(t)
				c.send(w.head("GET", "/flood/") + "\r\n")
				eventually(t, "the end of the destination's connection", func() bool { return w.rude.count(w.rude.ended, "/flood/") == 1 })
				w.s.checkGone(t, "/flood/")
				if _, err := io.Copy(io.Discard, c.r); err == nil {
					t.Errorf("the connection was closed in good order; want it broken off")
				}
				w.s.waitMetric(clientGauge, "0")
				w.s.waitMetric(busyConnections, "0")
			})
		}
	})
}
