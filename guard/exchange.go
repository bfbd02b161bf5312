package guard

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxUDPAnswer is the answer, in bytes, that a server is invited to send over UDP: the size that is not
	// fragmented anywhere. Longer ones come truncated, and are asked for again over TCP.
	maxUDPAnswer = 1232
	// commonDatagram and maxDatagram are the room there is for an answer over UDP, in bytes: at first, and for one that has
	// shown to need more, whatever its server was invited to send.
	commonDatagram = 4096
	maxDatagram    = 1<<16 - 1
	// headerSize is that of a message's header, in bytes, behind which its question begins.
	headerSize = 12
	// ednsPatience is how long a server may be silent before it is suspected to choke on EDNS.
	ednsPatience = time.Second
	// withoutEDNS is how long a server that answers only without EDNS is asked so.
	withoutEDNS = 10 * time.Minute
)

var errMalformedAnswer = errors.New("the resolver's answer is malformed")

// questioner asks one server one question over UDP, and remembers the servers that choke on EDNS.
type questioner struct {
	now func() time.Time

	mu    sync.Mutex                   // guards plain
	plain map[netip.AddrPort]time.Time // servers that are asked without EDNS, and until when
}

// query returns an answer to this question, whose code may be any. ctx bounds it all. A server
// that fails, or is silent for a while, is asked once more without EDNS (RFC 6891, section 7), from the same socket: an
// answer to the first question that comes late is as good.
func (u *questioner) query(ctx context.Context, server netip.AddrPort, name string, qtype uint16) (*dns.Msg, error) {
	conn, hangUp, err := connectDNS(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	plain := question(name, qtype)
	if u.isPlain(server) {
		if err := send(conn, plain); err != nil {
			return nil, err
		}
		m, _, err := readDatagram(conn, plain)
		return m, err
	}
	edns := question(name, qtype)
	edns.SetEdns0(maxUDPAnswer, false)
	m, err := askFirst(ctx, conn, edns)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil:
		return u.askPlain(ctx, server, conn, plain, edns)
	case err != nil || !choked(m):
		return m, err
	}
	if again, err := u.askPlain(ctx, server, conn, plain); err == nil {
		return again, nil
	}
	return m, nil
}

// askFirst puts the question with EDNS, and waits for ednsPatience.
func askFirst(ctx context.Context, conn net.Conn, edns *dns.Msg) (*dns.Msg, error) {
	if err := send(conn, edns); err != nil {
		return nil, err
	}
	conn.SetReadDeadline(time.Now().Add(ednsPatience))
	if err := ctx.Err(); err != nil { // which has set a deadline that is gone now
		return nil, err
	}
	m, _, err := readDatagram(conn, edns)
	return m, err
}

// askPlain puts the question without EDNS, and waits for an answer to it or to the pending ones. Where it is this one
// that helps, the server is asked so from now on.
func (u *questioner) askPlain(ctx context.Context, server netip.AddrPort, conn net.Conn,
	plain *dns.Msg, pending ...*dns.Msg) (*dns.Msg, error) {
	if err := send(conn, plain); err != nil {
		return nil, err
	}
	conn.SetReadDeadline(time.Time{})
	if err := ctx.Err(); err != nil { // which has set one that is gone now
		return nil, err
	}
	questions := append(pending, plain)
	for {
		m, to, err := readDatagram(conn, questions...)
		switch {
		case err != nil:
			return nil, err
		case to == plain:
			if !choked(m) {
				u.notePlain(server)
			}
			return m, nil
		case !choked(m):
			return m, nil
		}
		questions = []*dns.Msg{plain}
	}
}

// choked reports whether the answer is one that servers give which do not know EDNS, whatever else it may mean.
func choked(m *dns.Msg) bool {
	switch m.Rcode {
	case dns.RcodeFormatError, dns.RcodeServerFailure, dns.RcodeNotImplemented, dns.RcodeRefused, dns.RcodeBadVers:
		return true
	}
	return false
}

// isPlain reports whether server is asked without EDNS for now.
func (u *questioner) isPlain(server netip.AddrPort) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.plain[server].After(u.now())
}

// notePlain has server asked without EDNS for a while. Servers whose time is over are forgotten, for the system's may
// change: there are never more than are asked in that time.
func (u *questioner) notePlain(server netip.AddrPort) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.now()
	for s, until := range u.plain {
		if !until.After(now) {
			delete(u.plain, s)
		}
	}
	u.plain[server] = now.Add(withoutEDNS)
}

// queryTCP asks server over TCP. ctx bounds it all.
func queryTCP(ctx context.Context, server netip.AddrPort, name string, qtype uint16) (*dns.Msg, error) {
	conn, hangUp, err := connectDNS(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	q := question(name, qtype)
	packed, err := q.Pack()
	if err != nil {
		return nil, err
	}
	packed = append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...)
	if _, err := conn.Write(packed); err != nil {
		return nil, err
	}
	return readStream(conn, q)
}

// question returns a message, with a random id of its own, that asks for records of one type.
func question(name string, qtype uint16) *dns.Msg {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), qtype)
	return q
}

// connectDNS returns a socket, and so a random port, for one question, whose deadline has passed as soon as ctx ends,
// for whatever reason. hangUp closes it.
func connectDNS(ctx context.Context, network string, server netip.AddrPort) (conn net.Conn, hangUp func(), err error) {
	var d net.Dialer
	conn, err = d.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	return conn, func() { stop(); conn.Close() }, nil
}

// send sends q as one datagram.
func send(conn net.Conn, q *dns.Msg) error {
	packed, err := q.Pack()
	if err == nil {
		_, err = conn.Write(packed)
	}
	return err
}

// readDatagram returns the first datagram that answers one of the questions, and which. Others, which may well be forged,
// are passed over; the deadline bounds how long. For an answer that there was no room for the question is put once more.
func readDatagram(conn net.Conn, questions ...*dns.Msg) (m, to *dns.Msg, err error) {
	buf := make([]byte, commonDatagram)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, nil, err
		}
		for _, q := range questions {
			m, err := match(buf[:n], q)
			if err != nil && n == commonDatagram && len(buf) == commonDatagram {
				if err := send(conn, q); err != nil {
					return nil, nil, err
				}
				buf = make([]byte, maxDatagram)
				break
			}
			if m != nil || err != nil {
				return m, q, err
			}
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
	const responseBit = 0x80
	if len(raw) < headerSize || binary.BigEndian.Uint16(raw) != q.Id || raw[2]&responseBit == 0 {
		return nil, nil
	}
	m := new(dns.Msg)
	switch err := m.Unpack(raw); {
	case err == nil && isWhole(m, raw):
	case m.Truncated && len(m.Question) == 1:
		m.Answer, m.Ns, m.Extra = answersBeforeCut(raw), nil, nil
	default:
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

// answersBeforeCut returns the whole records of the answer section of a message that says that it is truncated: some are
// cut anywhere.
func answersBeforeCut(raw []byte) []dns.RR {
	_, at, err := dns.UnpackDomainName(raw, headerSize)
	if err != nil {
		return nil
	}
	at += 4 // the question's type and class
	var answers []dns.RR
	for range binary.BigEndian.Uint16(raw[6:]) {
		r, next, err := dns.UnpackRR(raw, at)
		if err != nil || next == at {
			break
		}
		answers, at = append(answers, r), next
	}
	return answers
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
