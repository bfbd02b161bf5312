package ca

import (
	"sync"
	"time"
)

// learned is what a Store found out and the next one, after a reload, need not find out again.
type learned struct {
	classic *lru[string, time.Time] // hosts and ports that answer only a ClientHello without ML-KEM, since when
	fetched *fetches

	mu     sync.Mutex // guards the following fields
	newest bundle     // that was downloaded or read from its file; zero: none
	seen   validators // of the newest answer to have been read in full
	source string     // the URL of seen, which is not shown
}

func newLearned() *learned {
	return &learned{
		classic: newLRU[string, time.Time](maxClassic),
		fetched: &fetches{known: newLRU[string, *fetched](maxFetches)},
	}
}

// keep remembers a bundle that was downloaded, which may have been kept in no file, or read from its file, which may change.
func (l *learned) keep(b bundle) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.asOf.After(l.newest.asOf) {
		l.newest = b
	}
}

// bundle returns the newest one that is remembered, zero for none.
func (l *learned) bundle() bundle {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest
}

// saw remembers what a later request to source is to refer to.
func (l *learned) saw(source string, v validators) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.source, l.seen = source, v
}

// validators returns what a request to source is to refer to.
func (l *learned) validators(source string) validators {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.source != source {
		return validators{}
	}
	return l.seen
}

// fetches are the certificates that were fetched, by URL.
type fetches struct {
	mu    sync.Mutex // makes claim and release one step each
	known *lru[string, *fetched]
}

// claim returns what is known of a URL, or is about to be. mine says that nobody is about to: the caller has to fetch it.
func (f *fetches) claim(raw string, now time.Time) (got *fetched, mine bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if got, ok := f.known.get(raw); ok && !got.isOver(now) {
		return got, false
	}
	got = &fetched{done: make(chan struct{})}
	f.known.put(raw, got)
	return got, true
}

// release forgets a claim that came to nothing.
func (f *fetches) release(raw string, got *fetched) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if have, _ := f.known.get(raw); have == got {
		f.known.drop(raw)
	}
}

// isOver reports whether an outcome is there and too old.
func (got *fetched) isOver(now time.Time) bool {
	select {
	case <-got.done:
		return !now.Before(got.until)
	default:
		return false
	}
}
