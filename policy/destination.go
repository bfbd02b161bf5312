package policy

import (
	"net/netip"
	"time"
)

// Destination is an entry of destinations: how hosts with rules of their own are connected to. Of its limits 0 is the
// global one. It must not be changed.
type Destination struct {
	// Index is its place in the list, from 0.
	Index int
	// ID tells entries from each other by what they say, across configurations: connections and TLS sessions made
	// under one are used under no other. It is never 0.
	ID uint64
	// AllowList (cidrAllowList) is what the guard is to let through beside the client's own; cidrDenyList beats it,
	// and it lifts no metadata address.
	AllowList []netip.Prefix
	// CAFile (caFile) has further roots; "": none.
	CAFile string
	// Pins (pins) are SHA-256 hashes of the public keys that may be the server's; nil: none is pinned.
	Pins [][32]byte
	// ClientCert (clientCert) is the alias presented where the request names none; "": none of its own.
	ClientCert string
	// MinVersion (tls.minVersion) is the number of a TLS version, such as tls.VersionTLS12; 0: the proxy's own.
	MinVersion uint16
	// LegacyCiphers (tls.legacyCiphers) and Renegotiation (tls.renegotiation) are as in DestinationTLS.
	LegacyCiphers, Renegotiation bool
	// Egress (egress) are the source addresses; a family that it names none of is not used. Nil: all.
	Egress []netip.Addr
	// MaxConnections (maxConnections) is for each host and port.
	MaxConnections int
	// ConnectTimeout, ReadTimeout and ConnectionLifetime may be over the global ones.
	ConnectTimeout, ReadTimeout, ConnectionLifetime time.Duration
	// MaxResponseBodySize (maxResponseBodySize) is in bytes.
	MaxResponseBodySize int64
}

// Destination returns the first entry of destinations whose hosts fit h and whose ports hold port, which is the port
// connected to; nil: there is none. It does not allocate, and costs one look in a map for each label of a name.
func (p *Policy) Destination(h Host, port uint16) *Destination {
	if i := p.destinationHosts.first(h, port); i >= 0 {
		return p.destinations[i]
	}
	return nil
}
