package policy

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// largeConfig has 50 clients with 200 host rules each, 1,000 entries of destinations and the breaker.
func largeConfig() Config {
	cfg := Config{Breaker: BreakerConfig{Failures: 5, OpenFor: time.Minute}, Aliases: map[string][]string{"default": nil}}
	for i := range 50 {
		c := ClientConfig{Name: fmt.Sprintf("client%d", i), MaxConnections: limit(1000), RequestsPerSecond: limit(1_000_000_000)}
		if i%2 == 0 {
			c.Tokens = []string{HashToken(c.Name)}
		} else {
			c.Addresses = prefixes(fmt.Sprintf("10.%d.0.0/16", i))
		}
		for j := range 100 {
			c.AllowHosts = append(c.AllowHosts, fmt.Sprintf("*.customer%d.example", j), fmt.Sprintf("10.%d.0.0/%d", j, 16+j%8))
		}
		cfg.Clients = append(cfg.Clients, c)
	}
	for i := range 1000 {
		cfg.Destinations = append(cfg.Destinations, DestinationConfig{
			Hosts: []string{fmt.Sprintf("hooks%d.customer%d.example", i, i), fmt.Sprintf("*.bank%d.example", i)}, Ports: []int{443, 8443}})
	}
	return cfg
}

// decide does what one request of a large configuration asks, all of it.
func decide(p *Policy, peer *Peer, credential Credential, name string, literal netip.Addr, breakerKey []byte, now time.Time) bool {
	c := p.Identify(peer, credential)
	if c == nil || !c.TakeRequest(now) || !c.Acquire() {
		return false
	}
	defer c.Release()
	h := NewHost(name, literal)
	verdict := c.Judge(h, 443)
	_, presented := p.Alias(c, p.Destination(h, 443), h, "")
	pass, _, ok := p.Breaker().Allow(breakerKey, now)
	p.Breaker().Done(breakerKey, pass, Reached, now)
	return verdict == Allowed && presented == Present && ok
}

var requests = []struct {
	name       string
	peer       Peer
	credential Credential
	host       string
}{
	{"basic", Peer{}, basic("client48:client48"), "hooks99.customer99.example"},
	{"bearer", Peer{}, field("Bearer client48"), "hooks99.customer99.example"},
	{"address", Peer{Addr: netip.MustParseAddr("10.49.1.2")}, Credential{}, "hooks99.customer99.example"},
	{"literal", Peer{Addr: netip.MustParseAddr("10.49.1.2")}, Credential{}, "10.99.1.2"},
}

func TestNothingIsAllocated(t *testing.T) {
	p := mustNew(t, largeConfig(), nil)
	for _, tt := range requests {
		literal, _ := netip.ParseAddr(tt.host)
		request := func() {
			if !decide(p, &tt.peer, tt.credential, tt.host, literal, key, t0) {
				t.Fatalf("%s: refused", tt.name)
			}
		}
		if n := testing.AllocsPerRun(100, request); n != 0 {
			t.Errorf("%s: got %v allocations; want 0", tt.name, n)
		}
		c := p.Identify(&tt.peer, tt.credential)
		id := c.Identity(&tt.peer, tt.credential)
		if n := testing.AllocsPerRun(100, func() { p.Recheck(&id) }); n != 0 {
			t.Errorf("%s, checked again: got %v allocations; want 0", tt.name, n)
		}
	}
	for _, wrong := range []Credential{basic("client48:wrong"), field("Bearer wrong"), field("Basic ="), field("Digest x")} {
		if n := testing.AllocsPerRun(100, func() { p.Identify(&Peer{}, wrong) }); n > 1 { // an error of base64
			t.Errorf("wrong credential %q: got %v allocations; want at most 1", wrong.Value, n)
		}
	}
}

// BenchmarkRequest is what a request asks of a policy of 50 clients, 10,000 host rules and 1,000 entries of destinations.
func BenchmarkRequest(b *testing.B) {
	p := mustNew(b, largeConfig(), nil)
	for _, tt := range requests {
		b.Run(tt.name, func(b *testing.B) {
			literal, _ := netip.ParseAddr(tt.host)
			b.ReportAllocs()
			for b.Loop() {
				if !decide(p, &tt.peer, tt.credential, tt.host, literal, key, t0) {
					b.Fatal("refused")
				}
			}
		})
	}
}

// BenchmarkHostRules is one client's, with more and more of them: the time must not grow.
func BenchmarkHostRules(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var rules []string
			for i := range n {
				rules = append(rules, fmt.Sprintf("*.customer%d.example", i))
			}
			c, h := only(b, ClientConfig{AllowHosts: rules}), host("hooks.eu.customer7.example")
			b.ReportAllocs()
			for b.Loop() {
				if c.Judge(h, 443) != Allowed {
					b.Fatal("refused")
				}
			}
		})
	}
}

// BenchmarkBreaker is a destination that can be reached, where none, another and very many others cannot.
func BenchmarkBreaker(b *testing.B) {
	for _, failed := range []int{0, 1, maxRecords} {
		b.Run(fmt.Sprint(failed), func(b *testing.B) {
			breaker := newTestBreaker(b, 5, time.Minute)
			for i := range failed {
				breaker.Done(fmt.Appendf(nil, "https://%d.test:443", i), Pass{began: t0}, Failed, t0)
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					pass, _, _ := breaker.Allow(key, t0)
					breaker.Done(key, pass, Reached, t0)
				}
			})
		})
	}
}
