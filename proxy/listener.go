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
	net.Listener
	cfg     ListenerConfig
	metrics *listenerMetrics
	tls     *atomic.Pointer[tls.Config] // nil: plain
}

// listen opens cfg's address; an https listener gets its certificates by setTLS.
func listen(cfg ListenerConfig, m *Metrics) (*listener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	if cfg.ReusePort {
		lc.Control = reusePort
	}
	ln, err := lc.Listen(context.Background(), "tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("%q: listen: %w; want an address of this host that is free", cfg.Address, bareListenError(err))
	}
	l := &listener{Listener: &patientListener{Listener: ln}, cfg: cfg, metrics: m.listener(cfg.Address)}
	if cfg.Type == ListenerHTTPS {
		l.tls = new(atomic.Pointer[tls.Config])
	}
	return l, nil
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
// some again.
type patientListener struct {
	net.Listener
	once sync.Once
	gone chan struct{}
}

const (
	firstPatience = 5 * time.Millisecond
	mostPatience  = time.Second
)

func (l *patientListener) closing() chan struct{} {
	l.once.Do(func() { l.gone = make(chan struct{}) })
	return l.gone
}

// Accept waits for the next connection. It fails only once the listener is closed.
func (l *patientListener) Accept() (net.Conn, error) {
	wait := firstPatience
	for {
		conn, err := l.Listener.Accept()
		if err == nil || !shortage(err) {
			return conn, err
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, mostPatience)
		case <-l.closing():
			return nil, net.ErrClosed
		}
	}
}

// Close ends Accept.
func (l *patientListener) Close() error {
	err := l.Listener.Close()
	if err == nil {
		close(l.closing())
	}
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
