package proxy

import (
	"crypto/tls"
	"errors"
	"hash/maphash"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// pool holds the connections to destinations, those in use and those at rest, and counts the first. A destination
// without connections is not in it, so that a pool costs nothing for those that were contacted once.
type pool struct {
	shards     [poolShards]poolShard
	seed       maphash.Seed
	generation atomic.Uint32
	metrics    *Metrics
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

// route says which of a destination's connections can serve a request.
type route struct {
	tls   bool
	alias string
}

// lifetimes are the limits that a connection to a destination has.
type lifetimes struct {
	life time.Duration // connectionLifetime
	idle time.Duration // readTimeout
}

// upstream is a connection to a destination.
type upstream struct {
	net.Conn   // what is read and written: tcp, or TLS above it
	tcp        *net.TCPConn
	wire       *wire // nil without TLS
	prober     *prober
	route      route
	dest       *destination
	generation uint32
	remote     netip.AddrPort
	tlsVersion string

	born, dies tick
	idle       time.Duration // readTimeout
	resting    tick          // since when it is idle in the pool; 0: in use
	due        atomic.Int64
	killed     atomic.Uint32 // a closeReason, once something other than its owner has closed it

	// sending is set while a part of a large body is being written; early is what the sweeper then looks with.
	sending atomic.Uint32
	early   *prober
	left    int // bytes that the destination had not acknowledged when the sweeper last looked
}

// The values of upstream.sending.
const (
	notSending uint32 = iota
	sending
	interrupted // the destination has answered before it has taken the body
)

// closeReason says why a connection to a destination was closed; it is a metric's label.
type closeReason uint32

const (
	closeNone        closeReason = iota
	closeIdle                    // readTimeout
	closeLifetime                // connectionLifetime
	closeDestination             // the destination closed it, or said that it would
	closeError                   // what came was malformed, cut or too large
	closeClient                  // the client went away
	closeRetired                 // the deny list, a certificate or the trust store has changed
	closeShutdown                // the proxy is stopping
	closeTunnel                  // its tunnel has ended
	closeReasons
)

var closeReasonNames = [closeReasons]string{"", "idle", "lifetime", "destination", "error", "client", "retired", "shutdown", "tunnel"}

func newPool(m *Metrics) *pool {
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
// closed on the way.
func (p *pool) idleConn(d *destination, r route, limits lifetimes) *upstream {
	for {
		u, rested := p.pop(d, r)
		if u == nil {
			return nil
		}
		if why := p.unfit(u, rested, limits); why != closeNone {
			p.close(u, why)
			continue
		}
		p.metrics.idleUpstreams.Add(-1)
		p.metrics.busyUpstreams.Add(1)
		p.metrics.upstreamsReused.Inc()
		return u
	}
}

// pop takes the newest connection at rest for r; it is in use from here on. rested is since when it was at rest.
func (p *pool) pop(d *destination, r route) (u *upstream, rested tick) {
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
		u.due.Store(never)
		rested, u.resting = u.resting, 0
		return u, rested
	}
	return nil, 0
}

// unfit says why a connection that was at rest, since rested, cannot carry another request.
func (p *pool) unfit(u *upstream, rested tick, limits lifetimes) closeReason {
	at := now()
	switch {
	case u.generation != p.generation.Load():
		return closeRetired
	case at-u.born >= int64(limits.life)/2:
		return closeLifetime
	case at-rested >= int64(limits.idle): // the sweeper has not come round yet
		return closeIdle
	case !u.quiet():
		return closeDestination
	}
	return closeNone
}

// quiet reports whether nothing has come from the destination since its last response. Whatever has (the end of the
// connection, or bytes that answer no request) makes the connection unfit.
func (u *upstream) quiet() bool {
	if u.wire == nil {
		return u.prober.probe() == probeQuiet
	}
	n, quiet := u.glance(make([]byte, 1))
	return n == 0 && quiet
}

// glance looks for an answer without waiting for one; quiet says that there is none, and no end either. TLS has to be
// read to know, into p: what has come may be a session ticket, or lie in the TLS layer already, as a close_notify does
// that came in one packet with the last response.
func (u *upstream) glance(p []byte) (n int, quiet bool) {
	if u.wire == nil {
		return 0, u.prober.probe() == probeQuiet
	}
	u.wire.glancing = true
	n, err := u.Conn.Read(p)
	u.wire.glancing = false
	return n, n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// add registers a new connection in use, on the place that reserve took.
func (p *pool) add(d *destination, u *upstream, limits lifetimes) {
	u.dest = d
	u.dies = u.born + int64(limits.life)
	u.idle = limits.idle
	u.due.Store(never)
	d.shard.mu.Lock()
	d.shard.conns[u] = struct{}{}
	d.shard.mu.Unlock()
	p.metrics.upstreamsOpened.Inc()
	p.metrics.busyUpstreams.Add(1)
}

// put lays a connection to rest after a response that ended cleanly.
func (p *pool) put(u *upstream, limits lifetimes) {
	at := now()
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
	p.metrics.busyUpstreams.Add(-1)
	p.metrics.idleUpstreams.Add(1)
}

// discard closes a connection in use and gives its place back. Where the sweeper or a vanished client has killed
// the connection, that is why it was closed.
func (p *pool) discard(u *upstream, why closeReason) {
	if killed := closeReason(u.killed.Load()); killed != closeNone {
		why = killed
	}
	d := u.dest
	d.shard.mu.Lock()
	delete(d.shard.conns, u)
	d.inUse--
	d.forget()
	d.shard.mu.Unlock()
	if why == closeDestination {
		u.Conn.Close() // with TLS' farewell, which cannot block after a whole response
	} else {
		u.tcp.Close()
	}
	p.metrics.busyUpstreams.Add(-1)
	p.metrics.upstreamsClosed[why].Inc()
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
	p.metrics.idleUpstreams.Add(-1)
	p.metrics.upstreamsClosed[why].Inc()
}

// forget drops a destination that has no connection left. Its shard's lock is held.
func (d *destination) forget() {
	if d.inUse == 0 && len(d.idle) == 0 && d.shard.destinations[d.key] == d {
		delete(d.shard.destinations, d.key)
	}
}

// kill closes a connection that another goroutine owns; the owner finds out by the error that it gets, and why by
// killed. There is no TLS farewell: it could block.
func (u *upstream) kill(why closeReason) {
	if u.killed.CompareAndSwap(0, uint32(why)) {
		u.tcp.Close()
	}
}

// beginSending lets the sweeper interrupt a write that the destination does not take because it has answered already.
func (u *upstream) beginSending() {
	if u.early == nil {
		u.early = &prober{raw: u.prober.raw}
		u.early.look = u.early.peek
	}
	if u.wire != nil {
		u.wire.holding = true
	}
	u.sending.Store(sending)
}

// endSending ends what beginSending began.
func (u *upstream) endSending() {
	if u.wire != nil {
		u.wire.holding = false
	}
	if u.sending.CompareAndSwap(sending, notSending) {
		return
	}
	u.dest.shard.mu.Lock() // until the sweeper is done with it
	defer u.dest.shard.mu.Unlock()
	u.sending.Store(notSending)
	u.tcp.SetWriteDeadline(time.Time{})
}

// watchSending is called by the sweeper, which holds the shard's lock. A destination that takes the body slowly is not
// idle, and one that has answered may not take the rest at all.
func (u *upstream) watchSending(at tick) {
	if left := u.early.queued(); left != u.left {
		u.left = left
		u.due.Store(at + int64(u.idle))
	}
	if u.early.probe() != probeQuiet && u.sending.CompareAndSwap(sending, interrupted) {
		u.tcp.SetWriteDeadline(aLongTimeAgo)
	}
}

// sweep enforces readTimeout and connectionLifetime on every connection.
func (p *pool) sweep(at tick) {
	for i := range p.shards {
		p.shards[i].sweep(p, at)
	}
}

func (s *poolShard) sweep(p *pool, at tick) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for u := range s.conns {
		if u.sending.Load() == sending {
			u.watchSending(at)
		}
		why := closeNone
		switch {
		case at >= u.dies:
			why = closeLifetime
		case at >= u.due.Load():
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
	p.metrics.idleUpstreams.Add(-1)
	p.metrics.upstreamsClosed[why].Inc()
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

func tlsVersionName(version uint16) string {
	switch version {
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS13:
		return "TLSv1.3"
	}
	return tls.VersionName(version)
}
