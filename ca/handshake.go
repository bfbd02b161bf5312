package ca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// maxClassic bounds how many hosts and ports are remembered that answer only a small ClientHello.
	maxClassic = 10_000
	// classicFor is how long they are remembered.
	classicFor = 24 * time.Hour
	// maxSessionCerts and maxSessionBytes bound a session that is kept: a server decides how large it is, by what it sends of
	// its chain, of which a byte can take ten once it is parsed, and by its ticket.
	maxSessionCerts = 8
	maxSessionBytes = 12 << 10
	// unansweredShare is the part of a handshake's time in which a server has to say its first word: one third.
	unansweredShare = 3
)

// NoClientCert is the alias of no certificate at all, DefaultAlias included. No certificate can have it.
const NoClientCert = "none"

// Destination is with whom a handshake is made, and as whom.
type Destination struct {
	Host string // a DNS name or an IP address, as it is asked for
	Port uint16
	// Alias is that of the client certificate to present where the server asks for one: "" is DefaultAlias where that
	// is configured, else none; NoClientCert is none.
	Alias string
	// Rules are those of the entry of destinations that applies, of the same Store; nil for none.
	Rules *Rules
}

// UnknownAliasError is returned for an alias that has no client certificate.
type UnknownAliasError struct{ Alias string }

func (e *UnknownAliasError) Error() string {
	return fmt.Sprintf("no client certificate has the alias %q", e.Alias)
}

// HasAlias reports whether a client certificate is configured under alias. No certificate has the alias "".
func (s *Store) HasAlias(alias string) bool { return s.clientCerts[alias] != nil }

// Handshake starts TLS on conn and completes the handshake, until ctx ends, which closes the connection. It sets
// conn's deadline to ctx's, and none where it succeeds. TLS 1.2 and 1.3 are spoken, or what to.Rules say; HTTP/1.1; the
// server is verified against the trust store of the moment.
//
// The ClientHello offers a hybrid key exchange with ML-KEM, which makes it larger than one segment, and some servers do
// not answer such a one. Where the connection ends before a byte has come, or none has come for a third of the time that
// ctx leaves, and the hello was that large, again is called, once, to give up conn and to return another connection to
// the same destination, on which the handshake is made without. Where that works, host and port are remembered for a day,
// and Handshake begins so. With again nil there is no second attempt; its error is returned as it is.
//
// The caller closes the connection after an error. An alias that is not configured is an *UnknownAliasError; Explain
// puts the others into words, better than those of a bare tls.Conn: whether the server had asked for a client
// certificate, for a TLS 1.2 server that then refuses says no more than "handshake failure".
func (s *Store) Handshake(ctx context.Context, conn net.Conn, to Destination, again func() (net.Conn, error)) (*tls.Conn, error) {
	return s.handshake(ctx, conn, to, again, nil)
}

func (s *Store) handshake(ctx context.Context, conn net.Conn, to Destination, again func() (net.Conn, error), report *Report) (*tls.Conn, error) {
	first, err := s.newAttempt(to, report)
	if err != nil {
		return nil, err
	}
	peer := first.peer
	if at, known := s.learned.classic.get(peer); known && s.now().Sub(at) < classicFor {
		first.cfg.CurvePreferences = classicCurves
	}
	retries := again != nil && first.cfg.CurvePreferences == nil
	client, unanswered, err := first.run(ctx, conn, retries)
	if err == nil || !retries || !unanswered {
		return client, err
	}
	if conn, err = again(); err != nil {
		return nil, err
	}
	second, err := s.newAttempt(to, report)
	if err != nil {
		return nil, err
	}
	second.cfg.CurvePreferences = classicCurves
	if client, _, err = second.run(ctx, conn, false); err != nil {
		return nil, err
	}
	s.learned.classic.put(peer, s.now())
	if report != nil {
		report.Classic = true
	}
	return client, nil
}

// attempt is one handshake on one connection. The tls.Conn keeps it, for renegotiations.
type attempt struct {
	store    *Store
	trust    *trust
	rules    *Rules
	host     string // as it is verified
	peer     string // host and port
	pair     *tls.Certificate
	cfg      tls.Config
	sessions keyedSessions
	report   *Report // nil where nobody looks on

	ctx              context.Context // while the handshake lasts
	asked, presented bool            // for and with a client certificate
}

// newAttempt makes all that one connection needs to itself. Sessions are resumed only between connections of the same
// alias, entry of destinations, host and port: a resumed session carries the identity it began with, and must not show
// one customer's certificate under another's name.
func (s *Store) newAttempt(to Destination, report *Report) (*attempt, error) {
	who, err := s.clientCert(to.Alias)
	if err != nil {
		return nil, err
	}
	a := &attempt{store: s, trust: s.trust.Load(), rules: to.Rules, host: serverName(to.Host), pair: &who.pair, report: report}
	if a.rules == nil {
		a.rules = s.noRules
	}
	rules := a.rules.current.Load()
	a.peer = net.JoinHostPort(a.host, strconv.Itoa(int(to.Port)))
	// A space is in none of the parts, so no two destinations share a key.
	a.sessions = keyedSessions{sessions: a.trust.sessions, key: who.id + " " + rules.id + " " + a.peer, now: s.now}
	rules.configure(&a.cfg)
	a.cfg.ServerName = a.host
	a.cfg.ClientSessionCache = &a.sessions
	if _, known := a.sessions.Get(""); known {
		a.cfg.CurvePreferences = classicCurves
	}
	a.cfg.GetClientCertificate = a.present
	a.cfg.InsecureSkipVerify = true // for verify does it, with what the server failed to send
	a.cfg.VerifyConnection = a.verify
	return a, nil
}

// run makes the handshake. unanswered says of an error that no byte had come, and that there may be time to try again.
func (a *attempt) run(ctx context.Context, conn net.Conn, retries bool) (client *tls.Conn, unanswered bool, err error) {
	h := &hearing{Conn: conn}
	if deadline, ok := ctx.Deadline(); ok {
		h.until = deadline
		if retries {
			deadline = time.Now().Add(time.Until(deadline) / unansweredShare)
		}
		conn.SetDeadline(deadline)
	}
	a.ctx = ctx
	client = tls.Client(h, &a.cfg)
	err = client.HandshakeContext(ctx)
	a.ctx = nil
	if err != nil {
		unanswered = !h.heard && ctx.Err() == nil && isEnd(err)
		return nil, unanswered, &handshakeError{err: err, asked: a.asked, presented: a.presented, rules: a.rules.current.Load()}
	}
	if !h.until.IsZero() {
		conn.SetDeadline(time.Time{})
	}
	if a.sessions.offered && !client.ConnectionState().DidResume {
		a.sessions.forget()
	}
	return client, false, nil
}

// isEnd reports whether err is the end of a connection, or of the patience with it.
func isEnd(err error) bool {
	var netErr net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.As(err, &netErr) && netErr.Timeout()
}

// handshakeError is an error of a handshake with what is known of how it went.
type handshakeError struct {
	err       error
	asked     bool // the server asked for a client certificate
	presented bool // and got one
	rules     *ruleSet
}

func (e *handshakeError) Error() string { return e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

// hearing is a connection that knows whether a byte has come. From the first one on it has until its deadline.
type hearing struct {
	net.Conn
	until time.Time // zero: no deadline
	heard bool
}

func (h *hearing) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if n > 0 && !h.heard {
		h.heard = true
		if !h.until.IsZero() {
			h.Conn.SetDeadline(h.until)
		}
	}
	return n, err
}

// classicCurves are the key exchanges offered where a session is to be resumed, and where a small ClientHello is wanted:
// all but the hybrid ones with ML-KEM, which cost as much as all the rest of a resumed handshake. What they are for, that
// nobody can record the traffic now and decrypt it with a quantum computer later, comes from the session then: its secret,
// which was agreed on with one of them if the server knows any, goes into the new keys beside the exchange (RFC 8446
// section 7.1).
var classicCurves = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}

// serverName returns host as it is verified and sent in SNI: lower case, without the dot of an absolute name
// (RFC 6066 section 3).
func serverName(host string) string {
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// present answers a server's request for a certificate, whatever authorities it names: a certificate that the server then
// refuses gives a clearer error than one that was never sent.
func (a *attempt) present(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	a.asked, a.presented = true, len(a.pair.Certificate) > 0
	if a.report != nil {
		a.report.Asked, a.report.Presented = a.asked, a.presented
	}
	return a.pair, nil
}

// session is a TLS session to be resumed until some time.
type session struct {
	state *tls.ClientSessionState
	until time.Time // from when on the server's chain is not valid
}

// keyedSessions is a session cache of one alias, entry of destinations, host and port, for one connection. crypto/tls
// would use the server name alone as the key.
type keyedSessions struct {
	sessions *lru[string, session]
	key      string
	now      func() time.Time
	until    time.Time // of a session that begins on this connection
	offered  bool      // a session was there to be resumed
	tooLarge bool      // what the server has sent of its chain, to be kept with a session
	closed   bool
}

// Get implements tls.ClientSessionCache.
func (k *keyedSessions) Get(string) (*tls.ClientSessionState, bool) {
	s, ok := k.sessions.get(k.key)
	if !ok || !k.now().Before(s.until) {
		return nil, false
	}
	k.offered = true
	return s.state, true
}

// Put implements tls.ClientSessionCache; nil drops the session.
func (k *keyedSessions) Put(_ string, state *tls.ClientSessionState) {
	switch {
	case k.closed:
	case state == nil, k.tooLarge, ticketBytes(state) > maxSessionBytes:
		k.sessions.drop(k.key)
	default:
		k.sessions.put(k.key, session{state, k.until})
	}
}

// ticketBytes is the size of a session's ticket.
func ticketBytes(state *tls.ClientSessionState) int {
	ticket, _, err := state.ResumptionState()
	if err != nil { // never
		return 0
	}
	return len(ticket)
}

// forget drops the session that the server did not resume, and what it offers in its place: that was agreed on with
// classicCurves, and the next connection is to have better.
func (k *keyedSessions) forget() {
	k.sessions.drop(k.key)
	k.closed = true
}

// Report is what came to light in a handshake, for whoever is to mend a destination.
type Report struct {
	Chain    []*x509.Certificate   // as the server sent it, its own first
	Verified [][]*x509.Certificate // from its certificate to a trusted root; none where it is not trusted, or pinned
	Added    []Added               // what the server failed to send, and we fetched to complete its chain
	FetchErr error                 // why a certificate that the chain lacks could not be fetched; nil where it could
	Pinned   bool                  // its key is one of the entry's pins, which is all that was asked of it
	// Asked says that the server asked for a client certificate, Presented that it got one.
	Asked, Presented bool
	// Classic says that the server answers only a ClientHello without ML-KEM.
	Classic bool
}

// Added is a certificate that a chain was completed with.
type Added struct {
	Certificate *x509.Certificate
	URL         string // where the certificate below it says that it is found
}

// Check makes the handshake as Handshake does, and reports what it saw, also where it failed.
func (s *Store) Check(ctx context.Context, conn net.Conn, to Destination, again func() (net.Conn, error)) (*tls.Conn, Report, error) {
	var report Report
	client, err := s.handshake(ctx, conn, to, again, &report)
	return client, report, err
}
