package ca

import "sync"

// lru keeps the values that were used last, up to a limit. Its methods may be called concurrently.
type lru[K comparable, V any] struct {
	limit int

	mu      sync.Mutex // guards the following fields
	entries map[K]*lruEntry[K, V]
	ring    lruEntry[K, V] // its next was used last, its prev is the first to go
}

type lruEntry[K comparable, V any] struct {
	prev, next *lruEntry[K, V]
	key        K
	value      V
}

// newLRU returns an empty lru of at most limit values.
func newLRU[K comparable, V any](limit int) *lru[K, V] {
	l := &lru[K, V]{limit: limit, entries: make(map[K]*lruEntry[K, V])}
	l.ring.prev, l.ring.next = &l.ring, &l.ring
	return l
}

// get returns the value of key, which counts as its use.
func (l *lru[K, V]) get(key K) (value V, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[key]
	if e == nil {
		return value, false
	}
	e.unlink()
	l.front(e)
	return e.value, true
}

// put sets the value of key, and lets the value go that was not used for longest where there is one too many.
func (l *lru[K, V]) put(key K, value V) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[key]; e != nil {
		e.unlink()
		e.value = value
		l.front(e)
		return
	}
	if len(l.entries) >= l.limit {
		oldest := l.ring.prev
		oldest.unlink()
		delete(l.entries, oldest.key)
	}
	e := &lruEntry[K, V]{key: key, value: value}
	l.entries[key] = e
	l.front(e)
}

// drop forgets key.
func (l *lru[K, V]) drop(key K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[key]; e != nil {
		e.unlink()
		delete(l.entries, key)
	}
}

func (l *lru[K, V]) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

func (l *lru[K, V]) front(e *lruEntry[K, V]) {
	e.prev, e.next = &l.ring, l.ring.next
	e.prev.next, e.next.prev = e, e
}

func (e *lruEntry[K, V]) unlink() { e.prev.next, e.next.prev = e.next, e.prev }
