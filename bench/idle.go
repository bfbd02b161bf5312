package main

import (
	"fmt"
	"time"
)

const (
	idleOpeners = 32      // clients that open idle connections at once
	idleBuffer  = 4 << 10 // of one of them, bytes
)

// idleClients is loadIdleClients: clients that each make one request and then rest, all of them at once.
func (r *running) idleClients() error {
	r.count = int64(r.connections)
	openers := make([]int, min(idleOpeners, r.connections))
	r.measure(func() {
		each(openers, func(int) {
			for {
				i, ok := r.next()
				if !ok {
					return
				}
				r.openIdle(r.requests[i%int64(len(r.requests))])
			}
		})
	})
	return r.checkHeld("idle clients")
}

// openIdle connects, makes a request, and leaves the connection to the run.
func (r *running) openIdle(request []byte) {
	c := &client{r: r, size: idleBuffer}
	start := time.Now()
	n, err := c.exchange(request)
	if err == nil && c.conn == nil {
		err = fmt.Errorf("the proxy closed a connection after its first answer")
	}
	r.record(start, n, err)
	if c.conn != nil {
		r.setDeadline(c.conn, time.Time{})
	}
}

// destinations is loadDestinations: each target is asked once.
func (r *running) destinations() error {
	r.count = int64(len(r.requests))
	r.measure(func() { each(r.newClients(), r.closedLoop) })
	return r.checkHeld("destinations")
}

// checkHeld says that the load's duration ended before everything was reached.
func (r *running) checkHeld(what string) error {
	if r.out.requests+r.out.failed < r.count && r.ctx.Err() == nil {
		return fmt.Errorf("%d %s were wanted, but after %s only %d were reached", r.count, what, r.duration, r.out.requests)
	}
	return nil
}
