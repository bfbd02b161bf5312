package proxy

import (
	"bytes"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"whsentry/proxy/socket"

	"github.com/rs/zerolog"
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

// A proxy may begin to stop at any moment of a request, also between its end and the wait for the next one.
func TestStoppingAtAnyMoment(t *testing.T) {
	var log lockedBuffer
	p := startForBench(t, nil)
	logging := *p.run.Load()
	logging.log = zerolog.New(&log)
	p.run.Store(&logging)
	t.Cleanup(func() { p.closing.Store(false) })

	var flips sync.WaitGroup
	done := make(chan struct{})
	flips.Go(func() { // until done
		for {
			select {
			case <-done:
				return
			case <-time.After(50 * time.Microsecond): // about as long as a request takes
				p.closing.Store(true)
				runtime.Gosched()
				p.closing.Store(false)
			}
		}
	})
	addr := p.Addrs()[0].String()
	request := []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n") // refused, which is quick
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if _, err := conn.Write(request); err != nil {
				break
			}
			if _, err := conn.Read(make([]byte, 4*kiB)); err != nil {
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
	p := startForBench(t, nil)
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
	c, err := newClient(p, p.listeners[0], conn.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	c.limit(0)
	c.deadline.Expire(socket.Now(), c.tcp)
	if err := c.write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if due, at := c.deadline.Due(), socket.Now(); due > at {
		t.Errorf("got a limit in %v; want one that has passed", time.Duration(due-at))
	}
}
