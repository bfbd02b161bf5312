package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// listen returns a listener at ip, which counts what it accepts and closes it.
func listen(t testing.TB, address string) (netip.AddrPort, *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return accepting(t, ln)
}

// accepting is listen for a listener that is there.
func accepting(t testing.TB, ln net.Listener) (netip.AddrPort, *atomic.Int64) {
	var accepted atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			io.WriteString(c, c.RemoteAddr().String())
			c.Close()
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return netip.MustParseAddrPort(ln.Addr().String()), &accepted
}

// ListenOnOnePort listens on one port of two addresses, for the tests outside of the package too. Somebody else may have that of the second which the first is given:
// then it is given another.
func ListenOnOnePort(t *testing.T, first, second string) (net.Listener, net.Listener) {
	t.Helper()
	for range 100 {
		a, err := net.Listen("tcp", net.JoinHostPort(first, "0"))
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(a.Addr().String())
		b, err := net.Listen("tcp", net.JoinHostPort(second, port))
		if err == nil {
			return a, b
		}
		a.Close()
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	t.Fatalf("no port is free at both %s and %s", first, second)
	return nil, nil
}

// script is how a fake destination behaves: how long it takes, and what comes of it.
type script struct {
	after time.Duration
	err   error
}

// fakeConn is a connection that nobody is at the other end of.
type fakeConn struct {
	Conn
	addr   netip.Addr
	closed atomic.Bool
}

func (c *fakeConn) Close() error { c.closed.Store(true); return nil }

// fakeDialer returns a Dialer that resolves every name to the addresses of destinations, and connects as they say.
func fakeDialer(t *testing.T, cfg Config, order []string, destinations map[string]script) (*Dialer, *[]string, *[]*fakeConn) {
	g := testGuard(t, cfg, Hooks{})
	g.resolver.cache.put("x.example", result{addrs: addrs(order...), ttl: time.Hour}, time.Now())
	d := NewDialer(g)
	var mu sync.Mutex
	var tried []string
	var conns []*fakeConn
	start := time.Now()
	d.connect = func(d *Dialer, ctx context.Context, to netip.AddrPort, _ netip.Addr) (Conn, error) {
		mu.Lock()
		tried = append(tried, fmt.Sprint(to.Addr(), " ", time.Since(start)))
		mu.Unlock()
		how := destinations[to.Addr().String()]
		select {
		case <-time.After(how.after):
			if how.err != nil {
				return nil, how.err
			}
			c := &fakeConn{addr: to.Addr()}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			return c, nil
		case <-ctx.Done():
			return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
		}
	}
	return d, &tried, &conns
}

func opError(errno syscall.Errno) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)}
}

func TestRace(t *testing.T) {
	refused, unreachable := opError(syscall.ECONNREFUSED), opError(syscall.ENETUNREACH)
	const never = time.Hour
	for _, row := range []struct {
		name    string
		order   []string
		scripts map[string]script
		won     string
		err     string
		tried   []string
		took    time.Duration
	}{
		{
			name: "one", order: []string{"8.8.8.8"},
			won: "8.8.8.8", tried: []string{"8.8.8.8 0s"},
		},
		{
			name: "the first answers", order: []string{"2a00::1", "8.8.8.8"},
			scripts: map[string]script{"2a00::1": {after: 200 * time.Millisecond}},
			won:     "2a00::1", tried: []string{"2a00::1 0s"}, took: 200 * time.Millisecond,
		},
		{
			name: "the first is silent", order: []string{"2a00::1", "8.8.8.8", "8.8.4.4"},
			scripts: map[string]script{"2a00::1": {after: never}},
			won:     "8.8.8.8", tried: []string{"2a00::1 0s", "8.8.8.8 250ms"}, took: 250 * time.Millisecond,
		},
		{
			name: "the first fails", order: []string{"2a00::1", "8.8.8.8"},
			scripts: map[string]script{"2a00::1": {err: unreachable}},
			won:     "8.8.8.8", tried: []string{"2a00::1 0s", "8.8.8.8 0s"},
		},
		{
			name: "the first fails after a while", order: []string{"2a00::1", "8.8.8.8", "8.8.4.4"},
			scripts: map[string]script{"2a00::1": {after: 300 * time.Millisecond, err: refused}, "8.8.8.8": {after: never}},
			won:     "8.8.4.4", tried: []string{"2a00::1 0s", "8.8.8.8 250ms", "8.8.4.4 300ms"}, took: 300 * time.Millisecond,
		},
		{
			name: "a slow first still wins", order: []string{"2a00::1", "8.8.8.8"},
			scripts: map[string]script{"2a00::1": {after: 300 * time.Millisecond}, "8.8.8.8": {after: time.Second}},
			won:     "2a00::1", tried: []string{"2a00::1 0s", "8.8.8.8 250ms"}, took: 300 * time.Millisecond,
		},
		{
			name: "all refuse", order: []string{"2a00::1", "8.8.8.8"},
			scripts: map[string]script{"2a00::1": {err: refused}, "8.8.8.8": {err: refused}},
			err:     "connect to [2a00::1]:80: connection refused", tried: []string{"2a00::1 0s", "8.8.8.8 0s"},
		},
		{
			name: "who declines tells more than no way there", order: []string{"2a00::1", "8.8.8.8"},
			scripts: map[string]script{"2a00::1": {err: unreachable}, "8.8.8.8": {err: refused}},
			err:     "connect to 8.8.8.8:80: connection refused", tried: []string{"2a00::1 0s", "8.8.8.8 0s"},
		},
		{
			name: "time runs out", order: []string{"2a00::1", "8.8.8.8"},
			scripts: map[string]script{"2a00::1": {err: unreachable}, "8.8.8.8": {after: never}},
			err:     "connect to 8.8.8.8:80: timed out", tried: []string{"2a00::1 0s", "8.8.8.8 0s"}, took: 10 * time.Second,
		},
		{
			name: "one and time runs out", order: []string{"8.8.8.8"},
			scripts: map[string]script{"8.8.8.8": {after: never}},
			err:     "connect to 8.8.8.8:80: timed out", tried: []string{"8.8.8.8 0s"}, took: 10 * time.Second,
		},
		{
			name: "the system gives up", order: []string{"8.8.8.8"},
			scripts: map[string]script{"8.8.8.8": {after: time.Second, err: opError(syscall.ETIMEDOUT)}},
			err:     "connect to 8.8.8.8:80: timed out", tried: []string{"8.8.8.8 0s"}, took: time.Second,
		},
		{
			name: "refused ones are not tried", order: []string{"fd00::1", "10.0.0.1", "8.8.8.8", "127.0.0.1"},
			won: "8.8.8.8", tried: []string{"8.8.8.8 0s"},
		},
		{
			name: "mapped is connected to as IPv4", order: []string{"::ffff:8.8.8.8"},
			won: "8.8.8.8", tried: []string{"8.8.8.8 0s"},
		},
		{
			name: "all refused by the guard", order: []string{"::ffff:10.0.0.1", "127.0.0.1"},
			err: "IP ::ffff:10.0.0.1 is blocked",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, tried, conns := fakeDialer(t, DefaultConfig(), row.order, row.scripts)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				conn, timing, err := d.Dial(ctx, "x.example", 80)
				if got := fmt.Sprint(err); (err != nil || row.err != "") && got != row.err {
					t.Errorf("got %q; want %q", got, row.err)
				}
				if timing.Connect != row.took || !timing.LookedUp || !timing.Cached {
					t.Errorf("timing %+v; want %s to connect, looked up in the cache", timing, row.took)
				}
				synctest.Wait()
				if !slices.Equal(*tried, row.tried) {
					t.Errorf("tried %q; want %q", *tried, row.tried)
				}
				if row.won != "" && conn.(*fakeConn).addr.String() != row.won {
					t.Errorf("got %s; want %s", conn.(*fakeConn).addr, row.won)
				}
				for _, c := range *conns {
					if c != conn && !c.closed.Load() {
						t.Errorf("the connection to %s is left open", c.addr)
					}
				}
			})
		})
	}
}

// TestLosersAreClosed lets two attempts connect at the same time.
func TestLosersAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, conns := fakeDialer(t, DefaultConfig(), []string{"2a00::1", "8.8.8.8"}, map[string]script{
			"2a00::1": {after: 300 * time.Millisecond}, "8.8.8.8": {after: 50 * time.Millisecond},
		})
		// Neither minds being cancelled any more.
		connect := d.connect
		d.connect = func(d *Dialer, ctx context.Context, to netip.AddrPort, source netip.Addr) (Conn, error) {
			return connect(d, context.WithoutCancel(ctx), to, source)
		}
		conn, _, err := d.Dial(t.Context(), "x.example", 80)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		open := 0
		for _, c := range *conns {
			if !c.closed.Load() {
				open++
			}
		}
		if len(*conns) != 2 || open != 1 || conn.(*fakeConn).closed.Load() {
			t.Errorf("%d connections, %d open; want the winner of two", len(*conns), open)
		}
	})
}

func TestDialIsCancelled(t *testing.T) {
	for _, order := range [][]string{{"8.8.8.8"}, {"2a00::1", "8.8.8.8", "8.8.4.4"}} {
		t.Run(fmt.Sprint(len(order)), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				scripts := map[string]script{}
				for _, a := range order {
					scripts[a] = script{after: time.Hour}
				}
				d, _, _ := fakeDialer(t, DefaultConfig(), order, scripts)
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(100*time.Millisecond, cancel)
				_, _, err := d.Dial(ctx, "x.example", 80)
				var failed *ConnectError
				if !errors.Is(err, context.Canceled) || !errors.As(err, &failed) || failed.Timeout() {
					t.Errorf("got %v; want a *ConnectError that is context.Canceled", err)
				}
			})
		})
	}
}

// TestOrderOfErrors checks that the port comes before the name, and the name before its addresses.
func TestOrderOfErrors(t *testing.T) {
	s := startDNS(t, zone("private.example. 60 IN A 10.0.0.1", "private.example. 60 IN AAAA fd00::1", "mixed.example. 60 IN A 127.0.0.1"))
	g, _ := resolverFor(t, nil, s.addr)
	var mu sync.Mutex
	var refused []string
	g.hooks.Refused = func(r Rule) { mu.Lock(); refused = append(refused, r.Name); mu.Unlock() }
	d := NewDialer(together(g))
	for _, row := range []struct {
		host    string
		port    uint16
		want    string
		refused []string
	}{
		{"nope.example", 25, "port 25 is blocked", nil},
		{"nope.example", 0, "port 0 is blocked", nil},
		{"127.0.0.1", 22, "port 22 is blocked", nil},
		{"nope.example", 80, `"nope.example" does not resolve: no such host (NXDOMAIN)`, nil},
		{"private.example", 80, "IP fd00::1 is blocked", []string{"Unique-Local", "Private-Use"}},
		{"private.example.", 80, "IP fd00::1 is blocked", []string{"Unique-Local", "Private-Use"}},
		{"127.0.0.1", 80, "IP 127.0.0.1 is blocked", []string{"Loopback"}},
		{"::ffff:127.0.0.1", 80, "IP ::ffff:127.0.0.1 is blocked", []string{"Loopback"}},
		{"64:ff9b::7f00:1", 80, "IP 64:ff9b::7f00:1 is blocked", []string{"Loopback"}},
		{"0:0:0:0:0:0:0:1", 80, "IP ::1 is blocked", []string{"Loopback Address"}},
		{"fe80::1%lo", 80, "IP fe80::1 is blocked", []string{nameNotUnicast}},
		{"169.254.169.254", 80, "IP 169.254.169.254 is blocked", []string{nameMetadata}},
		{"1.2.3.4", 80, "IP 1.2.3.4 is blocked", []string{nameOwnInterface}},
		{"127.1", 80, `"127.1" does not resolve: not a DNS name`, nil},
		{"[::1]", 80, `"[::1]" does not resolve: not a DNS name`, nil},
	} {
		t.Run(row.host, func(t *testing.T) {
			refused = nil
			_, timing, err := d.Dial(t.Context(), row.host, row.port)
			if fmt.Sprint(err) != row.want {
				t.Errorf("Dial: got %v; want %s", err, row.want)
			}
			if !slices.Equal(refused, row.refused) {
				t.Errorf("the hook was told of %v; want %v", refused, row.refused)
			}
			if timing.Connect != 0 {
				t.Errorf("%s to connect; want no attempt", timing.Connect)
			}
			if err := d.Judge(t.Context(), row.host, row.port); fmt.Sprint(err) != row.want {
				t.Errorf("Judge: got %v; want %s", err, row.want)
			}
		})
	}
	if err := d.Judge(t.Context(), "8.8.8.8", 80); err != nil {
		t.Errorf("Judge of a public address: %v; want nil", err)
	}
}

func TestDialOverLoopback(t *testing.T) {
	to, _ := listen(t, "127.0.0.2:0")
	s := startDNS(t, zone("x.example. 60 IN A 127.0.0.1", "x.example. 60 IN A 127.0.0.2"))
	g, _ := resolverFor(t, nil, s.addr)
	d := NewDialer(g)
	for _, row := range []struct {
		host             string
		lookedUp, cached bool
	}{{"127.0.0.2", false, false}, {"::ffff:127.0.0.2", false, false}, {"x.example", true, false}, {"x.example", true, true}} {
		conn, timing, err := d.Dial(t.Context(), row.host, to.Port())
		if err != nil {
			t.Fatalf("%s: %v", row.host, err)
		}
		if conn.RemoteAddr().String() != to.String() {
			t.Errorf("%s: got a connection to %s; want one to %s", row.host, conn.RemoteAddr(), to)
		}
		conn.Close()
		if timing.LookedUp != row.lookedUp || timing.Cached != row.cached || timing.Connect <= 0 {
			t.Errorf("%s: timing %+v; want looked up %v, cached %v", row.host, timing, row.lookedUp, row.cached)
		}
	}
}

func TestConnectionRefused(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0) // keeps its port, and does not listen
	if err != nil {
		t.Fatalf("make a socket: %v", err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 2}}); err != nil {
		t.Fatalf("bind: %v", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatalf("get the socket's name: %v", err)
	}
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), uint16(name.(*syscall.SockaddrInet4).Port))
	g, _ := resolverFor(t, nil)
	_, _, err = NewDialer(g).Dial(t.Context(), "127.0.0.2", to.Port())
	var failed *ConnectError
	if !errors.As(err, &failed) || failed.Timeout() || failed.Addr != to || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v; want a *ConnectError", err)
	}
	if want := fmt.Sprintf("connect to %s: connection refused", to); fmt.Sprint(err) != want {
		t.Errorf("got %v; want %s", err, want)
	}
}

// TestJudgedAgainOnTheSocket lets an address become this host's own between the judgement and the connection.
func TestJudgedAgainOnTheSocket(t *testing.T) {
	to, accepted := listen(t, "127.0.0.1:0")
	g, _ := resolverFor(t, func(c *Config) { c.AllowList = prefixes("127.0.0.0/8") })
	d := NewDialer(g)
	connect := d.connect
	d.connect = func(d *Dialer, ctx context.Context, to netip.AddrPort, source netip.Addr) (Conn, error) {
		g.allow = newRuleTable(nil)
		return connect(d, ctx, to, source)
	}
	var told []Rule
	g.hooks.Refused = func(r Rule) { told = append(told, r) }
	_, _, err := d.Dial(t.Context(), "127.0.0.1", to.Port())
	var blocked *BlockedError
	if !errors.As(err, &blocked) || err != error(blocked) || blocked.Addr != to.Addr() {
		t.Errorf("got %v; want a bare *BlockedError for %s", err, to.Addr())
	}
	if len(told) != 1 || accepted.Load() != 0 {
		t.Errorf("the hook was told of %v, %d connections; want one refusal and none", told, accepted.Load())
	}
	for _, address := range []string{"127.0.0.1:1", "8.8.4.4:80", "[2a00::1]:80"} {
		if err := d.checkSocket(netip.MustParseAddrPort(address), netip.MustParseAddrPort("8.8.8.8:80")); err == nil {
			t.Errorf("a socket for 8.8.8.8:80 that is for %s passes", address)
		}
	}
	if err := d.checkSocket(netip.MustParseAddrPort("[::ffff:8.8.8.8]:80"), netip.MustParseAddrPort("8.8.8.8:80")); err != nil {
		t.Errorf("the same address, mapped: %v; want nil", err)
	}
}

func TestEgress(t *testing.T) {
	to, _ := listen(t, "127.0.0.2:0")
	g, _ := resolverFor(t, func(c *Config) { c.EgressAddresses = addrs("127.0.0.3", "127.0.0.4") })
	d := NewDialer(g)
	seen := map[string]bool{}
	for range 4 {
		conn, _, err := d.Dial(t.Context(), "127.0.0.2", to.Port())
		if err != nil {
			t.Fatal(err)
		}
		from, err := io.ReadAll(conn)
		conn.Close()
		if err != nil {
			t.Fatal(err)
		}
		seen[netip.MustParseAddrPort(string(from)).Addr().String()] = true
	}
	if len(seen) != 1 || seen["127.0.0.1"] {
		t.Errorf("one destination saw %v; want one of the two always", seen)
	}
	used := map[netip.Addr]int{}
	for port := range 100 {
		used[g.egress.source("x.example", uint16(port), netip.MustParseAddr("8.8.8.8"))]++
		if g.egress.source("x.example", uint16(port), netip.MustParseAddr("2a00::1")).IsValid() {
			t.Fatal("a source for IPv6; want the system's choice")
		}
	}
	if len(used) != 2 {
		t.Errorf("100 destinations use %v; want both", used)
	}
	if a, b := g.egress.source("x.example", 1, to.Addr()), g.egress.source("x.example.", 1, to.Addr()); a != b {
		t.Errorf("with and without the trailing dot: %s and %s", b, a)
	}
}

// TestRebinding has names that point to a public address (127.0.0.2 plays it) and to an inner one in every
// order and mixture, and counts the connections that reach the inner one.
func TestRebinding(t *testing.T) {
	inside, outside := ListenOnOnePort(t, "127.0.0.1", "127.0.0.2")
	canary, reached := accepting(t, inside)
	public, served := accepting(t, outside)
	inner := []string{"A 127.0.0.1", "AAAA ::ffff:127.0.0.1", "AAAA ::1", "AAAA 64:ff9b::7f00:1", "AAAA ::127.0.0.1", "A 0.0.0.0", "AAAA ::"}
	var round atomic.Int64
	s := startDNS(t, func(_ string, q dns.Question, reply *dns.Msg) bool {
		n := int(round.Add(1))
		add := func(record string) {
			if r := rr(q.Name + " 0 IN " + record); r.Header().Rrtype == q.Qtype {
				reply.Answer = append(reply.Answer, r)
			}
		}
		if n%3 != 1 { // now the public address, now an inner one, now both
			add(inner[n%len(inner)])
		}
		if n%3 != 2 {
			add("A 127.0.0.2")
		}
		if n%5 == 0 {
			slices.Reverse(reply.Answer)
		}
		return true
	})
	g, _ := resolverFor(t, nil, s.addr)
	d := NewDialer(g)
	var wg sync.WaitGroup
	var connected, refused atomic.Int64
	for range 4 {
		wg.Go(func() {
			for i := range 150 {
				conn, _, err := d.Dial(t.Context(), fmt.Sprintf("rebind%d.example", i%2), canary.Port())
				var blocked *BlockedError
				switch {
				case err == nil && conn.RemoteAddr().String() == public.String():
					connected.Add(1)
					conn.Close()
				case errors.As(err, &blocked):
					refused.Add(1)
				case err == nil:
					t.Errorf("connected to %s", conn.RemoteAddr())
					conn.Close()
				default:
					var unresolved *ResolveError
					if !errors.As(err, &unresolved) {
						t.Errorf("got %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	if reached.Load() != 0 {
		t.Errorf("%d connections reached 127.0.0.1; want 0", reached.Load())
	}
	if connected.Load() == 0 || refused.Load() == 0 || served.Load() == 0 {
		t.Errorf("%d connected, %d refused; want some of both", connected.Load(), refused.Load())
	}
}
