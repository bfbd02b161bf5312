package guard

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestCacheIsBounded(t *testing.T) {
	var c cache
	now := time.Now()
	res := result{addrs: addrs("8.8.8.8"), ttl: time.Minute}
	for i := range 3 * maxCacheEntries {
		c.put(fmt.Sprintf("n%d.example", i), res, now)
		if c.get(fmt.Sprintf("n%d.example", i), now) == nil {
			t.Fatalf("entry %d is not there right after it was put", i)
		}
	}
	if len(c.entries) != maxCacheEntries {
		t.Errorf("%d entries; want %d", len(c.entries), maxCacheEntries)
	}
	if c.addrs != maxCacheEntries {
		t.Errorf("%d addresses are counted; want one an entry", c.addrs)
	}
	// Entries that have expired go first.
	later := now.Add(2 * time.Minute)
	c.put("new.example", res, later)
	if len(c.entries) >= maxCacheEntries {
		t.Errorf("%d entries; want the expired ones that were met gone", len(c.entries))
	}
}

// TestCacheIsBoundedByAddresses fills it with answers of thousands of addresses.
func TestCacheIsBoundedByAddresses(t *testing.T) {
	var c cache
	now := time.Now()
	const each = 5000
	many := make([]netip.Addr, each)
	for i := range 2 * maxCacheAddrs / each {
		name := fmt.Sprintf("n%d.example", i)
		c.put(name, result{addrs: many, ttl: time.Minute}, now)
		c.put(name, result{addrs: many, ttl: time.Minute}, now) // in place of itself
		if c.get(name, now) == nil {
			t.Fatalf("entry %d is not there right after it was put", i)
		}
		counted := 0
		for _, e := range c.entries {
			counted += len(e.addrs)
		}
		if counted != c.addrs || counted > maxCacheAddrs {
			t.Fatalf("%d addresses, %d counted; want the same, %d at most", counted, c.addrs, maxCacheAddrs)
		}
	}
	if want := maxCacheAddrs / each; len(c.entries) != want {
		t.Errorf("%d entries; want %d", len(c.entries), want)
	}
	c.put("all", result{addrs: make([]netip.Addr, maxCacheAddrs), ttl: time.Minute}, now)
	c.put("more", result{addrs: make([]netip.Addr, maxCacheAddrs+1), ttl: time.Minute}, now)
	if c.get("all", now) == nil || c.get("more", now) != nil || len(c.entries) != 1 {
		t.Errorf("%d entries; want the one that fits alone", len(c.entries))
	}
}
