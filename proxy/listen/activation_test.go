package listen

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// passedFrom is a row of descriptors that nothing else uses, as a parent leaves them to its child.
const passedFrom = 400

// pass puts descriptors in a row, from passedFrom on; -1 leaves one out. They are closed when the test ends, for those
// that are not taken.
func pass(t *testing.T, fds ...int) {
	t.Helper()
	for i, fd := range fds {
		if fd < 0 {
			continue
		}
		if err := unix.Dup2(fd, passedFrom+i); err != nil {
			t.Fatalf("dup2: %v", err)
		}
		t.Cleanup(func() { unix.Close(passedFrom + i) })
	}
}

// descriptor is that of something that the test opens.
func descriptor(t *testing.T, open func() (interface{ File() (*os.File, error) }, error)) int {
	t.Helper()
	c, err := open()
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		c.(interface{ Close() error }).Close()
	})
	return int(f.Fd())
}

func listening(t *testing.T, network, address string) int {
	t.Helper()
	return descriptor(t, func() (interface{ File() (*os.File, error) }, error) {
		ln, err := net.Listen(network, address)
		if err != nil {
			return nil, err
		}
		return ln.(interface{ File() (*os.File, error) }), nil
	})
}

// activation is an environment in which n sockets are passed to process 17.
func activation(n, names string) func(string) string {
	return func(name string) string {
		return map[string]string{listenPID: "17", listenFDs: n, listenNames: names}[name]
	}
}

func boundTo(t *testing.T, fd int) string {
	t.Helper()
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return net.JoinHostPort(net.IP(sa.Addr[:]).String(), strconv.Itoa(sa.Port))
	case *unix.SockaddrInet6:
		return net.JoinHostPort(net.IP(sa.Addr[:]).String(), strconv.Itoa(sa.Port))
	}
	t.Fatalf("got %T; want an IP address", sa)
	return ""
}

func TestTakeSockets(t *testing.T) {
	first, second := listening(t, "tcp", "127.0.0.1:0"), listening(t, "tcp", "[::1]:0")
	pass(t, first, second)
	s, err := takeSockets(activation("2", "web:"), 17, passedFrom)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, fd := range []int{first, second} {
		if got, want := s.passed[i].address.String(), boundTo(t, fd); got != want {
			t.Errorf("got %s; want %s", got, want)
		}
		if _, err := unix.FcntlInt(uintptr(passedFrom+i), unix.F_GETFD, 0); err != unix.EBADF {
			t.Errorf("got %v for descriptor %d; want it closed, for there is another for the same socket", err, passedFrom+i)
		}
		raw, err := s.passed[i].listener.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			if flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("got flags %x, %v; want close-on-exec", flags, err)
			}
		})
	}
	if got, want := s.passed[0].name, fmt.Sprintf(`descriptor %d ("web")`, passedFrom); got != want {
		t.Errorf("got %s; want %s", got, want)
	}
}

func TestTakeSocketsNotOurs(t *testing.T) {
	for _, tt := range []struct{ name, pid, fds string }{
		{"nothing", "", ""},
		{"no number", "17", ""},
		{"no process", "", "1"},
		{"another process", "18", "1"},
		{"another process, and nonsense", "18", "x"},
		{"none", "17", "0"},
	} {
		env := map[string]string{listenPID: tt.pid, listenFDs: tt.fds}
		s, err := takeSockets(func(name string) string { return env[name] }, 17, passedFrom)
		if s != nil || err != nil {
			t.Errorf("%s: got %v, %v; want nothing", tt.name, s, err)
		}
	}
	var none *Sockets
	if err := none.Match([]Endpoint{{"listeners[0].address", ":9090"}}); err != nil || none.Take("x") != nil {
		t.Errorf("got %v; want nothing of no sockets", err)
	}
	none.Close()
}

func TestTakeSocketsErrors(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	bound, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(bound)
	if err := unix.Bind(bound, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	datagrams := descriptor(t, func() (interface{ File() (*os.File, error) }, error) {
		return net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	})
	client, err := net.Dial("tcp", boundTo(t, listening(t, "tcp", "127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	connected := descriptor(t, func() (interface{ File() (*os.File, error) }, error) { return client.(*net.TCPConn), nil })
	for _, tt := range []struct {
		name, pid, fds string
		fd             int
		want           string
	}{
		{"bad process", "x", "1", -1, `LISTEN_PID: "x": not a process id`},
		{"process 0", "0", "1", -1, `LISTEN_PID: "0": not a process id`},
		{"negative process", "-17", "1", -1, `LISTEN_PID: "-17": not a process id`},
		{"bad number", "17", "one", -1, `LISTEN_FDS: "one": not a number of sockets; want 0 to 256`},
		{"negative number", "17", "-1", -1, `LISTEN_FDS: "-1": not a number of sockets`},
		{"huge number", "17", "257", -1, `LISTEN_FDS: "257": not a number of sockets`},
		{"number over all bounds", "17", "99999999999999999999", -1, `not a number of sockets`},
		{"not open", "17", "1", -1, `descriptor 400: not open; want a TCP socket that listens`},
		{"file", "17", "1", int(file.Fd()), `descriptor 400: not a socket`},
		{"Unix socket", "17", "1", listening(t, "unix", t.TempDir()+"/s"), `descriptor 400: not an IPv4 or IPv6 socket`},
		{"datagrams", "17", "1", datagrams, `descriptor 400: not a TCP socket`},
		{"not listening", "17", "1", bound, `descriptor 400: it does not listen`},
		{"connected", "17", "1", connected, `descriptor 400: it does not listen`},
		{"second of two", "17", "2", listening(t, "tcp", "127.0.0.1:0"), `descriptor 401: not open`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pass(t, tt.fd)
			env := map[string]string{listenPID: tt.pid, listenFDs: tt.fds}
			s, err := takeSockets(func(name string) string { return env[name] }, 17, passedFrom)
			if s != nil || err == nil || !strings.HasPrefix(err.Error(), "socket activation: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, %v; want an error with %s", s, err, tt.want)
			}
		})
	}
}

// TestSocketsMatch holds which sockets are for which addresses.
func TestSocketsMatch(t *testing.T) {
	const any4, any6 = "0.0.0.0:", "[::]:"
	for _, tt := range []struct {
		name, passed, configured string // hosts; the port is the same
		matches                  bool
	}{
		{"one address", "127.0.0.1:", "127.0.0.1:", true},
		{"one IPv6 address", "[::1]:", "[::1]:", true},
		{"IPv6 in full", "[::1]:", "[0:0:0:0:0:0:0:1]:", true},
		{"every address", any6, ":", true},
		{"every address by IPv6", any6, any6, true},
		{"every address of IPv4", any4, ":", true},
		{"every address of IPv4 by name", any4, any4, true},
		{"a name", "127.0.0.1:", "localhost:", true},
		{"another address", "127.0.0.1:", "127.0.0.2:", false},
		{"one address for every", "127.0.0.1:", ":", false},
		{"every address for one", any6, "127.0.0.1:", false},
		{"IPv6 for IPv4", any6, any4, false},
		{"IPv4 for IPv6", any4, any6, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			network := "tcp4"
			if strings.HasPrefix(tt.passed, "[") {
				network = "tcp6"
			}
			fd := listening(t, network, tt.passed+"0")
			_, port, _ := net.SplitHostPort(boundTo(t, fd))
			pass(t, fd)
			s, err := takeSockets(activation("1", "web"), 17, passedFrom)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			err = s.Match([]Endpoint{{"listeners[0].address", "192.0.2.1:1"}, {"metrics.address", tt.configured + port}})
			if tt.matches {
				if l := s.Take("metrics.address"); err != nil || l == nil || s.Take("metrics.address") != nil || s.Take("listeners[0].address") != nil {
					t.Errorf("got %v, %v; want the socket, once", l, err)
				} else {
					l.Close()
				}
				return
			}
			want := fmt.Sprintf(`socket activation: passed, but not configured: descriptor 400 ("web") %s; want at most one socket each for `+
				`listeners[0].address "192.0.2.1:1", metrics.address %q`, boundTo(t, fd), tt.configured+port)
			if err == nil || err.Error() != want {
				t.Errorf("got %v; want %s", err, want)
			}
		})
	}
}

// TestSocketsMatchTwice: two sockets for one address are one too many.
func TestSocketsMatchTwice(t *testing.T) {
	fd := listening(t, "tcp4", "127.0.0.1:0")
	pass(t, fd, fd)
	s, err := takeSockets(activation("2", ""), 17, passedFrom)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Match([]Endpoint{{"listeners[0].address", boundTo(t, fd)}})
	if err == nil || !strings.Contains(err.Error(), "passed, but not configured: descriptor 401 "+boundTo(t, fd)+";") {
		t.Errorf("got %v; want that descriptor 401 is too much", err)
	}
}

// TestTakeSocketsForgets removes the variables, which a child of this process would take for its own.
func TestTakeSocketsForgets(t *testing.T) {
	for name, value := range map[string]string{listenPID: "1", listenFDs: "1", listenNames: "x"} {
		t.Setenv(name, value)
	}
	if s, err := TakeSockets(); s != nil || err != nil {
		t.Errorf("got %v, %v; want nothing, for it is meant for another process", s, err)
	}
	for _, name := range []string{listenPID, listenFDs, listenNames} {
		if value, ok := os.LookupEnv(name); ok {
			t.Errorf("got %s=%s; want it gone", name, value)
		}
	}
}
