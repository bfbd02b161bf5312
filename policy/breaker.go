package policy

import (
	"strconv"
	"time"
)

// Breaker refuses destinations that could not be reached so many times in a row, for a while; then it lets one request
// through, and what becomes of that decides. A request asks Allow before it connects, and tells by Done what came of
// it. A Breaker is safe for concurrent use. Of a destination that can be reached it keeps nothing, and takes no lock
// but where another destination of the same shard has failed.
type Breaker struct {
	failures int // 0: off
	openFor  time.Duration
	state    *breakerState
}

// MaxOpenFor is the longest that a breaker may be open, at first (Breaker.OpenFor) and after it has doubled.
const MaxOpenFor = 10 * time.Minute

// newBreaker returns a Breaker that has seen nothing.
func newBreaker(cfg BreakerConfig) (*Breaker, error) {
	const key = "breaker.openFor"
	switch {
	case cfg.Failures < 0:
		return nil, &ConfigError{"breaker.failures", strconv.Itoa(cfg.Failures), "is negative", "0 (off) or more"}
	case cfg.Failures == 0:
		return new(Breaker), nil
	case cfg.OpenFor <= 0 || cfg.OpenFor > MaxOpenFor:
		return nil, &ConfigError{key, cfg.OpenFor.String(), "is out of range", "more than 0s, at most 10m"}
	}
	return &Breaker{failures: cfg.Failures, openFor: cfg.OpenFor, state: newBreakerState()}, nil
}

// goOn makes b continue what previous has seen. Requests that were let through by previous may tell either of them.
func (b *Breaker) goOn(previous *Breaker) {
	if b.failures > 0 && previous.failures > 0 {
		b.state = previous.state
	}
}

// IsOn reports whether it may ever refuse anything. Where not, there is no need to ask it.
func (b *Breaker) IsOn() bool { return b.failures > 0 }

// Pass is what Allow gives a request and Done wants back, once.
type Pass struct {
	began time.Time
	probe bool
}

// IsProbe reports whether the request is the one that an open breaker has let through, so that Done has to be told even of
// a Neutral outcome.
func (p Pass) IsProbe() bool { return p.probe }

// Outcome is what came of a request that Allow let through.
type Outcome uint8

const (
	// Neutral says nothing of whether the destination can be reached: a refusal, a limit of the proxy, a client that
	// left, a kept connection. It frees the probe.
	Neutral Outcome = iota
	// Reached is a connection that came about, with TLS its handshake too, whatever was answered on it.
	Reached
	// Failed is a failure to connect that is the destination's.
	Failed
)

// Allow asks for one request to the destination at now. key names the destination: scheme, host, port, client
// certificate and entry of destinations; it is shown on the status page, and copied where it is kept. Where ok is
// false the breaker is open: 1018, and retry is when to ask again, above 0.
func (b *Breaker) Allow(key []byte, now time.Time) (pass Pass, retry time.Duration, ok bool) {
	pass.began = now
	if b.failures == 0 {
		return pass, 0, true
	}
	shard := b.state.shard(key)
	if shard.size.Load() == 0 {
		return pass, 0, true
	}
	shard.mu.Lock()
	defer shard.mu.Unlock()
	r := shard.records[string(key)]
	switch {
	case r == nil || !r.open:
		return pass, 0, true
	case now.Before(r.until):
		return pass, r.until.Sub(now), false
	case r.probing:
		return pass, probeRetry, false
	}
	r.probing, pass.probe = true, true
	return pass, 0, true
}

// probeRetry is when to ask again while one request tries whether the destination can be reached.
const probeRetry = time.Second

// Done tells what came of the request to key that was let through with pass.
func (b *Breaker) Done(key []byte, pass Pass, outcome Outcome, now time.Time) {
	if b.failures == 0 || outcome == Neutral && !pass.probe {
		return
	}
	shard := b.state.shard(key)
	if outcome != Failed && shard.size.Load() == 0 {
		return
	}
	shard.mu.Lock()
	defer shard.mu.Unlock()
	r := shard.records[string(key)]
	switch {
	case outcome == Failed:
		b.failed(shard, r, key, pass, now)
	case r == nil:
	case outcome == Reached:
		b.state.reached(shard, r, now)
	default:
		r.probing = false
	}
}

// failed counts one failure. One that began before the breaker opened tells nothing that is not known.
func (b *Breaker) failed(shard *breakerShard, r *record, key []byte, pass Pass, now time.Time) {
	switch {
	case r == nil:
		if r = b.state.remember(shard, key); r == nil {
			return
		}
	case pass.probe && r.open:
		r.failures++
		r.lastFailure, r.probing = now, false
		r.openFor = min(2*r.openFor, MaxOpenFor)
		r.opened, r.until = now, now.Add(r.openFor)
		return
	case r.open || !r.opened.IsZero() && !pass.began.After(r.opened):
		return
	}
	r.failures++
	r.lastFailure = now
	if r.failures >= b.failures {
		r.open, r.openFor = true, b.openFor
		r.opened, r.until = now, now.Add(r.openFor)
		b.state.open.Add(1)
	}
}

// OpenCount returns how many destinations are refused, or wait for the one request that tries them.
func (b *Breaker) OpenCount() int {
	if b.state == nil {
		return 0
	}
	return int(b.state.open.Load())
}

// OpenDestination is a destination whose breaker is open.
type OpenDestination struct {
	// Key is what Allow was asked with.
	Key string
	// Failures is how many there were in a row.
	Failures int
	// Opened is when the last of them opened it, and Until when one request is let through.
	Opened, Until time.Time
}

// Open returns up to n destinations whose breaker is open, those with the most failures first. It looks at every record,
// a shard at a time, and is for people to read.
func (b *Breaker) Open(n int) []OpenDestination {
	if b.state == nil {
		return nil
	}
	return b.state.top(n)
}
