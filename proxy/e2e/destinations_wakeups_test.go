package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"whsentry/guard"
	"whsentry/proxy"
)

// The tests below attack the moments between a look at a connection and the wait for what comes on it: whatever comes,
// and whenever, must end the wait. What is missed shows as a 1004, or as a client that waits in vain.

// inPieces writes text in up to six pieces, with pauses of microseconds.
func inPieces(w io.Writer, text string) error {
	for range rand.IntN(6) {
		n := rand.IntN(len(text) + 1)
		if rand.IntN(2) == 0 {
			n = min(n, 3)
		}
		if _, err := io.WriteString(w, text[:n]); err != nil {
			return err
		}
		text = text[n:]
		pauseBriefly(100 * time.Microsecond)
	}
	_, err := io.WriteString(w, text)
	return err
}

// echoingInPieces is an origin that answers with each request's body, from the request's first byte on or from its end
// on, in pieces, and sometimes with the end of the connection behind them.
func echoingInPieces(t *testing.T) *origin {
	t.Helper()
	return newOrigin(t, func(c *originConn) {
		for {
			req, err := http.ReadRequest(c.r)
			if err != nil {
				return
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			answer := withLength(string(body))
			switch rand.IntN(4) {
			case 0:
				answer = chunked(string(body), 1+rand.IntN(20))
			case 1:
				answer = "HTTP/1.1 103 Early Hints\r\n\r\n" + answer
			case 2:
				pauseBriefly(200 * time.Microsecond)
			}
			if inPieces(c, answer) != nil {
				return
			}
		}
	})
}

// TestPiecesAtEveryMoment cuts requests and answers anywhere, with pauses of microseconds between the pieces, and lets
// requests come behind each other. Each answer must come, and be that to its request.
func TestPiecesAtEveryMoment(t *testing.T) {
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = 5 * time.Second })
	o := echoingInPieces(t)
	stalled := watchStalls(t, toGone)
	var clients sync.WaitGroup
	for n := range 4 {
		clients.Go(func() { // awaited below
			for round := range 40 {
				c := s.dialFor(t)
				for batch := range 4 {
					if !c.sendBatch(o, stalled, fmt.Sprintf("%d-%d-%d", n, round, batch), batch == 3 && round%2 == 0) {
						return
					}
				}
				c.Close()
			}
		})
	}
	clients.Wait()
	s.waitMetric(clientGauge, "0")
	s.waitMetric(busyConnections, "0")
}

// sendBatch sends some requests at once and reads their answers. With last, a FIN follows, after which answers that a
// stall has held up may be missing. It reports whether all went well.
func (c *rawConn) sendBatch(o *origin, stalled *stalls, name string, last bool) bool {
	var all strings.Builder
	count := 1 + rand.IntN(5)
	for i := range count {
		body := fmt.Sprintf("%s-%d", name, i)
		if i%3 == 2 {
			all.WriteString(postChunked(o, "/", body, 3))
		} else {
			all.WriteString(post(o, "/", body))
		}
	}
	if err := inPieces(c.Conn, all.String()); err != nil {
		c.t.Errorf("send: %v", err)
		return false
	}
	finished := time.Now()
	if last {
		c.Conn.(*net.TCPConn).CloseWrite()
	}
	for i := range count {
		r, err := c.tryReceive("POST")
		for err == nil && r.code() == 103 {
			r, err = c.tryReceive("POST")
		}
		if err != nil && last && stalled.since(finished) {
			return true
		}
		if want := fmt.Sprintf("%s-%d", name, i); err != nil || r.code() != 200 || r.body != want {
			c.t.Errorf("request %s, FIN %v: got %v, %v; want 200 and %q", want, last, r, err, want)
			return false
		}
	}
	if last && !c.ended() {
		c.t.Errorf("after %s and a FIN: got the connection open; want it closed", name)
		return false
	}
	return true
}

// TestRequestAndFINTogether sends the end of the connection with the request, or at any moment around it, and wants the
// answer and the connection's end, soon.
func TestRequestAndFINTogether(t *testing.T) {
	s := start(t, nil)
	o := answering(t, okResponse)
	stalled := watchStalls(t, toGone)
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() { // awaited below
			var conns []*rawConn
			for i := range 100 {
				c := s.dialFor(t)
				conns = append(conns, c)
				if i%2 == 0 { // at rest, with one request behind it
					c.send(get(o, "/"))
					c.receive("GET")
					pauseBriefly(100 * time.Microsecond)
				}
				c.send(get(o, "/"))
				pauseBriefly(400 * time.Microsecond)
				finished := time.Now()
				c.Conn.(*net.TCPConn).CloseWrite()
				r, err := c.tryReceive("GET")
				if err != nil && stalled.since(finished) {
					continue
				}
				if err != nil || r.body != "ok" {
					t.Errorf("got %v, %v; want the answer", r, err)
					return
				}
			}
			for _, c := range conns { // it may take the proxy some moments to see the FIN
				c.SetDeadline(time.Now().Add(patience))
				if !c.ended() {
					t.Errorf("got the connection open; want it closed")
					return
				}
			}
		})
	}
	clients.Wait()
	s.waitMetric(clientGauge, "0")
}

// TestResetAtEveryMoment breaks the client's connection off at any moment around a request: nothing may be left behind.
func TestResetAtEveryMoment(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := newOrigin(t, func(c *originConn) {
		for {
			if _, _, ok := c.request(); !ok {
				return
			}
			pauseBriefly(300 * time.Microsecond)
			if inPieces(c, okResponse) != nil {
				return
			}
		}
	})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() { // awaited below
			for i := range 150 {
				c := s.dialFor(t)
				inPieces(c.Conn, strings.Repeat(post(o, "/", "body"), 1+i%3))
				pauseBriefly(600 * time.Microsecond)
				c.abort()
			}
		})
	}
	clients.Wait()
	s.waitMetric(clientGauge, "0")
	s.waitMetric(busyConnections, "0")
	s.waitMetric("whsentry_buffered_bytes", "0")
	s.exchange(get(o, "/")).check(t, "200 OK", "")
}

// TestUnaskedAtEveryMoment lets the destination send more than it was asked for, at any moment around the next request
// on that connection, and then nothing more. Whatever the next client gets, it gets it soon.
func TestUnaskedAtEveryMoment(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = 5 * time.Second })
	for _, unasked := range []string{"x", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 103 Early Hints\r\n\r\n"} {
		t.Run(fmt.Sprintf("%.12q", unasked), func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t, func(c *originConn) {
				for {
					if _, _, ok := c.request(); !ok {
						return
					}
					io.WriteString(c, okResponse)
					pauseBriefly(400 * time.Microsecond)
					if _, err := io.WriteString(c, unasked); err != nil {
						return
					}
				}
			})
			c := s.dialFor(t)
			for range 400 {
				pauseBriefly(300 * time.Microsecond)
				c.SetDeadline(time.Now().Add(patience))
				c.send(post(o, "/", "x"))
				r := c.receive("POST")
				for r.code() == 103 {
					r = c.receive("POST")
				}
				if r.code() != 200 && r.reason() != "1011" {
					t.Fatalf("got %q, %q; want 200 or 1011", r.status, r.header.Get("X-Whsentry-Reason"))
				}
			}
		})
	}
}

// TestAnswerAtTheFirstByte answers a request of which no more than the beginning has come, at any moment after that.
func TestAnswerAtTheFirstByte(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = 5 * time.Second })
	for _, size := range []int{1, copyLimit, copyLimit + 1, 300 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t, func(c *originConn) {
				for {
					if _, err := c.r.Peek(1); err != nil {
						return
					}
					pauseBriefly(300 * time.Microsecond)
					if inPieces(c, okResponse) != nil {
						return
					}
					if _, _, ok := c.request(); !ok {
						return
					}
				}
			})
			c := s.dialFor(t)
			body := pattern(size)
			for range min(400, 8<<20/size) {
				c.SetDeadline(time.Now().Add(patience))
				c.send(post(o, "/", body))
				if r := c.receive("POST"); r.code() != 200 || r.body != "ok" {
					t.Fatalf("got %q, %q; want the early answer", r.status, r.header.Get("X-Whsentry-Reason"))
				}
			}
		})
	}
}
