package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestConfigErrors(t *testing.T) {
	hash := HashToken("secret")
	client := func(change func(*ClientConfig)) Config {
		c := ClientConfig{Name: "b", Addresses: prefixes("10.0.0.0/8")}
		change(&c)
		return Config{Clients: []ClientConfig{{Name: "a", Tokens: []string{hash}}, c}, Aliases: map[string][]string{"acme": nil},
			ClientCertificates: true}
	}
	entry := func(change func(*DestinationConfig)) Config {
		d := fullEntry()
		change(&d)
		return withEntries(d)
	}
	empty := sha256.Sum256(nil)
	for _, tt := range []struct {
		name string
		cfg  Config
		key  string
		want string // in the error
	}{
		{"clients empty", Config{Clients: []ClientConfig{}}, "clients", "empty"},
		{"no name", client(func(c *ClientConfig) { c.Name = "" }), "clients[1].name", "missing"},
		{"a name with a blank", client(func(c *ClientConfig) { c.Name = "a b" }), "clients[1].name", `"a b"`},
		{"a name with a colon", client(func(c *ClientConfig) { c.Name = "a:b" }), "clients[1].name", `"a:b"`},
		{"a name that is not ASCII", client(func(c *ClientConfig) { c.Name = "\u212a" }), "clients[1].name", "letters"},
		{"a name twice", client(func(c *ClientConfig) { c.Name = "a" }), "clients[1].name", "clients[0]"},

		{"tokens empty", client(func(c *ClientConfig) { c.Tokens = []string{} }), "clients[1].tokens", "empty"},
		{"a token itself", client(func(c *ClientConfig) { c.Tokens = []string{"secret"} }), "clients[1].tokens[0]", "no SHA-256"},
		{"a hash that is too short", client(func(c *ClientConfig) { c.Tokens = []string{hash[:69]} }), "clients[1].tokens[0]", "no SHA-256"},
		{"a hash that is too long", client(func(c *ClientConfig) { c.Tokens = []string{hash + "00"} }), "clients[1].tokens[0]", "no SHA-256"},
		{"a hash that is no hexadecimal", client(func(c *ClientConfig) { c.Tokens = []string{hash[:70] + "g"} }), "clients[1].tokens[0]", "no SHA-256"},
		{"a hash without prefix", client(func(c *ClientConfig) { c.Tokens = []string{hash[7:]} }), "clients[1].tokens[0]", "no SHA-256"},
		{"the empty string's", client(func(c *ClientConfig) { c.Tokens = []string{"sha256:" + hex.EncodeToString(empty[:])} }), "clients[1].tokens[0]", "empty string"},
		{"another's token", client(func(c *ClientConfig) { c.Tokens = []string{HashToken("b"), "sha256:" + strings.ToUpper(hash[7:])} }), "clients[1].tokens[1]", `"a"`},

		{"certificates empty", client(func(c *ClientConfig) { c.Certificates = []string{} }), "clients[1].certificates", "empty"},
		{"no URI", client(func(c *ClientConfig) { c.Certificates = []string{"billing"} }), "clients[1].certificates[0]", "not complete"},
		{"an empty CN", client(func(c *ClientConfig) { c.Certificates = []string{"cn:b", "cn:"} }), "clients[1].certificates[1]", "not complete"},
		{"CN in capitals", client(func(c *ClientConfig) { c.Certificates = []string{"CN:b"} }), "clients[1].certificates[0]", "no URI"},
		{"no clientCAFile", Config{Clients: []ClientConfig{{Name: "a", Certificates: []string{"cn:a"}}}}, "clients[0].certificates", "clientCAFile"},

		{"addresses empty", client(func(c *ClientConfig) { c.Addresses = []netip.Prefix{} }), "clients[1].addresses", "empty"},
		{"host bits", client(func(c *ClientConfig) { c.Addresses = prefixes("10.1.2.3/8") }), "clients[1].addresses[0]", "10.0.0.0/8"},
		{"mapped", client(func(c *ClientConfig) { c.AllowList = prefixes("::ffff:10.0.0.0/104") }), "clients[1].cidrAllowList[0]", "IPv4"},
		{"cidrAllowList empty", client(func(c *ClientConfig) { c.AllowList = []netip.Prefix{} }), "clients[1].cidrAllowList", "empty"},

		{"a mode that is none", client(func(c *ClientConfig) { c.Mode = "Report" }), "clients[1].mode", `"Report"`},
		{"allowHosts empty", client(func(c *ClientConfig) { c.AllowHosts = []string{} }), "clients[1].allowHosts", "empty"},
		{"denyHosts empty", client(func(c *ClientConfig) { c.DenyHosts = []string{} }), "clients[1].denyHosts", "empty"},
		{"allowPorts empty", client(func(c *ClientConfig) { c.AllowPorts = []int{} }), "clients[1].allowPorts", "empty"},
		{"a star", client(func(c *ClientConfig) { c.AllowHosts = []string{"a.test", "*"} }), "clients[1].allowHosts[1]", "every host"},
		{"not ASCII", client(func(c *ClientConfig) { c.DenyHosts = []string{"bücher.test"} }), "clients[1].denyHosts[0]", "xn--"},
		{"port 0", client(func(c *ClientConfig) { c.AllowPorts = []int{443, 0} }), "clients[1].allowPorts[1]", `"0"`},
		{"port 65536", client(func(c *ClientConfig) { c.AllowPorts = []int{65536} }), "clients[1].allowPorts[0]", `"65536"`},
		{"open with allowHosts", client(func(c *ClientConfig) { c.Mode, c.AllowHosts = "open", []string{"a.test"} }), "clients[1].allowHosts", "mode: open"},
		{"open with denyHosts", client(func(c *ClientConfig) { c.Mode, c.DenyHosts = "open", []string{"a.test"} }), "clients[1].denyHosts", "mode: open"},
		{"open with allowPorts", client(func(c *ClientConfig) { c.Mode, c.AllowPorts = "open", []int{1} }), "clients[1].allowPorts", "mode: open"},

		{"clientCerts empty", client(func(c *ClientConfig) { c.ClientCerts = []string{} }), "clients[1].clientCerts", "empty"},
		{"an unknown alias", client(func(c *ClientConfig) { c.ClientCerts = []string{"acme", "acm"} }), "clients[1].clientCerts[1]", `"acm"`},
		{"none and more", client(func(c *ClientConfig) { c.ClientCerts = []string{"none", "acme"} }), "clients[1].clientCerts[0]", "alone"},
		{"no default", client(func(c *ClientConfig) { c.ClientCerts = []string{"default"} }), "clients[1].clientCerts[0]", `"default"`},
		{"maxConnections 0", client(func(c *ClientConfig) { c.MaxConnections = limit(0) }), "clients[1].maxConnections", "above 0"},
		{"requestsPerSecond -1", client(func(c *ClientConfig) { c.RequestsPerSecond = limit(-1) }), "clients[1].requestsPerSecond", "above 0"},

		{"everybody twice", Config{Clients: []ClientConfig{{Name: "a"}, {Name: "b"}}}, "clients[1]", "second"},
		{"everybody not last", Config{Clients: []ClientConfig{{Name: "a"}, {Name: "b", Addresses: prefixes("10.0.0.0/8")}}}, "clients[0]", "have no requests"},

		{"alias none", Config{Aliases: map[string][]string{"none": nil}}, "clientCerts.none", "another alias"},
		{"alias hosts empty", Config{Aliases: map[string][]string{"a": {}}}, "clientCerts.a.hosts", "empty"},
		{"alias hosts", Config{Aliases: map[string][]string{"a": {"a.test", "*"}}}, "clientCerts.a.hosts[1]", "every host"},

		{"destinations empty", Config{Destinations: []DestinationConfig{}}, "destinations", "empty"},
		{"no hosts", entry(func(d *DestinationConfig) { d.Hosts = nil }), "destinations[0].hosts", "missing"},
		{"hosts empty", entry(func(d *DestinationConfig) { d.Hosts = []string{} }), "destinations[0].hosts", "empty"},
		{"a bad host", entry(func(d *DestinationConfig) { d.Hosts = []string{"a.test", "10.0.0.1/8"} }), "destinations[0].hosts[1]", "10.0.0.0/8"},
		{"ports empty", entry(func(d *DestinationConfig) { d.Ports = []int{} }), "destinations[0].ports", "empty"},
		{"a bad port", entry(func(d *DestinationConfig) { d.Ports = []int{-1} }), "destinations[0].ports[0]", "no port"},
		{"cidrAllowList empty", entry(func(d *DestinationConfig) { d.AllowList = []netip.Prefix{} }), "destinations[0].cidrAllowList", "empty"},
		{"pins empty", entry(func(d *DestinationConfig) { d.Pins = []string{} }), "destinations[0].pins", "empty"},
		{"pins and caFile", entry(func(d *DestinationConfig) { d.CAFile = "corp.pem" }), "destinations[0].pins", "caFile"},
		{"a pin of SHA-1", entry(func(d *DestinationConfig) { d.Pins[0] = "sha1/AAAA" }), "destinations[0].pins[0]", "no pin"},
		{"a pin of 31 bytes", entry(func(d *DestinationConfig) { d.Pins[0] = "sha256/" + strings.Repeat("A", 40) + "AA==" }), "destinations[0].pins[0]", "no pin"},
		{"an unknown alias of an entry", entry(func(d *DestinationConfig) { d.ClientCert = "none" }), "destinations[0].clientCert", `"none"`},
		{"a version that is none", entry(func(d *DestinationConfig) { d.TLS.MinVersion = "1.4" }), "destinations[0].tls.minVersion", `"1.4"`},
		{"egress empty", entry(func(d *DestinationConfig) { d.Egress = []netip.Addr{} }), "destinations[0].egress", "empty"},
		{"egress of nobody", entry(func(d *DestinationConfig) { d.Egress[0] = netip.MustParseAddr("203.0.113.8") }), "destinations[0].egress[0]", "egress.addresses"},
		{"no connections", entry(func(d *DestinationConfig) { d.MaxConnections = limit(0) }), "destinations[0].maxConnections", "above 0"},
		{"no time to connect", entry(func(d *DestinationConfig) { d.ConnectTimeout = limit(time.Duration(0)) }), "destinations[0].connectTimeout", "above 0"},
		{"negative time to read", entry(func(d *DestinationConfig) { d.ReadTimeout = limit(-time.Second) }), "destinations[0].readTimeout", `"-1s"`},
		{"no life", entry(func(d *DestinationConfig) { d.ConnectionLifetime = limit(time.Duration(0)) }), "destinations[0].connectionLifetime", "above 0"},
		{"no body", entry(func(d *DestinationConfig) { d.MaxResponseBodySize = limit(int64(0)) }), "destinations[0].maxResponseBodySize", "above 0"},

		{"negative failures", Config{Breaker: BreakerConfig{Failures: -1}}, "breaker.failures", `"-1"`},
		{"open for no time", Config{Breaker: BreakerConfig{Failures: 1}}, "breaker.openFor", `"0s"`},
		{"open for too long", Config{Breaker: BreakerConfig{Failures: 1, OpenFor: 10*time.Minute + 1}}, "breaker.openFor", "10m"},
	} {
		_, err := New(tt.cfg, nil, t0)
		var wrong *ConfigError
		if !errors.As(err, &wrong) || wrong.Key != tt.key || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v; want %s and %q", tt.name, err, tt.key, tt.want)
			continue
		}
		if text := err.Error(); strings.Contains(text, "secret") || strings.Contains(strings.ToLower(text), hash[7:20]) {
			t.Errorf("%s: got %q; want neither a token nor its hash in it", tt.name, text)
		}
		if strings.ContainsAny(err.Error(), "\n\r") {
			t.Errorf("%s: got %q; want one line", tt.name, err)
		}
	}
}

// TestConfigAtItsLimits: what is just right is no error.
func TestConfigAtItsLimits(t *testing.T) {
	for name, cfg := range map[string]Config{
		"nothing":     {},
		"every key":   withEntries(fullEntry()),
		"caFile":      {Destinations: []DestinationConfig{{Hosts: []string{"a.test"}, CAFile: "corp.pem"}}},
		"ports":       {Clients: []ClientConfig{{Name: "Az-_09", AllowPorts: []int{65535, 1, 1}}}},
		"limits of 1": {Clients: []ClientConfig{{Name: "a", MaxConnections: limit(1), RequestsPerSecond: limit(1)}}},
		"one token twice": {Clients: []ClientConfig{{Name: "a", Tokens: []string{HashToken("a"), HashToken("a")}},
			{Name: "b", Tokens: []string{HashToken("b")}}}},
		"ten minutes":   {Breaker: BreakerConfig{Failures: 1, OpenFor: 10 * time.Minute}},
		"off, whatever": {Breaker: BreakerConfig{OpenFor: -1}},
	} {
		if p, err := New(cfg, nil, t0); err != nil || len(p.Warnings()) > 0 {
			t.Errorf("%s: got %v; want none", name, err)
		}
	}
}
