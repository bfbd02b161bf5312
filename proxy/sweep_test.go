package proxy

import (
	"net"
	"slices"
	"testing"
	"time"
	"whsentry/proxy/socket"

	"golang.org/x/sys/unix"
)

func TestRoundsThatAreLate(t *testing.T) {
	const interval = 100 * time.Millisecond
	for _, tt := range []struct {
		name  string
		gaps  []time.Duration // between one round and the next
		lates []bool          // of the first round and of each after a gap
	}{
		{"in time", []time.Duration{interval, interval}, []bool{false, false, false}},
		{"a little late", []time.Duration{lateRounds * interval, interval}, []bool{false, false, false}},
		{"late", []time.Duration{lateRounds*interval + 1, interval}, []bool{false, true, false}},
		{"after a day", []time.Duration{24 * time.Hour, interval, interval}, []bool{false, true, false, false}},
		{"never in time", []time.Duration{time.Second, time.Second, time.Second, time.Second}, []bool{false, true, false, true, false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r rounds
			at := socket.Tick(time.Hour)
			got := []bool{r.late(at, int64(interval))}
			for _, gap := range tt.gaps {
				at += int64(gap)
				got = append(got, r.late(at, int64(interval)))
			}
			if !slices.Equal(got, tt.lates) {
				t.Errorf("got late %v; want %v", got, tt.lates)
			}
		})
	}
}

func TestPoolSweep(t *testing.T) {
	tests := []struct {
		name string
		idle bool // at rest when the sweeper comes
		age  func(p *pool, u *upstream)
		why  closeReason
	}{
		{"idle within its limits", true, func(*pool, *upstream) {}, closeNone},
		{"idle too long", true, func(_ *pool, u *upstream) { u.due.Store(socket.Now()) }, closeIdle},
		{"idle and too old", true, func(_ *pool, u *upstream) { u.dies = socket.Now() }, closeLifetime},
		{"idle and retired", true, func(p *pool, _ *upstream) { p.retire() }, closeRetired},
		{"busy within its limits", false, func(*pool, *upstream) {}, closeNone},
		{"busy and waiting too long", false, func(_ *pool, u *upstream) { u.due.Store(socket.Now()) }, closeIdle},
		{"busy and too old", false, func(_ *pool, u *upstream) { u.dies = socket.Now() }, closeLifetime},
		{"busy and retired", false, func(p *pool, _ *upstream) { p.retire() }, closeNone},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPoolPeers(t)
			u := p.add("h:80", route{})
			if tt.idle {
				p.pool.put(u, socket.Now(), testLimits)
			}
			tt.age(p.pool, u)
			p.pool.sweep(socket.Now())
			switch {
			case tt.why == closeNone && tt.idle:
				p.check("h:80", 0, 1)
			case tt.why == closeNone:
				p.check("h:80", 1, 0)
			case tt.idle:
				p.check("h:80", 0, 0)
			default:
				// Its owner finds out, and gives the place back.
				p.check("h:80", 1, 0)
				if _, err := u.Read(make([]byte, 1)); err == nil {
					t.Errorf("the owner's read has not failed")
				}
				p.pool.discard(u, closeError)
				p.check("h:80", 0, 0)
			}
			if tt.why != closeNone {
				if !p.ended(u) {
					t.Errorf("the connection is still open")
				}
				if n := p.pool.metrics.Closed(int(tt.why)).Get(); n != 1 {
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
		state func(p *pool, u *upstream)
		late  time.Duration
		why   closeReason
	}{
		{"a byte", send, nil, 0, closeNone},
		{"a FIN", func(far net.Conn) { far.(*net.TCPConn).CloseWrite() }, nil, 0, closeNone},
		{"a reset", func(far net.Conn) { far.(*net.TCPConn).SetLinger(0); far.Close() }, nil, 0, closeNone},
		{"a byte, almost as long again", send, nil, testLimits.idle - 30*time.Second, closeNone},
		{"a byte, as long again", send, nil, testLimits.idle, closeIdle},
		{"a byte, for a tunnel", send, func(_ *pool, u *upstream) { u.client.Store(tunnelClient(t, u)) }, 0, closeIdle},
		{"a byte, too old", send, func(_ *pool, u *upstream) { u.dies = socket.Now() }, 0, closeLifetime},
		{"nothing", nil, nil, 0, closeIdle},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPoolPeers(t)
			u := p.add("h:80", route{})
			if tt.send != nil {
				tt.send(p.far[u])
				p.awaitEvent(u)
			}
			if tt.state != nil {
				tt.state(p.pool, u)
			}
			u.due.Store(socket.Now() - int64(tt.late))
			p.pool.sweep(socket.Now())
			if got := closeReason(u.killed.Load()); got != tt.why {
				t.Errorf("got closed for %q; want %q", closeReasonNames[got], closeReasonNames[tt.why])
			}
		})
	}
}

// awaitEvent waits until something of what the destination did at its end of u is to be seen here.
func (p *poolPeers) awaitEvent(u *upstream) {
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

// tunnelClient is the client of a tunnel over u.
func tunnelClient(t *testing.T, u *upstream) *client {
	t.Helper()
	c, err := newClient(nil, nil, u.tcp.TCP.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	u.left = u.early.Unacknowledged() + c.prober.Unacknowledged()
	return c
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
