package socket

import "syscall"

// Input is what a look at a connection's input finds, nothing being read.
type Input uint8

// The values of Input.
const (
	Quiet  Input = iota // nothing there
	Data                // bytes are there
	Ending              // bytes are there, and the peer has sent FIN behind them (Linux alone; Data elsewhere)
	Closed              // the peer has sent FIN
	Failed              // the connection is broken, or closed on this side
)

// Prober looks at a connection. It exists once per connection and goroutine that looks, so that looking allocates
// nothing.
type Prober struct {
	conn   *Conn
	look   func(fd uintptr)
	result Input
}

// NewProber returns a Prober of c.
func (c *Conn) NewProber() *Prober {
	p := &Prober{conn: c}
	p.look = p.peek
	return p
}

// Unacknowledged returns how many bytes the peer has not acknowledged yet; a negative number where that is not known.
func (p *Prober) Unacknowledged() int {
	n := -1
	if p.conn.raw.Control(func(fd uintptr) { n = queued(fd) }) != nil {
		return -1
	}
	return n
}

// Look looks at what has come, and leaves it there. It may be called by one goroutine at a time.
func (p *Prober) Look() Input {
	if err := p.conn.raw.Control(p.look); err != nil {
		return Failed
	}
	return p.result
}

func (p *Prober) peek(fd uintptr) { p.result = probe(fd) }

// probe looks at what has come, and leaves it there.
func probe(fd uintptr) Input {
	switch n, err := peek(fd); {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return Quiet
	case err != nil:
		return Failed
	case n == 0:
		return Closed
	}
	switch ended, broken := hungUp(fd); {
	case broken:
		return Failed
	case ended:
		return Ending
	}
	return Data
}
