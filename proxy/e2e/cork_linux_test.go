package e2e

import (
	"net"
	"syscall"
	"testing"
)

// cork keeps what is sent on conn until FIN, which then goes out in one packet with the last of it.
func cork(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err == nil {
		var optErr error
		err = raw.Control(func(fd uintptr) { optErr = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CORK, 1) })
		if err == nil {
			err = optErr
		}
	}
	if err != nil {
		t.Fatalf("cork a connection: %v", err)
	}
}
