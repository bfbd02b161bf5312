package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
)

// A client that has ended its sending side has its answer if that comes soon enough, which on a slow machine it may not:
// a test tries so often.
const halfCloseTries = 5

// endSending half-closes a client's connection: TLS' close_notify, where there is TLS, and FIN.
func endSending(t *testing.T, c, tcp *rawConn) {
	t.Helper()
	if secured, ok := c.Conn.(*tls.Conn); ok {
		if err := secured.CloseWrite(); err != nil {
			t.Fatalf("close the sending side of TLS: %v", err)
		}
	}
	tcp.halfClose()
}

// sendWithFIN sends raw, and FIN in one packet with the last of it.
func sendWithFIN(t *testing.T, c, tcp *rawConn, raw string) {
	t.Helper()
	cork(t, tcp.Conn.(*net.TCPConn))
	c.send(raw)
	endSending(t, c, tcp)
}

// entrance is a way to connect to a proxy; tcp is what lies under c.
type entrance struct {
	name string
	s    *sentry
	dial func(t *testing.T) (c, tcp *rawConn)
}

// entrances starts a plain and an https listener.
func entrances(t *testing.T, root *catest.Authority, change func(cfg *proxy.Config, g *guard.Config)) []*entrance {
	t.Helper()
	plain, https := startTLS(t, root, nil, change), startHTTPS(t, root, change)
	return []*entrance{
		{"plain", plain, func(t *testing.T) (c, tcp *rawConn) {
			c = plain.dialFor(t)
			return c, c
		}},
		{"https listener", https, func(t *testing.T) (c, tcp *rawConn) {
			tcp = https.dialFor(t)
			return tcp.secure(clientConfig(root, "localhost")), tcp
		}},
	}
}

// TestHalfCloseAtEveryByte ends the sending side after every byte of a request. What is whole is answered; of anything
// less no byte reaches the destination, nobody gets an answer, and nobody waits for the rest.
func TestHalfCloseAtEveryByte(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	secured := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	mitm := startMITM(t, root, issuer, nil)
	ways := append(entrances(t, root, nil), &entrance{"intercepted", mitm, func(t *testing.T) (c, tcp *rawConn) {
		tcp = mitm.dialFor(t)
		return tcp.intercepted(issuer, secured.to(hooksHost)), tcp
	}})
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			o := answering(t, okResponse)
			step := 1
			requests := []string{get(o, "/a"), post(o, "/b", "body"), postChunked(o, "/c", "body", 3)}
			seen := func() int { return o.requestCount("GET") + o.requestCount("POST") }
			if w.s == mitm {
				requests = []string{inOrigin(secured.to(hooksHost), "/b", "body")}
				seen = func() int { return strings.Count(secured.decrypted(), "POST /") }
			}
			if w.name != "plain" {
				step = 7 // handshakes take their time
			}
			cut, whole := 0, 0
			for _, request := range requests {
				for n := len(request) % step; n < len(request); n += step {
					c, tcp := w.dial(t)
					c.send(request[:n])
					endSending(t, c, tcp)
					if r, err := c.tryReceive("GET"); err == nil {
						t.Fatalf("got %q to %q; want the connection closed", r.status, request[:n])
					}
					c.waitEnd()
					if c.Conn.Close(); n > 0 {
						cut++
					}
				}
				if got := seen(); got != whole {
					t.Fatalf("got %d requests at the destination before the whole of %q; want %d", got, request, whole)
				}
				whole += w.answeredAfterFIN(t, request, "200")
			}
			w.s.waitMetric(clientGauge, "0")
			w.s.waitMetric("whsentry_buffered_bytes", "0")
			w.s.waitMetric(series(200, 0), fmt.Sprint(len(requests)))
			w.s.waitMetric(series(499, 0), fmt.Sprint(cut+whole-len(requests)))
		})
	}
}

// answeredAfterFIN sends request and FIN at once until there is an answer, which is to have that status. It returns how
// often.
func (w *entrance) answeredAfterFIN(t *testing.T, request, status string) (tries int) {
	t.Helper()
	method, _, _ := strings.Cut(request, " ")
	for tries < halfCloseTries {
		tries++
		c, tcp := w.dial(t)
		sendWithFIN(t, c, tcp, request)
		r, err := c.tryReceive(method)
		c.waitEnd()
		c.Conn.Close()
		if err != nil {
			continue
		}
		if !strings.HasPrefix(r.status, status+" ") || r.bodyErr != nil {
			t.Errorf("got %q, %v; want a whole %s", r.status, r.bodyErr, status)
		}
		return tries
	}
	t.Errorf("got no answer to %q and FIN, %d times", request, tries)
	return tries
}

// TestRequestAndFIN is a client whose FIN comes in one packet with its request, of whatever kind: it is answered, and
// its connection does not stay open for as long as one may rest.
func TestRequestAndFIN(t *testing.T) {
	root := catest.Root(t, "Root")
	o := answering(t, okResponse)
	secured := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	for _, w := range entrances(t, root, nil) {
		for _, row := range []struct{ name, request, want string }{
			{"without a body", get(o, "/"), "200"},
			{"with a body", post(o, "/", "body"), "200"},
			{"with a larger body", post(o, "/", pattern(30_000)), "200"},
			{"in chunks", postChunked(o, "/", "body", 3), "200"},
			{"HEAD", "HEAD http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\n\r\n", "200"},
			{"HTTP 1.0", "GET http://" + o.addr + "/ HTTP/1.0\r\n\r\n", "200"},
			{"closing", "GET http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "200"},
			{"over TLS", overTLS(secured.to(hooksHost), "/", "body"), "200"},
			{"with the body that might be asked for", "POST http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody", "200"},
			{"refused", "GET http://10.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n", "403"},
			{"refused with a body", "POST http://10.0.0.1/ HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", "403"},
			{"relative", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
			{"malformed", "GET http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", "400"},
			{"no request", "nonsense\r\n", "400"},
			{"CONNECT refused", "CONNECT 10.0.0.1:443 HTTP/1.1\r\nHost: x\r\n\r\n", "403"},
		} {
			t.Run(w.name+", "+row.name, func(t *testing.T) {
				t.Parallel()
				w.answeredAfterFIN(t, row.request, row.want)
			})
		}
		for _, row := range []struct {
			name    string
			earlier int // requests before, on the same connection
			request string
			answers int
		}{
			{"after one more", 1, get(o, "/"), 1},
			{"after several more", 4, post(o, "/", "body"), 1},
			{"pipelined", 0, strings.Repeat(get(o, "/")+post(o, "/", "body"), 5), 10},
			{"in a tunnel", 0, connectRequest(o) + "GET / HTTP/1.1\r\nHost: " + o.addr + "\r\n\r\n", 1},
		} {
			t.Run(w.name+", "+row.name, func(t *testing.T) {
				t.Parallel()
				got := 0
				for try := 0; try < halfCloseTries && got != row.answers; try++ {
					c, tcp := w.dial(t)
					for range row.earlier {
						c.send(get(o, "/"))
						c.receive("GET").check(t, "200 OK", "")
					}
					sendWithFIN(t, c, tcp, row.request)
					if _, err := c.r.Peek(1); err == nil && strings.HasPrefix(row.request, "CONNECT") {
						c.readHead()
					}
					for got = 0; got < row.answers; got++ {
						if r, err := c.tryReceive("GET"); err != nil || r.status != "200 OK" {
							break
						}
					}
					c.waitEnd()
					c.Conn.Close()
				}
				if got != row.answers {
					t.Errorf("got %d answers; want %d", got, row.answers)
				}
			})
		}
		t.Cleanup(func() { // once the rows have ended
			w.s.waitMetric(clientGauge, "0")
			w.s.waitMetric(busyConnections, "0")
			w.s.waitMetric("whsentry_tunnels", "0")
		})
	}
}

// TestHalfClosedClientsAreNotWaitedFor ends the sending side where the answer does not come soon: nobody can tell that
// from a client that went away.
func TestHalfClosedClientsAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	for _, w := range everyWay(t) {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			for _, phase := range []string{"silent", "interim", "half-head", "half-body", "long-length"} {
				c, tcp := w.dial(t)
				c.send(w.head("GET", "/"+phase+"/") + "\r\n")
				eventually(t, "the request", func() bool { return w.rude.count(w.rude.begun, "/"+phase+"/") == 1 })
				endSending(t, c, tcp)
				c.waitEnd()
				eventually(t, "the end of the destination's connection", func() bool { return w.rude.count(w.rude.ended, "/"+phase+"/") == 1 })
				w.s.checkGone(t, "/"+phase+"/")
			}
			w.s.waitMetric(clientGauge, "0")
			w.s.waitMetric(busyConnections, "0")
		})
	}
}
