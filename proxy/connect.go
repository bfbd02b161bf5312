package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"
	"whsentry/proxy/upstream"
)

// acquire gets a connection to the destination: one at rest, unless fresh says otherwise, or a new one. It takes the
// place among the connections in use that is given, or one that is free.
func (ex *exchange) acquire(d *upstream.Destination, fresh bool) *reason.Failure {
	p, run := ex.client.proxy, ex.run
	ex.reused, ex.remote, ex.tlsVersion = false, netip.AddrPort{}, ""
	r := upstream.Route{TLS: ex.tls, Alias: ex.alias}
	if u := ex.takeOpened(r); u != nil {
		ex.hold(u, false)
		return nil
	}
	if d == nil {
		d = p.pool.Reserve(ex.address.key, run.cfg.MaxConnectionsPerDestination)
	}
	if d == nil {
		return reason.Newf(reason.TooMany, "too many connections to %s: %d are in use", ex.address.String(), run.cfg.MaxConnectionsPerDestination).
			Over(reason.LimitMaxConnectionsPerDestination)
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
		return f
	}
	ex.at = socket.Now()
	p.pool.Add(d, u)
	ex.hold(u, false)
	return nil
}

// judge is an exchange that judges the address of a kept connection again.
type judge exchange

func (j *judge) Check(to netip.AddrPort) error { return j.run.guard.CheckAddr(to, guard.Exceptions{}) }

func (ex *exchange) hold(u *upstream.Conn, reused bool) {
	ex.held, ex.reused, ex.remote, ex.tlsVersion = u, reused, u.Remote(), tlsVersionName(u.TLSVersion())
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
	done := make(chan any)
	go func() {
		defer func() { done <- recover() }()
		u, f = ex.open(r)
	}()
	if bug := <-done; bug != nil {
		panic(bug) // where the exchange's own are seen to
	}
	return u, f
}

// open makes a new connection, through the guard. It is the only way to one: every byte that leaves for a client's
// sake, plain, over TLS, in a tunnel or from an intercepted one, leaves over what it returns.
func (ex *exchange) open(r upstream.Route) (*upstream.Conn, *reason.Failure) {
	p, limit := ex.client.proxy, ex.run.cfg.ConnectTimeout
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ex.beginWait(nil, cancel)
	defer ex.endWait()
	generation := p.pool.Generation()
	if p.run.Load() != ex.run {
		generation-- // judged by a deny list and verified by a store that are no longer in use: not for the next request
	}
	conn, timing, err := ex.run.dialer.Dial(ctx, ex.address.name(), ex.address.port)
	ex.noteTiming(timing)
	if err != nil {
		return nil, reason.OfConnect(err, ex.address.name(), limit)
	}
	u, err := upstream.NewConn(conn, r, ex.run.limits, generation)
	if err != nil {
		conn.Close()
		return nil, reason.OfConnect(err, ex.address.name(), limit)
	}
	if r.TLS {
		return ex.startTLS(u, r, generation)
	}
	return u, nil
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
	host, port, limit := ex.address.name(), ex.address.port, ex.run.cfg.ConnectTimeout
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ex.beginWait(u, cancel)
	defer ex.endWait()
	ex.remote = u.Remote()
	began := socket.Now()
	again := func() (net.Conn, error) {
		u.Close()
		conn, _, err := ex.run.dialer.Dial(ctx, host, port)
		if err != nil {
			return nil, err
		}
		next, err := upstream.NewConn(conn, r, ex.run.limits, generation)
		if err != nil {
			conn.Close()
			return nil, err
		}
		u, ex.remote = next, next.Remote()
		if !ex.client.attach(u, cancel) {
			ex.client.vanished()
		}
		return u.Wire(), nil
	}
	conn, err := ex.run.ca.Handshake(ctx, u.Wire(), ca.Destination{Host: host, Port: port, Alias: r.Alias}, again)
	ex.phases[metrics.TLS] = time.Duration(socket.Now() - began)
	if err != nil {
		u.Close()
		if u.Killed() == upstream.CloseClient {
			return nil, reason.ClientGone()
		}
		return nil, reason.OfHandshake(err, host, limit)
	}
	u.UseTLS(conn)
	return u, nil
}

// tlsVersionName names a version as the log does; 0 is none.
func tlsVersionName(version uint16) string {
	switch version {
	case 0:
		return ""
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS13:
		return "TLSv1.3"
	}
	return tls.VersionName(version)
}

// Check judges an address anew before a kept connection to it is used. It makes the exchange an upstream.Judge.
func (ex *exchange) Check(to netip.AddrPort) error {
	return ex.run.guard.CheckAddr(to, guard.Exceptions{})
}
