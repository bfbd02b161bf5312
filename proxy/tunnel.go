package proxy

import (
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"whsentry/proxy/reason"
)

// connectionEstablished is the answer to a CONNECT; it has no fields, least of all of a body (RFC 9110 section 9.3.6).
const connectionEstablished = "HTTP/1.1 200 Connection established\r\n\r\n"

// tunnel carries bytes between a client and a destination after CONNECT.
type tunnel struct {
	client *client
	up     *upstream
	idle   time.Duration
	// toUp and toClient count the bytes of either direction, each by its own goroutine.
	toUp, toClient int64
}

// tunnel opens a tunnel and carries it to its end, unless the CONNECT is refused already.
func (ex *exchange) tunnel(refused *reason.Failure) *reason.Failure {
	if refused != nil {
		return refused
	}
	c, p := ex.client, ex.client.proxy
	if f := ex.acquire(nil, true); f != nil {
		return f
	}
	if c.write([]byte(connectionEstablished)) != nil {
		ex.drop(closeClient)
		return reason.ClientGone()
	}
	p.metrics.Tunnels.Add(1)
	p.metrics.TunnelsTotal.Inc()
	defer p.metrics.Tunnels.Add(-1)
	ex.status, ex.begun = 200, true
	t := &tunnel{client: c, up: ex.held, idle: ex.run.cfg.ReadTimeout}
	c.attach(t.up, nil)
	t.up.watch()
	t.up.client.Store(c)
	if t.up.killed.Load() != 0 { // before it knew of the client's side
		t.abort(nil)
	}
	t.run(ex.in.unused())
	c.attach(nil, nil)
	ex.in.clear()
	ex.requestBytes, ex.responseBytes = t.toUp, t.toClient
	ex.written = t.toUp > 0
	f := ex.tunnelEnd()
	ex.drop(closeTunnel)
	ex.keep = false
	return f
}

// tunnelEnd says why a tunnel was closed, where neither side wanted that.
func (ex *exchange) tunnelEnd() *reason.Failure {
	cfg := ex.run.cfg
	switch closeReason(ex.held.killed.Load()) {
	case closeIdle:
		return reason.Newf(reason.Timeout, "timed out: the tunnel was idle for %s", cfg.ReadTimeout).Over(reason.LimitReadTimeout)
	case closeLifetime:
		return reason.Newf(reason.Timeout, "timed out: the tunnel reached its lifetime of %s", cfg.ConnectionLifetime).Over(reason.LimitConnectionLifetime)
	}
	return nil
}

// run carries early, which the client has sent behind its CONNECT, and then both directions, until both have ended
// or one has failed.
func (t *tunnel) run(early []byte) {
	t.touch()
	ended := make(chan struct{})
	go t.upward(early, ended) // awaited below; it ends with the sockets, which abort closes
	t.pump(t.client.conn, t.up, &t.toClient)
	<-ended
}

// upward carries what the client sends.
func (t *tunnel) upward(early []byte, ended chan<- struct{}) {
	defer close(ended)
	defer t.recoverBug()
	if len(early) > 0 {
		n, err := t.up.Write(early)
		t.toUp += int64(n)
		if err != nil {
			t.abort(err)
			return
		}
	}
	t.pump(t.up, t.client.conn, &t.toUp)
}

func (t *tunnel) recoverBug() {
	if r := recover(); r != nil {
		t.client.proxy.log().Error().Str("panic", fmt.Sprint(r)).Msg("a bug ended a tunnel")
		t.abort(nil)
	}
}

// touch tells the sweeper that a byte has passed.
func (t *tunnel) touch() { t.up.due.Store(now() + int64(t.idle)) }

// pump carries one direction until src ends, which dst is told, or either fails, which ends the tunnel.
func (t *tunnel) pump(dst, src net.Conn, count *int64) {
	r := newReader(src)
	for {
		err := r.read()
		if n := r.n; n > 0 {
			t.touch()
			written, writeErr := dst.Write((*r.buf)[:n])
			*count += int64(written)
			t.touch()
			if writeErr != nil {
				err = writeErr
			}
		}
		r.release()
		switch {
		case err == io.EOF:
			if closeWrite(dst) != nil {
				t.abort(nil)
			}
			return
		case err != nil:
			t.abort(err)
			return
		}
	}
}

// abort closes both sides; a reset of one is passed on to the other.
func (t *tunnel) abort(err error) {
	if isReset(err) {
		t.client.tcp.SetLinger(0)
		t.up.tcp.SetLinger(0)
	}
	t.client.tcp.Close()
	t.up.tcp.Close()
}

// closeWrite passes a half-close on.
func closeWrite(conn net.Conn) error {
	switch c := conn.(type) {
	case *upstream:
		return closeWrite(c.Conn)
	case interface{ CloseWrite() error }:
		return c.CloseWrite()
	}
	return nil
}

// reader reads from a connection into a buffer that it takes only when there is something to read, so that a tunnel
// at rest holds none.
type reader struct {
	conn  net.Conn
	raw   syscall.RawConn // nil above TLS, which has to be read to know
	ready func(fd uintptr) bool
	buf   *[]byte
	n     int
	err   error
}

func newReader(conn net.Conn) *reader {
	r := &reader{conn: conn}
	if u, ok := conn.(*upstream); ok {
		r.conn = u.Conn
	}
	if s, ok := r.conn.(*socket); ok {
		r.raw, r.ready = s.raw, r.readReady
	}
	return r
}

// read reads once. The bytes are the first r.n of *r.buf until release is called.
func (r *reader) read() error {
	r.n, r.err = 0, nil
	if r.raw == nil {
		r.buf = acquireCopyBuffer()
		r.n, r.err = r.conn.Read(*r.buf)
		return r.err
	}
	if err := r.raw.Read(r.ready); err != nil {
		return err
	}
	return r.err
}

func (r *reader) readReady(fd uintptr) bool {
	if r.buf == nil {
		r.buf = acquireCopyBuffer()
	}
	r.n, r.err = readSocket(fd, *r.buf)
	if r.err == syscall.EAGAIN {
		r.release()
		return false
	}
	return true
}

func (r *reader) release() {
	if r.buf != nil {
		releaseCopyBuffer(r.buf)
		r.buf = nil
	}
}
