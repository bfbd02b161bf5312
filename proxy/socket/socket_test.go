package socket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// tcpPair returns both ends of a connection.
func tcpPair(t *testing.T) (near *Conn, far *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	t.Cleanup(func() { ln.Close() })
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
	near, err = New(conn.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	return near, accepted.(*net.TCPConn)
}

// OnStall tells of a write that has to wait, once, and of no other.
func TestOnStall(t *testing.T) {
	near, far := tcpPair(t)
	stalls, began := 0, make(chan struct{})
	near.OnStall(func() {
		stalls++
		close(began)
	})
	if _, err := near.Write([]byte("x")); err != nil || stalls != 0 {
		t.Fatalf("got %d stalls (%v) of a byte; want none", stalls, err)
	}
	const large = 64 << 20 // more than the system takes
	done := make(chan error)
	go func() { // awaited below
		_, err := near.Write(make([]byte, large))
		done <- err
	}()
	<-began
	if _, err := io.CopyN(io.Discard, far, large+1); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || stalls != 1 {
		t.Errorf("got %d stalls (%v); want 1", stalls, err)
	}
}

// A tunnel at rest holds no buffer: a reader has one only while there are bytes in it.
func TestReaderHoldsNoBufferAtRest(t *testing.T) {
	near, far := tcpPair(t)
	r := NewReader(near)
	read := make(chan error)
	step := make(chan struct{})
	go func() { // awaited below
		for range 2 {
			read <- r.Read()
			<-step
		}
	}()
	io.WriteString(far, "hello")
	if err := <-read; err != nil || string(r.Bytes()) != "hello" {
		t.Fatalf("got %v; want hello", err)
	}
	r.Release()
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
	r := NewReader(near)
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
	go func() { ended <- r.Read() }() // awaited below
	if !<-waited {
		t.Errorf("a reader that waits holds a buffer")
	}
	io.WriteString(far, "x")
	if err := <-ended; err != nil || r.n != 1 {
		t.Errorf("got %d bytes and %v; want 1", r.n, err)
	}
	r.Release()
}

// Where much flows more of it is read at once, into one of a bounded number of large buffers.
func TestReaderBulk(t *testing.T) {
	for _, tt := range []struct {
		name        string
		taken, want int
	}{
		{"a large buffer is free", 0, bulkBufferSize},
		{"none is free", bulkBuffers, copyBufferSize},
	} {
		near, far := tcpPair(t)
		var others []*[]byte
		for range tt.taken {
			others = append(others, acquireBulkBuffer())
		}
		sent := make(chan error, 1)
		go func() { // awaited below
			_, err := far.Write(make([]byte, 64*bulkBufferSize))
			far.Close()
			sent <- err
		}()
		r := NewReader(near)
		most, sum := 0, 0
		for r.Read() == nil {
			sum += len(r.Bytes())
			most = max(most, len(*r.buf))
			r.Release()
		}
		r.Release()
		if err := <-sent; err != nil || sum != 64*bulkBufferSize || most != tt.want {
			t.Errorf("%s: read %d bytes (%v), in buffers of %d at most; want %d, in %d", tt.name, sum, err, most, 64*bulkBufferSize, tt.want)
		}
		for _, b := range others {
			releaseBulkBuffer(b)
		}
		if n := bulkInUse.Load(); n != 0 {
			t.Errorf("%s: %d large buffers are in use after all were released", tt.name, n)
		}
	}
}

func TestReaderPassesErrorsOn(t *testing.T) {
	near, far := tcpPair(t)
	far.SetLinger(0)
	far.Close()
	if err := NewReader(near).Read(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v; want a reset", err)
	}
	near.Close()
	if err := NewReader(near).Read(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v; want that it is closed", err)
	}
}

func TestDeadline(t *testing.T) {
	near, far := tcpPair(t)
	var d Deadline
	d.Set(Never, near)
	d.Expire(Now(), near)
	if d.Passed() {
		t.Fatalf("a deadline that never comes has passed")
	}
	d.Set(Now()+int64(time.Hour), near)
	d.Expire(Now(), near)
	if d.Passed() {
		t.Fatalf("a deadline in an hour has passed")
	}
	for range 3 { // it can pass again and again, and each time be undone
		ended := make(chan error, 1)
		go func() { // awaited below
			_, err := near.Read(make([]byte, 1))
			ended <- err
		}()
		d.Set(Now(), near)
		d.Expire(Now(), near)
		var timeout net.Error
		if err := <-ended; !errors.As(err, &timeout) || !timeout.Timeout() || !d.Passed() {
			t.Errorf("got %v, passed %v; want a timeout", err, d.Passed())
		}
		d.Set(Never, near)
		if d.Passed() {
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
	var d Deadline
	d.Set(Never, near)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				d.Expire(Now(), near)
			}
		}
	}()
	b := make([]byte, 1)
	for range 2000 {
		d.Set(Now(), near) // it passes about now
		d.Set(Never, near)
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
		want Input
	}{
		{"nothing", func(*net.TCPConn) {}, Quiet},
		{"bytes", func(far *net.TCPConn) { io.WriteString(far, "x") }, Data},
		{"FIN", func(far *net.TCPConn) { far.CloseWrite() }, Closed},
		{"closed", func(far *net.TCPConn) { far.Close() }, Closed},
		{"bytes and FIN", func(far *net.TCPConn) { io.WriteString(far, "x"); far.Close() }, Ending},
		{"RST", func(far *net.TCPConn) { far.SetLinger(0); far.Close() }, Failed},
		{"bytes and RST", func(far *net.TCPConn) { io.WriteString(far, "x"); far.SetLinger(0); far.Close() }, Failed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			near, far := tcpPair(t)
			p := near.NewProber()
			tt.do(far)
			waitFor(t, fmt.Sprintf("%d to be found", tt.want), func() bool { return p.Look() == tt.want })
			if got := p.Look(); tt.want != Failed && got != tt.want {
				t.Errorf("got %d the second time; want %d", got, tt.want)
			}
			near.Close()
			if got := p.Look(); got != Failed {
				t.Errorf("got %d of a closed one; want that it failed", got)
			}
		})
	}
}
