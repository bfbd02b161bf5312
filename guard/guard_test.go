package guard

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestPrecedence(t *testing.T) {
	for _, row := range []struct {
		name        string
		deny, allow string
		skip        bool
		addr        string
		allowed     bool
		rule        string
	}{
		{name: "nothing configured", addr: "8.8.8.8", allowed: true},
		{name: "denied", deny: "8.0.0.0/8", addr: "8.8.8.8", rule: nameDenyList},
		{name: "denied, mapped", deny: "8.0.0.0/8", addr: "::ffff:8.8.8.8", rule: nameDenyList},
		{name: "denied, NAT64", deny: "8.0.0.0/8", addr: "64:ff9b::808:808", rule: nameDenyList},
		{name: "denied by the outer form", deny: "64:ff9b::/96", addr: "64:ff9b::808:808", rule: nameDenyList},
		{name: "outer form denied, inner not", deny: "64:ff9b::/96", addr: "8.8.8.8", allowed: true},
		{name: "deny beats allow", deny: "10.1.0.0/16", allow: "10.1.2.3/32", addr: "10.1.2.3", rule: nameDenyList},
		{name: "deny everything", deny: "0.0.0.0/0", addr: "64:ff9b::808:808", rule: nameDenyList},
		{name: "allow beats built-in", allow: "10.0.0.0/8", addr: "10.1.2.3", allowed: true, rule: nameAllowList},
		{name: "allow, mapped", allow: "10.0.0.0/8", addr: "::ffff:10.1.2.3", allowed: true, rule: nameAllowList},
		{name: "allow, NAT64", allow: "10.0.0.0/8", addr: "64:ff9b::a01:203", allowed: true, rule: nameAllowList},
		{name: "allow of the outer form lifts nothing", allow: "64:ff9b::/96", addr: "64:ff9b::a01:203", rule: "Private-Use"},
		{name: "allow of all IPv6 lifts no IPv4", allow: "::/0", addr: "::ffff:10.1.2.3", rule: "Private-Use"},
		{name: "allow beside it", allow: "10.0.0.0/8", addr: "11.0.0.0", allowed: true},
		{name: "allow loopback", allow: "127.0.0.0/8", addr: "127.0.0.1", allowed: true, rule: nameAllowList},
		{name: "allow beats own interface", allow: "1.2.3.0/24", addr: "1.2.3.4", allowed: true, rule: nameAllowList},
		{name: "deny beats own interface's name", deny: "1.2.3.0/24", addr: "1.2.3.4", rule: nameDenyList},
		{name: "own interface", addr: "2a00::4", rule: nameOwnInterface},
		{name: "6to4 can be allowed", allow: "2002::/16", addr: "2002:808:808::1", allowed: true, rule: nameAllowList},
		{name: "skip", skip: true, addr: "127.0.0.1", allowed: true, rule: nameInsecureSkip},
		{name: "skip beats deny", skip: true, deny: "127.0.0.0/8", addr: "127.0.0.1", allowed: true, rule: nameInsecureSkip},
		{name: "skip lifts metadata", skip: true, addr: "169.254.169.254", allowed: true, rule: nameInsecureSkip},
		{name: "skip lifts no zone", skip: true, addr: "fe80::1%lo", rule: nameNotUnicast},
		{name: "metadata and a wide allow", allow: "169.254.0.0/16", addr: "169.254.169.254", rule: nameMetadata},
		{name: "beside metadata and a wide allow", allow: "169.254.0.0/16", addr: "169.254.169.253", allowed: true, rule: nameAllowList},
		{name: "metadata and everything allowed", allow: "0.0.0.0/0", addr: "168.63.129.16", rule: nameMetadata},
		{name: "metadata and a /31", allow: "169.254.169.254/31", addr: "169.254.169.254", rule: nameMetadata},
		{name: "metadata, that one", allow: "169.254.169.254/32", addr: "169.254.169.254", allowed: true, rule: nameAllowList},
		{name: "metadata, another one", allow: "169.254.170.2/32", addr: "169.254.169.254", rule: nameMetadata},
		{name: "metadata, that one, mapped", allow: "169.254.169.254/32", addr: "::ffff:169.254.169.254", allowed: true, rule: nameAllowList},
		{name: "metadata, wide, NAT64", allow: "169.254.0.0/16", addr: "64:ff9b::a9fe:a9fe", rule: nameMetadata},
		{name: "metadata over IPv6, wide", allow: "fd00::/8", addr: "fd00:ec2::254", rule: nameMetadata},
		{name: "metadata over IPv6, that one", allow: "fd00:ec2::254/128", addr: "fd00:ec2::254", allowed: true, rule: nameAllowList},
		{name: "Azure, that one", allow: "168.63.129.16/32", addr: "168.63.129.16", allowed: true, rule: nameAllowList},
		{name: "Alibaba, wide", allow: "100.64.0.0/10", addr: "100.100.100.200", rule: nameMetadata},
		{name: "Oracle, wide", allow: "192.0.0.0/24", addr: "192.0.0.192", rule: nameMetadata},
		{name: "ECS, wide", allow: "169.254.170.0/24", addr: "169.254.170.2", rule: nameMetadata},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.InsecureSkipDenyList = row.skip
			if row.deny != "" {
				cfg.DenyList = prefixes(row.deny)
			}
			if row.allow != "" {
				cfg.AllowList = prefixes(row.allow)
			}
			g := testGuard(t, cfg, Hooks{})
			got := verdict(g, netip.MustParseAddr(row.addr))
			if got.Allowed != row.allowed || got.Rule.Name != row.rule {
				t.Errorf("got %v by %q; want %v by %q", got.Allowed, got.Rule.Name, row.allowed, row.rule)
			}
		})
	}
}

func TestMetadataNeedsAWideAndAnExactEntry(t *testing.T) {
	cfg := DefaultConfig()
	cfg.AllowList = prefixes("169.254.0.0/16", "169.254.169.254/32")
	if g := testGuard(t, cfg, Hooks{}); !verdict(g, netip.MustParseAddr("169.254.169.254")).Allowed {
		t.Error("refused although its own entry is there; want allowed")
	}
}

func TestCheckErrors(t *testing.T) {
	g := testGuard(t, DefaultConfig(), Hooks{})
	for _, row := range []struct{ addr, want string }{
		{"8.8.8.8:80", ""},
		{"8.8.8.8:443", ""},
		{"8.8.8.8:25", "port 25 is blocked"},
		{"127.0.0.1:25", "port 25 is blocked"},
		{"8.8.8.8:0", "port 0 is blocked"},
		{"8.8.8.8:65535", ""},
		{"8.8.8.8:10080", "port 10080 is blocked"},
		{"127.0.0.1:80", "IP 127.0.0.1 is blocked"},
		{"[::ffff:127.0.0.1]:80", "IP ::ffff:127.0.0.1 is blocked"},
		{"[2001:DB8:0:0::1]:80", "IP 2001:db8::1 is blocked"},
		{"[fe80::1%lo]:80", "IP fe80::1 is blocked"},
	} {
		t.Run(row.addr, func(t *testing.T) {
			got := ""
			if err := g.CheckAddr(netip.MustParseAddrPort(row.addr), Exceptions{}); err != nil {
				got = err.Error()
			}
			if got != row.want {
				t.Errorf("got %q; want %q", got, row.want)
			}
		})
	}
	for _, p := range badPorts {
		var refused *PortError
		if err := g.CheckPort(p); !errors.As(err, &refused) || refused.Port != p {
			t.Errorf("port %d: %v; want a *PortError", p, err)
		}
	}
	cfg := DefaultConfig()
	cfg.PortDenyList = []uint16{80}
	replaced := testGuard(t, cfg, Hooks{})
	if replaced.CheckPort(80) == nil || replaced.CheckPort(25) != nil {
		t.Error("portDenyList [80]: want 80 refused and 25 allowed")
	}
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*Config, *environment)
		want   string
	}{
		{"host bits", func(c *Config, _ *environment) { c.DenyList = prefixes("10.1.2.3/8") }, "cidrDenyList: 10.1.2.3/8"},
		{"mapped", func(c *Config, _ *environment) { c.AllowList = prefixes("::ffff:10.0.0.0/104") }, "cidrAllowList: ::ffff:10.0.0.0/104"},
		{"port 0", func(c *Config, _ *environment) { c.PortDenyList = []uint16{0} }, "portDenyList: 0"},
		{"no server port", func(c *Config, _ *environment) {
			c.DNSServers = []netip.AddrPort{netip.MustParseAddrPort("9.9.9.9:0")}
		}, "dns.servers: 9.9.9.9:0"},
		{"negative TTL", func(c *Config, _ *environment) { c.DNSCacheTTL = -1 }, "dns.cacheTTL: -1ns"},
		{"foreign egress", func(c *Config, _ *environment) { c.EgressAddresses = addrs("198.51.100.7") },
			"egress.addresses: 198.51.100.7 is not an address of this host"},
		{"unspecified egress", func(c *Config, _ *environment) { c.EgressAddresses = addrs("0.0.0.0") }, "egress.addresses: 0.0.0.0"},
		{"no listing", func(_ *Config, e *environment) {
			e.interfaceAddrs = func() ([]net.Addr, error) { return nil, errors.New("no netlink") }
		}, "network interfaces: no netlink"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg, env := DefaultConfig(), testEnvironment(t)
			row.change(&cfg, &env)
			if _, err := newGuard(cfg, Hooks{}, env); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v; want %q in it", err, row.want)
			}
		})
	}
}

func TestNewOnThisSystem(t *testing.T) {
	g, err := New(DefaultConfig(), Hooks{})
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	if g.CheckAddr(netip.MustParseAddrPort("127.0.0.1:80"), Exceptions{}) == nil {
		t.Error("127.0.0.1 is allowed; want it refused")
	}
}

func TestRules(t *testing.T) {
	cfg := DefaultConfig()
	cfg.DenyList = prefixes("8.0.0.0/8")
	g := testGuard(t, cfg, Hooks{})
	names := map[string]bool{}
	for _, r := range g.Rules() {
		names[r.Name] = true
	}
	for _, b := range registry {
		for _, a := range []netip.Addr{b.prefix.Addr(), netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("1.2.3.4")} {
			if v := verdict(g, a); !v.Allowed && !names[v.Rule.Name] {
				t.Errorf("%q refuses and is not in Rules()", v.Rule.Name)
			}
		}
	}
	for rule, want := range map[Rule]string{
		{}: "global unicast",
		{Name: "Private-Use", Prefix: netip.MustParsePrefix("10.0.0.0/8"), Source: "RFC 1918"}: "10.0.0.0/8 Private-Use (RFC 1918)",
		{Name: nameDenyList, Prefix: netip.MustParsePrefix("8.0.0.0/8")}:                       "8.0.0.0/8 cidrDenyList",
		{Name: nameInsecureSkip}: nameInsecureSkip,
	} {
		if got := rule.String(); got != want {
			t.Errorf("got %q; want %q", got, want)
		}
	}
}

// TestOwnAddressAppears checks the promise of 10 s, at any rhythm of questions.
func TestOwnAddressAppears(t *testing.T) {
	for _, every := range []time.Duration{time.Second, 4 * time.Second, 9 * time.Second, 10 * time.Second, time.Hour} {
		t.Run(every.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env := testEnvironment(t)
				own := ipNets("1.2.3.4")
				env.interfaceAddrs = func() ([]net.Addr, error) { return own, nil }
				g, err := newGuard(DefaultConfig(), Hooks{}, env)
				if err != nil {
					t.Fatal(err)
				}
				newcomer := netip.MustParseAddr("5.6.7.8")
				if !verdict(g, newcomer).Allowed {
					t.Fatal("refused before it appeared")
				}
				own = ipNets("1.2.3.4", "5.6.7.8")
				for waited := every; ; waited += every {
					time.Sleep(every)
					if !verdict(g, newcomer).Allowed {
						break
					}
					if waited >= 10*time.Second {
						t.Fatalf("allowed %s after it appeared", waited)
					}
				}
				own = ipNets("5.6.7.8")
				time.Sleep(10 * time.Second)
				if !verdict(g, netip.MustParseAddr("1.2.3.4")).Allowed {
					t.Error("refused 10s after it went")
				}
			})
		})
	}
}

func TestOwnAddressListingFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := testEnvironment(t)
		var failure error
		calls := 0
		env.interfaceAddrs = func() ([]net.Addr, error) { calls++; return ipNets("1.2.3.4"), failure }
		g, err := newGuard(DefaultConfig(), Hooks{}, env)
		if err != nil {
			t.Fatal(err)
		}
		failure = errors.New("no netlink")
		own := netip.MustParseAddr("1.2.3.4")
		for range 60 {
			time.Sleep(500 * time.Millisecond)
			if verdict(g, own).Allowed {
				t.Fatal("allowed when the listing fails; want the last one kept")
			}
		}
		if calls < 10 || calls > 27 {
			t.Errorf("%d listings in 30s of failure; want one a second", calls)
		}
	})
}

func TestRuleTableOfManyRules(t *testing.T) {
	var rules []Rule
	for i := range 256 {
		for j := range 64 {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(i), byte(j * 4), 0, 0}), 15)
			rules = append(rules, Rule{Name: fmt.Sprint(p), Prefix: p})
		}
	}
	table := newRuleTable(rules)
	for i := range 256 {
		for j := range 256 {
			a := netip.AddrFrom4([4]byte{byte(i), byte(j), 7, 7})
			if got, want := table.find(a) != nil, j%4 < 2; got != want {
				t.Fatalf("%s: found %v; want %v", a, got, want)
			}
		}
	}
}
