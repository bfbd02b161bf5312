package proxy

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
	"whsentry/proxy/socket"
)

// poolPeers is a pool with the listener that its connections go to. Its clock is moved by changing when connections
// were born and came to rest.
type poolPeers struct {
	t    *testing.T
	pool *pool
	ln   net.Listener
	far  map[*upstream]net.Conn // the destination's end
}

var testLimits = lifetimes{life: time.Hour, idle: time.Minute}

func newPoolPeers(t *testing.T) *poolPeers {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	t.Cleanup(func() { ln.Close() })
	return &poolPeers{t: t, pool: newPool(NewMetrics("test", "none")), ln: ln, far: make(map[*upstream]net.Conn)}
}

// add reserves a place at the destination key and fills it with a new connection.
func (p *poolPeers) add(key string, r route) *upstream {
	p.t.Helper()
	d := p.pool.reserve([]byte(key), 1<<30)
	conn, err := net.Dial("tcp", p.ln.Addr().String())
	if err != nil {
		p.t.Fatalf("connect: %v", err)
	}
	far, err := p.ln.Accept()
	if err != nil {
		p.t.Fatalf("accept: %v", err)
	}
	p.t.Cleanup(func() { conn.Close(); far.Close() })
	u, err := newUpstream(conn.(*net.TCPConn), r, p.pool.generation.Load())
	if err != nil {
		p.t.Fatal(err)
	}
	u.watch()
	p.far[u] = far
	p.pool.add(d, u, testLimits)
	return u
}

// take reserves a place and returns the connection at rest that it is filled with, as an exchange does it; where there
// is none the place is given back.
func (p *poolPeers) take(key string, r route) *upstream {
	p.t.Helper()
	d := p.pool.reserve([]byte(key), 1<<30)
	for {
		u := p.pool.idleConn(d, r, socket.Now(), testLimits)
		if u == nil {
			p.pool.release(d)
			return nil
		}
		if u.quiet() {
			return u
		}
		p.pool.abandon(u)
	}
}

// check compares the gauges, and what the pool holds of key, with what is expected.
func (p *poolPeers) check(key string, inUse, idle int) {
	p.t.Helper()
	if got := p.pool.metrics.busyUpstreams.Load(); got != int64(inUse) {
		p.t.Errorf("got %d busy in the metrics; want %d", got, inUse)
	}
	if got := p.pool.metrics.idleUpstreams.Load(); got != int64(idle) {
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

func (p *poolPeers) destination(key string) *destination {
	for i := range p.pool.shards {
		if d := p.pool.shards[i].destinations[key]; d != nil {
			return d
		}
	}
	return nil
}

// ended reports whether the destination sees its connection end.
func (p *poolPeers) ended(u *upstream) bool {
	far := p.far[u]
	far.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, err := far.Read(make([]byte, 1))
	timeout, ok := err.(net.Error)
	return err != nil && (!ok || !timeout.Timeout())
}

func TestPoolIsLastInFirstOut(t *testing.T) {
	p := newPoolPeers(t)
	a, b, c := p.add("h:80", route{}), p.add("h:80", route{}), p.add("h:80", route{})
	p.check("h:80", 3, 0)
	for _, u := range []*upstream{b, a, c} {
		p.pool.put(u, socket.Now(), testLimits)
	}
	p.check("h:80", 0, 3)
	for i, want := range []*upstream{c, a, b, nil} {
		if got := p.take("h:80", route{}); got != want {
			t.Errorf("take %d: got %p; want %p", i, got, want)
		}
	}
	p.check("h:80", 3, 0)
}

// A connection serves only requests for its own host, port, scheme and certificate.
func TestPoolKeepsRoutesApart(t *testing.T) {
	p := newPoolPeers(t)
	plain := p.add("h:80", route{})
	p.pool.put(plain, socket.Now(), testLimits)
	for _, tt := range []struct {
		name, key string
		route     route
	}{
		{"TLS", "h:80", route{tls: true}},
		{"a certificate", "h:80", route{tls: true, alias: "acme"}},
		{"another port", "h:81", route{}},
		{"another host", "i:80", route{}},
	} {
		if u := p.take(tt.key, tt.route); u != nil {
			t.Errorf("%s: got a plain connection to h:80", tt.name)
		}
	}
	acme := p.add("h:80", route{tls: true, alias: "acme"})
	p.pool.put(acme, socket.Now(), testLimits)
	if u := p.take("h:80", route{tls: true, alias: "other"}); u != nil {
		t.Errorf("got acme's connection for another certificate")
	}
	if u := p.take("h:80", route{}); u != plain {
		t.Errorf("got %p; want the plain connection under acme's", u)
	}
}

func TestPoolLimit(t *testing.T) {
	p := newPoolPeers(t)
	key := []byte("h:80")
	first, second := p.pool.reserve(key, 2), p.pool.reserve(key, 2)
	if first == nil || second == nil || p.pool.reserve(key, 2) != nil {
		t.Fatalf("got other than two places of two")
	}
	if p.pool.reserve([]byte("h:81"), 2) == nil {
		t.Errorf("another port has no place")
	}
	p.pool.release(second)
	if p.pool.reserve(key, 2) == nil {
		t.Errorf("the place that was given back is not there")
	}
	if p.pool.reserve(key, 1) != nil {
		t.Errorf("got a place under a limit that was lowered below what is in use")
	}
}

// Connections at rest take no place.
func TestPoolLimitWithoutTheIdle(t *testing.T) {
	p := newPoolPeers(t)
	for range 3 {
		p.pool.put(p.add("h:80", route{}), socket.Now(), testLimits)
	}
	// The three were used one after another, each made while the others were taken for busy.
	if d := p.pool.reserve([]byte("h:80"), 1); d == nil {
		t.Errorf("connections at rest take the only place")
	}
}

func TestPoolFitness(t *testing.T) {
	tests := []struct {
		name string
		age  func(p *poolPeers, u *upstream)
		why  closeReason // closeNone: it is used
	}{
		{"fresh", func(*poolPeers, *upstream) {}, closeNone},
		{"just under half its lifetime", func(_ *poolPeers, u *upstream) { u.born = socket.Now() - int64(testLimits.life/2) + int64(time.Minute) }, closeNone},
		{"half its lifetime", func(_ *poolPeers, u *upstream) { u.born = socket.Now() - int64(testLimits.life/2) }, closeLifetime},
		{"just under its idle limit", func(_ *poolPeers, u *upstream) {
			u.resting = socket.Now() - int64(testLimits.idle) + int64(30*time.Second)
		}, closeNone},
		{"at its idle limit", func(_ *poolPeers, u *upstream) { u.resting = socket.Now() - int64(testLimits.idle) }, closeIdle},
		{"retired", func(p *poolPeers, _ *upstream) { p.pool.retire() }, closeRetired},
		{"closed by the destination", func(p *poolPeers, u *upstream) { p.far[u].Close() }, closeDestination},
		{"half-closed by the destination", func(p *poolPeers, u *upstream) { p.far[u].(*net.TCPConn).CloseWrite() }, closeDestination},
		{"reset by the destination", func(p *poolPeers, u *upstream) {
			p.far[u].(*net.TCPConn).SetLinger(0)
			p.far[u].Close()
		}, closeDestination},
		{"with bytes nobody asked for", func(p *poolPeers, u *upstream) { io.WriteString(p.far[u], "HTTP/1.1 408 \r\n\r\n") }, closeDestination},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPoolPeers(t)
			u := p.add("h:80", route{})
			p.pool.put(u, socket.Now(), testLimits)
			tt.age(p, u)
			if tt.why == closeDestination {
				p.awaitEvent(u)
			}
			got := p.take("h:80", route{})
			if tt.why == closeNone {
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
			if n := p.pool.metrics.upstreamsClosed[tt.why].Get(); n != 1 {
				t.Errorf("got %d closed for %q; want 1", n, closeReasonNames[tt.why])
			}
		})
	}
}

// What is unfit is passed over, and the older one below it used.
func TestPoolSkipsTheUnfit(t *testing.T) {
	p := newPoolPeers(t)
	good, dead := p.add("h:80", route{}), p.add("h:80", route{})
	p.pool.put(good, socket.Now(), testLimits)
	p.pool.put(dead, socket.Now(), testLimits)
	p.far[dead].Close()
	p.awaitEvent(dead)
	if got := p.take("h:80", route{}); got != good {
		t.Errorf("got %p; want the one that is alive", got)
	}
	p.check("h:80", 1, 0)
}

func TestPoolPutRefuses(t *testing.T) {
	tests := []struct {
		name string
		age  func(p *pool, u *upstream)
		why  closeReason
	}{
		{"one that was killed", func(_ *pool, u *upstream) { u.kill(closeClient) }, closeClient},
		{"one that was retired in use", func(p *pool, _ *upstream) { p.retire() }, closeRetired},
		{"one of half its lifetime", func(_ *pool, u *upstream) { u.born = socket.Now() - int64(testLimits.life/2) }, closeLifetime},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPoolPeers(t)
			u := p.add("h:80", route{})
			tt.age(p.pool, u)
			p.pool.put(u, socket.Now(), testLimits)
			p.check("h:80", 0, 0)
			if !p.ended(u) {
				t.Errorf("the connection is still open")
			}
			if n := p.pool.metrics.upstreamsClosed[tt.why].Get(); n != 1 {
				t.Errorf("got %d closed for %q; want 1", n, closeReasonNames[tt.why])
			}
		})
	}
}

// A destination that was contacted once, or that could not be, costs nothing afterwards.
func TestEmptyPoolCostsNothing(t *testing.T) {
	p := newPoolPeers(t)
	for i := range 1000 {
		p.pool.release(p.pool.reserve(fmt.Appendf(nil, "h%d:80", i), 1))
	}
	for i := range 20 {
		u := p.add(fmt.Sprintf("h%d:80", i), route{})
		if i%2 == 0 {
			p.pool.discard(u, closeError)
		} else {
			p.pool.put(u, socket.Now(), testLimits)
		}
	}
	p.pool.killAll(closeShutdown)
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
	short := lifetimes{life: 40 * time.Millisecond, idle: 2 * time.Millisecond}
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
			p.pool.sweep(socket.Now())
			if i%10 == 0 {
				p.pool.retire()
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
	p.pool.killAll(closeShutdown)
	p.check("h:80", 0, 0)
}

func useOnce(t *testing.T, p *poolPeers, limits lifetimes) {
	key := []byte(fmt.Sprintf("h:%d", 80+rand.IntN(3)))
	d := p.pool.reserve(key, 4)
	if d == nil {
		return
	}
	u := p.pool.idleConn(d, route{}, socket.Now(), limits)
	if u == nil {
		conn, err := net.Dial("tcp", p.ln.Addr().String())
		if err != nil {
			p.pool.release(d)
			return
		}
		if u, err = newUpstream(conn.(*net.TCPConn), route{}, p.pool.generation.Load()); err != nil {
			t.Error(err)
		}
		u.watch()
		p.pool.add(d, u, limits)
	}
	switch rand.IntN(4) {
	case 0:
		p.pool.discard(u, closeError)
	case 1:
		u.kill(closeClient)
		p.pool.put(u, socket.Now(), limits)
	default:
		p.pool.put(u, socket.Now(), limits)
	}
}

func TestCloseReasonNames(t *testing.T) {
	seen := make(map[string]bool)
	for why := closeNone + 1; why < closeReasons; why++ {
		name := closeReasonNames[why]
		if name == "" || seen[name] || bytes.ContainsAny([]byte(name), "\"\\ ") {
			t.Errorf("got the name %q for reason %d", name, why)
		}
		seen[name] = true
	}
}
