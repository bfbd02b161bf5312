package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestShutdownServesHalfMade: a client whose ACK has not reached the proxy when it stops takes its connection for made,
// and is served.
func TestShutdownServesHalfMade(t *testing.T) {
	t.Parallel()
	unlessStalled(t, serveHalfMade)
}

func serveHalfMade(t *testing.T) (problems []string) {
	s := start(t, nil)
	o := answering(t, okResponse)
	// The system holds the ACK back, for 200 ms or until something is sent.
	far := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		controlErr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0) })
		return errors.Join(controlErr, err)
	}}
	var clients []*rawClient
	for range 10 {
		conn, err := far.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		clients = append(clients, &rawClient{&rawConn{Conn: conn, r: bufio.NewReader(conn)}})
	}
	ended := s.shutdown(patience)
	eventually(t, "the stop", func() bool { status, _ := s.admin("/readyz"); return status == 503 })
	time.Sleep(50 * time.Millisecond) // what the test is about: nothing comes from them, the ACK neither, and none is given up
	for i, c := range clients {
		if _, err := io.WriteString(c.Conn, post(o, "/", "body")); err != nil {
			problems = append(problems, fmt.Sprintf("client %d: %v", i, err))
		}
	}
	for i, c := range clients {
		if r, err := c.tryReceive("POST"); err != nil || r.code() != 200 || !r.closing {
			problems = append(problems, fmt.Sprintf("client %d: got %+v, %v; want 200 and Connection: close", i, r, err))
		}
	}
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	return problems
}
