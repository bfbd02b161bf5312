package proxy

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"whsentry/policy"
	"whsentry/proxy/socket"
	"whsentry/proxy/upstream"
)

// client is a connection of a client, whose requests fasthttp hands on one after the other. Between two of them it holds
// no buffer of its own.
type client struct {
	proxy    *Proxy
	listener *listener
	conn     net.Conn // what is read and written: tcp, or TLS above it
	tcp      *socket.Conn
	prober   *socket.Prober // the sweeper's own; nil: it has not looked
	addr     string         // as it is logged

	within *interception // set once what is inside a CONNECT of this client are requests

	deadline socket.Deadline
	finSeen  socket.Tick   // since when the client's FIN has been seen; the sweeper's own
	state    atomic.Uint32 // a clientState

	first    [1]byte               // of a request above TLS
	in       socket.Buffer         // what has come and not been used
	head     []byte                // of the request that has come, a part of in
	lines    int                   // of head
	start    socket.Tick           // when its first bytes came
	restEnds socket.Tick           // when the wait for a request ends; 0: there is none
	ready    func(fd uintptr) bool // takeReady
	readErr  error                 // what takeReady has found

	delivered bool // fasthttp has the head
	large     bool // it is served by a server with a larger buffer
	looping   bool // Close has taken over
	parks     bool // it has rested for parkAfter
	parked    bool // it rests outside of fasthttp
	greeted   bool // PROXY protocol and TLS have been seen to
	final     bool // the next request is the last
	over      bool // there is no further request
	overload  bool // one more than maxConnections: it is told so, and closed
	lingers   bool // there is input that will not be read
	isReset   bool // the connection is to be broken off
	untimed   bool // what it is sent has no limit in time but a tunnel's
	known     bool // its last request was one of a client's of the settings

	peer     policy.Peer // what it shows of who it is
	place    place       // that its request has among those of its client that are in flight
	verified *tls.Config // that its certificate has been verified by; nil: it is plain

	mu      sync.Mutex      // guards the following
	gone    bool            // the client went away while its request was being served
	overdue bool            // the deadline that the client gave its request has passed
	dropped bool            // the proxy is stopping, and has waited for the request for as long as it may
	up      *upstream.Conn  // the connection that serves this client now
	pending *socket.Context // a connection that is being made for it
	request int             // counts the requests with such a deadline
	rights  *rights         // what its opaque tunnel rests on; nil: there is none
}

// clientState says what a client's goroutine is doing, for the sweeper and for a stopping proxy.
type clientState uint32

const (
	clientIdle    clientState = iota // between requests
	clientReading                    // a request has begun
	clientWaiting                    // for the destination: it is of interest whether the client is still there
	clientBusy                       // writing an answer, tunnelling, leaving
)

func newClient(p *Proxy, l *listener, tcp *net.TCPConn) (*client, error) {
	s, err := socket.New(tcp)
	if err != nil {
		return nil, err
	}
	from := tcp.RemoteAddr().(*net.TCPAddr).AddrPort()
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	c := &client{proxy: p, listener: l, conn: s, tcp: s, addr: from.String()}
	c.peer.Addr = from.Addr()
	c.ready = c.takeReady
	s.OnStall(c.place.stalls)
	c.deadline.Set(socket.Never, s)
	return c, nil
}

// limit gives the client that long to get on.
func (c *client) limit(d time.Duration) { c.limitFrom(socket.Now(), d) }

func (c *client) limitFrom(at socket.Tick, d time.Duration) { c.deadline.Set(at+int64(d), c.tcp) }

// unlimited lets the client wait for as long as the destination takes.
func (c *client) unlimited() { c.deadline.Set(socket.Never, c.tcp) }

func (c *client) enter(s clientState) { c.state.Store(uint32(s)) }

// write sends p to the client, which must take some of it within every clientTimeout.
func (c *client) write(p []byte) error {
	if c.conn == net.Conn(c.tcp) {
		_, err := c.writeTCP(p)
		return err
	}
	_, err := c.conn.Write(p)
	return err
}

// writeTCP leaves the limit as it was, for TLS writes of its own accord while something is being read. A tunnel's writes
// have none: it would end the reading of the other direction too, and how long a tunnel may stand still is seen to.
func (c *client) writeTCP(p []byte) (written int, err error) {
	if c.untimed {
		return c.tcp.Write(p)
	}
	timeout := c.proxy.run.Load().cfg.ClientTimeout
	before := c.deadline.Due()
	if before < 0 {
		before = socket.Now() // it has passed
	}
	for {
		c.limit(timeout)
		n, err := c.tcp.Write(p[written:])
		written += n
		if err == nil {
			c.deadline.Set(before, c.tcp)
			return written, nil
		}
		if !c.isTaking(n, err) {
			c.dismiss()
			return written, err
		}
	}
}

// isTaking reports whether a write that failed after n bytes may go on: the limit has passed, but not without progress.
func (c *client) isTaking(n int, err error) bool {
	return n > 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.deadline.Passed()
}

// dismiss breaks the connection off where the client has taken nothing for clientTimeout: after an orderly close the
// system would keep what it was sent for minutes, megabytes of it, beyond every limit here.
func (c *client) dismiss() {
	if c.deadline.Passed() {
		c.reset()
	}
}

// writeBuffers is write for a head and a body, in one call to the system where there is no TLS.
func (c *client) writeBuffers(ex *exchange, head, body []byte) error {
	switch {
	case len(body) == 0:
		return c.write(head)
	case len(head) == 0:
		return c.write(body)
	}
	if c.conn != net.Conn(c.tcp) || len(body) <= socket.CopyLimit {
		ex.out = append(head, body...)
		return c.write(ex.out)
	}
	timeout := c.proxy.run.Load().cfg.ClientTimeout
	for {
		c.limit(timeout)
		n, err := c.tcp.WriteBoth(head, body)
		if err == nil {
			c.unlimited()
			return nil
		}
		if !c.isTaking(n, err) {
			c.dismiss()
			return err
		}
		if n < len(head) {
			head = head[n:]
		} else {
			head, body = nil, body[n-len(head):]
		}
	}
}

// attach notes what the client's going away, its deadline, or the proxy's stopping would end. It reports false where that
// is the case already: then it is to be ended at once, by end.
func (c *client) attach(up *upstream.Conn, pending *socket.Context) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.up, c.pending = up, pending
	return !c.gone && !c.overdue && !c.dropped
}

// drop ends what is being done for a client that a stopping proxy waits for no longer. It can still be told so.
func (c *client) drop() {
	c.mu.Lock()
	c.dropped = true
	c.endLocked()
	c.mu.Unlock()
	c.tcp.InterruptRead()
}

func (c *client) isDropped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped && !c.gone
}

// vanished ends what is being done for a client that went away, or that has not taken its answer from a stopping proxy.
func (c *client) vanished() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	c.endLocked()
}

// end ends what is being done for a client, which attach has refused.
func (c *client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked()
}

func (c *client) endLocked() {
	why := upstream.CloseClient
	switch {
	case c.gone:
	case c.dropped:
		why = upstream.CloseShutdown
	case c.overdue:
		why = upstream.CloseDeadline
	}
	if c.up != nil {
		c.up.Kill(why)
	}
	if c.pending != nil {
		c.pending.Cancel()
	}
}

// Limits of a lingering close, RFC 9112 section 9.6: a client that is still sending would lose the answer if its
// connection were closed under it, for the reset that follows discards what it has not yet read.
const (
	lingerPause = 2 * time.Second  // without a byte
	lingerTotal = 30 * time.Second // in all
)

// linger closes the sending side and takes what still comes, so that the client can read its answer.
func (c *client) linger() {
	c.enter(clientBusy)
	c.farewell()
	if c.tcp.CloseWrite() != nil {
		return
	}
	buf := socket.AcquireCopyBuffer()
	defer socket.ReleaseCopyBuffer(buf)
	for end := socket.Now() + int64(lingerTotal); socket.Now() < end && !c.proxy.closing.Load(); {
		c.limit(lingerPause)
		if _, err := c.tcp.Read(*buf); err != nil {
			return
		}
	}
}

// reset makes the closing of the connection a reset, so that the client cannot take what it got for a whole message.
// Closing is left to leave: it waits for whoever uses the socket, and that is the one who calls this.
func (c *client) reset() {
	c.isReset = true
	c.tcp.SetLinger(0)
}
