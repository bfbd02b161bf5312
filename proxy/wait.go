package proxy

import (
	"whsentry/proxy/downstream"
	"whsentry/proxy/socket"
	"whsentry/proxy/upstream"
)

// beginWait marks the client as one that waits for a destination: its going away ends up and pending, either of which may
// be nil. endWait ends that.
func (ex *exchange) beginWait(up *upstream.Conn, pending *socket.Context) {
	c := ex.client
	c.Unlimited()
	if !c.attach(up, pending) {
		c.end()
	}
	c.Enter(downstream.Waiting)
}

func (ex *exchange) endWait() {
	ex.client.Enter(downstream.Busy)
	ex.client.attach(nil, nil)
}

// beginMaking is beginWait for a step on the way to a connection, which has connectTimeout: looking the name up and
// connecting, or the handshake on up. endMaking ends it.
func (ex *exchange) beginMaking(up *upstream.Conn) *socket.Context {
	ctx := socket.NewContext(ex.terms.ConnectTimeout)
	ex.beginWait(up, ctx)
	return ctx
}

func (ex *exchange) endMaking(ctx *socket.Context) {
	ex.endWait()
	ctx.Cancel()
}

// attach notes what the client's going away, its deadline, or the proxy's stopping would end. It reports false where that
// is the case already: then it is to be ended at once, by end.
func (c *client) attach(up *upstream.Conn, pending *socket.Context) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.up, c.pending = up, pending
	return !c.gone && !c.overdue && !c.dropped
}

// End ends what is being done for a client that is gone, or that a stopping proxy waits for no longer.
func (c *client) End(why downstream.Ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = c.gone || why == downstream.Gone
	c.dropped = c.dropped || why == downstream.Dropped
	c.endLocked()
}

// end ends what is being done for a client, which attach has refused.
func (c *client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked()
}

func (c *client) endLocked() {
	why := upstream.CloseClient
	switch {
	case c.gone:
	case c.dropped:
		why = upstream.CloseShutdown
	case c.overdue:
		why = upstream.CloseDeadline
	}
	if c.up != nil {
		c.up.Kill(why)
	}
	if c.pending != nil {
		c.pending.Cancel()
	}
}

// Expire ends the making of a connection whose time is up.
func (c *client) Expire(at socket.Tick) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending != nil {
		c.pending.Expire(at)
	}
}
