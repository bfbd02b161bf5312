package socket

import (
	"io"
	"syscall"
)

// Reader reads from a connection into a buffer that it takes only when there is something to read, so that a tunnel
// at rest holds none. Above TLS, which has to be read to know, it holds one.
type Reader struct {
	conn  io.Reader
	tcp   *Conn // nil above TLS
	ready func(fd uintptr) bool
	buf   *[]byte
	flows bool // the last read has found as much as a copy buffer holds, or more
	n     int
	err   error
}

// NewReader returns a Reader of conn, a *Conn or TLS above one.
func NewReader(conn io.Reader) *Reader {
	r := &Reader{conn: conn}
	if c, ok := conn.(*Conn); ok {
		r.tcp, r.ready = c, r.readReady
	}
	return r
}

// Read reads once. What was read is Bytes, also beside an error, until Release is called.
func (r *Reader) Read() error {
	r.n, r.err = 0, nil
	if r.tcp == nil {
		r.buf = AcquireCopyBuffer()
		r.n, r.err = r.conn.Read(*r.buf)
		return r.err
	}
	if err := r.tcp.Await(r.ready); err != nil {
		return err
	}
	return r.err
}

// Bytes is what Read has read.
func (r *Reader) Bytes() []byte {
	if r.n == 0 {
		return nil
	}
	return (*r.buf)[:r.n]
}

// Release gives the buffer back.
func (r *Reader) Release() {
	switch {
	case r.buf == nil:
	case len(*r.buf) == bulkBufferSize:
		releaseBulkBuffer(r.buf)
	default:
		ReleaseCopyBuffer(r.buf)
	}
	r.buf = nil
}

// take takes a buffer, a large one where bytes flow.
func (r *Reader) take() {
	if r.flows {
		r.buf = acquireBulkBuffer()
	}
	if r.buf == nil {
		r.buf = AcquireCopyBuffer()
	}
}

func (r *Reader) readReady(fd uintptr) bool {
	if r.buf == nil {
		r.take()
	}
	r.n, r.err = Receive(fd, *r.buf)
	if r.err == syscall.EAGAIN {
		r.n = 0
		r.Release()
		return false
	}
	r.flows = r.n >= copyBufferSize
	return true
}
