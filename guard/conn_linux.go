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
	sockaddr sockaddr
	remote   *net.TCPAddr
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
	c := &tcpConn{}
	c.sockaddr.set(to)
	if err := c.begin(fd, source); err != nil {
		unix.Close(fd)
		return nil, err
	}
	c.File = os.NewFile(uintptr(fd), "tcp")
	if c.raw, err = c.File.SyscallConn(); err == nil {
		err = c.await(ctx)
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

// begin sends the SYN.
func (c *tcpConn) begin(fd int, source netip.Addr) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if source.IsValid() {
		if err := bindSource(fd, source); err != nil {
			return err
		}
	}
	if err := c.sockaddr.connect(uintptr(fd)); err != unix.EINPROGRESS && err != 0 {
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

// await waits until the connection is made, which it is once it has a peer. Where it has none, a second connect(2) says how
// it stands: not yet, EALREADY; else it is the result.
func (c *tcpConn) await(ctx context.Context) error {
	var errno syscall.Errno
	var stop func() bool // nil: it was made at once, as near by
	err := c.raw.Write(func(fd uintptr) (done bool) {
		if peer := addressOf(fd, syscall.Getpeername); peer.IP != nil {
			c.remote = peer
			return true
		}
		if errno = c.sockaddr.connect(fd); errno != unix.EALREADY && errno != unix.EINPROGRESS {
			return true
		}
		if stop == nil {
			stop = context.AfterFunc(ctx, func() { c.SetWriteDeadline(time.Unix(1, 0)) })
		}
		return false
	})
	stopped := stop == nil || stop()
	switch {
	case ctx.Err() != nil || !stopped:
		return ctx.Err()
	case err != nil:
		return err
	case errno != 0 && errno != unix.EISCONN:
		return os.NewSyscallError("connect", errno)
	}
	return nil
}

func (c *tcpConn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// LocalAddr returns a *net.TCPAddr, or nil once the connection is closed.
func (c *tcpConn) LocalAddr() net.Addr { return c.address(syscall.Getsockname) }

// RemoteAddr returns a *net.TCPAddr: what the system says that the connection goes to.
func (c *tcpConn) RemoteAddr() net.Addr {
	if c.remote == nil {
		c.remote = c.address(syscall.Getpeername)
	}
	return c.remote
}

func (c *tcpConn) address(get func(fd int) (syscall.Sockaddr, error)) *net.TCPAddr {
	a := new(net.TCPAddr)
	c.raw.Control(func(fd uintptr) { a = addressOf(fd, get) })
	return a
}

// addressOf returns what get says, or an address without IP.
func addressOf(fd uintptr, get func(fd int) (syscall.Sockaddr, error)) *net.TCPAddr {
	switch sa, _ := get(int(fd)); sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *syscall.SockaddrInet6:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	}
	return new(net.TCPAddr)
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
