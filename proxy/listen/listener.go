package listen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listener is one endpoint that clients connect to.
type Listener struct {
	patient
	tcp    *net.TCPListener // what is below it
	raw    syscall.RawConn
	cfg    Config
	passed bool // the socket was there before this process, and will be after it
}

// Open listens on cfg's address, or on the socket for it that was passed, which may be nil. The error names the address;
// syscall.EADDRINUSE and the like are in it.
func Open(cfg Config, passed *net.TCPListener) (*Listener, error) {
	tcp := passed
	if passed == nil {
		var err error
		if tcp, err = openPort(cfg); err != nil {
			return nil, unopened(cfg.Address, err)
		}
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("%q: listen: %w", cfg.Address, err)
	}
	if cfg.ReusePort {
		detachPrograms(raw)
	}
	return &Listener{patient: patient{Listener: tcp}, tcp: tcp, raw: raw, cfg: cfg, passed: passed != nil}, nil
}

// Config is what the listener was opened by.
func (l *Listener) Config() *Config { return &l.cfg }

// OnShortage has report called where connections cannot be accepted for now: with why, and how many attempts have failed
// since it was called last, once in ten seconds at most. It is called before the first Accept.
func (l *Listener) OnShortage(report func(err error, failed int)) { l.report = report }

func openPort(cfg Config) (*net.TCPListener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false) // Go's default, but such a socket cannot be taken out of a group that shares a port
	if cfg.ReusePort {
		lc.Control = reusePort
	}
	ln, err := lc.Listen(context.Background(), "tcp", cfg.Address)
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}

// waiting reports whether a connection waits to be accepted.
func (l *Listener) waiting() bool {
	ready := false
	l.raw.Control(func(fd uintptr) {
		look := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(look, 0)
		ready = n > 0 || err == unix.EINTR
	})
	return ready
}

// Interrupt ends Accept, but leaves the socket open.
func (l *Listener) Interrupt() {
	l.end()
	l.tcp.SetDeadline(time.Unix(1, 0)) // long ago
}

// reusePort lets another process listen on the same address, so that an upgrade can start the new one first.
func reusePort(_, _ string, raw syscall.RawConn) error {
	var err error
	if controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}); controlErr != nil {
		return controlErr
	}
	return err
}

// BareError is err without what net adds to it, which the caller has said already.
func BareError(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// Plain listens on address for what is no client of the proxy, unless a socket for it has been passed.
func Plain(address string, passed *net.TCPListener) (net.Listener, error) {
	if passed != nil {
		return passed, nil
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, unopened(address, err)
	}
	return ln, nil
}

// unopened is the error of an address that cannot be listened on, for err.
func unopened(address string, err error) error {
	return fmt.Errorf("%q: listen: %w; want an address of this host that is free", address, BareError(err))
}

// Patient returns ln as a listener that does not end when the process or the system has run out of something: it waits
// until there is some again. Those who want to connect wait with it, in the system's queue. report, which may be nil, is
// called as OnShortage says.
func Patient(ln net.Listener, report func(err error, failed int)) net.Listener {
	return &patient{Listener: ln, report: report}
}

// patient is what Patient returns.
type patient struct {
	net.Listener
	made, ended sync.Once
	gone        chan struct{} // closed to end Accept

	// report is told why connections wait, and how many attempts to take one have failed since it was told last, at most
	// once within shortageInterval; nil: nobody is. Accept, which one goroutine calls, owns what follows.
	report   func(err error, failed int)
	reported time.Time
	failed   int
}

const (
	firstPatience    = 5 * time.Millisecond
	mostPatience     = time.Second
	shortageInterval = 10 * time.Second
)

func (l *patient) closing() chan struct{} {
	l.made.Do(func() { l.gone = make(chan struct{}) })
	return l.gone
}

func (l *patient) end() {
	gone := l.closing()
	l.ended.Do(func() { close(gone) })
}

// Accept waits for the next connection. Once the listener is closed, or interrupted, the error is io.EOF, which
// fasthttp's Serve takes for the end; any other is a listener's that is broken.
func (l *patient) Accept() (net.Conn, error) {
	wait := firstPatience
	for {
		conn, err := l.Listener.Accept()
		if err == nil {
			return conn, nil
		}
		select {
		case <-l.closing():
			return nil, io.EOF
		default:
		}
		if !shortage(err) {
			return nil, err
		}
		l.complain(err)
		select {
		case <-time.After(wait):
			wait = min(2*wait, mostPatience)
		case <-l.closing():
			return nil, io.EOF
		}
	}
}

// complain reports a failed Accept, unless one was reported a short while ago.
func (l *patient) complain(err error) {
	l.failed++
	if at := time.Now(); l.report != nil && at.Sub(l.reported) >= shortageInterval {
		l.report(err, l.failed)
		l.reported, l.failed = at, 0
	}
}

// Close ends Accept.
func (l *patient) Close() error {
	l.end()
	return l.Listener.Close()
}

// shortage reports whether Accept failed for a reason that passes: of this connection, or of the system.
func shortage(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.EINTR, syscall.EPROTO, syscall.EPERM, syscall.ENETDOWN, syscall.EHOSTUNREACH,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return os.IsTimeout(err)
}
