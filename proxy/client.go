package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"whsentry/proxy/socket"
	"whsentry/proxy/upstream"
)

// client is a connection of a client. Its goroutine parses a request, carries it out and answers it before it looks
// at the next; between requests it holds no buffer.
type client struct {
	proxy    *Proxy
	listener *listener
	conn     net.Conn // what is read and written: tcp, or TLS above it
	tcp      *socket.Conn
	prober   *socket.Prober
	addr     string // as it is logged
	overload bool   // one more than maxConnections: it is told so, and closed

	within *interception // set once a CONNECT of this client is intercepted

	deadline socket.Deadline
	state    atomic.Uint32 // a clientState
	finSeen  socket.Tick   // since when the client's FIN has been seen; the sweeper's own
	rests    atomic.Uint32 // a restState
	nudged   atomic.Bool   // the sweeper has ended the wait for a request, which goes on
	restEnds socket.Tick   // when the wait for a request ends

	ex      *exchange             // nil between requests
	ready   func(fd uintptr) bool // takeReady
	readErr error                 // what takeReady has found
	greeted bool                  // PROXY protocol and TLS have been seen to
	final   bool                  // the next request is the last
	over    bool                  // the last request was the last
	grown   bool                  // the goroutine is to be replaced: requests have made its stack grow
	lingers bool                  // there is input that will not be read
	isReset bool                  // the connection is to be broken off

	mu     sync.Mutex     // guards the following
	up     *upstream.Conn // the connection that serves this client now
	cancel context.CancelFunc
	gone   bool // the client went away while its request was being served
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
	c := &client{proxy: p, listener: l, conn: s, tcp: s, prober: s.NewProber(), addr: tcp.RemoteAddr().String()}
	c.ready = c.takeReady
	c.deadline.Set(socket.Never, s)
	return c, nil
}

// serve is the connection's goroutine; it ends with the connection.
func (c *client) serve() {
	grown := false
	defer func() {
		if grown {
			c.proxy.start(c) // on a small stack
		} else {
			c.proxy.leave(c)
		}
	}()
	defer func() {
		if r := recover(); r != nil {
			c.proxy.log().Error().Str("client", c.addr).Str("panic", fmt.Sprint(r)).Bytes("stack", debug.Stack()).Msg("a bug ended a connection")
		}
	}()
	if !c.greeted {
		c.greeted = true
		if !c.greet() {
			c.depart()
			return
		}
	}
	for c.awaitRequest() && c.handle(c.ex) {
	}
	if grown = c.grown; !grown {
		c.depart()
	}
}

// depart ends what the client is sent.
func (c *client) depart() {
	switch {
	case c.isReset:
	case c.lingers:
		c.linger()
	default:
		c.farewell()
	}
}

// farewell ends TLS, without which a client could take what it got for cut.
func (c *client) farewell() {
	if conn, ok := c.conn.(*tls.Conn); ok {
		conn.CloseWrite()
	}
}

// limit gives the client that long to get on.
func (c *client) limit(d time.Duration) { c.limitFrom(socket.Now(), d) }

func (c *client) limitFrom(at socket.Tick, d time.Duration) { c.deadline.Set(at+int64(d), c.tcp) }

// unlimited lets the client wait for as long as the destination takes.
func (c *client) unlimited() { c.deadline.Set(socket.Never, c.tcp) }

func (c *client) enter(s clientState) { c.state.Store(uint32(s)) }

// awaitRequest waits until the first bytes of a request are in c.ex's buffer, at most for clientIdleTimeout. It
// reports whether there are any.
func (c *client) awaitRequest() bool {
	if c.ex != nil && c.ex.in.Len() > 0 { // pipelined
		c.enter(clientReading)
		return true
	}
	if c.grown {
		c.grown = false // the wait goes on
	} else if !c.rest() {
		return false
	}
	if c.conn != net.Conn(c.tcp) {
		c.readFirst()
		return c.readErr == nil
	}
	for err := c.tcp.Await(c.ready); err != nil; err = c.tcp.Await(c.ready) {
		if !c.nudged.Load() {
			return c.lookOnce()
		}
		c.nudged.Store(false)
		c.deadline.Set(c.restEnds, c.tcp)
		if c.proxy.closing.Load() { // looked at only now, for endRests cannot end again what the sweeper has ended
			return c.lookOnce()
		}
		if c.grown = restState(c.rests.Load()) == restShed; c.grown {
			c.rests.Store(uint32(restNew))
			return false
		}
	}
	return c.readErr == nil && !c.over
}

// lookOnce reports whether a request came just when the wait for it ended, which closing the connection would lose.
func (c *client) lookOnce() (found bool) {
	c.final = true
	c.limit(c.proxy.run.Load().cfg.ClientTimeout)
	c.tcp.Control(func(fd uintptr) { found = c.ready(fd) })
	return found && c.readErr == nil && !c.over
}

// rest lays the connection to rest between two requests; it reports whether there may be another.
func (c *client) rest() bool {
	if c.ex != nil && c.conn == net.Conn(c.tcp) {
		c.rests.Store(uint32(restUnread))
	}
	c.dropExchange()
	c.nudged.Store(false)
	c.restEnds = socket.Now() + int64(c.proxy.run.Load().cfg.ClientIdleTimeout)
	c.deadline.Set(c.restEnds, c.tcp)
	c.enter(clientIdle)
	return !c.proxy.closing.Load()
}

// takeReady reads what the socket holds. A buffer is taken only now that there is something, so that a thousand
// connections at rest hold none.
//
// A request that is there in full is carried out from within the wait for the next one: the poller has taken note of
// what came since this read, so that the wait goes on without another one, which would find nothing. But a FIN may have
// come together with the request, and is looked for by the sweeper. takeReady returns for whatever needs reading.
func (c *client) takeReady(fd uintptr) (done bool) {
	c.ex = acquireExchange()
	free := len(c.ex.in.Free())
	n, err := socket.Receive(fd, c.ex.in.Free())
	if err == syscall.EAGAIN {
		c.dropExchange()
		return false
	}
	c.readErr = err
	if err != nil {
		return true
	}
	c.ex.in.Added(n)
	c.enter(clientReading)
	c.ex.begin(c)
	if n == free || !c.ex.isWhole() {
		return true
	}
	c.over = !c.handle(c.ex)
	if c.over || c.ex.in.Len() > 0 {
		return true
	}
	c.over = !c.rest()
	return c.over
}

// readFirst is takeReady above TLS, which has a buffer of its own: one byte is enough to know.
func (c *client) readFirst() {
	var b [1]byte
	if _, c.readErr = io.ReadFull(c.conn, b[:]); c.readErr != nil {
		return
	}
	c.ex = acquireExchange()
	c.ex.in.Free()[0] = b[0]
	c.ex.in.Added(1)
	c.enter(clientReading)
	c.ex.begin(c)
}

func (c *client) dropExchange() {
	if c.ex != nil {
		c.ex.release()
		c.ex = nil
	}
}

// fill reads more of the request into the exchange's buffer, which has room.
func (c *client) fill(ex *exchange) error {
	n, err := c.conn.Read(ex.in.Free())
	ex.at = socket.Now()
	ex.in.Added(n)
	if n > 0 {
		return nil
	}
	return c.readFailure(err)
}

// readFailure says why a read from the client has failed: with 408 where it was too slow.
func (c *client) readFailure(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) && c.deadline.Passed() {
		f := failf(reasonSlowClient, "the client was too slow")
		f.fatal = true
		return f
	}
	return clientGone()
}

// write sends p to the client, which must take some of it within every clientTimeout.
func (c *client) write(p []byte) error {
	if c.conn == net.Conn(c.tcp) {
		_, err := c.writeTCP(p)
		return err
	}
	_, err := c.conn.Write(p)
	return err
}

// writeTCP leaves the limit as it was, for TLS writes of its own accord while something is being read.
func (c *client) writeTCP(p []byte) (written int, err error) {
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

// attach notes what the client's going away would end. It reports false if the client has gone.
func (c *client) attach(up *upstream.Conn, cancel context.CancelFunc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.up, c.cancel = up, cancel
	return !c.gone
}

// vanished ends what is being done for a client that went away, or that a stopping proxy does not wait for.
func (c *client) vanished() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	if c.up != nil {
		c.up.Kill(upstream.CloseClient)
	}
	if c.cancel != nil {
		c.cancel()
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

// hasInput reports whether the client has sent what has not been read. It looks with a prober of its own, for the
// sweeper may be using the other.
func (c *client) hasInput() bool {
	found := c.tcp.NewProber().Look()
	return found == socket.Data || found == socket.Ending
}

// reset makes the closing of the connection a reset, so that the client cannot take what it got for a whole message.
// Closing is left to leave: it waits for whoever uses the socket, and that is the one who calls this.
func (c *client) reset() {
	c.isReset = true
	c.tcp.SetLinger(0)
}
