package socket

import (
	"net"
	"runtime"
	"sync/atomic"
	"time"
)

// aLongTimeAgo is a deadline that ends whatever the connection is waiting for.
var aLongTimeAgo = time.Unix(1, 0)

// The values of Deadline.due that are no moment.
const (
	dueNow  Tick = -1 // the sweeper is about to end what the owner waits for
	duePast Tick = -2 // it has
)

// Deadline is the moment by which the owner of a connection must have got somewhere. The owner moves it with one
// atomic store; the sweeper looks at it now and then. A deadline of the operating system's costs a call at every
// read and write, which is more than everything else that the proxy does with them.
type Deadline struct{ due atomic.Int64 }

// Due returns the moment; a negative number where the sweeper has just ended what the owner was waiting for.
func (d *Deadline) Due() Tick { return d.due.Load() }

// Set moves the deadline. Where the sweeper has just ended what the owner was waiting for on conn, that is undone.
func (d *Deadline) Set(at Tick, conn net.Conn) {
	for {
		due := d.due.Load()
		if due == dueNow {
			runtime.Gosched()
			continue
		}
		if d.due.CompareAndSwap(due, at) {
			if due == duePast {
				conn.SetDeadline(time.Time{})
			}
			return
		}
	}
}

// Expire is called by the sweeper. Where the deadline has passed it ends what the owner is waiting for on conn.
func (d *Deadline) Expire(at Tick, conn net.Conn) {
	if due := d.due.Load(); due <= at {
		d.End(due, conn)
	}
}

// End ends what the owner is waiting for on conn, unless it has moved the deadline from due.
func (d *Deadline) End(due Tick, conn net.Conn) {
	if due < 0 || !d.due.CompareAndSwap(due, dueNow) {
		return
	}
	conn.SetDeadline(aLongTimeAgo)
	d.due.CompareAndSwap(dueNow, duePast)
}

// Passed reports whether the sweeper has ended what the owner was waiting for.
func (d *Deadline) Passed() bool {
	due := d.due.Load()
	return due == dueNow || due == duePast
}
