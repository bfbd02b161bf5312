package upstream

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"whsentry/proxy/socket"
)

// quietAfter is how long after a destination's last byte a tunnel of half its age is closed.
const quietAfter = int64(time.Second)

// Tunnel carries bytes between a client and a destination, after a CONNECT. Whatever ends one side ends both.
//
// A client cannot know how old its tunnel is, and loses the request that it has just sent where it is closed. So from half
// of connectionLifetime on it is closed at a quiet moment, when an answer has come and nothing has followed on it; while
// the client's bytes were the last, an answer may be owed. At twice connectionLifetime it is closed whatever happens.
type Tunnel struct {
	conn   *Conn
	peer   *socket.Conn // the client's side
	prober *socket.Prober
	client net.Conn // what is read and written of it: peer, or TLS above it
	bug    func(any)
	// moved is when a byte was last seen to move, its last bit whose that was; 0: none has.
	moved atomic.Int64
	// toUp and toClient count the bytes of either direction, each by its own goroutine.
	toUp, toClient int64
	// downward is closed once nothing more is carried to the client, which Leave may be the reason of.
	downward chan struct{}
	leaving  atomic.Bool
	left     bool
}

// side is whose bytes move.
type side = int64

const (
	clients      side = 0
	destinations side = 1
)

// Join makes c one side of a tunnel, of which client, on peer, is the other. The client's peer is closed by the sweeper
// and by Kill too. bug is told of a panic, which ends the tunnel.
func (c *Conn) Join(client net.Conn, peer *socket.Conn, bug func(any)) *Tunnel {
	c.watch()
	t := &Tunnel{conn: c, peer: peer, prober: peer.NewProber(), client: client, bug: bug}
	t.watch()
	return t
}

// watch has the sweeper, and Kill, know of the tunnel.
func (t *Tunnel) watch() {
	t.conn.tunnel.Store(t)
	if t.conn.Killed() != CloseNone { // before it knew of the client's side
		t.abort(nil)
	}
}

// Begin has what the destination sends carried from here on, for it may be the one who speaks first. Carry, Leave or End
// is to follow.
func (t *Tunnel) Begin() {
	t.conn.Expect(socket.Now())
	t.downward = make(chan struct{})
	go t.carryDown() // awaited by whatever follows; it ends with the sockets, which abort closes
}

// Carry carries early, which the client has sent already, and then what it sends, until both directions have ended or one
// has failed. The half-close of one side is passed on, and a reset too. end is the error that reading the client has come
// to behind early; nil: none, it is read on.
func (t *Tunnel) Carry(early []byte, end error) {
	t.carryUp(early, end)
	<-t.downward
}

// Leave ends what Begin began and leaves both sides open: from here on the connection is no tunnel's, until Resume. It
// reports false where one of the sides has ended meanwhile.
func (t *Tunnel) Leave() bool {
	t.leaving.Store(true)
	t.conn.tcp.InterruptRead()
	<-t.downward
	t.conn.tcp.SetReadDeadline(time.Time{})
	t.conn.tunnel.Store(nil)
	t.conn.Pause()
	return t.left
}

// Resume begins anew after Leave.
func (t *Tunnel) Resume() {
	t.left = false
	t.leaving.Store(false)
	t.watch()
	t.Begin()
}

// End closes both sides.
func (t *Tunnel) End() {
	t.abort(nil)
	<-t.downward
}

// Heard notes that something has come from the client, which is yet to be carried.
func (t *Tunnel) Heard() { t.note(clients) }

// Bytes returns how many bytes either direction has carried, once Carry has returned.
func (t *Tunnel) Bytes() (toDestination, toClient int64) { return t.toUp, t.toClient }

// Answered reports whether the last bytes to move were the destination's: then no answer is owed.
func (t *Tunnel) Answered() bool { return t.moved.Load()&1 == destinations }

// carryDown carries what the destination sends.
func (t *Tunnel) carryDown() {
	defer close(t.downward)
	defer t.recoverBug()
	t.pump(t.client, t.conn.conn, &t.toClient, destinations)
}

// carryUp carries what the client sends.
func (t *Tunnel) carryUp(early []byte, end error) {
	defer t.recoverBug()
	if len(early) > 0 {
		t.note(clients)
		n, err := t.conn.Write(early)
		t.toUp += int64(n)
		if err != nil {
			t.abort(err)
			return
		}
	}
	if end != nil {
		t.ended(t.conn.conn, end)
		return
	}
	t.pump(t.conn.conn, t.client, &t.toUp, clients)
}

func (t *Tunnel) recoverBug() {
	if r := recover(); r != nil {
		t.bug(r)
		t.abort(nil)
	}
}

// note tells the sweeper that bytes move, and whose.
func (t *Tunnel) note(whose side) {
	at := socket.Now()
	t.moved.Store(at&^1 | whose)
	t.conn.Expect(at)
}

// pump carries one direction until src ends, which dst is told, or either fails, which ends the tunnel.
func (t *Tunnel) pump(dst io.Writer, src io.Reader, count *int64, whose side) {
	r := socket.NewReader(src)
	defer r.Release() // also where a bug gets in the way
	for {
		err := r.Read()
		if b := r.Bytes(); len(b) > 0 {
			t.note(whose)
			written, writeErr := dst.Write(b)
			*count += int64(written)
			if whose == clients && t.conn.tcp.WriteWaited() {
				t.note(whose) // it is only now that the destination has them, whatever it has said meanwhile
			} else {
				t.conn.Expect(socket.Now())
			}
			if writeErr != nil {
				err = writeErr
			}
		}
		r.Release()
		if whose == destinations && t.leaving.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
			t.left = true
			return
		}
		if err != nil {
			t.ended(dst, err)
			return
		}
	}
}

// ended is the end of one direction: a half-close is passed on, and anything else ends the tunnel.
func (t *Tunnel) ended(dst io.Writer, err error) {
	if err != io.EOF {
		t.abort(err)
	} else if closeWrite(dst) != nil {
		t.abort(nil)
	}
}

// abort closes both sides; a reset of one is passed on to the other.
func (t *Tunnel) abort(err error) {
	if socket.IsReset(err) {
		t.peer.SetLinger(0)
		t.conn.tcp.SetLinger(0)
	}
	t.peer.Close()
	t.conn.tcp.Close()
}

// closeWrite passes a half-close on.
func closeWrite(conn io.Writer) error {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// over says why the tunnel is to be closed at that moment. The sweeper calls it, after progress.
func (t *Tunnel) over(at socket.Tick) CloseReason {
	age, lifetime := at-t.conn.born, int64(t.conn.limits.Lifetime)
	switch {
	case age >= 2*lifetime:
		return CloseLifetime
	case at >= t.conn.due.Load():
		return CloseIdle
	case age >= lifetime/2 && t.isQuiet(at):
		return CloseLifetime
	}
	return CloseNone
}

// isQuiet reports whether the destination has had the last word for a while: all of it has arrived, and there is nothing
// that was only not read yet.
func (t *Tunnel) isQuiet(at socket.Tick) bool {
	moved := t.moved.Load()
	return moved&1 == destinations && at-moved >= quietAfter && t.conn.left <= 0 && !hasBytes(t.prober) && !hasBytes(t.conn.early)
}

func hasBytes(p *socket.Prober) bool {
	found := p.Look()
	return found == socket.Data || found == socket.Ending
}
