package proxy

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"whsentry/ca"
	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
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
	var place *destination
	for retried := false; ; {
		if f := ex.acquire(place, retried); f != nil {
			return f
		}
		ex.beginWait(ex.held, nil)
		sent, f := ex.ask()
		if ex.stale {
			ex.endWait()
			place = ex.leave()
			continue
		}
		if f == nil || sent > 0 || !ex.reused {
			// After a write that failed, the destination's answer may be there all the same.
			if early := ex.receiveHead(); early == nil || f == nil || early.Code == reason.Handshake {
				f = early
			}
		}
		ex.endWait()
		if f == nil {
			return nil
		}
		f = ex.upstreamFailure(f)
		again := !retried && ex.repeatable(sent)
		ex.drop(closeError)
		if !again {
			return f
		}
		place, retried = nil, true
	}
}

// ask sends the request and waits for the first bytes of the answer; sent is how many bytes the system took.
//
// The sending of a small request is done from within the wait, so that the poller takes note of what comes from before
// the connection is looked at: nothing that comes can be missed, and there is no need to read before waiting, which
// finds nothing. That is for a connection which has been at rest; on a new one an answer may have come before the wait
// begins, or with the end of the TLS handshake. Of a large one, sending is a matter of looking for an answer now and then.
func (ex *exchange) ask() (sent int, f *reason.Failure) {
	ex.asked, ex.stale, ex.sent, ex.sendFailure = false, false, 0, nil
	if !ex.reused || len(ex.body) > copyLimit {
		ex.sendOnce()
		ex.at = now()
		ex.sentAt = ex.at
		return ex.sent, ex.sendFailure
	}
	err := ex.held.tcp.raw.Read(ex.askStep)
	if err != nil && !ex.asked {
		return 0, ex.writeFailure(err) // it has been closed
	}
	return ex.sent, ex.sendFailure
}

// sendOnce sends the request, unless the connection has been at rest and turns out to be stale.
func (ex *exchange) sendOnce() {
	ex.asked = true
	if ex.reused {
		if ex.stale = !ex.held.quiet(); ex.stale {
			return
		}
		ex.client.proxy.metrics.UpstreamsReused.Inc()
	}
	ex.sent, ex.sendFailure = ex.send()
	ex.written = ex.written || ex.sent > 0
}

// stepAsk is ask's callback, called at first and whenever something has come. What it finds to be an end is found
// again by who reads on. It takes no lock: who closes the connection waits for it, perhaps with one.
func (ex *exchange) stepAsk(fd uintptr) (done bool) {
	u := ex.held
	if !ex.asked {
		ex.sendOnce()
		return ex.stale || ex.sendFailure != nil
	}
	if u.wire != nil {
		return true
	}
	n, err := readSocket(fd, ex.up.free())
	ex.received(n)
	return err != syscall.EAGAIN
}

// repeatable reports whether the request may be sent again on a new connection: the old one had been at rest and
// was closed by the destination, which sent nothing; and either the request has not left, or it is one that may
// arrive twice (RFC 9110 section 9.2.2).
func (ex *exchange) repeatable(sent int) bool {
	u := ex.held
	if !ex.reused || u.killed.Load() != 0 || ex.up.len() > 0 || ex.resp.status != 0 || ex.interims > 0 {
		return false
	}
	if sent == 0 {
		return true
	}
	switch string(ex.method()) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// writePiece is how much of a large body is written before the destination's side is looked at: it may have
// answered already.
const writePiece = 64 * kiB

// send writes the head, and the body with it where that is not large; the rest of a large one is written while the
// answer is waited for. sent is how many bytes the system took.
func (ex *exchange) send() (sent int, f *reason.Failure) {
	head, body := ex.appendRequestHead(ex.out[:0], len(ex.body)), ex.body
	ex.resp.reset()
	ex.up.clear()
	ex.interims, ex.rest, ex.broken, ex.torn, ex.sentAt = 0, nil, false, false, ex.at
	if len(body) <= copyLimit {
		head, body = append(head, body...), nil
	}
	ex.out = head
	piece := body[:min(len(body), writePiece)]
	ex.rest = body[len(piece):]
	sent, err := ex.writeUpstream(head, piece)
	if wasInterrupted(err) && sent >= len(head) {
		ex.rest, err = body[sent-len(head):], nil
	}
	if err != nil {
		return sent, ex.writeFailure(err)
	}
	return sent, nil
}

// sendRest writes the next piece of a large body.
func (ex *exchange) sendRest() *reason.Failure {
	if w := ex.held.wire; w != nil && len(w.held) > 0 {
		if err := ex.sendHeld(ex.held); err != nil {
			return ex.writeFailure(err)
		}
		return nil
	}
	piece := ex.rest[:min(len(ex.rest), writePiece)]
	n, err := ex.writeUpstream(nil, piece)
	ex.rest = ex.rest[n:]
	if err != nil && !wasInterrupted(err) {
		return ex.writeFailure(err)
	}
	return nil
}

// unsent reports whether some of the request has not been sent.
func (ex *exchange) unsent() bool {
	w := ex.held.wire
	return len(ex.rest) > 0 || w != nil && len(w.held) > 0
}

// wasInterrupted reports whether a write has ended because the destination has sent something, which may be no more than
// an interim response: the rest is still to be written.
func wasInterrupted(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// writeFailure is the end of a request that the destination did not take. What is left of it keeps its connection
// from being used again. A reset is told only once, here: from now on the connection looks as if a FIN had come. (After
// a FIN that did come, a reset is EPIPE.)
func (ex *exchange) writeFailure(err error) *reason.Failure {
	ex.broken = true
	ex.torn = errors.Is(err, syscall.ECONNRESET)
	return ex.closedUnanswered()
}

func (ex *exchange) writeUpstream(head, piece []byte) (n int, err error) {
	u := ex.held
	if len(piece) == 0 {
		u.due.Store(ex.at + int64(ex.run.limits.idle))
		return u.Write(head)
	}
	u.due.Store(now() + int64(ex.run.limits.idle))
	u.beginSending()
	switch {
	case len(head) == 0:
		n, err = u.Write(piece)
	case u.wire != nil:
		n, err = u.Write(append(head, piece...))
	default:
		n, err = u.tcp.WriteBoth(head, piece)
	}
	u.endSending()
	if u.wire != nil && err == nil {
		err = ex.sendHeld(u)
	}
	return n, err
}

// sendHeld sends what is left of a write above TLS that the sweeper has interrupted, unless an answer has come. What
// the sweeper saw may have been no more than a session ticket.
func (ex *exchange) sendHeld(u *upstream) error {
	for len(u.wire.held) > 0 {
		if n, quiet := u.glance(ex.up.free()); !quiet {
			ex.received(n)
			return nil // the rest is kept until it is clear what has come
		}
		u.beginSending()
		err := u.wire.flush()
		u.endSending()
		if err != nil {
			return err
		}
	}
	return nil
}

// read reads from the destination, which has readTimeout for its next byte.
func (ex *exchange) read(p []byte) (int, error) {
	u := ex.held
	u.due.Store(now() + int64(ex.run.limits.idle))
	n, err := u.Read(p)
	ex.at = now()
	if n > 0 {
		return n, nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	if err == io.EOF && u.wire != nil && u.wire.sawFIN {
		err = io.ErrUnexpectedEOF // a FIN without a close_notify
	}
	return 0, err
}

// receiveHead reads the final response's head; interim ones are passed on, as the client's version allows.
func (ex *exchange) receiveHead() *reason.Failure {
	limit := int(ex.run.cfg.MaxHeaderSize)
	for {
		n, f := ex.resp.scan(ex.up.unused())
		if f != nil {
			return f
		}
		if ex.headSize(n) > limit {
			return reason.LargeResponseHeadf("response head larger than %d bytes", limit)
		}
		if n > 0 {
			if !ex.resp.interim() {
				ex.up.skip(n)
				ex.bodyStart = ex.up.from
				return nil
			}
			if f := ex.passInterim(n); f != nil {
				return f
			}
			continue
		}
		if f := ex.moreResponse(); f != nil {
			return f
		}
	}
}

// headSize is how much of maxHeaderSize is used up by a head of n bytes, or, where n is 0, by one that has not ended
// yet. Interim responses count together.
func (ex *exchange) headSize(n int) int {
	if n == 0 {
		n = ex.up.len() + 1
	}
	if ex.resp.status > 0 && ex.resp.interim() {
		n += ex.interims
	}
	return n
}

// passInterim passes a 1xx response on to a client that knows of them (RFC 9110 section 15.2). 100 is the proxy's
// own to give, for it has read the body already.
func (ex *exchange) passInterim(n int) *reason.Failure {
	ex.interims += n
	if ex.resp.status != 100 && !ex.head.http10 {
		ex.held.due.Store(never) // while the client takes it
		ex.out = ex.appendResponseHead(ex.out[:0], &ex.resp, framingNone, 0)
		if err := ex.client.write(ex.out); err != nil {
			return reason.ClientGone()
		}
		ex.at = now()
		ex.held.due.Store(ex.at + int64(ex.run.limits.idle))
	}
	ex.up.skip(n)
	ex.up.restart()
	untidy := ex.resp.untidy
	ex.resp.reset()
	ex.resp.untidy = untidy // it is about the connection too
	return nil
}

// moreResponse reads more of the response into the buffer. As long as nothing of it is there, what is left of the
// request is written first.
func (ex *exchange) moreResponse() *reason.Failure {
	if len(ex.up.free()) == 0 {
		ex.up.grow(2 * ex.up.len())
	}
	if ex.unsent() && !ex.broken {
		before := ex.up.len()
		n, quiet := ex.held.glance(ex.up.free())
		ex.received(n)
		if quiet && ex.sendRest() == nil || ex.up.len() > before {
			return nil
		}
	}
	n, err := ex.read(ex.up.free())
	if err != nil {
		return ex.noAnswer(err)
	}
	ex.received(n)
	return nil
}

// received notes n bytes of the response more in the buffer.
func (ex *exchange) received(n int) {
	ex.up.added(n)
	if n > 0 && ex.phases[metrics.FirstByte] < 0 {
		ex.at = now()
		ex.phases[metrics.FirstByte] = time.Duration(ex.at - ex.sentAt)
	}
}

// noAnswer is the end of a connection before the response's head. A TLS 1.3 server says only now that it wants a
// client certificate, or refuses the one that it got: for the client the handshake was over before (RFC 8446 section
// 4.4.2.4).
func (ex *exchange) noAnswer(err error) *reason.Failure {
	if ex.held.wire != nil && !ex.reused && ex.up.len() == 0 && ca.IsAlert(err) {
		return reason.OfHandshake(err, ex.address.name(), ex.run.cfg.ConnectTimeout)
	}
	return ex.closedUnanswered()
}

func (ex *exchange) closedUnanswered() *reason.Failure {
	return reason.Terminatedf("%s closed the connection before it answered", ex.held.remote)
}

// upstreamFailure is f, or what the failure of the connection really was: the sweeper or the client's leaving has
// ended it.
func (ex *exchange) upstreamFailure(f *reason.Failure) *reason.Failure {
	cfg := ex.run.cfg
	switch closeReason(ex.held.killed.Load()) {
	case closeIdle:
		return reason.Newf(reason.Timeout, "timed out: %s was idle for %s", ex.held.remote, cfg.ReadTimeout).Over(reason.LimitReadTimeout)
	case closeLifetime:
		return reason.Newf(reason.Timeout, "timed out: the connection to %s reached its lifetime of %s", ex.held.remote, cfg.ConnectionLifetime).Over(reason.LimitConnectionLifetime)
	case closeClient:
		return reason.ClientGone()
	case closeShutdown:
		return reason.Stopping()
	}
	return f
}

// isReset reports whether err says that the peer has broken the connection off.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
