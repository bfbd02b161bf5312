package guard

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestServersThatChokeOnEDNS has a server fail in every way where a question carries EDNS. It is asked once more without,
// and for ten minutes at once so. One server is enough: nobody else could have answered.
func TestServersThatChokeOnEDNS(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		code int32
		took time.Duration // at least
	}{
		{"FORMERR", dns.RcodeFormatError, 0},
		{"SERVFAIL", dns.RcodeServerFailure, 0},
		{"NOTIMP", dns.RcodeNotImplemented, 0},
		{"REFUSED", dns.RcodeRefused, 0},
		{"BADVERS", dns.RcodeBadVers, 0},
		{"silence", silentOnEDNS, ednsPatience},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := startDNS(t, zone("x.example. 0 IN A 8.8.8.8", "x.example. 0 IN AAAA 2a00::1"))
			s.chokeEDNS.Store(row.code)
			g, clock := resolverFor(t, nil, s.addr)
			together(g)
			for _, step := range []struct {
				name  string
				later time.Duration
				edns  bool // whether a question carries it; both families' do, unless the other has learned already
				took  time.Duration
			}{
				{"first", 0, true, row.took},
				{"at once", 0, false, 0},
				{"just within ten minutes", withoutEDNS - 1, false, 0},
				{"after ten minutes", 1, true, row.took},
			} {
				clock.add(step.later)
				began := time.Now()
				if got := lookupText(t, g, "x.example"); got != "2a00::1 8.8.8.8" {
					t.Errorf("%s: got %s; want both addresses", step.name, got)
				}
				if took := time.Since(began); took < step.took {
					t.Errorf("%s: took %s; want %s at least", step.name, took, step.took)
				}
				if got := s.withEDNS.Swap(0); (got > 0) != step.edns || got > 2 {
					t.Errorf("%s: %d questions with EDNS; want some %v", step.name, got, step.edns)
				}
			}
		})
	}
}

// TestFailureWithAndWithoutEDNS checks that a server which fails either way is not asked without EDNS from then on.
func TestFailureWithAndWithoutEDNS(t *testing.T) {
	t.Parallel()
	s := startDNS(t, func(_ string, _ dns.Question, reply *dns.Msg) bool {
		reply.Rcode = dns.RcodeServerFailure
		return true
	})
	g, _ := resolverFor(t, nil, s.addr)
	for round := range 2 {
		if got, want := lookupText(t, g, "x.example"), `"x.example" does not resolve: the resolver says SERVFAIL`; got != want {
			t.Errorf("got %s; want %s", got, want)
		}
		// Each of the two attempts asks with and without.
		if with, all := int(s.withEDNS.Load()), s.count("udp "); all != 2*with || with != (round+1)*2*defaultAttempts {
			t.Errorf("%d questions, %d of them with EDNS; want half of %d", all, with, (round+1)*4*defaultAttempts)
		}
	}
}

// TestLateAnswerToTheFirstQuestion has the answer to the question with EDNS come after the one without was put.
func TestLateAnswerToTheFirstQuestion(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name      string
		late, now uint16 // codes of the answers to the question with EDNS, and to the one without, which comes after it
		want      string
		plain     int
	}{
		{"it is good", 0, dns.RcodeServerFailure, "8.8.4.4", 0},
		{"it is none", dns.RcodeServerFailure, 0, "8.8.4.4", 1},
		{"neither is", dns.RcodeServerFailure, dns.RcodeRefused, `"x.example" does not resolve: the resolver says REFUSED`, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			first := make(chan []byte, 8)
			server := startLiar(t, func(q []byte) [][]byte {
				if qtypeOf(q) != dns.TypeA {
					return [][]byte{answerTo(q, 0, 0, 0, 0)}
				}
				m := new(dns.Msg)
				if m.Unpack(q) == nil && m.IsEdns0() != nil {
					first <- append([]byte(nil), q...)
					return nil
				}
				return [][]byte{
					withA(row.late, record(asked, dns.TypeA, 60, outside))(<-first),
					withA(row.now, record(asked, dns.TypeA, 60, outside))(q),
				}
			}, nil)
			g, _ := resolverFor(t, nil, server)
			u := &questioner{now: time.Now, plain: map[netip.AddrPort]time.Time{}}
			g.resolver.query = u.query
			if got := lookupText(t, g, "x.example"); got != row.want {
				t.Errorf("got %s; want %s", got, row.want)
			}
			if len(u.plain) != row.plain {
				t.Errorf("%d servers are asked without EDNS from now on; want %d", len(u.plain), row.plain)
			}
		})
	}
}

// TestTruncatedAnswerStands has an answer come truncated, and everything go wrong over TCP: what has come is used.
func TestTruncatedAnswerStands(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		tcp  func(conn net.Conn, q []byte)
	}{
		{"refused", nil},
		{"closed at once", func(net.Conn, []byte) {}},
		{"silent", func(conn net.Conn, _ []byte) { io.Copy(io.Discard, conn) }},
		{"SERVFAIL", func(conn net.Conn, q []byte) {
			m := answerTo(q, dns.RcodeServerFailure, 0, 0, 0)
			conn.Write(append([]byte{0, byte(len(m))}, m...))
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			server := startLiar(t, func(q []byte) [][]byte {
				if qtypeOf(q) != dns.TypeA {
					return [][]byte{answerTo(q, 0, 0, 0, 0)}
				}
				return [][]byte{withA(truncate, record(asked, dns.TypeA, 60, outside))(q)}
			}, row.tcp)
			g, _ := resolverFor(t, nil, server)
			began := time.Now()
			if got := lookupText(t, g, "x.example"); got != "8.8.4.4" {
				t.Errorf("got %s; want 8.8.4.4", got)
			}
			if took := time.Since(began); took > wholePatience+lookupTimeout/4 {
				t.Errorf("took %s; want some %s at most", took, wholePatience)
			}
		})
	}
}

// TestTruncatedWithinARecord has an answer come truncated that is cut anywhere, and counts the records that it had before.
func TestTruncatedWithinARecord(t *testing.T) {
	t.Parallel()
	first, second := record(asked, dns.TypeA, 60, outside), record(asked, dns.TypeA, 60, inside)
	none := fmt.Sprintf(`"x.example" does not resolve: %s`, errTruncated)
	for cut := 1; cut <= len(first)+len(second); cut++ {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			t.Parallel()
			server := startLiar(t, func(q []byte) [][]byte {
				if qtypeOf(q) != dns.TypeA {
					return [][]byte{answerTo(q, 0, 0, 0, 0)}
				}
				m := withA(truncate, first, second)(q)
				return [][]byte{m[:len(m)-cut]}
			}, nil)
			g, _ := resolverFor(t, nil, server)
			want := none
			if cut <= len(second) {
				want = "8.8.4.4"
			}
			if got := lookupText(t, g, "x.example"); got != want {
				t.Errorf("got %s; want %s", got, want)
			}
		})
	}
}

// TestTruncatedWithoutAnAddress checks that a truncated answer with no address in it proves nothing.
func TestTruncatedWithoutAnAddress(t *testing.T) {
	t.Parallel()
	server := startLiar(t, func(q []byte) [][]byte { return [][]byte{answerTo(q, truncate, 0, 0, 0)} }, nil)
	g, _ := resolverFor(t, nil, server)
	if got, want := lookupText(t, g, "x.example"), fmt.Sprintf(`"x.example" does not resolve: %s`, errTruncated); got != want {
		t.Errorf("got %s; want %s", got, want)
	}
}
