package proxy

import (
	"io"
	"syscall"

	"whsentry/guard"
)

// socket is a TCP connection that is read and written by calling the system at once; Go's poller is there to wait. Each
// direction may be used by one goroutine at a time.
type socket struct {
	guard.Conn
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
	step func(fd uintptr) (done bool)
	once func(fd uintptr) // step, where nothing is waited for
}

func newSocket(conn guard.Conn) (*socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{Conn: conn, raw: raw}
	s.in.step, s.out.step = s.in.read, s.out.write
	s.in.once = func(fd uintptr) { s.in.read(fd) }
	return s, nil
}

// Read reads what has come, and waits where nothing has.
func (s *socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return s.in.run(s.raw.Read, p)
}

// Write writes all of p.
func (s *socket) Write(p []byte) (int, error) {
	return s.out.run(s.raw.Write, p)
}

// WriteBoth writes all of head and of body, in one call to the system where it takes both.
func (s *socket) WriteBoth(head, body []byte) (int, error) {
	s.out.rest = body
	return s.out.run(s.raw.Write, head)
}

// readNow reads what has come: syscall.EAGAIN says that nothing has. It may be called from within a wait for input.
func (s *socket) readNow(p []byte) (n int, err error) {
	s.in.buf, s.in.n, s.in.err = p, 0, nil
	err = s.raw.Control(s.in.once)
	s.in.buf = nil
	if err == nil {
		err = s.in.err
	}
	return s.in.n, err
}

func (t *transfer) run(wait func(func(fd uintptr) bool) error, p []byte) (int, error) {
	t.buf, t.n, t.err = p, 0, nil
	err := wait(t.step)
	t.buf, t.rest = nil, nil
	if err == nil {
		err = t.err
	}
	return t.n, err
}

func (t *transfer) read(fd uintptr) bool {
	t.n, t.err = readSocket(fd, t.buf)
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

// readSocket reads what the socket holds, without waiting: syscall.EAGAIN says that there is nothing, io.EOF that the
// peer has sent FIN.
func readSocket(fd uintptr, p []byte) (int, error) {
	n, err := receive(fd, p, 0)
	if err == nil && n == 0 {
		return 0, io.EOF
	}
	return n, err
}

// peekSocket looks whether the socket holds a byte, and leaves it there: 0 says that the peer has sent FIN.
func peekSocket(fd uintptr) (int, error) {
	var b [1]byte
	return receive(fd, b[:], syscall.MSG_PEEK)
}
