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
	// maxTried is how many of the allowed addresses are tried, the first ones.
	maxTried = 64
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

// Local reports whether there is no way there from here, so that it is not the destination's fault: ENETUNREACH,
// ENETDOWN or EADDRNOTAVAIL (no IPv6 on this host and no egress address of the family among them), or this host has run
// out of descriptors or memory.
func (e *ConnectError) Local() bool {
	return errors.Is(e.Err, syscall.ENETUNREACH) || errors.Is(e.Err, syscall.ENETDOWN) ||
		errors.Is(e.Err, syscall.EADDRNOTAVAIL) || ours(e.Err)
}

// errNoEgress is EADDRNOTAVAIL with a text of its own.
var errNoEgress error = noEgress{}

type noEgress struct{}

func (noEgress) Error() string        { return "no egress address of its family" }
func (noEgress) Is(target error) bool { return target == syscall.EADDRNOTAVAIL }

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
	conn, err := d.connect(d, ctx, to, d.source(host, to))
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

// source returns the address that a connection to the address to of host comes from; the zero Addr: the system's choice.
func (d *Dialer) source(host string, to netip.AddrPort) netip.Addr {
	from := &d.guard.egress
	if d.exceptions.Egress != nil {
		from = d.exceptions.Egress
	}
	return from.source(host, to.Port(), to.Addr())
}

// moreTelling returns the one of two failures that a person would rather be told; a may be nil.
func moreTelling(a, b error) error {
	if a == nil || telling(b) > telling(a) {
		return b
	}
	return a
}

// telling ranks failures: that the caller left or time ran out says why all of it ended; that somebody answered, if only
// to decline, says more than that there is no way there; that there is none from here, as over IPv6 on many hosts, says
// least.
func telling(err error) int {
	var c *ConnectError
	switch {
	case !errors.As(err, &c):
		return 0
	case errors.Is(err, context.Canceled):
		return 5
	case c.Timeout():
		return 4
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return 3
	case !c.Local():
		return 2
	default:
		return 1
	}
}
