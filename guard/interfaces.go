package guard

import (
	"fmt"
	"net"
	"net/netip"
	"time"
)

// ownAddresses are the addresses of this host's network interfaces: behind a public one may listen what
// was never meant for strangers, the proxy itself to begin with. A new address is seen within 10 s.
type ownAddresses struct {
	set *snapshot[map[netip.Addr]struct{}]
}

// newOwnAddresses lists the addresses for the first time, with list being net.InterfaceAddrs but in tests.
// Where that fails the guard cannot keep its promise, so it must not start.
func newOwnAddresses(now func() time.Time, list func() ([]net.Addr, error)) (*ownAddresses, error) {
	set, err := newSnapshot(now, func(map[netip.Addr]struct{}) (map[netip.Addr]struct{}, error) {
		addrs, err := list()
		if err != nil {
			return nil, err
		}
		return addressSet(addrs), nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the addresses of this host's network interfaces: %w", err)
	}
	return &ownAddresses{set}, nil
}

// contains reports whether a, which has no zone, is an address of this host.
func (o *ownAddresses) contains(a netip.Addr) bool {
	_, own := o.set.get()[a]
	return own
}

// addressSet returns the addresses without their networks and zones.
func addressSet(addrs []net.Addr) map[netip.Addr]struct{} {
	set := make(map[netip.Addr]struct{}, len(addrs))
	for _, a := range addrs {
		var ip net.IP
		switch a := a.(type) {
		case *net.IPNet:
			ip = a.IP
		case *net.IPAddr:
			ip = a.IP
		}
		if addr, ok := netip.AddrFromSlice(ip); ok {
			set[addr.Unmap()] = struct{}{}
		}
	}
	return set
}
