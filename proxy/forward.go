package proxy

import (
	"whsentry/ca"
	"whsentry/proxy/http1"
	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"
	"whsentry/proxy/upstream"
)

// forward sends the request to its destination and passes the answer on.
func (ex *exchange) forward() *reason.Failure {
	f := ex.exchangeHeads()
	if f != nil {
		return f
	}
	return ex.passBody()
}

// exchangeHeads sends the request and reads the answer's head. Where a pooled connection turns out to be dead, the
// request goes out once more on a new one, if that cannot make it happen twice.
func (ex *exchange) exchangeHeads() *reason.Failure {
	var place *upstream.Destination
	for retried := false; ; {
		if f := ex.acquire(place, retried); f != nil {
			return f
		}
		ex.beginWait(ex.held, nil)
		err := ex.ask()
		if err == upstream.ErrStale {
			ex.endWait()
			place = ex.leave()
			continue
		}
		if ex.reused {
			ex.client.proxy.metrics.UpstreamsReused.Inc()
		}
		f := ex.askFailure(err)
		if f == nil || ex.call.Sent() || !ex.reused {
			// After a write that failed, the destination's answer may be there all the same.
			if early := ex.receiveHead(); early == nil || f == nil || early.Code == reason.Handshake {
				f = early
			}
		}
		ex.endWait()
		ex.phases[metrics.FirstByte] = ex.call.FirstByte()
		if f == nil {
			return nil
		}
		f = ex.upstreamFailure(f)
		again := !retried && f.Code != reason.Handshake && ex.repeatable()
		ex.drop(upstream.CloseError)
		if !again {
			return f
		}
		place, retried = nil, true
	}
}

// ask sends the request and waits for the first bytes of the answer. The memory that it was written from is no longer
// held while it waits.
func (ex *exchange) ask() error {
	ex.lendOut()
	ex.resp.Reset()
	ex.interims, ex.call.At = 0, ex.at
	err := ex.call.Ask(ex.held, ex.reused, ex.appendRequestHead(ex.call.Memory(), len(ex.body.Bytes)), ex.body.Bytes)
	ex.at = ex.call.At
	ex.written = ex.written || ex.call.Sent()
	return err
}

// askFailure is the end of a request that the destination did not take.
func (ex *exchange) askFailure(err error) *reason.Failure {
	if err == nil {
		return nil
	}
	return ex.closedUnanswered()
}

// repeatable reports whether the request may be sent again on a new connection: the old one had been at rest and
// was closed by the destination, which sent nothing; and either the request has not left, or it is one that may
// arrive twice (RFC 9110 section 9.2.2).
func (ex *exchange) repeatable() bool {
	if !ex.reused || ex.held.Killed() != upstream.CloseNone || ex.call.In.Len() > 0 || ex.resp.Status != 0 || ex.interims > 0 {
		return false
	}
	return !ex.call.Sent() || ex.isIdempotent()
}

// isIdempotent reports whether the request may arrive twice.
func (ex *exchange) isIdempotent() bool {
	switch string(ex.method()) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// receiveHead reads the final response's head; interim ones are passed on, as the client's version allows.
func (ex *exchange) receiveHead() *reason.Failure {
	limit, in := int(ex.run.cfg.MaxHeaderSize), &ex.call.In
	for {
		n, err := ex.resp.Scan(in.Unused())
		if err != nil {
			return reason.OfMessage(err)
		}
		if ex.headSize(n) > limit {
			return reason.LargeResponseHeadf("response head larger than %d bytes", limit)
		}
		if n > 0 {
			if ex.run.cfg.Answers.Envoy() { // they say whose fault an answer is: the proxy's own to give
				ex.resp.Drop(reason.EnvoyFlags, reason.EnvoyDetails)
			}
			if !ex.resp.Interim() {
				in.Skip(n)
				ex.until = upstream.KeptUntil(ex.at, ex.resp.KeepAliveTimeout)
				return nil
			}
			if f := ex.passInterim(n); f != nil {
				return f
			}
			continue
		}
		err = ex.call.More()
		ex.at = ex.call.At
		if err != nil {
			return ex.noAnswer(err)
		}
	}
}

// headSize is how much of maxHeaderSize is used up by a head of n bytes, or, where n is 0, by one that has not ended
// yet. Interim responses count together.
func (ex *exchange) headSize(n int) int {
	if n == 0 {
		n = ex.call.In.Len() + 1
	}
	if ex.resp.Status > 0 && ex.resp.Interim() {
		n += ex.interims
	}
	return n
}

// passInterim passes a 1xx response on to a client that knows of them (RFC 9110 section 15.2). 100 is the proxy's
// own to give, for it has read the body already.
func (ex *exchange) passInterim(n int) *reason.Failure {
	ex.interims += n
	if ex.resp.Status != 100 && !ex.head.HTTP10 {
		ex.held.Pause() // while the client takes it
		ex.out = ex.appendResponseHead(ex.borrowOut(), &ex.resp, http1.NoBody, 0)
		if err := ex.client.Send(ex.out); err != nil {
			return reason.ClientGone()
		}
		ex.at = socket.Now()
		ex.held.Expect(ex.at)
	}
	ex.call.In.Skip(n)
	ex.call.In.Restart()
	untidy := ex.resp.Untidy
	ex.resp.Reset()
	ex.resp.Untidy = untidy // it is about the connection too
	return nil
}

// noAnswer is the end of a connection before the response's head. A TLS 1.3 server says only now that it wants a
// client certificate, or refuses the one that it got: for the client the handshake was over before (RFC 8446 section
// 4.4.2.4). One of TLS 1.2 may ask for another handshake, at whichever request.
func (ex *exchange) noAnswer(err error) *reason.Failure {
	if ca.IsRenegotiation(err) {
		return ex.handshakeFailure(err)
	}
	if ex.held.TLSVersion() != 0 && !ex.reused && ex.call.In.Len() == 0 && ca.IsAlert(err) {
		return ex.handshakeFailure(err)
	}
	return ex.closedUnanswered()
}

func (ex *exchange) closedUnanswered() *reason.Failure {
	return reason.Terminatedf("%s closed the connection before it answered", ex.held.Remote())
}

// upstreamFailure is f, or what the failure of the connection really was: the sweeper or the client's leaving has
// ended it.
func (ex *exchange) upstreamFailure(f *reason.Failure) *reason.Failure {
	limits := ex.held.Limits()
	switch ex.held.Killed() {
	case upstream.CloseIdle:
		return reason.Newf(reason.Timeout, "timed out: %s was idle for %s", ex.held.Remote(), limits.Idle).Over(ex.terms.Keys.ReadTimeout)
	case upstream.CloseLifetime:
		return reason.Newf(reason.Timeout, "timed out: the connection to %s reached its lifetime of %s", ex.held.Remote(), limits.Lifetime).Over(ex.terms.Keys.Lifetime)
	case upstream.CloseDeadline:
		return reason.CallerDeadline(ex.timeout)
	case upstream.CloseClient:
		return reason.ClientGone()
	case upstream.CloseShutdown:
		return reason.Stopping()
	}
	return f
}

// borrowOut returns memory for what is sent to the client, empty; lendOut gives it to others while nothing is.
func (ex *exchange) borrowOut() []byte {
	if ex.out == nil {
		ex.outBox = outs.Get().(*[]byte)
		ex.out = *ex.outBox
	}
	return ex.out[:0]
}

func (ex *exchange) lendOut() {
	if ex.outBox == nil {
		ex.out = nil
		return
	}
	if cap(ex.out) <= socket.BufferKept {
		*ex.outBox = ex.out[:0]
	}
	outs.Put(ex.outBox)
	ex.out, ex.outBox = nil, nil
}
