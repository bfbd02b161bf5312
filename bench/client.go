package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

const (
	defaultTimeout = 10 * time.Second
	maxInterim     = 10 // 1xx responses before the one that counts
)

// past is a deadline that ends whatever waits on a connection.
var past = time.Unix(1, 0)

// dial opens a connection to the proxy.
func (r *running) dial() (net.Conn, error) {
	dialer := net.Dialer{Timeout: r.timeout, KeepAlive: -1}
	conn, err := dialer.DialContext(r.ctx, "tcp", r.proxy)
	if err != nil {
		return nil, fmt.Errorf("connect to the proxy: %w", err)
	}
	if r.proxyTLS == nil {
		return conn, nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
	defer cancel()
	secured := tls.Client(conn, r.proxyTLS)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("tls with the proxy: %w", err)
	}
	return secured, nil
}

// client is one client of the proxy: a connection that is kept, and opened again where it has ended. One goroutine uses it.
type client struct {
	r        *running
	conn     net.Conn // nil: none
	wire     *wire
	size     int       // of the wire's buffer
	answered bool      // the connection has had an answer
	deadline time.Time // that is set on conn
}

// open opens the connection where there is none.
func (c *client) open() error {
	if c.conn != nil {
		return nil
	}
	conn, err := c.r.dial()
	if err != nil {
		return err
	}
	if err := c.r.add(conn); err != nil {
		return err
	}
	if c.r.tunnel != "" {
		c.r.setDeadline(conn, time.Now().Add(c.r.timeout))
		if err := c.r.connect(conn, c.r.tunnel); err != nil {
			c.r.remove(conn)
			return err
		}
	}
	c.conn, c.answered, c.deadline = conn, false, time.Time{}
	if c.wire == nil {
		c.wire = newWire(conn, c.size)
	}
	c.wire.conn, c.wire.start, c.wire.end = conn, 0, 0
	return nil
}

// close closes the connection where there is one.
func (c *client) close() {
	if c.conn != nil {
		c.r.remove(c.conn)
		c.conn = nil
	}
}

// exchange sends a request and reads its answer to the end. It returns the size of the answer's body. A connection that
// the proxy closed while it rested is no failure (RFC 9112 section 9.3.1): the request goes over a new one.
func (c *client) exchange(request []byte) (int64, error) {
	n, stale, err := c.attempt(request)
	if stale {
		n, _, err = c.attempt(request)
	}
	return n, err
}

// attempt is exchange over one connection. stale says that an answered one had ended before the answer's first byte.
func (c *client) attempt(request []byte) (n int64, stale bool, err error) {
	if err := c.open(); err != nil {
		return 0, false, err
	}
	c.extend()
	reused := c.answered
	h, err := c.send(request)
	if err != nil {
		stale = reused && c.wire.start == c.wire.end && !isTimeout(err)
	} else {
		n, err = c.receive(&h)
	}
	switch {
	case isTimeout(err):
		err = fmt.Errorf("no whole answer within %s", c.r.timeout)
	case err != nil && n == 0 && h.first == nil:
		err = fmt.Errorf("no answer: %w", err)
	}
	if c.answered = err == nil; err != nil || h.close {
		c.close()
	}
	return n, stale, err
}

// send writes the request and returns the head of the answer that counts.
func (c *client) send(request []byte) (head, error) {
	if _, err := c.conn.Write(request); err != nil {
		return head{}, err
	}
	for range maxInterim {
		h, err := c.wire.head()
		if err != nil {
			return head{}, err
		}
		if status, err := h.status(); err != nil || status >= 200 {
			return h, err
		}
	}
	return head{}, fmt.Errorf("over %d interim responses", maxInterim)
}

// receive drops the answer's body, and says what is wrong with an answer that is no success.
func (c *client) receive(h *head) (int64, error) {
	status, err := h.status()
	if err != nil {
		return 0, err
	}
	verdict := c.r.verdict(status, h)
	if c.r.verb() == "HEAD" || status == 204 || status == 304 {
		return 0, verdict
	}
	n, err := c.wire.skipBody(h, true)
	if verdict != nil {
		return n, verdict
	}
	if err != nil && !isTimeout(err) {
		return n, fmt.Errorf("the answer's body: %w", err)
	}
	return n, err
}

// verdict returns nil for an answer that is a success.
func (l *load) verdict(status int, h *head) error {
	switch {
	case status == 200 && h.reason == "", l.anyStatus && status < 500 && h.reason == "":
		return nil
	case h.reason != "":
		return fmt.Errorf("status %d: %s", status, h.reason)
	}
	return fmt.Errorf("status %d", status)
}

// extend sets the deadline for the next request, but moves it only by more than a second: it is on the path that is timed.
func (c *client) extend() {
	want := time.Now().Add(c.r.timeout)
	if want.Sub(c.deadline) < time.Second {
		return
	}
	c.deadline = want.Add(time.Second)
	c.r.setDeadline(c.conn, c.deadline)
}

// isTimeout reports whether err is a deadline that has passed.
func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
