package listen

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// The shapes of a header. Version 1 is a line of up to 107 bytes; version 2 a signature, two bytes, a length, and as many
// bytes of addresses and extensions, which the specification wants to be few enough for one segment.
const (
	proxyLine      = "PROXY "
	proxyLineMax   = 107
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyFixed     = 16
	proxyHeaderMax = 4096
)

// ProxyHeaderLen returns how long the PROXY protocol header is that b begins with, version 1 or 2 of HAProxy's
// specification, or 0 where b is too short to tell; 4096 bytes at most. reject says what is wrong with it, or is "".
func ProxyHeaderLen(b []byte) (n int, reject string) {
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
		if n > proxyHeaderMax {
			return 0, "its PROXY protocol header is longer than 4096 bytes"
		}
		if len(b) < n {
			return 0, ""
		}
		return n, ""
	}
	return 0, "it does not begin with the PROXY protocol header that its load balancer is configured to send"
}

// ParseProxyHeader returns the client's address from a whole header, IPv4 as IPv4, or none, where the load balancer speaks for itself
// (a health check) or does not know.
func ParseProxyHeader(b []byte) (source netip.AddrPort, reject string) {
	if namesNobody(b) {
		return source, ""
	}
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

// namesNobody reports whether b is a header of version 2 that is LOCAL, of which the specification wants the rest ignored,
// whatever it is, or one of an unspecified protocol, which is version 1's UNKNOWN.
func namesNobody(b []byte) bool {
	const local, proxied, unspecified = 0x20, 0x21, 0x00
	if len(b) < proxyFixed || string(b[:len(proxySignature)]) != proxySignature {
		return false
	}
	command, protocol := b[len(proxySignature)], b[len(proxySignature)+1]
	return command == local || command == proxied && protocol == unspecified
}
