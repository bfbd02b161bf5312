package guard

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// bindAddressNoPort leaves the choice of the source port to connect(2), which takes the destination into
// account. bind(2) cannot, and would run out of ports after 28,000 connections to all destinations together.
func bindAddressNoPort(c syscall.RawConn) {
	// An error means a kernel before 4.2, where connections still work, only fewer of them.
	_ = c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
}
