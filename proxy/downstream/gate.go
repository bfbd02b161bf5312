package downstream

import (
	"bytes"
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

// gate is a Conn as fasthttp is given it to serve. Its Read hands on one whole head at a time, whose every line ends with
// CRLF, and nothing of what follows; its Write swallows what fasthttp says, for every byte that a client gets is sent by
// the Handler; its Close ends the connection only where the Handler has said so.
type gate Conn

var _ net.Conn = (*gate)(nil)

// Read waits for the next request and delivers its head. io.EOF ends fasthttp's loop: the client is gone, has been told
// why it was refused, or has sent a head that takes a server with a larger buffer, or none.
func (g *gate) Read(p []byte) (n int, err error) {
	c := (*Conn)(g)
	n, err = 0, io.EOF // where there is a bug
	defer c.recoverBug()
	if c.delivered { // fasthttp asks for more of a head that was whole: it has not seen what the gate has seen
		c.over = true
	}
	if !c.greeted {
		c.greeted = true
		c.over = !c.greet()
	}
	if c.over || c.large && c.head == nil && c.In.Len() == 0 { // no client rests with a large buffer
		return 0, io.EOF
	}
	if c.head == nil && !c.AwaitHead() {
		c.over = !c.parks
		return 0, io.EOF
	}
	if len(c.head) > len(p) || c.hasManyLines() {
		return 0, io.EOF
	}
	c.delivered = true
	return copy(p, c.head), nil
}

// Write swallows what fasthttp writes.
func (g *gate) Write(p []byte) (int, error) { return len(p), nil }

// Close is called once fasthttp's loop has ended. Where the Handler has not ended the connection it goes on.
func (g *gate) Close() error {
	c := (*Conn)(g)
	if !c.looping { // else within goOn
		c.looping = true
		c.goOn()
	}
	return nil
}

// parsedLines is how many lines a head may have that fasthttp parses. It copies each into memory of its own, a hundred
// bytes of it for one of four, and holds that for as long as the request lasts.
const parsedLines = 256

func (c *Conn) hasManyLines() bool { return c.lines > parsedLines }

// serve has the request carried out whose head has come.
func (c *Conn) serve(h *fasthttp.RequestHeader, unparsed []byte) {
	c.head, c.delivered, c.over = nil, false, true
	c.over = !c.handler.Serve(h, unparsed)
}

// goOn serves the client until the Handler has ended the connection. fasthttp's loop may have ended before: for a head
// that takes a larger buffer, or has too many lines; for a "close" that was meant for the hop before (an intercepted
// CONNECT); for a head that it refuses and the Handler takes; or for the client to rest.
func (c *Conn) goOn() {
	for !c.over {
		if c.parks {
			go c.park() // ends with the connection, which Server.goers counts
			return
		}
		if c.head != nil && c.hasManyLines() {
			c.serveUnparsed()
			continue
		}
		c.large = len(c.head) > restingHead
		c.serveOn(c.server().engine.of(len(c.head)))
	}
	defer c.server().leave(c)
	defer c.recoverBug()
	c.depart()
}

func (c *Conn) serveOn(s *fasthttp.Server) {
	defer c.recoverBug()
	s.ServeConn((*gate)(c))
}

// serveUnparsed carries out the request whose head has come, and which fasthttp has not parsed.
func (c *Conn) serveUnparsed() {
	defer c.recoverBug()
	head := bytes.Clone(c.head)
	c.head = nil
	c.SettleInput()
	c.serve(nil, head)
}

// parkAfter is how long a client must have rested for fasthttp's buffers and a stack that its requests have made grow to
// be given back: 5,000 clients at rest take 91 MiB with them, and 45 without.
const parkAfter = time.Second

// park waits for the next request of a client at rest.
func (c *Conn) park() {
	c.parks, c.parked = false, true
	c.server().parked.Add(1)
	c.awaitUnparked()
	c.parked = false
	c.goOn()
}

func (c *Conn) awaitUnparked() {
	defer c.recoverBug()
	c.over = !c.awaitRequest()
}

func (c *Conn) recoverBug() {
	if r := recover(); r != nil {
		c.server().log().Error().Str("client", c.Addr).Str("panic", fmt.Sprint(r)).Bytes("stack", debug.Stack()).Msg("a bug ended a connection")
		c.over = true
	}
}

func (g *gate) LocalAddr() net.Addr  { return g.tcp.LocalAddr() }
func (g *gate) RemoteAddr() net.Addr { return g.tcp.RemoteAddr() }

// Limits in time are the sweeper's to enforce.
func (g *gate) SetDeadline(time.Time) error      { return nil }
func (g *gate) SetReadDeadline(time.Time) error  { return nil }
func (g *gate) SetWriteDeadline(time.Time) error { return nil }

// AwaitHead waits until a whole head is there, which Head returns. It reports false where there will be none; the client
// has been told why, where there was something to tell.
func (c *Conn) AwaitHead() bool {
	if !c.awaitRequest() {
		return false
	}
	c.Enter(Reading)
	cfg := c.cfg()
	c.LimitFrom(c.Start, cfg.ClientTimeout)
	var g http1.Gate
	g.Reset(int(cfg.MaxHeaderSize))
	for {
		n, err := g.Scan(c.In.Unused())
		if err != nil {
			c.handler.Refuse(reason.OfMessage(err), true)
			return false
		}
		if n > 0 {
			c.head, c.lines = c.In.Unused()[g.Blank():n], uint32(g.Lines())
			c.In.Skip(n)
			return true
		}
		if len(c.In.Free()) == 0 {
			c.In.Grow(2 * c.In.Len())
		}
		if err := c.Fill(); err != nil {
			if !g.IsAtStart(c.In.Unused()) { // empty lines are no request: the client rested
				c.handler.Refuse(reason.Of(err), true)
			}
			return false
		}
	}
}

// awaitRequest waits until the first bytes of a request are in c.In, at most for clientIdleTimeout. It reports whether
// there are any.
func (c *Conn) awaitRequest() bool {
	if c.In.Len() > 0 { // pipelined
		c.In.Restart()
		c.Start = socket.Now()
		return true
	}
	at := socket.Now()
	if c.restEnds == 0 {
		c.restEnds = at + int64(c.restLimit())
	}
	due, plain := c.restEnds, c.tls == nil
	if plain && !c.parked {
		due = min(due, at+int64(parkAfter))
	}
	c.deadline.Set(due, c.tcp)
	c.Enter(Idle)
	if c.server().closing.Load() {
		return false
	}
	if oneCPU && c.Start != 0 {
		runtime.Gosched()
	}
	if !plain {
		return c.awaitRecord() == nil
	}
	err := c.tcp.Await(c.ready)
	if err == nil {
		return c.readErr == nil
	}
	if !c.server().closing.Load() {
		c.parks = due < c.restEnds && c.deadline.Passed()
		return false
	}
	// A request may have come just when the wait ended, and closing the connection would lose it.
	c.final = true
	found := false
	c.Limit(c.cfg().ClientTimeout)
	c.tcp.Control(func(fd uintptr) { found = c.ready(fd) })
	return found && c.readErr == nil
}

// oneCPU says that the process has a single CPU. There others come first once a client has its answer: under load its next
// request is there when it comes to be looked for, and need not be waited for, which makes a POST 6 % cheaper. With more
// CPUs it would take a lock of all of them, wake another up where there is little to do, and gain nothing.
var oneCPU = runtime.GOMAXPROCS(0) == 1

// restLimit is how long the client may rest.
func (c *Conn) restLimit() time.Duration {
	if !c.Known {
		return c.cfg().StrangerIdleTimeout
	}
	return c.cfg().IdleTimeout
}

// takeReady reads what the socket holds. A buffer is taken only now that there is something, so that a thousand
// connections at rest hold none.
func (c *Conn) takeReady(fd uintptr) (done bool) {
	n, err := socket.Receive(fd, c.In.Free())
	c.readErr = err
	if err != nil {
		c.In.Release()
		return err != syscall.EAGAIN
	}
	c.Start, c.restEnds = socket.Now(), 0
	c.In.Added(n)
	return true
}

// awaitRecord is the wait above TLS, which has a buffer of its own: one byte is enough to know.
func (c *Conn) awaitRecord() error {
	if _, err := io.ReadFull(c.tls, c.first[:]); err != nil {
		return err
	}
	c.Start, c.restEnds = socket.Now(), 0
	c.In.Free()[0] = c.first[0]
	c.In.Added(1)
	return nil
}

// Head returns the head that AwaitHead has found, a part of In; nil: there is none.
func (c *Conn) Head() []byte { return c.head }

// Receive reads into p what comes next behind what is in In. The error is a *reason.Failure: who sends too slowly is told
// so.
func (c *Conn) Receive(p []byte) (int, error) {
	n, err := c.Stream().Read(p)
	if n > 0 {
		return n, nil
	}
	return 0, c.readFailure(err)
}

// Fill is Receive into In, which has room.
func (c *Conn) Fill() error {
	n, err := c.Receive(c.In.Free())
	c.In.Added(n)
	return err
}

// readFailure says why a read from the client has failed: with 408 where it was too slow.
func (c *Conn) readFailure(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) && Ending(c.ended.Load()) == Dropped {
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

// SettleInput gives the buffer's memory back once all that it holds has been used.
func (c *Conn) SettleInput() {
	if c.In.Len() == 0 && c.head == nil {
		c.In.Release()
	}
}

// TakeEarly returns what has come behind a CONNECT or a PROXY protocol header, a head that was looked at first.
func (c *Conn) TakeEarly() []byte {
	early := append(bytes.Clone(c.head), c.In.Unused()...)
	c.head = nil
	c.In.Release()
	return early
}
