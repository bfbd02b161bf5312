package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/reason"
)

// reload changes the running proxy's settings, as SIGHUP does.
func (s *sentry) reload(change func(cfg *proxy.Config, g *guard.Config)) error {
	s.t.Helper()
	if change != nil {
		change(&s.cfg, &s.guard)
	}
	s.deps = s.dependencies(s.deps.Metrics)
	return s.proxy.Reload(s.cfg, s.deps)
}

// jsonLines returns the access log's lines once there are n, each of which must be valid JSON.
func (s *sentry) jsonLines(n int) []map[string]any {
	s.t.Helper()
	var all []map[string]any
	for _, line := range s.logLines(n) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			s.t.Fatalf("the line %q is not JSON: %v", line, err)
		}
		all = append(all, m)
	}
	return all
}

// scrape returns all of /metrics.
func (s *sentry) scrape() string {
	s.t.Helper()
	status, body := s.admin("/metrics")
	if status != http.StatusOK {
		s.t.Fatalf("got status %d for /metrics; want 200", status)
	}
	return body
}

// admin gets path from the metrics' address, over a connection of its own.
func (s *sentry) admin(path string) (status int, body string) {
	s.t.Helper()
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}).Get(s.metrics + path)
	if err != nil {
		s.t.Fatalf("get %s: %v", path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("get %s: %v", path, err)
	}
	return resp.StatusCode, string(b)
}

// requests returns whsentry_requests_total for a status and a reason.
func (s *sentry) requests(status, code int) string {
	s.t.Helper()
	return s.metric(series(status, code))
}

// series is the name of whsentry_requests_total for a status and a reason, with the source that the two have: for a
// status that is not the reason's own, the one that it has mostly.
func series(status, code int) string {
	source := reason.SourceNone
	for i, v := range reason.Code(code).Variants() {
		if i == 0 || v.Status == status && v.Status != reason.Code(code).Variants()[0].Status {
			source = v.Source
		}
	}
	return fmt.Sprintf(`whsentry_requests_total{status="%d",reason="%d",source=%q}`, status, code, source)
}

// waitMetric waits until the metric has the value.
func (s *sentry) waitMetric(name, value string) {
	s.t.Helper()
	var got string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got = s.metric(name); got == value {
			return
		}
	}
	s.t.Fatalf("got %s = %s; want %s", name, got, value)
}

const (
	busyConnections = `whsentry_destination_connections{state="busy"}`
	idleConnections = `whsentry_destination_connections{state="idle"}`
	clientGauge     = `whsentry_client_connections{listener="127.0.0.1:0"}`
	clientCounter   = `whsentry_client_connections_total{listener="127.0.0.1:0"}`
)

// dialFor is dial for a subtest.
func (s *sentry) dialFor(t *testing.T) *rawConn {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatalf("connect to the proxy: %v", err)
	}
	return newRawConn(t, conn)
}

// exchangeFor is exchange for a subtest.
func (s *sentry) exchangeFor(t *testing.T, raw string) *response {
	t.Helper()
	c := s.dialFor(t)
	c.send(raw)
	return c.receive("GET")
}

// check fails the test unless the response has that status line and that reason code ("" for none).
func (r *response) check(t *testing.T, status, reason string) {
	t.Helper()
	if r.status != status || r.reason() != reason {
		t.Fatalf("got %q with reason %q (%s); want %q with %q", r.status, r.reason(), r.header.Get("X-Whsentry-Reason"), status, reason)
	}
}

// checkText fails the test unless the reason's text holds every one of parts.
func (r *response) checkText(t *testing.T, parts ...string) {
	t.Helper()
	text := r.header.Get("X-Whsentry-Reason")
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("got the reason %q; want %q in it", text, p)
		}
	}
	if r.body != text+"\n" {
		t.Errorf("got the body %q; want the reason %q and a newline", r.body, text)
	}
}

// waitEnd waits until the other side has closed the connection, whatever it sends before.
func (c *rawConn) waitEnd() {
	c.t.Helper()
	if _, err := io.Copy(io.Discard, c.r); err != nil {
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			c.t.Fatalf("the connection was not closed")
		}
	}
}

// halfClose sends FIN.
func (c *rawConn) halfClose() {
	c.t.Helper()
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		c.t.Fatalf("close the sending side: %v", err)
	}
}

// abort closes the connection with a reset.
func (c *rawConn) abort() {
	c.Conn.(*net.TCPConn).SetLinger(0)
	c.Conn.Close()
}

// connectTo opens a tunnel.
func (c *rawConn) connectTo(o *origin) {
	c.t.Helper()
	c.send("CONNECT " + o.addr + " HTTP/1.1\r\nHost: " + o.addr + "\r\n\r\n")
	if line := c.readHead(); !strings.HasPrefix(line, "HTTP/1.1 200 ") {
		c.t.Fatalf("got %q to a CONNECT; want a 200", line)
	}
}

// readHead reads up to an empty line.
func (c *rawConn) readHead() string {
	c.t.Helper()
	var head strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		head.WriteString(line)
		if err != nil {
			c.t.Fatalf("read a head: %v, after %q", err, head.String())
		}
		if line == "\r\n" {
			return head.String()
		}
	}
}

// requestCount returns how many requests an origin has seen the head of.
func (o *origin) requestCount(method string) int { return strings.Count(o.bytes(), method+" /") }

// swallowing is an origin that reads and never answers.
func swallowing(t *testing.T) *origin {
	t.Helper()
	return newOrigin(t, func(c *originConn) { io.Copy(io.Discard, c.r) })
}

// echoing is an origin that sends back what it gets, and ends when that ends.
func echoing(t *testing.T) *origin {
	t.Helper()
	return newOrigin(t, func(c *originConn) {
		io.Copy(c, c.r)
		c.Conn.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c.r)
	})
}

// responding is an origin that lets respond write the answer to every request's head and body, and closes the
// connection where it returns false.
func responding(t *testing.T, respond func(c *originConn, body string) bool) *origin {
	t.Helper()
	return newOrigin(t, func(c *originConn) {
		for {
			_, body, ok := c.request()
			if !ok || !respond(c, body) {
				return
			}
		}
	})
}

// The three ways in which a response's body can be framed.
func withLength(body string) string {
	return "HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

func chunked(body string, chunk int) string {
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
	for len(body) > 0 {
		n := min(chunk, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	b.WriteString("0\r\n\r\n")
	return b.String()
}

func untilClose(body string) string { return "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body }

// postChunked is a POST with a chunked body.
func postChunked(o *origin, path, body string, chunk int) string {
	encoded := chunked(body, chunk)
	encoded = encoded[strings.Index(encoded, "\r\n\r\n")+4:]
	return fmt.Sprintf("POST http://%s%s HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n%s", o.addr, path, o.addr, encoded)
}

// patterned is what pattern takes its bytes from.
var patterned = sync.OnceValue(func() string {
	b := make([]byte, 16<<20)
	for i := range b {
		b[i] = 'a' + byte(i*7+i/251)%26
	}
	return string(b)
})

// pattern is n bytes, 16 MiB at most, that do not repeat with any power of two.
func pattern(n int) string { return patterned()[:n] }

// recording keeps what is written to it, in pieces as they come: one buffer that grows would be copied over and over.
type recording struct {
	mu     *sync.Mutex
	pieces [][]byte
}

func (r *recording) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pieces = append(r.pieces, bytes.Clone(p))
	return len(p), nil
}

// recorded returns all that was kept, one recording after the other. Their lock is held.
func recorded(all []*recording) string {
	var b strings.Builder
	for _, r := range all {
		for _, p := range r.pieces {
			b.Write(p)
		}
	}
	return b.String()
}

// boundSocket returns a socket with an address of its own, which nobody else can be given while the test runs. It does
// not listen, so that connections to it are refused.
func boundSocket(t *testing.T) (fd int, addr string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatalf("make a socket: %v", err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatalf("bind: %v", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatalf("get the socket's name: %v", err)
	}
	return fd, (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*syscall.SockaddrInet4).Port}).String()
}

// deafAddress returns an address that does not answer a connection attempt: its listener's queue is full.
func deafAddress(t *testing.T) string {
	t.Helper()
	fd, addr := boundSocket(t)
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatalf("listen: %v", err)
	}
	for range 8 {
		conn, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
		if err != nil { // or it was the test that took so long
			conn, err = net.DialTimeout("tcp", addr, 1500*time.Millisecond)
		}
		if err != nil {
			return addr
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Skip("the system takes any number of connections that nobody accepts")
	return ""
}
