package guard

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// dnsServer is a resolver on this host that answers over UDP and TCP as its handler says.
type dnsServer struct {
	addr netip.AddrPort
	// refuseEDNS makes it answer FORMERR, without the question, to what it takes for an unknown format.
	refuseEDNS atomic.Bool
	// chokeEDNS is the code that questions with EDNS are answered with, if not 0; silentOnEDNS: none at all.
	chokeEDNS atomic.Int32
	withEDNS  atomic.Int32 // questions over UDP

	mu      sync.Mutex // guards queries
	queries []string   // "udp A name.", in the order in which they came
}

const silentOnEDNS = -1

// startDNS starts a server; handle fills in the reply, and returns false to stay silent.
func startDNS(t testing.TB, handle func(network string, q dns.Question, reply *dns.Msg) bool) *dnsServer {
	t.Helper()
	s := &dnsServer{}
	var pc net.PacketConn
	var ln net.Listener
	for range 20 { // until both have the same port
		var err error
		if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if ln, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			break
		}
		pc.Close()
	}
	s.addr = netip.MustParseAddrPort(pc.LocalAddr().String())
	for _, srv := range []*dns.Server{{PacketConn: pc}, {Listener: ln}} {
		network := "udp"
		if srv.Listener != nil {
			network = "tcp"
		}
		srv.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			s.mu.Lock()
			s.queries = append(s.queries, network+" "+dns.TypeToString[q.Question[0].Qtype]+" "+q.Question[0].Name)
			s.mu.Unlock()
			reply := new(dns.Msg)
			reply.SetReply(q)
			reply.RecursionAvailable = true
			if s.refuseEDNS.Load() && q.IsEdns0() != nil {
				reply.Rcode, reply.Question = dns.RcodeFormatError, nil
				w.WriteMsg(reply)
				return
			}
			if q.IsEdns0() != nil && network == "udp" {
				s.withEDNS.Add(1)
				switch code := s.chokeEDNS.Load(); code {
				case 0:
				case silentOnEDNS:
					return
				default:
					reply.SetEdns0(4096, false) // the upper bits of a code are there
					reply.Rcode = int(code)
					w.WriteMsg(reply)
					return
				}
			}
			if handle(network, q.Question[0], reply) {
				w.WriteMsg(reply)
			}
		})
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			srv.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() {
			srv.Shutdown()
			<-ended
		})
	}
	return s
}

// count returns how many queries began with prefix.
func (s *dnsServer) count(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, q := range s.queries {
		if strings.HasPrefix(q, prefix) {
			n++
		}
	}
	return n
}

// rr parses a record; a mistake in a test panics.
func rr(s string) dns.RR {
	r, err := dns.NewRR(s)
	if err != nil {
		panic(err)
	}
	return r
}

// zone answers from records: a server that knows all of them, aliases included.
func zone(records ...string) func(string, dns.Question, *dns.Msg) bool {
	var rrs []dns.RR
	for _, s := range records {
		rrs = append(rrs, rr(s))
	}
	return func(_ string, q dns.Question, reply *dns.Msg) bool {
		name, exists := q.Name, false
		for range 30 {
			next := ""
			for _, r := range rrs {
				if !strings.EqualFold(r.Header().Name, name) {
					continue
				}
				exists = true
				if c, ok := r.(*dns.CNAME); ok {
					reply.Answer = append(reply.Answer, r)
					next = c.Target
				} else if r.Header().Rrtype == q.Qtype {
					reply.Answer = append(reply.Answer, r)
				}
			}
			if next == "" {
				break
			}
			name = next
		}
		if !exists {
			reply.Rcode = dns.RcodeNameError
		}
		for _, r := range rrs {
			if soa, ok := r.(*dns.SOA); ok && len(reply.Answer) == 0 {
				reply.Ns = append(reply.Ns, soa)
			}
		}
		return true
	}
}

// resolverFor returns a Guard that asks servers, and the clock that its cache goes by.
func resolverFor(t testing.TB, change func(*Config), servers ...netip.AddrPort) (*Guard, *testClock) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.DNSServers = servers
	cfg.AllowList = prefixes("127.0.0.2/32")
	if change != nil {
		change(&cfg)
	}
	clock := &testClock{at: time.Now()}
	env := testEnvironment(t)
	env.now = clock.now
	g, err := newGuard(cfg, Hooks{}, env)
	if err != nil {
		t.Fatal(err)
	}
	return g, clock
}

// together has g learn the answers for A and AAAA at one time, so that neither comes too late for the other. It is for
// servers that answer both.
func together(g *Guard) *Guard {
	meet := make(chan struct{})
	query := g.resolver.query
	g.resolver.query = func(ctx context.Context, server netip.AddrPort, name string, qtype uint16) (*dns.Msg, error) {
		m, err := query(ctx, server, name, qtype)
		select { // one of the two sends, the other receives
		case meet <- struct{}{}:
		case <-meet:
		case <-ctx.Done():
		}
		return m, err
	}
	return g
}

// testClock stands still unless it is told to go on.
type testClock struct {
	mu sync.Mutex // guards at
	at time.Time
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *testClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// writeFile replaces a file so that its change can be seen.
func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
