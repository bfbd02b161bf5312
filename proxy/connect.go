package proxy

import (
	"context"
	"net/netip"
	"time"

	"whsentry/guard"
	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
)

// acquire gets a connection to the destination: one at rest, unless fresh says otherwise, or a new one. It takes the
// place among the connections in use that is given, or one that is free.
func (ex *exchange) acquire(d *destination, fresh bool) *reason.Failure {
	p, run := ex.client.proxy, ex.run
	ex.reused, ex.remote, ex.tlsVersion = false, netip.AddrPort{}, ""
	if d == nil {
		d = p.pool.reserve(ex.address.key, run.cfg.MaxConnectionsPerDestination)
	}
	if d == nil {
		return reason.Newf(reason.TooMany, "too many connections to %s: %d are in use", ex.address.String(), run.cfg.MaxConnectionsPerDestination).
			Over(reason.LimitMaxConnectionsPerDestination)
	}
	r := route{tls: ex.tls, alias: ex.alias}
	if !fresh {
		if u := p.pool.idleConn(d, r, ex.at, run.limits); u != nil {
			ex.hold(u, true)
			return nil
		}
	}
	defer func() { // also where a bug gets in the way
		if ex.held == nil {
			p.pool.release(d)
		}
	}()
	u, f := ex.open(r)
	if f != nil {
		return f
	}
	ex.at = now()
	p.pool.add(d, u, run.limits)
	ex.hold(u, false)
	return nil
}

func (ex *exchange) hold(u *upstream, reused bool) {
	ex.held, ex.reused, ex.remote, ex.tlsVersion = u, reused, u.remote, u.tlsVersion
}

// drop closes the connection that carries the request.
func (ex *exchange) drop(why closeReason) {
	ex.client.proxy.pool.discard(ex.held, why)
	ex.held = nil
}

// leave closes a connection that turned out to be stale. The request keeps the place, for another one.
func (ex *exchange) leave() *destination {
	d := ex.held.dest
	ex.client.proxy.pool.abandon(ex.held)
	ex.held = nil
	return d
}

// open makes a new connection, through the guard. It is the only way to one: every byte that leaves for a client's
// sake, plain, over TLS, in a tunnel or from an intercepted one, leaves over what it returns.
func (ex *exchange) open(r route) (*upstream, *reason.Failure) {
	p, limit := ex.client.proxy, ex.run.cfg.ConnectTimeout
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ex.beginWait(nil, cancel)
	defer ex.endWait()
	generation := p.pool.generation.Load()
	if p.run.Load() != ex.run {
		generation-- // judged by a deny list and verified by a store that are no longer in use: not for the next request
	}
	conn, timing, err := ex.run.dialer.Dial(ctx, ex.address.name(), ex.address.port)
	ex.noteTiming(timing)
	if err != nil {
		return nil, reason.OfConnect(err, ex.address.name(), limit)
	}
	u, err := newUpstream(conn, r, generation)
	if err != nil {
		conn.Close()
		return nil, reason.OfConnect(err, ex.address.name(), limit)
	}
	if r.tls {
		if f := ex.startTLS(u); f != nil {
			conn.Close()
			return nil, f
		}
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

// startTLS makes the TLS handshake, which has connectTimeout for itself.
func (ex *exchange) startTLS(u *upstream) *reason.Failure {
	host, limit := ex.address.name(), ex.run.cfg.ConnectTimeout
	ex.beginWait(u, nil)
	defer ex.endWait()
	ex.remote = u.remote
	began := now()
	u.wire = &wire{socket: u.tcp}
	u.tcp.SetDeadline(time.Now().Add(limit))
	conn, err := ex.run.ca.Handshake(u.wire, u.route.alias, host, ex.address.port)
	u.tcp.SetDeadline(time.Time{})
	ex.phases[metrics.TLS] = time.Duration(now() - began)
	if err != nil && closeReason(u.killed.Load()) == closeClient {
		return reason.ClientGone()
	}
	if err != nil {
		return reason.OfHandshake(err, host, limit)
	}
	u.wire.received = func() { u.due.Store(now() + int64(u.idle)) }
	u.Conn, u.tlsVersion = conn, tlsVersionName(conn.ConnectionState().Version)
	return nil
}
