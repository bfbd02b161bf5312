package policy

import (
	"cmp"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	breakerShards = 256
	// maxRecords is how many destinations are remembered. With names of the greatest length they take 50 MB.
	maxRecords = 100_000
	// staleAfter is how long a record is kept after its destination was reached again, for failures that began before
	// it opened and end only now. Every connectTimeout in use is shorter.
	staleAfter = 10 * time.Minute
)

// breakerState is what the Breakers of successive configurations share.
type breakerState struct {
	seed    maphash.Seed
	records atomic.Int64 // in all shards
	open    atomic.Int64
	shards  [breakerShards]breakerShard
}

// breakerShard has the destinations whose key has its hash. It fills a cache line, so that looking at the size of one
// does not wait for another.
type breakerShard struct {
	mu      sync.Mutex // guards records
	records map[string]*record
	size    atomic.Int64 // of records, to be looked at without mu
	_       [64 - 8 - 8 - 8]byte
}

// record is one destination that has failed.
type record struct {
	key         string
	failures    int // in a row
	lastFailure time.Time
	open        bool
	probing     bool          // one request was let through, and is not done
	openFor     time.Duration // this time
	opened      time.Time     // last; zero: never
	until       time.Time
}

func newBreakerState() *breakerState { return &breakerState{seed: maphash.MakeSeed()} }

func (s *breakerState) shard(key []byte) *breakerShard {
	return &s.shards[maphash.Bytes(s.seed, key)%breakerShards]
}

// remember returns a new record for key, in place of an old one of the shard where there are too many in all; nil where
// there are and the shard has none. The caller holds shard.mu.
func (s *breakerState) remember(shard *breakerShard, key []byte) *record {
	if s.records.Add(1) > maxRecords {
		if len(shard.records) == 0 {
			s.records.Add(-1)
			return nil
		}
		s.forget(shard, shard.oldest())
	}
	if shard.records == nil {
		shard.records = make(map[string]*record)
	}
	r := &record{key: string(key)}
	shard.records[r.key] = r
	shard.size.Add(1)
	return r
}

// oldest returns the one that failed first of a few records, and one that is not open where there is one among them: to
// forget an open one is to close it.
func (shard *breakerShard) oldest() *record {
	const few = 16
	var oldest *record
	n := 0
	for _, r := range shard.records {
		if oldest == nil || oldest.open && !r.open || oldest.open == r.open && r.lastFailure.Before(oldest.lastFailure) {
			oldest = r
		}
		if n++; n == few {
			break
		}
	}
	return oldest
}

// forget removes r. The caller holds shard.mu.
func (s *breakerState) forget(shard *breakerShard, r *record) {
	if r.open {
		s.open.Add(-1)
	}
	delete(shard.records, r.key)
	shard.size.Add(-1)
	s.records.Add(-1)
}

// reached ends the count of r. The caller holds shard.mu.
func (s *breakerState) reached(shard *breakerShard, r *record, now time.Time) {
	if !r.open && now.Sub(r.opened) > staleAfter {
		s.forget(shard, r)
		return
	}
	if r.open {
		s.open.Add(-1)
	}
	*r = record{key: r.key, lastFailure: r.lastFailure, opened: r.opened}
}

// top returns up to n open records, those with the most failures first.
func (s *breakerState) top(n int) []OpenDestination {
	var all []OpenDestination
	for i := range s.shards {
		shard := &s.shards[i]
		if shard.size.Load() == 0 {
			continue
		}
		shard.mu.Lock()
		for _, r := range shard.records {
			if r.open {
				all = append(all, OpenDestination{r.key, r.failures, r.opened, r.until})
			}
		}
		shard.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b OpenDestination) int {
		return cmp.Or(b.Failures-a.Failures, cmp.Compare(a.Key, b.Key))
	})
	return all[:min(n, len(all))]
}
