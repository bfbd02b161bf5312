package proxy

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"whsentry/proxy/listen"
)

func TestConfigDefaults(t *testing.T) {
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Errorf("got %v; want the defaults to be valid", err)
	}
}

// TestConfigValidate changes the defaults; want begins the error, and is "" where there is none.
func TestConfigValidate(t *testing.T) {
	prefix := netip.MustParsePrefix
	listeners := func(l ...listen.Config) func(*Config) { return func(c *Config) { c.Listeners = l } }
	address := func(a string) func(*Config) { return listeners(listen.Config{Type: "http", Address: a}) }
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no listener", listeners(), `listeners: "": empty; want at least one endpoint`},
		{"type", listeners(listen.Config{Type: "ftp", Address: ":1"}), `listeners[0].type: "ftp": not known; want http or https`},
		{"any address", address(":0"), ""},
		{"IPv4 address", address("127.0.0.1:65535"), ""},
		{"IPv6 address", address("[::1]:9090"), ""},
		{"address with a zone", address("[fe80::1%eth0]:9090"), ""},
		{"name", address("localhost:9090"), ""},
		{"no port", address("localhost"), `listeners[0].address: "localhost": not an address to listen on; want host:port`},
		{"empty address", address(""), `listeners[0].address: "": not an address to listen on; want host:port`},
		{"empty port", address("localhost:"), `listeners[0].address: "localhost:": its port is not a number`},
		{"port above 65535", address(":65536"), `listeners[0].address: ":65536": its port is not a number`},
		{"padded port", address(":080"), `listeners[0].address: ":080": its port is not a number`},
		{"signed port", address(":+80"), `listeners[0].address: ":+80": its port is not a number`},
		{"mistyped address", address("256.0.0.1:80"), `listeners[0].address: "256.0.0.1:80": has a host that ends in a number`},
		{"spaces", address("a b:80"), `listeners[0].address: "a b:80": has a host that is not a plain DNS name`},
		{"bare IPv6 address", address("::1:80"), `listeners[0].address: "::1:80": not an address to listen on`},
		{"the same port 0", listeners(listen.Config{Type: "http", Address: ":0"}, listen.Config{Type: "http", Address: ":0"}), ""},
		{"the same address", listeners(listen.Config{Type: "http", Address: ":1"}, listen.Config{Type: "http", Address: ":1"}),
			`listeners[1].address: ":1": the address of listeners[0].address too; want`},
		{"https", listeners(listen.Config{Type: "https", Address: ":1", CertFile: "c", KeyFile: "k", ClientCAFile: "a"}), ""},
		{"https without a key", listeners(listen.Config{Type: "https", Address: ":1", CertFile: "c"}), `listeners[0].keyFile: "": missing`},
		{"http with a key", listeners(listen.Config{Type: "http", Address: ":1", KeyFile: "k"}), `listeners[0].keyFile: "k": of no use`},
		{"PROXY protocol", listeners(listen.Config{Type: "http", Address: ":1", ProxyProtocol: true,
			ProxyProtocolFrom: []netip.Prefix{prefix("10.0.0.0/8")}}), ""},
		{"PROXY protocol from nobody", listeners(listen.Config{Type: "http", Address: ":1", ProxyProtocol: true}), ""},
		{"prefixes without it", listeners(listen.Config{Type: "http", Address: ":1", ProxyProtocolFrom: []netip.Prefix{prefix("10.0.0.0/8")}}), ""},
		{"host bits", listeners(listen.Config{Type: "http", Address: ":1", ProxyProtocol: true, ProxyProtocolFrom: []netip.Prefix{prefix("10.0.0.1/8")}}),
			`listeners[0].proxyProtocolFrom: "10.0.0.1/8": not a network's prefix`},
		{"no metrics", func(c *Config) { c.Metrics.Address = "" }, ""},
		{"metrics", func(c *Config) { c.Metrics.Address = "2112" }, `metrics.address: "2112": not an address`},
		{"metrics on a listener's address", func(c *Config) { c.Metrics.Address = ":9090" }, `metrics.address: ":9090": the address of listeners[0].address too`},
		{"clientTimeout", func(c *Config) { c.ClientTimeout = 0 }, `clientTimeout: "0s": not above 0; want a duration`},
		{"clientIdleTimeout", func(c *Config) { c.ClientIdleTimeout = -1 }, `clientIdleTimeout: "-1ns": not above 0`},
		{"connectTimeout", func(c *Config) { c.ConnectTimeout = -time.Second }, `connectTimeout: "-1s": not above 0`},
		{"connectionLifetime", func(c *Config) { c.ConnectionLifetime = 0 }, `connectionLifetime: "0s": not above 0`},
		{"readTimeout", func(c *Config) { c.ReadTimeout = 0 }, `readTimeout: "0s": not above 0`},
		{"shutdownTimeout", func(c *Config) { c.ShutdownTimeout = 0 }, `shutdownTimeout: "0s": not above 0`},
		{"no bodies", func(c *Config) { c.MaxRequestBodySize, c.MaxResponseBodySize, c.MaxBufferedBytes = 0, 0, 0 }, ""},
		{"negative body", func(c *Config) { c.MaxResponseBodySize = -1 }, `maxResponseBodySize: "-1": out of range; want 0 bytes or more`},
		{"smallest head", func(c *Config) { c.MaxHeaderSize = 256 }, ""},
		{"head too small", func(c *Config) { c.MaxHeaderSize = 255 }, `maxHeaderSize: "255": out of range; want 256 bytes to 16MiB`},
		{"largest head", func(c *Config) { c.MaxHeaderSize = 16 << 20 }, ""},
		{"head too large", func(c *Config) { c.MaxHeaderSize = 16<<20 + 1 }, `maxHeaderSize: "16777217": out of range`},
		{"no connections", func(c *Config) { c.MaxConnections = 0 }, `maxConnections: "0": out of range; want 1 to`},
		{"none to a destination", func(c *Config) { c.MaxConnectionsPerDestination = 0 }, `maxConnectionsPerDestination: "0": out of range`},
		{"mode", func(c *Config) { c.ConnectMode = "" }, `connect.mode: "": not known; want tunnel, mitm or deny`},
		{"CONNECT to port 0", func(c *Config) { c.ConnectPorts = []uint16{443, 0} }, `connect.ports: "0": not a port`},
		{"no user agent", func(c *Config) { c.UserAgent = "" }, ""},
		{"user agent with a line break", func(c *Config) { c.UserAgent = "a\r\nb: c" }, `userAgent: "a\r\nb: c": not what a header may hold`},
		{"user agent with a space at its end", func(c *Config) { c.UserAgent = "a " }, `userAgent: "a ": not what a header may hold`},
		{"no id header", func(c *Config) { c.RequestIDHeader = "" }, ""},
		{"id header", func(c *Config) { c.RequestIDHeader = "Request ID" }, `requestIDHeader: "Request ID": not a header's name`},
		{"log type", func(c *Config) { c.AccessLog.Type = "xml" }, `accessLog.type: "xml": not known; want text or json`},
		{"log URL", func(c *Config) { c.AccessLog.URL = "" }, `accessLog.url: "": not known; want full, path or host`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := DefaultConfig()
			tt.change(&c)
			err := c.Validate()
			if tt.want == "" {
				if err != nil {
					t.Errorf("got %v; want no error", err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}
