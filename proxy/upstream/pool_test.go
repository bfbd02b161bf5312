package upstream

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"whsentry/proxy/socket"
)

// counter is a Counter that can be read.
type counter struct{ atomic.Int64 }

func (c *counter) Inc() { c.Add(1) }

// poolPeers is a pool with the listener that its connections go to. Its clock is moved by changing when connections
// were born and came to rest.
type poolPeers struct {
	t    testing.TB
	pool *Pool
	ln   net.Listener
	far  map[*Conn]net.Conn // the destination's end

	busy, idle atomic.Int64
	opened     counter
	closed     [CloseReasons]counter
}

var testLimits = Limits{Lifetime: time.Hour, Idle: time.Minute}

func newPoolPeers(t testing.TB) *poolPeers {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	t.Cleanup(func() { ln.Close() })
	p := &poolPeers{t: t, ln: ln, far: make(map[*Conn]net.Conn)}
	count := Counters{Busy: &p.busy, Idle: &p.idle, Opened: &p.opened}
	for why := range p.closed {
		count.Closed[why] = &p.closed[why]
	}
	p.pool = NewPool(count)
	return p
}

// addr is where the peers' end of connections is.
func (p *poolPeers) addr() netip.AddrPort { return p.ln.Addr().(*net.TCPAddr).AddrPort() }

// add reserves a place at the destination key and fills it with a new connection.
func (p *poolPeers) add(key string, r Route) *Conn {
	p.t.Helper()
	d := p.pool.Reserve([]byte(key), 1<<30)
	conn, err := net.Dial("tcp", p.ln.Addr().String())
	if err != nil {
		p.t.Fatalf("connect: %v", err)
	}
	far, err := p.ln.Accept()
	if err != nil {
		p.t.Fatalf("accept: %v", err)
	}
	p.t.Cleanup(func() { conn.Close(); far.Close() })
	u, err := NewConn(conn.(*net.TCPConn), p.addr(), r, testLimits, p.pool.Generation())
	if err != nil {
		p.t.Fatal(err)
	}
	u.watch()
	p.far[u] = far
	p.pool.Add(d, u)
	return u
}

// take reserves a place and returns the connection at rest that it is filled with, as an exchange does it; where there
// is none the place is given back.
func (p *poolPeers) take(key string, r Route) *Conn {
	p.t.Helper()
	d := p.pool.Reserve([]byte(key), 1<<30)
	for {
		u := p.pool.Get(d, r, socket.Now(), nil)
		if u == nil {
			p.pool.Release(d)
			return nil
		}
		if u.quiet() {
			return u
		}
		p.pool.Abandon(u)
	}
}

// check compares the gauges, and what the pool holds of key, with what is expected.
func (p *poolPeers) check(key string, inUse, idle int) {
	p.t.Helper()
	if got := p.pool.count.Busy.Load(); got != int64(inUse) {
		p.t.Errorf("got %d busy in the metrics; want %d", got, inUse)
	}
	if got := p.pool.count.Idle.Load(); got != int64(idle) {
		p.t.Errorf("got %d idle in the metrics; want %d", got, idle)
	}
	destinations, conns := p.size()
	want := 0
	if inUse+idle > 0 {
		want = 1
	}
	if destinations != want || conns != inUse+idle {
		p.t.Errorf("got %d destinations and %d connections in the pool; want %d and %d", destinations, conns, want, inUse+idle)
	}
	if d := p.destination(key); d != nil && (d.inUse != inUse || len(d.idle) != idle) {
		p.t.Errorf("got %d in use and %d idle; want %d and %d", d.inUse, len(d.idle), inUse, idle)
	}
}

func (p *poolPeers) size() (destinations, conns int) {
	for i := range p.pool.shards {
		s := &p.pool.shards[i]
		s.mu.Lock()
		destinations += len(s.destinations)
		conns += len(s.conns)
		s.mu.Unlock()
	}
	return destinations, conns
}

func (p *poolPeers) destination(key string) *Destination {
	for i := range p.pool.shards {
		if d := p.pool.shards[i].destinations[key]; d != nil {
			return d
		}
	}
	return nil
}

// ended reports whether the destination sees its connection end.
func (p *poolPeers) ended(u *Conn) bool {
	far := p.far[u]
	far.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, err := far.Read(make([]byte, 1))
	timeout, ok := err.(net.Error)
	return err != nil && (!ok || !timeout.Timeout())
}

func TestPoolIsLastInFirstOut(t *testing.T) {
	p := newPoolPeers(t)
	a, b, c := p.add("h:80", Route{}), p.add("h:80", Route{}), p.add("h:80", Route{})
	p.check("h:80", 3, 0)
	for _, u := range []*Conn{b, a, c} {
		p.pool.Put(u, socket.Now(), socket.Never)
	}
	p.check("h:80", 0, 3)
	for i, want := range []*Conn{c, a, b, nil} {
		if got := p.take("h:80", Route{}); got != want {
			t.Errorf("take %d: got %p; want %p", i, got, want)
		}
	}
	p.check("h:80", 3, 0)
}

// A connection serves only requests for its own host, port, scheme and certificate.
func TestPoolKeepsRoutesApart(t *testing.T) {
	p := newPoolPeers(t)
	plain := p.add("h:80", Route{})
	p.pool.Put(plain, socket.Now(), socket.Never)
	for _, tt := range []struct {
		name, key string
		route     Route
	}{
		{"TLS", "h:80", Route{TLS: true}},
		{"a certificate", "h:80", Route{TLS: true, Alias: "acme"}},
		{"another entry of destinations", "h:80", Route{Entry: 1}},
		{"an allow list of the client's own", "h:80", Route{Allow: 1}},
		{"another port", "h:81", Route{}},
		{"another host", "i:80", Route{}},
	} {
		if u := p.take(tt.key, tt.route); u != nil {
			t.Errorf("%s: got a plain connection to h:80", tt.name)
		}
	}
	acme := p.add("h:80", Route{TLS: true, Alias: "acme"})
	p.pool.Put(acme, socket.Now(), socket.Never)
	if u := p.take("h:80", Route{TLS: true, Alias: "other"}); u != nil {
		t.Errorf("got acme's connection for another certificate")
	}
	if u := p.take("h:80", Route{}); u != plain {
		t.Errorf("got %p; want the plain connection under acme's", u)
	}
}

func TestPoolLimit(t *testing.T) {
	p := newPoolPeers(t)
	key := []byte("h:80")
	first, second := p.pool.Reserve(key, 2), p.pool.Reserve(key, 2)
	if first == nil || second == nil || p.pool.Reserve(key, 2) != nil {
		t.Fatalf("got other than two places of two")
	}
	if p.pool.Reserve([]byte("h:81"), 2) == nil {
		t.Errorf("another port has no place")
	}
	p.pool.Release(second)
	if p.pool.Reserve(key, 2) == nil {
		t.Errorf("the place that was given back is not there")
	}
	if p.pool.Reserve(key, 1) != nil {
		t.Errorf("got a place under a limit that was lowered below what is in use")
	}
}

// Connections at rest take no place.
func TestPoolLimitWithoutTheIdle(t *testing.T) {
	p := newPoolPeers(t)
	for range 3 {
		p.pool.Put(p.add("h:80", Route{}), socket.Now(), socket.Never)
	}
	// The three were used one after another, each made while the others were taken for busy.
	if d := p.pool.Reserve([]byte("h:80"), 1); d == nil {
		t.Errorf("connections at rest take the only place")
	}
}

func TestPoolFitness(t *testing.T) {
	tests := []struct {
		name string
		age  func(p *poolPeers, u *Conn)
		why  CloseReason // CloseNone: it is used
	}{
		{"fresh", func(*poolPeers, *Conn) {}, CloseNone},
		{"just under half its lifetime", func(_ *poolPeers, u *Conn) { u.born = socket.Now() - int64(testLimits.Lifetime/2) + int64(time.Minute) }, CloseNone},
		{"half its lifetime", func(_ *poolPeers, u *Conn) { u.born = socket.Now() - int64(testLimits.Lifetime/2) }, CloseLifetime},
		{"just under its idle limit", func(_ *poolPeers, u *Conn) {
			u.due.Store(socket.Now() + int64(30*time.Second))
		}, CloseNone},
		{"at its idle limit", func(_ *poolPeers, u *Conn) { u.due.Store(socket.Now()) }, CloseIdle},
		{"retired", func(p *poolPeers, _ *Conn) { p.pool.Retire() }, CloseRetired},
		{"closed by the destination", func(p *poolPeers, u *Conn) { p.far[u].Close() }, CloseDestination},
		{"half-closed by the destination", func(p *poolPeers, u *Conn) { p.far[u].(*net.TCPConn).CloseWrite() }, CloseDestination},
		{"reset by the destination", func(p *poolPeers, u *Conn) {
			p.far[u].(*net.TCPConn).SetLinger(0)
			p.far[u].Close()
		}, CloseDestination},
		{"with bytes nobody asked for", func(p *poolPeers, u *Conn) { io.WriteString(p.far[u], "HTTP/1.1 408 \r\n\r\n") }, CloseDestination},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPoolPeers(t)
			u := p.add("h:80", Route{})
			p.pool.Put(u, socket.Now(), socket.Never)
			tt.age(p, u)
			if tt.why == CloseDestination {
				p.awaitEvent(u)
			}
			got := p.take("h:80", Route{})
			if tt.why == CloseNone {
				if got != u {
					t.Errorf("got %p; want the connection used", got)
				}
				p.check("h:80", 1, 0)
				return
			}
			if got != nil {
				t.Errorf("got a connection that is %s", tt.name)
			}
			p.check("h:80", 0, 0)
			if n := p.closed[tt.why].Load(); n != 1 {
				t.Errorf("got %d closed for %q; want 1", n, closeReasonNames[tt.why])
			}
		})
	}
}

// What is unfit is passed over, and the older one below it used.
func TestPoolSkipsTheUnfit(t *testing.T) {
	p := newPoolPeers(t)
	good, dead := p.add("h:80", Route{}), p.add("h:80", Route{})
	p.pool.Put(good, socket.Now(), socket.Never)
	p.pool.Put(dead, socket.Now(), socket.Never)
	p.far[dead].Close()
	p.awaitEvent(dead)
	if got := p.take("h:80", Route{}); got != good {
		t.Errorf("got %p; want the one that is alive", got)
	}
	p.check("h:80", 1, 0)
}

func TestPoolPutRefuses(t *testing.T) {
	tests := []struct {
		name string
		age  func(p *Pool, u *Conn)
		why  CloseReason
	}{
		{"one that was killed", func(_ *Pool, u *Conn) { u.Kill(CloseClient) }, CloseClient},
		{"one that was retired in use", func(p *Pool, _ *Conn) { p.Retire() }, CloseRetired},
		{"one of half its lifetime", func(_ *Pool, u *Conn) { u.born = socket.Now() - int64(testLimits.Lifetime/2) }, CloseLifetime},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPoolPeers(t)
			u := p.add("h:80", Route{})
			tt.age(p.pool, u)
			p.pool.Put(u, socket.Now(), socket.Never)
			p.check("h:80", 0, 0)
			if !p.ended(u) {
				t.Errorf("the connection is still open")
			}
			if n := p.closed[tt.why].Load(); n != 1 {
				t.Errorf("got %d closed for %q; want 1", n, closeReasonNames[tt.why])
			}
		})
	}
}

// A destination that was contacted once, or that could not be, costs nothing afterwards.
func TestEmptyPoolCostsNothing(t *testing.T) {
	p := newPoolPeers(t)
	for i := range 1000 {
		p.pool.Release(p.pool.Reserve(fmt.Appendf(nil, "h%d:80", i), 1))
	}
	for i := range 20 {
		u := p.add(fmt.Sprintf("h%d:80", i), Route{})
		if i%2 == 0 {
			p.pool.Discard(u, CloseError)
		} else {
			p.pool.Put(u, socket.Now(), socket.Never)
		}
	}
	p.pool.CloseAll(CloseShutdown)
	if destinations, conns := p.size(); destinations != 0 || conns != 0 {
		t.Errorf("got %d destinations and %d connections; want none", destinations, conns)
	}
}

// Requests, the sweeper, reloads and a closing destination all at once: in the end every count is 0.
func TestPoolCountsReturnToZero(t *testing.T) {
	p := newPoolPeers(t)
	go func() { // ends with the listener
		for {
			conn, err := p.ln.Accept()
			if err != nil {
				return
			}
			if rand.IntN(3) == 0 {
				conn.Close()
			} else {
				defer conn.Close()
			}
		}
	}()
	short := Limits{Lifetime: 40 * time.Millisecond, Idle: 2 * time.Millisecond}
	stop := make(chan struct{})
	var others, users sync.WaitGroup
	others.Add(1)
	go func() { // ends with stop
		defer others.Done()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			p.pool.Sweep(socket.Now())
			if i%10 == 0 {
				p.pool.Retire()
			}
		}
	}()
	for range 8 {
		users.Add(1)
		go func() { // awaited below
			defer users.Done()
			for range 300 {
				useOnce(t, p, short)
			}
		}()
	}
	users.Wait()
	close(stop)
	others.Wait()
	p.pool.CloseAll(CloseShutdown)
	p.check("h:80", 0, 0)
}

func useOnce(t *testing.T, p *poolPeers, limits Limits) {
	key := []byte(fmt.Sprintf("h:%d", 80+rand.IntN(3)))
	d := p.pool.Reserve(key, 4)
	if d == nil {
		return
	}
	u := p.pool.Get(d, Route{}, socket.Now(), nil)
	if u == nil {
		conn, err := net.Dial("tcp", p.ln.Addr().String())
		if err != nil {
			p.pool.Release(d)
			return
		}
		if u, err = NewConn(conn.(*net.TCPConn), p.addr(), Route{}, limits, p.pool.Generation()); err != nil {
			t.Error(err)
		}
		u.watch()
		p.pool.Add(d, u)
	}
	switch rand.IntN(4) {
	case 0:
		p.pool.Discard(u, CloseError)
	case 1:
		u.Kill(CloseClient)
		p.pool.Put(u, socket.Now(), socket.Never)
	default:
		p.pool.Put(u, socket.Now(), socket.Never)
	}
}

func TestCloseReasonNames(t *testing.T) {
	seen := make(map[string]bool)
	for why := CloseNone + 1; why < CloseReasons; why++ {
		name := closeReasonNames[why]
		if name == "" || seen[name] || bytes.ContainsAny([]byte(name), "\"\\ ") {
			t.Errorf("got the name %q for reason %d", name, why)
		}
		seen[name] = true
	}
}
