package guard

import (
	"net/netip"
	"slices"
)

// Protect tells the guard where the proxy itself listens, its metrics included: never a destination, whatever a list, or
// insecureSkipCidrDenyList, says. An unspecified address stands for every address of this host. It replaces what was
// told before, may be called at any time, and copies its argument.
func (g *Guard) Protect(listeners []netip.AddrPort) {
	own := make([]netip.AddrPort, 0, len(listeners))
	for _, l := range listeners {
		own = append(own, netip.AddrPortFrom(l.Addr().Unmap().WithZone(""), l.Port()))
	}
	g.listeners.Store(&own)
}

// listensAt reports whether a connection to a, which has no zone, and port would come back to the proxy.
func (g *Guard) listensAt(a netip.Addr, port uint16) bool {
	return g.hasListener(port, func(own netip.Addr) bool {
		// Connected to, the unspecified address is one of this host, as the system likes.
		return own == a || a.IsUnspecified() || own.IsUnspecified() && (a.IsLoopback() || g.own.contains(a))
	})
}

// leadsHome reports whether the system delivers what is sent to a, which may be connected to otherwise, and port to the
// proxy itself: a route may do so for an address that no interface has (a load balancer's on some clouds), and one that
// is new may not have been seen yet. The system is asked only where a listener on every address has that port.
func (g *Guard) leadsHome(a netip.Addr, port uint16) bool {
	return g.hasListener(port, netip.Addr.IsUnspecified) && routedHere(a.Unmap())
}

// hasListener reports whether the proxy listens at port on an address that fits.
func (g *Guard) hasListener(port uint16, fits func(own netip.Addr) bool) bool {
	listeners := g.listeners.Load()
	return listeners != nil && slices.ContainsFunc(*listeners, func(l netip.AddrPort) bool { return l.Port() == port && fits(l.Addr()) })
}
