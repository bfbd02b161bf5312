package settings

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"whsentry/ca"
	"whsentry/proxy/accesslog"
	"whsentry/proxy/listen"
)

// TestFileWithoutSettings holds the files that say nothing to the defaults: a decoder would zero them.
func TestFileWithoutSettings(t *testing.T) {
	want := Default()
	if err := want.settle(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"", "\n", "# only a comment\n", "---\n", "---\n# only a comment\n", "\ufeff", "null\n", "~\n", "{}\n", "---\n...\n", "%YAML 1.2\n---\n",
		"connectTimeout:\n", "connectTimeout: ~\n", "dns:\n", "dns: {}\n", "dns:\n  servers:\n", "listeners: null\n", "clientCerts:\n",
		"cidrDenyList:\n", "clientCerts: {}\n",
	} {
		s, err := loadText(t, text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		s.origin, want.origin = nil, nil
		if want.File = s.File; !filepath.IsAbs(s.File) {
			t.Errorf("%q: the settings are of %q; want the whole name of the file", text, s.File)
		}
		if len(s.CA.ClientCerts) == 0 {
			s.CA.ClientCerts = nil
		}
		if !reflect.DeepEqual(s, want) {
			t.Errorf("%q: got %+v; want the defaults", text, s)
		}
	}
}

func TestFile(t *testing.T) {
	prefix := netip.MustParsePrefix
	for _, tt := range []struct {
		name, text string
		got        func(*Settings) any
		want       any
	}{
		{"plain", "connectTimeout: 5s\n", func(s *Settings) any { return s.Proxy.ConnectTimeout }, 5 * time.Second},
		{"in quotes", "connectTimeout: '5s'\n", func(s *Settings) any { return s.Proxy.ConnectTimeout }, 5 * time.Second},
		{"CRLF", "connectTimeout: 5s\r\nreadTimeout: 6s\r\n", func(s *Settings) any { return s.Proxy.ReadTimeout }, 6 * time.Second},
		{"byte order mark", "\ufeffconnectTimeout: 5s\n", func(s *Settings) any { return s.Proxy.ConnectTimeout }, 5 * time.Second},
		{"flow style", "{dns: {cacheTTL: 0s}}\n", func(s *Settings) any { return s.Guard.DNSCacheTTL }, time.Duration(0)},
		{"explicit key", "? readTimeout\n: 6s\n", func(s *Settings) any { return s.Proxy.ReadTimeout }, 6 * time.Second},
		{"quoted key", "\"readTimeout\": 6s\n", func(s *Settings) any { return s.Proxy.ReadTimeout }, 6 * time.Second},
		{"document markers", "---\nreadTimeout: 6s\n...\n", func(s *Settings) any { return s.Proxy.ReadTimeout }, 6 * time.Second},
		{"one key of a group leaves the others", "accessLog:\n  type: json\n", func(s *Settings) any { return s.Proxy.AccessLog },
			accesslog.Config{Type: "json", URL: "full"}},
		{"size as number", "maxResponseBodySize: 4096\n", func(s *Settings) any { return s.Proxy.MaxResponseBodySize }, int64(4096)},
		{"size with unit", "maxResponseBodySize: 512KiB\n", func(s *Settings) any { return s.Proxy.MaxResponseBodySize }, int64(512 << 10)},
		{"boolean", "insecureSkipCidrDenyList: true\n", func(s *Settings) any { return s.Guard.InsecureSkipDenyList }, true},
		{"list", "cidrAllowList:\n  - 10.0.0.0/8 # ours\n  - \"fd00::/8\"\n", func(s *Settings) any { return s.Guard.AllowList },
			[]netip.Prefix{prefix("10.0.0.0/8"), prefix("fd00::/8")}},
		{"list in brackets", "cidrAllowList: [10.0.0.0/8, 192.0.2.1]\n", func(s *Settings) any { return s.Guard.AllowList },
			[]netip.Prefix{prefix("10.0.0.0/8"), prefix("192.0.2.1/32")}},
		{"empty list replaces the default", "portDenyList: []\n", func(s *Settings) any { return len(s.Guard.PortDenyList) }, 0},
		{"list replaces the default", "portDenyList: [25, 587]\n", func(s *Settings) any { return s.Guard.PortDenyList }, []uint16{25, 587}},
		{"number in quotes is text", "userAgent: \"10\"\n", func(s *Settings) any { return s.Proxy.UserAgent }, "10"},
		{"number tagged as text", "userAgent: !!str 10\n", func(s *Settings) any { return s.Proxy.UserAgent }, "10"},
		{"tag of its own type", "maxConnections: !!int 10\n", func(s *Settings) any { return s.Proxy.MaxConnections }, 10},
		{"empty text", "userAgent: ''\n", func(s *Settings) any { return s.Proxy.UserAgent }, ""},
		{"folded text", "userAgent: >-\n  one\n  two\n", func(s *Settings) any { return s.Proxy.UserAgent }, "one two"},
		{"alias", "connectTimeout: &t 7s\nreadTimeout: *t\n", func(s *Settings) any { return s.Proxy.ReadTimeout }, 7 * time.Second},
		{"alias of a list", "cidrAllowList: &l [10.0.0.0/8]\ncidrDenyList: *l\n", func(s *Settings) any { return s.Guard.DenyList },
			[]netip.Prefix{prefix("10.0.0.0/8")}},
		{"alias in a list", "cidrAllowList: [&p 10.0.0.0/8]\ncidrDenyList: [*p]\n", func(s *Settings) any { return s.Guard.DenyList },
			[]netip.Prefix{prefix("10.0.0.0/8")}},
		{"listener", "listener: {address: \"127.0.0.1:0\"}\n", func(s *Settings) any { return s.Proxy.Listeners },
			[]listen.Config{{Type: "http", Address: "127.0.0.1:0"}}},
		{"listeners", "listeners:\n- address: :1\n- type: https\n  address: :2\n  certFile: c\n  keyFile: k\n  proxyProtocol: true\n  proxyProtocolFrom: [10.0.0.1]\n",
			func(s *Settings) any { return s.Proxy.Listeners },
			[]listen.Config{{Type: "http", Address: ":1"}, {Type: "https", Address: ":2", CertFile: "c", KeyFile: "k",
				ProxyProtocol: true, ProxyProtocolFrom: []netip.Prefix{prefix("10.0.0.1/32")}}}},
		{"clientCerts", "clientCerts:\n  acme: {certFile: a, keyFile: b}\n  globex: {certFile: c, keyFile: d}\n",
			func(s *Settings) any { return s.CA.ClientCerts },
			map[string]ca.KeyPairFiles{"acme": {CertFile: "a", KeyFile: "b"}, "globex": {CertFile: "c", KeyFile: "d"}}},
		{"alias for structures", "clientCerts:\n  acme: &a {certFile: a, keyFile: b}\n  globex: *a\n",
			func(s *Settings) any { return s.CA.ClientCerts["globex"] }, ca.KeyPairFiles{CertFile: "a", KeyFile: "b"}},
		{"mitm where an issuer is set", "mitmIssuerCertFile: c\nmitmIssuerKeyFile: k\n", func(s *Settings) any { return s.Proxy.ConnectMode }, "mitm"},
		{"but not against the file's word", "connect: {mode: deny}\nmitmIssuerCertFile: c\nmitmIssuerKeyFile: k\n",
			func(s *Settings) any { return s.Proxy.ConnectMode }, "deny"},
		{"port 0 more than once", "listeners: [{address: \"127.0.0.1:0\"}, {address: \"127.0.0.1:0\"}]\n",
			func(s *Settings) any { return len(s.Proxy.Listeners) }, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := loadText(t, tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := tt.got(s); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v; want %v", got, tt.want)
			}
		})
	}
}

// TestFileErrors checks that one message names line, key, value and what is accepted. FILE stands for the file.
func TestFileErrors(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", "# a\n\nconectTimeout: 10s\n", `FILE:3: conectTimeout: "10s": unknown key; did you mean connectTimeout?`},
		{"unknown key in another case", "connect_timeout: 10s\n", `FILE:1: connect_timeout: "10s": unknown key; did you mean connectTimeout?`},
		{"unknown key in a group", "dns:\n  ttl: 5s\n", `FILE:2: dns.ttl: "5s": unknown key; want cacheTTL, servers`},
		{"mistyped key in a group", "dns:\n  cacheTtl: 5s\n", `FILE:2: dns.cacheTtl: "5s": unknown key; did you mean cacheTTL?`},
		{"key outside of its group", "cacheTTL: 5s\n", `FILE:1: cacheTTL: "5s": unknown key; did you mean cacheTTL within dns?`},
		{"flat key", "dns.cacheTTL: 5s\n", `FILE:1: dns.cacheTTL: "5s": unknown key; did you mean cacheTTL within dns?`},
		{"key like no other", "zzz: [1, 2]\n", `FILE:1: zzz: "[1, 2]": unknown key; want one that whsentry --help lists`},
		{"unknown key without a value", "zzz:\n", `FILE:1: zzz: "": unknown key; want one that whsentry --help lists`},
		{"unknown key of unprintable text", "\"a\\nb\": 1\n", `FILE:1: "a\nb": "1": unknown key; want one that`},
		{"repeated key", "connectTimeout: 1s\nreadTimeout: 2s\nconnectTimeout: 3s\n",
			`FILE:3: connectTimeout: "3s": repeated key, first on line 1; want each key once`},
		{"repeated group", "dns: {}\ndns: {}\n", `FILE:2: dns: "{...}": repeated key, first on line 1`},
		{"repeated key in a group", "dns:\n  cacheTTL: 1s\n  \"cacheTTL\": 2s\n", `FILE:3: dns.cacheTTL: "2s": repeated key, first on line 2`},
		{"repeated alias", "clientCerts:\n  a: {certFile: x, keyFile: y}\n  a: {certFile: x, keyFile: y}\n", `FILE:3: clientCerts.a: "{...}": repeated key`},
		{"second document", "connectTimeout: 1s\n---\nreadTimeout: 2s\n", `FILE:2: a second document; want one`},
		{"second document, empty", "connectTimeout: 1s\n---\n", `FILE:2: a second document; want one`},
		{"second document below an empty one", "---\n---\nreadTimeout: 2s\n", `FILE:2: a second document; want one`},
		{"second document after the end of the first", "readTimeout: 2s\n...\nreadTimeout: 2s\n", `FILE:2: a second document`},
		{"list", "- a\n", `FILE:1: "[a]" is a list; want a mapping of keys`},
		{"text", "hello\n", `FILE:1: "hello" is text; want a mapping of keys`},
		{"number", "12\n", `FILE:1: "12" is a number; want a mapping of keys`},

		{"bare number for a duration", "connectTimeout: 10\n", `FILE:1: connectTimeout: "10": a number without a unit; want a duration such as 10s`},
		{"bare number for a duration in quotes", "\nconnectTimeout: \"10\"\n", `FILE:2: connectTimeout: "10": a number without a unit; want a duration`},
		{"zero for a duration", "connectTimeout: 0\n", `FILE:1: connectTimeout: "0": a number without a unit; want a duration`},
		{"zero seconds", "readTimeout: 1s\nconnectTimeout: 0s\n", `FILE:2: connectTimeout: "0s": not above 0; want a duration such as 10s`},
		{"negative duration", "connectTimeout: -1s\n", `FILE:1: connectTimeout: "-1s": not above 0; want a duration`},
		{"negative TTL", "dns:\n  cacheTTL: -1s\n", `FILE:2: dns.cacheTTL: "-1s": negative; want a duration such as 10s, 500ms or 1h30m, or 0s`},
		{"zero for the refresh", "caBundle: {refreshInterval: 0s}\n", `FILE:1: caBundle.refreshInterval: "0s": not above 0; want a duration`},
		{"bad duration", "connectTimeout: soon\n", `FILE:1: connectTimeout: "soon": not a duration; want a duration such as 10s`},
		{"list for a duration", "connectTimeout: [10s]\n", `FILE:1: connectTimeout: "[10s]": a list; want a duration`},
		{"mapping for a duration", "connectTimeout:\n  a: 1\n", `FILE:1: connectTimeout: "{...}": a mapping; want a duration`},
		{"boolean for a duration", "connectTimeout: true\n", `FILE:1: connectTimeout: "true": not a duration; want a duration`},
		{"quoted number", "maxConnections: \"10\"\n", `FILE:1: maxConnections: "10": text in quotes; want a whole number such as 100`},
		{"text for a number", "maxConnections: many\n", `FILE:1: maxConnections: "many": not a whole number; want a whole number`},
		{"float for a number", "maxConnections: 1.5\n", `FILE:1: maxConnections: "1.5": not a whole number; want a whole number`},
		{"hexadecimal number", "maxConnections: 0x10\n", `FILE:1: maxConnections: "0x10": not a whole number; want`},
		{"octal number", "maxConnections: 010\n", `FILE:1: maxConnections: "010": not in plain decimal digits; want`},
		{"huge number", "maxConnections: 99999999999999999999\n", `FILE:1: maxConnections: "99999999999999999999": out of range; want`},
		{"negative number", "maxConnections: -1\n", `FILE:1: maxConnections: "-1": negative; want a whole number`},
		{"zero", "maxConnections: 0\n", `FILE:1: maxConnections: "0": out of range; want 1 to`},
		{"quoted boolean", "insecureSkipCidrDenyList: \"true\"\n", `FILE:1: insecureSkipCidrDenyList: "true": text in quotes; want true or false`},
		{"yes for a boolean", "insecureSkipCidrDenyList: yes\n", `FILE:1: insecureSkipCidrDenyList: "yes": text; want true or false`},
		{"number for a boolean", "insecureSkipCidrDenyList: 1\n", `FILE:1: insecureSkipCidrDenyList: "1": a number; want true or false`},
		{"number for a text", "userAgent: 10\n", `FILE:1: userAgent: "10": a number; want text`},
		{"boolean for a file", "clientCertFile: true\n", `FILE:1: clientCertFile: "true": a boolean; want the name of a file`},
		{"number for an address", "listener:\n  address: 9090\n", `FILE:2: listener.address: "9090": a number; want host:port`},
		{"negative size", "maxHeaderSize: -1\n", `FILE:1: maxHeaderSize: "-1": negative; want 256 bytes to 16MiB`},
		{"fraction of a size", "maxHeaderSize: 1.5MiB\n", `FILE:1: maxHeaderSize: "1.5MiB": not a size; want 256 bytes to 16MiB`},
		{"size with a foreign unit", "maxHeaderSize: 64KB\n", `FILE:1: maxHeaderSize: "64KB": not a size; want 256 bytes to 16MiB`},
		{"size too large", "maxRequestBodySize: 8589934592GiB\n", `FILE:1: maxRequestBodySize: "8589934592GiB": out of range; want bytes`},
		{"time as it was written", "connectTimeout: -90s\n", `FILE:1: connectTimeout: "-90s": not above 0; want a duration`},
		{"zero as it was written", "shutdownTimeout: 0ms\n", `FILE:1: shutdownTimeout: "0ms": not above 0; want a duration`},
		{"negative for the watch", "watchFiles: -1m\n", `FILE:1: watchFiles: "-1m": negative; want a duration`},
		{"long for the breaker", "breaker: {openFor: 1h}\n", `FILE:1: breaker.openFor: "1h": not above 0 and at most 10m; want a duration`},
		{"size as it was written", "maxHeaderSize: 17MiB\n", `FILE:1: maxHeaderSize: "17MiB": out of range; want 256 bytes to 16MiB`},
		{"head too small", "maxHeaderSize: 255\n", `FILE:1: maxHeaderSize: "255": out of range; want 256 bytes to 16MiB`},

		{"text for a list", "cidrDenyList: 10.0.0.0/8\n", `FILE:1: cidrDenyList: "10.0.0.0/8": text, not a list; want a list, in it a CIDR prefix`},
		{"mapping for a list", "cidrDenyList: {a: b}\n", `FILE:1: cidrDenyList: "{...}": a mapping, not a list; want a list`},
		{"list in a list", "cidrDenyList:\n- 10.0.0.0/8\n- [x]\n", `FILE:3: cidrDenyList: "[x]": a list in a list; want a list`},
		{"mapping in a list", "cidrDenyList:\n- 10.0.0.0/8\n- a: b\n", `FILE:3: cidrDenyList: "{...}": a mapping in a list; want a list`},
		{"nothing in a list", "cidrDenyList:\n- 10.0.0.0/8\n-\n", `FILE:3: cidrDenyList: "": empty in a list; want a list`},
		{"host bits", "cidrDenyList:\n- 10.0.0.0/8\n- 10.1.2.3/8\n",
			`FILE:3: cidrDenyList: "10.1.2.3/8": has host bits set (the prefix is 10.0.0.0/8); want a CIDR prefix`},
		{"IPv4-mapped prefix", "cidrAllowList: [\"::ffff:10.0.0.0/104\"]\n", `FILE:1: cidrAllowList: "::ffff:10.0.0.0/104": IPv4-mapped`},
		{"bad prefix", "cidrAllowList: [ten]\n", `FILE:1: cidrAllowList: "ten": neither a CIDR prefix nor an address; want a CIDR prefix`},
		{"number for a prefix", "cidrAllowList: [10]\n", `FILE:1: cidrAllowList: "10": neither a CIDR prefix nor an address; want a CIDR prefix`},
		{"port 0", "connect:\n  ports: [443, 0]\n", `FILE:2: connect.ports: "0": not a port; want a port from 1 to 65535`},
		{"quoted port", "portDenyList: [\"25\"]\n", `FILE:1: portDenyList: "25": text in quotes; want a port from 1 to 65535`},
		{"resolver without a port", "dns:\n  servers:\n    - 1.1.1.1\n", `FILE:3: dns.servers: "1.1.1.1": not the address and port of a server; want ip:port`},
		{"resolver by name", "dns: {servers: [\"localhost:53\"]}\n", `FILE:1: dns.servers: "localhost:53": not the address and port`},
		{"egress through a network", "egress: {addresses: [10.0.0.0/8]}\n", `FILE:1: egress.addresses: "10.0.0.0/8": not an IP address; want an IP address`},

		{"mode", "connect:\n  mode: open\n", `FILE:2: connect.mode: "open": not known; want tunnel, mitm or deny`},
		{"mitm without an issuer", "connect:\n  mode: mitm\n", `FILE:2: connect.mode: "mitm": nobody to sign certificates; want mitmIssuerCertFile and`},
		{"log type", "accessLog:\n  type: xml\n", `FILE:2: accessLog.type: "xml": not known; want text or json`},
		{"log URL", "accessLog:\n  url: all\n", `FILE:2: accessLog.url: "all": not known; want full, path or host`},
		{"log level", "proxyLog:\n  level: loud\n", `FILE:2: proxyLog.level: "loud": not known; want debug, info, warn or error`},
		{"proxyLog type", "proxyLog:\n  type: xml\n", `FILE:2: proxyLog.type: "xml": not known; want text or json`},
		{"bundle's scheme", "caBundle:\n  url: ftp://example.com/\n", `FILE:2: caBundle.url: "ftp://example.com/" has the scheme "ftp"; want an http or https URL`},
		{"line break in a header", "userAgent: \"a\\nb\"\n", `FILE:1: userAgent: "a\nb": not what a header may hold; want`},
		{"header's name", "requestIDHeader: a b\n", `FILE:1: requestIDHeader: "a b": not a header's name; want`},
		{"certificate without key", "\nclientCertFile: c.pem\n", `FILE:2: clientKeyFile: missing beside clientCertFile "c.pem"; want both or neither`},
		{"key without certificate", "\nmitmIssuerKeyFile: k.pem\n", `FILE:2: mitmIssuerCertFile: missing beside mitmIssuerKeyFile "k.pem"; want both or neither`},
		{"alias without files", "clientCerts:\n  acme: {}\n", `FILE:2: clientCerts.acme.certFile: missing; want a PEM file`},
		{"alias that is null", "clientCerts:\n  acme:\n", `FILE:2: clientCerts.acme: "": empty; want a mapping of certFile, hosts, keyFile`},
		{"alias without a key file", "clientCerts:\n  acme:\n    certFile: a\n", `FILE:2: clientCerts.acme.keyFile: missing beside clientCerts.acme.certFile "a"`},
		{"list for clientCerts", "clientCerts: [a]\n", `FILE:1: clientCerts: "[a]": a list; want a mapping of aliases`},
		{"unknown key of an alias", "clientCerts:\n  acme: {cert: a}\n", `FILE:2: clientCerts.acme.cert: "a": unknown key; want certFile, hosts, keyFile`},

		{"https without a certificate", "listener:\n  type: https\n", `FILE:1: listener.certFile: "": missing where type is https; want the name of a PEM file`},
		{"https without a key", "listener:\n  type: https\n  certFile: c\n", `FILE:1: listener.keyFile: "": missing where type is https; want`},
		{"certificate for http", "listener:\n  certFile: c\n", `FILE:2: listener.certFile: "c": of no use where type is http; want type https, or no certFile`},
		{"client CA for http", "listener:\n  clientCAFile: c\n", `FILE:2: listener.clientCAFile: "c": of no use where type is http; want type https`},
		{"listener type", "listener: {type: ftp}\n", `FILE:1: listener.type: "ftp": not known; want http or https`},
		{"address without a port", "listener: {address: localhost}\n", `FILE:1: listener.address: "localhost": not an address to listen on; want host:port`},
		{"address with a service", "listener: {address: \":http\"}\n", `FILE:1: listener.address: ":http": its port is not a number from 0 to 65535; want host:port`},
		{"port out of range", "listener: {address: \":65536\"}\n", `FILE:1: listener.address: ":65536": its port is not a number`},
		{"mistyped IP", "metrics:\n  address: 256.0.0.1:80\n", `FILE:2: metrics.address: "256.0.0.1:80": has a host that ends in a number`},
		{"listener as text", "listener: \":9090\"\n", `FILE:1: listener: ":9090": text in quotes; want a mapping of address, certFile`},
		{"listener and listeners", "listener: {}\nlisteners:\n- address: :1\n", `FILE:2: listeners: set beside listener (FILE:1); want one of listener and listeners`},
		{"no listeners", "listeners: []\n", `FILE:1: listeners: "": empty; want at least one endpoint`},
		{"mapping for listeners", "listeners: {address: x}\n", `FILE:1: listeners: "{...}": a mapping; want a list of mappings`},
		{"text in listeners", "listeners:\n- :9090\n", `FILE:2: listeners[0]: ":9090": text; want a mapping of address`},
		{"nothing in listeners", "listeners:\n- address: :1\n-\n", `FILE:3: listeners[1]: "": empty; want a mapping of address`},
		{"unknown key in listeners", "listeners:\n- address: :1\n- adress: :2\n", `FILE:3: listeners[1].adress: ":2": unknown key; did you mean address?`},
		{"bad value in listeners", "listeners:\n- address: :1\n- address: :2\n  reusePort: 1\n", `FILE:4: listeners[1].reusePort: "1": a number; want true or false`},
		{"bad address in listeners", "listeners:\n- address: :1\n- type: http\n  address: nine\n", `FILE:4: listeners[1].address: "nine": not an address`},
		{"the same address twice", "listeners:\n- address: :1\n- address: :1\n",
			`FILE:3: listeners[1].address: ":1": the address of listeners[0].address too; want an address of its own`},
		{"metrics on the listener's address", "listener: {address: \":1\"}\nmetrics: {address: \":1\"}\n",
			`FILE:2: metrics.address: ":1": the address of listener.address too; want an address of its own`},

		{"no YAML", "a: b: c\n", `FILE:1: "b": mapping value is not allowed in this context; want YAML such as`},
		{"bracket left open", "connectTimeout: 1s\ncidrDenyList: [10.0.0.0/8\n", `FILE:2: "[": sequence end token ']' not found; want YAML`},
		{"quote left open", "\nuserAgent: \"x\n", `FILE:2: `},
		{"tab", "dns:\n\tcacheTTL: 1s\n", `FILE:2: `},
		{"not UTF-8", "connectTimeout: 1s\nuserAgent: \xff\n", `FILE:2: byte 0xff is not UTF-8; want a YAML file in UTF-8`},
		{"UTF-16", "\xff\xfea\x00", `FILE:1: byte 0xff is not UTF-8`},
		{"NUL", "userAgent: a\x00b\n", `FILE:1: control character U+0000; want a YAML file`},
		{"deep brackets", strings.Repeat("[", 10000), `FILE:1: nested more than 32 deep; want the keys`},
		{"deep braces", strings.Repeat("{a: ", 10000), `FILE:1: nested more than 32 deep; want the keys`},
		{"deep hyphens", strings.Repeat("- ", 10000), `FILE:1: nested more than 32 deep; want the keys`},
		{"alias of nothing", "connectTimeout: *t\n", `FILE:1: connectTimeout: "": an alias, but no anchor &t stands before it; want the value itself`},
		{"alias of itself", "cidrDenyList: &l [*l]\n", `FILE:1: cidrDenyList: `},
		{"merge key", "listener:\n  <<: {address: x}\n", `FILE:2: <<: merge keys are not taken; want the keys themselves`},
		{"foreign tag", "connectTimeout: !secret x\n", `FILE:1: connectTimeout: "x": the tag !secret is not taken; want the value itself`},
		{"too large", "#" + strings.Repeat("x", maxConfigFile), `--config: "FILE": larger than 1 MiB; want a YAML file that can be read`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := writeFile(t, tt.text)
			_, err := Sources{ConfigFile: file, Environ: noEnvironment}.Load()
			if err == nil {
				t.Fatal("got no error")
			}
			if got, want := err.Error(), strings.ReplaceAll(tt.want, "FILE", file); !strings.HasPrefix(got, want) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if strings.ContainsAny(err.Error(), "\n\t") {
				t.Errorf("got more than a line: %q", err)
			}
		})
	}
}

// TestLines puts all that takes more than a line before a wrong value, whose line must be found nevertheless.
func TestLines(t *testing.T) {
	for _, tt := range []struct {
		name, before string
		line         string
	}{
		{"nothing", "", ":1: "},
		{"comments and blank lines", "# one\n\n  # three\n\n", ":5: "},
		{"CRLF", "readTimeout: 1s\r\n\r\n# three\r\n", ":4: "},
		{"block text", "userAgent: |-\n  one\n\n", ":4: "},
		{"folded text", "userAgent: >-\n  one\n  two\n\n  three\n", ":6: "},
		{"text over lines", "userAgent: one\n  two\n  three\n", ":4: "},
		{"quoted text over lines", "userAgent: \"one\n  two\"\n", ":3: "},
		{"single quoted text over lines", "userAgent: 'one\n  two'\n", ":3: "},
		{"list in brackets over lines", "cidrDenyList: [\n  10.0.0.0/8,\n  # ours\n  11.0.0.0/8\n]\n", ":6: "},
		{"list with hyphens", "cidrDenyList:\n- 10.0.0.0/8\n\n# ours\n- 11.0.0.0/8\n", ":6: "},
		{"directive", "%YAML 1.2\n---\n", ":3: "},
		{"wide characters", "userAgent: \"\u00fc\U0001f600\"\n# \U0001f600\n", ":3: "},
		{"byte order mark", "\ufeff# one\n", ":2: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := loadText(t, tt.before+"connectTimeout: wrong\n")
			if err == nil || !strings.Contains(err.Error(), tt.line+`connectTimeout: "wrong": `) {
				t.Errorf("got %v; want the line %s", err, tt.line)
			}
		})
	}
}

// TestOtherErrors checks the sources that have no lines.
func TestOtherErrors(t *testing.T) {
	directory := t.TempDir()
	for _, tt := range []struct {
		name string
		src  Sources
		want string
	}{
		{"environment", Sources{Environ: environment(map[string]string{"WHSENTRY_CONNECT_TIMEOUT": "10"})},
			`WHSENTRY_CONNECT_TIMEOUT: connectTimeout: "10": a number without a unit; want a duration such as 10s`},
		{"environment, found by the proxy", Sources{Environ: environment(map[string]string{"WHSENTRY_CONNECT_TIMEOUT": "0s"})},
			`WHSENTRY_CONNECT_TIMEOUT: connectTimeout: "0s": not above 0; want a duration such as 10s`},
		{"flag", Sources{Flags: map[string][]string{"--max-connections": {"many"}}},
			`--max-connections: maxConnections: "many": not a whole number; want a whole number`},
		{"item of a flag", Sources{Flags: map[string][]string{"--cidr-deny-list": {"10.0.0.0/8,, 11.0.0.0/8"}}},
			`--cidr-deny-list: cidrDenyList: "": neither a CIDR prefix nor an address; want a CIDR prefix`},
		{"boolean flag", Sources{Flags: map[string][]string{"--listener-reuse-port": {"maybe"}}},
			`--listener-reuse-port: listener.reusePort: "maybe": not a boolean; want true or false`},
		{"flag for one of listeners", Sources{Flags: map[string][]string{"--listener-address": {":1"}}, ConfigFile: writeFile(t, "listeners: [{}]\n")},
			`: set beside listener.address (--listener-address); want one of listener and listeners`},
		{"variable for one of listeners", Sources{Environ: environment(map[string]string{"WHSENTRY_LISTENER_TYPE": "http"}), ConfigFile: writeFile(t, "listeners: [{}]\n")},
			`: set beside listener.type (WHSENTRY_LISTENER_TYPE); want one of listener and listeners`},
		{"missing file", Sources{ConfigFile: "no such file.yaml"},
			`--config: "no such file.yaml": no such file or directory; want a YAML file that can be read`},
		{"missing file in the environment", Sources{Environ: environment(map[string]string{"WHSENTRY_CONFIG": "no.yaml"})},
			`WHSENTRY_CONFIG: "no.yaml": no such file or directory; want`},
		{"directory for a file", Sources{ConfigFile: directory}, `: is a directory; want a YAML file that can be read`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.src.Load()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// TestDefaultFile checks that config.yaml in the working directory is read, and need not be there.
func TestDefaultFile(t *testing.T) {
	t.Chdir(t.TempDir())
	src := Sources{Environ: noEnvironment}
	if _, err := src.Load(); err != nil {
		t.Fatalf("without config.yaml: %v", err)
	}
	if err := os.WriteFile(defaultConfigFile, []byte("\nreadTimeout: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := src.Load(); err == nil || !strings.HasPrefix(err.Error(), `config.yaml:2: readTimeout: "x": `) {
		t.Errorf("with config.yaml: got %v; want its error", err)
	}
	src.ConfigFile = writeFile(t, "")
	if _, err := src.Load(); err != nil {
		t.Errorf("with --config: %v", err)
	}
	src.ConfigFile = ""
	if err := errors.Join(os.Remove(defaultConfigFile), os.Symlink("elsewhere.yaml", defaultConfigFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := src.Load(); err == nil || !strings.HasPrefix(err.Error(), "config.yaml: no such file or directory; want") {
		t.Errorf("with config.yaml as a link to nothing: got %v; want an error, for the defaults let everybody send", err)
	}
}

func FuzzConfigFile(f *testing.F) {
	for _, seed := range []string{
		"", "connectTimeout: 10s\n", "dns:\n  servers: [1.1.1.1:53]\n", "{dns: {servers: [a:b, ::1, \"q\":x, c : d, e:\n f, :]}}\n", "listeners:\n- {address: \":1\"}\n- type: https\n", "a: &a *a\n",
		"clientCerts: {a: {certFile: x, keyFile: y}}\n",
		"clients: [{name: a, tokens: [x], allowHosts: [\"*.b\"], maxConnections: 1}]\n", "clients:\n", "clients: [{}, &a , *a]\n",
		"clients:\n- name: a\n  addresses: [10.0.0.0/8, ]\n  allowPorts:\n  mode: open\n", "clientCerts: {a: {certFile: x, keyFile: y, hosts: }}\n",
		"destinations: [{hosts: [a], tls: {minVersion: 1.2}, pins: [x], egress: [1.1.1.1], readTimeout: 1s}]\n", "destinations: {}\n", "? a\n: b\n", "a: |\n b\n", "%YAML 1.2\n---\n", "!!str a: !x y\n", "<<: *a\n", "- [", "\"\\", "a:\n\t- b",
		"a: !!str\n", "*a : b\n", "a: !\n", "&a\n", "? \n", "-\n-", ": ", "...\n", "--- >\n", "a: >2\n  b\n", "'\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := Default()
		err := s.loadYAML("fuzz.yaml", data)
		if err == nil {
			if err = s.settle(); err == nil {
				err = s.validate()
			}
			if err != nil {
				err = s.Locate(err)
			}
		}
		if err != nil && !strings.Contains(err.Error(), "; ") {
			t.Errorf("%q: got the error %q; want one that says what is accepted", data, err)
		}
	})
}
