package listen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// askHalfMade asks the kernel whether a connection to that address' port, of whichever address of its family, is half
// made. The error is for kernels that have no such answer, and sandboxes that let nobody ask.
//
// It is the kernel that looks for the sockets here (sock_diag(7)). The table in /proc has a line for each socket of the
// host, and with those that wait for their end (TIME_WAIT) there may be very many: 18,000 take 50 ms to write.
func askHalfMade(address *net.TCPAddr) (bool, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return false, fmt.Errorf("open a socket to ask the kernel about its sockets: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, halfMadeQuestion(address), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return false, fmt.Errorf("ask the kernel about its sockets: %w", err)
	}
	answer := make([]byte, 8<<10)
	n, _, err := unix.Recvfrom(fd, answer, unix.MSG_DONTWAIT) // the kernel has answered when Sendto returns
	if err != nil {
		return false, fmt.Errorf("read what the kernel says of its sockets: %w", err)
	}
	return halfMadeAnswer(answer[:n])
}

// halfMadeQuestion is a netlink message with an inet_diag_req_v2 (include/uapi/linux/inet_diag.h in Linux).
func halfMadeQuestion(address *net.TCPAddr) []byte {
	const (
		headLength, length = unix.SizeofNlMsghdr, unix.SizeofNlMsghdr + 56

		// TCP_SYN_RECV and TCP_NEW_SYN_RECV, which is what most are inside the kernel.
		states = 1<<3 | 1<<12
	)
	family := byte(unix.AF_INET6)
	if address.IP.To4() != nil {
		family = unix.AF_INET
	}
	m := make([]byte, length)
	binary.NativeEndian.PutUint32(m[0:], length)
	binary.NativeEndian.PutUint16(m[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(m[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	m[headLength], m[headLength+1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(m[headLength+4:], states)
	binary.BigEndian.PutUint16(m[headLength+8:], address.AddrPort().Port()) // the local port
	return m
}

// halfMadeAnswer reports whether the first message of an answer tells of a socket: the others are of no interest.
func halfMadeAnswer(answer []byte) (bool, error) {
	if len(answer) < unix.SizeofNlMsghdr {
		return false, errors.New("read what the kernel says of its sockets: not a netlink message")
	}
	switch kind := binary.NativeEndian.Uint16(answer[4:]); kind {
	case unix.SOCK_DIAG_BY_FAMILY:
		return true, nil
	case unix.NLMSG_DONE:
		return false, nil
	case unix.NLMSG_ERROR:
		var errno syscall.Errno
		if body := answer[unix.SizeofNlMsghdr:]; len(body) >= 4 {
			errno = syscall.Errno(-int32(binary.NativeEndian.Uint32(body)))
		}
		return false, fmt.Errorf("ask the kernel about its sockets: %w", errno)
	default:
		return false, fmt.Errorf("read what the kernel says of its sockets: a message of type %d; want %d", kind, unix.SOCK_DIAG_BY_FAMILY)
	}
}
