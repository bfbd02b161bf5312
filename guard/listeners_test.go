package guard

import (
	"errors"
	"net/netip"
	"testing"
)

// TestOwnListeners opens every list: the proxy's own listeners stay closed, in every form of every address of its own,
// and nothing else does.
func TestOwnListeners(t *testing.T) {
	parse := netip.MustParseAddrPort
	for _, row := range []struct {
		name, listener, to string
		refused            bool
	}{
		{"itself", "127.0.0.1:9090", "127.0.0.1:9090", true},
		{"the port below", "127.0.0.1:9090", "127.0.0.1:9089", false},
		{"the port above", "127.0.0.1:9090", "127.0.0.1:9091", false},
		{"another address of this host", "127.0.0.1:9090", "127.0.0.2:9090", false},
		{"another own address", "127.0.0.1:9090", "1.2.3.4:9090", false},
		{"a public one, itself", "1.2.3.4:9090", "1.2.3.4:9090", true},
		{"IPv6, itself", "[::1]:9090", "[::1]:9090", true},
		{"IPv6, not IPv4", "[::1]:9090", "127.0.0.1:9090", false},
		{"mapped", "127.0.0.1:9090", "[::ffff:127.0.0.1]:9090", true},
		{"NAT64", "127.0.0.1:9090", "[64:ff9b::7f00:1]:9090", true},
		{"listening mapped", "[::ffff:127.0.0.1]:9090", "127.0.0.1:9090", true},
		{"listening with a zone", "[fe80::1%lo]:9090", "[fe80::1]:9090", true},
		{"the unspecified address leads home", "127.0.0.1:9090", "0.0.0.0:9090", true},
		{"the unspecified address, IPv6", "[::1]:9090", "[::]:9090", true},
		{"the unspecified address, another port", "127.0.0.1:9090", "0.0.0.0:80", false},
		{"everywhere, loopback", "[::]:9090", "127.0.0.1:9090", true},
		{"everywhere, the last of loopback", "[::]:9090", "127.255.255.255:9090", true},
		{"everywhere, beyond loopback", "[::]:9090", "128.0.0.0:9090", false},
		{"everywhere, IPv6 loopback", "[::]:9090", "[::1]:9090", true},
		{"everywhere, a public own one", "[::]:9090", "1.2.3.4:9090", true},
		{"everywhere, beside it", "[::]:9090", "1.2.3.5:9090", false},
		{"everywhere, a public own one, IPv6", "[::]:9090", "[2a00::4]:9090", true},
		{"everywhere, beside it, IPv6", "[::]:9090", "[2a00::5]:9090", false},
		{"everywhere, a public own one, mapped", "[::]:9090", "[::ffff:1.2.3.4]:9090", true},
		{"everywhere, a public own one, NAT64", "[::]:9090", "[64:ff9b::102:304]:9090", true},
		{"everywhere, another port", "[::]:9090", "1.2.3.4:9091", false},
		{"everywhere, IPv4", "0.0.0.0:9090", "1.2.3.4:9090", true},
		{"everywhere, somebody else", "0.0.0.0:9090", "8.8.8.8:9090", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			all := allowList(t, "all", "0.0.0.0/0", "::/0")
			for _, skip := range []bool{false, true} {
				cfg := DefaultConfig()
				cfg.AllowList, cfg.InsecureSkipDenyList = prefixes("0.0.0.0/0", "::/0"), skip
				g := testGuard(t, cfg, Hooks{})
				e := Exceptions{Client: all, Entry: all}
				if v := g.Verdict(parse(row.to), e); !v.Allowed {
					t.Fatalf("refused by %v before the guard was told", v.Rule)
				}
				g.Protect([]netip.AddrPort{parse("127.0.0.1:1"), parse(row.listener)})
				v := g.Verdict(parse(row.to), e)
				if v.Allowed == row.refused || row.refused && v.Rule.Name != nameOwnListener {
					t.Errorf("skip %v: allowed %v by %v; want refused %v", skip, v.Allowed, v.Rule, row.refused)
				}
				g.Protect(nil)
				if !g.Verdict(parse(row.to), e).Allowed {
					t.Error("refused although nobody listens any more")
				}
			}
		})
	}
}

// TestOwnListenerIsNotConnectedTo dials a listener that becomes the proxy's own.
func TestOwnListenerIsNotConnectedTo(t *testing.T) {
	to, accepted := listen(t, "127.0.0.2:0")
	g, _ := resolverFor(t, nil)
	d := NewDialer(g)
	conn, _, err := d.Dial(t.Context(), "127.0.0.2", to.Port())
	if err != nil {
		t.Fatal(err)
	}
	conn.RemoteAddr()
	conn.Read(make([]byte, 1)) // until it is accepted
	conn.Close()
	g.Protect([]netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), to.Port())})
	var blocked *BlockedError
	if _, _, err := d.Dial(t.Context(), "127.0.0.2", to.Port()); !errors.As(err, &blocked) || blocked.Rule.Name != nameOwnListener {
		t.Errorf("got %v; want a *BlockedError by %q", err, nameOwnListener)
	}
	if err := g.CheckAddr(to, Exceptions{}); !errors.As(err, &blocked) {
		t.Errorf("a kept connection: %v; want a *BlockedError", err)
	}
	if got := accepted.Load(); got != 1 {
		t.Errorf("%d connections; want the first alone", got)
	}
}

// TestLeadsHome asks the system where loopback's addresses lead, which no list of interfaces has but for the first.
func TestLeadsHome(t *testing.T) {
	g := testGuard(t, DefaultConfig(), Hooks{})
	for _, row := range []struct {
		name, listener, to string
		home               bool
	}{
		{"everywhere", "[::]:9090", "127.9.9.9:9090", true},
		{"everywhere, IPv4", "0.0.0.0:9090", "127.9.9.9:9090", true},
		{"everywhere, mapped", "[::]:9090", "[::ffff:127.9.9.9]:9090", true},
		{"another port", "[::]:9090", "127.9.9.9:9091", false},
		{"listening at one address", "127.0.0.1:9090", "127.9.9.9:9090", false},
		{"IPv6", "[::]:9090", "[::1]:9090", true},
		{"nowhere to send it", "[::]:9090", "240.0.0.1:9090", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			g.Protect([]netip.AddrPort{netip.MustParseAddrPort(row.listener)})
			to := netip.MustParseAddrPort(row.to)
			if got := g.leadsHome(to.Addr(), to.Port()); got != row.home {
				t.Errorf("leadsHome(%v) = %v; want %v", to, got, row.home)
			}
			g.Protect(nil)
			if g.leadsHome(to.Addr(), to.Port()) {
				t.Error("leads home although nobody listens")
			}
		})
	}
}
