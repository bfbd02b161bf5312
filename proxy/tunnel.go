package proxy

import (
	"fmt"
	"io"
	"time"

	"whsentry/proxy/reason"
	"whsentry/proxy/socket"
	"whsentry/proxy/upstream"
)

// connectionEstablished is the answer to a CONNECT; it has no fields, least of all of a body (RFC 9110 section 9.3.6).
const connectionEstablished = "HTTP/1.1 200 Connection established\r\n\r\n"

// tunnel carries bytes between a client and a destination after CONNECT.
type tunnel struct {
	client *client
	up     *upstream.Conn
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
		ex.drop(upstream.CloseClient)
		return reason.ClientGone()
	}
	p.metrics.Tunnels.Add(1)
	p.metrics.TunnelsTotal.Inc()
	defer p.metrics.Tunnels.Add(-1)
	ex.status, ex.begun = 200, true
	t := &tunnel{client: c, up: ex.held, idle: ex.run.cfg.ReadTimeout}
	c.attach(t.up, nil)
	t.up.Join(c.tcp)
	t.run(c.takeEarly())
	c.attach(nil, nil)
	ex.requestBytes, ex.responseBytes = t.toUp, t.toClient
	ex.written = t.toUp > 0
	f := ex.tunnelEnd()
	ex.drop(upstream.CloseTunnel)
	ex.keep = false
	return f
}

// tunnelEnd says why a tunnel was closed, where neither side wanted that.
func (ex *exchange) tunnelEnd() *reason.Failure {
	cfg := ex.run.cfg
	switch ex.held.Killed() {
	case upstream.CloseIdle:
		return reason.Newf(reason.Timeout, "timed out: the tunnel was idle for %s", cfg.ReadTimeout).Over(reason.LimitReadTimeout)
	case upstream.CloseLifetime:
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
func (t *tunnel) touch() { t.up.Expect(socket.Now()) }

// pump carries one direction until src ends, which dst is told, or either fails, which ends the tunnel.
func (t *tunnel) pump(dst io.Writer, src io.Reader, count *int64) {
	r := newReader(src)
	for {
		err := r.Read()
		if b := r.Bytes(); len(b) > 0 {
			t.touch()
			written, writeErr := dst.Write(b)
			*count += int64(written)
			t.touch()
			if writeErr != nil {
				err = writeErr
			}
		}
		r.Release()
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

// newReader returns what reads from either side.
func newReader(side io.Reader) *socket.Reader {
	if u, ok := side.(*upstream.Conn); ok {
		side = u.Inner()
	}
	return socket.NewReader(side)
}

// abort closes both sides; a reset of one is passed on to the other.
func (t *tunnel) abort(err error) {
	if upstream.IsReset(err) {
		t.client.tcp.SetLinger(0)
		t.up.Reset()
	}
	t.client.tcp.Close()
	t.up.Close()
}

// closeWrite passes a half-close on.
func closeWrite(conn io.Writer) error {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
