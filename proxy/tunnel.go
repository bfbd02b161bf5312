package proxy

import (
	"fmt"

	"whsentry/proxy/reason"
	"whsentry/proxy/upstream"
)

// connectionEstablished is the answer to a CONNECT; it has no fields, least of all of a body (RFC 9110 section 9.3.6).
const connectionEstablished = "HTTP/1.1 200 Connection established\r\n\r\n"

// tunnel opens a tunnel and carries it to its end, unless the CONNECT is refused already.
func (ex *exchange) tunnel(refused *reason.Failure) *reason.Failure {
	if refused != nil {
		return refused
	}
	c := ex.client
	if f := ex.acquire(nil, true); f != nil {
		return f
	}
	ex.endDeadline()
	if c.Send([]byte(connectionEstablished)) != nil {
		ex.drop(upstream.CloseClient)
		return reason.ClientGone()
	}
	return ex.join(ex.carry)
}

// join makes a tunnel of the client's connection and of the one that is held, once the CONNECT has been answered. carry
// carries it, and reports false where what is inside are requests.
func (ex *exchange) join(carry func(t *upstream.Tunnel) (opaque bool)) *reason.Failure {
	c, p := ex.client, ex.client.proxy
	p.metrics.Tunnels.Add(1)
	p.metrics.TunnelsTotal.Inc()
	defer p.metrics.Tunnels.Add(-1)
	ex.status, ex.begun = 200, true
	if !c.attach(ex.held, nil) {
		c.end()
	}
	ex.claim()
	defer c.disclaim()
	t := ex.held.Join(c.Stream(), c.TCP(), func(bug any) {
		p.log().Error().Str("panic", fmt.Sprint(bug)).Msg("a bug ended a tunnel")
	})
	opaque := carry(t)
	c.attach(nil, nil)
	if !opaque {
		return nil
	}
	ex.body.Came, ex.responseBytes = t.Bytes()
	ex.written = ex.body.Came > 0
	f := ex.tunnelEnd(t)
	ex.drop(upstream.CloseTunnel)
	ex.keep = false
	return f
}

// tunnelEnd says why a tunnel was closed, where neither side wanted that. Where an answer may have been owed, it is a
// failure; else it has served its purpose, and closed alone says so.
func (ex *exchange) tunnelEnd(t *upstream.Tunnel) *reason.Failure {
	why, limits := ex.held.Killed(), ex.held.Limits()
	if why != upstream.CloseIdle && why != upstream.CloseLifetime {
		return nil
	}
	switch {
	case t.Answered():
		ex.closed = why
		return nil
	case why == upstream.CloseIdle:
		return reason.Newf(reason.Timeout, "timed out: the tunnel was idle for %s", limits.Idle).Over(ex.terms.Keys.ReadTimeout)
	}
	return reason.Newf(reason.Timeout, "timed out: the tunnel reached twice the lifetime of %s", limits.Lifetime).Over(ex.terms.Keys.Lifetime)
}
