package guard

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// noTimeout is how long DialTimeout takes at most where it is given no limit: the default of connectTimeout.
const noTimeout = 10 * time.Second

// Timing is how long the parts of Dial took. The zero value is that of a part that did not happen.
type Timing struct {
	DNS      time.Duration // all of resolving; next to nothing for a literal
	Connect  time.Duration // from the first attempt to the connection that won
	LookedUp bool          // host was a name
	Cached   bool          // its addresses came from the cache
}

// Dialer connects to what its Guard lets through, with the exceptions of one client and entry of destinations. It is
// safe for concurrent use.
type Dialer struct {
	guard      *Guard
	exceptions Exceptions
	connect    func(d *Dialer, ctx context.Context, to netip.AddrPort, source netip.Addr) (Conn, error)
}

// NewDialer returns a Dialer whose connections are judged by g, without exceptions.
func NewDialer(g *Guard) *Dialer { return &Dialer{guard: g, connect: (*Dialer).connectTCP} }

// With returns a Dialer of the same Guard for calls with the exceptions e.
func (d *Dialer) With(e Exceptions) *Dialer {
	with := *d
	with.exceptions = e
	return &with
}

// Dial connects to host, a DNS name or an IP literal without brackets, and port. All of it, resolving too, ends with
// ctx. Errors are, in this order: *PortError, *ResolveError, *BlockedError if every address is refused (with the one that
// would have been tried first), *ConnectError. Where the caller cancelled, errors.Is(err, context.Canceled) holds. Timing
// is filled in as far as Dial came, also with an error.
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

// DialTimeout is Dial for whoever wants a fasthttp.DialFuncWithTimeout: to addr, which is host:port, IPv6 literals in
// brackets, within timeout. 0 is what fasthttp gives where its caller has set no limit: 10 s then.
func (d *Dialer) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("connect to %q: want host:port", addr)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("connect to %q: the port is no number up to 65535", addr)
	}
	if timeout == 0 {
		timeout = noTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, _, err := d.Dial(ctx, host, uint16(port))
	if err != nil {
		return nil, err // not conn, which would be no nil net.Conn
	}
	return conn, nil
}

// Judge returns the error that Dial would return before it tries to connect, or nil.
func (d *Dialer) Judge(ctx context.Context, host string, port uint16) error {
	var t Timing
	_, err := d.allowed(ctx, host, port, &t)
	return err
}

// Judged is an address of a name, with what becomes of it.
type Judged struct {
	Addr netip.Addr
	Verdict
}

// JudgeEach is Judge, and says what becomes of each address of host, in the order in which they would be tried: of the
// same answer to one look-up. There are none where the port is refused or host does not resolve.
func (d *Dialer) JudgeEach(ctx context.Context, host string, port uint16) ([]Judged, error) {
	if err := d.guard.CheckPort(port); err != nil {
		return nil, err
	}
	var t Timing
	addrs, err := d.resolve(ctx, host, &t)
	if err != nil {
		return nil, err
	}
	judged := make([]Judged, len(addrs))
	for i, a := range addrs {
		judged[i] = Judged{a, d.Verdict(a, port)}
	}
	_, err = d.choose(addrs, port)
	return judged, err
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

// allowed resolves host, judges all of its addresses, and returns those that are to be tried, at least one.
func (d *Dialer) allowed(ctx context.Context, host string, port uint16, t *Timing) ([]netip.Addr, error) {
	if err := d.guard.CheckPort(port); err != nil {
		return nil, err
	}
	addrs, err := d.resolve(ctx, host, t)
	if err != nil {
		return nil, err
	}
	return d.choose(addrs, port)
}

// Verdict is the guard's, with the exceptions of d, and what need be asked for a new connection only: whether a route
// leads to the proxy itself.
func (d *Dialer) Verdict(a netip.Addr, port uint16) Verdict {
	v := d.guard.Verdict(netip.AddrPortFrom(a, port), d.exceptions)
	if v.Allowed && d.guard.leadsHome(a, port) {
		return Verdict{Rule: Rule{Name: nameOwnListener, Prefix: netip.PrefixFrom(a, a.BitLen())}}
	}
	return v
}

// choose judges all of addrs, and returns those that are to be tried, at least one.
func (d *Dialer) choose(addrs []netip.Addr, port uint16) ([]netip.Addr, error) {
	addrs, noWay := d.within(addrs)
	var first *BlockedError
	allowed := make([]netip.Addr, 0, min(len(addrs), maxTried))
	for _, a := range addrs {
		v := d.Verdict(a, port)
		switch {
		case !v.Allowed:
			d.guard.refused(v.Rule)
			if first == nil {
				first = &BlockedError{Addr: a.WithZone(""), Rule: v.Rule}
			}
		case len(allowed) < maxTried:
			allowed = append(allowed, a.Unmap()) // as which it is connected to
		}
	}
	switch {
	case len(allowed) == 0:
		return nil, first
	case noWay != nil:
		return nil, &ConnectError{Addr: netip.AddrPortFrom(allowed[0], port), Err: noWay}
	}
	return allowed, nil
}

// within returns those of addrs whose family can be connected to from here. Where that is none it returns all, for they
// are judged all the same, and why.
func (d *Dialer) within(addrs []netip.Addr) ([]netip.Addr, error) {
	from := d.exceptions.Egress
	if from == nil && d.guard.ipv6 {
		return addrs, nil
	}
	var usable []netip.Addr
	var noWay error
	for _, a := range addrs {
		switch real := a.Unmap(); {
		case real.Is6() && !d.guard.ipv6:
			noWay = syscall.ENETUNREACH
		case from != nil && !from.reaches(real):
			noWay = errNoEgress
		default:
			usable = append(usable, a)
		}
	}
	if len(usable) == 0 {
		return addrs, noWay
	}
	return usable, nil
}
