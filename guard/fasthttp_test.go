package guard_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"whsentry/guard"
)

var _ fasthttp.DialFuncWithTimeout = (*guard.Dialer)(nil).DialTimeout

// serve runs a server at address, and counts the connections that it accepts.
func serve(t *testing.T, address string) (netip.AddrPort, *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, ln)
}

// serveOn is serve on a socket that listens already.
func serveOn(t *testing.T, ln net.Listener) (netip.AddrPort, *atomic.Int64) {
	t.Helper()
	counted := &countingListener{Listener: ln}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })}
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(counted) })
	t.Cleanup(func() {
		server.Close()
		ln.Close() // which the server knows nothing of where Serve has not begun
		wg.Wait()
	})
	return netip.MustParseAddrPort(ln.Addr().String()), &counted.accepted
}

type countingListener struct {
	net.Listener
	accepted atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return c, err
}

// TestFasthttpClient lets fasthttp's client connect through a Dialer: to what is allowed, and to nothing else.
func TestFasthttpClient(t *testing.T) {
	first, second := guard.ListenOnOnePort(t, "127.0.0.2", "127.0.0.1")
	allowed, served := serveOn(t, first)
	canary, reached := serveOn(t, second)
	cfg := guard.DefaultConfig()
	cfg.AllowList = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
	g, err := guard.New(cfg, guard.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	client := &fasthttp.Client{DialTimeout: guard.NewDialer(g).DialTimeout, MaxIdemponentCallAttempts: 1}
	defer client.CloseIdleConnections()
	status, body, err := client.GetTimeout(nil, "http://"+allowed.String()+"/", 10*time.Second)
	if err != nil || status != fasthttp.StatusOK || string(body) != "hello" {
		t.Errorf("got %d %q, %v; want 200 hello", status, body, err)
	}
	for _, to := range []netip.AddrPort{
		canary,
		netip.AddrPortFrom(netip.MustParseAddr("::ffff:127.0.0.1"), canary.Port()),
		netip.AddrPortFrom(netip.MustParseAddr("::1"), canary.Port()),
		netip.AddrPortFrom(netip.MustParseAddr("64:ff9b::7f00:1"), canary.Port()),
	} {
		var blocked *guard.BlockedError
		if _, _, err := client.GetTimeout(nil, "http://"+to.String()+"/", 10*time.Second); !errors.As(err, &blocked) {
			t.Errorf("%s: got %v; want a *guard.BlockedError", to, err)
		}
	}
	var port *guard.PortError
	if _, _, err := client.GetTimeout(nil, "http://127.0.0.2:25/", 10*time.Second); !errors.As(err, &port) {
		t.Errorf("port 25: got %v; want a *guard.PortError", err)
	}
	if served.Load() != 1 || reached.Load() != 0 {
		t.Errorf("%d connections to the server, %d to the canary; want 1 and 0", served.Load(), reached.Load())
	}
}

func TestDialTimeoutSaysWhatIsWrong(t *testing.T) {
	g, err := guard.New(guard.DefaultConfig(), guard.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ addr, want string }{
		{"", `connect to "": want host:port`},
		{"example.com", `connect to "example.com": want host:port`},
		{"::1:80", `connect to "::1:80": want host:port`},
		{"example.com:http", `connect to "example.com:http": the port is no number up to 65535`},
		{"example.com:65536", `connect to "example.com:65536": the port is no number up to 65535`},
		{"example.com:-1", `connect to "example.com:-1": the port is no number up to 65535`},
		{"example.com:0", "port 0 is blocked"},
		{"[::1]:80", "IP ::1 is blocked"},
		{"127.0.0.1:65535", "IP 127.0.0.1 is blocked"},
	} {
		conn, err := guard.NewDialer(g).DialTimeout(row.addr, time.Second)
		if err == nil || err.Error() != row.want || conn != nil {
			t.Errorf("%q: got %v, %v; want %s", row.addr, conn, err, row.want)
		}
	}
}

// TestDialTimeoutLimits checks that a limit which has passed is not the same as none.
func TestDialTimeoutLimits(t *testing.T) {
	to, _ := serve(t, "127.0.0.2:0")
	cfg := guard.DefaultConfig()
	cfg.AllowList = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
	g, err := guard.New(cfg, guard.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	var failed *guard.ConnectError
	if _, err := guard.NewDialer(g).DialTimeout(to.String(), -1); !errors.As(err, &failed) || !failed.Timeout() {
		t.Errorf("a limit that has passed: got %v; want a *guard.ConnectError that is a timeout", err)
	}
	conn, err := guard.NewDialer(g).DialTimeout(to.String(), 0)
	if err != nil {
		t.Fatalf("no limit: %v", err)
	}
	conn.Close()
}
