package guard

import (
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"strings"
)

// egress chooses the source address of connections. Its zero value leaves the choice to the system.
type egress struct {
	v4, v6 []netip.Addr
}

// newEgress returns the choice among addrs, all of which must be this host's.
func newEgress(addrs []netip.Addr, own *ownAddresses) (egress, error) {
	var e egress
	for _, a := range addrs {
		if !own.contains(a) && !bindable(a) {
			return egress{}, fmt.Errorf("egress.addresses: %s is not an address of this host", a)
		}
		if a.Is4() {
			e.v4 = append(e.v4, a)
		} else {
			e.v6 = append(e.v6, a)
		}
	}
	return e, nil
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
func (e *egress) source(host string, port uint16, to netip.Addr) netip.Addr {
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
