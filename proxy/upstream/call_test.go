package upstream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"whsentry/proxy/socket"
)

const head = "POST /hook HTTP/1.1\r\n\r\n"

// ask sends a request with that body over u.
func ask(c *Call, u *Conn, reused bool, body string) error {
	c.At = socket.Now()
	return c.Ask(u, reused, append(c.Memory(), head...), []byte(body))
}

// receive reads n bytes from the destination's end.
func receive(t *testing.T, far net.Conn, n int) string {
	t.Helper()
	far.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, n)
	if _, err := io.ReadFull(far, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestCallHoldsNothingWhileItWaits: neither what the request was written from nor what the answer is read into.
func TestCallHoldsNothingWhileItWaits(t *testing.T) {
	for _, reused := range []bool{false, true} {
		p := newPoolPeers(t)
		u := p.add("h:80", Route{})
		c := new(Call)
		var held []string
		waited := make(chan struct{}, 10)
		watch := func(step func(fd uintptr) bool) func(fd uintptr) bool {
			return func(fd uintptr) bool { // called once before it waits, and again once it has waited
				done := step(fd)
				if !done {
					if cap(c.In.Unused()) > 0 || c.out.kept != nil || c.body != nil {
						held = append(held, "memory")
					}
					waited <- struct{}{}
				}
				return done
			}
		}
		c.step, c.wait = watch(c.advance), watch(c.await)
		ended := make(chan error)
		go func() { // awaited below
			err := ask(c, u, reused, "body")
			if err == nil && c.In.Len() == 0 {
				err = c.More()
			}
			ended <- err
		}()
		<-waited
		if got := receive(t, p.far[u], len(head)+4); got != head+"body" {
			t.Errorf("got %q", got)
		}
		io.WriteString(p.far[u], "HTTP/1.1 200 OK\r\n")
		if err := <-ended; err != nil || string(c.In.Unused()) != "HTTP/1.1 200 OK\r\n" {
			t.Errorf("reused %v: got %q, %v; want the answer", reused, c.In.Unused(), err)
		}
		if len(held) > 0 {
			t.Errorf("reused %v: memory was held while it waited", reused)
		}
		if c.FirstByte() < 0 || !c.Sent() || c.Unsent() {
			t.Errorf("got %v, sent %v, unsent %v", c.FirstByte(), c.Sent(), c.Unsent())
		}
		c.End()
	}
}

// TestCallIsStale: what came while a connection was at rest keeps anything from being sent over it.
func TestCallIsStale(t *testing.T) {
	for name, spoil := range map[string]func(far net.Conn){
		"closed": func(far net.Conn) { far.Close() },
		"bytes":  func(far net.Conn) { io.WriteString(far, "HTTP/1.1 408 \r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPoolPeers(t)
			u := p.add("h:80", Route{})
			spoil(p.far[u])
			p.awaitEvent(u)
			c := new(Call)
			if err := ask(c, u, true, "body"); err != ErrStale || c.Sent() {
				t.Errorf("got %v, sent %v; want ErrStale and nothing", err, c.Sent())
			}
			c.End()
		})
	}
}

// TestCallLargeBody: an answer that comes before all of a body has been taken is read, and the rest is not sent.
func TestCallLargeBody(t *testing.T) {
	p := newPoolPeers(t)
	u := p.add("h:80", Route{})
	far := p.far[u]
	c := new(Call)
	io.WriteString(far, "HTTP/1.1 413 \r\n\r\n")
	p.awaitEvent(u)
	if err := ask(c, u, false, strings.Repeat("x", 32<<20)); err != nil {
		t.Fatal(err)
	}
	for c.In.Len() == 0 {
		if err := c.More(); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.HasPrefix(c.In.Unused(), []byte("HTTP/1.1 413")) || !c.Unsent() {
		t.Errorf("got %q, unsent %v; want the answer, and a rest", c.In.Unused(), c.Unsent())
	}
	if !c.Sent() {
		t.Error("got nothing sent")
	}
	c.End()
}

// TestCallOnAClosedConnection: no byte of the request has left.
func TestCallOnAClosedConnection(t *testing.T) {
	p := newPoolPeers(t)
	for _, reused := range []bool{false, true} {
		u := p.add("h:80", Route{})
		u.Kill(CloseRetired)
		c := new(Call)
		err := ask(c, u, reused, "body")
		if err == nil || c.Sent() {
			t.Errorf("reused %v: got %v, sent %v; want an error and nothing", reused, err, c.Sent())
		}
		if broken, _ := c.Broken(); !broken && err != ErrStale {
			t.Errorf("reused %v: got a connection that could be used again", reused)
		}
		c.End()
	}
}

// refuse is a Judge that lets nothing through.
type refuse struct{}

func (*refuse) Check(netip.AddrPort) error { return errors.New("blocked") }

// TestPoolJudgesAgain: what may not be connected to any more is not used either.
func TestPoolJudgesAgain(t *testing.T) {
	p := newPoolPeers(t)
	for range 3 {
		p.pool.Put(p.add("h:80", Route{}), socket.Now(), socket.Never)
	}
	d := p.pool.Reserve([]byte("h:80"), 1<<30)
	if u := p.pool.Get(d, Route{}, socket.Now(), new(refuse)); u != nil {
		t.Error("got a connection to an address that is refused")
	}
	p.pool.Release(d)
	p.check("h:80", 0, 0)
	if got := p.closed[CloseRetired].Load(); got != 3 {
		t.Errorf("got %d retired; want 3", got)
	}
}

// TestPoolUntil: a connection rests no longer than its destination has announced.
func TestPoolUntil(t *testing.T) {
	for _, tt := range []struct {
		name  string
		until time.Duration // from Put
		at    time.Duration // of Get
		used  bool
		why   CloseReason
	}{
		{"in time", time.Second, time.Second - 1, true, CloseNone},
		{"too late", time.Second, time.Second, false, CloseIdle},
		{"not to be kept", 0, 0, false, CloseDestination},
		{"not to be kept at all", -time.Second, 0, false, CloseDestination},
		{"longer than readTimeout, in time", time.Hour, testLimits.Idle - 1, true, CloseNone},
		{"longer than readTimeout", time.Hour, testLimits.Idle, false, CloseIdle},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPoolPeers(t)
			u, at := p.add("h:80", Route{}), socket.Now()
			p.pool.Put(u, at, at+int64(tt.until))
			d := p.pool.Reserve([]byte("h:80"), 1<<30)
			if got := p.pool.Get(d, Route{}, at+int64(tt.at), nil); (got == u) != tt.used {
				t.Errorf("got %p; want it used: %v", got, tt.used)
			}
			if got := p.closed[tt.why].Load(); tt.why != CloseNone && got != 1 {
				t.Errorf("got %d closed for %q; want 1", got, tt.why)
			}
		})
	}
	p := newPoolPeers(t)
	u, at := p.add("h:80", Route{}), socket.Now()
	p.pool.Put(u, at, at+int64(time.Second))
	p.pool.Sweep(at + int64(time.Second))
	p.check("h:80", 0, 0)
}
