package proxy

import (
	"net"
	"net/netip"
	"runtime"
	"time"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/policy"
	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"
	"whsentry/proxy/upstream"
)

// acquire gets a connection to the destination: one at rest, unless fresh says otherwise, or a new one. It takes the
// place among the connections in use that is given, or one that is free.
func (ex *exchange) acquire(d *upstream.Destination, fresh bool) *reason.Failure {
	p := ex.client.proxy
	ex.reused, ex.remote, ex.tlsVersion = false, netip.AddrPort{}, 0
	r := upstream.Route{TLS: ex.tls, Alias: ex.alias, Entry: ex.terms.ID, Allow: ex.sender.AllowListID}
	if u := ex.takeOpened(r); u != nil {
		ex.hold(u, false)
		return nil
	}
	if f := ex.askBreaker(); f != nil {
		return f
	}
	if d == nil {
		var f *reason.Failure
		if d, f = ex.reservePlace(); f != nil {
			return f
		}
	}
	if !fresh {
		if u := p.pool.Get(d, r, ex.at, (*judge)(ex)); u != nil {
			ex.hold(u, true)
			return nil
		}
	}
	defer func() { // also where a bug gets in the way
		if ex.held == nil {
			p.pool.Release(d)
		}
	}()
	u, f := ex.openApart(r)
	if f != nil {
		if f.Unreached() {
			ex.tellBreaker(policy.Failed)
		}
		return f
	}
	ex.tellBreaker(policy.Reached)
	ex.at = socket.Now()
	p.pool.Add(d, u)
	ex.hold(u, false)
	return nil
}

// reservePlace takes a place among the connections in use to the destination: 1014.
func (ex *exchange) reservePlace() (*upstream.Destination, *reason.Failure) {
	d := ex.client.proxy.pool.Reserve(ex.address.Key(), ex.terms.MaxConnections)
	if d == nil {
		return nil, reason.Newf(reason.TooMany, "too many connections to %s: %d are in use", ex.address.String(), ex.terms.MaxConnections).
			Over(ex.terms.Keys.MaxConnections)
	}
	return d, nil
}

// judge is an exchange that judges the address of a kept connection again.
type judge exchange

func (j *judge) Check(to netip.AddrPort) error {
	return j.run.guard.CheckAddr(to, (*exchange)(j).exceptions())
}

func (ex *exchange) hold(u *upstream.Conn, reused bool) {
	ex.held, ex.reused, ex.remote, ex.tlsVersion = u, reused, u.Remote(), u.TLSVersion()
}

// drop closes the connection that carries the request.
func (ex *exchange) drop(why upstream.CloseReason) {
	ex.client.proxy.pool.Discard(ex.held, why)
	ex.held = nil
}

// leave closes a connection that turned out to be stale. The request keeps the place, for another one.
func (ex *exchange) leave() *upstream.Destination {
	d := ex.held.Destination()
	ex.client.proxy.pool.Abandon(ex.held)
	ex.held = nil
	return d
}

// openApart is open on a goroutine, and so a stack, of its own, which is awaited. Looking a name up, connecting and above
// all TLS make a stack grow to several times what waiting for an answer takes, and it would stay so while the answer is
// waited for: of 4,000 requests in flight stacks took 33 MB, and take 20 so.
func (ex *exchange) openApart(r upstream.Route) (u *upstream.Conn, f *reason.Failure) {
	done := make(chan made)
	go ex.openFor(r, done)
	o := <-done
	if o.bug != nil {
		panic(o.bug) // where the exchange's own are seen to
	}
	return o.conn, o.failure
}

// rowLength is how many connections are made in a row.
const rowLength = 64

// made is what has become of a new connection.
type made struct {
	conn    *upstream.Conn
	failure *reason.Failure
	bug     any // a panic's value; nil: there was none
}

// openFor is open for openApart. Under load it lets others come first, so that heads are read one after the other, and then
// connections are made one after the other, by code that the processor has at hand: each costs 7 % less. No more than
// rowLength wait so at a time, for the stack of each is kept.
func (ex *exchange) openFor(r upstream.Route, done chan<- made) {
	var o made
	defer func() {
		o.bug = recover()
		done <- o
	}()
	row := &ex.client.proxy.row
	if row.Add(1) <= rowLength {
		runtime.Gosched()
	}
	row.Add(-1)
	o.conn, o.failure = ex.open(r)
}

// open makes a new connection, through the guard. It is the only way to one: every byte that leaves for a client's
// sake, plain, over TLS, in a tunnel or from an intercepted one, leaves over what it returns.
func (ex *exchange) open(r upstream.Route) (*upstream.Conn, *reason.Failure) {
	p := ex.client.proxy
	ctx := ex.beginMaking(nil)
	defer ex.endMaking(ctx)
	generation := p.pool.Generation()
	if p.run.Load() != ex.run {
		generation-- // judged by a deny list and verified by a store that are no longer in use: not for the next request
	}
	conn, timing, err := ex.dialer().Dial(ctx, ex.address.Name(), ex.address.Port())
	ex.noteTiming(timing)
	if err != nil {
		return nil, ex.connectFailure(err)
	}
	u, err := upstream.NewConn(conn, conn.Peer(), r, ex.terms.Connection, generation)
	if err != nil {
		conn.Close()
		return nil, ex.connectFailure(err)
	}
	if r.TLS {
		return ex.startTLS(u, r, generation)
	}
	return u, nil
}

// connectFailure is what the client is told of an error on the way to a connection.
func (ex *exchange) connectFailure(err error) *reason.Failure {
	return ex.timeFailure(reason.OfConnect(err, ex.address.Name(), ex.terms.ConnectTimeout))
}

// handshakeFailure is what the client is told of an error of the TLS handshake.
func (ex *exchange) handshakeFailure(err error) *reason.Failure {
	return ex.timeFailure(reason.OfHandshake(err, ex.address.Name(), ex.terms.ConnectTimeout))
}

// timeFailure is f with the key of the limit that applies, or what ended it where that was the caller's deadline, or the
// proxy's stopping.
func (ex *exchange) timeFailure(f *reason.Failure) *reason.Failure {
	if ended := ex.endedByUs(); ended != nil {
		ended.Tried = f.Tried
		return ended
	}
	if f.Limit == reason.LimitConnectTimeout {
		f.Limit = ex.terms.Keys.ConnectTimeout
	}
	return f
}

func (ex *exchange) noteTiming(t guard.Timing) {
	if t.LookedUp {
		ex.phases[metrics.DNS] = t.DNS
	}
	if t.Connect > 0 {
		ex.phases[metrics.Connect] = t.Connect
	}
}

// startTLS makes the TLS handshake, which has connectTimeout for itself, on u or on a connection that takes its place.
// Where it fails it has closed them.
func (ex *exchange) startTLS(u *upstream.Conn, r upstream.Route, generation uint32) (*upstream.Conn, *reason.Failure) {
	host, port := ex.address.Name(), ex.address.Port()
	ctx := ex.beginMaking(u)
	defer ex.endMaking(ctx)
	ex.remote = u.Remote()
	began := socket.Now()
	again := func() (net.Conn, error) {
		u.Close()
		conn, _, err := ex.dialer().Dial(ctx, host, port)
		if err != nil {
			return nil, err
		}
		next, err := upstream.NewConn(conn, conn.Peer(), r, ex.terms.Connection, generation)
		if err != nil {
			conn.Close()
			return nil, err
		}
		u, ex.remote = next, next.Remote()
		if !ex.client.attach(u, ctx) {
			ex.client.end()
		}
		return u.Wire(), nil
	}
	conn, err := ex.run.ca.Handshake(ctx, u.Wire(), ca.Destination{Host: host, Port: port, Alias: r.Alias, Rules: ex.terms.Rules}, again)
	ex.phases[metrics.TLS] = time.Duration(socket.Now() - began)
	if err != nil {
		u.Close()
		if u.Killed() == upstream.CloseClient {
			return nil, reason.ClientGone()
		}
		return nil, ex.handshakeFailure(err)
	}
	u.UseTLS(conn)
	return u, nil
}
