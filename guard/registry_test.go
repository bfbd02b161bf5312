package guard

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// refusedByScan is the promise in its plainest form: an address is refused if it lies in any row that is not
// globally reachable, whatever other rows it lies in.
func refusedByScan(a netip.Addr) bool {
	a = unwrap(a)
	return slices.ContainsFunc(registry, func(b block) bool { return b.reach != reachable && b.prefix.Contains(a) })
}

// TestEdges judges both ends of every row and the addresses just outside, IPv4 ones in all three forms.
func TestEdges(t *testing.T) {
	g := testGuard(t, DefaultConfig(), Hooks{})
	for _, b := range registry {
		first, last := b.prefix.Addr(), lastAddr(b.prefix)
		for where, a := range map[string]netip.Addr{
			"first": first, "last": last, "before": first.Prev(), "after": last.Next(),
		} {
			if !a.IsValid() {
				continue // the row begins or ends with its family
			}
			want := !refusedByScan(a)
			forms := []netip.Addr{a}
			if a.Is4() {
				forms = append(forms, mapped(a), nat64Of(a))
			}
			for _, form := range forms {
				if got := verdict(g, form); got.Allowed != want {
					t.Errorf("%s %s of %s %s: allowed %v; want %v", where, form, b.prefix, b.name, got.Allowed, want)
				}
			}
			if b.reach != reachable && (where == "first" || where == "last") && want {
				t.Errorf("%s of %s %s: the scan lets it through", where, b.prefix, b.name)
			}
		}
	}
}

// TestRegistryKnowsNestedRows checks that the narrowest refused row is the one that is named.
func TestRegistryKnowsNestedRows(t *testing.T) {
	g := testGuard(t, DefaultConfig(), Hooks{})
	for _, b := range registry {
		for _, a := range []netip.Addr{b.prefix.Addr(), lastAddr(b.prefix)} {
			narrowest := Rule{}
			for _, c := range registry {
				if c.reach != reachable && c.prefix.Contains(unwrap(a)) &&
					(!narrowest.Prefix.IsValid() || c.prefix.Bits() > narrowest.Prefix.Bits()) {
					narrowest = c.rule()
				}
			}
			if got := verdict(g, a).Rule; got != narrowest {
				t.Errorf("%s: rule %v; want %v", a, got, narrowest)
			}
		}
	}
}

// TestVerdictByHand holds the table against addresses that were worked out without it.
func TestVerdictByHand(t *testing.T) {
	g := testGuard(t, DefaultConfig(), Hooks{})
	for _, row := range []struct{ addr, want string }{
		{"0.0.0.0", "This host on this network"},
		{"0.255.255.255", "This network"},
		{"1.0.0.0", ""},
		{"9.255.255.255", ""},
		{"10.0.0.0", "Private-Use"},
		{"10.255.255.255", "Private-Use"},
		{"11.0.0.0", ""},
		{"100.63.255.255", ""},
		{"100.64.0.0", "Shared Address Space"},
		{"100.100.100.200", nameMetadata},
		{"100.127.255.255", "Shared Address Space"},
		{"100.128.0.0", ""},
		{"126.255.255.255", ""},
		{"127.0.0.1", "Loopback"},
		{"128.0.0.0", ""},
		{"168.63.129.15", ""},
		{"168.63.129.16", nameMetadata},
		{"168.63.129.17", ""},
		{"169.253.255.255", ""},
		{"169.254.169.253", "Link Local"},
		{"169.254.169.254", nameMetadata},
		{"169.254.170.2", nameMetadata},
		{"169.255.0.0", ""},
		{"172.15.255.255", ""},
		{"172.16.0.0", "Private-Use"},
		{"172.31.255.255", "Private-Use"},
		{"172.32.0.0", ""},
		{"192.0.0.9", "IETF Protocol Assignments"}, // reachable, but inside a refused block
		{"192.0.0.10", "IETF Protocol Assignments"},
		{"192.0.0.192", nameMetadata},
		{"192.0.1.0", ""},
		{"192.0.2.255", "Documentation (TEST-NET-1)"},
		{"192.31.195.255", ""},
		{"192.31.196.0", "AS112-v4"},
		{"192.31.196.255", "AS112-v4"},
		{"192.31.197.0", ""},
		{"192.52.192.255", ""},
		{"192.52.193.0", "AMT"},
		{"192.52.193.255", "AMT"},
		{"192.52.194.0", ""},
		{"192.88.99.1", "Deprecated (6to4 Relay Anycast)"},
		{"192.88.99.2", "6a44-relay anycast address"},
		{"192.167.255.255", ""},
		{"192.168.0.0", "Private-Use"},
		{"192.169.0.0", ""},
		{"192.175.47.255", ""},
		{"192.175.48.0", "Direct Delegation AS112 Service"},
		{"192.175.48.255", "Direct Delegation AS112 Service"},
		{"192.175.49.0", ""},
		{"198.17.255.255", ""},
		{"198.18.0.0", "Benchmarking"},
		{"198.19.255.255", "Benchmarking"},
		{"198.20.0.0", ""},
		{"223.255.255.255", ""},
		{"224.0.0.0", "Multicast"},
		{"239.255.255.255", "Multicast"},
		{"240.0.0.0", "Reserved"},
		{"255.255.255.255", "Limited Broadcast"},
		{"1.2.3.4", nameOwnInterface},
		{"8.8.8.8", ""},
		{"::", "Unspecified Address"},
		{"::1", "Loopback Address"},
		{"::2", "IPv4-compatible Address"},
		{"::8.8.8.8", "IPv4-compatible Address"},
		{"::ffff:0:808:808", nameNotUnicast}, // IPv4-translated, RFC 2765
		{"::ffff:127.0.0.1", "Loopback"},
		{"::ffff:8.8.8.8", ""},
		{"::ffff:1.2.3.4", nameOwnInterface},
		{"64:ff9b::7f00:1", "Loopback"},
		{"64:ff9b::a9fe:a9fe", nameMetadata},
		{"::ffff:192.31.196.1", "AS112-v4"},
		{"64:ff9b::c034:c101", "AMT"},
		{"64:ff9b::808:808", ""},
		{"64:ff9b::102:304", nameOwnInterface},
		{"64:ff9b::1:808:808", nameNotUnicast},
		{"64:ff9b:1::808:808", "IPv4-IPv6 Translat."},
		{"100::1", "Discard-Only Address Block"},
		{"100:0:0:1::1", "Dummy IPv6 Prefix"},
		{"100:0:0:2::", nameNotUnicast},
		{"1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", nameNotUnicast},
		{"2000::", ""},
		{"2001::1", "TEREDO"},
		{"2001:1::1", "IETF Protocol Assignments"},
		{"2001:2::1", "Benchmarking"},
		{"2001:3::1", "IETF Protocol Assignments"},
		{"2001:4:112::1", "IETF Protocol Assignments"},
		{"2001:10::1", "Deprecated (previously ORCHID)"},
		{"2001:20::1", "IETF Protocol Assignments"},
		{"2001:30::1", "IETF Protocol Assignments"},
		{"2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "IETF Protocol Assignments"},
		{"2001:200::", ""},
		{"2001:4860:4860::8888", ""},
		{"2001:db8::1", "Documentation"},
		{"2002:808:808::1", "6to4"},
		{"2620:4f:7fff:ffff:ffff:ffff:ffff:ffff", ""},
		{"2620:4f:8000::", "Direct Delegation AS112 Service"},
		{"2620:4f:8000:ffff:ffff:ffff:ffff:ffff", "Direct Delegation AS112 Service"},
		{"2620:4f:8001::", ""},
		{"2a00::4", nameOwnInterface},
		{"3ffe:ffff::", ""},
		{"3fff::1", "Documentation"},
		{"3fff:1000::", ""},
		{"3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},
		{"4000::", nameNotUnicast},
		{"5f00::1", "Segment Routing (SRv6) SIDs"},
		{"fc00::1", "Unique-Local"},
		{"fd00:ec2::254", nameMetadata},
		{"fe80::1", "Link-Local Unicast"},
		{"fe80::1%lo", nameNotUnicast},
		{"2a00::1%lo", nameNotUnicast},
		{"fec0::1", "Site-Local Unicast"},
		{"ff02::1", "Multicast"},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "Multicast"},
	} {
		t.Run(row.addr, func(t *testing.T) {
			v := verdict(g, netip.MustParseAddr(row.addr))
			if v.Rule.Name != row.want || v.Allowed != (row.want == "") {
				t.Errorf("got %v by %q; want rule %q", v.Allowed, v.Rule.Name, row.want)
			}
		})
	}
	if verdict(g, netip.Addr{}).Allowed {
		t.Error("the zero Addr is allowed")
	}
}

// TestRegistryIsTidy checks the table itself.
func TestRegistryIsTidy(t *testing.T) {
	seen := map[netip.Prefix]bool{}
	for _, b := range registry {
		if b.prefix != b.prefix.Masked() {
			t.Errorf("%s has host bits", b.prefix)
		}
		if seen[b.prefix] {
			t.Errorf("%s is there twice", b.prefix)
		}
		seen[b.prefix] = true
		if b.name == "" || b.source == "" || strings.ContainsAny(b.name, "\"\\\n") {
			t.Errorf("%s: name %q, source %q", b.prefix, b.name, b.source)
		}
	}
	if !slices.IsSorted(badPorts) || len(badPorts) != 82 {
		t.Errorf("badPorts: sorted %v, %d; want 82 sorted ones", slices.IsSorted(badPorts), len(badPorts))
	}
}

// FuzzVerdict tries to get an address of the table past the guard, in whatever form, and checks that whatever is
// let through is nowhere in the table.
func FuzzVerdict(f *testing.F) {
	for _, b := range registry {
		first, last := b.prefix.Addr().As16(), lastAddr(b.prefix).As16()
		f.Add(first[:])
		f.Add(last[:])
	}
	g := testGuard(f, DefaultConfig(), Hooks{})
	everything := allowList(f, "everything", "0.0.0.0/0", "::/0")
	f.Fuzz(func(t *testing.T, data []byte) {
		var b [16]byte
		copy(b[:], data)
		a := netip.AddrFrom16(b)
		v4 := netip.AddrFrom4([4]byte(b[12:]))
		if got := verdict(g, a); got.Allowed && refusedByScan(a) {
			t.Errorf("%s is let through", a)
		}
		want := verdict(g, v4)
		if want.Allowed && refusedByScan(v4) {
			t.Errorf("%s is let through", v4)
		}
		for _, form := range []netip.Addr{mapped(v4), nat64Of(v4)} {
			if got := verdict(g, form); got != want {
				t.Errorf("%s: %v; want %v as for %s", form, got, want, v4)
			}
		}
		// A client's and an entry's list that hold everything lift all but the metadata addresses.
		open := g.Verdict(netip.AddrPortFrom(a, 80), Exceptions{Client: everything, Entry: everything})
		if rule := verdict(g, a).Rule; open.Allowed == (rule.Name == nameMetadata) {
			t.Errorf("%s, by default %v: allowed %v by lists of everything", a, rule, open.Allowed)
		}
		// 6to4, Teredo, IPv4-compatible and IPv4-translated forms are refused whatever they hold.
		for _, prefix := range []string{"2002::/16", "2001::/32", "::/96", "::ffff:0:0:0/96"} {
			p := netip.MustParsePrefix(prefix).Addr().As16()
			bits := netip.MustParsePrefix(prefix).Bits() / 8
			copy(p[bits:], b[bits:])
			if form := netip.AddrFrom16(p); verdict(g, form).Allowed {
				t.Errorf("%s is let through", form)
			}
		}
	})
}
