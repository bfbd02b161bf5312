package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	// logCloseTimeout is how long Shutdown waits for a log that takes nothing.
	logCloseTimeout = 5 * time.Second
	// restGrace is how long a connection at rest is left open once the proxy stops. A request that crossed its closing
	// would be lost, and a client may not send a POST again of its own accord; a client that is busy sends its next
	// within this time, and is told to close with the answer.
	restGrace = 500 * time.Millisecond
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
	// stepInterval is how often it is looked what has changed. restGrace and drainLimit are counted in steps: of the time
	// in which the process did not run, its machine suspended, none counts but one step, for what clients have sent
	// meanwhile is yet to be read.
	stepInterval = 50 * time.Millisecond
)

// Shutdown stops accepting, lets running requests and tunnels finish until ctx ends, and ends what is then left.
// Connections that the system has made are still served, one request each. It returns once nothing of the proxy runs
// and the access log is written. It may be called once, after Serve.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.stopping.Store(true)
	p.vacateAll(ctx)
	err := p.drain(ctx)
	close(p.sweeps)
	<-p.swept
	p.pool.killAll(closeShutdown)
	if p.admin != nil {
		p.admin.shutdown()
	}
	written := make(chan struct{})
	go func() { // ends when the log has taken its last line
		defer close(written)
		if lost := p.access.Load().writer.close(); lost > 0 {
			p.log().Error().Int("lost_lines", lost).Msg("the access log could not be written to its end")
		}
	}()
	select {
	case <-written:
		return err
	case <-time.After(logCloseTimeout):
		return errors.New("write the last lines of the access log: it takes nothing")
	}
}

// drain waits for the clients to leave: those at rest for restGrace, the others until ctx ends. Then they are thrown
// out.
func (p *Proxy) drain(ctx context.Context) error {
	left := make(chan struct{})
	go func() { // ends when the last client has left, which throwing out brings about
		defer close(left)
		p.goers.Wait()
	}()
	if awaitSteps(ctx, left, within(ctx, restGrace)) {
		return nil
	}
	p.endRests()
	select {
	case <-left:
		return nil
	case <-ctx.Done():
	}
	p.pool.killAll(closeShutdown)
	var last []*client
	p.each(func(c *client) {
		c.vanished()
		last = append(last, c)
	})
	for _, c := range last {
		c.tcp.Close() // waits for a request that is being carried out: not under a lock
	}
	<-left
	return fmt.Errorf("requests were still running after the time to finish: %w", ctx.Err())
}

// within is d, but no more than half of the time that ctx has left: what comes after is to have some of it.
func within(ctx context.Context, d time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(d, time.Until(deadline)/2)
	}
	return d
}

// awaitSteps waits until left is closed, at most for d, or until ctx ends, and reports whether it was.
func awaitSteps(ctx context.Context, left <-chan struct{}, d time.Duration) bool {
	for ; d > 0; d -= stepInterval {
		select {
		case <-left:
			return true
		case <-time.After(min(d, stepInterval)):
		case <-ctx.Done():
			return false
		}
	}
	return false
}

// endRests ends the connections between two requests, now and from now on.
func (p *Proxy) endRests() {
	p.closing.Store(true)
	p.each(func(c *client) {
		due := c.deadline.Due() // before the state: a request that begins meanwhile moves it, and is let finish
		if clientState(c.state.Load()) == clientIdle {
			c.deadline.End(due, c.tcp)
		}
	})
}

// vacateAll leaves the ports of all listeners.
func (p *Proxy) vacateAll(ctx context.Context) {
	p.goers.Add(1) // the accept loops have not ended yet, so that Serve waits for what is still to come
	defer p.goers.Done()
	var leaving sync.WaitGroup
	for _, l := range p.listeners {
		l.interrupt()
		leaving.Go(func() {
			<-l.accepted
			p.vacate(ctx, l)
		})
	}
	leaving.Wait()
}

// vacate stops listening without losing a connection that the system has made, or is about to make, for l: closing a
// socket resets those that wait in it.
func (p *Proxy) vacate(ctx context.Context, l *listener) {
	defer l.Close()
	if l.passed {
		return // whoever passed the socket has it still, and with it those that wait
	}
	if l.cfg.ReusePort && p.stepAside(ctx, l) {
		p.takeWaiting(l)
		return
	}
	if l.ignoreNew() {
		p.takeFor(l, lastMoment)
		for end := time.Now().Add(within(ctx, halfMadeGrace)); l.halfMade() && time.Now().Before(end); {
			p.takeFor(l, stepInterval)
		}
	}
	p.takeWaiting(l)
}

// stepAside has the system give new connections to the others that share l's port, and takes those that were on their
// way here. It returns false at once where there are no others, or where the system knows no way.
func (p *Proxy) stepAside(ctx context.Context, l *listener) bool {
	group := portGroup{listener: l, arrives: func(from netip.AddrPort) bool { return p.awaitProbe(l, from) }}
	for end := time.Now().Add(within(ctx, handshakeGrace)); time.Now().Before(end); {
		if !group.exclude() {
			return false
		}
		p.takeFor(l, stepInterval)
	}
	if !group.exclude() { // somebody may just have come, and made the choice the system's again
		return false
	}
	p.takeFor(l, stepInterval)
	return true
}

// awaitProbe reports whether the connection from that address is among those that l is given.
func (p *Proxy) awaitProbe(l *listener, from netip.AddrPort) bool {
	end := time.Now().Add(stepInterval)
	for limit := end.Add(drainLimit); time.Now().Before(end) || l.waiting() && time.Now().Before(limit); {
		if p.take(l, end, from) {
			return true
		}
	}
	return false
}

// takeFor takes what waits, and what comes within d.
func (p *Proxy) takeFor(l *listener, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		p.take(l, end, netip.AddrPort{})
	}
}

// takeWaiting takes what waits.
func (p *Proxy) takeWaiting(l *listener) {
	for d := drainLimit; d > 0 && l.waiting(); d -= stepInterval {
		for end := time.Now().Add(stepInterval); l.waiting() && time.Now().Before(end); {
			p.take(l, time.Time{}, netip.AddrPort{})
		}
	}
}

// take takes one connection that waits, or that comes until then. It reports whether that is from the address of a
// probe, which is the proxy's own, and closed.
func (p *Proxy) take(l *listener, until time.Time, probe netip.AddrPort) bool {
	if soon := time.Now().Add(firstPatience); until.Before(soon) {
		until = soon // with a deadline in the past not even one that waits would be taken
	}
	l.tcp.SetDeadline(until)
	conn, err := l.tcp.AcceptTCP()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
	case err != nil:
		time.Sleep(firstPatience) // what lets go of a descriptor may be a request that ends
	case unmapped(conn.RemoteAddr()) == probe:
		conn.Close()
		return true
	default:
		p.welcome(l, conn)
	}
	return false
}

// unmapped is a TCP address, IPv4 as IPv4.
func unmapped(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
