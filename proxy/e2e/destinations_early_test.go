package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
)

// pauseBriefly waits for up to d, often not at all, so that what follows meets every moment of what runs beside it.
func pauseBriefly(d time.Duration) {
	if wait := time.Duration(rand.Int64N(int64(d))) - d/4; wait > 0 {
		for end := time.Now().Add(wait); time.Now().Before(end); { // a sleep of microseconds takes longer
		}
	}
}

// resets makes the closing of the connection a reset.
func (c *originConn) resets() { c.Conn.(*net.TCPConn).SetLinger(0) }

// A destination may answer before it has got anything at all: what counts is the answer, not the order. It comes at
// every moment around the proxy's own write, and the connection is left open, so that nothing else tells that it is
// there.
func TestAnswerBeforeTheRequest(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = 5 * time.Second })
	for _, size := range []int{1, 17 << 10, 1 << 20} { // in one write with the head, after it, in pieces
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t, func(c *originConn) {
				pauseBriefly(200 * time.Microsecond)
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
				io.Copy(io.Discard, c.r)
			})
			c, rounds, body := s.dialFor(t), 300, pattern(size)
			if size > copyLimit {
				rounds = 30
			}
			for range rounds {
				c.SetDeadline(time.Now().Add(patience))
				c.send(post(o, "/", body))
				if r := c.receive("POST"); r.code() != 200 || r.body != "ok" {
					t.Fatalf("got %q, %q; want the early answer", r.status, r.header.Get("X-Whsentry-Reason"))
				}
			}
			if n := o.connections(); n != rounds {
				t.Errorf("got %d connections; want %d, none used twice", n, rounds)
			}
		})
	}
}

// copyLimit is up to where the proxy sends a body in one write with its head.
const copyLimit = 16 << 10

// TestTLSAnswerBeforeTheRequest is an answer in one packet with the end of the handshake, which TLS has read with it, or
// soon after that.
func TestTLSAnswerBeforeTheRequest(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = 5 * time.Second })
	for _, version := range tlsVersions {
		for _, size := range []int{1, 1 << 20} {
			t.Run(fmt.Sprintf("%s %d", version.name, size), func(t *testing.T) {
				t.Parallel()
				o := newTLSOrigin(t, only(serving(root.Leaf(t, hooksHost)), version.version), func(c *tlsConn) {
					pauseBriefly(400 * time.Microsecond)
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
					io.Copy(io.Discard, c)
				})
				body := pattern(size)
				for range 25 {
					c := s.dialFor(t)
					c.send(overTLS(o.to(hooksHost), "/", body))
					if r := c.receive("POST"); r.code() != 200 || r.body != "ok" {
						t.Fatalf("got %q, %q; want the early answer", r.status, r.header.Get("X-Whsentry-Reason"))
					}
				}
			})
		}
	}
}

// An answer to a large upload that the destination then does not take: TestEarlyAnswers has it politely.
func TestEarlyAnswerThenReset(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.ReadTimeout = 5 * time.Second
		cfg.AccessLog.Type = accesslog.JSON
	})
	large, upload := pattern(300<<10), pattern(1<<20)
	tests := []struct {
		name, answer string
		status       int
		reason       string
		cut          bool
	}{
		{"413 with a length", "HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge", 413, "", false},
		{"200 with a length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlarge", 200, "", false},
		{"200 in chunks", chunked("large", 5), 200, "", false},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", false},
		// A reset is no end: nobody can say that this was all of it.
		{"200 without a length", untilClose("large"), 502, "1011", false},
		{"413 without a length", strings.Replace(untilClose("large"), "200 OK", "413 Large", 1), 502, "1011", false},
		{"200 without a length, large", untilClose(large), 200, "", true},
		{"200 without its last chunk", strings.TrimSuffix(chunked("large", 5), "0\r\n\r\n"), 502, "1011", false},
		{"200 within a length", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nlarge", 502, "1011", false},
		{"nothing", "", 502, "1011", false},
		{"half a head", "HTTP/1.1 413 Content Too", 502, "1011", false},
		{"an interim response", "HTTP/1.1 100 Continue\r\n\r\n", 502, "1011", false},
	}
	for _, tt := range tests {
		for _, pause := range []time.Duration{0, time.Millisecond, 400 * time.Millisecond} { // in the first write, in a later one, while it is stuck
			t.Run(fmt.Sprintf("%s, after %v", tt.name, pause), func(t *testing.T) {
				t.Parallel()
				o := newOrigin(t, func(c *originConn) {
					c.Conn.(*net.TCPConn).SetReadBuffer(16 << 10) // so that the upload does get stuck
					if _, err := http.ReadRequest(c.r); err != nil {
						return
					}
					time.Sleep(pause)
					c.resets()
					io.WriteString(c, tt.answer)
				})
				versions := []string{"1.1"}
				if tt.cut {
					versions = append(versions, "1.0")
				}
				for _, version := range versions {
					c := s.dialFor(t)
					c.send(strings.Replace(post(o, "/", upload), "HTTP/1.1", "HTTP/"+version, 1))
					r, err := c.tryReceive("POST")
					if err != nil {
						if !tt.cut || version != "1.0" { // to an HTTP/1.0 client a reset says that the answer is cut
							t.Errorf("HTTP/%s: %v", version, err)
						}
						continue
					}
					if tt.cut && r.code() == 502 && r.reason() == "1011" {
						continue // the reset was faster than all of the answer
					}
					if r.code() != tt.status || r.reason() != tt.reason || tt.cut != (r.bodyErr != nil) {
						t.Errorf("HTTP/%s: got %q with %q, %d bytes and %v; want %d with %q, cut: %v",
							version, r.status, r.reason(), len(r.body), r.bodyErr, tt.status, tt.reason, tt.cut)
					}
				}
				if n := o.connections(); n != len(versions) {
					t.Errorf("got %d connections; want %d: one a request", n, len(versions))
				}
			})
		}
	}
	t.Cleanup(func() {
		s.waitMetric(busyConnections, "0")
		s.waitMetric(idleConnections, "0")
	})
}
