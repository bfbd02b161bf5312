package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// wholePatience is how long a truncated answer may take over TCP before it is used as far as it came.
const wholePatience = time.Second

var errTruncated = errors.New("the resolver's answer is truncated, and does not come over TCP")

// ask puts a question to the servers in turn until one answers it, and sends what became of it.
func (r *resolver) ask(ctx context.Context, name string, qtype uint16, answers chan<- answer) {
	how := r.system.get().value
	if len(r.servers) > 0 {
		how = asking{servers: r.servers, timeout: defaultTryTimeout, attempts: defaultAttempts}
	}
	var a answer
	for range how.attempts {
		for _, server := range r.inTurn(how.servers) {
			a = r.askServer(ctx, server, how.timeout, name, qtype)
			if a.err == nil || a.negative() || ctx.Err() != nil {
				answers <- a
				return
			}
		}
	}
	answers <- a
}

// inTurn returns the servers in their order, but those that were silent lately last.
func (r *resolver) inTurn(servers []netip.AddrPort) []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.silent) == 0 {
		return servers
	}
	now := r.now()
	var awake, silent []netip.AddrPort
	for _, s := range servers {
		if r.silent[s].After(now) {
			silent = append(silent, s)
		} else {
			awake = append(awake, s)
		}
	}
	return append(awake, silent...)
}

// askServer asks one server once, and remembers whether it was silent.
func (r *resolver) askServer(ctx context.Context, server netip.AddrPort, timeout time.Duration,
	name string, qtype uint16) answer {
	try, cancel := context.WithTimeout(ctx, max(timeout, 2*ednsPatience))
	defer cancel()
	m, err := r.query(try, server, name, qtype)
	if ctx.Err() == nil && !ours(err) {
		r.noteSilence(server, err != nil)
	}
	switch {
	case err != nil && try.Err() != nil:
		return answer{qtype: qtype, err: errNoAnswer}
	case err != nil:
		return answer{qtype: qtype, err: fmt.Errorf("no resolver answers: %w", bare(err))}
	case !isAnswer(m):
		return answer{qtype: qtype, err: fmt.Errorf("the resolver says %s", rcodeText(m.Rcode))}
	case m.Truncated:
		m = whole(ctx, server, m, name, qtype)
	}
	a := parseAnswer(m, name, qtype)
	if m.Truncated && a.err == errNoAddress {
		a.err, a.ttl = errTruncated, 0
	}
	return a
}

// isAnswer reports whether m says something about the name, not about the server's troubles.
func isAnswer(m *dns.Msg) bool {
	return m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError
}

// whole asks for a truncated answer once more, over TCP. Where none comes it returns what there is.
func whole(ctx context.Context, server netip.AddrPort, truncated *dns.Msg, name string, qtype uint16) *dns.Msg {
	try, cancel := context.WithTimeout(ctx, wholePatience)
	defer cancel()
	if m, err := queryTCP(try, server, name, qtype); err == nil && isAnswer(m) {
		return m
	}
	return truncated
}

// noteSilence keeps the book that inTurn reads. Its size is bounded by the servers there are.
func (r *resolver) noteSilence(server netip.AddrPort, silent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if silent {
		r.silent[server] = r.now().Add(silentFor)
	} else {
		delete(r.silent, server)
	}
}

// ours reports whether a question could not even be put, for this host has run out of something.
func ours(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

// rcodeText returns the registered name of a DNS response code.
func rcodeText(rcode int) string {
	if s, ok := dns.RcodeToString[rcode]; ok {
		return s
	}
	return fmt.Sprintf("RCODE%d", rcode)
}

// bare returns the cause of a network error without Go's account of the call that met it.
func bare(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
