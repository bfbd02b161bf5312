package downstream

import (
	"context"
	"net"
	"sync"
	"time"
)

const (
	// restGrace is how long a connection at rest is left open once the server stops. A request that crossed its closing
	// would be lost, and a client may not send a POST again of its own accord; a client that is busy sends its next
	// within this time, and is told to close with the answer.
	restGrace = 500 * time.Millisecond
	// stepInterval is how often it is looked what has changed. restGrace is counted in steps: of the time
	// in which the process did not run, its machine suspended, none counts but one step, for what clients have sent
	// meanwhile is yet to be read.
	stepInterval = 50 * time.Millisecond
	// farewellTime is how long clients have to take in that their requests are waited for no longer.
	farewellTime = 250 * time.Millisecond
)

// Leave stops accepting and leaves the ports of all listeners. Connections that the system has made are still served.
// Drain, which is to follow, or ThrowOut bring about that they end.
func (s *Server) Leave(ctx context.Context) {
	s.stopping.Store(true)
	s.goers.Add(1) // the accept loops have not ended yet, so that Serve waits for what is still to come
	defer s.goers.Done()
	var leaving sync.WaitGroup
	for _, l := range s.listeners {
		l.Interrupt()
		leaving.Go(func() {
			<-l.accepted
			l.Leave(ctx, func(conn *net.TCPConn) {
				if c := s.welcome(l, conn); c != nil {
					go s.engine[0].ServeConn((*gate)(c)) // ends with the connection, which goers counts
				}
			})
		})
	}
	leaving.Wait()
}

// Drain waits for the clients to leave: those at rest for restGrace, the others until ctx ends. It reports whether all
// have; ThrowOut is to follow where they have not. It may be called once.
func (s *Server) Drain(ctx context.Context) bool {
	go func() { // ends when the last client has left, which ThrowOut brings about
		defer close(s.left)
		s.goers.Wait()
	}()
	if awaitSteps(ctx, s.left, within(ctx, restGrace)) {
		return true
	}
	s.endRests()
	select {
	case <-s.left:
		return true
	case <-ctx.Done():
		return false
	}
}

// ThrowOut tells the clients that Drain has waited for in vain that the server is stopping, and ends their connections.
func (s *Server) ThrowOut() {
	s.each((*Conn).drop)
	awaitSteps(context.Background(), s.left, farewellTime)
	var last []*Conn
	s.each(func(c *Conn) {
		c.vanish()
		last = append(last, c)
	})
	for _, c := range last {
		c.tcp.Close() // waits for a request that is being carried out: not under a lock
	}
	<-s.left
}

// endRests ends the connections between two requests, now and from now on.
func (s *Server) endRests() {
	s.closing.Store(true)
	s.each(func(c *Conn) {
		due := c.deadline.Due() // before the state: a request that begins meanwhile moves it, and is let finish
		if State(c.state.Load()) == Idle {
			c.deadline.End(due, c.tcp)
		}
	})
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
