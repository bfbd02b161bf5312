package guard

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tcpConn is a TCP connection made by the system calls that it takes. net.Dialer makes four more, some 30 allocations
// and, to listen to its context, a goroutine, which is a tenth of what a request costs that needs a new connection.
type tcpConn struct {
	*os.File // which knows the poller
	raw      syscall.RawConn
	peer     netip.AddrPort
}

// dialTCP connects to an address. A valid source is the address that the connection comes from.
func dialTCP(ctx context.Context, to netip.AddrPort, source netip.Addr) (Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	family := unix.AF_INET6
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	a := &connecting{ctx: ctx}
	a.to.set(to)
	if err := a.begin(fd, source); err != nil {
		unix.Close(fd)
		return nil, err
	}
	c := &tcpConn{File: os.NewFile(uintptr(fd), "tcp")}
	if c.raw, err = c.File.SyscallConn(); err == nil {
		err = a.await(c)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// hasIPv6 reports whether sockets can be had for IPv6: not where the kernel runs with ipv6.disable=1, nor where the
// address family is forbidden to the process (RestrictAddressFamilies of systemd).
func hasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err == nil {
		unix.Close(fd)
	}
	return err != unix.EAFNOSUPPORT
}

// connecting is a connection that is being made. What it takes is not held for as long as the connection lives.
type connecting struct {
	ctx   context.Context
	to    sockaddr
	conn  *tcpConn
	errno syscall.Errno
	stop  func() bool // nil: it was made at once, as near by
}

// begin sends the SYN.
func (a *connecting) begin(fd int, source netip.Addr) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if source.IsValid() {
		if err := bindSource(fd, source); err != nil {
			return err
		}
	}
	if err := a.to.connect(uintptr(fd)); err != unix.EINPROGRESS && err != 0 {
		return os.NewSyscallError("connect", err)
	}
	return nil
}

// bindSource makes a socket's connection come from source. The choice of the port is left to connect(2), which takes
// the destination into account: bind(2) cannot, and would run out of ports after 28,000 connections to all
// destinations together.
func bindSource(fd int, source netip.Addr) error {
	// An error means a kernel before 4.2, where connections still work, only fewer of them.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: source.As16()}
	if source.Is4() {
		sa = &unix.SockaddrInet4{Addr: source.As4()}
	}
	return os.NewSyscallError("bind", unix.Bind(fd, sa))
}

// await waits until c is connected.
func (a *connecting) await(c *tcpConn) error {
	a.conn = c
	err := c.raw.Write(a.isOver)
	stopped := a.stop == nil || a.stop()
	switch {
	case a.ctx.Err() != nil || !stopped:
		return a.ctx.Err()
	case err != nil:
		return err
	case a.errno != 0 && a.errno != unix.EISCONN:
		return os.NewSyscallError("connect", a.errno)
	}
	return nil
}

// isOver reports whether there is nothing more to wait for: the connection has a peer, and so has been made. Where it has
// none, a second connect(2) says how it stands: not yet, EALREADY; else it is the result.
func (a *connecting) isOver(fd uintptr) bool {
	if a.conn.peer = addressOf(fd, syscall.SYS_GETPEERNAME); a.conn.peer.IsValid() {
		a.errno = 0 // it says how it stood before the wait
		return true
	}
	if a.errno = a.to.connect(fd); a.errno != unix.EALREADY && a.errno != unix.EINPROGRESS {
		return true
	}
	if a.stop == nil {
		a.stop = context.AfterFunc(a.ctx, func() { a.conn.SetWriteDeadline(time.Unix(1, 0)) })
	}
	return false
}

func (c *tcpConn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

func (c *tcpConn) Peer() netip.AddrPort {
	if !c.peer.IsValid() {
		c.peer = c.address(syscall.SYS_GETPEERNAME)
	}
	return c.peer
}

// LocalAddr returns a *net.TCPAddr, without an IP once the connection is closed.
func (c *tcpConn) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(c.address(syscall.SYS_GETSOCKNAME))
}

// RemoteAddr returns Peer as a *net.TCPAddr.
func (c *tcpConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.Peer()) }

func (c *tcpConn) address(call uintptr) (a netip.AddrPort) {
	c.raw.Control(func(fd uintptr) { a = addressOf(fd, call) })
	return a
}

func (c *tcpConn) CloseWrite() error {
	var err error
	if control := c.raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_WR) }); control != nil {
		return control
	}
	return os.NewSyscallError("shutdown", err)
}

func (c *tcpConn) SetLinger(seconds int) error {
	l := &unix.Linger{Onoff: 1, Linger: int32(seconds)}
	if seconds < 0 {
		l = &unix.Linger{}
	}
	var err error
	if control := c.raw.Control(func(fd uintptr) {
		err = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, l)
	}); control != nil {
		return control
	}
	return os.NewSyscallError("setsockopt", err)
}

// sockaddr is an address as connect(2) takes it.
type sockaddr struct {
	v4  unix.RawSockaddrInet4
	v6  unix.RawSockaddrInet6
	is4 bool
}

func (s *sockaddr) set(to netip.AddrPort) {
	s.is4 = to.Addr().Is4()
	var port uint16
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&port))[:], to.Port())
	if s.is4 {
		s.v4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: to.Addr().As4()}
	} else {
		s.v6 = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port, Addr: to.Addr().As16()}
	}
}

// connect is connect(2) on a socket that does not wait. As nothing is waited for, Go's scheduler is not told of the
// call, which would cost more than what it does with the knowledge is worth.
func (s *sockaddr) connect(fd uintptr) syscall.Errno {
	at, size := unsafe.Pointer(&s.v6), unsafe.Sizeof(s.v6)
	if s.is4 {
		at, size = unsafe.Pointer(&s.v4), unsafe.Sizeof(s.v4)
	}
	for {
		_, _, errno := syscall.RawSyscall(syscall.SYS_CONNECT, fd, uintptr(at), size)
		if errno != syscall.EINTR {
			return errno
		}
	}
}

// addressOf returns what getpeername(2) or getsockname(2) says, whose number call is; not valid: nothing.
func addressOf(fd, call uintptr) netip.AddrPort {
	var a unix.RawSockaddrInet6 // in which one of IPv4 has room too
	size := uint32(unsafe.Sizeof(a))
	if _, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&size))); errno != 0 {
		return netip.AddrPort{}
	}
	ip := netip.AddrFrom16(a.Addr)
	if a.Family == unix.AF_INET {
		ip = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(&a)).Addr)
	}
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&a.Port))[:]))
}
