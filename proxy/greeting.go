package proxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"whsentry/proxy/socket"

	"github.com/pires/go-proxyproto"
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
	cfg := &c.listener.cfg
	if !cfg.ProxyProtocol {
		return false
	}
	peer := netip.MustParseAddrPort(c.addr).Addr().Unmap().WithZone("")
	for _, p := range cfg.ProxyProtocolFrom {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// takeProxyHeader reads the header, version 1 or 2 of HAProxy's PROXY protocol specification, for which there is
// clientTimeout, and takes the client's address from it. What has come behind it is left in the exchange's buffer.
func (c *client) takeProxyHeader() *failure {
	c.limit(c.proxy.run.Load().cfg.ClientTimeout)
	c.ex = acquireExchange()
	in := &c.ex.in
	for {
		n, reject := proxyHeaderLen(in.Unused())
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
	source, reject := parseProxyHeader(in.Unused()[:n])
	if reject != "" {
		return malformedf("%s", reject)
	}
	if source.IsValid() {
		c.addr = source.String()
	}
	in.Skip(n)
	return nil
}

// The shapes of a header. Version 1 is a line of up to 107 bytes; version 2 a signature, two bytes, a length, and as many
// bytes of addresses and extensions, which the specification wants to be few enough for one segment.
const (
	proxyLine      = "PROXY "
	proxyLineMax   = 107
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyFixed     = 16
)

// proxyHeaderLen returns how long the header is that b begins with, or 0 where b is too short to tell.
func proxyHeaderLen(b []byte) (n int, reject string) {
	startsLike := func(prefix string) bool {
		k := min(len(b), len(prefix))
		return string(b[:k]) == prefix[:k]
	}
	switch {
	case len(b) == 0:
		return 0, ""
	case startsLike(proxyLine):
		line := b[:min(len(b), proxyLineMax)]
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			return end + 1, ""
		}
		if len(line) == proxyLineMax {
			return 0, "its PROXY protocol header is longer than 107 bytes"
		}
		return 0, ""
	case startsLike(proxySignature):
		if len(b) < proxyFixed {
			return 0, ""
		}
		n = proxyFixed + int(binary.BigEndian.Uint16(b[proxyFixed-2:]))
		if n > socket.BufferSize {
			return 0, "its PROXY protocol header is longer than 4096 bytes"
		}
		if len(b) < n {
			return 0, ""
		}
		return n, ""
	}
	return 0, "it does not begin with the PROXY protocol header that its load balancer is configured to send"
}

// parseProxyHeader returns the client's address from a whole header, or none, where the load balancer speaks for itself
// (a health check) or does not know.
func parseProxyHeader(b []byte) (source netip.AddrPort, reject string) {
	h, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(b), len(b)))
	if err != nil {
		return source, "its PROXY protocol header is malformed"
	}
	if h.Command.IsLocal() {
		return source, ""
	}
	if h.Version == 1 && bytes.Count(b, []byte(" ")) != 5 {
		return source, "its PROXY protocol header is malformed"
	}
	tcp, ok := h.SourceAddr.(*net.TCPAddr)
	if !ok {
		return source, "its PROXY protocol header is not about TCP"
	}
	source = tcp.AddrPort()
	return netip.AddrPortFrom(source.Addr().Unmap(), source.Port()), ""
}
