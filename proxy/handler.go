package proxy

import (
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"whsentry/policy"
	"whsentry/proxy/destination"
	"whsentry/proxy/downstream"
	"whsentry/proxy/http1"
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"
	"whsentry/proxy/upstream"
)

// carryOut reads the request, decides where it goes, forwards it and answers it. It reports whether the client's
// connection goes on.
func (ex *exchange) carryOut(unparsed []byte) (goesOn bool) {
	c := ex.client
	c.proxy.metrics.InFlight.Add(1)
	defer c.proxy.metrics.InFlight.Add(-1)
	defer func() {
		if r := recover(); r != nil {
			c.proxy.log().Error().Str("client", c.Addr).Str("panic", fmt.Sprint(r)).Bytes("stack", debug.Stack()).Msg("a bug ended a request")
			f := reason.Newf(reason.Internal, "internal error")
			f.Fatal = true
			goesOn = ex.finish(f)
		}
	}()
	f := ex.scan(unparsed)
	if f == nil {
		f = ex.identify()
	}
	if f == nil && !ex.isCheck() {
		f = ex.route()
	}
	if c.IsExcess() && (f == nil || !f.Fatal) {
		f = overloaded()
	}
	if ex.isCheck() {
		return ex.finish(ex.check(f))
	}
	if ex.connect && f == nil {
		ex.beginDeadline()
	}
	if ex.connect && ex.run.cfg.ConnectMode == ConnectMITM {
		return ex.finish(ex.intercept(f))
	}
	if ex.connect {
		return ex.finish(ex.tunnel(f))
	}
	f = ex.readBody(f)
	if f == nil {
		ex.beginDeadline()
		f = ex.forward()
	}
	return ex.finish(f)
}

// scan makes the one strict pass over the fields, as they were sent; what fasthttp has made of them is not looked at. Of a
// head that it has not parsed all is scanned.
func (ex *exchange) scan(unparsed []byte) *reason.Failure {
	h := &ex.head
	var err error
	if unparsed != nil {
		err = h.Scan(unparsed, ex.run.idHeader)
	} else {
		err = h.ScanFields(h.Raw, ex.run.idHeader)
	}
	if err != nil {
		return reason.OfMessage(err)
	}
	within := ex.client.within
	ex.keep = h.KeepsAlive() && !ex.client.IsLast() && !ex.client.LacksCertificate() && (within == nil || within.isCurrent(ex.client.proxy))
	ex.connect = within == nil && string(ex.method()) == "CONNECT"
	if ex.connect && (h.Chunked || h.ContentLength > 0) {
		return reason.Malformedf("it is a CONNECT with a body")
	}
	return nil
}

// route finds where the request goes, and refuses what can be refused without a look at the name: 1002, 1003, 1015,
// 1013, 1019 and 1010, in this order.
func (ex *exchange) route() *reason.Failure {
	h := &ex.head
	if f := ex.noteDeadline(); f != nil {
		return f
	}
	if within := ex.client.within; within != nil {
		return ex.routeWithin(within)
	}
	if ex.connect {
		return ex.routeConnect()
	}
	return ex.aimAt(h.Target)
}

// aimAt makes an absolute URI what the request is for, where it may be. 1002 comes before 1003.
func (ex *exchange) aimAt(uri []byte) *reason.Failure {
	t, err := http1.ParseTarget(uri)
	ex.tls = t.HTTPS || ex.head.TLS
	f := reason.OfMessage(err)
	if f == nil || f.Code == reason.Scheme {
		if reject := ex.head.CheckHost(); reject != nil {
			f = reason.OfMessage(reject)
		} else if reject := ex.checkAsks(); reject != nil {
			f = reject
		}
	}
	if f != nil {
		return f
	}
	return ex.aim(&t)
}

// aim makes t what the request is for, where it may be.
func (ex *exchange) aim(t *http1.Target) *reason.Failure {
	ex.authority, ex.path = t.Authority.Raw, t.Path
	ex.address.Set(&t.Authority, ex.tls)
	if ex.tls && !t.HTTPS && ex.address.Port() == destination.DefaultPort(false) { // some clients write it out
		ex.address.SetPort(destination.DefaultPort(true))
	}
	if err := ex.run.guard.CheckPort(ex.address.Port()); err != nil {
		return reason.OfConnect(err, "", 0)
	}
	return ex.obeyRules()
}

// methodsServed are the methods that requests mostly have, for the answer to a CONNECT that is not allowed; others are
// forwarded too.
const methodsServed = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// routeConnect is route for CONNECT.
func (ex *exchange) routeConnect() *reason.Failure {
	a, err := http1.ParseConnectTarget(ex.head.Target)
	if err == nil {
		err = ex.head.CheckHost()
	}
	if err != nil {
		return reason.OfMessage(err)
	}
	ex.authority = a.Raw
	ex.address.Set(&a, false)
	if f := ex.checkAsks(); f != nil {
		return f
	}
	cfg := ex.run.cfg
	if cfg.ConnectMode == ConnectDeny {
		f := reason.Newf(reason.Connect, "CONNECT is not allowed")
		f.Allow = methodsServed
		return f
	}
	if f := ex.checkConnectPort(); f != nil {
		return f
	}
	if err := ex.run.guard.CheckPort(ex.address.Port()); err != nil {
		return reason.OfConnect(err, "", 0)
	}
	return ex.obeyRules()
}

// checkConnectPort refuses a port that CONNECT may not reach.
func (ex *exchange) checkConnectPort() *reason.Failure {
	port, allowed := ex.address.Port(), ex.run.cfg.ConnectPorts
	if len(allowed) > 0 && !slices.Contains(allowed, port) {
		f := reason.Newf(reason.Connect, "CONNECT to port %d is not allowed", port)
		f.Status = 403
		return f
	}
	return nil
}

// readBody reads the body in full, so that a slow client never holds a destination's connection. A request that is
// refused already has its body read too, for only then is it known where the next one begins; but a client that
// waits for a 100 gets its refusal in place of it.
func (ex *exchange) readBody(refused *reason.Failure) *reason.Failure {
	h := &ex.head
	if refused != nil && refused.Fatal || !h.Chunked && h.ContentLength <= 0 {
		return refused
	}
	l := ex.bodyLimits()
	f := l.Check(h.ContentLength)
	if refused == nil && f == nil && ex.awaitsContinue() {
		refused = ex.judgeAhead()
		if refused == nil {
			f = ex.bidContinue()
		}
	}
	if refused != nil && (f != nil || ex.awaitsContinue()) {
		refused.Fatal = true
		return refused
	}
	b := &ex.body
	b.At = ex.at
	if f == nil && refused != nil {
		f = b.Skip(&ex.client.Conn, h.Chunked, h.ContentLength, &l, ex.sender != nil)
	} else if f == nil {
		f = b.Take(&ex.client.Conn, h.Chunked, h.ContentLength, &l)
	}
	ex.at = b.At
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

// bodyLimits are those of the request's body.
func (ex *exchange) bodyLimits() downstream.BodyLimits {
	cfg := ex.run.cfg
	return downstream.BodyLimits{
		Budget: &ex.client.proxy.buffered, Size: cfg.MaxRequestBodySize, TrailerSize: cfg.MaxHeaderSize, Pause: cfg.ClientTimeout,
	}
}

// forgetBody gives the body's memory back where the request, which has been sent, cannot be sent again: a webhook spends
// its life waiting for an answer.
func (ex *exchange) forgetBody() {
	if !ex.reused || !ex.isIdempotent() {
		ex.body.Drop()
	}
}

// awaitsContinue reports whether the client waits for an interim answer before it sends the body (RFC 9110 section
// 10.1.1). One that has sent some of it does not.
func (ex *exchange) awaitsContinue() bool {
	return ex.head.Expect && !ex.head.HTTP10 && ex.client.In.Len() == 0
}

// bidContinue gives the client that interim answer.
func (ex *exchange) bidContinue() *reason.Failure {
	ex.head.Expect = false
	return reason.Of(ex.client.Send([]byte("HTTP/1.1 100 Continue\r\n\r\n")))
}

// judge looks the destination up and judges it, without contacting it.
func (ex *exchange) judge() *reason.Failure {
	ctx := ex.beginMaking(nil)
	defer ex.endMaking(ctx)
	err := ex.dialer().Judge(ctx, ex.address.Name(), ex.address.Port())
	ex.at = socket.Now()
	if err != nil {
		return ex.connectFailure(err)
	}
	return nil
}

// finish is the one end of every exchange: what the client is still to be told, then the metrics, then the log.
// It reports whether the client's connection goes on.
func (ex *exchange) finish(f *reason.Failure) bool {
	c := ex.client
	c.Enter(downstream.Busy)
	if f != nil {
		ex.fail(f)
	}
	if ex.held != nil { // a bug got in the way
		c.proxy.pool.Discard(ex.held, upstream.CloseError)
		ex.held = nil
	}
	c.proxy.buffered.Give(&ex.body.Held)
	ex.endDeadline()
	c.place.leave()
	ex.tellBreaker(policy.Neutral)
	if !ex.connect {
		c.restOpened()
	}
	if ex.status != 0 {
		r := ex.record()
		c.proxy.noteRefusal(ex, r, f)
		r.Release()
	}
	goesOn := ex.keep && c.MayGoOn()
	c.SettleInput()
	c.Lingers = !goesOn && (c.Lingers || ex.lingers(f))
	return goesOn
}

// lingers reports whether the connection, which is to be closed, has input that is not read: closing it at once would
// reset it, and the answer with it.
func (ex *exchange) lingers(f *reason.Failure) bool {
	switch {
	case f == nil:
		return !ex.connect && (ex.client.In.Len() > 0 || ex.client.HasBytes())
	case ex.begun || f.Status == reason.StatusClientGone:
		return false
	}
	return f.Fatal || ex.client.HasBytes()
}

// fail answers the client for the destination, unless the destination's answer has begun: then it is cut.
func (ex *exchange) fail(f *reason.Failure) {
	c := ex.client
	if f.Status == reason.StatusClientGone && !ex.begun && ex.head.Method == nil && ex.client.In.Len() == 0 {
		return // it sent nothing
	}
	f.Happened(ex.written, ex.resp.Received)
	ex.failed, ex.reason = f, f.Code
	if ex.connect && ex.client.In.Len() > 0 {
		f.Fatal = true // what has come was meant for the tunnel, and must not be taken for a request
	}
	ex.keep = ex.keep && !f.Fatal && !ex.begun && !c.proxy.clients.Stopping()
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
	c.place.offer()
	answer, body := ex.run.cfg.Answers.AppendAnswer(ex.borrowOut(), f, time.Now(), string(ex.method()), ex.connectionOption())
	ex.out = answer
	if c.Send(answer) != nil {
		ex.keep = false
		ex.status, ex.reason = reason.StatusClientGone, reason.None
		return
	}
	ex.responseBytes = int64(body)
}

// connectionOption is the value of the Connection field of an answer; "": it needs none.
func (ex *exchange) connectionOption() string {
	if !ex.keep {
		return "close"
	}
	if ex.head.HTTP10 {
		return "keep-alive"
	}
	return ""
}
