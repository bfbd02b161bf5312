package guard

import (
	"flag"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain has many tests run at once, for most of the time they wait for resolvers that are silent; the command line's
// -parallel wins. It finds goroutines that are left, but for those that fasthttp's client, which a test uses, keeps for a
// while.
func TestMain(m *testing.M) {
	flag.Set("test.parallel", "16")
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*Client).mCleaner"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"))
}

// testEnvironment is a system with one public address of its own, an empty /etc/hosts and no resolver.
func testEnvironment(t testing.TB) environment {
	dir := t.TempDir()
	return environment{
		now:            time.Now,
		interfaceAddrs: func() ([]net.Addr, error) { return ipNets("127.0.0.1", "::1", "1.2.3.4", "2a00::4"), nil },
		hostsPath:      filepath.Join(dir, "hosts"),
		resolvPath:     filepath.Join(dir, "resolv.conf"),
		ipv6:           true,
	}
}

// ipNets returns addresses as net.InterfaceAddrs does.
func ipNets(addrs ...string) []net.Addr {
	var nets []net.Addr
	for _, a := range addrs {
		ip := net.ParseIP(a)
		bits := 128
		if ip.To4() != nil {
			bits = 32
		}
		nets = append(nets, &net.IPNet{IP: ip, Mask: net.CIDRMask(bits/2, bits)})
	}
	return nets
}

// testGuard returns a Guard for cfg on the test system.
func testGuard(t testing.TB, cfg Config, hooks Hooks) *Guard {
	t.Helper()
	g, err := newGuard(cfg, hooks, testEnvironment(t))
	if err != nil {
		t.Fatalf("newGuard: %v", err)
	}
	return g
}

func prefixes(list ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func addrs(list ...string) []netip.Addr {
	var as []netip.Addr
	for _, s := range list {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

// mapped returns the IPv4-mapped form of a, and nat64Of its NAT64 form.
func mapped(a netip.Addr) netip.Addr { return netip.AddrFrom16(a.As16()) }

func nat64Of(a netip.Addr) netip.Addr {
	b := nat64.Addr().As16()
	v4 := a.As4()
	copy(b[12:], v4[:])
	return netip.AddrFrom16(b)
}

// verdict judges a for a call without exceptions, to a port where nobody listens.
func verdict(g *Guard, a netip.Addr) Verdict {
	return g.Verdict(netip.AddrPortFrom(a, 80), Exceptions{})
}
