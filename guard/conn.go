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
	if err := d.checkSocket(peer(conn), to); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// peer returns what conn is connected to.
func peer(conn Conn) netip.AddrPort { return conn.RemoteAddr().(*net.TCPAddr).AddrPort() }
