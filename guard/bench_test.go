package guard

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"
)

// hotPath is what is asked of the guard most: about a port once a request, the others for each new connection. None may
// allocate. prepare returns one round of a step.
var hotPath = []struct {
	name    string
	prepare func(testing.TB) (round func())
}{
	{"check a port", func(t testing.TB) func() {
		g := testGuard(t, DefaultConfig(), Hooks{})
		return func() {
			if err := g.CheckPort(443); err != nil {
				t.Fatal(err)
			}
		}
	}},
	{"check an IPv4 address", benchCheck("8.8.8.8:443", true)},
	{"check an IPv6 address", benchCheck("[2606:4700::6810:84e5]:443", true)},
	{"check a mapped address", benchCheck("[::ffff:8.8.8.8]:443", true)},
	{"check a NAT64 address", benchCheck("[64:ff9b::808:808]:443", true)},
	{"check an address that cidrAllowList names", benchCheck("10.1.2.3:443", true)},
	{"check an address that the client's list names", benchExceptions("192.168.1.2:443", true)},
	{"check an IPv6 address that the entry's list names", benchExceptions("[fc00::1:2]:443", true)},
	{"check an address that neither list names", benchExceptions("8.8.8.8:443", true)},
	{"check an address with a listener's port", benchExceptions("8.8.8.8:9090", true)},
	{"judge a built-in refusal", benchVerdict("127.0.0.1", false)},
	{"judge an address of cidrDenyList", benchVerdict("9.255.3.4", false)},
	{"judge an own address", benchVerdict("1.2.3.4", false)},
	{"look up a cached name", func(t testing.TB) func() { return benchLookup(t, "hooks-4711.shop.example", LookupCached) }},
	{"look up a local name", func(t testing.TB) func() { return benchLookup(t, "localhost", LookupOK) }},
}

func BenchmarkHotPath(b *testing.B) {
	for _, step := range hotPath {
		b.Run(step.name, func(b *testing.B) {
			round := step.prepare(b)
			b.ReportAllocs()
			for b.Loop() {
				round()
			}
		})
	}
}

// TestAllocHotPath holds every step to no allocation at all. The listing of this host's addresses every few seconds can
// fall into one measurement, but not into all three.
func TestAllocHotPath(t *testing.T) {
	for _, step := range hotPath {
		t.Run(step.name, func(t *testing.T) {
			round := step.prepare(t)
			const rounds = 500
			least := math.Inf(1)
			for range 3 {
				least = min(least, testing.AllocsPerRun(10, func() {
					for range rounds {
						round()
					}
				}))
			}
			if least != 0 {
				t.Errorf("got %v allocations in %d rounds; want 0", least, rounds)
			}
		})
	}
}

// benchGuard is a guard with thousands of configured prefixes and a full cache of names.
func benchGuard(t testing.TB) *Guard {
	t.Helper()
	cfg := DefaultConfig()
	cfg.DNSCacheTTL = time.Hour
	cfg.AllowList = prefixes("10.0.0.0/8", "fd00::/8")
	for i := range 4096 {
		cfg.DenyList = append(cfg.DenyList, netip.PrefixFrom(netip.AddrFrom4([4]byte{9, byte(i >> 4), byte(i << 4), 0}), 20))
	}
	g := testGuard(t, cfg, Hooks{})
	at := time.Now()
	for i := range maxCacheEntries {
		g.resolver.cache.put(fmt.Sprintf("hooks-%d.shop.example", i), result{addrs: addrs("8.8.8.8", "2a00::1"), ttl: time.Hour}, at)
	}
	return g
}

func benchCheck(address string, want bool) func(testing.TB) func() {
	return func(t testing.TB) func() {
		g, ap := benchGuard(t), netip.MustParseAddrPort(address)
		return func() {
			if err := g.CheckAddr(ap, Exceptions{}); (err == nil) != want {
				t.Fatalf("got %v", err)
			}
		}
	}
}

// benchExceptions checks a kept connection of a client and an entry that have lists of their own, while the proxy listens.
func benchExceptions(address string, want bool) func(testing.TB) func() {
	return func(t testing.TB) func() {
		g, ap := benchGuard(t), netip.MustParseAddrPort(address)
		g.Protect([]netip.AddrPort{netip.MustParseAddrPort("[::]:9090"), netip.MustParseAddrPort("[::]:2112")})
		client, entry := benchList(t), allowList(t, "entry", "fc00::/64", "172.16.0.0/12")
		return func() {
			if err := g.CheckAddr(ap, Exceptions{Client: client, Entry: entry}); (err == nil) != want {
				t.Fatalf("got %v", err)
			}
		}
	}
}

func benchList(t testing.TB) *AllowList {
	t.Helper()
	var list []string
	for i := range 256 {
		list = append(list, fmt.Sprintf("192.168.%d.0/24", i))
	}
	return allowList(t, "client", list...)
}

func benchVerdict(address string, want bool) func(testing.TB) func() {
	return func(t testing.TB) func() {
		g, a := benchGuard(t), netip.MustParseAddr(address)
		return func() {
			if v := verdict(g, a); v.Allowed != want {
				t.Fatalf("got %v", v)
			}
		}
	}
}

func benchLookup(t testing.TB, name string, want LookupResult) func() {
	g := benchGuard(t)
	ctx := t.Context()
	return func() {
		if addrs, how, err := g.resolver.lookup(ctx, name); err != nil || how != want || len(addrs) != 2 {
			t.Fatalf("got %v, %v, %v; want two addresses, %v", addrs, how, err, want)
		}
	}
}

// The cache is read by all connections at once.
func BenchmarkCacheHitParallel(b *testing.B) {
	round := benchLookup(b, "hooks-4711.shop.example", LookupCached)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			round()
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	s := startDNS(b, zone("x.example. 0 IN A 8.8.8.8"))
	g, _ := resolverFor(b, nil, s.addr)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := g.resolver.lookup(ctx, "x.example"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDial(b *testing.B) {
	to, _ := listen(b, "127.0.0.2:0")
	g, _ := resolverFor(b, nil)
	d := NewDialer(g)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		conn, _, err := d.Dial(ctx, "127.0.0.2", to.Port())
		if err != nil {
			b.Fatal(err)
		}
		conn.Close()
	}
}
