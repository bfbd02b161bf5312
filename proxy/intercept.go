package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"

	"whsentry/proxy/http1"
)

// interception is what a CONNECT that is intercepted has fixed for the requests inside.
type interception struct {
	authority []byte // host:port as the client wrote it
	address   address
	alias     string // X-WhSentry-ClientCert of the CONNECT: for the requests that name none
}

// intercept answers a CONNECT by speaking TLS with the client in the destination's place. From here on the client's
// connection carries requests to that destination alone, and each is handled like one with X-WhSentry-TLS. The
// CONNECT itself leaves no line in the log.
func (ex *exchange) intercept(refused *failure) *failure {
	if refused == nil {
		refused = ex.judge()
	}
	if refused != nil {
		return refused
	}
	c := ex.client
	cfg, err := ex.run.ca.IssuerConfig(ex.address.name())
	if err != nil {
		return failf(reasonInternal, "internal error: make a certificate for %s: %v", ex.address.name(), err)
	}
	if c.write([]byte(connectionEstablished)) != nil {
		return clientGone()
	}
	within := &interception{authority: bytes.Clone(ex.authority), alias: ex.alias}
	host, _ := http1.ParseAuthority(within.authority)
	within.address.set(&host, true)
	early := bytes.Clone(ex.in.unused())
	ex.in.clear()
	if c.startTLS(cfg, early) != nil {
		ex.keep = false
		return nil
	}
	c.within = within
	ex.keep = true // whatever the CONNECT said of the connection is about the tunnel
	return nil
}

// startTLS speaks TLS with the client, who may have sent some of it already, within clientTimeout.
func (c *client) startTLS(cfg *tls.Config, early []byte) error {
	c.limit(c.proxy.run.Load().cfg.ClientTimeout)
	var under net.Conn = c.conn
	if under == net.Conn(c.tcp) {
		under = &wire{socket: c.tcp, write: c.writeTCP}
	}
	conn := tls.Server(&prefixed{Conn: under, early: early}, cfg)
	if err := conn.Handshake(); err != nil {
		c.proxy.log().Debug().Str("client", c.addr).Err(err).Msg("TLS handshake with a client failed")
		return err
	}
	c.conn = conn
	c.rests.Store(uint32(restNew)) // a wait above TLS does not go on once it has been ended
	return nil
}

// refuseTLS counts and logs a client of an https listener that did not get as far as a request. One that speaks plain
// HTTP is told why; one that just left, as those do that only look whether the port is open, is of no interest.
func (c *client) refuseTLS(err error) {
	var record tls.RecordHeaderError
	var f *failure
	plain := false
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && (!c.deadline.passed() || c.proxy.stopping.Load()):
		return // the proxy is stopping
	case errors.Is(err, os.ErrDeadlineExceeded):
		f = failf(reasonSlowClient, "the client was too slow in the TLS handshake")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isReset(err):
		return
	case errors.As(err, &record) && isMethod(record.RecordHeader[:3]):
		plain = true
		f = malformedf("it is plain HTTP, and this listener speaks HTTPS")
	default:
		f = malformedf("its TLS handshake failed: %v", err)
	}
	c.refuse(f, plain)
}

// isMethod reports whether b is how the method of a request begins, and TLS does not.
func isMethod(b []byte) bool {
	for _, c := range b {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}

// prefixed is a connection of which some bytes have been read already.
type prefixed struct {
	net.Conn
	early []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.early) > 0 {
		n := copy(b, p.early)
		p.early = p.early[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// routeWithin is route for a request inside an intercepted tunnel, which is for the CONNECT's host and port and for
// no other: a different one in Host or in an absolute URI would be a way around what was judged and certified.
func (ex *exchange) routeWithin(within *interception) *failure {
	h := &ex.head
	if string(ex.method()) == "CONNECT" {
		return failf(reasonConnect, "CONNECT is not allowed inside a tunnel")
	}
	ex.tls = true
	ex.authority = within.authority
	raw := h.Target
	switch {
	case bytes.IndexByte(raw, '#') >= 0:
		return failf(reasonMalformed, "malformed request: its URI has a fragment")
	case raw[0] == '/':
		ex.path = raw
	case string(raw) == "*" && string(ex.method()) == "OPTIONS":
	default:
		t, err := http1.ParseTarget(raw)
		if err != nil {
			return messageFailure(err)
		}
		if !t.HTTPS || !within.matches(&t.Authority) {
			return failf(reasonMalformed, "malformed request: its URI is not for %s", within.authority)
		}
		ex.authority, ex.path = t.Authority.Raw, t.Path
	}
	if err := h.CheckHost(); err != nil {
		return messageFailure(err)
	}
	if host := h.Host.Of(h.Raw); len(host) > 0 {
		a, _ := http1.ParseAuthority(host)
		if !within.matches(&a) {
			return failf(reasonMalformed, "malformed request: its Host is not %s", within.authority)
		}
		ex.authority = host
	}
	ex.address.copy(&within.address)
	if err := ex.run.guard.CheckPort(ex.address.port); err != nil {
		return connectFailure(err, "", 0)
	}
	ex.alias = within.alias
	return ex.chooseCertificate()
}

// matches reports whether a is the CONNECT's host and port, whose default is that of https.
func (w *interception) matches(a *http1.Authority) bool {
	var other address
	other.set(a, true)
	return bytes.Equal(other.key, w.address.key)
}
