package upstream

import (
	"net"
	"testing"
	"time"
	"whsentry/proxy/socket"

	"golang.org/x/sys/unix"
)

func TestPoolSweep(t *testing.T) {
	tests := []struct {
		name string
		idle bool // at rest when the sweeper comes
		age  func(p *Pool, u *Conn)
		why  CloseReason
	}{
		{"idle within its limits", true, func(*Pool, *Conn) {}, CloseNone},
		{"idle too long", true, func(_ *Pool, u *Conn) { u.due.Store(socket.Now()) }, CloseIdle},
		{"idle and too old", true, func(_ *Pool, u *Conn) { u.dies = socket.Now() }, CloseLifetime},
		{"idle and retired", true, func(p *Pool, _ *Conn) { p.Retire() }, CloseRetired},
		{"busy within its limits", false, func(*Pool, *Conn) {}, CloseNone},
		{"busy and waiting too long", false, func(_ *Pool, u *Conn) { u.due.Store(socket.Now()) }, CloseIdle},
		{"busy and too old", false, func(_ *Pool, u *Conn) { u.dies = socket.Now() }, CloseLifetime},
		{"busy and retired", false, func(p *Pool, _ *Conn) { p.Retire() }, CloseNone},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPoolPeers(t)
			u := p.add("h:80", Route{})
			if tt.idle {
				p.pool.Put(u, socket.Now(), socket.Never)
			}
			tt.age(p.pool, u)
			p.pool.Sweep(socket.Now())
			switch {
			case tt.why == CloseNone && tt.idle:
				p.check("h:80", 0, 1)
			case tt.why == CloseNone:
				p.check("h:80", 1, 0)
			case tt.idle:
				p.check("h:80", 0, 0)
			default:
				// Its owner finds out, and gives the place back.
				p.check("h:80", 1, 0)
				if _, err := u.Read(make([]byte, 1)); err == nil {
					t.Errorf("the owner's read has not failed")
				}
				p.pool.Discard(u, CloseError)
				p.check("h:80", 0, 0)
			}
			if tt.why != CloseNone {
				if !p.ended(u) {
					t.Errorf("the connection is still open")
				}
				if n := p.closed[tt.why].Load(); n != 1 {
					t.Errorf("got %d closed for %q; want 1", n, closeReasonNames[tt.why])
				}
			}
		})
	}
}

// TestPoolSweepOfWhatIsUnread is a destination that has sent something by the time it would be idle for too long: its
// connection's owner is left time to read it, once more.
func TestPoolSweepOfWhatIsUnread(t *testing.T) {
	send := func(far net.Conn) { far.Write([]byte("x")) }
	for _, tt := range []struct {
		name  string
		send  func(far net.Conn)
		state func(p *Pool, u *Conn)
		late  time.Duration
		why   CloseReason
	}{
		{"a byte", send, nil, 0, CloseNone},
		{"a FIN", func(far net.Conn) { far.(*net.TCPConn).CloseWrite() }, nil, 0, CloseNone},
		{"a reset", func(far net.Conn) { far.(*net.TCPConn).SetLinger(0); far.Close() }, nil, 0, CloseNone},
		{"a byte, almost as long again", send, nil, testLimits.Idle - 30*time.Second, CloseNone},
		{"a byte, as long again", send, nil, testLimits.Idle, CloseIdle},
		{"a byte, for a tunnel", send, func(_ *Pool, u *Conn) { joinSelf(t, u) }, 0, CloseIdle},
		{"a byte, too old", send, func(_ *Pool, u *Conn) { u.dies = socket.Now() }, 0, CloseLifetime},
		{"nothing", nil, nil, 0, CloseIdle},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPoolPeers(t)
			u := p.add("h:80", Route{})
			if tt.send != nil {
				tt.send(p.far[u])
				p.awaitEvent(u)
			}
			if tt.state != nil {
				tt.state(p.pool, u)
			}
			u.due.Store(socket.Now() - int64(tt.late))
			p.pool.Sweep(socket.Now())
			if got := CloseReason(u.killed.Load()); got != tt.why {
				t.Errorf("got closed for %q; want %q", closeReasonNames[got], closeReasonNames[tt.why])
			}
		})
	}
}

// awaitEvent waits until something of what the destination did at its end of u is to be seen here.
func (p *poolPeers) awaitEvent(u *Conn) {
	p.t.Helper()
	waitFor(p.t, "something from the destination", func() (is bool) {
		// Unlike a prober, poll leaves the error that a reset is there to be found.
		if err := u.tcp.Control(func(fd uintptr) {
			n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			is = n > 0
		}); err != nil {
			p.t.Fatal(err)
		}
		return is
	})
}

// joinSelf makes u one side of a tunnel, and the other as well.
func joinSelf(t *testing.T, u *Conn) {
	t.Helper()
	u.Join(u.tcp)
	u.left = 2 * u.early.Unacknowledged()
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
