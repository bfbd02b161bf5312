package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
)

// rude is a destination that misbehaves as the path's first segment says. It notes for each path how many requests came,
// and for how many of them the connection has ended.
type rude struct {
	mu           sync.Mutex // guards the following
	begun, ended map[string]int
}

func newRude() *rude { return &rude{begun: make(map[string]int), ended: make(map[string]int)} }

func (r *rude) count(in map[string]int, path string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return in[path]
}

// serve carries one connection to its end, which it waits for after whatever it has answered.
func (r *rude) serve(in *bufio.Reader, out io.Writer) {
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	io.Copy(io.Discard, req.Body)
	path := req.URL.Path
	r.mu.Lock()
	r.begun[path]++
	r.mu.Unlock()
	io.WriteString(out, rudeAnswers[strings.Split(path, "/")[1]])
	io.Copy(io.Discard, in)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended[path]++
}

// rudeAnswers are the beginnings of answers; none has an end.
var rudeAnswers = map[string]string{
	"silent":      "",
	"interim":     "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n",
	"half-head":   "HTTP/1.1 200 OK\r\nContent-Le",
	"half-body":   "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
	"half-chunk":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
	"no-last":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n",
	"no-close":    "HTTP/1.1 200 OK\r\n\r\nbody",
	"long-length": "HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + strings.Repeat("x", 200_000),
	"long-chunk":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFF\r\n" + strings.Repeat("x", 200_000),
	"long-close":  "HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", 200_000),
	"flood":       "HTTP/1.1 200 OK\r\nContent-Length: 40000000\r\n\r\n" + strings.Repeat("x", 40_000_000),
}

// way is a way in which requests come in, and go out.
type way struct {
	name      string
	s         *sentry
	rude      *rude
	authority string // of the destination that rude is
	absolute  bool   // requests name it in their target
	fields    string // of every request
	// dial opens a connection on which the next thing sent is a request; tcp is what lies under it.
	dial func(t *testing.T) (c, tcp *rawConn)
}

// head is a request's without its framing and its last line end.
func (w *way) head(method, path string) string {
	target := path
	if w.absolute {
		target = "http://" + w.authority + path
	}
	return method + " " + target + " HTTP/1.1\r\nHost: " + w.authority + "\r\n" + w.fields
}

// everyWay starts a proxy for each way in and out. Its limits in time are so long that none of them ends anything here.
func everyWay(t *testing.T) []*way {
	t.Helper()
	return everyWayWithin(t, 5*time.Minute)
}

// everyWayWithin is everyWay with another clientTimeout.
func everyWayWithin(t *testing.T, clientTimeout time.Duration) []*way {
	t.Helper()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	patient := func(cfg *proxy.Config, _ *guard.Config) {
		cfg.ClientTimeout, cfg.ClientIdleTimeout, cfg.ReadTimeout = clientTimeout, 5*time.Minute, 5*time.Minute
		cfg.ConnectTimeout, cfg.ConnectionLifetime = 5*time.Minute, 5*time.Minute
		cfg.MaxResponseBodySize = 64 << 20
		cfg.AccessLog.Type = accesslog.JSON
	}
	plain := &way{name: "plain", s: start(t, patient), absolute: true}
	https := &way{name: "https listener", s: startHTTPS(t, root, patient), absolute: true}
	secured := &way{name: "TLS to the destination", s: startTLS(t, root, nil, patient), absolute: true, fields: "X-WhSentry-TLS: 1\r\n"}
	intercepted := &way{name: "intercepted", s: startMITM(t, root, issuer, patient)}
	for _, w := range []*way{plain, https} {
		w.rude = newRude()
		w.authority = newOrigin(t, func(c *originConn) { w.rude.serve(c.r, c) }).addr
	}
	for _, w := range []*way{secured, intercepted} {
		w.rude = newRude()
		w.authority = newTLSOrigin(t, serving(root.Leaf(t, hooksHost)), func(c *tlsConn) { w.rude.serve(c.r, c) }).to(hooksHost)
	}
	for _, w := range []*way{plain, secured} {
		w.dial = func(t *testing.T) (c, tcp *rawConn) {
			c = w.s.dialFor(t)
			return c, c
		}
	}
	https.dial = func(t *testing.T) (c, tcp *rawConn) {
		tcp = https.s.dialFor(t)
		return tcp.secure(clientConfig(root, "localhost")), tcp
	}
	intercepted.dial = func(t *testing.T) (c, tcp *rawConn) {
		tcp = intercepted.s.dialFor(t)
		return tcp.intercepted(issuer, intercepted.authority), tcp
	}
	return []*way{plain, https, secured, intercepted}
}

// TestVanishingEverywhere is a client that leaves in every phase of a request, on every way that there is for one. The
// destination's connection is released for that reason alone, for no limit in time is near; and the log says 499.
func TestVanishingEverywhere(t *testing.T) {
	t.Parallel()
	phases := []struct {
		name    string
		path    string // its first segment
		framing string // what follows the head's other fields
		reached bool   // the destination gets the request
		awaited string // what the client has read before it leaves
		more    string // what it sends once the destination has its request
	}{
		{"within the head", "silent", "X-Hal", false, "", ""},
		{"before the body", "silent", "Content-Length: 9\r\n\r\n", false, "", ""},
		{"within the body", "silent", "Content-Length: 9\r\n\r\nhalf", false, "", ""},
		{"within a large body", "silent", "Content-Length: 300000\r\n\r\n" + pattern(250_000), false, "", ""},
		{"within a chunk's size", "silent", "Transfer-Encoding: chunked\r\n\r\n5", false, "", ""},
		{"within a chunk", "silent", "Transfer-Encoding: chunked\r\n\r\n5\r\nab", false, "", ""},
		{"between chunks", "silent", "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", false, "", ""},
		{"within the trailers", "silent", "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX: y\r\n", false, "", ""},
		{"once the body is asked for", "silent", "Content-Length: 9\r\nExpect: 100-continue\r\n\r\n", false, "HTTP/1.1 100 Continue\r\n\r\n", ""},
		{"before the answer", "silent", "\r\n", true, "", ""},
		{"before the answer to a body", "silent", "Content-Length: 5\r\n\r\n12345", true, "", ""},
		{"before the answer, the next request there", "silent", "\r\nGET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n", true, "", ""},
		{"before the answer, the next request sent", "silent", "\r\n", true, "", "GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"within the answer, the next request sent", "long-length", "\r\n", true, "HTTP/1.1 200 ", "GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"between interim and final answer", "interim", "\r\n", true, "HTTP/1.1 103 ", ""},
		{"within the answer's head", "half-head", "\r\n", true, "", ""},
		{"within a small body", "half-body", "\r\n", true, "", ""},
		{"within a small chunk", "half-chunk", "\r\n", true, "", ""},
		{"before the last chunk", "no-last", "\r\n", true, "", ""},
		{"before a small body's close", "no-close", "\r\n", true, "", ""},
		{"within a large body that comes", "long-length", "\r\n", true, "HTTP/1.1 200 ", ""},
		{"within a large chunk that comes", "long-chunk", "\r\n", true, "HTTP/1.1 200 ", ""},
		{"within a large body without length", "long-close", "\r\n", true, "HTTP/1.1 200 ", ""},
		{"while it does not read", "flood", "\r\n", true, "HTTP/1.1 200 ", ""},
	}
	for _, w := range everyWay(t) {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			for _, how := range []string{"FIN", "RST"} {
				for n, phase := range phases {
					t.Run(phase.name+" with "+how, func(t *testing.T) {
						t.Parallel()
						path := fmt.Sprintf("/%s/%s%d", phase.path, how, n)
						c, tcp := w.dial(t)
						c.send(w.head("POST", path) + phase.framing)
						if phase.reached {
							eventually(t, "the request", func() bool { return w.rude.count(w.rude.begun, path) == 1 })
						}
						c.expect(phase.awaited)
						c.send(phase.more)
						if how == "RST" {
							tcp.abort()
						} else {
							c.Conn.Close()
						}
						if phase.reached {
							eventually(t, "the end of the destination's connection", func() bool { return w.rude.count(w.rude.ended, path) == 1 })
						}
						if how == "FIN" || phase.reached { // a reset may overtake the head
							w.s.checkGone(t, path)
						}
					})
				}
			}
		})
		t.Cleanup(func() { // once the rows have ended
			for _, name := range []string{busyConnections, idleConnections, clientGauge, "whsentry_buffered_bytes", "whsentry_tunnels"} {
				w.s.waitMetric(name, "0")
			}
		})
	}
}

// expect reads text and fails the test where something else comes.
func (c *rawConn) expect(text string) {
	c.t.Helper()
	got := make([]byte, len(text))
	if n, err := io.ReadFull(c.r, got); err != nil || string(got) != text {
		c.t.Fatalf("got %q, %v; want %q", got[:n], err, text)
	}
}

// checkGone fails the test unless the log has a line with 499, and no reason, for a URL that ends in path. Where the
// head was not there in full, its URL is not known, but somebody's line is one of an unknown request.
func (s *sentry) checkGone(t *testing.T, path string) {
	t.Helper()
	var found string
	eventually(t, "a log line for "+path, func() bool {
		for line := range strings.Lines(s.wholeLog()) {
			if strings.Contains(line, path+`","response_code":`) {
				found = line
				return true
			}
		}
		return false
	})
	if !strings.Contains(found, `"response_code":499,`) || strings.Contains(found, `"reason`) {
		t.Errorf("got the line %s; want a 499 and no reason", found)
	}
}

// TestVanishingBeforeARequestIsKnown logs what is there as what it is: nothing that could be named.
func TestVanishingBeforeARequestIsKnown(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{accesslog.Text, accesslog.JSON} {
		s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.AccessLog.Type = kind })
		for _, sent := range []string{"", "\r\n", "\r\n\r\n", "P", "POST", "POST http://127.0.0.1/?secret HTTP/1.1"} {
			c := s.dial()
			c.send(sent)
			c.Conn.Close()
		}
		s.waitMetric(clientCounter, "6")
		s.waitMetric(clientGauge, "0")
		lines := s.logLines(3)
		if len(lines) != 3 {
			t.Errorf("got %d lines; want 3, for those who sent something", len(lines))
		}
		for _, line := range lines {
			if !strings.Contains(line, " - - 499 ") && !strings.Contains(line, `"method":"-","url":"-","response_code":499`) {
				t.Errorf("got %s; want a 499 of which nothing is known", line)
			}
		}
	}
}

// TestVanishingBeforeAConnection leaves while the name is looked up, while the proxy connects, while TLS is started with
// the destination, and while a CONNECT of every kind is judged.
func TestVanishingBeforeAConnection(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	resolver := newSilentResolver(t)
	patient := func(cfg *proxy.Config, g *guard.Config) {
		cfg.ConnectTimeout, cfg.ReadTimeout, cfg.ClientTimeout = 5*time.Minute, 5*time.Minute, 5*time.Minute
		g.DNSServers = []netip.AddrPort{resolver.addr}
	}
	direct, intercepting := start(t, patient), startMITM(t, root, issuer, patient)
	mute := swallowing(t)
	deaf := deafAddress(t)
	rows := []struct {
		name, request string // NAME in it is one that nobody has asked for yet
		s             *sentry
		reached       bool
	}{
		{"looked up", "POST http://NAME/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", direct, false},
		{"looked up for its 100", "POST http://NAME/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", direct, false},
		{"looked up for a tunnel", "CONNECT NAME:443 HTTP/1.1\r\nHost: x\r\n\r\n", direct, false},
		{"looked up to intercept", "CONNECT NAME:443 HTTP/1.1\r\nHost: x\r\n\r\n", intercepting, false},
		{"connecting", "GET http://" + deaf + "/ HTTP/1.1\r\nHost: x\r\n\r\n", direct, false},
		{"connecting for a tunnel", "CONNECT " + deaf + " HTTP/1.1\r\nHost: x\r\n\r\n", direct, false},
		{"in the TLS handshake", "GET https://" + mute.addr + "/ HTTP/1.1\r\nHost: x\r\n\r\n", direct, true},
	}
	for _, how := range []string{"FIN", "RST"} {
		for i, row := range rows {
			t.Run(row.name+" with "+how, func(t *testing.T) {
				t.Parallel()
				id := fmt.Sprintf("slow%d.%s.example", i, strings.ToLower(how))
				request := strings.ReplaceAll(row.request, "NAME", id)
				c := row.s.dialFor(t)
				c.send(strings.Replace(request, "Host: x\r\n", "Host: x\r\nRequest-ID: "+id+"\r\n", 1))
				switch {
				case request != row.request:
					eventually(t, "the question", func() bool { return resolver.wasAsked(id) })
				case row.reached:
					eventually(t, "the ClientHello", func() bool { return mute.connections() > 0 })
				}
				if how == "RST" {
					c.abort()
				} else {
					c.Conn.Close()
				}
				eventually(t, "the log's line", func() bool {
					_, line, _ := strings.Cut(row.s.wholeLog(), "] "+id+" ")
					line, _, whole := strings.Cut(line, "\n")
					if whole && !strings.Contains(line, " 499 ") {
						t.Fatalf("got the line %q; want a 499", line)
					}
					return whole
				})
			})
		}
	}
	t.Cleanup(func() { // once the rows have ended
		for _, s := range []*sentry{direct, intercepting} {
			s.waitMetric(clientGauge, "0")
			s.waitMetric(busyConnections, "0")
		}
	})
}

// TestVanishingUploader leaves while its large body is sent to a destination that takes none of it.
func TestVanishingUploader(t *testing.T) {
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.MaxRequestBodySize, cfg.ReadTimeout, cfg.ConnectionLifetime = 64<<20, 5*time.Minute, 5*time.Minute
	})
	done := make(chan struct{})
	defer close(done) // before the origins are ended, which waits for them
	plain := newOrigin(t, func(*originConn) { <-done })
	secured := newTLSOrigin(t, serving(root.Leaf(t, hooksHost)), func(*tlsConn) { <-done })
	body := strings.Repeat("x", 20<<20) // more than the sockets take
	for i, head := range []string{
		"POST http://" + plain.addr + "/ HTTP/1.1\r\nHost: x\r\n",
		"POST https://" + secured.to(hooksHost) + "/ HTTP/1.1\r\nHost: x\r\n",
	} {
		for _, reset := range []bool{false, true} {
			c := s.dial()
			c.send(fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body))
			s.waitMetric(busyConnections, "1")
			if reset {
				c.abort()
			} else {
				c.Conn.Close()
			}
			s.waitMetric(busyConnections, "0")
			s.waitMetric("whsentry_buffered_bytes", "0")
		}
		for _, line := range s.logLines(2 * (i + 1)) {
			if !strings.Contains(line, " 499 ") {
				t.Errorf("got the line %q; want a 499", line)
			}
		}
	}
}

// TestVanishingTunneller leaves an open tunnel, whose other end is told at once.
func TestVanishingTunneller(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	patient := func(cfg *proxy.Config, _ *guard.Config) {
		cfg.ReadTimeout, cfg.ConnectionLifetime = 5*time.Minute, 5*time.Minute
	}
	plain, https := start(t, patient), startHTTPS(t, root, patient)
	var mu sync.Mutex
	var ends []error // how each of the origin's connections has ended
	o := newOrigin(t, func(c *originConn) {
		_, err := io.Copy(io.Discard, c.r)
		mu.Lock()
		defer mu.Unlock()
		ends = append(ends, err)
	})
	n := 0
	for _, s := range []*sentry{plain, https} {
		for _, sent := range []string{"", "some bytes"} {
			for _, how := range []string{"FIN", "RST"} {
				tcp := s.dial()
				c := tcp
				if s == https {
					c = tcp.secure(clientConfig(root, "localhost"))
				}
				c.connectTo(o)
				c.send(sent)
				s.waitMetric("whsentry_tunnels", "1")
				if how == "RST" {
					tcp.abort()
				} else {
					c.Conn.Close()
				}
				n++
				eventually(t, "the end of the destination's side with "+how, func() bool {
					mu.Lock()
					defer mu.Unlock()
					return len(ends) == n
				})
				mu.Lock()
				if wasReset := ends[n-1] != nil; wasReset != (how == "RST") {
					t.Errorf("after a client's %s: got %v at the destination", how, ends[n-1])
				}
				mu.Unlock()
				s.waitMetric("whsentry_tunnels", "0")
				s.waitMetric(busyConnections, "0")
				s.waitMetric(clientGauge, "0")
			}
		}
	}
}

// TestVanishingInTheTLSHandshake leaves a TLS listener, and an intercepted CONNECT, after every few bytes of the
// handshake.
func TestVanishingInTheTLSHandshake(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	https, mitm := startHTTPS(t, root, nil), startMITM(t, root, issuer, nil)
	hello := clientHello(t)
	for i := 0; i <= len(hello); i += 1 + len(hello)/12 {
		for _, s := range []*sentry{https, mitm} {
			for _, reset := range []bool{false, true} {
				c := s.dial()
				if s == mitm {
					c.open(hooksHost + ":443")
				}
				c.send(string(hello[:i]))
				if reset {
					c.abort()
				} else {
					c.Conn.Close()
				}
			}
		}
	}
	for _, s := range []*sentry{https, mitm} {
		s.waitMetric(clientGauge, "0")
	}
}

// clientHello returns the first message of a TLS client.
func clientHello(t *testing.T) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	sent := make(chan []byte, 1)
	go func() { // ends with the pipe
		buf := make([]byte, 16<<10)
		n, _ := far.Read(buf)
		far.Close()
		sent <- buf[:n]
	}()
	tls.Client(near, &tls.Config{ServerName: hooksHost, InsecureSkipVerify: true}).Handshake() // which fails
	return <-sent
}

// silentResolver is a name server that never answers.
type silentResolver struct {
	addr  netip.AddrPort
	mu    sync.Mutex // guards the following
	asked map[string]bool
}

func newSilentResolver(t *testing.T) *silentResolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	r := &silentResolver{addr: netip.MustParseAddrPort(conn.LocalAddr().String()), asked: make(map[string]bool)}
	ended := make(chan struct{})
	go func() { // awaited below
		defer close(ended)
		buf := make([]byte, 2048)
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(buf[:n]) == nil && len(q.Question) == 1 {
				r.mu.Lock()
				r.asked[strings.ToLower(q.Question[0].Name)] = true
				r.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-ended
	})
	return r
}

func (r *silentResolver) wasAsked(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[name+"."]
}
