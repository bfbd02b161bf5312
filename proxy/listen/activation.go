package listen

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sockets are listening sockets that the process was started with (socket activation): they were open before it, and
// stay open after it, so that nobody who connects meanwhile is turned away. A nil Sockets is none.
type Sockets struct{ passed []passedSocket }

// passedSocket is one of them.
type passedSocket struct {
	name     string // for messages: which descriptor it was, and what it was called
	address  netip.AddrPort
	key      string           // of the setting that it is for, once that is known
	listener *net.TCPListener // nil once it is used, or closed
}

// The variables that tell of passed sockets, sd_listen_fds(3).
const (
	listenPID   = "LISTEN_PID"
	listenFDs   = "LISTEN_FDS"
	listenNames = "LISTEN_FDNAMES"

	firstPassed = 3   // the first descriptor after standard input, output and error
	mostPassed  = 256 // more are a mistake
)

// TakeSockets takes over the sockets that the process was started with, as LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES
// say (sd_listen_fds(3)), and removes these variables, so that it can be called once. Where they are not there, or are
// meant for another process, there are none. A socket that is not a listening TCP socket is an error.
func TakeSockets() (*Sockets, error) {
	defer func() {
		for _, name := range []string{listenPID, listenFDs, listenNames} {
			os.Unsetenv(name)
		}
	}()
	return takeSockets(os.Getenv, os.Getpid(), firstPassed)
}

// takeSockets takes over the sockets from descriptor first on.
func takeSockets(getenv func(string) string, pid, first int) (*Sockets, error) {
	n, err := countPassed(getenv, pid)
	if n == 0 || err != nil {
		return nil, err
	}
	var names []string
	if list := getenv(listenNames); list != "" {
		names = strings.Split(list, ":")
	}
	for fd := first; fd < first+n; fd++ { // all of them, whatever may be wrong with one
		unix.CloseOnExec(fd)
	}
	s := &Sockets{}
	for i := range n {
		name := fmt.Sprintf("descriptor %d", first+i)
		if i < len(names) && names[i] != "" {
			name += fmt.Sprintf(" (%q)", names[i])
		}
		p, err := takeSocket(first+i, name)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("socket activation: %s: %w; want a TCP socket that listens", name, err)
		}
		s.passed = append(s.passed, p)
	}
	return s, nil
}

// countPassed returns how many sockets are meant for this process.
func countPassed(getenv func(string) string, pid int) (int, error) {
	owner, count := getenv(listenPID), getenv(listenFDs)
	if owner == "" || count == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(owner, 10, 31); err != nil || n == 0 {
		return 0, fmt.Errorf("socket activation: %s: %q: not a process id; want one", listenPID, owner)
	} else if int(n) != pid {
		return 0, nil
	}
	n, err := strconv.ParseUint(count, 10, 31)
	if err != nil || n > mostPassed {
		return 0, fmt.Errorf("socket activation: %s: %q: not a number of sockets; want 0 to %d", listenFDs, count, mostPassed)
	}
	return int(n), nil
}

// takeSocket makes a listener of a descriptor, which is closed in any case: the listener has one of its own.
func takeSocket(fd int, name string) (passedSocket, error) {
	if err := checkPassed(fd); err != nil {
		return passedSocket{}, err
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	ln, err := net.FileListener(file)
	if err != nil {
		return passedSocket{}, BareError(err)
	}
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		ln.Close()
		return passedSocket{}, errors.New("not a TCP socket")
	}
	return passedSocket{name: name, address: unmapped(tcp.Addr()), listener: tcp}, nil
}

// checkPassed reports what a descriptor is that is not a TCP socket that listens.
func checkPassed(fd int) error {
	sa, err := unix.Getsockname(fd)
	switch {
	case errors.Is(err, syscall.EBADF):
		return errors.New("not open")
	case errors.Is(err, syscall.ENOTSOCK):
		return errors.New("not a socket")
	case err != nil:
		return err
	}
	switch sa.(type) {
	case *unix.SockaddrInet4, *unix.SockaddrInet6:
	default:
		return errors.New("not an IPv4 or IPv6 socket")
	}
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_STREAM || !isTCP(fd) {
		return errors.New("not a TCP socket")
	}
	if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 {
		return errors.New("it does not listen")
	}
	return nil
}

// Close closes the sockets that have not been used.
func (s *Sockets) Close() {
	if s == nil {
		return
	}
	for i := range s.passed {
		if l := s.passed[i].listener; l != nil {
			l.Close()
			s.passed[i].listener = nil
		}
	}
}

// Endpoint is an address that is to be listened on, and the key of the setting that says so.
type Endpoint struct{ Key, Address string }

// Match finds the socket for each endpoint. A socket that is for none is an error, for whoever passed it believes that
// it is served.
func (s *Sockets) Match(endpoints []Endpoint) error {
	if s == nil {
		return nil
	}
	for _, e := range endpoints {
		bound, err := net.ResolveTCPAddr("tcp", e.Address)
		if err != nil {
			continue // listening will say so
		}
		if p := s.find(bound); p != nil {
			p.key = e.Key
		}
	}
	var left, want []string
	for _, p := range s.passed {
		if p.key == "" {
			left = append(left, p.name+" "+p.address.String())
		}
	}
	if left == nil {
		return nil
	}
	for _, e := range endpoints {
		want = append(want, fmt.Sprintf("%s %q", e.Key, e.Address))
	}
	return fmt.Errorf("socket activation: passed, but not configured: %s; want at most one socket each for %s",
		strings.Join(left, ", "), strings.Join(want, ", "))
}

// find finds a socket by its address. Every address of this host is IPv6's, which has IPv4's in it, or else IPv4's.
func (s *Sockets) find(bound *net.TCPAddr) *passedSocket {
	candidates := []netip.AddrPort{unmapped(bound)}
	if bound.IP == nil {
		port := uint16(bound.Port)
		candidates = []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), port), netip.AddrPortFrom(netip.IPv4Unspecified(), port)}
	}
	for _, c := range candidates {
		for i := range s.passed {
			if p := &s.passed[i]; p.key == "" && p.address == c {
				return p
			}
		}
	}
	return nil
}

// Take hands out the socket that Match has found for the setting of that key, nil where there is none.
func (s *Sockets) Take(key string) *net.TCPListener {
	if s == nil {
		return nil
	}
	for i := range s.passed {
		if p := &s.passed[i]; p.key == key {
			l := p.listener
			p.listener = nil
			return l
		}
	}
	return nil
}

// unmapped is a TCP address, IPv4 as IPv4.
func unmapped(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
