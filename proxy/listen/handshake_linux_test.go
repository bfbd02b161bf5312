package listen

import (
	"encoding/binary"
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

// TestHalfMade: a handshake that has begun is seen, and no longer once it has ended, whichever way the system is asked.
func TestHalfMade(t *testing.T) {
	if cookies, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_syncookies"); strings.TrimSpace(string(cookies)) == "2" {
		t.Skip("the system answers with SYN cookies always, and remembers nothing")
	}
	for _, way := range []struct {
		name string
		look func(t *testing.T, l *Listener) bool
	}{
		{"asked", func(t *testing.T, l *Listener) bool {
			found, err := askHalfMade(l.Addr().(*net.TCPAddr))
			if err != nil {
				t.Skipf("the system cannot be asked: %v", err)
			}
			return found
		}},
		{"read", func(_ *testing.T, l *Listener) bool { return l.readHalfMade() }},
		{"either", func(_ *testing.T, l *Listener) bool { return l.halfMade() }},
	} {
		for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
			t.Run(way.name+" "+address, func(t *testing.T) { testHalfMade(t, address, way.look) })
		}
	}
}

func testHalfMade(t *testing.T, address string, look func(t *testing.T, l *Listener) bool) {
	l, to := openListener(t, address)
	other, _ := openListener(t, address)
	if look(t, l) {
		t.Fatal("half made with nobody there")
	}
	for range 50 { // the ACK comes by itself after a while, before there was time to look
		conn, err := (&net.Dialer{Control: lateACK}).Dial("tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		seen := look(t, l)
		if look(t, other) {
			t.Fatal("half made at another port")
		}
		passes(t, conn, l)
		conn.Close()
		if look(t, l) {
			t.Fatal("half made after the handshake")
		}
		if seen {
			return
		}
	}
	t.Error("a handshake that had begun was not seen")
}

// TestHalfMadeAnswer: what the kernel says otherwise than with sockets, or their end, is an error, so that the table is read.
func TestHalfMadeAnswer(t *testing.T) {
	message := func(kind uint16, body ...byte) []byte {
		m := make([]byte, unix.SizeofNlMsghdr)
		binary.NativeEndian.PutUint32(m, uint32(len(m)+len(body)))
		binary.NativeEndian.PutUint16(m[4:], kind)
		return append(m, body...)
	}
	errno := int32(unix.ENOENT)
	noEntry := binary.NativeEndian.AppendUint32(nil, uint32(-errno))
	for _, tt := range []struct {
		name   string
		answer []byte
		found  bool
		err    string // a part of it; "": none
	}{
		{"a socket", message(unix.SOCK_DIAG_BY_FAMILY, make([]byte, 72)...), true, ""},
		{"none", message(unix.NLMSG_DONE, 0, 0, 0, 0), false, ""},
		{"no such table", message(unix.NLMSG_ERROR, noEntry...), false, unix.ENOENT.Error()},
		{"an error that is cut", message(unix.NLMSG_ERROR), false, "ask the kernel"},
		{"nothing", nil, false, "not a netlink message"},
		{"half a head", make([]byte, 8), false, "not a netlink message"},
		{"another message", message(unix.NLMSG_NOOP), false, "of type 1"},
	} {
		found, err := halfMadeAnswer(tt.answer)
		if found != tt.found || (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: got %v, %v; want %v and an error with %q", tt.name, found, err, tt.found, tt.err)
		}
	}
}
