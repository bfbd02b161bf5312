package listen

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// failingListener fails with errs, one after another, and then lets the listener below accept.
type failingListener struct {
	net.Listener
	errs  []error
	calls int
}

func (l *failingListener) Accept() (net.Conn, error) {
	l.calls++
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, err
	}
	return l.Listener.Accept()
}

// acceptError is an error as net returns it.
func acceptError(errno syscall.Errno) error {
	return &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", errno)}
}

func newListener(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// Running out of descriptors or memory, for a moment, does not end a listener.
func TestPatientListener(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		t.Run(errno.Error(), func(t *testing.T) {
			t.Parallel()
			failing := &failingListener{Listener: newListener(t), errs: []error{acceptError(errno), acceptError(errno), acceptError(errno)}}
			l := &patient{Listener: failing}
			client, err := net.Dial("tcp", failing.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			began := time.Now()
			conn, err := l.Accept()
			if err != nil {
				t.Fatalf("Accept: %v", err)
			}
			conn.Close()
			if failing.calls != 4 {
				t.Errorf("got %d calls; want 4", failing.calls)
			}
			if took := time.Since(began); took < 7*firstPatience {
				t.Errorf("got there after %v; want %v of waiting at least", took, 7*firstPatience)
			}
		})
	}
}

// A shortage is told of, but not every attempt that it makes fail.
func TestPatientListenerReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const attempts = 100
		failing := &failingListener{}
		for range attempts {
			failing.errs = append(failing.errs, acceptError(syscall.EMFILE))
		}
		failing.errs = append(failing.errs, net.ErrClosed)
		reports, failed := 0, 0
		l := &patient{Listener: failing, report: func(err error, n int) {
			if !errors.Is(err, syscall.EMFILE) {
				t.Errorf("got the report of %v; want EMFILE", err)
			}
			reports++
			failed += n
		}}
		began := time.Now()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v; want net.ErrClosed", err)
		}
		if most := int(time.Since(began)/shortageInterval) + 1; reports < 2 || reports > most {
			t.Errorf("got %d reports in %v; want 2 to %d", reports, time.Since(began), most)
		}
		if failed > attempts || failed < attempts-int(shortageInterval/mostPatience) {
			t.Errorf("got %d attempts reported; want all of %d but those since the last report", failed, attempts)
		}
	})
}

func TestPatientListenerGivesUp(t *testing.T) {
	broken := errors.New("broken")
	for _, err := range []error{net.ErrClosed, acceptError(syscall.EBADF), acceptError(syscall.EINVAL), fmt.Errorf("accept: %w", broken)} {
		failing := &failingListener{Listener: newListener(t), errs: []error{err}}
		if _, got := (&patient{Listener: failing}).Accept(); !errors.Is(got, err) {
			t.Errorf("got %v; want %v at once", got, err)
		}
	}
}

// Close ends an Accept that waits for descriptors as well as one that waits for a client.
func TestPatientListenerCloses(t *testing.T) {
	for _, name := range []string{"waiting for a client", "waiting for descriptors"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failing := &failingListener{Listener: newListener(t)}
			if name == "waiting for descriptors" {
				for range 1000 {
					failing.errs = append(failing.errs, acceptError(syscall.EMFILE))
				}
			}
			l := &patient{Listener: failing}
			ended := make(chan error, 1)
			go func() { // awaited below
				_, err := l.Accept()
				ended <- err
			}()
			time.Sleep(20 * time.Millisecond) // so that it waits; if it does not yet, the test still holds
			if err := l.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if err := <-ended; err != io.EOF { // as it is: fasthttp compares
				t.Errorf("got %v; want io.EOF", err)
			}
			if err := l.Close(); err == nil {
				t.Errorf("got no error from a second Close")
			}
		})
	}
}

func TestListenSaysWhy(t *testing.T) {
	ln := newListener(t)
	if _, err := Open(Config{Type: HTTP, Address: ln.Addr().String()}, nil); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v; want that the address is in use", err)
	}
	if _, err := Open(Config{Type: HTTP, Address: "192.0.2.1:0"}, nil); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("got %v; want that it is no address of this host", err)
	}
}

func TestReusePort(t *testing.T) {
	cfg := Config{Type: HTTP, Address: "127.0.0.1:0", ReusePort: true}
	first, err := Open(cfg, nil)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	defer first.Close()
	cfg.Address = first.Addr().String()
	second, err := Open(cfg, nil)
	if err != nil {
		t.Fatalf("listen a second time: %v", err)
	}
	second.Close()
	cfg.ReusePort = false
	if third, err := Open(cfg, nil); err == nil {
		third.Close()
		t.Errorf("got no error for one that does not share")
	}
}
