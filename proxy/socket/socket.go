// Package socket reads and writes TCP connections by system calls made at once, and leaves to Go's poller nothing but
// the waits for them. It knows limits in time that cost no system call (Deadline and Context, on a clock of ticks), a look at what
// has come without reading it (Prober), what lies below TLS (Wire), and memory for bytes on their way. It knows nothing
// of HTTP, nor of who is at the other end.
package socket

import (
	"io"
	"net"
	"syscall"
)

// TCP is a connection as net and guard make them.
type TCP interface {
	net.Conn
	syscall.Conn
	// CloseWrite sends FIN.
	CloseWrite() error
	// SetLinger is that of net.TCPConn: with 0 seconds, closing resets the connection.
	SetLinger(seconds int) error
}

// Conn is a TCP connection that is read and written by calling the system at once; Go's poller is there to wait. Each
// direction may be used by one goroutine at a time.
type Conn struct {
	TCP
	raw     syscall.RawConn
	in, out transfer
}

// transfer is what one read or write has done so far. Its step is made once per connection, so that neither
// allocates anything.
type transfer struct {
	buf  []byte
	rest []byte // what is written behind buf
	n    int
	err  error
	late bool // a write had to wait
	// stalls, where it is set, is called as a write begins to wait.
	stalls func()
	step   func(fd uintptr) (done bool)
	once   func(fd uintptr) // step, where nothing is waited for
}

// New returns a Conn on conn, which is its own from here on. It fails only where conn is closed.
func New(conn TCP) (*Conn, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &Conn{TCP: conn, raw: raw}
	c.in.step, c.out.step = c.in.read, c.out.write
	c.in.once = func(fd uintptr) { c.in.read(fd) }
	return c, nil
}

// Read reads what has come, and waits where nothing has.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return c.in.run(c.raw.Read, p)
}

// Write writes all of p.
func (c *Conn) Write(p []byte) (int, error) {
	return c.out.run(c.raw.Write, p)
}

// WriteBoth writes all of head and of body, in one call to the system where it takes both.
func (c *Conn) WriteBoth(head, body []byte) (int, error) {
	c.out.rest = body
	return c.out.run(c.raw.Write, head)
}

// WriteWaited reports whether the last write could not send all at once. It is for the goroutine that writes.
func (c *Conn) WriteWaited() bool { return c.out.late }

// OnStall has f called, by the goroutine that writes, each time that a write begins to wait for the other end. It is to be
// set before the first write.
func (c *Conn) OnStall(f func()) { c.out.stalls = f }

// Await calls ready at once, and again whenever something has come, until it returns true. The error is the wait's: the
// connection was closed, or its deadline has passed.
func (c *Conn) Await(ready func(fd uintptr) (done bool)) error { return c.raw.Read(ready) }

// Control calls look once with the connection's descriptor, unless it is closed.
func (c *Conn) Control(look func(fd uintptr)) error { return c.raw.Control(look) }

// ReadNow reads what has come: syscall.EAGAIN says that nothing has. It may be called from within Await.
func (c *Conn) ReadNow(p []byte) (n int, err error) {
	c.in.buf, c.in.n, c.in.err = p, 0, nil
	err = c.raw.Control(c.in.once)
	c.in.buf = nil
	if err == nil {
		err = c.in.err
	}
	return c.in.n, err
}

// Interrupt ends a write that waits, and lets the next one fail, until Resume is called.
func (c *Conn) Interrupt() { c.SetWriteDeadline(aLongTimeAgo) }

// InterruptRead ends a wait for input, and lets the next one fail, until SetReadDeadline takes that back.
func (c *Conn) InterruptRead() { c.SetReadDeadline(aLongTimeAgo) }

func (t *transfer) run(wait func(func(fd uintptr) bool) error, p []byte) (int, error) {
	t.buf, t.n, t.err, t.late = p, 0, nil, false
	err := wait(t.step)
	t.buf, t.rest = nil, nil
	if err == nil {
		err = t.err
	}
	return t.n, err
}

func (t *transfer) read(fd uintptr) bool {
	t.n, t.err = Receive(fd, t.buf)
	return t.err != syscall.EAGAIN
}

func (t *transfer) write(fd uintptr) bool {
	for len(t.buf)+len(t.rest) > 0 {
		n, err := t.send(fd)
		t.n += n
		if n < len(t.buf) {
			t.buf = t.buf[n:]
		} else {
			t.buf, t.rest = t.rest[n-len(t.buf):], nil
		}
		switch err {
		case nil:
		case syscall.EAGAIN:
			if t.stalls != nil && !t.late {
				t.stalls()
			}
			t.late = true
			return false
		default:
			t.err = err
			return true
		}
	}
	return true
}

func (t *transfer) send(fd uintptr) (int, error) {
	if len(t.buf) > 0 && len(t.rest) > 0 {
		return sendBoth(fd, t.buf, t.rest)
	}
	if len(t.buf) == 0 {
		t.buf, t.rest = t.rest, nil
	}
	return send(fd, t.buf)
}

// Receive reads what the socket holds, without waiting: syscall.EAGAIN says that there is nothing, io.EOF that the
// peer has sent FIN.
func Receive(fd uintptr, p []byte) (int, error) {
	n, err := receive(fd, p, 0)
	if err == nil && n == 0 {
		return 0, io.EOF
	}
	return n, err
}

// HasInput reports whether a read would return at once: a byte is there, or the end, or an error.
func HasInput(fd uintptr) bool {
	_, err := peek(fd)
	return err != syscall.EAGAIN
}

// peek looks whether the socket holds a byte, and leaves it there: 0 says that the peer has sent FIN.
func peek(fd uintptr) (int, error) {
	var b [1]byte
	return receive(fd, b[:], syscall.MSG_PEEK)
}
