package main

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// A proxy that stalls once is charged with every request that was due in the meantime. A load generator that waits for
// the answer and then goes on as if nothing had been would show one slow request in 400.
func TestOpenLoopChargesStalls(t *testing.T) {
	t.Parallel()
	const rate, duration, stall = 400, time.Second, 300 * time.Millisecond
	var asked atomic.Int64
	proxy := scripted(t, answering(func(int, int) string {
		if asked.Add(1) == 100 {
			time.Sleep(stall)
		}
		return "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	}))
	got, err := load{targets: []string{"http://a.test/"}, connections: 1, rate: rate, duration: duration}.run(t.Context(), proxy)
	if err != nil || got.requests != rate || got.failed != 0 {
		t.Fatalf("got %d requests, %d failed: %s, %v; want %d", got.requests, got.failed, got.firstError, err, rate)
	}
	if least := duration - time.Second/rate; got.took < least {
		t.Errorf("got all requests within %v; want %v or more, for the last is not due before", got.took, least)
	}
	// 120 requests were due within the stall: the latencies of these fall evenly from 300 ms to 0.
	for _, tt := range []struct{ percentile, least float64 }{{80, 100}, {90, 180}, {99, 270}, {100, 295}} {
		if ms := float64(got.latency.ValueAtPercentile(tt.percentile)) / 1e6; ms < tt.least {
			t.Errorf("got %.1f ms at percentile %g; want at least %g", ms, tt.percentile, tt.least)
		}
	}
}

func TestOpenLoopCountsWhatCouldNotBeSent(t *testing.T) {
	t.Parallel()
	proxy := scripted(t, answering(func(_, request int) string {
		if request > 0 {
			time.Sleep(500 * time.Millisecond)
		}
		return "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	}))
	l := load{targets: []string{"http://a.test/"}, connections: 2, rate: 1000, count: 100, timeout: 2 * time.Second}
	got, err := l.run(t.Context(), proxy)
	if err != nil || got.requests == 0 || got.failed == 0 || got.requests+got.failed != l.count {
		t.Errorf("got %d requests, %d failed: %s, %v; want %d in all, and both", got.requests, got.failed, got.firstError, err, l.count)
	}
}

func TestScheduleTotal(t *testing.T) {
	tests := []struct {
		name  string
		load  load
		total int64
	}{
		{"duration", load{rate: 10, duration: 2 * time.Second}, 20},
		{"part of an interval", load{rate: 10, duration: 2050 * time.Millisecond}, 21},
		{"count", load{rate: 10, count: 7}, 7},
		{"count first", load{rate: 10, count: 7, duration: time.Second}, 7},
		{"duration first", load{rate: 10, count: 70, duration: time.Second}, 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := (&running{load: tt.load}).newSchedule()
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			if s.total != tt.total {
				t.Errorf("got %d requests; want %d", s.total, tt.total)
			}
		})
	}
}

func TestTimer(t *testing.T) {
	timer, err := newTimer()
	if err != nil {
		t.Fatal(err)
	}
	defer timer.close()
	for _, wait := range []time.Duration{-time.Second, 0, 100 * time.Microsecond, pollPause + 10*time.Millisecond} {
		moment := time.Now().Add(wait)
		if !timer.until(t.Context(), moment) || time.Now().Before(moment) {
			t.Errorf("got a return before the moment; want it after waiting %v", wait)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if timer.until(ended, time.Now().Add(time.Hour)) {
		t.Error("got true; want false where the context has ended")
	}
}
