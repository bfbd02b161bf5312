package proxy

import (
	"bytes"
	"time"

	"whsentry/proxy/downstream"
	"whsentry/proxy/http1"
	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"
	"whsentry/proxy/upstream"
)

// Many clients ask for a tunnel for http:// too. What is inside would go out as it is, the fields that are meant for the
// proxy with it; so it is looked at how a client begins, and requests are served like any others.

// openingPatience is how long the beginning of a line is held back that may yet become a request line.
const openingPatience = time.Second

// carry carries a tunnel that has just been accepted. It reports false where what is inside are requests: they follow on
// the client's connection, or it has been told why not.
func (ex *exchange) carry(t *upstream.Tunnel) (opaque bool) {
	c := ex.client
	c.Untimed = true
	t.Begin()
	if ex.run.cfg.ConnectPlain == PlainOpaque {
		t.Carry(c.TakeEarly(), nil)
		return true
	}
	isRequest, end := c.AwaitOpening(min(openingPatience, ex.held.Limits().Idle/2), t.Heard)
	switch {
	case !isRequest:
		t.Carry(c.TakeEarly(), end)
		return true
	case !t.Leave(): // and so nothing could be answered
		t.End()
		return true
	}
	if _, toClient := t.Bytes(); toClient > 0 {
		// What the destination has said already, the client would take for the answer to its request.
		t.Resume()
		t.End()
		return true
	}
	c.Untimed = false
	ex.enclose(&interception{plain: true})
	isWhole := c.AwaitHead()
	if isWhole && isOpaqueUpgrade(c.Head()) {
		c.within = nil
		c.Unlimited()
		c.Enter(downstream.Busy)
		c.Untimed = true
		t.Resume()
		t.Carry(c.TakeEarly(), nil)
		return true
	}
	ex.inspect(isWhole)
	return false
}

// inspect leaves the tunnel to the requests inside. The CONNECT leaves no line in the log, for they have theirs. isWhole
// says that the first of them is there; else the client has been told why it was refused.
func (ex *exchange) inspect(isWhole bool) {
	ex.status, ex.begun, ex.keep = 0, false, isWhole
	if !isWhole {
		ex.drop(upstream.CloseTunnel)
		return
	}
	ex.client.within.opened = opened{ex.held, ex.phases}
	ex.held = nil
}

// isOpaqueUpgrade reports whether the request with that head, a tunnel's first, wants to go on with WebSocket (RFC 6455
// section 4.1), which is passed on unseen. One that asks the proxy for something is a request, which is refused.
func isOpaqueUpgrade(head []byte) bool {
	h := new(http1.Request)
	h.Reset()
	return h.Scan(head, "") == nil && isWebSocket(h) && !asksProxy(h)
}

func isWebSocket(h *http1.Request) bool {
	for _, f := range h.Fields() {
		if !http1.EqualFold(f.Name.Of(h.Raw), "upgrade") {
			continue
		}
		for protocol := range bytes.SplitSeq(f.Value.Of(h.Raw), []byte{','}) {
			if http1.EqualFold(bytes.Trim(protocol, " \t"), "websocket") {
				return true
			}
		}
	}
	return false
}

// asksProxy reports whether a request has an X-WhSentry-… field.
func asksProxy(h *http1.Request) bool {
	return h.TLSFields+h.Aliases+h.Timeouts > 0 || !h.Stray.Empty()
}

// routePlain is what routeWithin does for a tunnel without TLS alone. X-WhSentry-TLS asks for TLS to the same host, at 443
// in place of 80, which is judged as a CONNECT to that port would be.
func (ex *exchange) routePlain() *reason.Failure {
	if h := &ex.head; asksProxy(h) && isWebSocket(h) {
		return reason.Newf(reason.Malformed, "malformed request: it has an X-WhSentry-… field beside Upgrade: websocket, which is passed on unseen")
	}
	if ex.tls && ex.address.Port() == 80 {
		ex.address.SetPort(443)
	}
	return ex.checkConnectPort()
}

// matchesPlain reports whether a names the CONNECT's host: with its port, without one, or with 443, as who asks for TLS
// may write.
func (w *interception) matchesPlain(a *http1.Authority) bool {
	if !w.address.HasHost(a) {
		return false
	}
	return a.Port <= 0 || a.Port == int(w.address.Port()) || a.Port == 443
}

// opened is the connection that was made at CONNECT, for the first request inside.
type opened struct {
	conn   *upstream.Conn // nil: there is none any more
	phases [metrics.Phases]time.Duration
}

// takeOpened returns the connection made at CONNECT where this request can have it, and nil otherwise.
func (ex *exchange) takeOpened(r upstream.Route) *upstream.Conn {
	within := ex.client.within
	if within == nil || within.opened.conn == nil {
		return nil
	}
	u := within.opened.conn
	if u.Route() != r {
		ex.client.restOpened()
		return nil
	}
	within.opened.conn = nil
	if !u.IsFit(ex.at) || (*judge)(ex).Check(u.Remote()) != nil {
		ex.client.proxy.pool.Discard(u, upstream.CloseDestination)
		return nil
	}
	ex.phases = within.opened.phases
	return u
}

// restOpened lays the connection made at CONNECT to rest, which the first request had no use for.
func (c *client) restOpened() {
	if c.within == nil || c.within.opened.conn == nil {
		return
	}
	u := c.within.opened.conn
	c.within.opened.conn = nil
	at := socket.Now()
	if !u.IsFit(at) {
		c.proxy.pool.Discard(u, upstream.CloseDestination)
		return
	}
	c.proxy.pool.Put(u, at, socket.Never)
}

// dropOpened closes the connection made at CONNECT, which nobody has come to use.
func (c *client) dropOpened() {
	if c.within == nil || c.within.opened.conn == nil {
		return
	}
	c.proxy.pool.Discard(c.within.opened.conn, upstream.CloseTunnel)
	c.within.opened.conn = nil
}
