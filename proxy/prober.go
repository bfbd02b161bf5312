package proxy

import "syscall"

// probe is what a look at a socket's input finds, nothing being read.
type probe uint8

const (
	probeQuiet  probe = iota // nothing there
	probeData                // bytes are there
	probeEnding              // bytes are there, and the peer has sent FIN behind them
	probeClosed              // the peer has sent FIN
	probeFailed              // the connection is broken
)

// prober looks at a socket. It exists once per connection, so that looking allocates nothing.
type prober struct {
	raw    syscall.RawConn
	look   func(fd uintptr)
	result probe
}

func newProber(raw syscall.RawConn) *prober {
	p := &prober{raw: raw}
	p.look = p.peek
	return p
}

// queued returns how many bytes the peer has not acknowledged yet; a negative number where that is not known.
func (p *prober) queued() int {
	n := -1
	if p.raw.Control(func(fd uintptr) { n = queued(fd) }) != nil {
		return -1
	}
	return n
}

func (p *prober) peek(fd uintptr) { p.result = probeSocket(fd) }

// probeSocket looks at what has come, and leaves it there.
func probeSocket(fd uintptr) probe {
	switch n, err := peekSocket(fd); {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return probeQuiet
	case err != nil:
		return probeFailed
	case n == 0:
		return probeClosed
	}
	switch ended, broken := hungUp(fd); {
	case broken:
		return probeFailed
	case ended:
		return probeEnding
	}
	return probeData
}

// probe may be called by one goroutine at a time.
func (p *prober) probe() probe {
	if err := p.raw.Control(p.look); err != nil {
		return probeFailed
	}
	return p.result
}
