package guard

import (
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Egress chooses the source address of connections. Its zero value leaves the choice to the system. It never changes.
type Egress struct {
	v4, v6 []netip.Addr
}

// newEgress returns the choice among addrs, all of which must be this host's.
func newEgress(addrs []netip.Addr, own *ownAddresses) (Egress, error) {
	var e Egress
	for _, a := range addrs {
		if !own.contains(a) && !bindable(a) {
			return Egress{}, fmt.Errorf("egress.addresses: %s is not an address of this host", a)
		}
		e.add(a)
	}
	return e, nil
}

// Egress returns the choice among addrs, for a call of its own: a family that none of them is of is not used then. Each
// has to be one of egress.addresses; the error names the first that is not. No addresses give nil.
func (g *Guard) Egress(addrs []netip.Addr) (*Egress, error) {
	var e Egress
	for _, a := range addrs {
		if !g.egress.has(a) {
			return nil, fmt.Errorf("egress: %s is not one of egress.addresses", a)
		}
		e.add(a)
	}
	if len(addrs) == 0 {
		return nil, nil
	}
	return &e, nil
}

func (e *Egress) add(a netip.Addr) {
	if a.Is4() {
		e.v4 = append(e.v4, a)
	} else {
		e.v6 = append(e.v6, a)
	}
}

func (e *Egress) has(a netip.Addr) bool { return slices.Contains(e.v4, a) || slices.Contains(e.v6, a) }

// reaches reports whether there is an address that can connect to one of a's family.
func (e *Egress) reaches(a netip.Addr) bool {
	if a.Is4() {
		return len(e.v4) > 0
	}
	return len(e.v6) > 0
}

// bindable reports whether sockets may have the address a although no interface lists it: the others in
// 127.0.0.0/8, or what a routing table declares local.
func bindable(a netip.Addr) bool {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// source returns the source address for a connection to the address to of host and port, or the zero Addr
// for the system's choice. A destination keeps to one address per family, also over restarts, so that its
// owner can tell who calls.
func (e *Egress) source(host string, port uint16, to netip.Addr) netip.Addr {
	addrs := e.v6
	if to.Is4() {
		addrs = e.v4
	}
	if len(addrs) == 0 {
		return netip.Addr{}
	}
	h := fnv.New32a()
	fmt.Fprintf(h, "%s:%d", strings.TrimSuffix(host, "."), port)
	return addrs[h.Sum32()%uint32(len(addrs))]
}
