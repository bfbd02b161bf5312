// Package socket reads and writes TCP connections by system calls made at once, and leaves to Go's poller nothing but
// the waits for them. It knows limits in time that cost no system call (Deadline and Context, on a clock of ticks), a look at what
// has come without reading it (Prober), what lies below TLS (Wire), and memory for bytes on their way. It knows nothing
// of HTTP, nor of who is at the other end.
package socket

import (
	"errors"
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
	raw syscall.RawConn
	in  reading
	out writing
}

// reading is what a read has done so far. Its steps are made once per connection, so that no read allocates anything.
type reading struct {
	buf  []byte // nil: what has come is only looked at
	n    int
	err  error
	step func(fd uintptr) (done bool)
	once func(fd uintptr) // step, where nothing is waited for; nil: that was never asked for
}

// writing is what a write has done so far, likewise.
type writing struct {
	buf  []byte
	rest []byte // what is written behind buf
	n    int
	err  error
	late bool // it had to wait
	// stalls, where it is set, is called as a write begins to wait.
	stalls func()
	step   func(fd uintptr) (done bool)
}

// New returns a Conn on conn, which is its own from here on. It fails only where conn is closed.
func New(conn TCP) (*Conn, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &Conn{TCP: conn, raw: raw}
	c.in.step, c.out.step = c.in.advance, c.out.advance
	return c, nil
}

// Read reads what has come, and waits where nothing has.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.in.begin(p)
	return c.in.end(c.raw.Read(c.in.step))
}

// Write writes all of p.
func (c *Conn) Write(p []byte) (int, error) {
	return c.WriteBoth(p, nil)
}

// WriteBoth writes all of head and of body, in one call to the system where it takes both.
func (c *Conn) WriteBoth(head, body []byte) (int, error) {
	w := &c.out
	w.buf, w.rest, w.n, w.err, w.late = head, body, 0, nil, false
	err := c.raw.Write(w.step)
	w.buf, w.rest = nil, nil
	if err == nil {
		err = w.err
	}
	return w.n, err
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
	if len(p) == 0 {
		return 0, nil
	}
	return c.readOnce(p)
}

// HasBytes reports whether bytes have come that were not read. It is for the goroutine that reads.
func (c *Conn) HasBytes() bool {
	n, _ := c.readOnce(nil)
	return n > 0
}

func (c *Conn) readOnce(p []byte) (n int, err error) {
	if c.in.once == nil {
		c.in.once = func(fd uintptr) { c.in.advance(fd) }
	}
	c.in.begin(p)
	return c.in.end(c.raw.Control(c.in.once))
}

// Interrupt ends a write that waits, and lets the next one fail, until Resume is called.
func (c *Conn) Interrupt() { c.SetWriteDeadline(aLongTimeAgo) }

// InterruptRead ends a wait for input, and lets the next one fail, until SetReadDeadline takes that back.
func (c *Conn) InterruptRead() { c.SetReadDeadline(aLongTimeAgo) }

func (r *reading) begin(p []byte) { r.buf, r.n, r.err = p, 0, nil }

// end returns what came of it; err is that of having waited.
func (r *reading) end(err error) (int, error) {
	r.buf = nil
	if err == nil {
		err = r.err
	}
	return r.n, err
}

func (r *reading) advance(fd uintptr) (done bool) {
	if r.buf == nil {
		r.n, r.err = peek(fd)
	} else {
		r.n, r.err = Receive(fd, r.buf)
	}
	return r.err != syscall.EAGAIN
}

func (w *writing) advance(fd uintptr) (done bool) {
	for len(w.buf)+len(w.rest) > 0 {
		n, err := w.send(fd)
		w.n += n
		if n < len(w.buf) {
			w.buf = w.buf[n:]
		} else {
			w.buf, w.rest = w.rest[n-len(w.buf):], nil
		}
		switch err {
		case nil:
		case syscall.EAGAIN:
			if w.stalls != nil && !w.late {
				w.stalls()
			}
			w.late = true
			return false
		default:
			w.err = err
			return true
		}
	}
	return true
}

func (w *writing) send(fd uintptr) (int, error) {
	if len(w.buf) > 0 && len(w.rest) > 0 {
		return sendBoth(fd, w.buf, w.rest)
	}
	if len(w.buf) == 0 {
		w.buf, w.rest = w.rest, nil
	}
	return send(fd, w.buf)
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

// IsReset reports whether err says that the peer has broken the connection off.
func IsReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
