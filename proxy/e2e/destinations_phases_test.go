package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
)

// phase is how far a destination gets with its answer before it goes wrong.
type phase struct {
	name    string
	request int    // how much of the request it reads: nothing, a byte, all of it
	sent    string // what it sends
	// begun says that the client has the head by then: its answer is cut. Otherwise it gets a clear 502.
	begun bool
	// ending says that the end of the connection is the end of the body.
	ending bool
}

const (
	readNothing = iota
	readSome
	readAll
)

const chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

// answerPhases are all the ways to stop short of a whole answer.
func answerPhases() []phase {
	large := pattern(100_000)
	chunk := fmt.Sprintf("%x\r\n%s\r\n", len(large), large)
	return []phase{
		{"on accept", readNothing, "", false, false},
		{"in the request", readSome, "", false, false},
		{"before the head", readAll, "", false, false},
		{"in the status line", readAll, "HTTP/1.1 20", false, false},
		{"after the status line", readAll, "HTTP/1.1 200 OK\r\n", false, false},
		{"in a field", readAll, "HTTP/1.1 200 OK\r\nContent-Len", false, false},
		{"before the empty line", readAll, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n", false, false},
		{"in the empty line", readAll, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r", false, false},
		{"after an interim response", readAll, "HTTP/1.1 100 Continue\r\n\r\n", false, false},
		{"after the head", readAll, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", false, false},
		{"in a small body", readAll, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbod", false, false},
		{"after a large body's head", readAll, "HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n", true, false},
		{"in a large body", readAll, "HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n" + large, true, false},
		{"after a chunked head", readAll, chunkedHead, false, false},
		{"in a chunk's size", readAll, chunkedHead + "4", false, false},
		{"after a chunk's size", readAll, chunkedHead + "4\r\n", false, false},
		{"in a chunk", readAll, chunkedHead + "4\r\nbod", false, false},
		{"after a chunk", readAll, chunkedHead + "4\r\nbody", false, false},
		{"before the last chunk", readAll, chunkedHead + "4\r\nbody\r\n", false, false},
		{"in the last chunk", readAll, chunkedHead + "4\r\nbody\r\n0", false, false},
		{"before the trailers", readAll, chunkedHead + "4\r\nbody\r\n0\r\n", false, false},
		{"in the trailers", readAll, chunkedHead + "4\r\nbody\r\n0\r\nX-Trail", false, false},
		{"after the trailers", readAll, chunkedHead + "4\r\nbody\r\n0\r\nX-Trailer: 1\r\n", false, false},
		{"in the last line end", readAll, chunkedHead + "4\r\nbody\r\n0\r\n\r", false, false},
		{"in a size, large", readAll, chunkedHead + chunk + "4", true, false},
		{"in a chunk, large", readAll, chunkedHead + "186a1\r\n" + large, true, false},
		{"before the last chunk, large", readAll, chunkedHead + chunk, true, false},
		{"in the trailers, large", readAll, chunkedHead + chunk + "0\r\nX-Trail", true, false},
		{"in a body without length", readAll, "HTTP/1.1 200 OK\r\n\r\nbody", false, true},
		{"in a body without length, large", readAll, "HTTP/1.1 200 OK\r\n\r\n" + large, true, true},
		{"before a body without length", readAll, "HTTP/1.0 200 OK\r\n\r\n", false, true},
	}
}

// action is how it goes wrong.
type action struct {
	name   string
	reason string
	whole  bool // it is the end of a body without a length
	act    func(s side)
}

// stall waits for the proxy to close the connection.
func stall(s side) { io.Copy(io.Discard, s.r) }

func reset(s side) {
	s.tcp.SetLinger(0)
	s.tcp.Close()
}

var plainActions = []action{
	{"closes", "1011", true, func(s side) { s.tcp.Close() }},
	{"closes its side", "1011", true, func(s side) { s.tcp.CloseWrite(); stall(s) }},
	{"resets", "1011", false, reset},
	{"stalls", "1004", false, stall},
}

var tlsActions = []action{
	{"closes", "1011", true, func(s side) { s.leave(); s.tcp.Close() }},
	{"says good-bye", "1011", true, func(s side) { s.leave(); stall(s) }},
	{"closes without a good-bye", "1011", true, func(s side) { s.tcp.CloseWrite(); stall(s) }},
	{"closes within a record", "1011", false, func(s side) { s.tcp.Write([]byte("\x17\x03\x03\x01\x00half")); s.tcp.CloseWrite(); stall(s) }},
	{"resets", "1011", false, reset},
	{"stalls", "1004", false, stall},
}

// play is a destination's part in one such failure. On every connection it fails in the same way.
func (p *phase) play(s side, do action) {
	switch p.request {
	case readSome:
		s.r.ReadByte()
	case readAll:
		req, err := http.ReadRequest(s.r)
		if err != nil {
			return
		}
		io.Copy(io.Discard, req.Body)
	}
	if _, err := io.WriteString(s.w, p.sent); err == nil {
		do.act(s)
	}
}

// outcome is what the client and the log must show.
func (p *phase) outcome(do action) (status int, reason string) {
	switch {
	case p.ending && do.whole:
		return 200, ""
	case p.begun:
		return 200, do.reason
	}
	return 502, do.reason
}

// phaseTally counts outcomes as the metrics do.
type phaseTally struct {
	sync.Mutex
	expected map[string]int
}

func (p *phaseTally) add(status int, reason string) {
	if reason == "" {
		reason = "0"
	}
	p.Lock()
	defer p.Unlock()
	p.expected[requestsMetric(status, reason)]++
}

func requestsMetric(status int, reason string) string {
	code, _ := strconv.Atoi(reason)
	return series(status, code)
}

// versions are those of HTTP that the client speaks: 1.0 too, where it matters how it is told of a body's end.
func (p *phase) versions() []string {
	if p.begun || p.ending {
		return []string{"1.1", "1.0"}
	}
	return []string{"1.1"}
}

// tryPhase sends a request of that version of HTTP, of which head has 1.1, to a destination that fails in that way.
func tryPhase(t *testing.T, s *sentry, p phase, do action, tally *phaseTally, version, head string) {
	status, reason := p.outcome(do)
	c := s.dialFor(t)
	c.send(strings.Replace(head, "HTTP/1.1", "HTTP/"+version, 1))
	r, err := c.tryReceive("POST")
	if p.request == readNothing && do.name == "resets" && err == nil && r.reason() == "1006" {
		reason = "1006" // faster than a look at whether the connection has come about
	}
	tally.add(status, reason)
	if err != nil { // a reset, which is how it can tell, may have come before it has read the head
		if version != "1.0" || !p.begun || reason == "" {
			t.Errorf("HTTP/%s: %v", version, err)
		}
		return
	}
	cut := p.begun && reason != ""
	if r.code() != status || (r.bodyErr != nil) != cut || !cut && r.reason() != reason {
		t.Errorf("HTTP/%s: got %q with %q, %d bytes and %v; want %d with %q, cut: %v",
			version, r.status, r.reason(), len(r.body), r.bodyErr, status, reason, cut)
	}
	if cut && r.reason() != "" {
		t.Errorf("HTTP/%s: got the reason %q in the destination's own head", version, r.reason())
	}
	if cut {
		c.waitEnd()
	} else if version == "1.1" && r.closing {
		t.Errorf("HTTP/1.1: got a close; want the connection to go on")
	}
}

// everyPhase tries every phase with every action, on every version. Those that stall, which only wait, do so all at once.
func everyPhase(t *testing.T, actions []action, try func(t *testing.T, p phase, do action, row int, version string)) {
	allAtOnce(t, func(run func(name string, test func(t *testing.T))) {
		for i, p := range answerPhases() {
			for j, do := range actions {
				for _, version := range p.versions() {
					name := p.name + " " + do.name + ", HTTP " + version
					if do.name == "stalls" {
						run(name, func(t *testing.T) { try(t, p, do, i+j, version) })
						continue
					}
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						try(t, p, do, i+j, version)
					})
				}
			}
		}
	})
}

// checkPhases holds the log, the metrics and the pool to what the clients saw.
func checkPhases(t *testing.T, s *sentry, tally *phaseTally) {
	total, counted := 0, make(map[string]int)
	for name, n := range tally.expected {
		s.waitMetric(name, fmt.Sprint(n))
		total += n
	}
	for _, line := range s.jsonLines(total) {
		reason, _ := line["reason_code"].(float64)
		counted[requestsMetric(int(line["response_code"].(float64)), fmt.Sprint(reason))]++
		if reused, _ := line["conn_reused"].(bool); reused {
			t.Errorf("got the line %v; want no connection used again", line)
		}
		if text, _ := line["reason"].(string); (reason != 0) != (text != "") {
			t.Errorf("got the line %v; want a code and a text, or neither", line)
		}
	}
	for name, n := range tally.expected {
		if counted[name] != n {
			t.Errorf("got %d log lines for %s; want %d", counted[name], name, n)
		}
	}
	s.waitMetric(busyConnections, "0")
	s.waitMetric(idleConnections, "0")
	s.waitMetric("whsentry_destination_connections_reused_total", "0")
	s.waitMetric("whsentry_destination_connections_opened_total", fmt.Sprint(total-tally.expected[requestsMetric(502, "1006")]))
}

// testEveryPhase lets a destination close, reset and stall at every point of an exchange.
func testEveryPhase(t *testing.T) {
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.ReadTimeout = 2500 * time.Millisecond
		cfg.AccessLog.Type = accesslog.JSON
	})
	tally := &phaseTally{expected: make(map[string]int)}
	t.Run("plain", func(t *testing.T) {
		everyPhase(t, plainActions, func(t *testing.T, p phase, do action, _ int, version string) {
			o := newOrigin(t, func(c *originConn) {
				p.play(side{c.r, c, c.Conn.(*net.TCPConn), func() {}}, do)
			})
			tryPhase(t, s, p, do, tally, version, post(o, "/", "hook"))
		})
	})
	checkPhases(t, s, tally)
}

// testTLSEveryPhase is the same above TLS, where the ways to end a connection are more.
func testTLSEveryPhase(t *testing.T) {
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.ReadTimeout = 2500 * time.Millisecond
		cfg.AccessLog.Type = accesslog.JSON
	})
	tally := &phaseTally{expected: make(map[string]int)}
	t.Run("tls", func(t *testing.T) {
		everyPhase(t, tlsActions, func(t *testing.T, p phase, do action, row int, version string) {
			cfg := only(serving(root.Leaf(t, hooksHost)), tlsVersions[row%len(tlsVersions)].version)
			o := newTLSOrigin(t, cfg, func(c *tlsConn) {
				p.play(side{c.r, c, c.tcp, func() { c.CloseWrite() }}, do)
			})
			tryPhase(t, s, p, do, tally, version, overTLS(o.to(hooksHost), "/", "hook"))
		})
	})
	checkPhases(t, s, tally)
}

// cuttingConn lets the first bytes of what is written pass, and holds the rest back for ever.
type cuttingConn struct {
	net.Conn
	left int
	cut  chan struct{} // closed when something has been held back
	once sync.Once
}

func (c *cuttingConn) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	if _, err := c.Conn.Write(p[:n]); err != nil {
		return 0, err
	}
	if n < len(p) {
		c.once.Do(func() { close(c.cut) })
	}
	return len(p), nil
}

// testTLSEveryPhaseOfTheHandshake lets a destination close, reset and stall at every point of its handshake.
func testTLSEveryPhaseOfTheHandshake(t *testing.T) {
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.ConnectTimeout = 2500 * time.Millisecond
		cfg.AccessLog.Type = accesslog.JSON
	})
	actions := []action{
		{"closes", "1005", false, func(s side) { s.tcp.CloseWrite() }},
		{"resets", "1005", false, reset},
		{"stalls", "1004", false, func(side) {}},
	}
	tally := &phaseTally{expected: make(map[string]int)}
	t.Run("handshake", func(t *testing.T) {
		for _, version := range tlsVersions {
			cfg := only(serving(root.Leaf(t, hooksHost)), version.version)
			cfg.SessionTicketsDisabled = true
			flight := flightLength(t, cfg, root)
			for _, cut := range []struct {
				name string
				at   int // bytes; before 0: without a look at the ClientHello
			}{
				{"on accept", -1}, {"after the ClientHello", 0}, {"in a record's head", 3}, {"after a record's head", 5},
				{"in the ServerHello", 40}, {"after the ServerHello", 5 + 90}, {"in the certificate", flight / 2},
				{"at the end", flight - 10}, // signatures differ in length
			} {
				for _, do := range actions {
					t.Run(version.name+" "+cut.name+" "+do.name, func(t *testing.T) {
						t.Parallel()
						o := newOrigin(t, func(c *originConn) {
							tcp := c.Conn.(*net.TCPConn)
							if cut.at < 0 {
								do.act(side{tcp: tcp})
								io.Copy(io.Discard, tcp)
								return
							}
							conn := &cuttingConn{Conn: &packingConn{Conn: tcp, r: c.r}, left: cut.at, cut: make(chan struct{})}
							handshake := make(chan struct{})
							go func() { // ends with the connection
								defer close(handshake)
								tls.Server(conn, cfg).Handshake()
							}()
							select {
							case <-conn.cut:
								do.act(side{tcp: tcp})
								<-handshake // which the server's side may take for done
								io.Copy(io.Discard, c.r)
							case <-handshake:
							}
						})
						_, port, _ := net.SplitHostPort(o.addr)
						tryPhase(t, s, phase{request: min(cut.at+1, readSome)}, do, tally, "1.1", overTLS(hooksHost+":"+port, "/", "hook"))
						want := 1
						if cut.at <= 0 {
							want = 2 // not a byte of an answer: once more, without ML-KEM
						}
						// A reset may be there before it is known that the connection has come about: then it never has.
						early := cut.at < 0 && do.name == "resets"
						if n := o.connections(); n != want && !(early && n == 1) {
							t.Errorf("got %d connections; want %d", n, want)
						}
					})
				}
			}
		}
	})
	s.waitMetric("whsentry_destination_connections_opened_total", "0") // none was ever fit for a request
	total := 0
	for name, n := range tally.expected {
		s.waitMetric(name, fmt.Sprint(n))
		total += n
	}
	s.jsonLines(total)
	s.waitMetric(busyConnections, "0")
	s.waitMetric(idleConnections, "0")
}

// flightLength is how many bytes a server with that configuration sends in a handshake.
func flightLength(t *testing.T, cfg *tls.Config, root *catest.Authority) int {
	t.Helper()
	client, server := net.Pipe()
	counting := &countingConn{Conn: server}
	done := make(chan error, 1)
	go func() { done <- tls.Server(counting, cfg).Handshake() }() // awaited below
	if err := tls.Client(client, clientConfig(root, hooksHost)).Handshake(); err != nil {
		t.Fatalf("handshake: %v", err)
	}
	if err := <-done; err != nil {
		t.Fatalf("handshake: %v", err)
	}
	client.Close()
	server.Close()
	return counting.written
}

type countingConn struct {
	net.Conn
	written int
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.written += len(p)
	return c.Conn.Write(p)
}

// testNobodyAccepts is a destination whose system takes connections that it never looks at.
func testNobodyAccepts(t *testing.T) {
	root := catest.Root(t, "Root")
	for _, tt := range []struct {
		name, fields string
		closes       bool // the listener is closed, which resets what waits in its queue
		reason, text string
	}{
		{"plain, stalls", "", false, "1004", "idle"},
		{"plain, closes", "", true, "1011", "closed the connection"},
		{"tls, stalls", "X-WhSentry-TLS: 1\r\n", false, "1004", "TLS handshake"},
		{"tls, closes", "X-WhSentry-TLS: 1\r\n", true, "1005", "reset"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			limit := 2 * time.Second
			if tt.closes {
				limit = patience
			}
			s := startTLS(t, root, nil, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout, cfg.ConnectTimeout = limit, limit })
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatalf("listen: %v", err)
			}
			defer ln.Close()
			c := s.dialFor(t)
			c.send("POST http://" + ln.Addr().String() + "/ HTTP/1.1\r\nHost: x\r\n" + tt.fields + "Content-Length: 4\r\n\r\nhook")
			if tt.closes {
				eventually(t, "a connection in the queue", func() bool { return hasWaiting(ln) })
				ln.Close()
			}
			r := c.receive("POST")
			if tt.closes && r.reason() == "1006" { // faster than a look at whether the connection has come about
				return
			}
			r.check(t, "502 Bad Gateway", tt.reason)
			r.checkText(t, tt.text)
			s.waitMetric(busyConnections, "0")
			s.waitMetric(idleConnections, "0")
		})
	}
}

// hasWaiting reports whether a connection waits in the listener's queue.
func hasWaiting(ln net.Listener) (has bool) {
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		return false
	}
	raw.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		has = err == nil && n > 0
	})
	return has
}
