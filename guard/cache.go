package guard

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxCacheEntries and maxCacheAddrs bound the names that are remembered, and their addresses all together: an answer
	// can have thousands, which take 24 bytes each.
	maxCacheEntries = 16384
	maxCacheAddrs   = 1 << 20
	// evictionSample is how many entries are looked at to find one that makes room.
	evictionSample = 8
	// agingShare is the part of an entry's life, its last one, in which it is looked up again if it is in steady use.
	agingShare = 5
)

// result is what became of a name: addresses in the order in which they are to be tried, or an error.
type result struct {
	addrs []netip.Addr // shared, never to be changed
	err   error
	ttl   time.Duration // how long it may be used again; 0: not at all
}

// cache remembers results for their time to live. The zero value is empty and ready.
type cache struct {
	mu      sync.RWMutex // guards what follows
	entries map[string]*entry
	addrs   int // over all entries
}

// entry is a result that may be used before expires.
type entry struct {
	result
	expires time.Time
	used    atomic.Bool // before its last part began
	renewed atomic.Bool // somebody has seen to it
}

// get returns what is known of name at the time now, or nil. It does not allocate.
func (c *cache) get(name string, now time.Time) *entry {
	c.mu.RLock()
	e := c.entries[name]
	c.mu.RUnlock()
	if e == nil || !now.Before(e.expires) {
		return nil
	}
	return e
}

// use marks the entry as used at the time now, and tells one user, once, to renew it: one that finds it about to expire
// although it has been used before.
func (e *entry) use(now time.Time) (renew bool) {
	if e.expires.Sub(now) > e.ttl/agingShare {
		if !e.used.Load() {
			e.used.Store(true)
		}
		return false
	}
	return e.used.Load() && !e.renewed.Load() && e.renewed.CompareAndSwap(false, true)
}

// put remembers res, which arrived at the time now, instead of what was known of name.
func (c *cache) put(name string, res result, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(name)
	if res.ttl <= 0 || len(res.addrs) > maxCacheAddrs {
		return
	}
	if c.entries == nil {
		c.entries = make(map[string]*entry)
	}
	for len(c.entries) >= maxCacheEntries || c.addrs+len(res.addrs) > maxCacheAddrs {
		c.evict(now)
	}
	c.entries[name] = &entry{result: res, expires: now.Add(res.ttl)}
	c.addrs += len(res.addrs)
}

// drop forgets what is known of name.
func (c *cache) drop(name string) {
	if e := c.entries[name]; e != nil {
		c.addrs -= len(e.addrs)
		delete(c.entries, name)
	}
}

// evict forgets one entry or more: of a few at random, those that have expired, else the next to do so.
func (c *cache) evict(now time.Time) {
	var soonest string
	var expires time.Time
	seen, before := 0, len(c.entries)
	for name, e := range c.entries {
		if !e.expires.After(now) {
			c.drop(name)
			continue
		}
		if seen == 0 || e.expires.Before(expires) {
			soonest, expires = name, e.expires
		}
		if seen++; seen == evictionSample {
			break
		}
	}
	if len(c.entries) == before {
		c.drop(soonest)
	}
}
