package listen

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"
)

const (
	// handshakeGrace is how long a socket that shares its port, and gets no new connections any more, is kept for those
	// whose handshake has begun: the ACK that ends it is on its way, or was lost, and what comes after it is sent again
	// after a second at first (RFC 6298 section 2.1).
	handshakeGrace = 1500 * time.Millisecond
	// halfMadeGrace is the same, at most, where nobody shares the port: below the second after which a client that is
	// ignored meanwhile asks again.
	halfMadeGrace = 900 * time.Millisecond
	// lastMoment is how long a connection may take that another processor is just about to make.
	lastMoment = 5 * time.Millisecond
	// drainLimit bounds the taking of connections that wait, where they come faster than they are taken, or cannot be.
	drainLimit = time.Second
	// stepInterval is how often it is looked what has changed. drainLimit is counted in steps: of the time in which the
	// process did not run, its machine suspended, none counts but one step.
	stepInterval = 50 * time.Millisecond
)

// Leave stops listening without losing a connection that the system has made, or is about to make, for l: closing a
// socket resets those that wait in it. came gets each that is still to be served. Accept must have returned. It takes some
// two seconds at most, and no more than half of the time that ctx has left for each of its waits.
func (l *Listener) Leave(ctx context.Context, came func(*net.TCPConn)) {
	defer l.Close()
	d := &departure{Listener: l, came: came}
	if l.passed {
		return // whoever passed the socket has it still, and with it those that wait
	}
	if l.cfg.ReusePort && d.stepAside(ctx) {
		d.takeWaiting()
		return
	}
	if l.ignoreNew() {
		d.takeFor(lastMoment)
		for end := time.Now().Add(within(ctx, halfMadeGrace)); l.halfMade() && time.Now().Before(end); {
			d.takeFor(stepInterval)
		}
	}
	d.takeWaiting()
}

// departure is a listener that is being left.
type departure struct {
	*Listener
	came func(*net.TCPConn)
}

// stepAside has the system give new connections to the others that share l's port, and takes those that were on their
// way here. It returns false at once where there are no others, or where the system knows no way.
func (d *departure) stepAside(ctx context.Context) bool {
	group := portGroup{listener: d.Listener, arrives: func(from netip.AddrPort) bool { return d.awaitProbe(from) }}
	for end := time.Now().Add(within(ctx, handshakeGrace)); time.Now().Before(end); {
		if !group.exclude() {
			return false
		}
		d.takeFor(stepInterval)
	}
	if !group.exclude() { // somebody may just have come, and made the choice the system's again
		return false
	}
	d.takeFor(stepInterval)
	return true
}

// awaitProbe reports whether the connection from that address is among those that l is given.
func (d *departure) awaitProbe(from netip.AddrPort) bool {
	end := time.Now().Add(stepInterval)
	for limit := end.Add(drainLimit); time.Now().Before(end) || d.waiting() && time.Now().Before(limit); {
		if d.take(end, from) {
			return true
		}
	}
	return false
}

// takeFor takes what waits, and what comes within span.
func (d *departure) takeFor(span time.Duration) {
	for end := time.Now().Add(span); time.Now().Before(end); {
		d.take(end, netip.AddrPort{})
	}
}

// takeWaiting takes what waits.
func (d *departure) takeWaiting() {
	for left := drainLimit; left > 0 && d.waiting(); left -= stepInterval {
		for end := time.Now().Add(stepInterval); d.waiting() && time.Now().Before(end); {
			d.take(time.Time{}, netip.AddrPort{})
		}
	}
}

// take takes one connection that waits, or that comes until then. It reports whether that is from the address of a
// probe, which is the proxy's own, and closed.
func (d *departure) take(until time.Time, probe netip.AddrPort) bool {
	if soon := time.Now().Add(firstPatience); until.Before(soon) {
		until = soon // with a deadline in the past not even one that waits would be taken
	}
	d.tcp.SetDeadline(until)
	conn, err := d.tcp.AcceptTCP()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
	case err != nil:
		time.Sleep(firstPatience) // what lets go of a descriptor may be a request that ends
	case unmapped(conn.RemoteAddr()) == probe:
		conn.Close()
		return true
	default:
		d.came(conn)
	}
	return false
}

// within is d, but no more than half of the time that ctx has left: what comes after is to have some of it.
func within(ctx context.Context, d time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(d, time.Until(deadline)/2)
	}
	return d
}
