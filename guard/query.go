package guard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// maxUDPAnswer is the answer, in bytes, that a server is invited to send over UDP: the size that is not
// fragmented anywhere. Longer ones come truncated, and are asked for again over TCP.
const maxUDPAnswer = 1232

var errMalformedAnswer = errors.New("the resolver's answer is malformed")

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
	try, cancel := context.WithTimeout(ctx, timeout)
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
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return answer{qtype: qtype, err: fmt.Errorf("the resolver says %s", rcodeText(m.Rcode))}
	}
	return parseAnswer(m, name, qtype)
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

// query asks one server one question, over UDP and, where the answer is truncated, over TCP. The answer is to
// this question; its code may be any. ctx bounds it all.
func query(ctx context.Context, server netip.AddrPort, name string, qtype uint16) (*dns.Msg, error) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), qtype)
	q.SetEdns0(maxUDPAnswer, false)
	m, err := exchange(ctx, "udp", server, q)
	if err == nil && (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented) {
		// A server that does not know EDNS: RFC 6891, section 7.
		q.Id, q.Extra = dns.Id(), nil
		m, err = exchange(ctx, "udp", server, q)
	}
	if err == nil && m.Truncated {
		q.Id = dns.Id()
		m, err = exchange(ctx, "tcp", server, q)
	}
	return m, err
}

// exchange sends q from a socket, and so a random port, of its own and waits for what answers it.
func exchange(ctx context.Context, network string, server netip.AddrPort, q *dns.Msg) (*dns.Msg, error) {
	packed, err := q.Pack()
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// The deadline has passed as soon as ctx ends, for whatever reason.
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	read := readDatagram
	if network == "tcp" {
		packed = append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...)
		read = readStream
	}
	if _, err := conn.Write(packed); err != nil {
		return nil, err
	}
	return read(conn, q)
}

// readDatagram returns the first datagram that answers q. Others, which may well be forged, are passed over;
// the deadline bounds how long.
func readDatagram(conn net.Conn, q *dns.Msg) (*dns.Msg, error) {
	buf := make([]byte, 4096) // servers that ignore maxUDPAnswer do not send more either
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		m, err := match(buf[:n], q)
		if m != nil || err != nil {
			return m, err
		}
	}
}

// readStream returns the one message, of at most 65535 bytes, that must answer q.
func readStream(conn net.Conn, q *dns.Msg) (*dns.Msg, error) {
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		return nil, err
	}
	m, err := match(buf, q)
	if m == nil && err == nil {
		err = errMalformedAnswer
	}
	return m, err
}

// match parses an answer to q: nil and no error where raw is none, for another id, question, or no answer at
// all. errMalformedAnswer says that it does come from the server but cannot be read.
func match(raw []byte, q *dns.Msg) (*dns.Msg, error) {
	const headerSize, responseBit = 12, 0x80
	if len(raw) < headerSize || binary.BigEndian.Uint16(raw) != q.Id || raw[2]&responseBit == 0 {
		return nil, nil
	}
	m := new(dns.Msg)
	if err := m.Unpack(raw); err != nil || !isWhole(m, raw) {
		return nil, errMalformedAnswer
	}
	if m.Opcode != dns.OpcodeQuery {
		return nil, nil
	}
	if len(m.Question) == 0 && m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return m, nil // some servers do not repeat a question that they refuse; nothing is believed but that
	}
	if len(m.Question) != 1 {
		return nil, nil
	}
	got, want := m.Question[0], q.Question[0]
	if got.Qtype != want.Qtype || got.Qclass != want.Qclass ||
		dns.CanonicalName(got.Name) != dns.CanonicalName(want.Name) {
		return nil, nil
	}
	return m, nil
}

// isWhole reports whether the message has the records that its header in raw promises. Unpack does not mind those that
// are missing at the end.
func isWhole(m *dns.Msg, raw []byte) bool {
	for i, got := range []int{len(m.Question), len(m.Answer), len(m.Ns), len(m.Extra)} {
		if got != int(binary.BigEndian.Uint16(raw[4+2*i:])) {
			return false
		}
	}
	return true
}
