//go:build !linux

package guard

import (
	"context"
	"net"
	"net/netip"
)

// dialTCP connects to an address. A valid source is the address that the connection comes from.
func dialTCP(ctx context.Context, to netip.AddrPort, source netip.Addr) (Conn, error) {
	dialer := net.Dialer{KeepAlive: -1} // idle connections are closed within seconds anyway
	// LocalAddr stays nil otherwise: an unspecified one would be bound too, and take up a port.
	if source.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	conn, err := dialer.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// hasIPv6 reports whether sockets can be had for IPv6. Elsewhere than on Linux that is taken for granted.
func hasIPv6() bool { return true }
