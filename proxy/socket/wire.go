package socket

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// Wire is a TCP connection with TLS above it. It notes how the bytes ended, which TLS does not tell: a FIN without
// a close_notify before it may have been sent by anybody on the way.
//
// It also lets TLS be interrupted, which it takes for the end otherwise: a read that finds nothing may return, and what
// a write was not able to send is kept for Flush.
type Wire struct {
	*Conn
	// Received, where it is set, is called with each piece of a record: TLS itself tells only of whole ones.
	Received func()
	// WriteBelow, where it is set, stands in for the Conn's Write: it is how a slow peer's progress is seen below TLS.
	WriteBelow func([]byte) (int, error)
	// Glancing makes Read take what is there and not wait: that there is nothing is os.ErrDeadlineExceeded, which TLS
	// survives.
	Glancing bool
	// Talking ends Glancing as soon as TLS has something to say, as it has where the peer asks for another handshake.
	Talking bool
	// Holding makes Write keep what it was not able to send before its deadline.
	Holding bool

	sawFIN bool
	held   []byte
}

// SawFIN reports whether the peer has sent FIN, and TLS has come upon it.
func (w *Wire) SawFIN() bool { return w.sawFIN }

// Held reports whether Write has kept something that Flush is to send.
func (w *Wire) Held() bool { return len(w.held) > 0 }

func (w *Wire) Read(p []byte) (int, error) {
	if w.Glancing {
		return w.readNow(p)
	}
	n, err := w.Conn.Read(p)
	if n > 0 && w.Received != nil {
		w.Received()
	}
	if err == io.EOF {
		w.sawFIN = true
	}
	return n, err
}

// readNow reads what the socket holds. That there is nothing is a deadline that has passed, which TLS survives.
func (w *Wire) readNow(p []byte) (int, error) {
	n, err := w.Conn.ReadNow(p)
	switch err {
	case syscall.EAGAIN:
		return 0, os.ErrDeadlineExceeded
	case io.EOF:
		w.sawFIN = true
	}
	if n > 0 && w.Received != nil {
		w.Received()
	}
	return n, err
}

func (w *Wire) Write(p []byte) (int, error) {
	if w.Talking {
		w.Glancing = false
	}
	switch {
	case w.WriteBelow != nil:
		return w.WriteBelow(p)
	case len(w.held) > 0:
		w.held = append(w.held, p...)
		return len(p), nil
	}
	n, err := w.Conn.Write(p)
	if w.Holding && errors.Is(err, os.ErrDeadlineExceeded) {
		w.held = append(w.held, p[n:]...)
		return len(p), nil
	}
	return n, err
}

// Flush sends what Write has kept. Where it is interrupted too, the rest stays.
func (w *Wire) Flush() error {
	n, err := w.Conn.Write(w.held)
	if w.held = w.held[n:]; len(w.held) == 0 {
		w.held = nil // it is large, and the connection may soon be at rest
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}
