package proxy

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"whsentry/proxy/listen"
)

// greet does what comes before a client's first request: the PROXY protocol of a load balancer, and TLS. It reports
// whether there may be a request; where not, the client has been told why, if it can understand it.
func (c *client) greet() bool {
	var early []byte // what has come behind the header
	if c.isBehindBalancer() {
		if f := c.takeProxyHeader(); f != nil {
			if f.status != statusClientGone {
				c.refuse(f, c.listener.tls == nil)
			}
			return false
		}
		early = c.ex.in.Unused()
	}
	if c.listener.tls == nil {
		return true
	}
	early = bytes.Clone(early)
	c.dropExchange()
	if err := c.startTLS(c.listener.tls.Load(), early); err != nil {
		c.refuseTLS(err)
		return false
	}
	return true
}

// refuse counts and logs a connection that did not get as far as a request. The reason is sent where the client can
// read it.
func (c *client) refuse(f *failure, readable bool) {
	c.dropExchange()
	c.ex = acquireExchange()
	c.ex.begin(c)
	if !readable {
		c.ex.begun, c.ex.status = true, f.status
	}
	c.ex.finish(f)
}

// isBehindBalancer reports whether the connection comes from a load balancer that speaks the PROXY protocol, which one
// always does or never: there is no guessing from what it sends, or anybody could claim to be anybody.
func (c *client) isBehindBalancer() bool {
	peer := netip.MustParseAddrPort(c.addr).Addr()
	return c.listener.Config().TakesProxyHeader(peer)
}

// takeProxyHeader reads the header, version 1 or 2 of HAProxy's PROXY protocol specification, for which there is
// clientTimeout, and takes the client's address from it. What has come behind it is left in the exchange's buffer.
func (c *client) takeProxyHeader() *failure {
	c.limit(c.proxy.run.Load().cfg.ClientTimeout)
	c.ex = acquireExchange()
	in := &c.ex.in
	for {
		n, reject := listen.ProxyHeaderLen(in.Unused())
		if reject != "" {
			return malformedf("%s", reject)
		}
		if n > 0 {
			return c.useProxyHeader(n)
		}
		read, err := c.tcp.Read(in.Free())
		in.Added(read)
		switch {
		case read > 0:
		case errors.Is(err, os.ErrDeadlineExceeded) && c.deadline.Passed() && !c.proxy.closing.Load() && in.Len() > 0:
			f := failf(reasonSlowClient, "the load balancer was too slow with its PROXY protocol header")
			f.fatal = true
			return f
		default: // it only looked whether the port is open
			return clientGone()
		}
	}
}

func (c *client) useProxyHeader(n int) *failure {
	in := &c.ex.in
	source, reject := listen.ParseProxyHeader(in.Unused()[:n])
	if reject != "" {
		return malformedf("%s", reject)
	}
	if source.IsValid() {
		c.addr = source.String()
	}
	in.Skip(n)
	return nil
}
