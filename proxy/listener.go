package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// listener is one endpoint that clients connect to.
type listener struct {
	*patientListener
	tcp      *net.TCPListener // what is below it
	raw      syscall.RawConn
	cfg      ListenerConfig
	metrics  *listenerMetrics
	tls      *atomic.Pointer[tls.Config] // nil: plain
	passed   bool                        // the socket was there before this process, and will be after it
	accepted chan struct{}               // closed when the accept loop has ended
}

// listen opens cfg's address, unless a socket for it has been passed; an https listener gets its certificates by setTLS.
func listen(cfg ListenerConfig, passed *net.TCPListener, m *Metrics) (*listener, error) {
	tcp := passed
	if passed == nil {
		var err error
		if tcp, err = openPort(cfg); err != nil {
			return nil, fmt.Errorf("%q: listen: %w; want an address of this host that is free", cfg.Address, bareListenError(err))
		}
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("%q: listen: %w", cfg.Address, err)
	}
	if cfg.ReusePort {
		detachPrograms(raw)
	}
	l := &listener{
		patientListener: &patientListener{Listener: tcp}, tcp: tcp, raw: raw, cfg: cfg, metrics: m.listener(cfg.Address),
		passed: passed != nil, accepted: make(chan struct{}),
	}
	if cfg.Type == ListenerHTTPS {
		l.tls = new(atomic.Pointer[tls.Config])
	}
	return l, nil
}

func openPort(cfg ListenerConfig) (*net.TCPListener, error) {
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
func (l *listener) waiting() bool {
	ready := false
	l.raw.Control(func(fd uintptr) {
		look := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(look, 0)
		ready = n > 0 || err == unix.EINTR
	})
	return ready
}

// interrupt ends Accept, but leaves the socket open.
func (l *listener) interrupt() {
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

// bareListenError is err without what net adds to it, which the caller has said already.
func bareListenError(err error) error {
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

// patientListener does not end when the process or the system has run out of something: it waits until there is
// some again. Those who want to connect wait with it, in the system's queue.
type patientListener struct {
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

func (l *patientListener) closing() chan struct{} {
	l.made.Do(func() { l.gone = make(chan struct{}) })
	return l.gone
}

func (l *patientListener) end() {
	gone := l.closing()
	l.ended.Do(func() { close(gone) })
}

// Accept waits for the next connection. It fails only once the listener is closed, or interrupted.
func (l *patientListener) Accept() (net.Conn, error) {
	wait := firstPatience
	for {
		conn, err := l.Listener.Accept()
		if err == nil || !shortage(err) {
			return conn, err
		}
		select {
		case <-l.closing():
			return nil, net.ErrClosed
		default:
		}
		l.complain(err)
		select {
		case <-time.After(wait):
			wait = min(2*wait, mostPatience)
		case <-l.closing():
			return nil, net.ErrClosed
		}
	}
}

// complain reports a failed Accept, unless one was reported a short while ago.
func (l *patientListener) complain(err error) {
	l.failed++
	if at := time.Now(); l.report != nil && at.Sub(l.reported) >= shortageInterval {
		l.report(err, l.failed)
		l.reported, l.failed = at, 0
	}
}

// Close ends Accept.
func (l *patientListener) Close() error {
	err := l.Listener.Close()
	l.end()
	return err
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
