package guard

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"
)

// Rule is what an address was judged by. The zero Rule judges nothing: the address is simply global unicast.
type Rule struct {
	// Name is short and from a closed set, so that it can be a metric's label: a name from IANA's registries,
	// "cloud metadata", "not global unicast", "own interface" or the configuration key that decided.
	Name string
	// Prefix is what the address lies in; invalid where the rule is about no prefix.
	Prefix netip.Prefix
	// Source is the RFC or whoever else says so; "" for what was configured.
	Source string
}

// String returns the rule for people, as in "10.0.0.0/8 Private-Use (RFC 1918)".
func (r Rule) String() string {
	if r.Name == "" {
		return "global unicast"
	}
	s := r.Name
	if r.Prefix.IsValid() {
		s = r.Prefix.String() + " " + s
	}
	if r.Source != "" {
		s += " (" + r.Source + ")"
	}
	return s
}

// ruleTable finds the narrowest of its rules that an address lies in. Nested prefixes are cut into spans
// that do not overlap, each known by its first address, so that one binary search answers, whether the
// table has ten rows or a hundred thousand. All of IPv4 sorts before all of IPv6.
type ruleTable struct {
	spans []span
}

// span reaches from an address to the one before the next span's.
type span struct {
	first netip.Addr
	rule  *Rule // nil where no rule applies
}

// newRuleTable builds the table. Of two rules with the same prefix the later one counts.
func newRuleTable(rules []Rule) *ruleTable {
	// The two empty rules at the bottom are what is left where no other reaches.
	open := []*Rule{
		{Prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0)},
		{Prefix: netip.PrefixFrom(netip.IPv6Unspecified(), 0)},
	}
	for _, r := range rules {
		open = append(open, &r)
	}
	slices.SortStableFunc(open, func(a, b *Rule) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	t := &ruleTable{}
	var around []*Rule // the prefixes that reach to where the sweep is, the widest first
	for _, r := range open {
		around = t.closeUpTo(around, r.Prefix.Addr())
		around = append(around, r)
		t.begin(r.Prefix.Addr(), r)
	}
	t.closeUpTo(around, netip.Addr{})
	return t
}

// closeUpTo ends the prefixes that end before addr, narrowest first, and returns the others. The zero addr ends all.
func (t *ruleTable) closeUpTo(around []*Rule, addr netip.Addr) []*Rule {
	for len(around) > 0 {
		end := lastAddr(around[len(around)-1].Prefix)
		if addr.IsValid() && !end.Less(addr) {
			break
		}
		around = around[:len(around)-1]
		if next := end.Next(); next.IsValid() && len(around) > 0 {
			t.begin(next, around[len(around)-1])
		}
	}
	return around
}

// begin starts a span; one that began at the same address had no address in it, and is replaced.
func (t *ruleTable) begin(first netip.Addr, r *Rule) {
	if r.Name == "" {
		r = nil
	}
	if n := len(t.spans); n > 0 && t.spans[n-1].first == first {
		t.spans[n-1].rule = r
		return
	}
	t.spans = append(t.spans, span{first, r})
}

// find returns the narrowest rule around a, or nil. It does not allocate.
func (t *ruleTable) find(a netip.Addr) *Rule {
	i := sort.Search(len(t.spans), func(i int) bool { return a.Less(t.spans[i].first) })
	if i == 0 {
		return nil // only for an invalid address
	}
	return t.spans[i-1].rule
}

// lastAddr returns the highest address in p.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
