// Package upstream is about connections to destinations: it keeps them for other requests (Pool), holds them to their
// limits in time and number, carries a request over one and the bytes of its answer back (Call), and takes the framing off
// the answer's body (Body). It does not know who is asking, and connects to nothing, for the guard does.
package upstream

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"

	"whsentry/proxy/socket"
)

// Pool holds the connections to destinations, those in use and those at rest, and counts the first. A destination
// without connections is not in it, so that a pool costs nothing for those that were contacted once.
type Pool struct {
	shards     [poolShards]poolShard
	seed       maphash.Seed
	generation atomic.Uint32
	count      Counters
}

// Counter counts events.
type Counter interface{ Inc() }

// Counters are what a pool counts with. All are set, but for Closed[CloseNone].
type Counters struct {
	Busy, Idle *atomic.Int64 // connections in use, and at rest
	Opened     Counter
	Closed     [CloseReasons]Counter
}

const poolShards = 64

type poolShard struct {
	mu           sync.Mutex              // guards the following
	destinations map[string]*Destination // by host:port
	conns        map[*Conn]struct{}      // all of them, for the sweeper
	_            [64]byte                // each shard on cache lines of its own
}

// Destination is one host and port with the connections to it. The limit on connections in use is on this pair
// alone: scheme and certificate make no second one.
type Destination struct {
	shard *poolShard
	key   string
	inUse int
	idle  []*Conn // the one used last comes last, and is used first
}

// NewPool returns an empty pool.
func NewPool(count Counters) *Pool {
	p := &Pool{seed: maphash.MakeSeed(), count: count}
	for i := range p.shards {
		p.shards[i].destinations = make(map[string]*Destination)
		p.shards[i].conns = make(map[*Conn]struct{})
	}
	return p
}

// Reserve takes a place among the connections in use to the destination, or returns nil where all limit of them are
// taken. The place is given back by Put, Discard or Release.
func (p *Pool) Reserve(key []byte, limit int) *Destination {
	shard := &p.shards[maphash.Bytes(p.seed, key)%poolShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	d := shard.destinations[string(key)]
	if d == nil {
		d = &Destination{shard: shard, key: string(key)}
		shard.destinations[d.key] = d
	}
	if d.inUse >= limit {
		return nil
	}
	d.inUse++
	return d
}

// Judge says whether an address may be connected to now, by an error where not: the guard, for a client and an entry of
// destinations.
type Judge interface {
	Check(to netip.AddrPort) error
}

// Get returns a connection of the destination that may carry another request, or nil; it takes the caller's place. Those
// that may not are closed on the way: a rule may have changed, or an address have become the proxy's own. judge may be
// nil. Whether the destination has closed it is for Call.Ask to see.
func (p *Pool) Get(d *Destination, r Route, at socket.Tick, judge Judge) *Conn {
	for {
		u, due := p.pop(d, r)
		if u == nil {
			return nil
		}
		why := p.unfit(u, at, due)
		if why == CloseNone && judge != nil && judge.Check(u.remote) != nil {
			why = CloseRetired
		}
		if why != CloseNone {
			p.close(u, why)
			continue
		}
		p.count.Idle.Add(-1)
		p.count.Busy.Add(1)
		return u
	}
}

// pop takes the newest connection at rest for r; it is in use from here on. due is how long it could have rested.
func (p *Pool) pop(d *Destination, r Route) (u *Conn, due socket.Tick) {
	d.shard.mu.Lock()
	defer d.shard.mu.Unlock()
	for i := len(d.idle) - 1; i >= 0; i-- {
		u := d.idle[i]
		if u.route != r {
			continue
		}
		copy(d.idle[i:], d.idle[i+1:])
		d.idle[len(d.idle)-1] = nil
		d.idle = d.idle[:len(d.idle)-1]
		due, u.resting = u.due.Load(), 0
		u.Pause()
		return u, due
	}
	return nil, 0
}

// unfit says why a connection that was at rest, for as long as until due, cannot carry another request.
func (p *Pool) unfit(u *Conn, at, due socket.Tick) CloseReason {
	switch {
	case u.generation != p.generation.Load():
		return CloseRetired
	case u.isOld(at):
		return CloseLifetime
	case at >= due: // the sweeper has not come round yet
		return CloseIdle
	}
	return CloseNone
}

// isOld reports whether half of the connection's lifetime is over.
func (c *Conn) isOld(at socket.Tick) bool { return at-c.born >= int64(c.limits.Lifetime)/2 }

// Add registers a new connection in use, on the place that Reserve took.
func (p *Pool) Add(d *Destination, u *Conn) {
	u.dest = d
	d.shard.mu.Lock()
	d.shard.conns[u] = struct{}{}
	d.shard.mu.Unlock()
	p.count.Opened.Inc()
	p.count.Busy.Add(1)
}

// Put lays a connection to rest at that time, after a response that ended cleanly: for as long as its limits say, but not
// longer than until then, socket.Never where the destination has announced no end.
func (p *Pool) Put(u *Conn, at, until socket.Tick) {
	until = min(until, at+int64(u.limits.Idle))
	d := u.dest
	d.shard.mu.Lock()
	why := CloseNone
	switch {
	case u.Killed() != CloseNone || u.generation != p.generation.Load():
		why = CloseRetired
	case u.isOld(at):
		why = CloseLifetime
	case until <= at:
		why = CloseDestination
	}
	if why != CloseNone {
		d.shard.mu.Unlock()
		p.Discard(u, why)
		return
	}
	d.inUse--
	u.resting = at
	u.due.Store(until)
	d.idle = append(d.idle, u)
	d.shard.mu.Unlock()
	p.count.Busy.Add(-1)
	p.count.Idle.Add(1)
}

// Discard closes a connection in use and gives its place back. Where the sweeper or a vanished client has killed
// the connection, that is why it was closed.
func (p *Pool) Discard(u *Conn, why CloseReason) { p.end(u, why, 0) }

// Abandon closes a connection in use that turned out to be stale. Its place stays taken.
func (p *Pool) Abandon(u *Conn) { p.end(u, CloseDestination, 1) }

// end closes a connection in use, of whose one place so many are kept.
func (p *Pool) end(u *Conn, why CloseReason, places int) {
	if killed := u.Killed(); killed != CloseNone {
		why = killed
	}
	d := u.dest
	d.shard.mu.Lock()
	delete(d.shard.conns, u)
	d.inUse -= 1 - places
	d.forget()
	d.shard.mu.Unlock()
	if why == CloseDestination {
		u.conn.Close() // with TLS' farewell, which cannot block after a whole response
	} else {
		u.tcp.Close()
	}
	p.count.Busy.Add(-1)
	p.count.Closed[why].Inc()
}

// Release gives a place back on which no connection was made.
func (p *Pool) Release(d *Destination) {
	d.shard.mu.Lock()
	d.inUse--
	d.forget()
	d.shard.mu.Unlock()
}

// close ends a connection that was at rest and has been taken out of its destination's list.
func (p *Pool) close(u *Conn, why CloseReason) {
	u.dest.shard.mu.Lock()
	delete(u.dest.shard.conns, u)
	u.dest.forget()
	u.dest.shard.mu.Unlock()
	u.conn.Close()
	p.count.Idle.Add(-1)
	p.count.Closed[why].Inc()
}

// forget drops a destination that has no connection left. Its shard's lock is held.
func (d *Destination) forget() {
	if d.inUse == 0 && len(d.idle) == 0 && d.shard.destinations[d.key] == d {
		delete(d.shard.destinations, d.key)
	}
}

// Sweep enforces readTimeout and connectionLifetime on every connection. One goroutine calls it, several times within
// the shortest of them.
func (p *Pool) Sweep(at socket.Tick) {
	for i := range p.shards {
		p.shards[i].sweep(p, at)
	}
}

func (s *poolShard) sweep(p *Pool, at socket.Tick) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for u := range s.conns {
		u.progress(at)
		why := CloseNone
		t := u.tunnel.Load()
		switch {
		case t != nil:
			why = t.over(at)
		case at >= u.dies:
			why = CloseLifetime
		case at >= u.due.Load() && !u.unread(at):
			why = CloseIdle
		case u.resting != 0 && u.generation != p.generation.Load():
			why = CloseRetired
		}
		if why == CloseNone {
			continue
		}
		u.Kill(why)
		if u.resting != 0 {
			s.bury(p, u, why)
		}
	}
}

// bury removes a connection at rest that has been killed. The shard's lock is held.
func (s *poolShard) bury(p *Pool, u *Conn, why CloseReason) {
	d := u.dest
	for i, other := range d.idle {
		if other == u {
			d.idle = append(d.idle[:i], d.idle[i+1:]...)
			break
		}
	}
	delete(s.conns, u)
	d.forget()
	p.count.Idle.Add(-1)
	p.count.Closed[why].Inc()
}

// Generation returns what NewConn wants to know. Where Retire comes between, the connection is not used again.
func (p *Pool) Generation() uint32 { return p.generation.Load() }

// Retire ends the reuse of every connection made so far: those at rest at the next sweep at the latest, those in use
// when their response has ended.
func (p *Pool) Retire() { p.generation.Add(1) }

// CloseAll ends every connection, in use and at rest.
func (p *Pool) CloseAll(why CloseReason) {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		for u := range s.conns {
			u.Kill(why)
			if u.resting != 0 {
				s.bury(p, u, why)
			}
		}
		s.mu.Unlock()
	}
}
