package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// allowList is NewAllowList for lists that are right.
func allowList(t testing.TB, name string, list ...string) *AllowList {
	t.Helper()
	l, err := NewAllowList(name, prefixes(list...))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// forms returns a, and for IPv4 the two forms that hold it.
func forms(a netip.Addr) []netip.Addr {
	if a.Is4() {
		return []netip.Addr{a, mapped(a), nat64Of(a)}
	}
	return []netip.Addr{a}
}

func TestExceptions(t *testing.T) {
	const client, entry = "cidrAllowList of client billing", "cidrAllowList of destinations[0]"
	for _, row := range []struct {
		name          string
		deny, allow   []netip.Prefix
		client, entry []string
		addr          string
		want          string // the rule's name; "" for global unicast
		allowed       bool
	}{
		{name: "none", addr: "10.9.0.0", want: "Private-Use"},
		{name: "client, first", client: []string{"10.9.0.0/16"}, addr: "10.9.0.0", want: client, allowed: true},
		{name: "client, last", client: []string{"10.9.0.0/16"}, addr: "10.9.255.255", want: client, allowed: true},
		{name: "client, before", client: []string{"10.9.0.0/16"}, addr: "10.8.255.255", want: "Private-Use"},
		{name: "client, after", client: []string{"10.9.0.0/16"}, addr: "10.10.0.0", want: "Private-Use"},
		{name: "client, IPv6, first", client: []string{"fd00:9::/32"}, addr: "fd00:9::", want: client, allowed: true},
		{name: "client, IPv6, last", client: []string{"fd00:9::/32"}, addr: "fd00:9:ffff:ffff:ffff:ffff:ffff:ffff", want: client, allowed: true},
		{name: "client, IPv6, before", client: []string{"fd00:9::/32"}, addr: "fd00:8:ffff:ffff:ffff:ffff:ffff:ffff", want: "Unique-Local"},
		{name: "client, IPv6, after", client: []string{"fd00:9::/32"}, addr: "fd00:a::", want: "Unique-Local"},
		{name: "entry", entry: []string{"10.9.0.0/16"}, addr: "10.9.1.1", want: entry, allowed: true},
		{name: "entry, beside", entry: []string{"10.9.0.0/16"}, addr: "10.10.0.0", want: "Private-Use"},
		{name: "joined, the client's", client: []string{"10.9.0.0/16"}, entry: []string{"10.8.0.0/16"}, addr: "10.9.0.1", want: client, allowed: true},
		{name: "joined, the entry's", client: []string{"10.9.0.0/16"}, entry: []string{"10.8.0.0/16"}, addr: "10.8.0.1", want: entry, allowed: true},
		{name: "joined, neither's", client: []string{"10.9.0.0/16"}, entry: []string{"10.8.0.0/16"}, addr: "10.7.0.1", want: "Private-Use"},
		{name: "deny beats the client's", deny: prefixes("10.9.1.0/24"), client: []string{"10.9.1.1/32"}, addr: "10.9.1.1", want: nameDenyList},
		{name: "deny beats the entry's", deny: prefixes("fd00::/8"), entry: []string{"fd00:9::1/128"}, addr: "fd00:9::1", want: nameDenyList},
		{name: "the top-level list says so first", allow: prefixes("10.0.0.0/8"), client: []string{"10.9.1.1/32"}, addr: "10.9.1.1", want: nameAllowList, allowed: true},
		{name: "own interface", client: []string{"1.2.3.4/32"}, addr: "1.2.3.4", want: client, allowed: true},
		{name: "own interface, IPv6", entry: []string{"2a00::/64"}, addr: "2a00::4", want: entry, allowed: true},
		{name: "everything", client: []string{"0.0.0.0/0"}, addr: "127.0.0.1", want: client, allowed: true},
		{name: "all IPv6 is no IPv4", client: []string{"::/0"}, addr: "127.0.0.1", want: "Loopback"},
		{name: "global unicast beside a list", client: []string{"10.9.0.0/16"}, addr: "8.8.8.8", allowed: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.DenyList, cfg.AllowList = row.deny, row.allow
			g := testGuard(t, cfg, Hooks{})
			e := Exceptions{Client: allowList(t, client, row.client...), Entry: allowList(t, entry, row.entry...)}
			for _, a := range forms(netip.MustParseAddr(row.addr)) {
				ap := netip.AddrPortFrom(a, 443)
				if v := g.Verdict(ap, e); v.Allowed != row.allowed || v.Rule.Name != row.want {
					t.Errorf("%s: allowed %v by %q; want %v by %q", a, v.Allowed, v.Rule.Name, row.allowed, row.want)
				}
				var blocked *BlockedError
				if err := g.CheckAddr(ap, e); (err == nil) != row.allowed || err != nil && !errors.As(err, &blocked) {
					t.Errorf("%s: CheckAddr gives %v; want allowed %v", a, err, row.allowed)
				}
			}
		})
	}
}

// TestMetadataFloor opens every list in every way: only the address itself in the top-level list lifts it.
func TestMetadataFloor(t *testing.T) {
	floor := []string{
		"169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.42.42", "169.254.0.23", "100.100.100.200",
		"168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:42::42",
		"fd00:c1::a9fe:a9fe", "fe80::a9fe:a9fe",
	}
	listed := 0
	for _, b := range registry {
		if b.name == nameMetadata {
			listed++
		}
	}
	if listed != len(floor) {
		t.Errorf("the table has %d; want %d", listed, len(floor))
	}
	everything := allowList(t, "all", "0.0.0.0/0", "::/0")
	for _, s := range floor {
		a := netip.MustParseAddr(s)
		one := netip.PrefixFrom(a, a.BitLen())
		pair, err := a.Prefix(a.BitLen() - 1)
		if err != nil {
			t.Fatal(err)
		}
		exact := allowList(t, "exact", one.String())
		for _, row := range []struct {
			name    string
			allow   []netip.Prefix
			e       Exceptions
			allowed bool
		}{
			{"nothing", nil, Exceptions{}, false},
			{"everything at the top", prefixes("0.0.0.0/0", "::/0"), Exceptions{}, false},
			{"the pair at the top", []netip.Prefix{pair}, Exceptions{}, false},
			{"the client's everything", nil, Exceptions{Client: everything}, false},
			{"the client's own entry for it", nil, Exceptions{Client: exact}, false},
			{"the entry's own entry for it", nil, Exceptions{Entry: exact}, false},
			{"all but the address itself at the top", append(prefixes("0.0.0.0/0", "::/0"), pair), Exceptions{Client: exact, Entry: exact}, false},
			{"itself at the top", []netip.Prefix{one}, Exceptions{}, true},
			{"itself beside everything at the top", append(prefixes("0.0.0.0/0", "::/0"), one), Exceptions{}, true},
		} {
			cfg := DefaultConfig()
			cfg.AllowList = row.allow
			g := testGuard(t, cfg, Hooks{})
			for _, form := range forms(a) {
				v := g.Verdict(netip.AddrPortFrom(form, 80), row.e)
				if v.Allowed != row.allowed || !v.Allowed && v.Rule.Name != nameMetadata {
					t.Errorf("%s, %s: allowed %v by %v; want %v", form, row.name, v.Allowed, v.Rule, row.allowed)
				}
			}
		}
		// Its neighbours are no part of the floor.
		g := testGuard(t, DefaultConfig(), Hooks{})
		for _, next := range []netip.Addr{a.Prev(), a.Next()} {
			if v := g.Verdict(netip.AddrPortFrom(next, 80), Exceptions{Client: everything}); !v.Allowed {
				t.Errorf("%s beside %s: refused by %v; want the client's list to lift it", next, a, v.Rule)
			}
		}
	}
}

func TestNewAllowListSaysWhatIsWrong(t *testing.T) {
	for _, row := range []struct{ prefix, want string }{
		{"10.1.2.3/8", "clients[0].cidrAllowList: 10.1.2.3/8 is not a CIDR prefix without host bits"},
		{"::ffff:10.0.0.0/104", "clients[0].cidrAllowList: ::ffff:10.0.0.0/104 is not a CIDR prefix without host bits"},
		{"10.0.0.0/8", "<nil>"},
	} {
		if _, err := NewAllowList("clients[0].cidrAllowList", prefixes(row.prefix)); fmt.Sprint(err) != row.want {
			t.Errorf("%s: got %v; want %s", row.prefix, err, row.want)
		}
	}
	if l, err := NewAllowList("x", nil); l != nil || err != nil {
		t.Errorf("no prefixes: got %v, %v; want nil, nil", l, err)
	}
}

// TestExceptionsOfADialer dials the same private address for a client that may reach it, and for others.
func TestExceptionsOfADialer(t *testing.T) {
	to, accepted := listen(t, "127.0.0.9:0")
	g, _ := resolverFor(t, nil)
	nobody := NewDialer(g)
	billing := nobody.With(Exceptions{Client: allowList(t, "billing", "127.0.0.9/32")})
	entry := nobody.With(Exceptions{Entry: allowList(t, "entry", "127.0.0.8/31")})
	for _, row := range []struct {
		name    string
		d       *Dialer
		host    string
		allowed bool
	}{
		{"nobody", nobody, "127.0.0.9", false},
		{"nobody, mapped", nobody, "::ffff:127.0.0.9", false},
		{"the client", billing, "127.0.0.9", true},
		{"the client, mapped", billing, "::ffff:127.0.0.9", true},
		{"the client, another address", billing, "127.0.0.8", false},
		{"the entry", entry, "127.0.0.9", true},
		{"the entry, before", entry, "127.0.0.7", false},
		{"the entry, after", entry, "127.0.0.10", false},
		{"nobody again", nobody, "127.0.0.9", false},
	} {
		before := accepted.Load()
		conn, _, err := row.d.Dial(t.Context(), row.host, to.Port())
		var blocked *BlockedError
		if (err == nil) != row.allowed || err != nil && !errors.As(err, &blocked) {
			t.Errorf("%s: got %v; want allowed %v", row.name, err, row.allowed)
		}
		if err == nil {
			conn.Close()
			for end := time.Now().Add(10 * time.Second); accepted.Load() == before && time.Now().Before(end); {
				runtime.Gosched() // until it has been accepted, and is not taken for the next row's
			}
		} else if accepted.Load() != before {
			t.Errorf("%s: connected to; want no connection", row.name)
		}
		if err := row.d.Judge(t.Context(), row.host, to.Port()); (err == nil) != row.allowed {
			t.Errorf("%s: Judge gives %v; want allowed %v", row.name, err, row.allowed)
		}
	}
}

func TestEgressOfACall(t *testing.T) {
	own := addrs("127.0.0.3", "127.0.0.4", "::1")
	g, _ := resolverFor(t, func(c *Config) { c.EgressAddresses = own })
	for _, row := range []struct{ addr, want string }{
		{"127.0.0.4", "<nil>"}, {"::1", "<nil>"},
		{"127.0.0.5", "egress: 127.0.0.5 is not one of egress.addresses"},
		{"::2", "egress: ::2 is not one of egress.addresses"},
	} {
		if _, err := g.Egress(addrs("127.0.0.3", row.addr)); fmt.Sprint(err) != row.want {
			t.Errorf("%s: got %v; want %s", row.addr, err, row.want)
		}
	}
	if none, err := g.Egress(nil); none != nil || err != nil {
		t.Errorf("no addresses: got %v, %v; want nil, nil", none, err)
	}
	only, err := g.Egress(addrs("127.0.0.4"))
	if err != nil {
		t.Fatal(err)
	}
	d := NewDialer(g).With(Exceptions{Egress: only})
	for port := range uint16(50) {
		if from := d.source("x.example", netip.AddrPortFrom(netip.MustParseAddr("8.8.8.8"), port)); from != own[1] {
			t.Fatalf("port %d: from %s; want %s", port, from, own[1])
		}
	}
}

// TestFamiliesWithoutAWay checks that addresses which cannot be connected to from here are not tried, and not named where something else is refused.
func TestFamiliesWithoutAWay(t *testing.T) {
	for _, row := range []struct {
		name   string
		egress string // of egress.addresses, which has both families; "": no choice
		ipv6   bool
		order  []string
		tried  string
		err    string
		local  bool
		cause  error
	}{
		{"both", "", true, []string{"2a00::1", "8.8.8.8"}, "2a00::1", "", false, nil},
		{"IPv4 alone to leave from", "127.0.0.3", true, []string{"2a00::1", "8.8.8.8"}, "8.8.8.8", "", false, nil},
		{"IPv6 alone to leave from", "::1", true, []string{"8.8.8.8", "2a00::1"}, "2a00::1", "", false, nil},
		{"mapped is IPv4", "127.0.0.3", true, []string{"::ffff:8.8.8.8"}, "8.8.8.8", "", false, nil},
		{"mapped is no IPv6", "::1", true, []string{"::ffff:8.8.8.8"}, "",
			"connect to 8.8.8.8:80: no egress address of its family", true, syscall.EADDRNOTAVAIL},
		{"no way to leave", "127.0.0.3", true, []string{"2a00::1"}, "",
			"connect to [2a00::1]:80: no egress address of its family", true, syscall.EADDRNOTAVAIL},
		{"refused, and no way to leave", "127.0.0.3", true, []string{"fd00::1"}, "", "IP fd00::1 is blocked", false, nil},
		{"the one that would have been tried is named", "127.0.0.3", true, []string{"fd00::1", "10.0.0.1"}, "", "IP 10.0.0.1 is blocked", false, nil},
		{"no IPv6", "", false, []string{"2a00::1", "8.8.8.8"}, "8.8.8.8", "", false, nil},
		{"no IPv6, and nothing else", "", false, []string{"2a00::1"}, "",
			"connect to [2a00::1]:80: network is unreachable", true, syscall.ENETUNREACH},
		{"no IPv6, refused", "", false, []string{"::1"}, "", "IP ::1 is blocked", false, nil},
		{"no IPv6, both refused", "", false, []string{"::1", "127.0.0.1"}, "", "IP 127.0.0.1 is blocked", false, nil},
		{"NAT64 is IPv6", "", false, []string{"64:ff9b::808:808"}, "",
			"connect to [64:ff9b::808:808]:80: network is unreachable", true, syscall.ENETUNREACH},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.EgressAddresses = addrs("127.0.0.3", "::1")
			d, tried, _ := fakeDialer(t, cfg, row.order, nil)
			d.guard.ipv6 = row.ipv6
			d.connect = instantly(tried)
			if row.egress != "" {
				from, err := d.guard.Egress(addrs(row.egress))
				if err != nil {
					t.Fatal(err)
				}
				d = d.With(Exceptions{Egress: from})
			}
			_, _, err := d.Dial(t.Context(), "x.example", 80)
			if got := fmt.Sprint(err); (err != nil || row.err != "") && got != row.err {
				t.Errorf("got %q; want %q", got, row.err)
			}
			if got := strings.Join(*tried, ", "); got != row.tried {
				t.Errorf("tried %q; want %q", got, row.tried)
			}
			var failed *ConnectError
			if errors.As(err, &failed) && failed.Local() != row.local || row.cause != nil && !errors.Is(err, row.cause) {
				t.Errorf("got %v; want it local: %v, cause %v", err, row.local, row.cause)
			}
		})
	}
}

// instantly connects to everything, and writes down to what.
func instantly(tried *[]string) func(*Dialer, context.Context, netip.AddrPort, netip.Addr) (Conn, error) {
	return func(_ *Dialer, _ context.Context, to netip.AddrPort, _ netip.Addr) (Conn, error) {
		*tried = append(*tried, to.Addr().String())
		return &fakeConn{addr: to.Addr()}, nil
	}
}
