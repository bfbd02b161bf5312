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
	return tcpConn{conn.(*net.TCPConn)}, nil
}

// tcpConn is a TCP connection as net makes them.
type tcpConn struct{ *net.TCPConn }

func (c tcpConn) Peer() netip.AddrPort { return c.RemoteAddr().(*net.TCPAddr).AddrPort() }

// hasIPv6 reports whether sockets can be had for IPv6. Elsewhere than on Linux that is taken for granted.
func hasIPv6() bool { return true }
