package listen

import (
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// portGroup is the sockets that share a port (SO_REUSEPORT), as one of them sees it that is about to leave.
//
// The system gives each of them a part of the connections, and what waits in a socket is reset when that is closed:
// unless the sysctl net.ipv4.tcp_migrate_req is set, or the socket is given no more connections some time before. For
// that, a group can have a program which chooses the socket by its place in the group (SO_ATTACH_REUSEPORT_CBPF). It
// needs no privilege, but a socket is not told its place. It finds it by having all connections go to one place after
// the other, and making one.
type portGroup struct {
	listener *Listener
	// arrives reports whether a connection from that address is given to the listener. It takes the others that are.
	arrives func(from netip.AddrPort) bool

	size, own int // how many sockets there are, and which place is the listener's; size 0: not known yet
}

const (
	largestGroup = 64
	probeTimeout = 200 * time.Millisecond
	probeRounds  = 3
)

// exclude keeps new connections from the listener for as long as no socket joins the group, and some of it stays. It
// reports whether it could: not where nobody else shares the port, nor where the system does not do it.
func (g *portGroup) exclude() bool {
	size := g.count()
	if size < 2 || size > largestGroup {
		return false
	}
	if size != g.size && !g.find(size) {
		detachPrograms(g.listener.raw)
		return false
	}
	return g.attach(allBut(g.own, size)) == nil
}

// find finds the listener's place in a group of that size.
func (g *portGroup) find(size int) bool {
	for range probeRounds {
		for place := range size {
			if g.attach(always(place)) != nil {
				return false
			}
			if g.probe() {
				g.size, g.own = size, place
				return true
			}
		}
	}
	return false
}

// probe reports whether a new connection is given to the listener.
func (g *portGroup) probe() bool {
	d := net.Dialer{Timeout: probeTimeout, KeepAlive: -1}
	conn, err := d.Dial("tcp", g.listener.Addr().String())
	if err != nil {
		return false
	}
	defer conn.Close()
	return g.arrives(unmapped(conn.LocalAddr()))
}

// count counts the sockets that listen on the listener's address, itself included; 0: it is not known.
func (g *portGroup) count() int {
	table, err := g.listener.socketTable()
	if err != nil {
		return 0
	}
	defer table.Close()
	return countListening(table, g.inode())
}

// inode is what the system's table of sockets knows the listener by; "": it is not known.
func (g *portGroup) inode() string {
	var stat unix.Stat_t
	var err error
	if controlErr := g.listener.raw.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &stat) }); controlErr != nil || err != nil {
		return ""
	}
	return strconv.FormatUint(stat.Ino, 10)
}

// attach makes program what chooses a socket of the group, instead of the one so far.
func (g *portGroup) attach(program []unix.SockFilter) error {
	var err error
	controlErr := g.listener.raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
	if controlErr != nil {
		return controlErr
	}
	return err
}

// detachPrograms leaves the choice among the sockets that share raw's port to the system again: whoever joins is to get
// its part, also where one that has left left its program.
func detachPrograms(raw syscall.RawConn) {
	raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0) })
}

// always is the program that chooses that place.
func always(place int) []unix.SockFilter {
	return []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: uint32(place)}}
}

// allBut is the program that chooses one of size places, by chance, but never own.
//
// Once the socket there is closed, the last one takes its place, and the program goes on: it chooses it too, then, for
// where a program names a place that there is not the system chooses as it does without one.
func allBut(own, size int) []unix.SockFilter {
	const random = 0xfffff000 + 56 // SKF_AD_OFF + SKF_AD_RANDOM
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: random},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(size - 1)},
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: uint32(own), Jt: 0, Jf: 1},
		{Code: unix.BPF_ALU | unix.BPF_ADD | unix.BPF_K, K: 1},
		{Code: unix.BPF_RET | unix.BPF_A},
	}
}

// isTCP reports whether a socket is TCP's, or that of MPTCP, which is TCP to those who do not use it.
func isTCP(fd int) bool {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return err == nil && (protocol == unix.IPPROTO_TCP || protocol == unix.IPPROTO_MPTCP)
}
