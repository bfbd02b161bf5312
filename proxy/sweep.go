package proxy

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"whsentry/proxy/socket"
)

// sweep is the goroutine that enforces every limit in time.
func (p *Proxy) sweep() {
	defer close(p.swept)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var rounds rounds
	memory := spareMemory{at: socket.Now() - int64(freePause)}
	for {
		select {
		case <-p.sweeps:
			return
		case <-timer.C:
		}
		at, interval := socket.Now(), p.interval.Load()
		if rounds.late(at, interval) {
			p.each(func(c *client) { c.finSeen = 0 })
			timer.Reset(time.Duration(interval))
			continue
		}
		p.each(func(c *client) { c.sweep(at) })
		p.pool.Sweep(at)
		memory.give(&p.parked, at)
		timer.Reset(time.Duration(interval))
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

// rounds tells when the sweeper comes round so late that the whole process cannot have run: its machine was suspended,
// or its share of the processor used up. What clients and destinations have sent meanwhile has not been read, and their
// time is not up before it has been.
type rounds struct {
	last    socket.Tick // 0: none yet
	skipped bool
}

// lateRounds is after how many intervals, of which the shortest limit has ten, a round is late.
const lateRounds = 3

// late reports whether the round that begins is to be left out. It never says so twice in a row, so that limits hold
// however little the process gets to run.
func (r *rounds) late(at socket.Tick, interval int64) bool {
	r.skipped = !r.skipped && r.last != 0 && at-r.last > lateRounds*interval
	r.last = at
	return r.skipped
}

// vanishGrace is how long a client's FIN must have been there before it counts as gone. A client that only
// half-closes looks the same; it gets its answer if that comes within this time.
const vanishGrace = 250 * time.Millisecond

// expire ends the making of a connection whose time is up.
func (c *client) expire(at socket.Tick) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending != nil {
		c.pending.Expire(at)
	}
}

// sweep enforces the client's time limits, and notices that it went away while the destination is waited for.
func (c *client) sweep(at socket.Tick) {
	c.deadline.Expire(at, c.tcp)
	state := clientState(c.state.Load())
	if state != clientWaiting {
		c.finSeen = 0
		return
	}
	c.expire(at)
	if c.prober == nil {
		c.prober = c.tcp.NewProber()
	}
	switch c.prober.Look() {
	case socket.Closed, socket.Ending: // be it behind TLS' farewell, or another request that nobody waits for
		if c.finSeen == 0 {
			c.finSeen = at
		}
		if at-c.finSeen >= int64(vanishGrace) {
			c.vanished()
		}
	case socket.Failed:
		c.vanished()
	}
}
