package policy

import (
	"fmt"
	"net/netip"
	"time"
)

// Config is what an operator says about who may send where. In every list nil is a key that is absent, and a list
// that is there but holds nothing is an error: a template that renders nothing must not open a door. A key without a
// value is such a list.
type Config struct {
	// Clients (clients) are those who may send, in their order. Nil: everybody.
	Clients []ClientConfig
	// Destinations (destinations) are rules for some destinations, in their order. Nil: none.
	Destinations []DestinationConfig
	// Breaker (breaker) refuses destinations that cannot be reached.
	Breaker BreakerConfig

	// Aliases holds every alias of a client certificate (clientCerts, and "default" where clientCertFile is set) with
	// its hosts (clientCerts.*.hosts); nil hosts: every host.
	Aliases map[string][]string
	// ClientCertificates says that a listener has clientCAFile, without which no client shows a certificate.
	ClientCertificates bool
	// EgressAddresses (egress.addresses) are those that an entry of Destinations may name.
	EgressAddresses []netip.Addr
}

// ClientConfig is one entry of clients. One with neither Tokens, Certificates nor Addresses has all requests that no
// other entry has.
type ClientConfig struct {
	// Name (name) is letters, digits, "-" and "_".
	Name string
	// Tokens (tokens) are "sha256:" and the SHA-256 of a token in hexadecimal. They are in no error.
	Tokens []string
	// Certificates (certificates) are URIs, "dns:" and a DNS name, or "cn:" and a common name.
	Certificates []string
	// Addresses (addresses) are the client's own.
	Addresses []netip.Prefix
	// Mode (mode) is "enforce", "report" or "open"; "" is "enforce".
	Mode string
	// AllowHosts (allowHosts) and DenyHosts (denyHosts) are names, "*." and a domain, prefixes or addresses.
	AllowHosts, DenyHosts []string
	// AllowPorts (allowPorts) are 1 to 65535. Nil: every port.
	AllowPorts []int
	// AllowList (cidrAllowList) is what the guard is to let through for this client alone.
	AllowList []netip.Prefix
	// ClientCerts (clientCerts) are the aliases that may be presented for it. Nil: all; "none" alone: none.
	ClientCerts []string
	// MaxConnections (maxConnections) is how many requests and tunnels may be in flight, above 0. Nil: no limit.
	MaxConnections *int
	// RequestsPerSecond (requestsPerSecond) is its rate, with a burst of as much, above 0. Nil: no limit.
	RequestsPerSecond *int
	// CheckAddresses (checkAddresses) says whether the URL check tells it addresses.
	CheckAddresses bool
}

// DestinationConfig is one entry of destinations. Of its limits nil is the global one.
type DestinationConfig struct {
	// Hosts (hosts) are names, "*." and a domain, prefixes or addresses. They may not be absent.
	Hosts []string
	// Ports (ports) are 1 to 65535. Nil: every port.
	Ports []int
	// AllowList (cidrAllowList) is what the guard is to let through for these hosts alone.
	AllowList []netip.Prefix
	// CAFile (caFile) has further roots for these hosts; "": none. New does not open it.
	CAFile string
	// Pins (pins) are "sha256/" and the SHA-256 of a public key (SubjectPublicKeyInfo) in base64. Nil: none.
	Pins []string
	// ClientCert (clientCert) is the alias presented where a request names none; "": none of its own.
	ClientCert string
	// TLS (tls) is how the proxy speaks TLS to these hosts.
	TLS DestinationTLS
	// Egress (egress) are some of egress.addresses. Nil: all of them.
	Egress []netip.Addr
	// MaxConnections (maxConnections) is for each host and port, above 0.
	MaxConnections *int
	// ConnectTimeout, ReadTimeout and ConnectionLifetime are above 0.
	ConnectTimeout, ReadTimeout, ConnectionLifetime *time.Duration
	// MaxResponseBodySize (maxResponseBodySize) is in bytes, above 0.
	MaxResponseBodySize *int64
}

// DestinationTLS is the key tls of an entry of destinations.
type DestinationTLS struct {
	// MinVersion (minVersion) is "1.0" to "1.3"; "": the proxy's own.
	MinVersion string
	// LegacyCiphers (legacyCiphers) also offers RSA key exchange, and CBC with SHA-256 and AES-128.
	LegacyCiphers bool
	// Renegotiation (renegotiation) obeys one renegotiation that the server asks for (TLS 1.2).
	Renegotiation bool
}

// BreakerConfig is the key breaker.
type BreakerConfig struct {
	// Failures (breaker.failures) in a row open the breaker of a destination; 0: never.
	Failures int
	// OpenFor (breaker.openFor) is how long it is open at first, above 0 and at most 10 minutes. Not looked at where
	// Failures is 0.
	OpenFor time.Duration
}

// ConfigError says which setting cannot be used and why. New returns no other error.
type ConfigError struct {
	// Key is where it is, such as clients[1].allowHosts[0]; of what is missing, where it would be.
	Key string
	// Value is what is there; "" where there is nothing, or it is a secret.
	Value string
	// Problem is what is wrong with it, and Want what is accepted; Want may be "".
	Problem, Want string
}

// Error returns the key, the value, what is wrong and what is accepted.
func (e *ConfigError) Error() string {
	text := e.Key + ": "
	if e.Value != "" {
		text += fmt.Sprintf("%q: ", e.Value)
	}
	text += e.Problem
	if e.Want != "" {
		text += "; want " + e.Want
	}
	return text
}
