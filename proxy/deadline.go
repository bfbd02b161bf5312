package proxy

import (
	"time"

	"whsentry/proxy/reason"
)

// noteDeadline reads X-WhSentry-Timeout, the deadline that the caller gives its request.
func (ex *exchange) noteDeadline() *reason.Failure {
	h := &ex.head
	if h.Timeouts == 0 {
		return nil
	}
	value := string(h.Timeout.Of(h.Raw))
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		return reason.Newf(reason.Malformed, "malformed request: its X-WhSentry-Timeout is %q; want a duration above 0 such as 2500ms", value)
	}
	ex.timeout = d
	return nil
}

// beginDeadline starts the caller's deadline, where there is one: the request has come to its end.
func (ex *exchange) beginDeadline() {
	if ex.timeout == 0 {
		return
	}
	c := ex.client
	c.mu.Lock()
	c.request++
	request := c.request
	c.mu.Unlock()
	ex.timer = time.AfterFunc(ex.timeout, func() { c.pass(request) }) // stopped by endDeadline
}

// endDeadline ends it: the answer has come to its end.
func (ex *exchange) endDeadline() {
	if ex.timer == nil {
		return
	}
	ex.timer.Stop()
	ex.timer = nil
	c := ex.client
	c.mu.Lock()
	c.request++
	c.overdue = false
	c.mu.Unlock()
}

// pass ends what is being done for that request, unless it is over.
func (c *client) pass(request uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.request == request {
		c.overdue = true
		c.endLocked()
	}
}

// endedByUs is the failure where the caller's deadline, or the stopping proxy, has ended what was being done; nil: neither.
func (ex *exchange) endedByUs() *reason.Failure {
	c := ex.client
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.gone:
	case c.dropped:
		return reason.Stopping()
	case c.overdue && ex.timer != nil:
		return reason.CallerDeadline(ex.timeout)
	}
	return nil
}
