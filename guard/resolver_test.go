package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// lookupText resolves host and returns its addresses, or the error's text.
func lookupText(t testing.TB, g *Guard, host string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	as, err := NewDialer(g).Resolve(ctx, host)
	if err != nil {
		return err.Error()
	}
	return strings.Trim(fmt.Sprint(as), "[]")
}

func TestResolve(t *testing.T) {
	soa := "example. 60 IN SOA ns.example. host.example. 1 2 3 4 30"
	var loop, long []string
	for i := range 3 {
		loop = append(loop, fmt.Sprintf("loop%d.example. 60 IN CNAME loop%d.example.", i, (i+1)%3))
	}
	for i := range maxChain + 1 {
		long = append(long, fmt.Sprintf("c%d.example. 60 IN CNAME c%d.example.", i, i+1))
	}
	long = append(long, fmt.Sprintf("c%d.example. 60 IN A 8.8.8.8", maxChain+1))
	records := slices.Concat(loop, long, []string{
		soa,
		"a.example. 60 IN A 8.8.8.8",
		"a.example. 60 IN A 8.8.4.4",
		"aaaa.example. 60 IN AAAA 2a00::1",
		"both.example. 60 IN A 8.8.8.8",
		"both.example. 60 IN A 8.8.4.4",
		"both.example. 60 IN A 8.8.8.8",
		"both.example. 60 IN A 9.9.9.9",
		"both.example. 60 IN AAAA 2a00::1",
		"both.example. 60 IN AAAA 2a00::2",
		"mapped.example. 60 IN AAAA ::ffff:8.8.8.8",
		"mapped.example. 60 IN A 8.8.8.8",
		"alias.example. 60 IN CNAME Alias2.Example.",
		"alias2.example. 60 IN CNAME a.example.",
		"dangling.example. 60 IN CNAME elsewhere.test.",
		"empty.example. 60 IN TXT \"nothing\"",
		"_under_score.example. 60 IN A 8.8.8.8",
	})
	s := startDNS(t, zone(records...))
	g, _ := resolverFor(t, nil, s.addr)
	together(g)
	for _, row := range []struct{ name, host, want string }{
		{"A", "a.example", "8.8.8.8 8.8.4.4"},
		{"trailing dot", "a.example.", "8.8.8.8 8.8.4.4"},
		{"letters", "A.eXample", "8.8.8.8 8.8.4.4"},
		{"AAAA", "aaaa.example", "2a00::1"},
		{"interleaved", "both.example", "2a00::1 8.8.8.8 2a00::2 8.8.4.4 9.9.9.9"},
		{"mapped AAAA is IPv4", "mapped.example", "::ffff:8.8.8.8"},
		{"alias", "alias.example", "8.8.8.8 8.8.4.4"},
		{"the longest chain", "c1.example", "8.8.8.8"},
		{"underscores", "_under_score.example", "8.8.8.8"},
		{"NXDOMAIN", "nope.example", `"nope.example" does not resolve: no such host (NXDOMAIN)`},
		{"NODATA", "empty.example", `"empty.example" does not resolve: the name has no address (NODATA)`},
		{"dangling alias", "dangling.example", `"dangling.example" does not resolve: the name has no address (NODATA)`},
		{"alias loop", "loop0.example", `"loop0.example" does not resolve: a chain of more than 16 aliases (CNAME)`},
		{"too long a chain", "c0.example", `"c0.example" does not resolve: a chain of more than 16 aliases (CNAME)`},
		{"literal", "127.0.0.1", "127.0.0.1"},
		{"IPv6 literal", "2001:DB8::1", "2001:db8::1"},
		{"localhost", "localhost", "::1 127.0.0.1"},
		{"below localhost", "a.localhost.", "::1 127.0.0.1"},
		{"a number", "2130706433", `"2130706433" does not resolve: not a DNS name`},
		{"hexadecimal", "0x7f.0x1", `"0x7f.0x1" does not resolve: not a DNS name`},
		{"short IPv4", "127.1", `"127.1" does not resolve: not a DNS name`},
		{"empty", "", `"" does not resolve: not a DNS name`},
		{"root", ".", `"." does not resolve: not a DNS name`},
		{"two dots", "a..example", `"a..example" does not resolve: not a DNS name`},
		{"two trailing dots", "a.example..", `"a.example.." does not resolve: not a DNS name`},
		{"control character", "a\n.example", `"a\n.example" does not resolve: not a DNS name`},
		{"escape", `a\.example`, `"a\\.example" does not resolve: not a DNS name`},
		{"long label", strings.Repeat("a", 64) + ".example", fmt.Sprintf("%q does not resolve: not a DNS name", strings.Repeat("a", 64)+".example")},
		{"long name", strings.Repeat("a.", 127), fmt.Sprintf("%q does not resolve: no such host (NXDOMAIN)", strings.Repeat("a.", 127))},
		{"too long a name", strings.Repeat("a.", 127) + "a", fmt.Sprintf("%q does not resolve: not a DNS name", strings.Repeat("a.", 127)+"a")},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := lookupText(t, g, row.host); got != row.want {
				t.Errorf("got %s; want %s", got, row.want)
			}
		})
	}
}

// TestTTL looks a name up twice, some time apart, and counts the questions.
func TestTTL(t *testing.T) {
	for _, row := range []struct {
		name     string
		records  []string
		cacheTTL time.Duration
		apart    time.Duration
		want     int // questions for A
	}{
		{"within the TTL", []string{"x.example. 5 IN A 8.8.8.8"}, time.Minute, 4 * time.Second, 1},
		{"at the TTL", []string{"x.example. 5 IN A 8.8.8.8"}, time.Minute, 5 * time.Second, 2},
		{"TTL 0", []string{"x.example. 0 IN A 8.8.8.8"}, time.Minute, 0, 2},
		{"TTL with the highest bit", []string{"x.example. 2147483648 IN A 8.8.8.8"}, time.Minute, 0, 2},
		{"the smallest TTL counts", []string{"x.example. 60 IN A 8.8.8.8", "x.example. 0 IN A 8.8.4.4"}, time.Minute, 0, 2},
		{"the alias's TTL counts", []string{"x.example. 0 IN CNAME y.example.", "y.example. 60 IN A 8.8.8.8"}, time.Minute, 0, 2},
		{"the other family's TTL counts", []string{"x.example. 0 IN AAAA 2a00::1", "x.example. 60 IN A 8.8.8.8"}, time.Minute, 0, 2},
		{"dns.cacheTTL caps, within", []string{"x.example. 3600 IN A 8.8.8.8"}, 10 * time.Second, 9 * time.Second, 1},
		{"dns.cacheTTL caps, at", []string{"x.example. 3600 IN A 8.8.8.8"}, 10 * time.Second, 10 * time.Second, 2},
		{"dns.cacheTTL 0", []string{"x.example. 3600 IN A 8.8.8.8"}, 0, 0, 2},
		{"NXDOMAIN with SOA", []string{"example. 60 IN SOA n. h. 1 2 3 4 5"}, time.Minute, 4 * time.Second, 1},
		{"NXDOMAIN at the SOA's minimum", []string{"example. 60 IN SOA n. h. 1 2 3 4 5"}, time.Minute, 5 * time.Second, 2},
		{"NXDOMAIN at the SOA's TTL", []string{"example. 5 IN SOA n. h. 1 2 3 4 60"}, time.Minute, 5 * time.Second, 2},
		{"NXDOMAIN capped", []string{"example. 60 IN SOA n. h. 1 2 3 4 60"}, 2 * time.Second, 2 * time.Second, 2},
		{"NXDOMAIN without SOA", nil, time.Minute, 0, 2},
		{"NXDOMAIN with another zone's SOA", []string{"test. 60 IN SOA n. h. 1 2 3 4 5"}, time.Minute, 0, 2},
		{"NODATA with SOA", []string{"x.example. 60 IN TXT x", "example. 60 IN SOA n. h. 1 2 3 4 5"}, time.Minute, 4 * time.Second, 1},
		{"NODATA without SOA", []string{"x.example. 60 IN TXT x"}, time.Minute, 0, 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := startDNS(t, zone(row.records...))
			g, clock := resolverFor(t, func(c *Config) { c.DNSCacheTTL = row.cacheTTL }, s.addr)
			first := lookupText(t, together(g), "x.example")
			clock.add(row.apart)
			if again := lookupText(t, g, "X.example."); again != strings.Replace(first, "x.example", "X.example.", 1) {
				t.Errorf("got %s; want %s again", again, first)
			}
			if got := s.count("udp A "); got != row.want {
				t.Errorf("%d questions; want %d", got, row.want)
			}
		})
	}
}

func TestHooksLookup(t *testing.T) {
	s := startDNS(t, zone("x.example. 60 IN A 8.8.8.8", "example. 60 IN SOA n. h. 1 2 3 4 60"))
	g, _ := resolverFor(t, nil, s.addr)
	var got []string
	g.hooks.Lookup = func(r LookupResult) { got = append(got, r.String()) }
	for _, host := range []string{"x.example", "x.example", "127.0.0.1", "nope.example", "nope.example", "1.2", "localhost"} {
		lookupText(t, g, host)
	}
	if want := []string{"ok", "cached", "failed", "cached", "failed", "ok"}; !slices.Equal(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
}

func TestTruncatedAnswerComesOverTCP(t *testing.T) {
	s := startDNS(t, func(network string, q dns.Question, reply *dns.Msg) bool {
		if network == "udp" {
			reply.Truncated = true
			reply.Answer = append(reply.Answer, rr("x.example. 60 IN A 9.9.9.9"))
			return true
		}
		if q.Qtype == dns.TypeA {
			for i := range 100 {
				reply.Answer = append(reply.Answer, rr(fmt.Sprintf("x.example. 60 IN A 8.8.8.%d", i)))
			}
		}
		return true
	})
	g, _ := resolverFor(t, nil, s.addr)
	got, err := NewDialer(g).Resolve(t.Context(), "x.example")
	if err != nil || len(got) != 100 || got[0] != netip.MustParseAddr("8.8.8.0") {
		t.Errorf("got %v, %v; want the 100 addresses that came over TCP", got, err)
	}
	if s.count("tcp A ") != 1 {
		t.Errorf("queries %v; want A asked once over TCP", s.queries)
	}
}

func TestServerTroubles(t *testing.T) {
	t.Parallel()
	good := startDNS(t, zone("x.example. 60 IN A 8.8.8.8"))
	code := func(rcode int) netip.AddrPort {
		return startDNS(t, func(_ string, _ dns.Question, reply *dns.Msg) bool { reply.Rcode = rcode; return true }).addr
	}
	closed := func() netip.AddrPort {
		// Connected, the socket keeps the port from others, and takes no datagrams but its peer's.
		conn, err := net.Dial("udp", "127.0.0.1:9")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return netip.MustParseAddrPort(conn.LocalAddr().String())
	}
	silent := startDNS(t, func(string, dns.Question, *dns.Msg) bool { return false }).addr
	noAAAA := startDNS(t, func(n string, q dns.Question, reply *dns.Msg) bool {
		if q.Qtype == dns.TypeAAAA {
			reply.Rcode = dns.RcodeServerFailure
			return true
		}
		return zone("x.example. 60 IN A 8.8.8.8")(n, q, reply)
	}).addr
	noEDNS := startDNS(t, zone("x.example. 60 IN A 8.8.8.8"))
	noEDNS.refuseEDNS.Store(true)
	for _, row := range []struct {
		name    string
		servers []netip.AddrPort
		want    string
	}{
		{"SERVFAIL, then good", []netip.AddrPort{code(dns.RcodeServerFailure), good.addr}, "8.8.8.8"},
		{"REFUSED, then good", []netip.AddrPort{code(dns.RcodeRefused), good.addr}, "8.8.8.8"},
		{"closed, then good", []netip.AddrPort{closed(), good.addr}, "8.8.8.8"},
		{"silent, then good", []netip.AddrPort{silent, good.addr}, "8.8.8.8"},
		{"SERVFAIL for AAAA alone", []netip.AddrPort{noAAAA}, "8.8.8.8"},
		{"no EDNS", []netip.AddrPort{noEDNS.addr}, "8.8.8.8"},
		{"SERVFAIL", []netip.AddrPort{code(dns.RcodeServerFailure)}, `"x.example" does not resolve: the resolver says SERVFAIL`},
		{"unregistered code", []netip.AddrPort{code(12)}, `"x.example" does not resolve: the resolver says RCODE12`},
		{"closed", []netip.AddrPort{closed()}, `"x.example" does not resolve: no resolver answers: connection refused`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			g, _ := resolverFor(t, nil, row.servers...)
			start := time.Now()
			if got := lookupText(t, g, "x.example"); got != row.want {
				t.Errorf("got %s; want %s", got, row.want)
			}
			if took := time.Since(start); took > 8*time.Second {
				t.Errorf("took %s; want well under 10s", took)
			}
		})
	}
}

func TestSilentServerIsAskedLast(t *testing.T) {
	g, clock := resolverFor(t, nil, netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("192.0.2.2:53"))
	r := g.resolver
	r.noteSilence(r.servers[0], true)
	if got := r.inTurn(r.servers); got[0] != r.servers[1] || len(got) != 2 {
		t.Errorf("got %v; want the other one first", got)
	}
	clock.add(silentFor)
	if got := r.inTurn(r.servers); got[0] != r.servers[0] {
		t.Errorf("got %v after %s; want the configured order", got, silentFor)
	}
	r.noteSilence(r.servers[0], false)
	if len(r.silent) != 0 {
		t.Errorf("%v is left in the book", r.silent)
	}
}

// reply answers a fake query; nil stands for silence until ctx ends.
func reply(ctx context.Context, name string, qtype uint16, records ...string) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	m.Response = true
	for _, s := range records {
		if r := rr(s); r.Header().Rrtype == qtype {
			m.Answer = append(m.Answer, r)
		}
	}
	return m, ctx.Err()
}

// TestFamilies answers A and AAAA after different times, on a fake clock.
func TestFamilies(t *testing.T) {
	const never = time.Hour
	for _, row := range []struct {
		name    string
		a, aaaa time.Duration
		rcodeA  int
		records []string
		want    string
		took    time.Duration
	}{
		{name: "both at once", records: []string{"A 8.8.8.8", "AAAA 2a00::1"}, want: "2a00::1 8.8.8.8"},
		{name: "AAAA never", aaaa: never, records: []string{"A 8.8.8.8"}, want: "8.8.8.8", took: 50 * time.Millisecond},
		{name: "A never", a: never, records: []string{"AAAA 2a00::1"}, want: "2a00::1", took: 50 * time.Millisecond},
		{name: "AAAA in time", aaaa: 40 * time.Millisecond, records: []string{"A 8.8.8.8", "AAAA 2a00::1"},
			want: "2a00::1 8.8.8.8", took: 40 * time.Millisecond},
		{name: "AAAA too late", aaaa: 60 * time.Millisecond, records: []string{"A 8.8.8.8", "AAAA 2a00::1"},
			want: "8.8.8.8", took: 50 * time.Millisecond},
		{name: "A slow, AAAA never", a: time.Second, aaaa: never, records: []string{"A 8.8.8.8"}, want: "8.8.8.8", took: 1050 * time.Millisecond},
		{name: "no A, AAAA slow", aaaa: time.Second, records: []string{"AAAA 2a00::1"}, want: "2a00::1", took: time.Second},
		{name: "no A, AAAA never", aaaa: never, want: `"x.example" does not resolve: no resolver answered in time`, took: 4 * time.Second},
		{name: "A says NXDOMAIN, AAAA never", aaaa: never, rcodeA: dns.RcodeNameError,
			want: `"x.example" does not resolve: no such host (NXDOMAIN)`, took: 50 * time.Millisecond},
		{name: "neither", a: never, aaaa: never, want: `"x.example" does not resolve: no resolver answered in time`, took: 4 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := testGuard(t, DefaultConfig(), Hooks{})
				g.resolver.query = func(ctx context.Context, _ netip.AddrPort, name string, qtype uint16) (*dns.Msg, error) {
					delay := row.a
					if qtype == dns.TypeAAAA {
						delay = row.aaaa
					}
					select {
					case <-time.After(delay):
					case <-ctx.Done():
						return nil, ctx.Err()
					}
					var records []string
					for _, s := range row.records {
						records = append(records, "x.example. 60 IN "+s)
					}
					m, err := reply(ctx, name, qtype, records...)
					if qtype == dns.TypeA {
						m.Rcode = row.rcodeA
					}
					return m, err
				}
				start := time.Now()
				if got := lookupText(t, g, "x.example"); got != row.want {
					t.Errorf("got %s; want %s", got, row.want)
				}
				if took := time.Since(start); took != row.took {
					t.Errorf("took %s; want %s", took, row.took)
				}
				time.Sleep(lookupTimeout)
				synctest.Wait() // the late one has joined, or has been given up
				if row.name == "AAAA too late" {
					// It has joined, but the entry has expired: 10 s are dns.cacheTTL's default.
					if e := g.resolver.cache.entries["x.example"]; len(e.addrs) != 2 || e.expires.Sub(start) != 10*time.Second {
						t.Errorf("cached %v for %s; want both addresses for 10s", e.addrs, e.expires.Sub(start))
					}
				}
			})
		})
	}
}

// TestUnansweredAAAAOverUDP is TestFamilies' second row over real sockets.
func TestUnansweredAAAAOverUDP(t *testing.T) {
	s := startDNS(t, func(n string, q dns.Question, reply *dns.Msg) bool {
		return q.Qtype == dns.TypeA && zone("x.example. 0 IN A 8.8.8.8")(n, q, reply)
	})
	g, _ := resolverFor(t, nil, s.addr)
	start := time.Now()
	if got := lookupText(t, g, "x.example"); got != "8.8.8.8" {
		t.Errorf("got %s; want 8.8.8.8", got)
	}
	if took := time.Since(start); took > 3*time.Second { // giving up takes 4 s
		t.Errorf("took %s; want some 50ms", took)
	}
}

// TestForgedAnswersAreIgnored sends three answers that are not to the question before the one that is.
func TestForgedAnswersAreIgnored(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(buf[:n]) != nil {
				continue
			}
			forge := func(change func(*dns.Msg), addr string) {
				m := new(dns.Msg)
				m.SetReply(q)
				if q.Question[0].Qtype == dns.TypeA {
					m.Answer = []dns.RR{rr("x.example. 60 IN A " + addr)}
				}
				change(m)
				if packed, err := m.Pack(); err == nil {
					pc.WriteTo(packed, from)
				}
			}
			pc.WriteTo([]byte("not DNS"), from)
			forge(func(m *dns.Msg) { m.Id++ }, "6.6.6.1")
			forge(func(m *dns.Msg) { m.Response = false }, "6.6.6.2")
			forge(func(m *dns.Msg) { m.Question[0].Name = "y.example." }, "6.6.6.3")
			forge(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeTXT }, "6.6.6.4")
			forge(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, "6.6.6.5")
			forge(func(m *dns.Msg) { m.Question = nil }, "6.6.6.6")
			forge(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }, "6.6.6.7")
			forge(func(m *dns.Msg) { m.Question[0].Name = "X.eXample." }, "8.8.8.8")
		}
	})
	t.Cleanup(func() { pc.Close(); wg.Wait() })
	g, _ := resolverFor(t, nil, netip.MustParseAddrPort(pc.LocalAddr().String()))
	if got := lookupText(t, g, "x.example"); got != "8.8.8.8" {
		t.Errorf("got %s; want 8.8.8.8", got)
	}
}

func TestCoalescing(t *testing.T) {
	for _, ttl := range []int{0, 60} {
		t.Run(fmt.Sprintf("TTL %d", ttl), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := testGuard(t, DefaultConfig(), Hooks{})
				var questions atomic.Int32
				g.resolver.query = func(ctx context.Context, _ netip.AddrPort, name string, qtype uint16) (*dns.Msg, error) {
					questions.Add(1)
					time.Sleep(time.Second)
					return reply(ctx, name, qtype, fmt.Sprintf("x.example. %d IN A 8.8.8.8", ttl))
				}
				var wg sync.WaitGroup
				for range 50 {
					wg.Go(func() {
						if got := lookupText(t, g, "x.example"); got != "8.8.8.8" {
							t.Errorf("got %s; want 8.8.8.8", got)
						}
					})
				}
				wg.Wait()
				if got := questions.Load(); got != 2 {
					t.Errorf("%d questions for 50 at once; want 2", got)
				}
				lookupText(t, g, "x.example")
				want := int32(2)
				if ttl == 0 {
					want = 4
				}
				if got := questions.Load(); got != want {
					t.Errorf("%d questions after another one; want %d", got, want)
				}
			})
		})
	}
}

// TestWaiterLeaves checks that a waiter who leaves takes nobody along, and that the last one ends the look-up.
func TestWaiterLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGuard(t, DefaultConfig(), Hooks{})
		var cancelled atomic.Int32
		g.resolver.query = func(ctx context.Context, _ netip.AddrPort, name string, qtype uint16) (*dns.Msg, error) {
			select {
			case <-time.After(time.Second):
				return reply(ctx, name, qtype, "x.example. 60 IN A 8.8.8.8")
			case <-ctx.Done():
				cancelled.Add(1)
				return nil, ctx.Err()
			}
		}
		d := NewDialer(g)
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, err := d.Resolve(ctx, "x.example")
			var failed *ResolveError
			if !errors.As(err, &failed) || !failed.Timeout || failed.NotFound {
				t.Errorf("out of time: %v; want a *ResolveError with Timeout", err)
			}
		})
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(200*time.Millisecond, cancel)
			if _, err := d.Resolve(ctx, "x.example"); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v; want context.Canceled", err)
			}
		})
		wg.Go(func() {
			if got := lookupText(t, g, "x.example"); got != "8.8.8.8" {
				t.Errorf("who stayed: %s; want 8.8.8.8", got)
			}
		})
		wg.Wait()
		if cancelled.Load() != 0 {
			t.Error("the look-up was cancelled although somebody stayed")
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(200*time.Millisecond, cancel)
		if _, err := d.Resolve(ctx, "y.example"); !errors.Is(err, context.Canceled) {
			t.Errorf("alone: %v; want context.Canceled", err)
		}
		synctest.Wait()
		if cancelled.Load() != 2 || len(g.resolver.flights) != 0 {
			t.Errorf("%d questions cancelled, %d flights left; want 2 and 0", cancelled.Load(), len(g.resolver.flights))
		}
	})
}
