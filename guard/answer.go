package guard

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// maxChain is how many aliases (CNAME) are followed within an answer.
const maxChain = 16

var (
	errNoSuchHost = errors.New("no such host (NXDOMAIN)")
	errNoAddress  = errors.New("the name has no address (NODATA)")
	errChain      = fmt.Errorf("a chain of more than %d aliases (CNAME)", maxChain)
)

// answer is what is known of one name and one family.
type answer struct {
	qtype uint16
	addrs []netip.Addr  // all of them, which the size of a message bounds: each is judged before some are chosen
	ttl   time.Duration // how long this may be used again
	err   error         // errNoSuchHost and errNoAddress are answers too; others mean that there is none
}

// settles reports whether the family not heard of yet may be left behind: there is an address to connect to,
// or the name does not exist at all (RFC 8020). A NXDOMAIN for AAAA proves nothing: RFC 4074, section 4.2.
func (a answer) settles() bool {
	return a.err == nil || a.err == errNoSuchHost && a.qtype == dns.TypeA
}

// parseAnswer reads from m, whose code is success or NXDOMAIN, the addresses of the canonical name: those of
// type qtype at the end of the chain of aliases that begins with name. Whatever else m holds is ignored.
func parseAnswer(m *dns.Msg, name string, qtype uint16) answer {
	a := answer{qtype: qtype}
	aliases := map[string]*dns.CNAME{}
	for _, rr := range m.Answer {
		if c, ok := rr.(*dns.CNAME); ok && c.Hdr.Class == dns.ClassINET {
			if owner := dns.CanonicalName(c.Hdr.Name); aliases[owner] == nil {
				aliases[owner] = c
			}
		}
	}
	end, ttl := dns.CanonicalName(name), maxTTL
	for hops := 0; aliases[end] != nil; hops++ {
		if hops == maxChain {
			a.err = errChain
			return a
		}
		ttl = min(ttl, ttlOf(aliases[end].Hdr.Ttl))
		end = dns.CanonicalName(aliases[end].Target)
	}
	if m.Rcode == dns.RcodeSuccess {
		a.collect(m.Answer, end, ttl)
	}
	if len(a.addrs) > 0 {
		return a
	}
	a.err = errNoAddress
	if m.Rcode == dns.RcodeNameError {
		a.err = errNoSuchHost
	}
	a.ttl = min(ttl, negativeTTL(m.Ns, end))
	return a
}

// maxTTL is above what any answer may say (RFC 2181, section 8).
const maxTTL = 1 << 31 * time.Second

// ttlOf returns a record's time to live; one with the highest bit set counts as 0 (RFC 2181, section 8).
func ttlOf(seconds uint32) time.Duration {
	if seconds > 1<<31-1 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// collect takes the addresses of owner, and the smallest of ttl and theirs. Names are compared as they are: thousands of
// records of a name that takes a kilobyte, escaped, are not worth a canonical form each. All that Unpack returns is ASCII.
func (a *answer) collect(rrs []dns.RR, owner string, ttl time.Duration) {
	for _, rr := range rrs {
		h := rr.Header()
		if h.Class != dns.ClassINET || !strings.EqualFold(h.Name, owner) {
			continue
		}
		addr, ok := addressIn(rr, a.qtype)
		if !ok {
			continue
		}
		ttl = min(ttl, ttlOf(h.Ttl))
		a.addrs = append(a.addrs, addr)
	}
	a.ttl = ttl
}

// addressIn returns the address in a record of type qtype.
func addressIn(rr dns.RR, qtype uint16) (netip.Addr, bool) {
	switch rr := rr.(type) {
	case *dns.A:
		v4 := rr.A.To4() // nil for a record without data
		addr, ok := netip.AddrFromSlice(v4)
		return addr, ok && qtype == dns.TypeA
	case *dns.AAAA:
		addr, ok := netip.AddrFromSlice(rr.AAAA)
		return addr, ok && qtype == dns.TypeAAAA && addr.Is6()
	}
	return netip.Addr{}, false
}

// negativeTTL returns how long the absence of name may be remembered: RFC 2308, section 5. Without the zone's
// SOA record it may not be.
func negativeTTL(authority []dns.RR, name string) time.Duration {
	for _, rr := range authority {
		if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(dns.CanonicalName(soa.Hdr.Name), name) {
			return min(ttlOf(soa.Hdr.Ttl), ttlOf(soa.Minttl))
		}
	}
	return 0
}

// merge makes one result of the answers for both families.
func merge(a, aaaa answer) result {
	switch {
	case a.err == nil && aaaa.err == nil:
		return result{addrs: inTryingOrder(slices.Concat(aaaa.addrs, a.addrs)), ttl: min(a.ttl, aaaa.ttl)}
	case a.err == nil:
		return result{addrs: inTryingOrder(a.addrs), ttl: a.ttl}
	case aaaa.err == nil:
		return result{addrs: inTryingOrder(aaaa.addrs), ttl: aaaa.ttl}
	case a.err == errNoSuchHost && aaaa.negative():
		return result{err: a.err, ttl: min(a.ttl, aaaa.ttl)}
	case a.err == errNoSuchHost:
		return result{err: a.err}
	case !a.negative():
		return result{err: a.err}
	case !aaaa.negative():
		return result{err: aaaa.err}
	default:
		return result{err: a.err, ttl: min(a.ttl, aaaa.ttl)}
	}
}

// negative reports whether there is an answer, and it is that there is no address.
func (a answer) negative() bool { return a.err == errNoSuchHost || a.err == errNoAddress }

// inTryingOrder returns addrs without repetitions, the families taking turns from IPv6 on, each in the order in
// which it came (RFC 8305, section 4). An IPv4-mapped address counts as IPv4, the way it would be connected to.
func inTryingOrder(addrs []netip.Addr) []netip.Addr {
	var v4, v6 []netip.Addr
	seen := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		real := a.Unmap()
		if seen[real] {
			continue
		}
		seen[real] = true
		if real.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	order := make([]netip.Addr, 0, len(v4)+len(v6))
	for i := range max(len(v4), len(v6)) {
		if i < len(v6) {
			order = append(order, v6[i])
		}
		if i < len(v4) {
			order = append(order, v4[i])
		}
	}
	return order
}
