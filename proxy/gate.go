package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"whsentry/proxy/http1"
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"

	"github.com/valyala/fasthttp"
)

// The client is the net.Conn that fasthttp serves. Its Read is the gate: it hands fasthttp one whole head at a time,
// whose every line ends with CRLF, and nothing of what follows; its Write swallows what fasthttp says, for every byte
// that a client gets is written by the exchange; its Close ends the connection only where the exchange has said so.
var _ net.Conn = (*client)(nil)

// Read waits for the next request and delivers its head. io.EOF ends fasthttp's loop: the client is gone, has been told
// why it was refused, or has sent a head that takes a server with a larger buffer, or none.
func (c *client) Read(p []byte) (n int, err error) {
	n, err = 0, io.EOF // where there is a bug
	defer c.recoverBug()
	if c.delivered { // fasthttp asks for more of a head that was whole: it has not seen what the gate has seen
		c.over = true
	}
	if !c.greeted {
		c.greeted = true
		c.over = !c.greet()
	}
	if c.over || c.large && c.head == nil && c.in.Len() == 0 { // no client rests with a large buffer
		return 0, io.EOF
	}
	if c.head == nil && !c.awaitHead() {
		c.over = !c.parks
		return 0, io.EOF
	}
	if len(c.head) > len(p) || c.lines > parsedLines {
		return 0, io.EOF
	}
	c.delivered = true
	return copy(p, c.head), nil
}

// Write swallows what fasthttp writes.
func (c *client) Write(p []byte) (int, error) { return len(p), nil }

// Close is called once fasthttp's loop has ended. Where the exchange has not ended the connection it goes on.
func (c *client) Close() error {
	if !c.looping { // else within goOn
		c.looping = true
		c.goOn()
	}
	return nil
}

// parsedLines is how many lines a head may have that fasthttp parses. It copies each into memory of its own, a hundred
// bytes of it for one of four, and holds that for as long as the request lasts.
const parsedLines = 256

// goOn serves the client until the exchange has ended the connection. fasthttp's loop may have ended before: for a head
// that takes a larger buffer, or has too many lines; for a "close" that was meant for the hop before (an intercepted
// CONNECT); for a head that it refuses and this proxy forwards; or for the client to rest.
func (c *client) goOn() {
	for !c.over {
		if c.parks {
			go c.park() // ends with the connection, which Proxy.goers counts
			return
		}
		if c.head != nil && c.lines > parsedLines {
			c.serveUnparsed()
			continue
		}
		c.large = len(c.head) > restingHead
		c.serveOn(c.proxy.engine.of(len(c.head)))
	}
	defer c.proxy.leave(c)
	defer c.recoverBug()
	c.depart()
}

func (c *client) serveOn(s *fasthttp.Server) {
	defer c.recoverBug()
	s.ServeConn(c)
}

// serveUnparsed carries out the request whose head has come, and which fasthttp has not parsed.
func (c *client) serveUnparsed() {
	defer c.recoverBug()
	head := bytes.Clone(c.head)
	c.head = nil
	c.settleInput()
	c.serve(nil, head)
}

// parkAfter is how long a client must have rested for fasthttp's buffers and a stack that its requests have made grow to
// be given back: 5,000 clients at rest take 91 MiB with them, and 45 without.
const parkAfter = time.Second

// park waits for the next request of a client at rest.
func (c *client) park() {
	c.parks, c.parked = false, true
	c.proxy.parked.Add(1)
	c.awaitUnparked()
	c.parked = false
	c.goOn()
}

func (c *client) awaitUnparked() {
	defer c.recoverBug()
	c.over = !c.awaitRequest()
}

func (c *client) recoverBug() {
	if r := recover(); r != nil {
		c.proxy.log().Error().Str("client", c.addr).Str("panic", fmt.Sprint(r)).Bytes("stack", debug.Stack()).Msg("a bug ended a connection")
		c.over = true
	}
}

func (c *client) LocalAddr() net.Addr  { return c.tcp.LocalAddr() }
func (c *client) RemoteAddr() net.Addr { return c.tcp.RemoteAddr() }

// Limits in time are the sweeper's to enforce.
func (c *client) SetDeadline(time.Time) error      { return nil }
func (c *client) SetReadDeadline(time.Time) error  { return nil }
func (c *client) SetWriteDeadline(time.Time) error { return nil }

// awaitHead waits until a whole head is there, c.head. It reports false where there will be none; the client has been
// told why, where there was something to tell.
func (c *client) awaitHead() bool {
	if !c.awaitRequest() {
		return false
	}
	c.enter(clientReading)
	cfg := c.proxy.run.Load().cfg
	c.limitFrom(c.start, cfg.ClientTimeout)
	var g http1.Gate
	g.Reset(int(cfg.MaxHeaderSize))
	for {
		n, err := g.Scan(c.in.Unused())
		if err != nil {
			c.refuse(reason.OfMessage(err), true)
			return false
		}
		if n > 0 {
			c.head, c.lines = c.in.Unused()[g.Blank():n], g.Lines()
			c.in.Skip(n)
			return true
		}
		if len(c.in.Free()) == 0 {
			c.in.Grow(2 * c.in.Len())
		}
		if err := c.fill(); err != nil {
			if !g.IsAtStart(c.in.Unused()) { // empty lines are no request: the client rested
				c.refuse(reason.Of(err), true)
			}
			return false
		}
	}
}

// awaitRequest waits until the first bytes of a request are in c.in, at most for clientIdleTimeout. It reports whether
// there are any.
func (c *client) awaitRequest() bool {
	if c.in.Len() > 0 { // pipelined
		c.in.Restart()
		c.start = socket.Now()
		return true
	}
	at := socket.Now()
	if c.restEnds == 0 {
		c.restEnds = at + int64(c.restLimit())
	}
	due, plain := c.restEnds, c.conn == net.Conn(c.tcp)
	if plain && !c.parked {
		due = min(due, at+int64(parkAfter))
	}
	c.deadline.Set(due, c.tcp)
	c.enter(clientIdle)
	if c.proxy.closing.Load() {
		return false
	}
	if oneCPU && c.start != 0 {
		runtime.Gosched()
	}
	if !plain {
		return c.awaitRecord()
	}
	err := c.tcp.Await(c.ready)
	if err == nil {
		return c.readErr == nil
	}
	if !c.proxy.closing.Load() {
		c.parks = due < c.restEnds && c.deadline.Passed()
		return false
	}
	// A request may have come just when the wait ended, and closing the connection would lose it.
	c.final = true
	found := false
	c.limit(c.proxy.run.Load().cfg.ClientTimeout)
	c.tcp.Control(func(fd uintptr) { found = c.ready(fd) })
	return found && c.readErr == nil
}

// oneCPU says that the process has a single CPU. There others come first once a client has its answer: under load its next
// request is there when it comes to be looked for, and need not be waited for, which makes a POST 6 % cheaper. With more
// CPUs it would take a lock of all of them, wake another up where there is little to do, and gain nothing.
var oneCPU = runtime.GOMAXPROCS(0) == 1

// restLimit is how long the client may rest: whoever is not known as one that may send is not given a place for long.
func (c *client) restLimit() time.Duration {
	run := c.proxy.run.Load()
	if !c.known && run.policy.HasClients() {
		return min(run.cfg.ClientTimeout, run.cfg.ClientIdleTimeout)
	}
	return run.cfg.ClientIdleTimeout
}

// takeReady reads what the socket holds. A buffer is taken only now that there is something, so that a thousand
// connections at rest hold none.
func (c *client) takeReady(fd uintptr) (done bool) {
	n, err := socket.Receive(fd, c.in.Free())
	c.readErr = err
	if err != nil {
		c.in.Release()
		return err != syscall.EAGAIN
	}
	c.start, c.restEnds = socket.Now(), 0
	c.in.Added(n)
	return true
}

// awaitRecord is takeReady above TLS, which has a buffer of its own: one byte is enough to know.
func (c *client) awaitRecord() bool {
	if _, err := io.ReadFull(c.conn, c.first[:]); err != nil {
		return false
	}
	c.start, c.restEnds = socket.Now(), 0
	c.in.Free()[0] = c.first[0]
	c.in.Added(1)
	return true
}

// fill reads more of the request into c.in, which has room.
func (c *client) fill() error {
	n, err := c.conn.Read(c.in.Free())
	c.in.Added(n)
	if n > 0 {
		return nil
	}
	return c.readFailure(err)
}

// readFailure says why a read from the client has failed: with 408 where it was too slow.
func (c *client) readFailure(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) && c.isDropped() {
		f := reason.Stopping()
		f.Fatal = true
		return f
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && c.deadline.Passed() {
		f := reason.Newf(reason.SlowClient, "the client was too slow")
		f.Fatal = true
		return f
	}
	return reason.ClientGone()
}

// settleInput gives the buffer's memory back once all that it holds has been used.
func (c *client) settleInput() {
	if c.in.Len() == 0 && c.head == nil {
		c.in.Release()
	}
}

// takeEarly returns what has come behind a CONNECT or a PROXY protocol header, a head that was looked at first.
func (c *client) takeEarly() []byte {
	early := append(bytes.Clone(c.head), c.in.Unused()...)
	c.head = nil
	c.in.Release()
	return early
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
