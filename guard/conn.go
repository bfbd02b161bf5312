package guard

import (
	"context"
	"net"
	"net/netip"
	"syscall"
)

// Conn is a TCP connection that a Dialer has made.
type Conn interface {
	net.Conn
	syscall.Conn
	// CloseWrite sends FIN.
	CloseWrite() error
	// SetLinger is that of net.TCPConn: with 0 seconds, closing resets the connection.
	SetLinger(seconds int) error
	// Peer is the address that the connection goes to, as the system says; not valid once it goes nowhere any more.
	Peer() netip.AddrPort
}

// connectTCP connects to an address that was judged, and judges it once more now, and what the connection really goes
// to. A valid source is the address that the connection comes from.
func (d *Dialer) connectTCP(ctx context.Context, to netip.AddrPort, source netip.Addr) (Conn, error) {
	if err := d.checkSocket(to, to); err != nil {
		return nil, err
	}
	conn, err := dialTCP(ctx, to, source)
	if err != nil {
		return nil, err
	}
	if err := d.checkPeer(conn, to); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// checkPeer judges what conn is connected to. That it is connected to nothing any more, because the destination has
// broken it off at once, is no reason to refuse the address.
func (d *Dialer) checkPeer(conn Conn, to netip.AddrPort) error {
	peer := conn.Peer()
	if !peer.IsValid() {
		return syscall.ECONNRESET
	}
	return d.checkSocket(peer, to)
}

// checkSocket judges the address of a socket, which must be the one that was asked for.
func (d *Dialer) checkSocket(got, want netip.AddrPort) error {
	got = netip.AddrPortFrom(got.Addr().Unmap(), got.Port())
	if got != want {
		return &BlockedError{Addr: got.Addr(), Rule: Rule{Name: nameNotUnicast, Source: "not the address that was judged"}}
	}
	return d.guard.CheckAddr(got, d.exceptions)
}
