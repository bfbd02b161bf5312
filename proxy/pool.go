package proxy

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"whsentry/proxy/metrics"
	"whsentry/proxy/socket"
)

// pool holds the connections to destinations, those in use and those at rest, and counts the first. A destination
// without connections is not in it, so that a pool costs nothing for those that were contacted once.
type pool struct {
	shards     [poolShards]poolShard
	seed       maphash.Seed
	generation atomic.Uint32
	metrics    *metrics.Metrics
}

const poolShards = 64

type poolShard struct {
	mu           sync.Mutex              // guards the following
	destinations map[string]*destination // by host:port
	conns        map[*upstream]struct{}  // all of them, for the sweeper
	_            [64]byte                // each shard on cache lines of its own
}

// destination is one host and port with the connections to it. The limit on connections in use is on this pair
// alone: scheme and certificate make no second one.
type destination struct {
	shard *poolShard
	key   string
	inUse int
	idle  []*upstream // the one used last comes last, and is used first
}

func newPool(m *metrics.Metrics) *pool {
	m.NameCloses(closeReasonNames[:])
	p := &pool{seed: maphash.MakeSeed(), metrics: m}
	for i := range p.shards {
		p.shards[i].destinations = make(map[string]*destination)
		p.shards[i].conns = make(map[*upstream]struct{})
	}
	return p
}

// reserve takes a place among the connections in use to the destination, or returns nil where all limit of them are
// taken. The place is given back by put, discard or release.
func (p *pool) reserve(key []byte, limit int) *destination {
	shard := &p.shards[maphash.Bytes(p.seed, key)%poolShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	d := shard.destinations[string(key)]
	if d == nil {
		d = &destination{shard: shard, key: string(key)}
		shard.destinations[d.key] = d
	}
	if d.inUse >= limit {
		return nil
	}
	d.inUse++
	return d
}

// idleConn returns a connection of the destination that may carry another request, or nil. Those that may not are
// closed on the way; whether the destination has closed it is for the caller to see.
func (p *pool) idleConn(d *destination, r route, at socket.Tick, limits lifetimes) *upstream {
	for {
		u, rested := p.pop(d, r)
		if u == nil {
			return nil
		}
		if why := p.unfit(u, rested, at, limits); why != closeNone {
			p.close(u, why)
			continue
		}
		p.metrics.IdleUpstreams.Add(-1)
		p.metrics.BusyUpstreams.Add(1)
		return u
	}
}

// pop takes the newest connection at rest for r; it is in use from here on. rested is since when it was at rest.
func (p *pool) pop(d *destination, r route) (u *upstream, rested socket.Tick) {
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
		u.due.Store(socket.Never)
		rested, u.resting = u.resting, 0
		return u, rested
	}
	return nil, 0
}

// unfit says why a connection that was at rest, since rested, cannot carry another request.
func (p *pool) unfit(u *upstream, rested, at socket.Tick, limits lifetimes) closeReason {
	switch {
	case u.generation != p.generation.Load():
		return closeRetired
	case at-u.born >= int64(limits.life)/2:
		return closeLifetime
	case at-rested >= int64(limits.idle): // the sweeper has not come round yet
		return closeIdle
	}
	return closeNone
}

// add registers a new connection in use, on the place that reserve took.
func (p *pool) add(d *destination, u *upstream, limits lifetimes) {
	u.dest = d
	u.dies = u.born + int64(limits.life)
	u.idle = limits.idle
	u.due.Store(socket.Never)
	d.shard.mu.Lock()
	d.shard.conns[u] = struct{}{}
	d.shard.mu.Unlock()
	p.metrics.UpstreamsOpened.Inc()
	p.metrics.BusyUpstreams.Add(1)
}

// put lays a connection to rest at that time, after a response that ended cleanly.
func (p *pool) put(u *upstream, at socket.Tick, limits lifetimes) {
	d := u.dest
	d.shard.mu.Lock()
	if u.killed.Load() != 0 || u.generation != p.generation.Load() || at-u.born >= int64(limits.life)/2 {
		d.shard.mu.Unlock()
		why := closeRetired
		if at-u.born >= int64(limits.life)/2 {
			why = closeLifetime
		}
		p.discard(u, why)
		return
	}
	d.inUse--
	u.resting = at
	u.due.Store(at + int64(limits.idle))
	d.idle = append(d.idle, u)
	d.shard.mu.Unlock()
	p.metrics.BusyUpstreams.Add(-1)
	p.metrics.IdleUpstreams.Add(1)
}

// discard closes a connection in use and gives its place back. Where the sweeper or a vanished client has killed
// the connection, that is why it was closed.
func (p *pool) discard(u *upstream, why closeReason) { p.end(u, why, 0) }

// abandon closes a connection in use that turned out to be stale. Its place stays taken.
func (p *pool) abandon(u *upstream) { p.end(u, closeDestination, 1) }

// end closes a connection in use, of whose one place so many are kept.
func (p *pool) end(u *upstream, why closeReason, places int) {
	if killed := closeReason(u.killed.Load()); killed != closeNone {
		why = killed
	}
	d := u.dest
	d.shard.mu.Lock()
	delete(d.shard.conns, u)
	d.inUse -= 1 - places
	d.forget()
	d.shard.mu.Unlock()
	if why == closeDestination {
		u.Conn.Close() // with TLS' farewell, which cannot block after a whole response
	} else {
		u.tcp.Close()
	}
	p.metrics.BusyUpstreams.Add(-1)
	p.metrics.Closed(int(why)).Inc()
}

// release gives a place back on which no connection was made.
func (p *pool) release(d *destination) {
	d.shard.mu.Lock()
	d.inUse--
	d.forget()
	d.shard.mu.Unlock()
}

// close ends a connection that was at rest and has been taken out of its destination's list.
func (p *pool) close(u *upstream, why closeReason) {
	u.dest.shard.mu.Lock()
	delete(u.dest.shard.conns, u)
	u.dest.forget()
	u.dest.shard.mu.Unlock()
	u.Conn.Close()
	p.metrics.IdleUpstreams.Add(-1)
	p.metrics.Closed(int(why)).Inc()
}

// forget drops a destination that has no connection left. Its shard's lock is held.
func (d *destination) forget() {
	if d.inUse == 0 && len(d.idle) == 0 && d.shard.destinations[d.key] == d {
		delete(d.shard.destinations, d.key)
	}
}

// sweep enforces readTimeout and connectionLifetime on every connection.
func (p *pool) sweep(at socket.Tick) {
	for i := range p.shards {
		p.shards[i].sweep(p, at)
	}
}

func (s *poolShard) sweep(p *pool, at socket.Tick) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for u := range s.conns {
		u.progress(at)
		why := closeNone
		switch {
		case at >= u.dies:
			why = closeLifetime
		case at >= u.due.Load() && !u.unread(at):
			why = closeIdle
		case u.resting != 0 && u.generation != p.generation.Load():
			why = closeRetired
		}
		if why == closeNone {
			continue
		}
		u.kill(why)
		if u.resting != 0 {
			s.bury(p, u, why)
		}
	}
}

// bury removes a connection at rest that has been killed. The shard's lock is held.
func (s *poolShard) bury(p *pool, u *upstream, why closeReason) {
	d := u.dest
	for i, other := range d.idle {
		if other == u {
			d.idle = append(d.idle[:i], d.idle[i+1:]...)
			break
		}
	}
	delete(s.conns, u)
	d.forget()
	p.metrics.IdleUpstreams.Add(-1)
	p.metrics.Closed(int(why)).Inc()
}

// retire ends the reuse of every connection made so far: those at rest at the next sweep at the latest, those in use
// when their response has ended.
func (p *pool) retire() { p.generation.Add(1) }

// killAll ends every connection, in use and at rest.
func (p *pool) killAll(why closeReason) {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		for u := range s.conns {
			u.kill(why)
			if u.resting != 0 {
				s.bury(p, u, why)
			}
		}
		s.mu.Unlock()
	}
}
