package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"whsentry/proxy/upstream"
)

const (
	// logCloseTimeout is how long Shutdown waits for a log that takes nothing.
	logCloseTimeout = 5 * time.Second
	// restGrace is how long a connection at rest is left open once the proxy stops. A request that crossed its closing
	// would be lost, and a client may not send a POST again of its own accord; a client that is busy sends its next
	// within this time, and is told to close with the answer.
	restGrace = 500 * time.Millisecond
	// stepInterval is how often it is looked what has changed. restGrace is counted in steps: of the time
	// in which the process did not run, its machine suspended, none counts but one step, for what clients have sent
	// meanwhile is yet to be read.
	stepInterval = 50 * time.Millisecond
	// farewellTime is how long clients have to take in that the proxy waits for their requests no longer.
	farewellTime = 250 * time.Millisecond
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
	p.pool.CloseAll(upstream.CloseShutdown)
	if p.admin != nil {
		p.adminLn.Close() // its server may not have begun to accept yet, and would not know of it
		p.admin.Shutdown()
	}
	written := make(chan struct{})
	go func() { // ends when the log has taken its last line
		defer close(written)
		if lost := p.access.Load().Close(); lost > 0 {
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

// drain waits for the clients to leave: those at rest for restGrace, the others until ctx ends. Then they are told that
// the proxy is stopping, and thrown out.
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
	p.pool.CloseAll(upstream.CloseShutdown)
	p.each((*client).drop)
	awaitSteps(context.Background(), left, farewellTime)
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
		l.Interrupt()
		leaving.Go(func() {
			<-l.accepted
			l.Leave(ctx, func(conn *net.TCPConn) {
				if c := p.welcome(l, conn); c != nil {
					go p.engine[0].ServeConn(c) // ends with the connection, which goers counts
				}
			})
		})
	}
	leaving.Wait()
}
