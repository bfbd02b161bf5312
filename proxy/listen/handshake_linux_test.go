package listen

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lateACK has the system hold back the ACK that ends a connection's handshake, for 200 ms or until something is sent.
func lateACK(_, _ string, raw syscall.RawConn) error {
	var err error
	controlErr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0) })
	return errors.Join(controlErr, err)
}

// openListener returns a listener, and where clients find it: over IPv4 too where it listens on both.
func openListener(t *testing.T, address string) (l *Listener, to string) {
	t.Helper()
	l, err := Open(Config{Type: HTTP, Address: address}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if a := l.Addr().(*net.TCPAddr); a.IP.IsUnspecified() {
		return l, fmt.Sprintf("127.0.0.1:%d", a.Port)
	}
	return l, l.Addr().String()
}

// TestIgnoreNew: who comes late is not connected, and refused in the end; a connection that was made, and one that was
// half made, go on as if nothing had happened.
func TestIgnoreNew(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		t.Run(address, func(t *testing.T) {
			l, to := openListener(t, address)
			made, err := net.Dial("tcp", to)
			if err != nil {
				t.Fatal(err)
			}
			defer made.Close()
			half, err := (&net.Dialer{Control: lateACK}).Dial("tcp", to)
			if err != nil {
				t.Fatal(err)
			}
			defer half.Close()
			if !l.ignoreNew() {
				t.Fatal("the system ignores nobody")
			}
			late := &net.Dialer{Timeout: 200 * time.Millisecond} // below the second after which it is asked again
			var timeout net.Error
			if conn, err := late.Dial("tcp", to); !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("got %v, %v for a new connection; want no answer", conn, err)
			}
			for _, client := range []net.Conn{made, half} {
				passes(t, client, l)
			}
			if l.waiting() {
				t.Error("there is one more connection than were made before")
			}
			l.Close()
			if conn, err := net.Dial("tcp", to); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("got %v, %v once it is closed; want it refused", conn, err)
			}
		})
	}
}

// passes holds a connection, which l is yet to accept, to passing bytes both ways.
func passes(t *testing.T, client net.Conn, l *Listener) {
	t.Helper()
	client.SetDeadline(time.Now().Add(10 * time.Second))
	l.tcp.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(client, "ping"); err != nil {
		t.Fatal(err)
	}
	conn, err := l.tcp.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	var got [4]byte
	if _, err := io.ReadFull(conn, got[:]); err != nil || string(got[:]) != "ping" {
		t.Fatalf("got %q, %v; want ping", got, err)
	}
	if _, err := io.WriteString(conn, "pong"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(client, got[:]); err != nil || string(got[:]) != "pong" {
		t.Fatalf("got %q, %v; want pong", got, err)
	}
}

// TestHalfMade: a handshake that has begun is seen, and no longer once it has ended.
func TestHalfMade(t *testing.T) {
	if cookies, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_syncookies"); strings.TrimSpace(string(cookies)) == "2" {
		t.Skip("the system answers with SYN cookies always, and remembers nothing")
	}
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		t.Run(address, func(t *testing.T) {
			l, to := openListener(t, address)
			if l.halfMade() {
				t.Fatal("half made with nobody there")
			}
			seen := false
			for range 50 { // the ACK comes by itself after a while, before there was time to look
				conn, err := (&net.Dialer{Control: lateACK}).Dial("tcp", to)
				if err != nil {
					t.Fatal(err)
				}
				seen = l.halfMade()
				passes(t, conn, l)
				conn.Close()
				if l.halfMade() {
					t.Fatal("half made after the handshake")
				}
				if seen {
					break
				}
			}
			if !seen {
				t.Error("a handshake that had begun was not seen")
			}
		})
	}
}
