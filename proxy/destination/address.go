// Package destination is where requests are to go, and on which terms: a host and port in the one form by which connections
// are pooled and counted, rules held against it and lines logged (Address), and the limits, addresses and certificates that
// its entry of destinations has for it, or the global settings (Table, Terms). It connects to nothing.
package destination

import (
	"bytes"
	"net"
	"net/netip"
	"strconv"
	"unsafe"

	"whsentry/policy"
	"whsentry/proxy/http1"
)

// Address is a destination's host and port, in one form. The zero Address is none, until Set.
type Address struct {
	key     []byte // host:port, the host lower-cased or in RFC 5952 form, without a trailing dot
	hostLen int
	port    uint16
}

// New returns an Address that has room for most: Set allocates nothing.
func New() Address { return Address{key: make([]byte, 0, 64)} }

// Set fills a in from an authority, with the scheme's port where that names none. It allocates nothing once a has held one
// of this size.
func (a *Address) Set(from *http1.Authority, tls bool) {
	a.key = from.AppendHost(a.key[:0])
	a.hostLen = len(a.key)
	a.port = from.PortOr(DefaultPort(tls))
	a.key = append(a.key, ':')
	a.key = strconv.AppendUint(a.key, uint64(a.port), 10)
}

// Copy makes a the same as from.
func (a *Address) Copy(from *Address) {
	a.key = append(a.key[:0], from.key...)
	a.hostLen, a.port = from.hostLen, from.port
}

// SetPort changes the port.
func (a *Address) SetPort(port uint16) {
	a.port = port
	a.key = strconv.AppendUint(append(a.key[:a.hostLen], ':'), uint64(port), 10)
}

// DefaultPort is the port of a URL that names none: with TLS 443, or else 80.
func DefaultPort(tls bool) uint16 {
	if tls {
		return 443
	}
	return 80
}

// Key is host:port, by which connections are pooled: a part of a.
func (a *Address) Key() []byte { return a.key }

// Port returns the port.
func (a *Address) Port() uint16 { return a.port }

// HasHost reports whether an authority has the same host, whatever its port.
func (a *Address) HasHost(other *http1.Authority) bool {
	var buf [256]byte
	return bytes.Equal(other.AppendHost(buf[:0]), a.key[:a.hostLen])
}

// String returns host and port as they are shown: an IPv6 address in brackets.
func (a *Address) String() string { return net.JoinHostPort(a.Name(), strconv.Itoa(int(a.port))) }

// Name returns the host as the guard takes it.
func (a *Address) Name() string { return string(a.key[:a.hostLen]) }

// Host returns the address as rules are held against it. It is valid as long as the address does not change.
func (a *Address) Host() policy.Host {
	if a.hostLen == 0 {
		return policy.Host{}
	}
	name := unsafe.String(&a.key[0], a.hostLen) // a copy would be the only allocation of a request
	var literal netip.Addr
	if looksLiteral(name) {
		literal, _ = netip.ParseAddr(name)
	}
	return policy.NewHost(name, literal)
}

// looksLiteral reports whether name may be an IP literal: a DNS name has no colon, and does not end in a number.
func looksLiteral(name string) bool {
	last := name[len(name)-1]
	if '0' <= last && last <= '9' && '0' <= name[0] && name[0] <= '9' {
		return true
	}
	for i := range len(name) {
		if name[i] == ':' {
			return true
		}
	}
	return false
}
