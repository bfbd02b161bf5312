package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// tcpPair returns both ends of a connection.
func tcpPair(t *testing.T) (near *socket, far *net.TCPConn) {
	t.Helper()
	ln := newListener(t)
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	t.Cleanup(func() { accepted.Close() })
	near, err = newSocket(conn.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	return near, accepted.(*net.TCPConn)
}

// A tunnel at rest holds no buffer: a reader has one only while there are bytes in it.
func TestReaderHoldsNoBufferAtRest(t *testing.T) {
	near, far := tcpPair(t)
	r := newReader(near)
	read := make(chan error)
	step := make(chan struct{})
	go func() { // awaited below
		for range 2 {
			read <- r.read()
			<-step
		}
	}()
	io.WriteString(far, "hello")
	if err := <-read; err != nil || string((*r.buf)[:r.n]) != "hello" {
		t.Fatalf("got %v; want hello", err)
	}
	r.release()
	if r.buf != nil {
		t.Errorf("the buffer is still held after release")
	}
	step <- struct{}{}
	far.Close()
	if err := <-read; err != io.EOF || r.n != 0 {
		t.Errorf("got %d bytes and %v; want EOF", r.n, err)
	}
	step <- struct{}{}
}

// While it waits, it holds none either.
func TestReaderWaitsWithoutABuffer(t *testing.T) {
	near, far := tcpPair(t)
	r := newReader(near)
	waited := make(chan bool, 1)
	ready := r.ready
	r.ready = func(fd uintptr) bool { // called once before it waits, and again once it has waited
		done := ready(fd)
		if !done {
			select {
			case waited <- r.buf == nil:
			default:
			}
		}
		return done
	}
	ended := make(chan error, 1)
	go func() { ended <- r.read() }() // awaited below
	if !<-waited {
		t.Errorf("a reader that waits holds a buffer")
	}
	io.WriteString(far, "x")
	if err := <-ended; err != nil || r.n != 1 {
		t.Errorf("got %d bytes and %v; want 1", r.n, err)
	}
	r.release()
}

func TestReaderPassesErrorsOn(t *testing.T) {
	near, far := tcpPair(t)
	far.SetLinger(0)
	far.Close()
	if err := newReader(near).read(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v; want a reset", err)
	}
	near.Close()
	if err := newReader(near).read(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v; want that it is closed", err)
	}
}

func TestDeadline(t *testing.T) {
	near, far := tcpPair(t)
	var d deadline
	d.set(never, near)
	d.expire(now(), near)
	if d.passed() {
		t.Fatalf("a deadline that never comes has passed")
	}
	d.set(now()+int64(time.Hour), near)
	d.expire(now(), near)
	if d.passed() {
		t.Fatalf("a deadline in an hour has passed")
	}
	for range 3 { // it can pass again and again, and each time be undone
		ended := make(chan error, 1)
		go func() { // awaited below
			_, err := near.Read(make([]byte, 1))
			ended <- err
		}()
		d.set(now(), near)
		d.expire(now(), near)
		var timeout net.Error
		if err := <-ended; !errors.As(err, &timeout) || !timeout.Timeout() || !d.passed() {
			t.Errorf("got %v, passed %v; want a timeout", err, d.passed())
		}
		d.set(never, near)
		if d.passed() {
			t.Errorf("a deadline that was moved has passed")
		}
		io.WriteString(far, "x")
		if n, err := near.Read(make([]byte, 1)); n != 1 {
			t.Errorf("got %d bytes and %v after the deadline was moved; want 1", n, err)
		}
	}
}

// The owner moves its deadline while the sweeper finds that it has passed: whoever wins, what the owner does next
// is not ended by a deadline that it has moved.
func TestDeadlineRace(t *testing.T) {
	near, far := tcpPair(t)
	go io.Copy(far, far) // an echo; ends with the connection
	var d deadline
	d.set(never, near)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				d.expire(now(), near)
			}
		}
	}()
	b := make([]byte, 1)
	for range 2000 {
		d.set(now(), near) // it passes about now
		d.set(never, near)
		if _, err := near.Write(b); err != nil {
			t.Errorf("write: %v", err)
			break
		}
		if _, err := near.Read(b); err != nil {
			t.Errorf("read: %v", err)
			break
		}
	}
	close(stop)
	<-stopped
}

func TestProber(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(far *net.TCPConn)
		want probe
	}{
		{"nothing", func(*net.TCPConn) {}, probeQuiet},
		{"bytes", func(far *net.TCPConn) { io.WriteString(far, "x") }, probeData},
		{"FIN", func(far *net.TCPConn) { far.CloseWrite() }, probeClosed},
		{"closed", func(far *net.TCPConn) { far.Close() }, probeClosed},
		{"bytes and FIN", func(far *net.TCPConn) { io.WriteString(far, "x"); far.Close() }, probeEnding},
		{"RST", func(far *net.TCPConn) { far.SetLinger(0); far.Close() }, probeFailed},
		{"bytes and RST", func(far *net.TCPConn) { io.WriteString(far, "x"); far.SetLinger(0); far.Close() }, probeFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			near, far := tcpPair(t)
			p := newProber(near.raw)
			tt.do(far)
			waitFor(t, fmt.Sprintf("%d to be found", tt.want), func() bool { return p.probe() == tt.want })
			if got := p.probe(); tt.want != probeFailed && got != tt.want {
				t.Errorf("got %d the second time; want %d", got, tt.want)
			}
			near.Close()
			if got := p.probe(); got != probeFailed {
				t.Errorf("got %d of a closed one; want that it failed", got)
			}
		})
	}
}
