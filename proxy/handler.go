package proxy

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"whsentry/proxy/http1"
)

// handle carries out the request that has begun to arrive: it reads it, decides where it goes, forwards it, and ends
// in finish, whatever happened. It reports whether the client's connection goes on.
func (c *client) handle(ex *exchange) (goesOn bool) {
	if ex.client == nil {
		ex.begin(c)
	}
	defer func() {
		if r := recover(); r != nil {
			c.proxy.log().Error().Str("client", c.addr).Str("panic", fmt.Sprint(r)).Bytes("stack", debug.Stack()).Msg("a bug ended a request")
			f := failf(reasonInternal, "internal error")
			f.fatal = true
			goesOn = ex.finish(f)
		}
	}()
	f := ex.readHead()
	if f == nil {
		f = ex.route()
	}
	if c.overload && (f == nil || !f.fatal) {
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
func (ex *exchange) readHead() *failure {
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
			if ex.gate.IsAtStart(ex.in.unused()) {
				return clientGone() // empty lines are no request: the client rested
			}
			ex.noteRequestLine()
			return asFailure(err)
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
	buf := ex.in.unused()
	n, err := ex.gate.Scan(buf)
	if err != nil {
		if reject := ex.noteRequestLine(); reject != nil {
			err = reject
		}
	} else if n > 0 {
		err = ex.head.Scan(buf[ex.gate.Blank():n], ex.run.idHeader)
		ex.in.skip(n)
	}
	ex.headDone, ex.headFailure = n > 0 || err != nil, messageFailure(err)
	return ex.headDone
}

// noteRequestLine notes what is known of a request whose head is not there in full, or refused.
func (ex *exchange) noteRequestLine() error {
	line := ex.gate.RequestLine(ex.in.unused())
	if line == nil {
		return nil
	}
	return ex.head.ScanRequestLine(line)
}

// isWhole reports whether the request that has begun is there in full, so that nothing more has to be read to carry it
// out.
func (ex *exchange) isWhole() bool {
	h := &ex.head
	return ex.scanHead() && ex.headFailure == nil && !h.Chunked && h.ContentLength <= int64(ex.in.len()) &&
		string(ex.method()) != "CONNECT"
}

// route finds where the request goes, and refuses what can be refused without a look at the name: 1002, 1003, 1015,
// 1013 and 1010, in this order.
func (ex *exchange) route() *failure {
	h := &ex.head
	ex.keep = h.KeepsAlive() && !ex.client.final
	if within := ex.client.within; within != nil {
		return ex.routeWithin(within)
	}
	if string(ex.method()) == "CONNECT" {
		ex.connect = true
		return ex.routeConnect()
	}
	t, err := http1.ParseTarget(h.Target)
	f := messageFailure(err)
	if f == nil || f.reason == reasonScheme {
		if reject := h.CheckHost(); reject != nil {
			f = messageFailure(reject)
		}
	}
	if f != nil {
		return f
	}
	ex.authority, ex.path = t.Authority.Raw, t.Path
	ex.tls = t.HTTPS || h.TLS
	ex.address.set(&t.Authority, ex.tls)
	if err := ex.run.guard.CheckPort(ex.address.port); err != nil {
		return connectFailure(err, "", 0)
	}
	return ex.chooseCertificate()
}

// chooseCertificate finds the client certificate that the request asks for, which matters over TLS only.
func (ex *exchange) chooseCertificate() *failure {
	h := &ex.head
	if !ex.tls && !ex.connect || h.Aliases == 0 && ex.alias == "" {
		return nil
	}
	if h.Aliases > 0 {
		ex.alias = string(h.Alias.Of(h.Raw))
	}
	if h.Aliases > 1 {
		return failf(reasonUnknownAlias, "more than one X-WhSentry-ClientCert")
	}
	if !ex.run.ca.HasAlias(ex.alias) {
		return failf(reasonUnknownAlias, "no client certificate with the alias %q is configured", ex.alias)
	}
	return nil
}

// routeConnect is route for CONNECT.
func (ex *exchange) routeConnect() *failure {
	h := &ex.head
	if h.Chunked || h.ContentLength > 0 {
		return malformedf("it is a CONNECT with a body")
	}
	a, err := http1.ParseConnectTarget(h.Target)
	if err == nil {
		err = h.CheckHost()
	}
	if err != nil {
		return messageFailure(err)
	}
	ex.authority = a.Raw
	ex.address.set(&a, false)
	cfg := ex.run.cfg
	if cfg.ConnectMode == ConnectDeny {
		return failf(reasonConnect, "CONNECT is not allowed")
	}
	if len(cfg.ConnectPorts) > 0 && !slices.Contains(cfg.ConnectPorts, ex.address.port) {
		f := failf(reasonConnect, "CONNECT to port %d is not allowed", ex.address.port)
		f.status = 403
		return f
	}
	if err := ex.run.guard.CheckPort(ex.address.port); err != nil {
		return connectFailure(err, "", 0)
	}
	if cfg.ConnectMode == ConnectMITM {
		return ex.chooseCertificate()
	}
	return nil
}

// overloaded is what the clients above maxConnections are told.
func (c *client) overloaded() *failure {
	f := failf(reasonTooMany, "too many connections to the proxy")
	f.fatal = true
	return f
}

// readBody reads the body in full, so that a slow client never holds a destination's connection. A request that is
// refused already has its body read too, for only then is it known where the next one begins; but a client that
// waits for a 100 gets its refusal in place of it.
func (ex *exchange) readBody(refused *failure) *failure {
	h := &ex.head
	if refused != nil && refused.fatal || !h.Chunked && h.ContentLength <= 0 {
		return refused
	}
	f := ex.reserveBody()
	if refused == nil && f == nil && ex.awaitsContinue() {
		refused = ex.judge()
		if refused == nil {
			f = asFailure(ex.client.write([]byte("HTTP/1.1 100 Continue\r\n\r\n")))
			h.Expect = false
		}
	}
	if refused != nil && (f != nil || ex.awaitsContinue()) {
		refused.fatal = true
		return refused
	}
	if f == nil {
		f = ex.takeBody()
	}
	if f != nil && refused != nil && f.status != statusClientGone && f.reason != reasonMalformed {
		refused.fatal = true
		return refused
	}
	if f != nil {
		f.fatal = true
		return f
	}
	return refused
}

// awaitsContinue reports whether the client waits for an interim answer before it sends the body (RFC 9110 section
// 10.1.1). One that has sent some of it does not.
func (ex *exchange) awaitsContinue() bool {
	return ex.head.Expect && !ex.head.HTTP10 && ex.in.len() == 0
}

// judge looks the destination up and judges it, without contacting it.
func (ex *exchange) judge() *failure {
	limit := ex.run.cfg.ConnectTimeout
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ex.beginWait(nil, cancel)
	defer ex.endWait()
	err := ex.run.dialer.Judge(ctx, ex.address.name(), ex.address.port)
	ex.at = now()
	if err != nil {
		return connectFailure(err, ex.address.name(), limit)
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
func (ex *exchange) finish(f *failure) bool {
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
func (ex *exchange) lingers(f *failure) bool {
	switch {
	case f == nil:
		return !ex.connect && (ex.in.len() > 0 || ex.client.hasInput())
	case ex.begun || f.status == statusClientGone:
		return false
	}
	return f.fatal || ex.client.hasInput()
}

// fail answers the client for the destination, unless the destination's answer has begun: then it is cut.
func (ex *exchange) fail(f *failure) {
	c := ex.client
	if f.status == statusClientGone && !ex.begun && ex.head.Method == nil && ex.gate.IsAtStart(ex.in.unused()) {
		return // it sent nothing
	}
	ex.reason, ex.reasonText = f.reason, f.text
	if ex.connect && ex.in.len() > 0 {
		f.fatal = true // what has come was meant for the tunnel, and must not be taken for a request
	}
	ex.keep = ex.keep && !f.fatal && !ex.begun && !c.proxy.stopping.Load()
	if ex.begun {
		if f.status == statusClientGone {
			ex.status, ex.reason = statusClientGone, reasonNone
		}
		return
	}
	ex.status = f.status
	if f.status == statusClientGone {
		return
	}
	connection := ""
	if !ex.keep {
		connection = "close"
	} else if ex.head.HTTP10 {
		connection = "keep-alive"
	}
	answer, body := appendAnswer(ex.out[:0], f, time.Now(), string(ex.method()), connection)
	ex.out = answer
	if c.write(answer) != nil {
		ex.keep = false
		ex.status, ex.reason = statusClientGone, reasonNone
		return
	}
	ex.responseBytes = int64(body)
}

// record counts and logs the exchange.
func (ex *exchange) record() {
	at := time.Now()
	ex.at = int64(at.Sub(epoch))
	took := time.Duration(ex.at - ex.start)
	m := ex.client.proxy.metrics
	m.countRequest(ex.status, ex.reason, took)
	for i, d := range ex.phases {
		if d >= 0 {
			m.phases[i].Update(d.Seconds())
		}
	}
	m.requestBytes.AddInt64(ex.requestBytes)
	m.responseBytes.AddInt64(ex.responseBytes)
	ex.client.proxy.access.Load().log(ex, at, took)
}

// asFailure returns the failure that err is, or holds; any other error is the client's connection's, which failed.
func asFailure(err error) *failure {
	if err == nil {
		return nil
	}
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return clientGone()
}
