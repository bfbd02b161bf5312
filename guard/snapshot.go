package guard

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// snapshotFresh is the age up to which a snapshot is used without a second thought.
	snapshotFresh = 5 * time.Second
	// snapshotStale is the age from which nobody is given a snapshot: all wait for a newer one.
	snapshotStale = 10 * time.Second
	// snapshotRetry is how long a fetch that went wrong is not tried again.
	snapshotRetry = time.Second
)

// snapshot is a value from the system that is fetched again when it is asked for and no longer fresh.
// One caller fetches, inline; the others go on with the old value until it is stale. Where fetching fails
// the old value stays, whatever its age. There is no goroutine behind it.
type snapshot[T any] struct {
	fetch func(old T) (T, error)
	now   func() time.Time

	mu  sync.Mutex // held by whoever fetches
	cur atomic.Pointer[dated[T]]
}

// dated is a value with the times, taken before the fetch began, of the last success and the last try.
type dated[T any] struct {
	value          T
	fetched, tried time.Time
}

// newSnapshot fetches the first value.
func newSnapshot[T any](now func() time.Time, fetch func(old T) (T, error)) (*snapshot[T], error) {
	s := &snapshot[T]{fetch: fetch, now: now}
	var none T
	at := now()
	v, err := fetch(none)
	s.cur.Store(&dated[T]{v, at, at})
	return s, err
}

// due reports whether the value should be fetched again.
func (d *dated[T]) due(now time.Time) bool {
	return now.Sub(d.fetched) > snapshotFresh && now.Sub(d.tried) >= snapshotRetry
}

// get returns the value. It allocates only when it fetches.
func (s *snapshot[T]) get() T {
	d, now := s.cur.Load(), s.now()
	if !d.due(now) {
		return d.value
	}
	if now.Sub(d.fetched) < snapshotStale {
		if !s.mu.TryLock() {
			return d.value
		}
	} else {
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	if d, now = s.cur.Load(), s.now(); !d.due(now) {
		return d.value // somebody else has fetched meanwhile
	}
	next := &dated[T]{d.value, d.fetched, now}
	if v, err := s.fetch(d.value); err == nil {
		next = &dated[T]{v, now, now}
	}
	s.cur.Store(next)
	return next.value
}
