package main

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// schedule says when each request of an open loop is due: every 1/rate seconds, whether or not those before have been
// answered. A client that is late sends late, but its request counts from when it was due, so that a proxy that stalls is
// charged with every request that it kept from being sent (no coordinated omission).
type schedule struct {
	r     *running
	total int64 // requests
	timer *timer
	due   chan time.Time // of the next request, for whichever client is free
	once  sync.Once      // starts dispatch
}

// newSchedule returns a schedule that starts with its first client.
func (r *running) newSchedule() (*schedule, error) {
	t, err := newTimer()
	if err != nil {
		return nil, fmt.Errorf("make a timer: %w", err)
	}
	s := &schedule{r: r, total: r.count, timer: t, due: make(chan time.Time)}
	if inTime := int64(math.Ceil(r.rate * r.duration.Seconds())); r.count == 0 || r.duration > 0 && inTime < r.count {
		s.total = inTime
	}
	return s, nil
}

func (s *schedule) close() { s.timer.close() }

// loop is one client's part: it takes what is due until nothing more is.
func (s *schedule) loop(c *client) {
	s.once.Do(func() { go s.dispatch() }) // ends before the clients do: they go on until it closes due
	r := s.r
	for due := range s.due {
		i := r.taken.Add(1) - 1
		n, err := c.exchange(r.requests[i%int64(len(r.requests))])
		r.record(due, n, err)
	}
}

// dispatch hands out the requests as they are due. Those that no client was free to send until one timeout after the last
// was due have failed.
func (s *schedule) dispatch() {
	defer close(s.due)
	r, start := s.r, time.Now()
	tooLate := time.NewTimer(s.offset(s.total) + r.timeout)
	defer tooLate.Stop()
	for i := range s.total {
		due := start.Add(s.offset(i))
		if !s.timer.until(r.ctx, due) {
			return
		}
		select {
		case s.due <- due:
		case <-r.ctx.Done():
			return
		case <-tooLate.C:
			r.failAll(s.total-i, fmt.Errorf("%d requests could not be sent: all %d connections were waiting for answers", s.total-i, r.connections))
			return
		}
	}
}

// offset returns when, after the start, request number i is due.
func (s *schedule) offset(i int64) time.Duration {
	return time.Duration(float64(i) / s.r.rate * float64(time.Second))
}

// pacer spaces requests out, so that a closed loop stays below a rate. It saves nothing up for a burst.
type pacer struct {
	interval time.Duration
	mu       sync.Mutex // guards the following
	next     time.Time  // when the next request may go
}

// newPacer returns a pacer for rate requests a second, of which the first may go at once.
func newPacer(rate float64) *pacer {
	return &pacer{interval: time.Duration(float64(time.Second) / rate), next: time.Now()}
}

// wait returns when the caller's request may go; false where r has stopped before.
func (p *pacer) wait(r *running) bool {
	now := time.Now()
	p.mu.Lock()
	// A sleep that took longer than asked for may be made up for, or the rate would never be reached.
	if earliest := now.Add(-maxCatchUp); p.next.Before(earliest) {
		p.next = earliest
	}
	mine := p.next
	p.next = p.next.Add(p.interval)
	p.mu.Unlock()
	for left := mine.Sub(now); left > 0 && !r.stopped.Load(); left = time.Until(mine) {
		time.Sleep(min(left, pollPause))
	}
	return !r.stopped.Load()
}
