// Package guard decides which addresses may be connected to, and connects to exactly those. It knows
// prefixes, names and sockets; it knows nothing of HTTP, and it neither logs nor counts: refusals are typed
// errors, and what happens often is told through [Hooks].
//
// A connection is made in one go, by [Dialer.Dial]:
//
//	CheckPort   is the port allowed?                          *PortError
//	resolve     /etc/hosts, cache, DNS; literals skip this    *ResolveError
//	judge       every address of the name, by Verdict         *BlockedError if none is left
//	race        the first allowed ones (RFC 8305)             *ConnectError
//	judge again the address that the socket is given, and the one that it is then connected to
//
// The name is resolved once and the connection goes to the very address that was judged, so an answer that
// changes between two look-ups (DNS rebinding) changes nothing. A connection that is kept is judged by [Guard.CheckAddr]
// before it is used again, for rules and interfaces change.
//
// An address is judged in this order; the first that applies decides:
//
//  1. It is refused, with its port, where the proxy itself listens: see [Guard.Protect].
//  2. insecureSkipCidrDenyList lets it through.
//  3. cidrDenyList refuses it.
//  4. cidrAllowList lets it through; a cloud's metadata address only by an entry that is that one address.
//  5. The allow list of the call's client or entry of destinations lets it through, a metadata address never: [Exceptions].
//  6. The built-in table refuses it: what registry.go lists and does not call globally reachable.
//  7. It is refused as an address of this host's own interfaces.
//
// IPv4-mapped (::ffff:0:0/96) and NAT64 (64:ff9b::/96) addresses are judged by the IPv4 address inside;
// cidrDenyList is held against both forms. Addresses with a zone are always refused.
//
// What it does not do: it cannot know a NAT64 prefix that a network chose for itself (RFC 6052, section 2.2)
// nor addresses that only routing brings home; those belong in cidrDenyList. It has no search domains, no mDNS,
// no DNSSEC validation, and keeps nothing on disk. It has no goroutine but those of look-ups and connection
// attempts under way, all of which end by themselves within seconds. A name in steady use is looked up again by the
// first call that finds its answer about to expire, which does not wait for it; nothing runs for names that rest.
package guard

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// Guard judges addresses and ports. It is safe for concurrent use and, but for [Guard.Protect], never changes: a new
// configuration is a new Guard.
type Guard struct {
	insecureSkip bool
	deny         *ruleTable
	allow        *ruleTable
	builtin      *ruleTable
	own          *ownAddresses
	ports        [1 << 16 / 64]uint64 // one bit a port, set where refused
	denyRules    []Rule
	listeners    atomic.Pointer[[]netip.AddrPort] // where the proxy itself listens; nil: nowhere

	resolver *resolver
	egress   Egress
	ipv6     bool // whether there are sockets for it at all
	hooks    Hooks
}

// Hooks tell what happens often. Functions may be nil; they are called concurrently and must return at once.
type Hooks struct {
	// Lookup is called once for every name that is looked up; literals are not.
	Lookup func(LookupResult)
	// Refused is called for every address that a Dialer met and refused.
	Refused func(Rule)
}

// Verdict is what became of an address, and why.
type Verdict struct {
	Allowed bool
	// Rule is what decided. The zero Rule: no rule applied, the address is simply global unicast.
	Rule Rule
}

// BlockedError says that an address is refused.
type BlockedError struct {
	Addr netip.Addr // as it was asked for or resolved, before unwrapping
	Rule Rule       // what refused it
}

// Error returns "IP 127.0.0.1 is blocked", the address in RFC 5952 form.
func (e *BlockedError) Error() string { return fmt.Sprintf("IP %s is blocked", e.Addr) }

// PortError says that a port is refused.
type PortError struct{ Port uint16 }

// Error returns "port 25 is blocked".
func (e *PortError) Error() string { return fmt.Sprintf("port %d is blocked", e.Port) }

// environment is what a Guard takes from the system it runs on; tests bring their own.
type environment struct {
	now            func() time.Time
	interfaceAddrs func() ([]net.Addr, error)
	hostsPath      string
	resolvPath     string
	ipv6           bool
}

// New returns a Guard for cfg, which is validated and copied. It reads /etc/hosts and /etc/resolv.conf, lists the
// addresses of this host, starts no goroutine and sends nothing. An error names the key that is wrong.
func New(cfg Config, hooks Hooks) (*Guard, error) {
	return newGuard(cfg, hooks, environment{
		now:            time.Now,
		interfaceAddrs: net.InterfaceAddrs,
		hostsPath:      "/etc/hosts",
		resolvPath:     "/etc/resolv.conf",
		ipv6:           hasIPv6(),
	})
}

func newGuard(cfg Config, hooks Hooks, env environment) (*Guard, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	own, err := newOwnAddresses(env.now, env.interfaceAddrs)
	if err != nil {
		return nil, err
	}
	from, err := newEgress(cfg.EgressAddresses, own)
	if err != nil {
		return nil, err
	}
	g := &Guard{
		insecureSkip: cfg.InsecureSkipDenyList,
		denyRules:    configuredRules(nameDenyList, cfg.DenyList),
		allow:        newRuleTable(configuredRules(nameAllowList, cfg.AllowList)),
		builtin:      newRuleTable(refusedBlocks()),
		own:          own,
		resolver:     newResolver(cfg, env),
		egress:       from,
		ipv6:         env.ipv6,
		hooks:        hooks,
	}
	g.deny = newRuleTable(g.denyRules)
	for _, p := range cfg.PortDenyList {
		g.ports[p/64] |= 1 << (p % 64)
	}
	return g, nil
}

// Verdict judges the address of ap, for a call with the exceptions e. The port counts only where the proxy itself
// listens; whether it is refused says CheckPort. Verdict does not allocate and, but for listing this host's addresses
// every few seconds, does not leave the process.
func (g *Guard) Verdict(ap netip.AddrPort, e Exceptions) Verdict {
	a := ap.Addr()
	if !a.IsValid() || a.Zone() != "" {
		return Verdict{Rule: Rule{Name: nameNotUnicast, Source: "RFC 4007"}}
	}
	inner := unwrap(a)
	if g.listensAt(inner, ap.Port()) || g.listensAt(a, ap.Port()) {
		return Verdict{Rule: Rule{Name: nameOwnListener, Prefix: netip.PrefixFrom(inner, inner.BitLen())}}
	}
	if g.insecureSkip {
		return Verdict{Allowed: true, Rule: Rule{Name: nameInsecureSkip}}
	}
	if r := g.deny.find(a); r != nil {
		return Verdict{Rule: *r}
	}
	if r := g.deny.find(inner); r != nil {
		return Verdict{Rule: *r}
	}
	refused := g.builtin.find(inner)
	if r := g.lifted(inner, refused != nil && refused.Name == nameMetadata, e); r != nil {
		return Verdict{Allowed: true, Rule: *r}
	}
	if refused != nil {
		return Verdict{Rule: *refused}
	}
	own := g.own.set.get() // once for both, for it looks at the clock
	for _, form := range [...]netip.Addr{inner, a} {
		if _, is := own[form]; is {
			return Verdict{Rule: Rule{Name: nameOwnInterface, Prefix: netip.PrefixFrom(form, form.BitLen())}}
		}
	}
	return Verdict{Allowed: true}
}

// lifted returns the exception that lets a through, or nil.
func (g *Guard) lifted(a netip.Addr, isMetadata bool, e Exceptions) *Rule {
	if r := g.allow.find(a); r != nil && (!isMetadata || r.Prefix.IsSingleIP()) {
		return r
	}
	if isMetadata {
		return nil
	}
	if r := e.Client.find(a); r != nil {
		return r
	}
	return e.Entry.find(a)
}

// CheckAddr returns nil where ap may be connected to, by a call with the exceptions e, else a *PortError or a
// *BlockedError. It is for connections that are kept, too: before each use. It allocates only for a refusal.
func (g *Guard) CheckAddr(ap netip.AddrPort, e Exceptions) error {
	if err := g.CheckPort(ap.Port()); err != nil {
		return err
	}
	if v := g.Verdict(ap, e); !v.Allowed {
		return &BlockedError{Addr: ap.Addr().WithZone(""), Rule: v.Rule}
	}
	return nil
}

// CheckPort returns a *PortError where port is refused, else nil. Port 0 always is.
func (g *Guard) CheckPort(port uint16) error {
	if port == 0 || g.ports[port/64]&(1<<(port%64)) != 0 {
		return &PortError{port}
	}
	return nil
}

// Rules returns every rule that can refuse an address: the built-in ones, those of cidrDenyList (at least one
// with that Name, even if none is configured) and those for this host's own addresses and the proxy's own listeners.
// Several share a Name.
func (g *Guard) Rules() []Rule {
	rules := append(refusedBlocks(), Rule{Name: nameOwnInterface}, Rule{Name: nameOwnListener}, Rule{Name: nameDenyList})
	return append(rules, g.denyRules...)
}

// refused tells the hook.
func (g *Guard) refused(r Rule) {
	if g.hooks.Refused != nil {
		g.hooks.Refused(r)
	}
}

// unwrap returns the IPv4 address inside an IPv4-mapped or NAT64 address, and any other as it is. The
// result is never such an address again.
func unwrap(a netip.Addr) netip.Addr {
	if a.Is4In6() {
		return a.Unmap()
	}
	if nat64.Contains(a) {
		b := a.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return a
}

// configuredRules returns a rule for each prefix.
func configuredRules(name string, prefixes []netip.Prefix) []Rule {
	rules := make([]Rule, 0, len(prefixes))
	for _, p := range prefixes {
		rules = append(rules, Rule{Name: name, Prefix: p})
	}
	return rules
}
