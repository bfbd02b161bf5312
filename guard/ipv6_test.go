package guard

import (
	"testing"
	"time"
)

// TestNoIPv6 counts the questions of a host without IPv6.
func TestNoIPv6(t *testing.T) {
	s := startDNS(t, zone("example. 60 IN SOA n. h. 1 2 3 4 5", "x.example. 5 IN A 8.8.8.8", "x.example. 60 IN AAAA 2a00::1", "y.example. 60 IN AAAA 2a00::1"))
	g, clock := resolverFor(t, nil, s.addr)
	g.resolver.ipv6 = false
	for _, row := range []struct{ host, want string }{
		{"x.example", "8.8.8.8"},
		{"x.example", "8.8.8.8"},
		{"y.example", `"y.example" does not resolve: the name has no address (NODATA)`},
		{"nope.example", `"nope.example" does not resolve: no such host (NXDOMAIN)`},
	} {
		if got := lookupText(t, g, row.host); got != row.want {
			t.Errorf("%s: got %s; want %s", row.host, got, row.want)
		}
	}
	if a, aaaa := s.count("udp A "), s.count("udp AAAA "); a != 3 || aaaa != 0 {
		t.Errorf("%d questions for A, %d for AAAA; want 3 and none", a, aaaa)
	}
	clock.add(5 * time.Second) // A's TTL, as there is no other
	lookupText(t, g, "x.example")
	if a := s.count("udp A x."); a != 2 {
		t.Errorf("%d questions for A; want another one after its TTL", a)
	}
}
