package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// aLongTimeAgo is a deadline that ends whatever the connection is waiting for.
var aLongTimeAgo = time.Unix(1, 0)

// The values of deadline.due that are no moment.
const (
	dueNow  tick = -1 // the sweeper is about to end what the owner waits for
	duePast tick = -2 // it has
)

// deadline is the moment by which the owner of a connection must have got somewhere. The owner moves it with one
// atomic store; the sweeper looks at it now and then. A deadline of the operating system's costs a call at every
// read and write, which is more than everything else that the proxy does with them.
type deadline struct{ due atomic.Int64 }

// set moves the deadline. Where the sweeper has just ended what the owner was waiting for on conn, that is undone.
func (d *deadline) set(at tick, conn net.Conn) {
	for {
		due := d.due.Load()
		if due == dueNow {
			runtime.Gosched()
			continue
		}
		if d.due.CompareAndSwap(due, at) {
			if due == duePast {
				conn.SetDeadline(time.Time{})
			}
			return
		}
	}
}

// expire is called by the sweeper. Where the deadline has passed it ends what the owner is waiting for on conn.
func (d *deadline) expire(at tick, conn net.Conn) {
	if due := d.due.Load(); due <= at {
		d.end(due, conn)
	}
}

// end ends what the owner is waiting for on conn, unless it has moved the deadline from due.
func (d *deadline) end(due tick, conn net.Conn) {
	if due < 0 || !d.due.CompareAndSwap(due, dueNow) {
		return
	}
	conn.SetDeadline(aLongTimeAgo)
	d.due.CompareAndSwap(dueNow, duePast)
}

// passed reports whether the sweeper has ended what the owner was waiting for.
func (d *deadline) passed() bool {
	due := d.due.Load()
	return due == dueNow || due == duePast
}

// probe is what a look at a socket's input finds, nothing being read.
type probe uint8

const (
	probeQuiet  probe = iota // nothing there
	probeData                // bytes are there
	probeEnding              // bytes are there, and the peer has sent FIN behind them
	probeClosed              // the peer has sent FIN
	probeFailed              // the connection is broken
)

// prober looks at a socket. It exists once per connection, so that looking allocates nothing.
type prober struct {
	raw    syscall.RawConn
	look   func(fd uintptr)
	result probe
}

func newProber(conn *net.TCPConn) (*prober, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	p := &prober{raw: raw}
	p.look = p.peek
	return p, nil
}

// queued returns how many bytes the peer has not acknowledged yet; a negative number where that is not known.
func (p *prober) queued() int {
	n := -1
	if p.raw.Control(func(fd uintptr) { n = queued(fd) }) != nil {
		return -1
	}
	return n
}

func (p *prober) peek(fd uintptr) {
	var b [1]byte
	n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		p.result = probeQuiet
	case err != nil:
		p.result = probeFailed
	case n == 0:
		p.result = probeClosed
	case hungUp(fd):
		p.result = probeEnding
	default:
		p.result = probeData
	}
}

// probe may be called by one goroutine at a time.
func (p *prober) probe() probe {
	if err := p.raw.Control(p.look); err != nil {
		return probeFailed
	}
	return p.result
}

// readSocket reads what the socket holds, without waiting: syscall.EAGAIN says that there is nothing, io.EOF that the
// peer has sent FIN.
func readSocket(fd uintptr, p []byte) (n int, err error) {
	for {
		n, err = syscall.Read(int(fd), p)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// wire is a TCP connection with TLS above it. It notes how the bytes ended, which TLS does not tell: a FIN without
// a close_notify before it may have been sent by anybody on the way.
//
// It also lets TLS be interrupted, which it takes for the end otherwise: a read that finds nothing may return, and what
// a write was not able to send is kept for flush.
type wire struct {
	*net.TCPConn
	sawFIN   bool
	glancing bool            // Read takes what is there and does not wait
	raw      syscall.RawConn // for glancing
	holding  bool            // Write keeps what it was not able to send before its deadline
	held     []byte
	// write, where it is set, stands in for TCPConn.Write: it is how a slow client's progress is seen below TLS.
	write func([]byte) (int, error)
}

func (w *wire) Read(p []byte) (int, error) {
	if w.glancing {
		return w.readNow(p)
	}
	n, err := w.TCPConn.Read(p)
	if err == io.EOF {
		w.sawFIN = true
	}
	return n, err
}

// readNow reads what the socket holds. That there is nothing is a deadline that has passed, which TLS survives.
func (w *wire) readNow(p []byte) (n int, err error) {
	if rawErr := w.raw.Read(func(fd uintptr) bool {
		n, err = readSocket(fd, p)
		return true
	}); rawErr != nil {
		return 0, rawErr
	}
	switch err {
	case syscall.EAGAIN:
		return 0, os.ErrDeadlineExceeded
	case io.EOF:
		w.sawFIN = true
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	switch {
	case w.write != nil:
		return w.write(p)
	case len(w.held) > 0:
		w.held = append(w.held, p...)
		return len(p), nil
	}
	n, err := w.TCPConn.Write(p)
	if w.holding && errors.Is(err, os.ErrDeadlineExceeded) {
		w.held = append(w.held, p[n:]...)
		return len(p), nil
	}
	return n, err
}

// flush sends what Write has kept. Where it is interrupted too, the rest stays.
func (w *wire) flush() error {
	n, err := w.TCPConn.Write(w.held)
	if w.held = w.held[n:]; len(w.held) == 0 {
		w.held = nil // it is large, and the connection may soon be at rest
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}
