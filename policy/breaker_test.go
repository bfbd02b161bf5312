package policy

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func newTestBreaker(t testing.TB, failures int, openFor time.Duration) *Breaker {
	t.Helper()
	return mustNew(t, Config{Breaker: BreakerConfig{failures, openFor}}, nil).Breaker()
}

var key = []byte("https://a.test:443")

// try makes a request to key at now that ends at once.
func try(b *Breaker, now time.Time, outcome Outcome) bool {
	pass, _, ok := b.Allow(key, now)
	if ok {
		b.Done(key, pass, outcome, now)
	}
	return ok
}

// opened returns a breaker that the third failure opened at t0 for a second.
func opened(t testing.TB) *Breaker {
	t.Helper()
	b := newTestBreaker(t, 3, time.Second)
	for i := range 3 {
		if !try(b, t0, Failed) || b.OpenCount() != i/2 {
			t.Fatalf("failure %d: refused, or %d are open", i, b.OpenCount())
		}
	}
	return b
}

func TestBreakerOpens(t *testing.T) {
	b := opened(t)
	for _, tt := range []struct {
		after, retry time.Duration
	}{{0, time.Second}, {time.Second - 1, 1}} {
		if _, retry, ok := b.Allow(key, t0.Add(tt.after)); ok || retry != tt.retry {
			t.Errorf("after %v: got %t, %v; want refused, %v", tt.after, ok, retry, tt.retry)
		}
	}
	if _, _, ok := b.Allow([]byte("https://b.test:443"), t0); !ok {
		t.Error("another destination is refused")
	}
}

func TestBreakerCountsInARow(t *testing.T) {
	b := newTestBreaker(t, 3, time.Second)
	for _, outcome := range []Outcome{Failed, Failed, Reached, Failed, Neutral, Failed} {
		try(b, t0, outcome)
	}
	if b.OpenCount() != 0 {
		t.Error("two in a row opened it; want three")
	}
	if try(b, t0, Failed); b.OpenCount() != 1 {
		t.Error("a neutral outcome ended the count")
	}
}

func TestBreakerHalfOpen(t *testing.T) {
	half := t0.Add(time.Second)
	for _, tt := range []struct {
		outcome Outcome
		next    bool // whether the next is let through at once
		open    int
	}{{Reached, true, 0}, {Failed, false, 1}, {Neutral, true, 1}} {
		b := opened(t)
		pass, _, ok := b.Allow(key, half)
		if !ok {
			t.Fatal("the probe is refused")
		}
		if _, retry, ok := b.Allow(key, half); ok || retry <= 0 {
			t.Errorf("a second one beside the probe: got %t, %v; want refused, with a time", ok, retry)
		}
		b.Done(key, pass, tt.outcome, half)
		if got := b.OpenCount(); got != tt.open {
			t.Errorf("outcome %d: got %d open; want %d", tt.outcome, got, tt.open)
		}
		if _, _, ok := b.Allow(key, half); ok != tt.next {
			t.Errorf("outcome %d: got next %t; want %t", tt.outcome, ok, tt.next)
		}
	}
}

func TestBreakerDoubles(t *testing.T) {
	b := newTestBreaker(t, 1, 100*time.Second)
	now := t0
	try(b, now, Failed)
	for _, want := range []time.Duration{100, 200, 400, 600, 600} {
		want *= time.Second
		if _, retry, ok := b.Allow(key, now); ok || retry != want {
			t.Errorf("got %t, %v; want refused for %v", ok, retry, want)
		}
		now = now.Add(want)
		if !try(b, now, Failed) {
			t.Errorf("after %v: refused; want one let through", want)
		}
	}
	now = now.Add(10 * time.Minute)
	try(b, now, Reached)
	try(b, now.Add(1), Failed)
	if _, retry, ok := b.Allow(key, now.Add(1)); ok || retry != 100*time.Second {
		t.Errorf("opened anew: got %t, %v; want refused for 100s", ok, retry)
	}
}

// TestBreakerStaleFailures: what began before it opened is not counted, neither while it is open, nor against the
// probe, nor after that succeeded.
func TestBreakerStaleFailures(t *testing.T) {
	b := newTestBreaker(t, 2, time.Second)
	var stale []Pass
	for range 6 {
		pass, _, _ := b.Allow(key, t0)
		stale = append(stale, pass)
	}
	end := func(n int, now time.Time) {
		for _, pass := range stale[:n] {
			b.Done(key, pass, Failed, now)
		}
		stale = stale[n:]
	}
	end(2, t0.Add(time.Millisecond))
	end(1, t0.Add(500*time.Millisecond))
	half := t0.Add(time.Second + time.Millisecond)
	probe, _, ok := b.Allow(key, half)
	if !ok {
		t.Fatal("a stale failure made it stay open for longer")
	}
	end(1, half)
	if _, _, ok := b.Allow(key, half); ok {
		t.Error("a stale failure freed the probe")
	}
	b.Done(key, probe, Reached, half)
	end(2, half)
	if _, _, ok := b.Allow(key, half); !ok || b.OpenCount() != 0 {
		t.Error("stale failures opened it again")
	}
	try(b, half, Failed)
	if try(b, half, Failed); b.OpenCount() != 1 {
		t.Error("new failures do not open it again")
	}
}

// TestBreakerReachedWhileOpen: a connection that began before and came about ends it.
func TestBreakerReachedWhileOpen(t *testing.T) {
	b := newTestBreaker(t, 1, time.Second)
	early, _, _ := b.Allow(key, t0)
	try(b, t0, Failed)
	b.Done(key, early, Reached, t0)
	if _, _, ok := b.Allow(key, t0); !ok || b.OpenCount() != 0 {
		t.Error("refused, though it was reached since")
	}
}

func TestBreakerOff(t *testing.T) {
	b := newTestBreaker(t, 0, 0)
	for range 100 {
		if !try(b, t0, Failed) {
			t.Fatal("refused; want off")
		}
	}
	if b.OpenCount() != 0 || b.Open(10) != nil {
		t.Error("there are open ones; want off")
	}
}

func TestBreakerGoesOn(t *testing.T) {
	cfg := Config{Breaker: BreakerConfig{1, time.Second}}
	before := mustNew(t, cfg, nil)
	pass, _, _ := before.Breaker().Allow([]byte("b"), t0)
	try(before.Breaker(), t0, Failed)
	after := mustNew(t, cfg, before).Breaker()
	after.Done([]byte("b"), pass, Failed, t0)
	if before.Breaker().OpenCount() != 2 || after.OpenCount() != 2 || try(after, t0, Reached) {
		t.Error("what was open, or what had begun, is forgotten")
	}
	if off := mustNew(t, Config{}, before).Breaker(); !try(off, t0, Failed) {
		t.Error("refused though it was turned off")
	}
}

func TestBreakerForgetsReached(t *testing.T) {
	b := newTestBreaker(t, 3, time.Second)
	try(b, t0, Failed)
	try(b, t0, Reached)
	if n := b.state.records.Load(); n != 0 {
		t.Errorf("got %d records; want none of what was reached", n)
	}
	b = opened(t)
	try(b, t0.Add(time.Second), Reached)
	try(b, t0.Add(time.Second+staleAfter), Reached)
	if n := b.state.records.Load(); n != 0 {
		t.Errorf("got %d records; want none of what has been reached for long", n)
	}
}

func TestBreakerIsBounded(t *testing.T) {
	b := newTestBreaker(t, 1, time.Minute)
	for i := range maxRecords + 5000 {
		name := fmt.Appendf(nil, "https://%d.test:443", i)
		now := t0.Add(time.Duration(i))
		pass, _, _ := b.Allow(name, now)
		b.Done(name, pass, Failed, now)
	}
	kept := 0
	for i := range b.state.shards {
		kept += len(b.state.shards[i].records)
		if got, want := b.state.shards[i].size.Load(), int64(len(b.state.shards[i].records)); got != want {
			t.Errorf("shard %d: got size %d; want %d", i, got, want)
		}
	}
	if kept != maxRecords || b.OpenCount() != maxRecords || b.state.records.Load() != maxRecords {
		t.Errorf("got %d records, %d open, %d counted; want %d", kept, b.OpenCount(), b.state.records.Load(), maxRecords)
	}
	last := fmt.Appendf(nil, "https://%d.test:443", maxRecords+4999)
	if _, _, ok := b.Allow(last, t0.Add(time.Second)); ok {
		t.Error("the newest is forgotten")
	}
}

func TestBreakerOpenDestinations(t *testing.T) {
	b := newTestBreaker(t, 1, time.Second)
	for i := range 12 {
		name := fmt.Appendf(nil, "%02d", i)
		pass, _, _ := b.Allow(name, t0)
		b.Done(name, pass, Failed, t0)
	}
	half := t0.Add(time.Second)
	pass, _, _ := b.Allow([]byte("07"), half)
	b.Done([]byte("07"), pass, Failed, half)
	top := b.Open(10)
	if len(top) != 10 || b.OpenCount() != 12 || top[1].Key != "00" {
		t.Fatalf("got %d of %d: %v; want the first 10 of 12", len(top), b.OpenCount(), top)
	}
	if want := (OpenDestination{"07", 2, half, half.Add(2 * time.Second)}); top[0] != want {
		t.Errorf("got %v; want %v", top[0], want)
	}
}

// TestBreakerConcurrently: at most one probe at a time, and the count of open ones is right in the end.
func TestBreakerConcurrently(t *testing.T) {
	b := newTestBreaker(t, 2, time.Nanosecond)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(g)))
			for i := range 5000 {
				name := []byte{byte(random.IntN(4))}
				now := t0.Add(time.Duration(i))
				pass, _, ok := b.Allow(name, now)
				if ok {
					b.Done(name, pass, Outcome(random.IntN(3)), now)
				}
			}
		})
	}
	wg.Wait()
	if got, want := len(b.Open(100)), b.OpenCount(); got != want {
		t.Errorf("got %d records that are open; want %d, as counted", got, want)
	}
}
