package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"whsentry/guard"
	"whsentry/proxy"
)

// earlyOrigin answers as soon as it has the head, and then does what after says with the connection.
func earlyOrigin(t *testing.T, answer string, after func(c *originConn)) *origin {
	t.Helper()
	return newOrigin(t, func(c *originConn) {
		if _, err := http.ReadRequest(c.r); err != nil {
			return
		}
		io.WriteString(c, answer)
		after(c)
	})
}

// A destination may answer a large upload before it has all of it (RFC 9112 section 9.6); its answer is what counts.
func TestEarlyAnswers(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = 2 * time.Second })
	const refused = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge"
	closing := strings.Replace(refused, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1)
	for _, tt := range []struct {
		name, answer string
		after        func(c *originConn)
	}{
		{"and reads the rest", refused, func(c *originConn) { io.Copy(io.Discard, c.r) }},
		{"and closes", closing, func(c *originConn) {}},
		{"and closes its sending side", closing, func(c *originConn) {
			c.Conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c.r)
		}},
		{"and neither reads nor closes", refused, func(c *originConn) { waitClosed(c.Conn) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := earlyOrigin(t, tt.answer, tt.after)
			c := s.dialFor(t)
			c.send(post(o, "/", pattern(6<<20)))
			r := c.receive("POST")
			r.check(t, "413 Content Too Large", "")
			if r.body != "large" {
				t.Errorf("got the body %q; want large", r.body)
			}
			// The client's connection is at the end of its request and goes on; the destination's cannot.
			c.send(post(o, "/", "small"))
			c.receive("POST").check(t, "413 Content Too Large", "")
			if n := o.connections(); n != 2 {
				t.Errorf("got %d connections; want 2", n)
			}
		})
	}
}

// A destination that reads some of an upload, stops reading, and answers while the proxy waits for it to go on.
func testAnswerWhileTheUploadIsStuck(t *testing.T) {
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = 3 * time.Second })
	o := newOrigin(t, func(c *originConn) {
		if _, err := http.ReadRequest(c.r); err != nil {
			return
		}
		time.Sleep(300 * time.Millisecond) // by now the sockets in between are full
		io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
		waitClosed(c.Conn)
	})
	s.exchange(post(o, "/", pattern(9<<20))).check(t, "403 Forbidden", "")
}

// waitClosed waits until the connection is closed, taking nothing that was sent on it.
func waitClosed(conn net.Conn) {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return
	}
	for range int(patience / (10 * time.Millisecond)) {
		if closed(raw) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A destination that takes an upload slowly, but does take it, is not idle.
func testSlowUploadIsNotIdle(t *testing.T) {
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = 2 * time.Second })
	const size = 10 << 20
	o := newOrigin(t, func(c *originConn) {
		c.Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
		r := bufio.NewReaderSize(c.Conn, 1<<20)
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		for range 8 {
			time.Sleep(300 * time.Millisecond)
			io.CopyN(io.Discard, req.Body, size/8)
		}
		n, _ := io.Copy(io.Discard, req.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n)
	})
	s.exchange(post(o, "/", pattern(size))).check(t, "200 OK", "")
}

// Whatever the size, framing and pace, the body arrives as it was sent, with its length known.
func TestBodiesArriveAsTheyWereSent(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	bodies := make(chan string, 1)
	o := newOrigin(t, func(c *originConn) {
		for {
			req, body, ok := c.request()
			if !ok {
				return
			}
			if req.ContentLength != int64(len(body)) {
				body = fmt.Sprintf("framed with %d", req.ContentLength)
			}
			bodies <- body
			io.WriteString(c, okResponse)
		}
	})
	c := s.dial()
	for _, size := range []int{0, 1, 4095, 4096, 4097, 16 << 10, 16<<10 + 1, 64 << 10, 64<<10 + 1, 1 << 20, 3 << 20} {
		body := pattern(size)
		for _, request := range []string{post(o, "/", body), postChunked(o, "/", body, max(size/7, 1))} {
			c.send(request)
			c.receive("POST").check(t, "200 OK", "")
			if got := <-bodies; got != body {
				t.Errorf("got %d bytes %.40q; want %d", len(got), got, size)
			}
		}
	}
	if n := o.connections(); n != 1 {
		t.Errorf("got %d connections; want 1", n)
	}
}

// countBody answers with the length of the body that arrives.
func countBody(c *originConn, body io.Reader) {
	n, _ := io.Copy(io.Discard, body)
	length := fmt.Sprint(n)
	fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(length), length)
}

// A large upload that is repeated on a new connection arrives there in full.
func TestUploadIsRepeatedInFull(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := newOrigin(t, func(c *originConn) {
		if c.number == 0 {
			c.request()
			io.WriteString(c, okResponse)
			http.ReadRequest(c.r) // the head of the second request, and then a reset
			c.Conn.(*net.TCPConn).SetLinger(0)
			return
		}
		if req, err := http.ReadRequest(c.r); err == nil {
			countBody(c, req.Body)
		}
	})
	c := s.dial()
	c.send(get(o, "/"))
	c.receive("GET").check(t, "200 OK", "")
	const size = 9 << 20
	c.send(strings.Replace(post(o, "/", pattern(size)), "POST", "PUT", 1))
	r := c.receive("PUT")
	r.check(t, "200 OK", "")
	if r.body != fmt.Sprint(size) {
		t.Errorf("got %s bytes at the destination; want %d", r.body, size)
	}
}

// An interim response that comes while the body is being written does not end the upload.
func TestInterimResponseDuringAnUpload(t *testing.T) {
	t.Parallel()
	const size = 9 << 20
	for _, interim := range []string{"100 Continue", "102 Processing"} {
		t.Run(interim, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = 3 * time.Second })
			o := newOrigin(t, func(c *originConn) {
				req, err := http.ReadRequest(c.r)
				if err != nil {
					return
				}
				time.Sleep(300 * time.Millisecond) // until the proxy's write is stuck
				io.WriteString(c, "HTTP/1.1 "+interim+"\r\n\r\n")
				time.Sleep(700 * time.Millisecond) // until the sweeper has seen it
				countBody(c, req.Body)
			})
			c := s.dial()
			c.send(post(o, "/", pattern(size)))
			r := c.receive("POST")
			for strings.HasPrefix(r.status, "102") {
				r = c.receive("POST")
			}
			r.check(t, "200 OK", "")
			if r.body != fmt.Sprint(size) {
				t.Errorf("got %s bytes at the destination; want %d", r.body, size)
			}
		})
	}
}
