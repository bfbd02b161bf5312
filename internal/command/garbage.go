package command

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// Go collects garbage once there is as much of it as there is memory in use (GOGC=100). That is too late where much is in
// use, for then half of a large heap is garbage: with 20,000 connections kept over TLS 430 MiB, and 390 with half as much.
// And it is too often where little is and much garbage is made: a proxy that starts 2,600 TLS connections a second
// collects 60 times in it, which is 7 % of its CPU time. A larger heap is no good by itself, however: it outgrows the
// processor's caches, which costs a request that makes a plain connection 10 µs.
const (
	garbageWanted = 12 << 20               // how much there may be, in bytes, where collections come hasty
	leastPercent  = 50                     // of what is in use; it is more than garbageWanted from 24 MiB in use on
	mostPercent   = 400                    // with which Go collects none below 16 MiB
	hasty         = 50 * time.Millisecond  // after the one before
	leisurely     = 200 * time.Millisecond // likewise
)

// pacer has garbage collected after so much of it. It goes by what each collection has found in use, and how soon after
// the one before it came.
type pacer struct {
	mu      sync.Mutex // guards the following
	percent int        // in force
	last    time.Time  // when a collection has ended
	stopped bool
}

// paceCollector starts a pacer. stop ends it, and puts Go's default in force. Where GOGC is set, which the runtime obeys
// itself, it does nothing.
func (a *app) paceCollector() (stop func()) {
	if a.environ.Get("GOGC") != "" {
		return func() {}
	}
	p := &pacer{percent: 100}
	p.pace()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stopped = true
		debug.SetGCPercent(100)
	}
}

// pace adjusts the percentage now and after each collection, which finds an object that nobody refers to.
func (p *pacer) pace() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	inUse := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(inUse)
	now := time.Now()
	p.adjust(nextPercent(p.percent, inUse[0].Value.Uint64(), now.Sub(p.last)))
	p.last = now
	runtime.AddCleanup(new([64]byte), (*pacer).pace, p)
}

// adjust puts a percentage in force. To change it stops the program for a moment, so that what is about the same stays.
func (p *pacer) adjust(percent int) {
	if percent > p.percent+p.percent/8 || percent < p.percent-p.percent/8 {
		p.percent = percent
		debug.SetGCPercent(percent)
	}
}

// nextPercent returns which percentage of what is in use may be garbage at the next collection, by the one in force, how
// many bytes are in use, and the time from one collection to the next.
func nextPercent(percent int, inUse uint64, took time.Duration) int {
	most := int(min(max(garbageWanted*100/max(inUse, 1), leastPercent), mostPercent))
	least := min(most, 100)
	switch {
	case took < hasty:
		return most
	case took > leisurely:
		return least
	}
	return min(max(percent, least), most)
}
