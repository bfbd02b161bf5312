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

// get returns the value. It allocates only when it fetches.
func (s *snapshot[T]) get() T {
	d := s.cur.Load()
	now := s.now()
	age := now.Sub(d.fetched)
	if age <= snapshotFresh || now.Sub(d.tried) < snapshotRetry {
		return d.value
	}
	if age < snapshotStale {
		if !s.mu.TryLock() {
			return d.value
		}
	} else {
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	if newer := s.cur.Load(); newer != d {
		return newer.value // somebody else's fetch ended just now
	}
	if v, err := s.fetch(d.value); err == nil {
		d = &dated[T]{v, now, now}
	} else {
		d = &dated[T]{d.value, d.fetched, now}
	}
	s.cur.Store(d)
	return d.value
}
