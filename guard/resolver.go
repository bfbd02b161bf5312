package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// lookupTimeout bounds a look-up over all servers and attempts, whoever waits for it.
	lookupTimeout = 10 * time.Second
	// resolutionDelay is how long an answer for one family waits for the other (RFC 8305, section 3).
	resolutionDelay = 50 * time.Millisecond
	// lateAnswer is how long the other family may then take to join what is remembered.
	lateAnswer = 2 * time.Second
	// maxRenewals is how many names are looked up at once for nobody, because they are about to expire.
	maxRenewals = 32
	// silentFor is how long a server that did not answer is asked after all others.
	silentFor = 30 * time.Second
)

var (
	errNotAName = errors.New("not a DNS name")
	errNoAnswer = errors.New("no resolver answered in time")
)

// ResolveError says that a name has no address, or that this could not be found out.
type ResolveError struct {
	Host     string // as it was asked for
	NotFound bool   // there is an answer: no such name, or no address
	Timeout  bool   // no resolver answered in time
	Err      error
}

// Error returns the likes of `"nope.example" does not resolve: no such host (NXDOMAIN)`.
func (e *ResolveError) Error() string { return fmt.Sprintf("%q does not resolve: %v", e.Host, e.Err) }

// Unwrap returns the cause: context.Canceled where the caller left.
func (e *ResolveError) Unwrap() error { return e.Err }

// LookupResult is how a look-up ended.
type LookupResult uint8

// The look-ups that Hooks.Lookup is told of.
const (
	LookupOK     LookupResult = iota // answered by /etc/hosts or a resolver
	LookupCached                     // answered by the cache, be it with addresses or that there are none
	LookupFailed
)

// String returns "ok", "cached" or "failed".
func (r LookupResult) String() string {
	switch r {
	case LookupOK:
		return "ok"
	case LookupCached:
		return "cached"
	default:
		return "failed"
	}
}

// resolver turns names into addresses. Names are absolute. Look-ups of one name at one time are one look-up.
type resolver struct {
	servers  []netip.AddrPort // configured; empty: the system's
	system   *snapshot[parsedFile[asking]]
	hosts    *snapshot[parsedFile[hosts]]
	cacheTTL time.Duration
	ipv6     bool // else nobody is asked for AAAA
	now      func() time.Time
	query    func(ctx context.Context, server netip.AddrPort, name string, qtype uint16) (*dns.Msg, error)
	cache    cache

	mu       sync.Mutex // guards what follows
	flights  map[string]*flight
	renewals int                          // of the flights
	silent   map[netip.AddrPort]time.Time // servers that did not answer, and until when that counts
}

// flight is a look-up under way.
type flight struct {
	waiters int  // guarded by resolver.mu
	renewal bool // guarded by resolver.mu; begun for nobody
	cancel  context.CancelFunc
	landed  chan struct{} // closed once res is there
	res     result
}

func newResolver(cfg Config, env environment) *resolver {
	return &resolver{
		servers:  append([]netip.AddrPort(nil), cfg.DNSServers...),
		system:   watchFile(env.resolvPath, env.now, parseResolvConf),
		hosts:    watchFile(env.hostsPath, env.now, parseHosts),
		cacheTTL: cfg.DNSCacheTTL,
		ipv6:     env.ipv6,
		now:      env.now,
		query:    (&questioner{now: env.now, plain: map[netip.AddrPort]time.Time{}}).query,
		flights:  map[string]*flight{},
		silent:   map[netip.AddrPort]time.Time{},
	}
}

// lookup returns the addresses of host in the order in which they are to be tried; the slice is shared and
// must not be changed. The error is a *ResolveError. An answer from the cache does not allocate.
func (r *resolver) lookup(ctx context.Context, host string) ([]netip.Addr, LookupResult, error) {
	name, ok := canonicalName(host)
	if !ok {
		return nil, LookupFailed, &ResolveError{Host: host, Err: errNotAName}
	}
	if addrs := r.local(name); len(addrs) > 0 {
		return addrs, LookupOK, nil
	}
	res, cached := r.remembered(name)
	if !cached {
		res, cached = r.wait(ctx, name)
	}
	how := LookupOK
	if cached {
		how = LookupCached
	}
	if res.err != nil {
		if !cached {
			how = LookupFailed
		}
		return nil, how, resolveError(host, res.err)
	}
	return res.addrs, how, nil
}

// remembered returns what the cache knows of name. It does not allocate, unless it begins a look-up because the name is
// in steady use and soon to expire: so nobody waits for one that has an answer already.
func (r *resolver) remembered(name string) (result, bool) {
	now := r.now()
	e := r.cache.get(name, now)
	if e == nil {
		return result{}, false
	}
	if e.use(now) {
		r.renew(name)
	}
	return e.result, true
}

// renew looks name up again in the background, unless that is under way or too many others are.
func (r *resolver) renew(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flights[name] == nil && r.renewals < maxRenewals {
		r.renewals++
		r.takeOff(name).renewal = true
	}
}

// resolveError says which of the three things a failure is.
func resolveError(host string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		err = errNoAnswer
	}
	return &ResolveError{
		Host:     host,
		NotFound: err == errNoSuchHost || err == errNoAddress,
		Timeout:  err == errNoAnswer,
		Err:      err,
	}
}

// localhost is what names that end in it resolve to where /etc/hosts does not know them: RFC 6761, section 6.3.
var localhost = []netip.Addr{netip.IPv6Loopback(), netip.AddrFrom4([4]byte{127, 0, 0, 1})}

// local returns the addresses that need no resolver.
func (r *resolver) local(name string) []netip.Addr {
	if addrs := r.hosts.get().value[name]; len(addrs) > 0 {
		return addrs
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return localhost
	}
	return nil
}

// wait joins the look-up of name, or begins one, and reports whether the result came from the cache after all.
func (r *resolver) wait(ctx context.Context, name string) (result, bool) {
	r.mu.Lock()
	f := r.flights[name]
	if f == nil {
		// A flight may have landed since the cache was looked at.
		if e := r.cache.get(name, r.now()); e != nil {
			r.mu.Unlock()
			return e.result, true
		}
		f = r.takeOff(name)
	}
	f.waiters++
	r.mu.Unlock()
	select {
	case <-f.landed:
		return f.res, false
	case <-ctx.Done():
		r.leave(name, f)
		return result{err: ctx.Err()}, false
	}
}

// takeOff begins a look-up. r.mu is held.
func (r *resolver) takeOff(name string) *flight {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	f := &flight{cancel: cancel, landed: make(chan struct{})}
	r.flights[name] = f
	go r.fly(ctx, name, f)
	return f
}

// leave takes one waiter off the flight, which ends with the last one.
func (r *resolver) leave(name string, f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.waiters--
	if f.waiters == 0 && r.flights[name] == f {
		delete(r.flights, name)
		f.cancel()
	}
}

// noIPv6 stands for the answer to a question that is not asked.
var noIPv6 = answer{qtype: dns.TypeAAAA, err: errNoAddress, ttl: maxTTL}

// fly asks for both families at once and lands the flight as soon as it may. It ends after lookupTimeout at
// the latest, or when the last waiter has left, and the two goroutines that it starts end with it.
func (r *resolver) fly(ctx context.Context, name string, f *flight) {
	defer f.cancel()
	answers := make(chan answer, 2) // room for both: nobody is kept waiting for fly
	go r.ask(ctx, name, dns.TypeA, answers)
	if r.ipv6 {
		go r.ask(ctx, name, dns.TypeAAAA, answers)
	}
	first := <-answers
	at := r.now()
	if !r.ipv6 {
		answers <- noIPv6
	}
	patience := lookupTimeout + time.Second // the answer comes before, for ctx ends
	if first.settles() {
		patience = resolutionDelay
	}
	second, heard := receive(answers, patience)
	res := both(first, second)
	r.land(name, f, res, at)
	if heard || res.ttl <= 0 || res.err != nil || r.cacheTTL <= 0 {
		return
	}
	if second, heard = receive(answers, lateAnswer); heard && second.err == nil {
		r.remember(name, both(first, second), at)
	}
}

// receive waits for an answer; without one it returns what stands for none.
func receive(answers <-chan answer, patience time.Duration) (answer, bool) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case a := <-answers:
		return a, true
	case <-timer.C:
		return answer{err: errNoAnswer}, false
	}
}

// both merges two answers, whichever came first.
func both(first, second answer) result {
	if first.qtype == dns.TypeA {
		return merge(first, second)
	}
	return merge(second, first)
}

// land hands the result to those who wait. The flight is gone from the table before they have it: nobody can
// join it later and be given an answer that was not to be used again.
func (r *resolver) land(name string, f *flight, res result, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flights[name] == f { // else it was cancelled, and what it has found out is only that
		r.remember(name, res, at)
		delete(r.flights, name)
	}
	if f.renewal {
		r.renewals--
	}
	f.res = res
	close(f.landed)
}

// remember caches res, which arrived at the time at, within the configured bound. A failure leaves what is known.
func (r *resolver) remember(name string, res result, at time.Time) {
	if res.err != nil && res.ttl <= 0 {
		return
	}
	res.ttl = min(res.ttl, r.cacheTTL)
	r.cache.put(name, res, at)
}
