package downstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"

	"whsentry/proxy/listen"
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"
)

// greet does what comes before a client's first request: the PROXY protocol of a load balancer, and TLS. It reports
// whether there may be a request; where not, the client has been told why, if it can understand it.
func (c *Conn) greet() bool {
	peer := netip.MustParseAddrPort(c.Addr).Addr()
	if c.isBehindBalancer(peer) {
		var f *reason.Failure
		if peer, f = c.takeProxyHeader(); f != nil {
			if f.Status != reason.StatusClientGone {
				c.handler.Refuse(f, c.listener.tls == nil)
			}
			return false
		}
	}
	shown, err := c.greetTLS()
	if err != nil {
		c.refuseTLS(err)
		return false
	}
	c.handler.Greeted(peer, shown)
	return true
}

// isBehindBalancer reports whether the connection comes from a load balancer that speaks the PROXY protocol, which one
// always does or never: there is no guessing from what it sends, or anybody could claim to be anybody.
func (c *Conn) isBehindBalancer(peer netip.Addr) bool {
	return c.cfg().Listeners[c.listener.index].TakesProxyHeader(peer)
}

// takeProxyHeader reads the header, version 1 or 2 of HAProxy's PROXY protocol specification, for which there is
// ClientTimeout, and takes the client's address from it. What has come behind it is left in In.
func (c *Conn) takeProxyHeader() (netip.Addr, *reason.Failure) {
	c.Limit(c.cfg().ClientTimeout)
	c.Start = socket.Now()
	in := &c.In
	for {
		n, reject := listen.ProxyHeaderLen(in.Unused())
		if reject != "" {
			return netip.Addr{}, reason.Malformedf("%s", reject)
		}
		if n > 0 {
			return c.useProxyHeader(n)
		}
		read, err := c.tcp.Read(in.Free())
		in.Added(read)
		switch {
		case read > 0:
		case errors.Is(err, os.ErrDeadlineExceeded) && c.deadline.Passed() && !c.server().closing.Load() && in.Len() > 0:
			f := reason.Newf(reason.SlowClient, "the load balancer was too slow with its PROXY protocol header")
			f.Fatal = true
			return netip.Addr{}, f
		default: // it only looked whether the port is open
			return netip.Addr{}, reason.ClientGone()
		}
	}
}

func (c *Conn) useProxyHeader(n int) (netip.Addr, *reason.Failure) {
	source, reject := listen.ParseProxyHeader(c.In.Unused()[:n])
	if reject != "" {
		return netip.Addr{}, reason.Malformedf("%s", reject)
	}
	if source.IsValid() {
		c.Addr = source.String()
	}
	c.In.Skip(n)
	c.SettleInput()
	return source.Addr().Unmap(), nil
}

// greetTLS speaks TLS with the client of an https listener. It returns the verified certificate that it has shown, or nil.
func (c *Conn) greetTLS() (shown *x509.Certificate, err error) {
	if c.listener.tls == nil {
		return nil, nil
	}
	c.verified = c.listener.tls.Load()
	if c.Start == 0 { // else it began with the PROXY protocol
		c.Start = socket.Now()
	}
	if err := c.StartTLS(c.verified, c.TakeEarly()); err != nil {
		return nil, err
	}
	if chains := c.tls.ConnectionState().VerifiedChains; len(chains) > 0 {
		shown = chains[0][0]
	}
	return shown, nil
}

// StartTLS speaks TLS with the client, who may have sent some of it already, within ClientTimeout.
func (c *Conn) StartTLS(cfg *tls.Config, early []byte) error {
	c.Limit(c.cfg().ClientTimeout)
	under := c.Stream()
	if c.tls == nil {
		under = &socket.Wire{Conn: c.tcp, WriteBelow: c.writeTCP}
	}
	conn := tls.Server(&prefixed{Conn: under, early: early}, cfg)
	if err := conn.Handshake(); err != nil {
		c.server().log().Debug().Str("client", c.Addr).Err(err).Msg("TLS handshake with a client failed")
		return err
	}
	c.tls = conn
	return nil
}

// IsVerified reports whether the CA that the client's certificate was verified by still is the listener's.
func (c *Conn) IsVerified() bool {
	if c.verified == nil || c.verified.ClientCAs == nil {
		return true
	}
	now := c.listener.tls.Load()
	return now == c.verified || now.ClientCAs.Equal(c.verified.ClientCAs)
}

// LacksCertificate reports whether the listener has come to demand a certificate since the client, which has shown none,
// connected. Its next request is its last.
func (c *Conn) LacksCertificate() bool {
	return c.verified != nil && c.verified.ClientCAs == nil && c.listener.tls.Load().ClientCAs != nil
}

// refuseTLS counts and logs a client of an https listener that did not get as far as a request. One that speaks plain
// HTTP is told why; one that just left, as those do that only look whether the port is open, is of no interest.
func (c *Conn) refuseTLS(err error) {
	var record tls.RecordHeaderError
	var f *reason.Failure
	plain := false
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && (!c.deadline.Passed() || c.server().stopping.Load()):
		return // the server is stopping
	case errors.Is(err, os.ErrDeadlineExceeded):
		f = reason.Newf(reason.SlowClient, "the client was too slow in the TLS handshake")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), socket.IsReset(err):
		return
	case errors.As(err, &record) && isMethod(record.RecordHeader[:3]):
		plain = true
		f = reason.Malformedf("it is plain HTTP, and this listener speaks HTTPS")
	default:
		f = reason.Malformedf("its TLS handshake failed: %v", err)
	}
	c.handler.Refuse(f, plain)
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
