package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// TestRenewal uses a name whose answer lives for ten seconds at certain times, and counts the look-ups.
func TestRenewal(t *testing.T) {
	const s = time.Second
	for _, row := range []struct {
		name  string
		slow  time.Duration // a look-up
		fails bool          // from the second on
		uses  []time.Duration
		want  int32
		kept  time.Duration // until when, after the first look-up's end, there is an answer
	}{
		{"used once", 0, false, []time.Duration{0}, 1, 10 * s},
		{"used twice, late", 0, false, []time.Duration{0, 9 * s}, 1, 10 * s},
		{"used before, and just not late", 0, false, []time.Duration{0, 5 * s, 8*s - 1}, 1, 10 * s},
		{"used before, and just late", 0, false, []time.Duration{0, 5 * s, 8 * s}, 2, 18 * s},
		{"used before, and at the end", 0, false, []time.Duration{0, 5 * s, 10*s - 1}, 2, 20*s - 1},
		{"used before, and too late", 0, false, []time.Duration{0, 5 * s, 10 * s}, 2, 20 * s},
		{"used often when late", s, false, []time.Duration{0, 5 * s, 8 * s, 8*s + 1, 8*s + 2}, 2, 18 * s}, // from AAAA's answer on
		{"the renewal fails", 0, true, []time.Duration{0, 5 * s, 8 * s, 9 * s}, 2, 10 * s},
		{"in steady use", 0, false, []time.Duration{0, 3 * s, 6 * s, 9 * s, 12 * s, 15 * s, 18 * s}, 3, 28 * s},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := testGuard(t, DefaultConfig(), Hooks{})
				var lookups atomic.Int32
				g.resolver.query = func(ctx context.Context, _ netip.AddrPort, name string, qtype uint16) (*dns.Msg, error) {
					if qtype == dns.TypeA && lookups.Add(1) > 1 {
						if time.Sleep(row.slow); row.fails {
							return nil, errors.New("no luck")
						}
					}
					return reply(ctx, name, qtype, "x.example. 60 IN A 8.8.8.8")
				}
				began := time.Now()
				for _, at := range row.uses {
					time.Sleep(time.Until(began.Add(at)))
					asked := time.Now()
					if got := lookupText(t, g, "x.example"); got != "8.8.8.8" {
						t.Errorf("at %s: got %s; want 8.8.8.8", at, got)
					}
					if took := time.Since(asked); took != 0 {
						t.Errorf("at %s: took %s; want nobody to wait", at, took)
					}
					synctest.Wait()
				}
				time.Sleep(row.slow)
				synctest.Wait()
				got := lookups.Load()
				if row.fails {
					got = 1 + (got-1)/defaultAttempts // each asks several times
				}
				if got != row.want {
					t.Errorf("%d look-ups; want %d", got, row.want)
				}
				r := g.resolver
				if r.cache.get("x.example", began.Add(row.kept-1)) == nil || r.cache.get("x.example", began.Add(row.kept)) != nil {
					t.Errorf("kept for %s; want %s", r.cache.entries["x.example"].expires.Sub(began), row.kept)
				}
				time.Sleep(lookupTimeout)
				if len(r.flights) != 0 || r.renewals != 0 {
					t.Errorf("%d flights, %d renewals are left", len(r.flights), r.renewals)
				}
			})
		})
	}
}

// TestRenewalsAreFew has many names in steady use, all about to expire, and a resolver that does not answer.
func TestRenewalsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGuard(t, DefaultConfig(), Hooks{})
		var now, most atomic.Int32
		g.resolver.query = func(ctx context.Context, _ netip.AddrPort, _ string, qtype uint16) (*dns.Msg, error) {
			if qtype == dns.TypeA {
				most.Store(max(most.Load(), now.Add(1)))
				defer now.Add(-1)
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		const names = 10 * maxRenewals
		for i := range names {
			g.resolver.cache.put(fmt.Sprintf("n%d.example", i), result{addrs: addrs("8.8.8.8"), ttl: 10 * time.Second}, time.Now())
		}
		for _, wait := range []time.Duration{time.Second, 8 * time.Second} {
			time.Sleep(wait)
			for i := range names {
				if got := lookupText(t, g, fmt.Sprintf("n%d.example", i)); got != "8.8.8.8" {
					t.Errorf("got %s; want 8.8.8.8", got)
				}
			}
			synctest.Wait()
		}
		if got := most.Load(); got != maxRenewals {
			t.Errorf("%d names were looked up at once; want %d", got, maxRenewals)
		}
		time.Sleep(lookupTimeout)
		synctest.Wait()
		if g.resolver.renewals != 0 || len(g.resolver.flights) != 0 {
			t.Errorf("%d renewals, %d flights are left", g.resolver.renewals, len(g.resolver.flights))
		}
	})
}

// TestWaiterOfARenewalLeaves joins a renewal after the entry has expired, and leaves it.
func TestWaiterOfARenewalLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGuard(t, DefaultConfig(), Hooks{})
		g.resolver.query = func(ctx context.Context, _ netip.AddrPort, _ string, _ uint16) (*dns.Msg, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		r := g.resolver
		r.cache.put("x.example", result{addrs: addrs("8.8.8.8"), ttl: 10 * time.Second}, time.Now())
		lookupText(t, g, "x.example")
		time.Sleep(9 * time.Second)
		lookupText(t, g, "x.example")
		time.Sleep(2 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var failed *ResolveError
		if _, err := NewDialer(g).Resolve(ctx, "x.example"); !errors.As(err, &failed) || !failed.Timeout {
			t.Errorf("got %v; want a *ResolveError with Timeout", err)
		}
		synctest.Wait()
		if r.renewals != 0 || len(r.flights) != 0 {
			t.Errorf("%d renewals, %d flights are left; want the last waiter to have ended it", r.renewals, len(r.flights))
		}
	})
}
