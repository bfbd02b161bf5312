package guard

import (
	"fmt"
	"io"
	"testing"

	"github.com/miekg/dns"
)

// TestAllAddressesAreJudged has the one address that is allowed come after many that are not, in an answer over TCP.
func TestAllAddressesAreJudged(t *testing.T) {
	allowed, refused := ListenOnOnePort(t, "127.0.0.2", "127.0.0.1")
	to, served := accepting(t, allowed)
	canary, reached := accepting(t, refused)
	for _, row := range []struct {
		name   string
		before int
		record func(i int) string
	}{
		{"none before", 0, nil},
		{"the first of many", 31, func(i int) string { return fmt.Sprintf("A 127.1.0.%d", i) }},
		{"the 33rd", 32, func(i int) string { return fmt.Sprintf("A 127.1.0.%d", i) }},
		{"the 65th", 64, func(i int) string { return fmt.Sprintf("A 127.1.0.%d", i) }},
		{"the last of a thousand", 1000, func(i int) string { return fmt.Sprintf("A 127.1.%d.%d", i/256, i%256) }},
		{"after repetitions", 1000, func(int) string { return "A 127.0.0.1" }},
		{"after a thousand of the other family", 1000, func(i int) string { return fmt.Sprintf("AAAA fd00::%x", i) }},
		{"after a thousand mapped ones", 1000, func(i int) string { return fmt.Sprintf("AAAA ::ffff:10.0.%d.%d", i/256, i%256) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := startDNS(t, func(network string, q dns.Question, reply *dns.Msg) bool {
				if network == "udp" {
					reply.Truncated = true
					return true
				}
				for i := range row.before {
					if r := rr(q.Name + " 60 IN " + row.record(i)); r.Header().Rrtype == q.Qtype {
						reply.Answer = append(reply.Answer, r)
					}
				}
				if q.Qtype == dns.TypeA {
					reply.Answer = append(reply.Answer, rr(q.Name+" 60 IN A 127.0.0.2"))
				}
				reply.Compress = true
				return true
			})
			g, _ := resolverFor(t, nil, s.addr)
			before := served.Load()
			conn, _, err := NewDialer(together(g)).Dial(t.Context(), "x.example", to.Port())
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, conn) // until it is accepted and closed
			conn.Close()
			if served.Load() != before+1 {
				t.Errorf("not connected to %s", to)
			}
		})
	}
	if reached.Load() != 0 {
		t.Errorf("%d connections to %s; want none", reached.Load(), canary)
	}
}

// TestTriedAreFew checks that of many allowed addresses the first ones are tried.
func TestTriedAreFew(t *testing.T) {
	for _, row := range []struct{ addresses, want int }{{maxTried - 1, maxTried - 1}, {maxTried, maxTried}, {maxTried + 1, maxTried}, {4000, maxTried}} {
		var order []string
		for i := range row.addresses {
			order = append(order, fmt.Sprintf("8.8.%d.%d", i/256, i%256))
		}
		d, _, _ := fakeDialer(t, DefaultConfig(), order, nil)
		var timing Timing
		got, err := d.allowed(t.Context(), "x.example", 80, &timing)
		if err != nil || len(got) != row.want || cap(got) > maxTried || got[row.want-1].String() != order[row.want-1] {
			t.Errorf("%d addresses: %d are tried, %v; want the first %d", row.addresses, len(got), err, row.want)
		}
	}
}
