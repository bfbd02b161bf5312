package guard

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestParseAnswerIgnoresWhatWasNotAskedFor(t *testing.T) {
	m := new(dns.Msg)
	m.SetQuestion("x.example.", dns.TypeA)
	m.Answer = []dns.RR{
		rr("other.example. 1 IN A 6.6.6.1"),
		rr("y.example. 30 IN A 8.8.8.8"),
		rr("x.example. 60 IN CNAME y.example."),
		rr("x.example. 1 IN CNAME evil.example."), // a second alias is malformed: the first counts
		rr("evil.example. 1 IN A 6.6.6.2"),
		rr("x.example. 1 IN A 6.6.6.3"), // beside an alias there is nothing
		rr("y.example. 1 CH A 6.6.6.4"),
		rr("y.example. 1 IN AAAA 2a00::6"),
		rr("y.example. 20 IN A 8.8.4.4"),
		&dns.A{Hdr: dns.RR_Header{Name: "y.example.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}}, // without data
	}
	m.Ns = []dns.RR{rr("y.example. 1 IN A 6.6.6.5")}
	m.Extra = []dns.RR{rr("y.example. 1 IN A 6.6.6.6")}
	got := parseAnswer(m, "x.example", dns.TypeA)
	if want := addrs("8.8.8.8", "8.8.4.4"); !slices.Equal(got.addrs, want) || got.ttl != 20*time.Second {
		t.Errorf("got %v for %s; want %v for 20s", got.addrs, got.ttl, want)
	}
}

func TestNXDOMAINHasNoAddresses(t *testing.T) {
	m := new(dns.Msg)
	m.SetQuestion("x.example.", dns.TypeA)
	m.Rcode = dns.RcodeNameError
	m.Answer = []dns.RR{rr("x.example. 60 IN A 8.8.8.8")}
	if got := parseAnswer(m, "x.example", dns.TypeA); got.err != errNoSuchHost || len(got.addrs) != 0 {
		t.Errorf("got %v, %v; want no address and NXDOMAIN", got.addrs, got.err)
	}
}

func TestMerge(t *testing.T) {
	servfail := &ResolveError{}
	ok := answer{addrs: addrs("8.8.8.8"), ttl: 5}
	ok6 := answer{addrs: addrs("2a00::1"), ttl: 3}
	none := answer{err: errNoAddress, ttl: 7}
	gone := answer{err: errNoSuchHost, ttl: 9}
	failed := answer{err: servfail}
	for _, row := range []struct {
		name    string
		a, aaaa answer
		addrs   int
		ttl     time.Duration
		err     error
	}{
		{"both", ok, ok6, 2, 3, nil},
		{"A alone", ok, none, 1, 5, nil},
		{"A, the other gone", ok, gone, 1, 5, nil},
		{"A, the other failed", ok, failed, 1, 5, nil},
		{"AAAA alone", none, ok6, 1, 3, nil},
		{"AAAA, the other gone", gone, ok6, 1, 3, nil},
		{"AAAA, the other failed", failed, ok6, 1, 3, nil},
		{"gone", gone, gone, 0, 9, errNoSuchHost},
		{"gone and none", gone, none, 0, 7, errNoSuchHost},
		{"gone and failed", gone, failed, 0, 0, errNoSuchHost},
		{"none", none, none, 0, 7, errNoAddress},
		{"none and gone", none, gone, 0, 7, errNoAddress},
		{"none and failed", none, failed, 0, 0, servfail},
		{"failed and none", failed, none, 0, 0, servfail},
		{"failed and gone", failed, gone, 0, 0, servfail},
		{"failed", failed, failed, 0, 0, servfail},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := merge(row.a, row.aaaa)
			if len(got.addrs) != row.addrs || got.ttl != row.ttl || got.err != row.err {
				t.Errorf("got %v; want %d addresses, ttl %d, error %v", got, row.addrs, row.ttl, row.err)
			}
		})
	}
}

// FuzzAnswer feeds the resolver arbitrary bytes as a server's answer. An address that comes out must belong to
// a name that aliases lead to from the one asked for, and that is no alias itself.
func FuzzAnswer(f *testing.F) {
	q := new(dns.Msg)
	q.SetQuestion("x.example.", dns.TypeA)
	q.Id = 0x0101
	for _, records := range [][]string{
		{"x.example. 60 IN A 8.8.8.8"},
		{"x.example. 60 IN CNAME y.example.", "y.example. 60 IN A 8.8.8.8", "z.example. 60 IN A 6.6.6.6"},
		{"x.example. 60 IN CNAME x.example."},
		{"x.example. 60 IN CNAME y.example.", "y.example. 60 IN CNAME x.example.", "y.example. 60 IN A 6.6.6.6"},
		{"x.example. 60 IN AAAA ::ffff:127.0.0.1"},
	} {
		m := new(dns.Msg)
		m.SetReply(q)
		for _, s := range records {
			m.Answer = append(m.Answer, rr(s))
		}
		for _, compress := range []bool{false, true} {
			m.Compress = compress
			packed, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(packed)
		}
	}
	question, err := q.Pack()
	if err != nil {
		f.Fatal(err)
	}
	cut := withA(truncate, record(asked, dns.TypeA, 60, outside), record(asked, dns.TypeA, 60, inside))(question)
	f.Add(cut[:len(cut)-3])
	f.Add(answerTo(question, 0, 65535, 65535, 65535)) // records that are promised and not there
	f.Add(append(answerTo(question, 0, 1, 0, 0), record("\x01a\xc0\x1b", dns.TypeA, 60, inside)...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := match(raw, q)
		if m == nil || err != nil {
			return
		}
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			a := parseAnswer(m, "x.example", qtype)
			if (a.err == nil) != (len(a.addrs) > 0) || len(a.addrs) > len(m.Answer) || a.ttl < 0 {
				t.Errorf("an answer of %d addresses, error %v, ttl %s", len(a.addrs), a.err, a.ttl)
			}
			for _, addr := range a.addrs {
				if !endsChain(m, addr) {
					t.Errorf("%s is not at the end of the chain in\n%s", addr, m)
				}
			}
		}
	})
}

// endsChain finds out in a roundabout way whether addr belongs to x.example.
func endsChain(m *dns.Msg, addr netip.Addr) bool {
	reached, alias := map[string]bool{"x.example.": true}, map[string]bool{}
	for range m.Answer {
		for _, r := range m.Answer {
			c, ok := r.(*dns.CNAME)
			if !ok || c.Hdr.Class != dns.ClassINET {
				continue
			}
			owner := dns.CanonicalName(c.Hdr.Name)
			alias[owner] = true
			if reached[owner] {
				reached[dns.CanonicalName(c.Target)] = true
			}
		}
	}
	return slices.ContainsFunc(m.Answer, func(r dns.RR) bool {
		var ip []byte
		switch r := r.(type) {
		case *dns.A:
			ip = r.A.To4()
		case *dns.AAAA:
			ip = r.AAAA
		}
		got, _ := netip.AddrFromSlice(ip)
		owner := dns.CanonicalName(r.Header().Name)
		return got == addr && reached[owner] && !alias[owner] && r.Header().Class == dns.ClassINET
	})
}
