package e2e

import (
	"io"
	"net"
	"strings"
	"testing"

	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
)

// SPEC 5: what goes wrong within a body of up to 64 KiB is a clear 502; a larger one is passed on as it comes, and
// is cut so that no client takes it for whole.

const wholeSize = 64 << 10

func TestBodiesThatGoWrong(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.AccessLog.Type = accesslog.JSON })
	small, whole, large := pattern(100), pattern(wholeSize), pattern(wholeSize+1)
	const length, coding = "HTTP/1.1 200 OK\r\nContent-Length: ", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	chunk := func(body string) string {
		return strings.TrimSuffix(strings.TrimPrefix(chunked(body, 1<<20), coding), "0\r\n\r\n")
	}
	tests := []struct {
		name, answer string
		cut          bool // the answer has begun before it goes wrong
	}{
		{"a small length, cut", length + "101\r\n\r\n" + small, false},
		{"a length of 64 KiB, cut before its last byte", length + "65536\r\n\r\n" + whole[:wholeSize-1], false},
		{"a length over 64 KiB, cut before its last byte", length + "65537\r\n\r\n" + large[:wholeSize], true},
		{"a length over 64 KiB, cut before its first byte", length + "65537\r\n\r\n", true},
		{"small chunks, cut within one", coding + "65\r\n" + small, false},
		{"small chunks, cut after one", coding + chunk(small), false},
		{"small chunks, cut within the last", coding + chunk(small) + "0\r\n", false},
		{"small chunks, malformed", coding + chunk(small) + "x\r\n\r\n", false},
		{"small chunks with a bare LF", coding + "1\nx\r\n0\r\n\r\n", false},
		{"a chunk longer than it says", coding + "1\r\nxx\r\n0\r\n\r\n", false},
		{"64 KiB in chunks, cut before the last", coding + chunk(whole), false},
		{"64 KiB in chunks, malformed after it", coding + chunk(whole) + "-1\r\n\r\n", false},
		{"more than 64 KiB in chunks, cut before the last", coding + chunk(large), true},
		{"more than 64 KiB in chunks, cut within the last", coding + chunk(large) + "0\r\n", true},
		{"more than 64 KiB in chunks, malformed after it", coding + chunk(large) + "-1\r\n\r\n", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, version := range []string{"HTTP/1.1", "HTTP/1.0"} {
				o := answeringOnce(t, tt.answer)
				c := s.dialFor(t)
				c.send("POST http://" + o.addr + "/ " + version + "\r\nHost: x\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi")
				r, err := c.tryReceive("POST")
				switch {
				case !tt.cut:
					if err != nil {
						t.Fatalf("%s: read the response: %v", version, err)
					}
					r.check(t, "502 Bad Gateway", "1011")
					if r.closing {
						t.Errorf("%s: the client's connection is closed, though nothing is wrong with it", version)
					}
				case err == nil && r.bodyErr == nil:
					t.Errorf("%s: the client takes a cut response for a whole one: %q with %d bytes", version, r.status, len(r.body))
				case err == nil:
					r.check(t, "200 OK", "")
				}
				if n := o.requestCount("POST"); n != 1 {
					t.Errorf("%s: got %d requests at the destination; want 1", version, n)
				}
			}
		})
	}
}

// A body that ends with the connection is cut by a reset of the destination's; its own client would not see that.
func TestResetWithinABodyUntilClose(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, tt := range []struct {
		name string
		size int
		cut  bool
	}{
		{"small", 1000, false},
		{"large", 300_000, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, version := range []string{"HTTP/1.1", "HTTP/1.0"} {
				got := make(chan struct{})
				o := newOrigin(t, func(c *originConn) {
					c.request()
					io.WriteString(c, untilClose(pattern(tt.size)))
					if tt.cut {
						<-got // a reset may overtake what was sent before it
					}
					c.Conn.(*net.TCPConn).SetLinger(0)
				})
				c := s.dialFor(t)
				c.send("GET http://" + o.addr + "/ " + version + "\r\nHost: x\r\n\r\n")
				if !tt.cut {
					c.receive("GET").check(t, "502 Bad Gateway", "1011")
					continue
				}
				head := c.readHead()
				io.CopyN(io.Discard, c.r, int64(tt.size))
				close(got)
				rest, err := io.ReadAll(c.r)
				chunked := strings.Contains(head, "chunked")
				if version == "HTTP/1.0" && err == nil {
					t.Errorf("an HTTP/1.0 client sees an orderly end after %q", head)
				}
				if version == "HTTP/1.1" && (!chunked || strings.HasSuffix(string(rest), "0\r\n\r\n")) {
					t.Errorf("an HTTP/1.1 client sees %q and %q; want chunks without the last", head, rest)
				}
			}
		})
	}
}

// HTTP/1.0 clients know neither chunks nor, for what ends with the connection, when it is whole.
func TestWholeBodiesForHTTP10(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, tt := range []struct {
		name, answer string
		size         int
		keep         bool
	}{
		{"small chunks", chunked(pattern(1000), 99), 1000, true},
		{"large chunks", chunked(pattern(200_000), 9999), 200_000, false},
		{"small until close", untilClose(pattern(1000)), 1000, true},
		{"large until close", untilClose(pattern(200_000)), 200_000, false},
		{"a large length", withLength(pattern(200_000)), 200_000, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := answeringOnce(t, tt.answer)
			c := s.dialFor(t)
			c.send("GET http://" + o.addr + "/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
			r := c.receive("GET")
			r.check(t, "200 OK", "")
			if r.body != pattern(tt.size) || r.bodyErr != nil {
				t.Errorf("got %d bytes, %v; want %d", len(r.body), r.bodyErr, tt.size)
			}
			if r.header.Get("Transfer-Encoding") != "" || r.closing == tt.keep {
				t.Errorf("got the header %v, closing %v; want no coding, and closing %v", r.header, r.closing, !tt.keep)
			}
		})
	}
}

// The beginning of a large body is passed on before its end is there.
func TestLargeBodiesAreStreamed(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, tt := range []struct{ name, head, begin, end string }{
		{"by length", "HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n", pattern(100_000), "!"},
		{"in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "186a0\r\n" + pattern(100_000) + "\r\n", "1\r\n!\r\n0\r\n\r\n"},
		{"until close", "HTTP/1.1 200 OK\r\n\r\n", pattern(100_000), "!"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seen := make(chan struct{})
			o := newOrigin(t, func(c *originConn) {
				c.request()
				io.WriteString(c, tt.head+tt.begin)
				<-seen
				io.WriteString(c, tt.end)
			})
			c := s.dialFor(t)
			c.send(get(o, "/"))
			head := c.readHead()
			if _, err := io.CopyN(io.Discard, c.r, 90_000); err != nil {
				t.Fatalf("the body is not passed on as it comes: %v", err)
			}
			close(seen)
			if !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") {
				t.Errorf("got the head %q", head)
			}
			if tt.name == "by length" {
				rest := make([]byte, 10_001)
				if _, err := io.ReadFull(c.r, rest); err != nil || rest[10_000] != '!' {
					t.Errorf("got %v; want the rest of the body", err)
				}
			}
		})
	}
}

// And nothing of a small one is.
func TestSmallBodiesAreReadWhole(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	sent := make(chan struct{})
	release := make(chan struct{})
	o := newOrigin(t, func(c *originConn) {
		c.request()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n"+pattern(wholeSize-1))
		close(sent)
		<-release
		io.WriteString(c, "!")
	})
	c := s.dial()
	c.send(get(o, "/"))
	<-sent
	got := make(chan *response)
	go func() { // awaited below
		r, _ := c.tryReceive("GET")
		got <- r
	}()
	select {
	case r := <-got:
		t.Errorf("got %v before the body was there", r)
	default:
	}
	close(release)
	if r := <-got; r == nil || len(r.body) != wholeSize || r.header.Get("Content-Length") != "65536" {
		t.Errorf("got %v; want 64 KiB", r)
	}
}
