package destination

import (
	"net/netip"
	"testing"

	"whsentry/policy"
	"whsentry/proxy/http1"
)

func authority(t testing.TB, raw string) *http1.Authority {
	t.Helper()
	a, reject := http1.ParseAuthority([]byte(raw))
	if reject != "" {
		t.Fatalf("%q %s", raw, reject)
	}
	return &a
}

// TestAddress: what is the same destination has the same key, however it is written.
func TestAddress(t *testing.T) {
	for _, tt := range []struct {
		raw             string
		tls             bool
		key, name, text string
		port            uint16
		literal         string // ""; a name
	}{
		{"Example.com.", false, "example.com:80", "example.com", "example.com:80", 80, ""},
		{"example.com", true, "example.com:443", "example.com", "example.com:443", 443, ""},
		{"example.com:0443", true, "example.com:443", "example.com", "example.com:443", 443, ""},
		{"1.example.com:8080", true, "1.example.com:8080", "1.example.com", "1.example.com:8080", 8080, ""},
		{"192.0.2.1", false, "192.0.2.1:80", "192.0.2.1", "192.0.2.1:80", 80, "192.0.2.1"},
		{"[2001:DB8:0::1]:81", false, "2001:db8::1:81", "2001:db8::1", "[2001:db8::1]:81", 81, "2001:db8::1"},
	} {
		var a, b Address
		a.Set(authority(t, tt.raw), tt.tls)
		if string(a.Key()) != tt.key || a.Name() != tt.name || a.String() != tt.text || a.Port() != tt.port {
			t.Errorf("%q: got %q, %q, %q and %d", tt.raw, a.Key(), a.Name(), a.String(), a.Port())
		}
		var literal netip.Addr
		if tt.literal != "" {
			literal = netip.MustParseAddr(tt.literal)
		}
		if got, want := a.Host(), policy.NewHost(tt.name, literal); got != want {
			t.Errorf("%q: got the host %+v; want %+v", tt.raw, got, want)
		}
		b.Copy(&a)
		b.SetPort(7)
		if b.Name() != tt.name || b.Port() != 7 || string(b.Key()) != tt.name+":7" || string(a.Key()) != tt.key {
			t.Errorf("%q: got %q at another port, and %q", tt.raw, b.Key(), a.Key())
		}
		if !a.HasHost(authority(t, tt.raw)) || a.HasHost(authority(t, "example.org")) {
			t.Errorf("%q: got its own host wrong", tt.raw)
		}
	}
}

func TestAllocAddress(t *testing.T) {
	a, from := New(), authority(t, "hooks.shop.example:8443")
	if got := testing.AllocsPerRun(100, func() {
		a.Set(from, true)
		a.Host()
	}); got != 0 {
		t.Errorf("got %v allocations; want 0", got)
	}
}
