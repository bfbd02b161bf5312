//go:build !linux

package guard

import (
	"net"
	"net/netip"
)

// routedHere reports whether what is sent to a comes back to this host, as far as can be told from a UDP socket that is
// connected to it, which sends nothing: its own address is then a, or one of loopback. It is false where there is no way
// to a.
func routedHere(a netip.Addr) bool {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 9)))
	if err != nil {
		return false
	}
	defer conn.Close()
	from := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	return from == a || from.IsLoopback()
}
