package proxy

import (
	"strconv"
	"time"

	"whsentry/policy"
	"whsentry/proxy/reason"
)

// breaking is what an exchange has to do with the breaker of its destination.
type breaking struct {
	pass policy.Pass
	// asked says that the breaker has been asked, and owed that it has let the request through and is to be told, once,
	// what came of it.
	asked, owed bool
}

// keySize is how long a breaker's key may be for which no memory is allocated, in bytes.
const keySize = 128

// askBreaker asks once an exchange whether the destination can be reached, of late: 1018.
func (ex *exchange) askBreaker() *reason.Failure {
	b := &ex.breaking
	if b.asked {
		return nil
	}
	b.asked = true
	breaker := ex.run.policy.Breaker()
	if !breaker.IsOn() {
		return nil
	}
	var key [keySize]byte
	pass, retry, ok := breaker.Allow(ex.appendBreakerKey(key[:0]), time.Now())
	if !ok {
		f := reason.Newf(reason.BreakerOpen, "%s could not be reached of late: no request is let through for now", ex.address.String())
		f.RetryAfter = int((retry + time.Second - 1) / time.Second)
		return f
	}
	b.pass, b.owed = pass, true
	return nil
}

// appendBreakerKey appends what has a breaker of its own: scheme, host, port, client certificate and entry.
func (ex *exchange) appendBreakerKey(dst []byte) []byte {
	switch {
	case ex.connect:
		dst = append(dst, "connect://"...)
	case ex.tls:
		dst = append(dst, "https://"...)
	default:
		dst = append(dst, "http://"...)
	}
	dst = append(dst, ex.address.Key()...)
	if ex.tls {
		dst = append(append(dst, ' '), ex.alias...)
	}
	if ex.terms.ID != 0 {
		dst = strconv.AppendUint(append(dst, " entry "...), ex.terms.ID, 36)
	}
	return dst
}

// judgeAhead judges the destination before the body of a client that waits for a 100 is there, in the order in which it is
// refused afterwards: 1018, 1014, 1001, 1000. What it takes to find that out it gives back: no slow client is to hold the one
// request that an open breaker lets through, or a place at the destination.
func (ex *exchange) judgeAhead() *reason.Failure {
	if f := ex.askBreaker(); f != nil {
		return f
	}
	d, f := ex.reservePlace()
	if f == nil {
		ex.client.proxy.pool.Release(d)
		f = ex.judge()
	}
	outcome := policy.Neutral
	if f != nil && f.Unreached() {
		outcome = policy.Failed
	}
	ex.tellBreaker(outcome)
	ex.breaking.asked = false
	return f
}

// tellBreaker tells what came of the request, where that is still owed.
func (ex *exchange) tellBreaker(o policy.Outcome) {
	b := &ex.breaking
	if !b.owed {
		return
	}
	b.owed = false
	if o != policy.Neutral || b.pass.IsProbe() { // else it is nothing to the breaker
		var key [keySize]byte
		ex.run.policy.Breaker().Done(ex.appendBreakerKey(key[:0]), b.pass, o, time.Now())
	}
}
