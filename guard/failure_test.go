package guard

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestWhoseFaultIsIt tells what keeps this host from connecting apart from what the destination does.
func TestWhoseFaultIsIt(t *testing.T) {
	for _, row := range []struct {
		err   error
		local bool
		rank  int
	}{
		{opError(syscall.ENETUNREACH), true, 1},
		{opError(syscall.ENETDOWN), true, 1},
		{opError(syscall.EADDRNOTAVAIL), true, 1},
		{errNoEgress, true, 1},
		{opError(syscall.EMFILE), true, 1},
		{opError(syscall.EHOSTUNREACH), false, 2},
		{opError(syscall.ECONNREFUSED), false, 3},
		{opError(syscall.ECONNRESET), false, 3},
		{opError(syscall.ETIMEDOUT), false, 4},
		{context.DeadlineExceeded, false, 4},
		{context.Canceled, false, 5},
	} {
		failed := &ConnectError{Addr: netip.MustParseAddrPort("8.8.8.8:80"), Err: row.err}
		if failed.Local() != row.local || telling(failed) != row.rank {
			t.Errorf("%v: local %v, rank %d; want %v, %d", row.err, failed.Local(), telling(failed), row.local, row.rank)
		}
	}
}

// TestWhoseNameIsIt tells names that have no address apart from resolvers that give no answer.
func TestWhoseNameIsIt(t *testing.T) {
	t.Parallel()
	code := func(rcode int) func(string, dns.Question, *dns.Msg) bool {
		return func(_ string, _ dns.Question, reply *dns.Msg) bool { reply.Rcode = rcode; return true }
	}
	for _, row := range []struct {
		name              string
		handle            func(string, dns.Question, *dns.Msg) bool
		notFound, timeout bool
	}{
		{"no such name", zone("y.example. 60 IN A 8.8.8.8"), true, false},
		{"no address", zone("x.example. 60 IN TXT x"), true, false},
		{"an alias that leads nowhere", zone("x.example. 60 IN CNAME nowhere.test."), true, false},
		{"aliases without end", zone("x.example. 60 IN CNAME x.example."), false, false},
		{"SERVFAIL", code(dns.RcodeServerFailure), false, false},
		{"REFUSED", code(dns.RcodeRefused), false, false},
		{"silence", func(string, dns.Question, *dns.Msg) bool { return false }, false, true},
		{"silence for AAAA, no address", func(n string, q dns.Question, reply *dns.Msg) bool { return q.Qtype == dns.TypeA }, false, true},
		{"silence for A, no address", func(n string, q dns.Question, reply *dns.Msg) bool { return q.Qtype == dns.TypeAAAA }, false, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := startDNS(t, row.handle)
			g, _ := resolverFor(t, nil, s.addr)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			_, err := NewDialer(g).Resolve(ctx, "x.example")
			var failed *ResolveError
			if !errors.As(err, &failed) || failed.NotFound != row.notFound || failed.Timeout != row.timeout {
				t.Errorf("got %#v; want not found %v, timeout %v", err, row.notFound, row.timeout)
			}
		})
	}
}
