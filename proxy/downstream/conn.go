package downstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"whsentry/proxy/reason"
	"whsentry/proxy/socket"

	"github.com/valyala/fasthttp"
)

// Conn is a connection of a client, which carries one request after the other. Between two of them it holds no buffer.
// One goroutine owns it, and hands it to its Handler for as long as that serves a request; the sweeper looks on. It is
// meant to be a part of its Handler, so that both are one object; New's caller makes it, and the Server fills it in.
type Conn struct {
	Addr  string        // the client's, as it is logged
	In    socket.Buffer // what has come and not been used
	Start socket.Tick   // when the first bytes of the request, or of what comes before the first one, came; 0: none have

	listener *Listener
	handler  Handler
	tcp      *socket.Conn
	tls      *tls.Conn      // above tcp; nil: there is none
	prober   *socket.Prober // the sweeper's own; nil: it has not looked

	deadline socket.Deadline
	finSeen  socket.Tick   // since when the client's FIN has been seen; the sweeper's own
	state    atomic.Uint32 // a State
	ended    atomic.Uint32 // an Ending; 0: what is done for the client goes on

	lines    uint32                // of head
	first    [1]byte               // of a request above TLS
	head     []byte                // of the request that has come, a part of In
	restEnds socket.Tick           // when the wait for a request ends; 0: there is none
	ready    func(fd uintptr) bool // takeReady
	readErr  error                 // what takeReady has found
	verified *tls.Config           // that its certificate has been verified by; nil: it is plain

	Known   bool // its last request was one of somebody's whom the Handler knows: it may rest for IdleTimeout
	Lingers bool // there is input that will not be read: it is taken in before the connection is closed
	Untimed bool // what it is sent has no limit in time but a tunnel's

	delivered bool // fasthttp has the head
	large     bool // it is served by a server with a larger buffer
	looping   bool // Close has taken over
	parks     bool // it has rested for parkAfter
	parked    bool // it rests outside of fasthttp
	greeted   bool // PROXY protocol and TLS have been seen to
	final     bool // the next request is the last
	over      bool // there is no further request
	excess    bool // one more than MaxConnections: it is told so, and closed
	isReset   bool // the connection is to be broken off
}

// Handler is whom a client's requests are for. It is called by the goroutine that owns the connection, but for End and
// Expire.
type Handler interface {
	// Greeted is called before the first request: peer is the client's address, that of the PROXY header where there is
	// one, and not valid where that names none; shown is the verified certificate of the client, nil where it has none.
	Greeted(peer netip.Addr, shown *x509.Certificate)
	// Serve carries out the request whose head has come, as fasthttp has parsed it, or whole where h is nil. It reports
	// whether there may be another on the connection.
	Serve(h *fasthttp.RequestHeader, unparsed []byte) (goesOn bool)
	// Refuse ends a connection that did not get as far as a whole head, what has come of which is in Conn.In. readable says
	// that the client can read an answer.
	Refuse(f *reason.Failure, readable bool)
	// TurnAway tells a client by SendAtOnce, where that is readable, that there is no place for it.
	TurnAway(readable bool)
	// AwaitsBody is called before more of a request's body is waited for: the client may take its time.
	AwaitsBody()
	// Stalled is called when writing to the client has to wait.
	Stalled()
	// End ends what is being done for the client, now and until it leaves. It is called by other goroutines, and must not
	// wait.
	End(why Ending)
	// Expire ends what is being done for the client where its time is up. The sweeper calls it while the state is Waiting.
	Expire(at socket.Tick)
	// Left is called once the connection has been closed. Nothing is called after it.
	Left()
}

// State says what a client's goroutine is doing, for the sweeper and for a stopping Server.
type State uint32

// The values of State.
const (
	Idle    State = iota // between requests
	Reading              // a request has begun
	Waiting              // for the destination: it is of interest whether the client is still there
	Busy                 // writing an answer, tunnelling, leaving
)

// Ending says why what is being done for a client is to end.
type Ending uint32

// The values of Ending.
const (
	Dropped Ending = iota + 1 // the Server is stopping, and waits for the client no longer, which can still be told so
	Gone                      // the client went away, or has not taken its answer from a stopping Server
)

// open fills c in for a connection that has been accepted.
func (c *Conn) open(l *Listener, h Handler, tcp *net.TCPConn) error {
	s, err := socket.New(tcp)
	if err != nil {
		return err
	}
	from := tcp.RemoteAddr().(*net.TCPAddr).AddrPort()
	c.Addr = netip.AddrPortFrom(from.Addr().Unmap(), from.Port()).String()
	c.listener, c.handler, c.tcp = l, h, s
	c.ready = c.takeReady
	s.OnStall(c.stalled)
	c.deadline.Set(socket.Never, s)
	return nil
}

func (c *Conn) stalled() { c.handler.Stalled() }

func (c *Conn) server() *Server { return c.listener.server }

func (c *Conn) cfg() *Config { return c.server().cfg.Load() }

// Stream returns what is read and written: TCP, or TLS above it.
func (c *Conn) Stream() net.Conn {
	if c.tls != nil {
		return c.tls
	}
	return c.tcp
}

// TCP returns what is below Stream.
func (c *Conn) TCP() *socket.Conn { return c.tcp }

// IsLast reports whether no request is waited for after this one.
func (c *Conn) IsLast() bool { return c.final }

// IsExcess reports whether the client is one more than MaxConnections.
func (c *Conn) IsExcess() bool { return c.excess }

// MayGoOn reports whether there may be another request: its head is there, or it is still waited for.
func (c *Conn) MayGoOn() bool { return c.head != nil || !c.server().closing.Load() }

// Limit gives the client that long to get on.
func (c *Conn) Limit(d time.Duration) { c.LimitFrom(socket.Now(), d) }

// LimitFrom is Limit from that moment on.
func (c *Conn) LimitFrom(at socket.Tick, d time.Duration) { c.deadline.Set(at+int64(d), c.tcp) }

// Unlimited lets the client wait for as long as the destination takes.
func (c *Conn) Unlimited() { c.deadline.Set(socket.Never, c.tcp) }

// Enter notes what the client's goroutine is doing from here on.
func (c *Conn) Enter(s State) { c.state.Store(uint32(s)) }

// Send sends p to the client, which must take some of it within every ClientTimeout.
func (c *Conn) Send(p []byte) error {
	if c.tls == nil {
		_, err := c.writeTCP(p)
		return err
	}
	_, err := c.tls.Write(p)
	return err
}

// writeTCP leaves the limit as it was, for TLS writes of its own accord while something is being read. A tunnel's writes
// have none: it would end the reading of the other direction too, and how long a tunnel may stand still is seen to.
func (c *Conn) writeTCP(p []byte) (written int, err error) {
	if c.Untimed {
		return c.tcp.Write(p)
	}
	timeout := c.cfg().ClientTimeout
	before := c.deadline.Due()
	if before < 0 {
		before = socket.Now() // it has passed
	}
	for {
		c.Limit(timeout)
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
func (c *Conn) isTaking(n int, err error) bool {
	return n > 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.deadline.Passed()
}

// dismiss breaks the connection off where the client has taken nothing for ClientTimeout: after an orderly close the
// system would keep what it was sent for minutes, megabytes of it, beyond every limit here.
func (c *Conn) dismiss() {
	if c.deadline.Passed() {
		c.Reset()
	}
}

// SendBoth is Send for a head and a body, either of which may be empty. Where that costs less than handing both to the
// system it copies body behind head; memory is then what head has become, to be used again.
func (c *Conn) SendBoth(head, body []byte) (memory []byte, err error) {
	switch {
	case len(body) == 0:
		return head, c.Send(head)
	case len(head) == 0:
		return head, c.Send(body)
	case c.tls != nil || len(body) <= socket.CopyLimit:
		head = append(head, body...)
		return head, c.Send(head)
	}
	return head, c.writeBoth(head, body)
}

// writeBoth writes both in one call to the system.
func (c *Conn) writeBoth(head, body []byte) error {
	timeout := c.cfg().ClientTimeout
	for {
		c.Limit(timeout)
		n, err := c.tcp.WriteBoth(head, body)
		if err == nil {
			c.Unlimited()
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

// SendAtOnce sends p to a client that is turned away: it fits into a new socket's buffer.
func (c *Conn) SendAtOnce(p []byte) {
	c.tcp.SetWriteDeadline(time.Now().Add(time.Second))
	c.tcp.Write(p)
}

// HasBytes reports whether bytes have come that were not read.
func (c *Conn) HasBytes() bool { return c.tcp.HasBytes() }

// drop ends what is being done for a client that a stopping Server waits for no longer. It can still be told so.
func (c *Conn) drop() {
	c.ended.CompareAndSwap(0, uint32(Dropped))
	c.handler.End(Dropped)
	c.tcp.InterruptRead()
}

// vanish ends what is being done for a client that went away, or that has not taken its answer from a stopping Server.
func (c *Conn) vanish() {
	c.ended.Store(uint32(Gone))
	c.handler.End(Gone)
}

// Reset makes the closing of the connection a reset, so that the client cannot take what it got for a whole message.
// Closing is left to leave: it waits for whoever uses the socket, and that is the one who calls this.
func (c *Conn) Reset() {
	c.isReset = true
	c.tcp.SetLinger(0)
}
