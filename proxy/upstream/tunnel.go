package upstream

import (
	"io"

	"whsentry/proxy/socket"
)

// Tunnel is what a connection carries after a CONNECT, as the sweeper sees it.
type Tunnel struct {
	peer   *socket.Conn // the client's side
	prober *socket.Prober
}

// Join makes c one side of a tunnel, of which peer is the other: whatever ends one ends both.
func (c *Conn) Join(peer *socket.Conn) *Tunnel {
	c.watch()
	t := &Tunnel{peer: peer, prober: peer.NewProber()}
	c.tunnel.Store(t)
	if c.Killed() != CloseNone { // before it knew of the client's side
		peer.Close()
	}
	return t
}

// Reset makes the closing of the connection a reset.
func (c *Conn) Reset() { c.tcp.SetLinger(0) }

// Inner is what is read: the socket, or TLS above it.
func (c *Conn) Inner() io.Reader { return c.conn }
