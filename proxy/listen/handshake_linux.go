package listen

import (
	"net"

	"golang.org/x/sys/unix"
)

// ignoreNew has the system ignore requests for new connections to l, and reports whether it could. Connections that are
// made stay, and those that are half made can still be. A client that is ignored asks again after a second (RFC 6298
// section 2.1), and is refused then, or finds whoever has taken l's place.
//
// A socket that listens cannot be closed without loss else: between the last look for a connection that waits and the
// close there may come one, and it is reset, though its client may have sent a request by then.
func (l *Listener) ignoreNew() bool {
	// The program sees segments from the TCP header on. Connections inherit it: a client that has forgotten one, and asks
	// for it anew, gets no answer while the proxy stops.
	const flags, syn, ack = 13, 1 << 1, 1 << 4 // RFC 9293 section 3.1
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: flags},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: syn | ack},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: syn, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1},
	}
	var err error
	controlErr := l.raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
	return controlErr == nil && err == nil
}

// halfMade reports whether the handshake of a connection to l's port has begun, and not ended: its client takes it for
// made once the answer has reached it, and may have sent a request. What the system answers with SYN cookies, in a flood
// or where it always does, is not seen.
func (l *Listener) halfMade() bool {
	found, err := askHalfMade(l.Addr().(*net.TCPAddr))
	if err != nil {
		return l.readHalfMade()
	}
	return found
}

// readHalfMade is halfMade by way of the system's table of sockets.
func (l *Listener) readHalfMade() bool {
	table, err := l.socketTable()
	if err != nil {
		return false
	}
	defer table.Close()
	return hasHalfMade(table, l.Addr().(*net.TCPAddr).AddrPort().Port())
}
