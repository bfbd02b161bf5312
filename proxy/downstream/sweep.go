package downstream

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"whsentry/proxy/socket"
)

// vanishGrace is how long a client's FIN must have been there before it counts as gone. A client that only
// half-closes looks the same; it gets its answer if that comes within this time.
const vanishGrace = 250 * time.Millisecond

// Sweep enforces the clients' limits in time. It is called by one goroutine, the sweeper, several times within the
// shortest of them.
func (s *Server) Sweep(at socket.Tick) {
	s.each(func(c *Conn) { c.sweep(at) })
	s.memory.give(&s.parked, at)
}

// Oversleep is called in place of Sweep where the process has not run for some time: what clients have sent meanwhile has
// not been read, so that it is not known since when they are gone.
func (s *Server) Oversleep() {
	s.each(func(c *Conn) { c.finSeen = 0 })
}

// sweep enforces the client's time limits, and notices that it went away while the destination is waited for.
func (c *Conn) sweep(at socket.Tick) {
	c.deadline.Expire(at, c.tcp)
	if State(c.state.Load()) != Waiting {
		c.finSeen = 0
		return
	}
	c.handler.Expire(at)
	if c.prober == nil {
		c.prober = c.tcp.NewProber()
	}
	switch c.prober.Look() {
	case socket.Closed, socket.Ending: // be it behind TLS' farewell, or another request that nobody waits for
		if c.finSeen == 0 {
			c.finSeen = at
		}
		if at-c.finSeen >= int64(vanishGrace) {
			c.vanish()
		}
	case socket.Failed:
		c.vanish()
	}
}

// What clients at rest give back Go returns to the system hours later, if at all. After so many have, it is returned at
// once, but not more often than this, for it takes a garbage collection.
const (
	parkedWorth = 1000
	freePause   = time.Minute
)

// spareMemory returns memory to the system.
type spareMemory struct {
	at   socket.Tick // when it was done last
	seen int64       // how many had been parked by the round before
}

// give does so where many clients have been parked, and none since the last round.
func (m *spareMemory) give(parked *atomic.Int64, at socket.Tick) {
	n := parked.Load()
	if n == m.seen && n >= parkedWorth && at-m.at >= int64(freePause) {
		parked.Add(-n)
		m.at, n = at, 0
		runtime.GC() // a sync.Pool lets go of what it holds with the second collection
		debug.FreeOSMemory()
	}
	m.seen = n
}
