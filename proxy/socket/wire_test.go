package socket

import (
	"errors"
	"io"
	"os"
	"testing"
)

// A glance finds nothing at once; but where TLS has something to say, as in a handshake that the peer has asked for, it
// waits for the answer to that.
func TestWireGlance(t *testing.T) {
	near, far := tcpPair(t)
	w := &Wire{Conn: near, Glancing: true}
	b := make([]byte, 10)
	if n, err := w.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %d, %v; want nothing", n, err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := w.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %d, %v after a write; want nothing still, for it must not wait", n, err)
	}
	w.Talking = true
	if _, err := w.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the bytes
		got := make([]byte, 6)
		io.ReadFull(far, got)
		far.Write([]byte("answer"))
	}()
	if n, err := w.Read(b); string(b[:n]) != "answer" || err != nil {
		t.Errorf("got %q, %v; want that it waits for the answer", b[:n], err)
	}
	if w.Written() != 6 {
		t.Errorf("got %d bytes written; want 6", w.Written())
	}
}

// A FIN is told from a close that TLS has announced, which it does not read up to.
func TestWireSawFIN(t *testing.T) {
	near, far := tcpPair(t)
	w := &Wire{Conn: near}
	far.CloseWrite()
	if _, err := w.Read(make([]byte, 1)); err != io.EOF || !w.SawFIN() {
		t.Errorf("got %v, FIN seen: %v; want it seen", err, w.SawFIN())
	}
}
