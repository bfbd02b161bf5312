package proxy

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"os"

	"whsentry/policy"
	"whsentry/proxy/listen"
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"
)

// greet does what comes before a client's first request: the PROXY protocol of a load balancer, and TLS. It reports
// whether there may be a request; where not, the client has been told why, if it can understand it.
func (c *client) greet() bool {
	if c.isBehindBalancer() {
		if f := c.takeProxyHeader(); f != nil {
			if f.Status != reason.StatusClientGone {
				c.refuse(f, c.listener.tls == nil)
			}
			return false
		}
	}
	if c.listener.tls == nil {
		return true
	}
	c.verified = c.listener.tls.Load()
	if c.start == 0 { // else it began with the PROXY protocol
		c.start = socket.Now()
	}
	if err := c.startTLS(c.verified, c.takeEarly()); err != nil {
		c.refuseTLS(err)
		return false
	}
	if shown := c.conn.(*tls.Conn).ConnectionState().VerifiedChains; len(shown) > 0 {
		c.peer.Certificate = policy.NewCertificate(shown[0][0])
	}
	return true
}

// isBehindBalancer reports whether the connection comes from a load balancer that speaks the PROXY protocol, which one
// always does or never: there is no guessing from what it sends, or anybody could claim to be anybody.
func (c *client) isBehindBalancer() bool {
	peer := netip.MustParseAddrPort(c.addr).Addr()
	return c.proxy.run.Load().cfg.Listeners[c.listener.index].TakesProxyHeader(peer)
}

// takeProxyHeader reads the header, version 1 or 2 of HAProxy's PROXY protocol specification, for which there is
// clientTimeout, and takes the client's address from it. What has come behind it is left in the exchange's buffer.
func (c *client) takeProxyHeader() *reason.Failure {
	c.limit(c.proxy.run.Load().cfg.ClientTimeout)
	c.start = socket.Now()
	in := &c.in
	for {
		n, reject := listen.ProxyHeaderLen(in.Unused())
		if reject != "" {
			return reason.Malformedf("%s", reject)
		}
		if n > 0 {
			return c.useProxyHeader(n)
		}
		read, err := c.tcp.Read(in.Free())
		in.Added(read)
		switch {
		case read > 0:
		case errors.Is(err, os.ErrDeadlineExceeded) && c.deadline.Passed() && !c.proxy.closing.Load() && in.Len() > 0:
			f := reason.Newf(reason.SlowClient, "the load balancer was too slow with its PROXY protocol header")
			f.Fatal = true
			return f
		default: // it only looked whether the port is open
			return reason.ClientGone()
		}
	}
}

func (c *client) useProxyHeader(n int) *reason.Failure {
	in := &c.in
	source, reject := listen.ParseProxyHeader(in.Unused()[:n])
	if reject != "" {
		return reason.Malformedf("%s", reject)
	}
	c.peer.Addr = source.Addr().Unmap()
	if source.IsValid() {
		c.addr = source.String()
	}
	in.Skip(n)
	c.settleInput()
	return nil
}
