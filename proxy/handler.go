package proxy

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"whsentry/proxy/reason"
)

// handle carries out the request that has begun to arrive: it reads it, decides where it goes, forwards it, and ends
// in finish, whatever happened. It reports whether the client's connection goes on.
func (c *client) handle(ex *exchange) (goesOn bool) {
	if ex.client == nil {
		ex.begin(c)
	}
	c.proxy.metrics.InFlight.Add(1)
	defer c.proxy.metrics.InFlight.Add(-1)
	defer func() {
		if r := recover(); r != nil {
			c.proxy.log().Error().Str("client", c.addr).Str("panic", fmt.Sprint(r)).Bytes("stack", debug.Stack()).Msg("a bug ended a request")
			f := reason.Newf(reason.Internal, "internal error")
			f.Fatal = true
			goesOn = ex.finish(f)
		}
	}()
	f := ex.readHead()
	if f == nil {
		f = ex.route()
	}
	if c.overload && (f == nil || !f.Fatal) {
		f = c.overloaded()
	}
	if ex.connect && ex.run.cfg.ConnectMode == ConnectMITM {
		return ex.finish(ex.intercept(f))
	}
	if ex.connect {
		return ex.finish(ex.tunnel(f))
	}
	f = ex.readBody(f)
	if f == nil {
		f = ex.forward()
	}
	return ex.finish(f)
}

// readHead reads and scans the head, for which the client has clientTimeout from its first byte on.
func (ex *exchange) readHead() *reason.Failure {
	if ex.headDone {
		return ex.headFailure
	}
	c := ex.client
	c.limitFrom(ex.start, ex.run.cfg.ClientTimeout)
	ex.in.restart()
	for !ex.scanHead() {
		if len(ex.in.free()) == 0 {
			ex.in.grow(2 * ex.in.len())
		}
		if err := c.fill(ex); err != nil {
			if !ex.head.hasRequestLine() && ex.head.line == ex.in.len() {
				ex.head.raw = nil // empty lines are no request: the client rested
				return reason.ClientGone()
			}
			return reason.Of(err)
		}
	}
	return ex.headFailure
}

// scanHead scans what is there of the head. It reports whether that is the end of it: the head is there in full, or
// refused, as headFailure says.
func (ex *exchange) scanHead() (done bool) {
	if ex.headDone {
		return true
	}
	limit := int(ex.run.cfg.MaxHeaderSize)
	n, f := ex.head.scan(ex.in.unused(), ex.run.idHeader)
	if blank := ex.head.blank; f == nil && (n-blank > limit || n == 0 && ex.in.len()-blank >= limit || blank > limit) {
		f = reason.LargeHeadf("request head larger than %d bytes", limit)
	}
	if f == nil {
		ex.in.skip(n)
	}
	ex.headDone, ex.headFailure = n > 0 || f != nil, f
	return ex.headDone
}

// isWhole reports whether the request that has begun is there in full, so that nothing more has to be read to carry it
// out.
func (ex *exchange) isWhole() bool {
	h := &ex.head
	return ex.scanHead() && ex.headFailure == nil && !h.chunked && h.contentLength <= int64(ex.in.len()) &&
		string(ex.method()) != "CONNECT"
}

// route finds where the request goes, and refuses what can be refused without a look at the name: 1002, 1003, 1015,
// 1013 and 1010, in this order.
func (ex *exchange) route() *reason.Failure {
	h := &ex.head
	ex.keep = h.keepsAlive() && !ex.client.final
	if within := ex.client.within; within != nil {
		return ex.routeWithin(within)
	}
	if string(ex.method()) == "CONNECT" {
		ex.connect = true
		return ex.routeConnect()
	}
	t, f := parseTarget(h.target.of(h.raw))
	if f == nil || f.Code == reason.Scheme {
		if reject := h.checkHost(); reject != nil {
			f = reject
		}
	}
	if f != nil {
		return f
	}
	ex.authority, ex.path = t.authority.raw, t.path
	ex.tls = t.https || h.tls
	ex.address.set(&t.authority, ex.tls)
	if err := ex.run.guard.CheckPort(ex.address.port); err != nil {
		return reason.OfConnect(err, "", 0)
	}
	return ex.chooseCertificate()
}

// chooseCertificate finds the client certificate that the request asks for, which matters over TLS only.
func (ex *exchange) chooseCertificate() *reason.Failure {
	h := &ex.head
	if !ex.tls && !ex.connect || h.aliases == 0 && ex.alias == "" {
		return nil
	}
	if h.aliases > 0 {
		ex.alias = string(h.alias.of(h.raw))
	}
	if h.aliases > 1 {
		return reason.Newf(reason.UnknownAlias, "more than one X-WhSentry-ClientCert")
	}
	if !ex.run.ca.HasAlias(ex.alias) {
		return reason.Newf(reason.UnknownAlias, "no client certificate with the alias %q is configured", ex.alias)
	}
	return nil
}

// routeConnect is route for CONNECT.
func (ex *exchange) routeConnect() *reason.Failure {
	h := &ex.head
	if h.chunked || h.contentLength > 0 {
		return reason.Malformedf("it is a CONNECT with a body")
	}
	a, f := connectAuthority(h.target.of(h.raw))
	if f == nil {
		f = h.checkHost()
	}
	if f != nil {
		return f
	}
	ex.authority = a.raw
	ex.address.set(&a, false)
	cfg := ex.run.cfg
	if cfg.ConnectMode == ConnectDeny {
		return reason.Newf(reason.Connect, "CONNECT is not allowed")
	}
	if len(cfg.ConnectPorts) > 0 && !slices.Contains(cfg.ConnectPorts, ex.address.port) {
		f := reason.Newf(reason.Connect, "CONNECT to port %d is not allowed", ex.address.port)
		f.Status = 403
		return f
	}
	if err := ex.run.guard.CheckPort(ex.address.port); err != nil {
		return reason.OfConnect(err, "", 0)
	}
	if cfg.ConnectMode == ConnectMITM {
		return ex.chooseCertificate()
	}
	return nil
}

// overloaded is what the clients above maxConnections are told.
func (c *client) overloaded() *reason.Failure {
	f := reason.Newf(reason.TooMany, "too many connections to the proxy").Over(reason.LimitMaxConnections)
	f.Fatal = true
	return f
}

// readBody reads the body in full, so that a slow client never holds a destination's connection. A request that is
// refused already has its body read too, for only then is it known where the next one begins; but a client that
// waits for a 100 gets its refusal in place of it.
func (ex *exchange) readBody(refused *reason.Failure) *reason.Failure {
	h := &ex.head
	if refused != nil && refused.Fatal || !h.chunked && h.contentLength <= 0 {
		return refused
	}
	f := ex.reserveBody()
	if refused == nil && f == nil && ex.awaitsContinue() {
		refused = ex.judge()
		if refused == nil {
			f = reason.Of(ex.client.write([]byte("HTTP/1.1 100 Continue\r\n\r\n")))
			h.expect = false
		}
	}
	if refused != nil && (f != nil || ex.awaitsContinue()) {
		refused.Fatal = true
		return refused
	}
	if f == nil {
		f = ex.takeBody()
	}
	if f != nil && refused != nil && f.Status != reason.StatusClientGone && f.Code != reason.Malformed {
		refused.Fatal = true
		return refused
	}
	if f != nil {
		f.Fatal = true
		return f
	}
	return refused
}

// awaitsContinue reports whether the client waits for an interim answer before it sends the body (RFC 9110 section
// 10.1.1). One that has sent some of it does not.
func (ex *exchange) awaitsContinue() bool {
	return ex.head.expect && !ex.head.http10 && ex.in.len() == 0
}

// judge looks the destination up and judges it, without contacting it.
func (ex *exchange) judge() *reason.Failure {
	limit := ex.run.cfg.ConnectTimeout
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ex.beginWait(nil, cancel)
	defer ex.endWait()
	err := ex.run.dialer.Judge(ctx, ex.address.name(), ex.address.port)
	ex.at = now()
	if err != nil {
		return reason.OfConnect(err, ex.address.name(), limit)
	}
	return nil
}

// beginWait marks the client as one that waits for a destination: its going away ends up and cancels cancel, either
// of which may be nil. endWait ends that.
func (ex *exchange) beginWait(up *upstream, cancel context.CancelFunc) {
	c := ex.client
	c.unlimited()
	if !c.attach(up, cancel) {
		c.vanished()
	}
	c.enter(clientWaiting)
}

func (ex *exchange) endWait() {
	ex.client.enter(clientBusy)
	ex.client.attach(nil, nil)
}

// finish is the one end of every exchange: what the client is still to be told, then the metrics, then the log.
// It reports whether the client's connection goes on.
func (ex *exchange) finish(f *reason.Failure) bool {
	c := ex.client
	c.enter(clientBusy)
	if f != nil {
		ex.fail(f)
	}
	if ex.held != nil { // a bug got in the way
		c.proxy.pool.discard(ex.held, closeError)
		ex.held = nil
	}
	c.proxy.buffered.give(&ex.reserved)
	if ex.status != 0 {
		ex.record()
		c.proxy.noteRefusal(ex, f)
	}
	goesOn := ex.keep && !c.proxy.closing.Load()
	c.lingers = !goesOn && ex.lingers(f)
	ex.clear()
	return goesOn
}

// lingers reports whether the connection, which is to be closed, has input that is not read: closing it at once would
// reset it, and the answer with it.
func (ex *exchange) lingers(f *reason.Failure) bool {
	switch {
	case f == nil:
		return !ex.connect && (ex.in.len() > 0 || ex.client.hasInput())
	case ex.begun || f.Status == reason.StatusClientGone:
		return false
	}
	return f.Fatal || ex.client.hasInput()
}

// fail answers the client for the destination, unless the destination's answer has begun: then it is cut.
func (ex *exchange) fail(f *reason.Failure) {
	c := ex.client
	if f.Status == reason.StatusClientGone && !ex.begun && ex.head.raw == nil {
		return // it sent nothing
	}
	f.Happened(ex.written, ex.receivedStatus())
	ex.failed, ex.reason = f, f.Code
	if ex.connect && ex.in.len() > 0 {
		f.Fatal = true // what has come was meant for the tunnel, and must not be taken for a request
	}
	ex.keep = ex.keep && !f.Fatal && !ex.begun && !c.proxy.stopping.Load()
	if ex.begun {
		if f.Status == reason.StatusClientGone {
			ex.status, ex.reason = reason.StatusClientGone, reason.None
		}
		return
	}
	ex.status = f.Status
	if f.Status == reason.StatusClientGone {
		return
	}
	connection := ""
	if !ex.keep {
		connection = "close"
	} else if ex.head.http10 {
		connection = "keep-alive"
	}
	answer, body := ex.run.cfg.Answers.AppendAnswer(ex.out[:0], f, time.Now(), string(ex.method()), connection)
	ex.out = answer
	if c.write(answer) != nil {
		ex.keep = false
		ex.status, ex.reason = reason.StatusClientGone, reason.None
		return
	}
	ex.responseBytes = int64(body)
}
