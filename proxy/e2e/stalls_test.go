package e2e

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stalls notes when this process, of which the proxy is a part, has stood still: what is to happen within a time that
// the proxy lays down may then come too late, through nobody's fault.
type stalls struct {
	limit       time.Duration
	seen, ended atomic.Int64 // UnixNano: when the process last ran, and when a stall last ended
}

// toGone is a stall of which a client that has sent its FIN may be taken for gone: the proxy waits 250 ms.
const toGone = 100 * time.Millisecond

// watchStalls notes, until the test ends, every stall of limit or more.
func watchStalls(t *testing.T, limit time.Duration) *stalls {
	s := &stalls{limit: limit}
	s.seen.Store(time.Now().UnixNano())
	quit, done := make(chan struct{}), make(chan struct{})
	go func() { // until quit; awaited by the test's end
		defer close(done)
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-quit:
				tick.Stop()
				return
			case <-tick.C:
				at := time.Now().UnixNano()
				if at-s.seen.Load() >= int64(limit) {
					s.ended.Store(at)
				}
				s.seen.Store(at) // after ended, for since
			}
		}
	}()
	t.Cleanup(func() {
		close(quit)
		<-done
	})
	return s
}

// since reports whether the process has stood still since then.
func (s *stalls) since(then time.Time) bool {
	seen := s.seen.Load()
	return time.Now().UnixNano()-seen >= int64(s.limit) || s.ended.Load() >= then.UnixNano()
}

// waitArrived waits until what was sent on conn, and its end, has come to the other side's system.
func waitArrived(conn net.Conn) {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		left := 0
		if raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) }) != nil || err != nil || left == 0 {
			return
		}
	}
}

// unlessStalled makes a try, whose problems count unless the process has stood still in it, for longer than a proxy that
// stops waits for its clients: then there is another, a few times.
func unlessStalled(t *testing.T, try func(t *testing.T) (problems []string)) {
	t.Helper()
	stalled := watchStalls(t, 400*time.Millisecond)
	for range 5 {
		began := time.Now()
		problems := try(t)
		if len(problems) == 0 {
			return
		}
		if !stalled.since(began) {
			t.Fatal(strings.Join(problems, "\n"))
		}
	}
	t.Fatal("the process stood still in every try")
}
