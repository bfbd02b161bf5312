package proxy

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// wire is a TCP connection with TLS above it. It notes how the bytes ended, which TLS does not tell: a FIN without
// a close_notify before it may have been sent by anybody on the way.
//
// It also lets TLS be interrupted, which it takes for the end otherwise: a read that finds nothing may return, and what
// a write was not able to send is kept for flush.
type wire struct {
	*socket
	sawFIN   bool
	glancing bool // Read takes what is there and does not wait
	holding  bool // Write keeps what it was not able to send before its deadline
	held     []byte
	// received, where it is set, is called with each piece of a record: TLS itself tells only of whole ones.
	received func()
	// write, where it is set, stands in for the socket's Write: it is how a slow client's progress is seen below TLS.
	write func([]byte) (int, error)
}

func (w *wire) Read(p []byte) (int, error) {
	if w.glancing {
		return w.readNow(p)
	}
	n, err := w.socket.Read(p)
	if n > 0 && w.received != nil {
		w.received()
	}
	if err == io.EOF {
		w.sawFIN = true
	}
	return n, err
}

// readNow reads what the socket holds. That there is nothing is a deadline that has passed, which TLS survives.
func (w *wire) readNow(p []byte) (int, error) {
	n, err := w.socket.readNow(p)
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
	n, err := w.socket.Write(p)
	if w.holding && errors.Is(err, os.ErrDeadlineExceeded) {
		w.held = append(w.held, p[n:]...)
		return len(p), nil
	}
	return n, err
}

// flush sends what Write has kept. Where it is interrupted too, the rest stays.
func (w *wire) flush() error {
	n, err := w.socket.Write(w.held)
	if w.held = w.held[n:]; len(w.held) == 0 {
		w.held = nil // it is large, and the connection may soon be at rest
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}
