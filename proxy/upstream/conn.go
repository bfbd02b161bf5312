package upstream

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"whsentry/proxy/socket"
)

// Route says which of a destination's connections can serve a request: those that were made by the same one.
type Route struct {
	TLS   bool
	Alias string // of the client certificate that is presented; "": none was asked for
	// Entry tells the entry of destinations that applies from others, and Allow the client's own allow list; 0: none.
	Entry, Allow uint64
}

// Limits are those that a connection has in time. Both are above 0.
type Limits struct {
	Lifetime time.Duration // connectionLifetime: it is closed at this age, and not used again from half of it on
	Idle     time.Duration // readTimeout: how long it may wait for a byte, or rest in the pool
}

// Conn is a connection to a destination. One goroutine owns it, while it is in use; the sweeper looks on.
type Conn struct {
	conn       net.Conn // what is read and written: tcp, or TLS above it
	tcp        *socket.Conn
	wire       *socket.Wire   // nil without TLS
	prober     *socket.Prober // nil: it has not been looked at
	route      Route
	limits     Limits
	dest       *Destination
	generation uint32
	remote     netip.AddrPort
	tlsVersion uint16
	odd        [1]byte // where quiet reads to
	failed     error   // what glance found in place of an answer; TLS may not say it twice

	born, dies socket.Tick
	resting    socket.Tick // since when it is idle in the pool; 0: in use
	due        atomic.Int64
	killed     atomic.Uint32 // a CloseReason, once something other than its owner has closed it
	tunnel     atomic.Pointer[Tunnel]

	// sending is set while a part of a large body is being written; early is what the sweeper looks with then, and
	// while there is a tunnel.
	sending atomic.Uint32
	early   *socket.Prober
	left    int // bytes that had not been acknowledged when the sweeper last looked
}

// NewConn is about a connection that has just been made, for r, and goes to remote. The generation is the pool's of before
// it was judged.
func NewConn(conn socket.TCP, remote netip.AddrPort, r Route, limits Limits, generation uint32) (*Conn, error) {
	s, err := socket.New(conn)
	if err != nil {
		return nil, err
	}
	c := &Conn{conn: s, tcp: s, route: r, limits: limits, generation: generation, remote: remote, born: socket.Now()}
	c.dies = c.born + int64(limits.Lifetime)
	c.due.Store(socket.Never)
	return c, nil
}

// Wire returns what TLS is to be spoken on, by UseTLS.
func (c *Conn) Wire() net.Conn {
	c.wire = &socket.Wire{Conn: c.tcp}
	return c.wire
}

// UseTLS has everything from here on read and written above conn, whose handshake has been made on Wire.
func (c *Conn) UseTLS(conn *tls.Conn) {
	c.wire.Received = func() { c.Expect(socket.Now()) }
	c.conn, c.tlsVersion = conn, conn.ConnectionState().Version
}

// Route returns what the connection was made for.
func (c *Conn) Route() Route { return c.route }

// IsFit reports whether the connection, which has not been at rest, can carry its first request: it is young, nothing has
// closed it, and nothing has come on it.
func (c *Conn) IsFit(at socket.Tick) bool {
	return c.Killed() == CloseNone && !c.isOld(at) && c.quiet()
}

// Remote returns the address that the connection goes to.
func (c *Conn) Remote() netip.AddrPort { return c.remote }

// TLSVersion returns the version spoken, as in tls.VersionTLS13; 0: none.
func (c *Conn) TLSVersion() uint16 { return c.tlsVersion }

// Limits returns its limits in time.
func (c *Conn) Limits() Limits { return c.limits }

// Destination returns where its place is.
func (c *Conn) Destination() *Destination { return c.dest }

// Expect gives the destination its readTimeout from then on.
func (c *Conn) Expect(at socket.Tick) { c.due.Store(at + int64(c.limits.Idle)) }

// Pause lets the destination wait: what it waits for is not its own doing. Expect ends that.
func (c *Conn) Pause() { c.due.Store(socket.Never) }

// Read reads what has come, and waits where nothing has.
func (c *Conn) Read(p []byte) (int, error) { return c.conn.Read(p) }

// Write writes all of p.
func (c *Conn) Write(p []byte) (int, error) { return c.conn.Write(p) }

// CloseWrite sends TLS' farewell, or else FIN.
func (c *Conn) CloseWrite() error { return c.conn.(interface{ CloseWrite() error }).CloseWrite() }

// Close closes a connection that no pool knows.
func (c *Conn) Close() error { return c.tcp.Close() }

// CloseReason says why a connection to a destination was closed.
type CloseReason uint32

// The values of CloseReason.
const (
	CloseNone        CloseReason = iota
	CloseIdle                    // readTimeout
	CloseLifetime                // connectionLifetime
	CloseDestination             // the destination closed it, or said that it would
	CloseError                   // what came was malformed, cut or too large
	CloseClient                  // the client went away
	CloseRetired                 // the deny list, a certificate or the trust store has changed
	CloseShutdown                // the proxy is stopping
	CloseTunnel                  // its tunnel has ended
	CloseDeadline                // the caller's own deadline has passed
	CloseReasons                 // how many there are
)

var closeReasonNames = [CloseReasons]string{"", "idle", "lifetime", "destination", "error", "client", "retired", "shutdown", "tunnel", "caller_deadline"}

// String returns the value of the metric's label.
func (r CloseReason) String() string { return closeReasonNames[r] }

// Killed says why something other than its owner has closed the connection; CloseNone: nothing has.
func (c *Conn) Killed() CloseReason { return CloseReason(c.killed.Load()) }

// Kill closes a connection that another goroutine owns; the owner finds out by the error that it gets, and why by
// Killed. There is no TLS farewell: it could block.
func (c *Conn) Kill(why CloseReason) {
	if c.killed.CompareAndSwap(0, uint32(why)) {
		c.tcp.Close()
		if t := c.tunnel.Load(); t != nil {
			t.peer.Close()
		}
	}
}

// quiet reports whether nothing has come from the destination since its last response. Whatever has (the end of the
// connection, or bytes that answer no request) makes the connection unfit.
func (c *Conn) quiet() bool {
	if c.wire == nil {
		return c.look() == socket.Quiet
	}
	n, quiet, _ := c.glance(c.odd[:], false)
	return n == 0 && quiet
}

// look looks at what has come without TLS. The prober is made with the first look, and kept: a request on a new connection,
// which may wait long, needs none.
func (c *Conn) look() socket.Input {
	if c.prober == nil {
		c.prober = c.tcp.NewProber()
	}
	return c.prober.Look()
}

// glance looks for an answer without waiting for one; quiet says that there is none, and no end either. TLS has to be
// read to know, into p: what has come may be a session ticket, or lie in the TLS layer already, as a close_notify does
// that came in one packet with the last response. Where talk is set, TLS may wait if it has an answer of its own to give:
// a handshake that the destination has asked for.
func (c *Conn) glance(p []byte, talk bool) (n int, quiet bool, err error) {
	if c.wire == nil {
		return 0, c.look() == socket.Quiet, nil
	}
	if c.failed != nil {
		return 0, false, c.failed
	}
	c.wire.Glancing, c.wire.Talking = true, talk
	n, err = c.conn.Read(p)
	c.wire.Glancing, c.wire.Talking = false, false
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, true, nil
	}
	if n == 0 {
		c.failed = err
	}
	return n, false, err
}

// The values of Conn.sending.
const (
	notSending uint32 = iota
	sending
	interrupted // the destination has answered before it has taken the body
)

// beginSending lets the sweeper interrupt a write that the destination does not take because it has answered already.
func (c *Conn) beginSending() {
	c.watch()
	if c.wire != nil {
		c.wire.Holding = true
	}
	c.sending.Store(sending)
}

// endSending ends what beginSending began.
func (c *Conn) endSending() {
	if c.wire != nil {
		c.wire.Holding = false
	}
	if c.sending.CompareAndSwap(sending, notSending) {
		return
	}
	c.dest.shard.mu.Lock() // until the sweeper is done with it
	defer c.dest.shard.mu.Unlock()
	c.sending.Store(notSending)
	c.tcp.SetWriteDeadline(time.Time{})
}

// watch makes what the sweeper looks with.
func (c *Conn) watch() {
	if c.early == nil {
		c.early = c.tcp.NewProber()
	}
}

// unread reports whether the destination, whose time is up, has sent something that the connection's owner has only not
// come to read: then the process is short of time, and the destination not idle. For as long again as it may be idle, for
// it may be sending and not take what the owner writes.
func (c *Conn) unread(at socket.Tick) bool {
	if c.resting != 0 || at-c.due.Load() >= int64(c.limits.Idle) {
		return false
	}
	return c.tcp.NewProber().Look() != socket.Quiet
}

// progress is called by the sweeper, which holds the shard's lock, and sees what the owner cannot while it writes. A
// side that takes slowly what it is sent is not idle; and a destination that has answered may not take the rest at all.
func (c *Conn) progress(at socket.Tick) {
	t := c.tunnel.Load()
	isSending := c.sending.Load() == sending
	if t == nil && !isSending {
		return
	}
	left := c.early.Unacknowledged()
	if t != nil {
		left += t.prober.Unacknowledged()
	}
	if left != c.left {
		c.left = left
		c.Expect(at)
	}
	if isSending && c.early.Look() != socket.Quiet && c.sending.CompareAndSwap(sending, interrupted) {
		c.tcp.Interrupt()
	}
}

// ErrNoCloseNotify is the end of a connection over TLS by a FIN between two records, without the close_notify that
// should come before it: the bytes may be all that were sent, or not.
var ErrNoCloseNotify = errors.New("FIN without a close_notify")

// endOf is err as a read of the connection has returned it, told from other ends: over TLS io.EOF is a close_notify.
func (c *Conn) endOf(err error) error {
	switch {
	case err == nil:
		return io.ErrNoProgress
	case err == io.EOF && c.wire != nil && c.wire.SawFIN():
		return ErrNoCloseNotify
	}
	return err
}
