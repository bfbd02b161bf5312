package guard

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// crowdedListener returns where something listens whose queue is full, so that the system answers no SYN, and what makes
// room in it: a SYN that is sent again, a second after the first, is then answered. So it is as with whoever is far away:
// connect(2) returns long before the connection is made, as it never does otherwise on one machine.
func crowdedListener(t *testing.T, family int, host unix.Sockaddr) (to netip.AddrPort, makeRoom func()) {
	t.Helper()
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no such sockets here: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, host), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	to = addressOf(uintptr(fd), unix.SYS_GETSOCKNAME)
	first, err := net.Dial("tcp", to.String()) // a queue of 0 has room for one
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Close() })
	return to, func() {
		conn, _, err := unix.Accept(fd)
		if err != nil {
			t.Error(err)
			return
		}
		unix.Close(conn)
	}
}

// TestConnectThatTakesAWhile makes connections whose SYN-ACK is waited for.
func TestConnectThatTakesAWhile(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		family int
		host   unix.Sockaddr
	}{
		{"IPv4", unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}},
		{"IPv6", unix.AF_INET6, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			to, makeRoom := crowdedListener(t, row.family, row.host)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			time.AfterFunc(100*time.Millisecond, makeRoom)
			conn, err := dialTCP(ctx, to, netip.Addr{})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if conn.Peer() != to || conn.RemoteAddr().String() != to.String() {
				t.Errorf("connected to %s, %s; want %s", conn.Peer(), conn.RemoteAddr(), to)
			}
			cancel() // what has been made is not undone by it
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Errorf("write: %v", err)
			}
		})
	}
	t.Run("given up", func(t *testing.T) {
		t.Parallel()
		to, _ := crowdedListener(t, unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		if conn, err := dialTCP(ctx, to, netip.Addr{}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, %v; want %v", conn, err, context.Canceled)
		}
	})
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		nobody := ln.Addr().(*net.TCPAddr).AddrPort()
		ln.Close()
		if conn, err := dialTCP(t.Context(), nobody, netip.Addr{}); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("got %v, %v; want %v", conn, err, unix.ECONNREFUSED)
		}
	})
}
