package proxy

import (
	"runtime/debug"
	"time"
	"whsentry/proxy/socket"
)

// Replacing the goroutines of clients at rest leaves memory behind, which Go returns to the system hours later, if at
// all. After so many it is returned at once, but not more often than this, for it takes a garbage collection.
const (
	shedWorth = 1000
	freePause = time.Minute
)

// sweep is the goroutine that enforces every limit in time but those of connecting.
func (p *Proxy) sweep() {
	defer close(p.swept)
	timer := time.NewTimer(0)
	defer timer.Stop()
	freed := socket.Now() - int64(freePause)
	var rounds rounds
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
		shed := p.shed
		p.each(func(c *client) { c.sweep(at) })
		p.pool.Sweep(at)
		if p.shed == shed && shed >= shedWorth && at-freed >= int64(freePause) { // none has been replaced this time
			p.shed, freed = 0, at
			debug.FreeOSMemory()
		}
		timer.Reset(time.Duration(interval))
	}
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

// sweep enforces the client's time limits, and notices that it went away while the destination is waited for.
func (c *client) sweep(at socket.Tick) {
	c.deadline.Expire(at, c.tcp)
	state := clientState(c.state.Load())
	if state == clientIdle {
		c.sweepResting(at)
	}
	if state != clientWaiting {
		c.finSeen = 0
		return
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

// restState says what the sweeper has done about a client that rests.
type restState uint32

const (
	restNew    restState = iota // there has been no request, or none on this goroutine, or TLS is spoken
	restUnread                  // the wait goes on without a read, so that the client's FIN may have been missed
	restRead                    // it has not
	restShed                    // it has rested so long that its goroutine is replaced
)

// shedAfter is how long a client must have rested for its goroutine to be replaced by a new one. A goroutine's stack
// grows with its first request and does not shrink again; thousands of clients at rest are to cost little.
const shedAfter = time.Second

// sweepResting ends the wait for a request, which then goes on, where there is something to read that it may have
// missed, and once it has lasted for shedAfter.
func (c *client) sweepResting(at socket.Tick) {
	// The state before the look: a request that has been answered meanwhile asks for another one. The deadline before
	// it likewise: a request that begins meanwhile moves it.
	switch {
	case c.rests.CompareAndSwap(uint32(restUnread), uint32(restRead)):
		if due := c.deadline.Due(); c.prober.Look() != socket.Quiet {
			c.nudge(due)
		}
	case restState(c.rests.Load()) == restRead:
		due := c.deadline.Due()
		rested := at - (due - int64(c.proxy.run.Load().cfg.ClientIdleTimeout))
		if due > 0 && rested >= int64(shedAfter) && c.rests.CompareAndSwap(uint32(restRead), uint32(restShed)) {
			c.proxy.shed++
			c.nudge(due)
		}
	}
}

// nudge ends the wait for a request whose deadline is due, so that it begins anew.
func (c *client) nudge(due socket.Tick) {
	if clientState(c.state.Load()) == clientIdle {
		c.nudged.Store(true)
		c.deadline.End(due, c.tcp)
	}
}
