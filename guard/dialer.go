package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"
)

const (
	// attemptDelay is how long a connection attempt has before the next address is tried beside it (RFC 8305, section 5).
	attemptDelay = 250 * time.Millisecond
	// attemptsAtOnce is how many addresses are tried beside each other. Where there are more, an attempt is given up when its
	// place is needed. Else a name with many addresses where nobody answers would take a socket for each.
	attemptsAtOnce = 8
)

// ConnectError says that no TCP connection came about.
type ConnectError struct {
	Addr netip.AddrPort // of the attempt that tells most; there may have been others
	Err  error
}

// Error returns the likes of "connect to 203.0.113.7:443: connection refused".
func (e *ConnectError) Error() string {
	cause := bare(e.Err).Error()
	switch {
	case errors.Is(e.Err, context.Canceled):
		cause = "canceled"
	case e.Timeout():
		cause = "timed out"
	}
	return fmt.Sprintf("connect to %s: %s", e.Addr, cause)
}

// Unwrap returns the cause: context.Canceled where the caller left.
func (e *ConnectError) Unwrap() error { return e.Err }

// Timeout reports whether time ran out: the caller's, or the operating system's for an unanswered SYN.
func (e *ConnectError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.Is(e.Err, context.DeadlineExceeded) || errors.As(e.Err, &t) && t.Timeout()
}

// Timing is how long the parts of Dial took. The zero value is that of a part that did not happen.
type Timing struct {
	DNS      time.Duration // all of resolving; next to nothing for a literal
	Connect  time.Duration // from the first attempt to the connection that won
	LookedUp bool          // host was a name
	Cached   bool          // its addresses came from the cache
}

// Dialer connects to what its Guard lets through. It is safe for concurrent use.
type Dialer struct {
	guard   *Guard
	connect func(ctx context.Context, to netip.AddrPort, source netip.Addr) (Conn, error)
}

// NewDialer returns a Dialer whose connections are judged by g.
func NewDialer(g *Guard) *Dialer {
	d := &Dialer{guard: g}
	d.connect = d.connectTCP
	return d
}

// Dial connects to host, a DNS name or an IP literal without brackets, and port. All of it ends with ctx. Errors
// are, in this order: *PortError, *ResolveError, *BlockedError if every address is refused (with the one that would
// have been tried first), *ConnectError. Where the caller cancelled, errors.Is(err, context.Canceled) holds. Timing is filled in as far as Dial came, also with an error.
func (d *Dialer) Dial(ctx context.Context, host string, port uint16) (Conn, Timing, error) {
	var t Timing
	start := time.Now()
	addrs, err := d.allowed(ctx, host, port, &t)
	t.DNS = time.Since(start)
	if err != nil {
		return nil, t, err
	}
	start = time.Now()
	conn, err := d.race(ctx, host, port, addrs)
	t.Connect = time.Since(start)
	return conn, t, err
}

// Judge returns the error that Dial would return before it tries to connect, or nil.
func (d *Dialer) Judge(ctx context.Context, host string, port uint16) error {
	var t Timing
	_, err := d.allowed(ctx, host, port, &t)
	return err
}

// Resolve returns the addresses of host, refused ones too, in the order in which they would be tried. A
// literal is its own address. The error is a *ResolveError.
func (d *Dialer) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	var t Timing
	addrs, err := d.resolve(ctx, host, &t)
	return append([]netip.Addr(nil), addrs...), err
}

// resolve is Resolve without the copy: the addresses may be the cache's.
func (d *Dialer) resolve(ctx context.Context, host string, t *Timing) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	t.LookedUp = true
	addrs, how, err := d.guard.resolver.lookup(ctx, host)
	t.Cached = how == LookupCached
	if d.guard.hooks.Lookup != nil {
		d.guard.hooks.Lookup(how)
	}
	return addrs, err
}

// allowed resolves host and returns those of its addresses that may be connected to, at least one.
func (d *Dialer) allowed(ctx context.Context, host string, port uint16, t *Timing) ([]netip.Addr, error) {
	if err := d.guard.CheckPort(port); err != nil {
		return nil, err
	}
	addrs, err := d.resolve(ctx, host, t)
	if err != nil {
		return nil, err
	}
	var first *BlockedError
	allowed := make([]netip.Addr, 0, len(addrs))
	for _, a := range addrs {
		v := d.guard.Verdict(a)
		if v.Allowed {
			allowed = append(allowed, a.Unmap()) // as which it is connected to
			continue
		}
		d.guard.refused(v.Rule)
		if first == nil {
			first = &BlockedError{Addr: a.WithZone(""), Rule: v.Rule}
		}
	}
	if len(allowed) == 0 {
		return nil, first
	}
	return allowed, nil
}

// attempt is how one connection attempt ended.
type attempt struct {
	conn Conn
	err  error
}

// race connects to the first of addrs that answers. Each attempt has attemptDelay before the next begins, which
// begins at once where one fails. Attempts that lose are cancelled and their connections closed.
func (d *Dialer) race(ctx context.Context, host string, port uint16, addrs []netip.Addr) (Conn, error) {
	if len(addrs) == 1 {
		a := d.attempt(ctx, host, netip.AddrPortFrom(addrs[0], port))
		return a.conn, a.err
	}
	running, cancel := context.WithCancel(ctx)
	defer cancel() // a connection that is made does not mind
	results := make(chan attempt, len(addrs))
	next := time.NewTimer(0)
	defer next.Stop()
	var failure error
	for started, ended := 0, 0; ended < len(addrs); {
		select {
		case <-next.C:
			if started < len(addrs) && started-ended < attemptsAtOnce {
				isNeeded := started+attemptsAtOnce < len(addrs)
				go d.runAttempt(running, host, netip.AddrPortFrom(addrs[started], port), isNeeded, results)
				started++
				next.Reset(attemptDelay)
			}
		case a := <-results:
			ended++
			if a.err == nil {
				cancel()
				if started > ended {
					go closeLosers(results, started-ended)
				}
				return a.conn, nil
			}
			failure = moreTelling(failure, a.err)
			if ctx.Err() != nil {
				addrs = addrs[:started] // the others would fail the same way
			}
			next.Reset(0)
		}
	}
	return nil, failure
}

// runAttempt is an attempt beside others, one of which will need its place. race or, once it is won, closeLosers waits
// for its result.
func (d *Dialer) runAttempt(ctx context.Context, host string, to netip.AddrPort, isNeeded bool, results chan<- attempt) {
	if isNeeded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, attemptsAtOnce*attemptDelay)
		defer cancel()
	}
	results <- d.attempt(ctx, host, to)
}

// closeLosers closes what the n attempts that lost may have connected to. It ends as soon as they notice that
// they are cancelled.
func closeLosers(results <-chan attempt, n int) {
	for range n {
		if a := <-results; a.err == nil {
			a.conn.Close()
		}
	}
}

// attempt connects to one address. Its error is a *ConnectError, or a *BlockedError where the address that
// was allowed is refused by now.
func (d *Dialer) attempt(ctx context.Context, host string, to netip.AddrPort) attempt {
	conn, err := d.connect(ctx, to, d.guard.egress.source(host, to.Port(), to.Addr()))
	if err == nil {
		return attempt{conn: conn}
	}
	var blocked *BlockedError
	if errors.As(err, &blocked) {
		d.guard.refused(blocked.Rule)
		return attempt{err: blocked}
	}
	if cause := ctx.Err(); cause != nil {
		err = cause
	}
	return attempt{err: &ConnectError{Addr: to, Err: err}}
}

// moreTelling returns the one of two failures that a person would rather be told; a may be nil.
func moreTelling(a, b error) error {
	if a == nil || telling(b) > telling(a) {
		return b
	}
	return a
}

// telling ranks failures: that the caller left or time ran out says why all of it ended; that somebody
// answered, if only to decline, says more than that there is no way there, as over IPv6 on many hosts.
func telling(err error) int {
	var c *ConnectError
	switch {
	case !errors.As(err, &c):
		return 0
	case errors.Is(err, context.Canceled):
		return 4
	case c.Timeout():
		return 3
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return 2
	default:
		return 1
	}
}

// checkSocket judges the address of a socket, which must be the one that was asked for.
func (d *Dialer) checkSocket(got, want netip.AddrPort) error {
	got = netip.AddrPortFrom(got.Addr().Unmap(), got.Port())
	if got != want {
		return &BlockedError{Addr: got.Addr(), Rule: Rule{Name: nameNotUnicast, Source: "not the address that was judged"}}
	}
	return d.guard.Check(got)
}
