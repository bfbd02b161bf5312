package proxy

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"whsentry/guard"
	"whsentry/proxy/socket"
)

// route says which of a destination's connections can serve a request.
type route struct {
	tls   bool
	alias string
}

// lifetimes are the limits that a connection to a destination has.
type lifetimes struct {
	life time.Duration // connectionLifetime
	idle time.Duration // readTimeout
}

// upstream is a connection to a destination.
type upstream struct {
	net.Conn   // what is read and written: tcp, or TLS above it
	tcp        *socket.Conn
	wire       *socket.Wire // nil without TLS
	prober     *socket.Prober
	route      route
	dest       *destination
	generation uint32
	remote     netip.AddrPort
	tlsVersion string

	born, dies socket.Tick
	idle       time.Duration // readTimeout
	resting    socket.Tick   // since when it is idle in the pool; 0: in use
	due        atomic.Int64
	killed     atomic.Uint32 // a closeReason, once something other than its owner has closed it
	// client is the other side of a tunnel, which is closed with this one; nil without a tunnel.
	client atomic.Pointer[client]

	// sending is set while a part of a large body is being written; early is what the sweeper looks with then, and
	// while there is a tunnel.
	sending atomic.Uint32
	early   *socket.Prober
	left    int // bytes that had not been acknowledged when the sweeper last looked
}

// newUpstream is about a connection that has just been made, for r.
func newUpstream(conn guard.Conn, r route, generation uint32) (*upstream, error) {
	s, err := socket.New(conn)
	if err != nil {
		return nil, err
	}
	return &upstream{Conn: s, tcp: s, prober: s.NewProber(), route: r, generation: generation, born: socket.Now(),
		remote: conn.RemoteAddr().(*net.TCPAddr).AddrPort()}, nil
}

// The values of upstream.sending.
const (
	notSending uint32 = iota
	sending
	interrupted // the destination has answered before it has taken the body
)

// closeReason says why a connection to a destination was closed; it is a metric's label.
type closeReason uint32

const (
	closeNone        closeReason = iota
	closeIdle                    // readTimeout
	closeLifetime                // connectionLifetime
	closeDestination             // the destination closed it, or said that it would
	closeError                   // what came was malformed, cut or too large
	closeClient                  // the client went away
	closeRetired                 // the deny list, a certificate or the trust store has changed
	closeShutdown                // the proxy is stopping
	closeTunnel                  // its tunnel has ended
	closeReasons
)

var closeReasonNames = [closeReasons]string{"", "idle", "lifetime", "destination", "error", "client", "retired", "shutdown", "tunnel"}

// quiet reports whether nothing has come from the destination since its last response. Whatever has (the end of the
// connection, or bytes that answer no request) makes the connection unfit.
func (u *upstream) quiet() bool {
	if u.wire == nil {
		return u.prober.Look() == socket.Quiet
	}
	n, quiet := u.glance(make([]byte, 1))
	return n == 0 && quiet
}

// glance looks for an answer without waiting for one; quiet says that there is none, and no end either. TLS has to be
// read to know, into p: what has come may be a session ticket, or lie in the TLS layer already, as a close_notify does
// that came in one packet with the last response.
func (u *upstream) glance(p []byte) (n int, quiet bool) {
	if u.wire == nil {
		return 0, u.prober.Look() == socket.Quiet
	}
	u.wire.Glancing = true
	n, err := u.Conn.Read(p)
	u.wire.Glancing = false
	return n, n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// kill closes a connection that another goroutine owns; the owner finds out by the error that it gets, and why by
// killed. There is no TLS farewell: it could block.
func (u *upstream) kill(why closeReason) {
	if u.killed.CompareAndSwap(0, uint32(why)) {
		u.tcp.Close()
		if c := u.client.Load(); c != nil {
			c.tcp.Close()
		}
	}
}

// beginSending lets the sweeper interrupt a write that the destination does not take because it has answered already.
func (u *upstream) beginSending() {
	u.watch()
	if u.wire != nil {
		u.wire.Holding = true
	}
	u.sending.Store(sending)
}

// endSending ends what beginSending began.
func (u *upstream) endSending() {
	if u.wire != nil {
		u.wire.Holding = false
	}
	if u.sending.CompareAndSwap(sending, notSending) {
		return
	}
	u.dest.shard.mu.Lock() // until the sweeper is done with it
	defer u.dest.shard.mu.Unlock()
	u.sending.Store(notSending)
	u.tcp.SetWriteDeadline(time.Time{})
}

// watch makes what the sweeper looks with.
func (u *upstream) watch() {
	if u.early == nil {
		u.early = u.tcp.NewProber()
	}
}

// unread reports whether the destination, whose time is up, has sent something that the connection's owner has only not
// come to read: then the process is short of time, and the destination not idle. For as long again as it may be idle, for
// it may be sending and not take what the owner writes.
func (u *upstream) unread(at socket.Tick) bool {
	if u.resting != 0 || u.client.Load() != nil || at-u.due.Load() >= int64(u.idle) {
		return false
	}
	return u.tcp.NewProber().Look() != socket.Quiet
}

// progress is called by the sweeper, which holds the shard's lock, and sees what the owner cannot while it writes. A
// side that takes slowly what it is sent is not idle; and a destination that has answered may not take the rest at all.
func (u *upstream) progress(at socket.Tick) {
	client := u.client.Load()
	isSending := u.sending.Load() == sending
	if client == nil && !isSending {
		return
	}
	left := u.early.Unacknowledged()
	if client != nil {
		left += client.prober.Unacknowledged()
	}
	if left != u.left {
		u.left = left
		u.due.Store(at + int64(u.idle))
	}
	if isSending && u.early.Look() != socket.Quiet && u.sending.CompareAndSwap(sending, interrupted) {
		u.tcp.Interrupt()
	}
}

func tlsVersionName(version uint16) string {
	switch version {
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS13:
		return "TLSv1.3"
	}
	return tls.VersionName(version)
}
