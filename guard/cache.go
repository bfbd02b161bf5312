package guard

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// maxCacheEntries bounds the names that are remembered. Each has at most 2*maxFamilyAddrs addresses.
	maxCacheEntries = 16384
	// evictionSample is how many entries are looked at to find one that makes room.
	evictionSample = 8
)

// result is what became of a name: addresses in the order in which they are to be tried, or an error.
type result struct {
	addrs []netip.Addr // shared, never to be changed
	err   error
	ttl   time.Duration // how long it may be used again; 0: not at all
}

// cache remembers results for their time to live. The zero value is empty and ready.
type cache struct {
	mu      sync.RWMutex // guards entries
	entries map[string]entry
}

// entry is a result that may be used before expires.
type entry struct {
	result
	expires time.Time
}

// get returns what is known of name at the time now. It does not allocate.
func (c *cache) get(name string, now time.Time) (result, bool) {
	c.mu.RLock()
	e, ok := c.entries[name]
	c.mu.RUnlock()
	if !ok || !now.Before(e.expires) {
		return result{}, false
	}
	return e.result, true
}

// put remembers res, which arrived at the time now, instead of what was known of name.
func (c *cache) put(name string, res result, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if res.ttl <= 0 {
		delete(c.entries, name)
		return
	}
	if c.entries == nil {
		c.entries = make(map[string]entry)
	}
	if _, known := c.entries[name]; !known && len(c.entries) >= maxCacheEntries {
		c.evict(now)
	}
	c.entries[name] = entry{res, now.Add(res.ttl)}
}

// evict makes room for one entry: of a few at random, those that have expired and the next to do so go.
func (c *cache) evict(now time.Time) {
	var soonest string
	var expires time.Time
	seen := 0
	for name, e := range c.entries {
		if !e.expires.After(now) {
			delete(c.entries, name)
			continue
		}
		if seen == 0 || e.expires.Before(expires) {
			soonest, expires = name, e.expires
		}
		if seen++; seen == evictionSample {
			break
		}
	}
	if len(c.entries) >= maxCacheEntries {
		delete(c.entries, soonest)
	}
}
