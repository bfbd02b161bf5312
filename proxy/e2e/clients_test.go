package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
)

// closed reports whether the peer has closed or reset the connection; it takes nothing from it.
func closed(raw syscall.RawConn) bool {
	gone := true
	raw.Control(func(fd uintptr) {
		info := make([]byte, 1)
		n, _, err := syscall.Recvfrom(int(fd), info, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		gone = n == 0 && err == nil || err != nil && err != syscall.EAGAIN
		if n > 0 {
			// Unread bytes hide a FIN from a peek, and a reset shows in the socket's error alone.
			errno, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
			gone = err != nil || errno != 0
		}
	})
	return gone
}

func TestRequestThatArrivesByteByByte(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	for _, request := range []string{
		post(o, "/a?b=c", "body"),
		postChunked(o, "/a?b=c", "body", 3),
		"POST http://" + o.addr + "/a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nX-Long: " + pattern(300) + "\r\n\r\nbody",
	} {
		c := s.dial()
		c.Conn.(*net.TCPConn).SetNoDelay(true)
		for i := range len(request) {
			c.send(request[i : i+1])
		}
		c.receive("POST").check(t, "200 OK", "")
		if !strings.HasSuffix(o.bytes(), "\r\n\r\nbody") {
			t.Errorf("got %q at the destination; want the body at its end", o.bytes())
		}
	}
}

func TestPipelining(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := responding(t, func(c *originConn, body string) bool {
		_, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		return err == nil
	})
	var all strings.Builder
	for i := range 40 {
		body := fmt.Sprintf("%d:%s", i, pattern(i*i*37%9000))
		if i%2 == 0 {
			all.WriteString(post(o, "/", body))
		} else {
			all.WriteString(postChunked(o, "/", body, 1000))
		}
	}
	c := s.dial()
	go io.WriteString(c.Conn, all.String()) // ends with the connection
	for i := range 40 {
		want := fmt.Sprintf("%d:%s", i, pattern(i*i*37%9000))
		if r := c.receive("POST"); r.status != "200 OK" || r.body != want {
			t.Fatalf("answer %d: got %q with %d bytes; want its own body of %d", i, r.status, len(r.body), len(want))
		}
	}
}

func TestHundredsOfClients(t *testing.T) {
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.MaxConnectionsPerDestination = 1000
		cfg.AccessLog.Type = accesslog.JSON
	})
	o := responding(t, func(c *originConn, body string) bool {
		_, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		return err == nil
	})
	const clients, each = 300, 10
	var running sync.WaitGroup
	for n := range clients {
		running.Add(1)
		c := s.dial()
		go func() { // awaited below
			defer running.Done()
			for i := range each {
				body := fmt.Sprintf("%d-%d-%s", n, i, pattern(n))
				if _, err := io.WriteString(c.Conn, post(o, "/", body)); err != nil {
					t.Errorf("send: %v", err)
					return
				}
				r, err := c.tryReceive("POST")
				if err != nil || r.body != body {
					t.Errorf("got %v, %v; want the request's own body back", r, err)
					return
				}
			}
		}()
	}
	running.Wait()
	if n := len(s.jsonLines(clients * each)); n != clients*each {
		t.Errorf("got %d log lines; want %d", n, clients*each)
	}
	if got := s.requests(200, 0); got != fmt.Sprint(clients*each) {
		t.Errorf("got %s requests in the metrics; want %d", got, clients*each)
	}
	s.waitMetric(busyConnections, "0")
}

// A client that goes away takes its connection to the destination with it, whatever the phase.
func TestVanishingClients(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.AccessLog.Type = accesslog.JSON
		cfg.MaxResponseBodySize = 64 << 20
	})
	silent := swallowing(t)
	headOnly := newOrigin(t, func(c *originConn) {
		c.request()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		io.Copy(io.Discard, c.r)
	})
	streaming := newOrigin(t, func(c *originConn) {
		c.request()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n"+pattern(100_000))
		io.Copy(io.Discard, c.r)
	})
	flooding := newOrigin(t, func(c *originConn) {
		c.request()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n"+strings.Repeat("x", 30_000_000))
		io.Copy(io.Discard, c.r)
	})
	deaf := deafAddress(t)
	tests := []struct {
		name, sent string
		reached    *origin // by a connection; nil where none may be
		reads      int
		status     float64
	}{
		{"within its head", "POST http://" + silent.addr + "/ HTTP/1.1\r\nHos", nil, 0, 499},
		{"within its body", "POST http://" + silent.addr + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", nil, 0, 499},
		{"within its chunks", "POST http://" + silent.addr + "/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", nil, 0, 499},
		{"while connecting", "POST http://" + deaf + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", nil, 0, 499},
		{"in the TLS handshake", "GET http://" + silent.addr + "/ HTTP/1.1\r\nHost: x\r\nX-WhSentry-TLS: 1\r\n\r\n", silent, 0, 499},
		{"before the answer", post(silent, "/", "x"), silent, 0, 499},
		{"within a small answer", post(headOnly, "/", "x"), headOnly, 0, 499},
		{"within a large answer", post(streaming, "/", "x"), streaming, 1000, 499},
		{"while it does not read", post(flooding, "/", "x"), flooding, 0, 499},
		{"while opening a tunnel", "CONNECT " + deaf + " HTTP/1.1\r\nHost: x\r\n\r\n", nil, 0, 499},
	}
	lines := 0
	for _, how := range []string{"FIN", "RST"} {
		for _, tt := range tests {
			t.Run(tt.name+" with "+how, func(t *testing.T) {
				before := 0
				if tt.reached != nil {
					before = tt.reached.connections()
				}
				c := s.dialFor(t)
				c.send(tt.sent)
				if tt.reached != nil {
					eventually(t, "a connection to the destination", func() bool { return tt.reached.connections() > before })
				}
				io.CopyN(io.Discard, c.r, int64(tt.reads))
				if how == "RST" {
					c.abort()
				} else {
					c.Conn.Close()
				}
				s.waitMetric(clientGauge, "0")
				s.waitMetric(busyConnections, "0")
				s.waitMetric(idleConnections, "0")
				if how == "RST" && tt.reads == 0 && !strings.Contains(tt.sent, "\r\n\r\n") {
					lines = len(s.jsonLines(lines)) // a reset may overtake what was sent before it
					return
				}
				all := s.jsonLines(lines + 1)
				lines = len(all)
				if got := all[lines-1]["response_code"]; got != tt.status {
					t.Errorf("got the line %v; want status %v", all[lines-1], tt.status)
				}
				if _, there := all[lines-1]["reason_code"]; there {
					t.Errorf("got the line %v; want no reason", all[lines-1])
				}
			})
		}
	}
	if s.requests(499, 0) == "" {
		t.Errorf("no 499 in the metrics")
	}
}

// A client that closes its sending side once its request is sent still gets the answer that comes at once.
func TestHalfClosedClient(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	stalled := watchStalls(t, toGone)
	for _, request := range []string{get(o, "/"), post(o, "/", "body"), postChunked(o, "/", "body", 2), "GET /relative HTTP/1.1\r\nHost: x\r\n\r\n"} {
		c := s.dial()
		c.send(request)
		finished := time.Now()
		c.halfClose()
		r, err := c.tryReceive("GET")
		if err != nil && stalled.since(finished) {
			continue
		}
		if err != nil || r.code() != 200 && r.reason() != "1002" {
			t.Errorf("got %v, %v; want an answer", r, err)
		}
		c.waitEnd()
	}
}

// A connection without a request is nothing that is logged or counted as one.
func TestConnectionsWithoutARequest(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for i := range 5 {
		c := s.dial()
		if i%2 == 0 {
			c.abort()
		}
		c.Conn.Close()
	}
	s.waitMetric(clientCounter, "5")
	s.waitMetric(clientGauge, "0")
	o := answering(t, okResponse)
	s.exchange(get(o, "/")).check(t, "200 OK", "")
	if n := len(s.logLines(1)); n != 1 {
		t.Errorf("got %d log lines; want 1", n)
	}
}

// What a slow client has announced and not sent holds no connection to its destination.
func TestSlowClientHoldsNoConnection(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	full := post(o, "/", pattern(5000))
	c := s.dial()
	c.send(full[:len(full)-1])
	time.Sleep(50 * time.Millisecond) // there is nothing to wait for: nothing may happen
	if n := o.connections(); n != 0 {
		t.Errorf("got %d connections before the body was there; want none", n)
	}
	c.send(full[len(full)-1:])
	c.receive("POST").check(t, "200 OK", "")
}
