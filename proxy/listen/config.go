// Package listen opens the sockets that clients connect to, however the process got them (opened, passed by whoever
// started it, sharing a port with others), accepts from them whatever the system runs out of meanwhile, and leaves them
// without losing a connection. It knows the header that a load balancer puts before a connection's bytes (PROXY
// protocol), and nothing of HTTP.
package listen

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Config is one endpoint that clients connect to.
type Config struct {
	Type         string // HTTP or HTTPS
	Address      string // host:port; an empty host is every address
	CertFile     string // PEM; HTTPS only, where it is required
	KeyFile      string // PEM; HTTPS only, where it is required
	ClientCAFile string // PEM; where set, a client must present a certificate from this CA
	// ReusePort lets a second process listen on the same address (SO_REUSEPORT).
	ReusePort bool
	// ProxyProtocol takes PROXY protocol v1 and v2 from the peers in ProxyProtocolFrom, and from nobody else.
	ProxyProtocol     bool
	ProxyProtocolFrom []netip.Prefix
}

// The values of Config.Type.
const (
	HTTP  = "http"
	HTTPS = "https"
)

// DefaultConfig returns the endpoint that is there where none is configured.
func DefaultConfig() Config { return Config{Type: HTTP, Address: ":9090"} }

// TakesProxyHeader reports whether a connection from that address, without a PROXY protocol header of its own, has to
// begin with one: it comes from a load balancer that sends one always or never. There is no guessing from what it sends,
// or anybody could claim to be anybody.
func (c *Config) TakesProxyHeader(peer netip.Addr) bool {
	if !c.ProxyProtocol {
		return false
	}
	peer = peer.Unmap().WithZone("")
	for _, p := range c.ProxyProtocolFrom {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// Validate reports the first setting that cannot be used as "key.name: value: problem; want what is accepted". Files are
// not opened.
func (c *Config) Validate(key string) error {
	if c.Type != HTTP && c.Type != HTTPS {
		return invalid(key+".type", c.Type, "not known", HTTP+" or "+HTTPS)
	}
	if err := ValidateAddress(key+".address", c.Address); err != nil {
		return err
	}
	for _, file := range []struct {
		key, name string
		needed    bool
	}{
		{"certFile", c.CertFile, true},
		{"keyFile", c.KeyFile, true},
		{"clientCAFile", c.ClientCAFile, false},
	} {
		if c.Type != HTTPS && file.name != "" {
			return invalid(key+"."+file.key, file.name, "of no use where type is http", "type https, or no "+file.key)
		}
		if c.Type == HTTPS && file.needed && file.name == "" {
			return invalid(key+"."+file.key, "", "missing where type is https", "the name of a PEM file")
		}
	}
	for _, p := range c.ProxyProtocolFrom {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			return invalid(key+".proxyProtocolFrom", p.String(), "not a network's prefix", "a CIDR prefix without host bits, such as 10.0.0.0/8")
		}
	}
	return nil
}

// ValidateAddress takes what a listener takes: host:port, where host is an IP address, a name or empty (every
// address), and port is a number; 0 lets the system choose. The error begins with key.
func ValidateAddress(key, address string) error {
	const want = "host:port such as :9090 or 127.0.0.1:9090"
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return invalid(key, address, "not an address to listen on", want)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return invalid(key, address, "its port is not a number from 0 to 65535", want)
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return nil
	}
	if reject := rejectName(host); reject != "" {
		return invalid(key, address, reject, want)
	}
	return nil
}

// ValidateDistinct refuses an address that two keys have. Port 0 is a port of the system's choice, and so never the same
// twice.
func ValidateDistinct(endpoints []Endpoint) error {
	used := make(map[string]string) // address to the key that has it
	for _, e := range endpoints {
		if _, port, _ := net.SplitHostPort(e.Address); port == "0" {
			continue
		}
		if other, taken := used[e.Address]; taken {
			return invalid(e.Key, e.Address, "the address of "+other+" too", "an address of its own")
		}
		used[e.Address] = e.Key
	}
	return nil
}

// Keep returns the listeners that there are, each with what its address is wanted to have of what can change: the
// certificate files, and whom the PROXY protocol is taken from.
func Keep(there, wanted []Config) []Config {
	kept := slices.Clone(there)
	for i := range kept {
		for _, w := range wanted {
			if w.Address == kept[i].Address && w.Type == kept[i].Type {
				kept[i].CertFile, kept[i].KeyFile, kept[i].ClientCAFile = w.CertFile, w.KeyFile, w.ClientCAFile
				kept[i].ProxyProtocol, kept[i].ProxyProtocolFrom = w.ProxyProtocol, w.ProxyProtocolFrom
			}
		}
	}
	return kept
}

// rejectName says what is wrong with a DNS name of this host, or "".
func rejectName(name string) string {
	name = strings.TrimSuffix(name, ".")
	if len(name) > 253 {
		return "has a host longer than 253 bytes"
	}
	label := ""
	for label = range strings.SplitSeq(name, ".") {
		switch {
		case label == "" || len(label) > 63:
			return "has a host with an empty label or one longer than 63 bytes"
		case strings.ContainsFunc(label, isNoNameByte):
			return "has a host that is not a plain DNS name or IP address"
		}
	}
	hex, isHex := strings.CutPrefix(strings.ToLower(label), "0x")
	if strings.Trim(label, "0123456789") == "" || isHex && strings.Trim(hex, "0123456789abcdef") == "" {
		return "has a host that ends in a number but is not a strict IP address"
	}
	return ""
}

func isNoNameByte(c rune) bool {
	return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_')
}

func invalid(key, value, problem, want string) error {
	return fmt.Errorf("%s: %q: %s; want %s", key, value, problem, want)
}
