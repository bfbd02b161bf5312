package downstream

import (
	"errors"
	"os"
	"time"

	"whsentry/proxy/http1"
)

// AwaitOpening reads what a tunnel's client begins with, into In, until it is clear whether that is a request; heard is
// told when the first of it has come. What is no request after patience is none. An error is that of reading, behind what
// has come.
func (c *Conn) AwaitOpening(patience time.Duration, heard func()) (isRequest bool, err error) {
	c.SettleInput() // of a head that has filled it to its last byte
	if c.In.Len() == 0 {
		if err := c.awaitFirst(); err != nil {
			return false, err
		}
	}
	heard()
	var o http1.Opening
	v := o.Judge(c.In.Unused())
	if v != http1.Undecided {
		return v == http1.HTTP, nil
	}
	c.tcp.SetReadDeadline(time.Now().Add(patience))
	defer c.tcp.SetReadDeadline(time.Time{})
	limit := int(c.cfg().MaxHeaderSize)
	for v == http1.Undecided {
		if len(c.In.Free()) == 0 {
			c.In.Grow(2 * c.In.Len())
		}
		n, err := c.Stream().Read(c.In.Free())
		c.In.Added(n)
		switch v = o.Judge(c.In.Unused()); {
		case v != http1.Undecided:
		case n == 0 && errors.Is(err, os.ErrDeadlineExceeded):
			return false, nil
		case n == 0:
			return false, err
		case c.In.Len() >= limit:
			v = o.TooLong()
		}
	}
	return v == http1.HTTP, nil
}

// awaitFirst waits for the first of what a client sends, and holds no buffer meanwhile.
func (c *Conn) awaitFirst() error {
	if c.tls == nil {
		if err := c.tcp.Await(c.ready); err != nil {
			return err
		}
		return c.readErr
	}
	return c.awaitRecord()
}
