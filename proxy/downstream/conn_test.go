package downstream

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"whsentry/proxy/socket"
)

// lockedBuffer is a log that several goroutines write to.
type lockedBuffer struct {
	mu sync.Mutex // guards the following
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A server may begin to stop at any moment of a request, also between its end and the wait for the next one.
func TestStoppingAtAnyMoment(t *testing.T) {
	var log lockedBuffer
	s := startServer(t, &log, func(*Config) {}, answers)

	var flips sync.WaitGroup
	done := make(chan struct{})
	flips.Go(func() { // until done
		for {
			select {
			case <-done:
				return
			case <-time.After(50 * time.Microsecond): // about as long as a request takes
				s.closing.Store(true)
				runtime.Gosched()
				s.closing.Store(false)
			}
		}
	})
	addr := s.Listeners()[0].Addr().String()
	request := []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if _, err := conn.Write(request); err != nil {
				break
			}
			if _, err := conn.Read(make([]byte, 4<<10)); err != nil {
				break
			}
		}
		conn.Close()
	}
	close(done)
	flips.Wait()
	if got := log.String(); got != "" {
		t.Errorf("got in the log: %.300s", got)
	}
}

// A limit that passes while TLS writes of its own accord, as an answer to a client's key update, has passed for the
// read that it was for.
func TestWritingDoesNotLiftALimitThatHasPassed(t *testing.T) {
	s := startServer(t, io.Discard, func(*Config) {}, answers)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := new(stub)
	if err := c.open(s.Listeners()[0], c, conn.(*net.TCPConn)); err != nil {
		t.Fatal(err)
	}
	c.Limit(0)
	c.deadline.Expire(socket.Now(), c.tcp)
	if err := c.Send([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if due, at := c.deadline.Due(), socket.Now(); due > at {
		t.Errorf("got a limit in %v; want one that has passed", time.Duration(due-at))
	}
}
