package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// host makes a Host of a name or a literal.
func host(text string) Host {
	literal, _ := netip.ParseAddr(text)
	return NewHost(text, literal)
}

func TestHostRules(t *testing.T) {
	for _, tt := range []struct {
		rule, host string
		want       bool
	}{
		{"example.com", "example.com", true},
		{"example.com", "EXAMPLE.com.", true},
		{"Example.COM.", "example.com", true},
		{"example.com", "a.example.com", false},
		{"example.com", "badexample.com", false},
		{"example.com", "example.com.evil.test", false},
		{"*.example.com", "a.example.com", true},
		{"*.example.com", "a.b.c.example.com", true},
		{"*.example.com", "example.com", false},
		{"*.example.com", "aexample.com", false},
		{"*.example.com", "com", false},
		{"*.com", "example.com", true},
		{"_dmarc.x_y.test", "_dmarc.x_y.test", true},
		{"203.0.113.0/24", "203.0.112.255", false},
		{"203.0.113.0/24", "203.0.113.0", true},
		{"203.0.113.0/24", "203.0.113.255", true},
		{"203.0.113.0/24", "203.0.114.0", false},
		{"203.0.113.0/24", "::ffff:203.0.113.9", true},
		{"203.0.113.7", "203.0.113.7", true},
		{"203.0.113.7", "203.0.113.8", false},
		{"0.0.0.0/0", "8.8.8.8", true},
		{"0.0.0.0/0", "2001:db8::1", false},
		{"::/0", "8.8.8.8", false},
		{"::/0", "::ffff:8.8.8.8", false},
		{"2001:db8::/32", "2001:db7:ffff::", false},
		{"2001:db8::/32", "2001:db8::", true},
		{"2001:db8::/32", "2001:db8:ffff:ffff::ffff", true},
		{"2001:db8::/32", "2001:db9::", false},
		{"0.0.0.0/0", "example.com", false},
	} {
		r, problem := parseHostRule(tt.rule)
		if problem != "" {
			t.Fatalf("rule %q %s", tt.rule, problem)
		}
		var x hostIndex
		x.add([]hostRule{r}, nil)
		if got := x.first(host(tt.host), 443) >= 0; got != tt.want {
			t.Errorf("rule %q and host %q: got %t; want %t", tt.rule, tt.host, got, tt.want)
		}
	}
}

func TestHostRulesThatAreNone(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, tt := range []struct{ rule, want string }{
		{"", "empty"},
		{"*", "every host"},
		{"*.", "label"},
		{".", "label"},
		{"a..b", "label"},
		{".example.com", "label"},
		{"*example.com", "'*'"},
		{"a.*.com", "'*'"},
		{"*.*.com", "'*'"},
		{"bücher.example", "not ASCII"},
		{"ex ample.com", "' '"},
		{"user@example.com", "'@'"},
		{"example.com:443", "neither"},
		{"https://example.com", "neither"},
		{"[2001:db8::1]", "neither"},
		{"fe80::1%eth0", "zone"},
		{"127.1", "number"},
		{"2130706433", "number"},
		{"0x7f.0.0.0x1", "number"},
		{"*.10", "number"},
		{"10.1.2.3/8", "10.0.0.0/8"},
		{"10.0.0.0/33", "neither"},
		{"::ffff:10.0.0.0/104", "IPv4-mapped"},
		{"::ffff:10.0.0.1", "IPv4-mapped"},
		{long + "a.com", "63"},
		{strings.Repeat(long+".", 3) + long[:62], "253"},
		{"*." + strings.Repeat(long+".", 3) + long[:60], "short enough"},
	} {
		if _, problem := parseHostRule(tt.rule); !strings.Contains(problem, tt.want) || problem == "" {
			t.Errorf("%q: got %q; want %q in it", tt.rule, problem, tt.want)
		}
	}
	for _, rule := range []string{long + ".com", strings.Repeat(long+".", 3) + long[:61], "*." + strings.Repeat(long+".", 3) + long[:59]} {
		if _, problem := parseHostRule(rule); problem != "" {
			t.Errorf("%q: got %q; want none, for it is as long as can be", rule, problem)
		}
	}
}

// fitsNaively is what hostIndex has to agree with: one rule after the other.
func fitsNaively(r hostRule, h Host) bool {
	switch {
	case r.prefix.IsValid():
		return h.addr.IsValid() && r.prefix.Contains(h.addr)
	case h.addr.IsValid() || h.name == "":
		return false
	case r.below:
		return strings.HasSuffix(h.name, "."+r.name)
	}
	return h.name == r.name
}

func FuzzHostIndex(f *testing.F) {
	f.Add("example.com *.example.com 10.0.0.0/8", "a.example.com", uint16(443))
	f.Add("*.com *.b.com a.b.com", "a.b.com.", uint16(80))
	f.Add("::/0 0.0.0.0/0 203.0.113.7", "::ffff:203.0.113.7", uint16(1))
	f.Add("a b", "", uint16(0))
	f.Fuzz(func(t *testing.T, texts, asked string, port uint16) {
		var x hostIndex
		var all []hostRule
		var ports []portSet
		var entries []int
		for i, text := range strings.Fields(texts) {
			r, problem := parseHostRule(text)
			if problem != "" {
				continue
			}
			set := portSet{443}
			if i%2 == 1 {
				set = nil
			}
			entries = append(entries, len(entries))
			all, ports = append(all, r), append(ports, set)
			x.add([]hostRule{r}, set)
		}
		h := host(asked)
		want := slices.IndexFunc(entries, func(i int) bool { return fitsNaively(all[i], h) && ports[i].holds(port) })
		if got := int(x.first(h, port)); got != want {
			t.Errorf("rules %q, host %q, port %d: got entry %d; want %d", texts, asked, port, got, want)
		}
	})
}

// FuzzHostRule: a rule that is accepted is one in its own canonical form too, and fits something.
func FuzzHostRule(f *testing.F) {
	for _, seed := range []string{"Example.com.", "*.example.com", "10.0.0.0/8", "::1", "*", "0x.1", "a.0x", "::ffff:1.2.3.4/120"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, problem := parseHostRule(text)
		if problem != "" {
			return
		}
		canonical, fits := r.name, r.name
		switch {
		case r.prefix.IsValid():
			canonical, fits = r.prefix.String(), r.prefix.Addr().String()
		case r.below:
			canonical, fits = "*."+r.name, "a."+r.name
		}
		if again, problem := parseHostRule(canonical); again != r {
			t.Errorf("%q is %+v, and in its canonical form %q %+v (%s); want the same", text, r, canonical, again, problem)
		}
		var x hostIndex
		x.add([]hostRule{r}, nil)
		if x.first(host(fits), 1) != 0 {
			t.Errorf("%q does not fit %q", text, fits)
		}
	})
}

func TestShadowed(t *testing.T) {
	entry := func(ports []int, hosts ...string) DestinationConfig {
		return DestinationConfig{Hosts: hosts, Ports: ports}
	}
	for _, tt := range []struct {
		name    string
		entries []DestinationConfig
		want    bool // whether the last is told to be without use
	}{
		{"the same", []DestinationConfig{entry(nil, "a.test"), entry(nil, "a.test")}, true},
		{"a name below", []DestinationConfig{entry(nil, "*.test"), entry(nil, "a.test")}, true},
		{"a domain below", []DestinationConfig{entry(nil, "*.test"), entry(nil, "*.a.test")}, true},
		{"the same domain", []DestinationConfig{entry(nil, "*.test"), entry(nil, "*.test")}, true},
		{"the domain itself", []DestinationConfig{entry(nil, "*.a.test"), entry(nil, "a.test")}, false},
		{"a domain above", []DestinationConfig{entry(nil, "*.a.test"), entry(nil, "*.test")}, false},
		{"one host of two", []DestinationConfig{entry(nil, "a.test"), entry(nil, "a.test", "b.test")}, false},
		{"two entries before", []DestinationConfig{entry(nil, "a.test"), entry(nil, "b.test"), entry(nil, "a.test", "b.test")}, true},
		{"one port less", []DestinationConfig{entry([]int{443}, "a.test"), entry(nil, "a.test")}, false},
		{"another port", []DestinationConfig{entry([]int{443}, "a.test"), entry([]int{80}, "a.test")}, false},
		{"one of its ports", []DestinationConfig{entry([]int{443, 80}, "a.test"), entry([]int{80}, "a.test")}, true},
		{"every port", []DestinationConfig{entry(nil, "a.test"), entry([]int{80}, "a.test")}, true},
		{"a longer prefix", []DestinationConfig{entry(nil, "10.0.0.0/8"), entry(nil, "10.1.0.0/16")}, true},
		{"a shorter prefix", []DestinationConfig{entry(nil, "10.1.0.0/16"), entry(nil, "10.0.0.0/8")}, false},
		{"the other family", []DestinationConfig{entry(nil, "0.0.0.0/0"), entry(nil, "::/0")}, false},
	} {
		p := mustNew(t, Config{Destinations: tt.entries}, nil)
		last := fmt.Sprintf("destinations[%d]", len(tt.entries)-1)
		if got := len(p.Warnings()) == 1 && p.Warnings()[0].Key == last; got != tt.want || len(p.Warnings()) > 1 {
			t.Errorf("%s: got %v; want a warning: %t", tt.name, p.Warnings(), tt.want)
		}
	}
}
