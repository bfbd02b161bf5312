package policy

import (
	"net/netip"
	"slices"
	"strings"
)

// Host is the host that a request asks for, in the form that rules are held against. The zero Host fits no rule.
type Host struct {
	name string     // in lower case, without a final dot; "" where it is a literal
	addr netip.Addr // of a literal; one that is IPv4-mapped is its IPv4 address
}

// NewHost returns the host called name, or the one whose address is literal where that is valid. It allocates only for
// a name with capitals, and keeps name, which must not change while the Host is in use.
func NewHost(name string, literal netip.Addr) Host {
	if literal.IsValid() {
		return Host{addr: literal.Unmap().WithZone("")}
	}
	return Host{name: strings.ToLower(strings.TrimSuffix(name, "."))}
}

// hostIndex holds the host rules of numbered entries. A look-up costs one look for each label of a name, or one for
// each length of prefix that is in use, however many rules there are.
type hostIndex struct {
	names    map[string]nameRules
	prefixes map[netip.Prefix][]int32
	lengths  [2][]int // of the IPv4 and the IPv6 prefixes, the longest first
	ports    []portSet
}

// nameRules are the entries with a rule for one name, in their order.
type nameRules struct {
	exact []int32 // for the name itself
	below []int32 // for every name below it
}

// portSet is what an entry says of ports, sorted. Nil holds every port.
type portSet []uint16

func (s portSet) holds(port uint16) bool {
	if s == nil {
		return true
	}
	_, found := slices.BinarySearch(s, port)
	return found
}

// includes reports whether s holds all that other holds.
func (s portSet) includes(other portSet) bool {
	if s == nil {
		return true
	}
	return other != nil && !slices.ContainsFunc(other, func(p uint16) bool { return !s.holds(p) })
}

// add appends an entry. Entries are found in the order in which they were added.
func (x *hostIndex) add(rules []hostRule, ports portSet) {
	if x.names == nil {
		x.names, x.prefixes = make(map[string]nameRules, len(rules)), make(map[netip.Prefix][]int32)
	}
	entry := int32(len(x.ports))
	x.ports = append(x.ports, ports)
	for _, r := range rules {
		if r.prefix.IsValid() {
			x.addPrefix(r.prefix, entry)
			continue
		}
		known := x.names[r.name]
		if r.below {
			known.below = append(known.below, entry)
		} else {
			known.exact = append(known.exact, entry)
		}
		x.names[r.name] = known
	}
}

func (x *hostIndex) addPrefix(p netip.Prefix, entry int32) {
	x.prefixes[p] = append(x.prefixes[p], entry)
	lengths := &x.lengths[family(p.Addr())]
	if !slices.Contains(*lengths, p.Bits()) {
		*lengths = append(*lengths, p.Bits())
		slices.SortFunc(*lengths, func(a, b int) int { return b - a })
	}
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// first returns the first entry that has a rule for h and holds port, or -1.
func (x *hostIndex) first(h Host, port uint16) int32 {
	if h.addr.IsValid() {
		return x.firstPrefix(h.addr, port)
	}
	if len(x.names) == 0 || h.name == "" {
		return -1
	}
	best := x.earlier(-1, x.names[h.name].exact, port)
	for rest := h.name; ; {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			return best
		}
		rest = rest[dot+1:]
		best = x.earlier(best, x.names[rest].below, port)
	}
}

func (x *hostIndex) firstPrefix(a netip.Addr, port uint16) int32 {
	best := int32(-1)
	for _, bits := range x.lengths[family(a)] {
		p, _ := a.Prefix(bits) // cannot fail: bits are of this family
		best = x.earlier(best, x.prefixes[p], port)
	}
	return best
}

// earlier returns the first of entries that holds port, or best where that comes before it.
func (x *hostIndex) earlier(best int32, entries []int32, port uint16) int32 {
	for _, e := range entries {
		if best >= 0 && e >= best {
			break
		}
		if x.ports[e].holds(port) {
			return e
		}
	}
	return best
}

// covered reports whether an entry of x has all that r and ports say.
func (x *hostIndex) covered(r hostRule, ports portSet) bool {
	includes := func(entries []int32) bool {
		return slices.ContainsFunc(entries, func(e int32) bool { return x.ports[e].includes(ports) })
	}
	if r.prefix.IsValid() {
		for _, bits := range x.lengths[family(r.prefix.Addr())] {
			if wider, _ := r.prefix.Addr().Prefix(bits); bits <= r.prefix.Bits() && includes(x.prefixes[wider]) {
				return true
			}
		}
		return false
	}
	known := x.names[r.name]
	if r.below && includes(known.below) || !r.below && includes(known.exact) {
		return true
	}
	for rest := r.name; ; {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			return false
		}
		if rest = rest[dot+1:]; includes(x.names[rest].below) {
			return true
		}
	}
}
