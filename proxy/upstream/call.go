package upstream

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"whsentry/proxy/socket"
)

// writePiece is how much of a large body is written before the destination's side is looked at: it may have
// answered already.
const writePiece = 64 << 10

// ErrStale says that a connection had ended, or that something had come on it unasked, while it was at rest. Nothing has
// been sent.
var ErrStale = errors.New("the connection has ended while it was at rest")

// Call is one request on its way, and the bytes of its answer. It is reused, for one request after the other, and holds
// no memory while it waits for the first of those bytes. The zero Call is ready.
type Call struct {
	In socket.Buffer // what has come of the answer, and was not used yet
	// At is when the clock was last looked at, which is done after each wait: close enough to now for limits of seconds.
	// The caller sets it before Ask.
	At socket.Tick
	// OnSent is called once the whole request has been sent, and so its body is not needed any more to send it; nil: nobody
	// is told.
	OnSent func()

	conn   *Conn
	reused bool

	step   func(fd uintptr) (done bool) // advance; made once
	wait   func(fd uintptr) (done bool) // receive; likewise
	out    output
	body   []byte
	rest   []byte // of the body: not yet sent
	asked  bool   // the request was sent, or could not be
	sent   int
	before int64 // what TLS had written before
	err    error // of sending it
	// broken says that the destination did not take all of the request, and torn that it broke the connection off.
	broken, torn bool
	readErr      error // what receive has found
	begun        bool  // some of the answer has come
	sentAt       socket.Tick
	firstByte    time.Duration // -1: none has come
}

// output is memory for what is sent, from a pool.
type output struct {
	bytes []byte
	kept  *[]byte
}

var outputs = sync.Pool{New: func() any {
	b := make([]byte, 0, socket.BufferSize)
	return &b
}}

func (o *output) take() []byte {
	if o.kept == nil {
		o.kept = outputs.Get().(*[]byte)
	}
	return (*o.kept)[:0]
}

func (o *output) release() {
	if o.kept == nil {
		return
	}
	if o.bytes != nil && cap(o.bytes) <= socket.BufferKept {
		*o.kept = o.bytes[:0]
	}
	outputs.Put(o.kept)
	*o = output{}
}

// Memory returns where the head of the next request goes, empty: Ask gives it back, once it has been written.
func (c *Call) Memory() []byte { return c.out.take() }

// Ask sends a request over conn, whose head is in the memory that Memory has returned, and waits for the first bytes of
// the answer where that costs nothing. reused says that the connection has been at rest: then it is looked at before
// anything is sent, and the error may be ErrStale. Any other is that of sending; an answer may be there all the same.
//
// The sending of a small request is done from within the wait, so that the poller takes note of what comes from before
// the connection is looked at: nothing that comes can be missed, and there is no need to read before waiting, which
// finds nothing. That is for a connection which has been at rest; on a new one an answer may have come before the wait
// begins, or with the end of the TLS handshake. Of a large one, sending is a matter of looking for an answer now and then.
func (c *Call) Ask(conn *Conn, reused bool, head, body []byte) error {
	c.begin(conn, reused, head, body)
	if !reused || len(body) > socket.CopyLimit {
		c.sendOnce()
		c.At = socket.Now()
		c.sentAt = c.At
		return c.err
	}
	if c.step == nil {
		c.step = c.advance
	}
	if err := conn.tcp.Await(c.step); err != nil && !c.asked {
		c.out.release()
		return c.writeFailed(err) // it has been closed
	}
	return c.err
}

func (c *Call) begin(conn *Conn, reused bool, head, body []byte) {
	c.conn, c.reused, c.out.bytes, c.body = conn, reused, head, body
	c.rest, c.asked, c.sent, c.err = nil, false, 0, nil
	c.broken, c.torn, c.begun, c.sentAt, c.firstByte = false, false, false, c.At, -1
	c.In.Release()
	if w := conn.wire; w != nil {
		c.before = w.Written()
	}
}

// End gives back all memory; the Call is ready for another request.
func (c *Call) End() {
	c.In.Release()
	c.out.release()
	c.conn, c.body, c.rest, c.err, c.readErr, c.sent = nil, nil, nil, nil, nil, 0
}

// sendOnce sends the request, unless the connection has been at rest and turns out to be stale.
func (c *Call) sendOnce() {
	c.asked = true
	if c.reused && !c.conn.quiet() {
		c.err = ErrStale
	} else {
		c.err = c.send()
	}
	c.sentAll()
}

// sentAll lets go of what is not needed to wait for the answer.
func (c *Call) sentAll() {
	c.out.release()
	c.body = nil
	if c.err == nil {
		c.tellSent()
	}
}

// tellSent says that the body is not needed any more, unless some of it is still to be sent.
func (c *Call) tellSent() {
	if len(c.rest) == 0 && c.OnSent != nil {
		c.rest = nil
		c.OnSent()
	}
}

// advance is Ask's callback, called at first and whenever something has come. What it finds to be an end is found
// again by who reads on. It takes no lock: who closes the connection waits for it, perhaps with one.
func (c *Call) advance(fd uintptr) (done bool) {
	if !c.asked {
		c.sendOnce()
		return c.err != nil
	}
	if c.conn.wire != nil {
		return true
	}
	return c.receive(fd)
}

// receive reads what has come, without TLS. Where nothing has, no memory is held.
func (c *Call) receive(fd uintptr) (done bool) {
	n, err := socket.Receive(fd, c.In.Free())
	c.received(n)
	c.readErr = err
	if err == syscall.EAGAIN {
		c.lend()
		return false
	}
	return true
}

// lend gives the memory for the answer to others, as long as nothing of it has come.
func (c *Call) lend() {
	if !c.begun {
		c.In.Release()
	}
}

// send writes the head, and the body with it where that is not large; the rest of a large one is written while the
// answer is waited for.
func (c *Call) send() error {
	head, body := c.out.bytes, c.body
	if len(body) <= socket.CopyLimit {
		head, body = append(head, body...), nil
	}
	c.out.bytes = head
	piece := body[:min(len(body), writePiece)]
	c.rest = body[len(piece):]
	n, err := c.write(head, piece)
	if wasInterrupted(err) && n >= len(head) {
		c.rest, err = body[n-len(head):], nil
	}
	if err != nil {
		return c.writeFailed(err)
	}
	return nil
}

// sendRest writes the next piece of a large body.
func (c *Call) sendRest() error {
	if w := c.conn.wire; w != nil && w.Held() {
		if err := c.sendHeld(); err != nil {
			return c.writeFailed(err)
		}
		return nil
	}
	n, err := c.write(nil, c.rest[:min(len(c.rest), writePiece)])
	c.rest = c.rest[n:]
	if err != nil && !wasInterrupted(err) {
		return c.writeFailed(err)
	}
	c.tellSent()
	return nil
}

func (c *Call) write(head, piece []byte) (n int, err error) {
	u := c.conn
	if len(piece) == 0 {
		u.Expect(c.At)
		n, err = u.conn.Write(head)
		c.sent += n
		return n, err
	}
	u.Expect(socket.Now())
	u.beginSending()
	switch {
	case len(head) == 0:
		n, err = u.conn.Write(piece)
	case u.wire != nil:
		c.out.bytes = append(head, piece...)
		n, err = u.conn.Write(c.out.bytes)
	default:
		n, err = u.tcp.WriteBoth(head, piece)
	}
	u.endSending()
	c.sent += n
	if u.wire != nil && err == nil {
		err = c.sendHeld()
	}
	return n, err
}

// sendHeld sends what is left of a write above TLS that the sweeper has interrupted, unless an answer has come. What
// the sweeper saw may have been no more than a session ticket.
func (c *Call) sendHeld() error {
	for u := c.conn; u.wire.Held(); {
		if n, quiet, _ := u.glance(c.In.Free(), true); !quiet {
			c.received(n)
			return nil // the rest is kept until it is clear what has come
		}
		u.beginSending()
		err := u.wire.Flush()
		u.endSending()
		if err != nil {
			return err
		}
	}
	return nil
}

// wasInterrupted reports whether a write has ended because the destination has sent something, which may be no more than
// an interim response: the rest is still to be written.
func wasInterrupted(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// writeFailed is the end of a request that the destination did not take. What is left of it keeps its connection
// from being used again. A reset is told only once, here: from now on the connection looks as if a FIN had come. (After
// a FIN that did come, a reset is EPIPE.)
func (c *Call) writeFailed(err error) error {
	c.broken = true
	c.torn = errors.Is(err, syscall.ECONNRESET)
	return err
}

// More waits for more of the answer and reads it into In, which grows where it is full. As long as nothing of the answer
// is there, what is left of the request is written first; then it may return with nothing.
func (c *Call) More() error {
	if c.In.Len() > 0 && len(c.In.Free()) == 0 {
		c.In.Grow(2 * c.In.Len())
	}
	if c.Unsent() && !c.broken {
		before := c.In.Len()
		n, quiet, _ := c.conn.glance(c.In.Free(), true)
		c.received(n)
		if quiet && c.sendRest() == nil || c.In.Len() > before {
			return nil
		}
	}
	if !c.begun {
		return c.first()
	}
	n, err := c.Read(c.In.Free())
	c.received(n)
	return err
}

// first waits for the first bytes of the answer, without holding memory for them.
func (c *Call) first() error {
	u := c.conn
	u.Expect(socket.Now())
	if c.wait == nil {
		c.wait = c.await
	}
	for !c.begun {
		if u.wire != nil {
			n, quiet, err := u.glance(c.In.Free(), true)
			c.received(n)
			if !quiet {
				c.At = socket.Now()
				if n > 0 {
					return nil
				}
				return u.endOf(err)
			}
			c.lend()
		}
		err := u.tcp.Await(c.wait)
		switch {
		case c.begun:
			return nil
		case err == nil && u.wire == nil:
			err = c.readErr
		}
		if err != nil {
			c.At = socket.Now()
			return u.endOf(err)
		}
	}
	return nil
}

// await is first's callback. TLS is read outside of it, for it may have to wait for more than one piece.
func (c *Call) await(fd uintptr) (done bool) {
	if c.conn.wire == nil {
		return c.receive(fd)
	}
	return socket.HasInput(fd)
}

// Read reads from the destination, which has readTimeout for its next byte. The error of no bytes is io.EOF where the
// connection was ended properly, and ErrNoCloseNotify or another where it was not.
func (c *Call) Read(p []byte) (int, error) {
	c.conn.Expect(socket.Now())
	n, err := c.conn.conn.Read(p)
	c.At = socket.Now()
	if n > 0 {
		return n, nil
	}
	return 0, c.conn.endOf(err)
}

// received notes n bytes of the answer more in the buffer.
func (c *Call) received(n int) {
	c.In.Added(n)
	if n > 0 && !c.begun {
		c.begun = true
		c.At = socket.Now()
		c.firstByte = time.Duration(c.At - c.sentAt)
	}
}

// Conn is the connection that carries the request.
func (c *Call) Conn() *Conn { return c.conn }

// Reused reports whether the connection had been at rest.
func (c *Call) Reused() bool { return c.reused }

// Sent reports whether a byte of the request has left: the system has taken one, over TLS of a record, be it whole or not.
func (c *Call) Sent() bool {
	if c.conn == nil || c.conn.wire == nil {
		return c.sent > 0
	}
	return c.sent > 0 || c.conn.wire.Written() != c.before
}

// Unsent reports whether some of the request has not been sent.
func (c *Call) Unsent() bool {
	w := c.conn.wire
	return len(c.rest) > 0 || w != nil && w.Held()
}

// Broken reports whether the destination did not take all of the request, and torn that it broke the connection off.
func (c *Call) Broken() (broken, torn bool) { return c.broken, c.torn }

// FirstByte returns the time from the request's end to the first byte of its answer; -1: none has come.
func (c *Call) FirstByte() time.Duration { return c.firstByte }
