package downstream

import (
	"time"

	"whsentry/proxy/socket"
)

// Limits of a lingering close, RFC 9112 section 9.6: a client that is still sending would lose the answer if its
// connection were closed under it, for the reset that follows discards what it has not yet read.
const (
	lingerPause = 2 * time.Second  // without a byte
	lingerTotal = 30 * time.Second // in all
)

// depart ends what the client is sent.
func (c *Conn) depart() {
	switch {
	case c.isReset:
	case c.Lingers:
		c.linger()
	default:
		c.farewell()
	}
}

// farewell ends TLS, without which a client could take what it got for cut.
func (c *Conn) farewell() {
	if c.tls != nil {
		c.tls.CloseWrite()
	}
}

// linger closes the sending side and takes what still comes, so that the client can read its answer.
func (c *Conn) linger() {
	c.Enter(Busy)
	c.farewell()
	if c.tcp.CloseWrite() != nil {
		return
	}
	buf := socket.AcquireCopyBuffer()
	defer socket.ReleaseCopyBuffer(buf)
	for end := socket.Now() + int64(lingerTotal); socket.Now() < end && !c.server().closing.Load(); {
		c.Limit(lingerPause)
		if _, err := c.tcp.Read(*buf); err != nil {
			return
		}
	}
}
