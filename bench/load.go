package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
)

// What latency histograms can tell apart: from 1 µs, to three digits. What took longer than longestLatency counts as that.
const (
	shortestLatency = time.Microsecond
	longestLatency  = 10 * time.Minute
)

const (
	clientBuffer = 32 << 10              // of a client that does requests, bytes
	failurePause = 10 * time.Millisecond // after each failure: what refuses everything is not asked as fast as it can refuse
	manyClients  = 1000
	maxTargets   = 1 << 20                // prebuilt requests have to fit in memory
	pollPause    = 100 * time.Millisecond // the longest that anything sleeps without looking whether the run has ended
	maxCatchUp   = 5 * time.Millisecond   // how late a paced request may be for the next ones to follow sooner
)

// newHistogram returns a histogram for nanoseconds.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(shortestLatency), int64(longestLatency), 3)
}

// running is a load while it runs. Every goroutine that it starts has ended when run returns.
type running struct {
	load
	ctx      context.Context
	proxy    string // host:port
	requests [][]byte
	taken    atomic.Int64 // requests that were begun
	stopped  atomic.Bool  // nothing more is begun
	pace     *pacer       // nil: as fast as can be

	mu    sync.Mutex // guards the following
	out   outcome
	conns map[net.Conn]struct{}
	cut   bool // every connection's deadline is past, and stays so
}

// run sends the load through the proxy at host:port. The error is for a load that could not be sent at all, or was
// ended by ctx; requests that fail are in the outcome.
func (l load) run(ctx context.Context, proxy string) (outcome, error) {
	r, err := newRunning(ctx, l, proxy)
	if err != nil {
		return outcome{latency: newHistogram()}, err
	}
	defer r.closeConns()
	defer context.AfterFunc(ctx, r.stopNow)()
	switch l.kind {
	case loadTunnelBulk:
		err = r.tunnelBulk()
	case loadTunnelOpen:
		err = r.tunnelOpen()
	case loadIdleClients:
		err = r.idleClients()
	case loadDestinations:
		err = r.destinations()
	default:
		err = r.requestLoop()
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return r.out, err
}

// newRunning checks the load and builds its requests.
func newRunning(ctx context.Context, l load, proxy string) (*running, error) {
	r := &running{load: l, ctx: ctx, proxy: proxy, out: outcome{latency: newHistogram()}, conns: make(map[net.Conn]struct{})}
	r.connections = max(r.connections, 1)
	if r.timeout == 0 {
		r.timeout = defaultTimeout
	}
	switch {
	case len(l.targets) == 0 || len(l.targets) > maxTargets:
		return nil, fmt.Errorf("%d targets; want from 1 to %d", len(l.targets), maxTargets)
	case l.count == 0 && l.duration == 0 && l.kind != loadIdleClients && l.kind != loadDestinations:
		return nil, errors.New("a load without an end; want a duration or a count")
	case l.rate < 0 || l.maxRate < 0 || l.duration < 0 || l.count < 0:
		return nil, errors.New("a negative rate, duration or count; want none below 0")
	}
	if l.kind == loadTunnelBulk || l.kind == loadTunnelOpen {
		return r, nil
	}
	for _, target := range l.targets {
		request, err := l.request(target)
		if err != nil {
			return nil, err
		}
		r.requests = append(r.requests, request)
	}
	return r, nil
}

// requestLoop is loadRequests: clients that each send one request after another, as fast as they are answered or as a
// schedule says.
func (r *running) requestLoop() error {
	clients := r.newClients()
	if err := r.warmUp(clients); err != nil {
		return err
	}
	if r.maxRate > 0 {
		r.pace = newPacer(r.maxRate)
	}
	loop := r.closedLoop
	if r.rate > 0 {
		s, err := r.newSchedule()
		if err != nil {
			return err
		}
		defer s.close()
		loop = s.loop
	}
	r.measure(func() { each(clients, loop) })
	return nil
}

// newClients returns the load's clients, without connections. The buffers of very many are small.
func (r *running) newClients() []*client {
	size := clientBuffer
	if r.connections > manyClients {
		size = idleBuffer
	}
	clients := make([]*client, r.connections)
	for i := range clients {
		clients[i] = &client{r: r, size: size}
	}
	return clients
}

// warmUp opens every client's connection and, unless the load is cold, has it make one request, and has each target asked
// once. That a request fails here is left for the measured ones to tell; that no client can connect at all is an error.
func (r *running) warmUp(clients []*client) error {
	var asked, opened atomic.Int64
	var failure atomic.Value
	each(clients, func(c *client) {
		for first := true; r.ctx.Err() == nil; first = false {
			i := asked.Add(1) - 1
			if !first && i >= int64(len(r.requests)) {
				return
			}
			if err := c.open(); err != nil {
				failure.CompareAndSwap(nil, err.Error())
				return
			}
			opened.Add(1)
			if r.cold {
				return
			}
			// Should it fail, the measured requests tell.
			_, _ = c.exchange(r.requests[i%int64(len(r.requests))])
		}
	})
	if text, ok := failure.Load().(string); ok && opened.Load() == 0 {
		return errors.New(text)
	}
	return nil
}

// closedLoop sends c's next request when the one before is answered.
func (r *running) closedLoop(c *client) {
	for {
		i, ok := r.next()
		if !ok {
			return
		}
		if r.pace != nil && !r.pace.wait(r) {
			return
		}
		start := time.Now()
		n, err := c.exchange(r.requests[i%int64(len(r.requests))])
		r.record(start, n, err)
	}
}

// next returns the number of the next request, counted from 0; false where there shall be no more.
func (r *running) next() (int64, bool) {
	if r.stopped.Load() {
		return 0, false
	}
	i := r.taken.Add(1) - 1
	return i, r.count == 0 || i < r.count
}

// measure calls work between begin and end, times it, and stops what it began when the load's duration is over.
func (r *running) measure(work func()) {
	if r.begin != nil {
		r.begin()
	}
	start := time.Now()
	if r.duration > 0 {
		defer time.AfterFunc(r.duration, func() { r.stopped.Store(true) }).Stop()
	}
	work()
	r.mu.Lock()
	r.out.took = time.Since(start)
	r.mu.Unlock()
	r.rest()
	if r.end != nil {
		r.end()
	}
}

// rest waits for the load's pause.
func (r *running) rest() {
	if r.pause == 0 {
		return
	}
	select {
	case <-time.After(r.pause):
	case <-r.ctx.Done():
	}
}

// record counts what came of a request that was begun, or due, at start.
func (r *running) record(start time.Time, n int64, err error) {
	took := time.Since(start)
	if err != nil {
		r.fail(err)
		return
	}
	r.mu.Lock()
	r.out.requests++
	r.out.bytes += n
	// It cannot fail within these bounds.
	_ = r.out.latency.RecordValue(int64(min(max(took, shortestLatency), longestLatency)))
	r.mu.Unlock()
	r.tell(1)
}

// fail counts a failure and rests a moment. What fails because ctx has ended is none.
func (r *running) fail(err error) {
	if r.ctx.Err() != nil {
		return
	}
	r.failAll(1, err)
	r.tell(1)
	select {
	case <-time.After(failurePause):
	case <-r.ctx.Done():
	}
}

// failAll counts n failures for one reason.
func (r *running) failAll(n int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out.failed += n
	if r.out.firstError == "" {
		r.out.firstError = err.Error()
	}
}

// tell raises what shows progress.
func (r *running) tell(n int64) {
	if r.done != nil {
		r.done.Add(n)
	}
}

// each calls do for every one of the items at once, and waits for all of them.
func each[T any](items []T, do func(T)) {
	var all sync.WaitGroup
	for _, item := range items {
		all.Go(func() { do(item) })
	}
	all.Wait()
}
