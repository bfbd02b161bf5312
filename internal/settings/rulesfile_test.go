package settings

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"whsentry/policy"
)

const hashA, hashB = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
	"sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"

// TestRules reads every key of an entry of clients, of destinations and of clientCerts.
func TestRules(t *testing.T) {
	s, err := loadText(t, `
listener: {type: https, certFile: a.pem, keyFile: a.key, clientCAFile: ca.pem}
clientCerts: {acme: {certFile: b.pem, keyFile: b.key, hosts: ["*.acme.com"]}, other: {certFile: c.pem, keyFile: c.key}}
egress: {addresses: [203.0.113.7, 203.0.113.8]}
clients:
  - name: billing
    tokens: ["`+hashA+`", "`+hashB+`"]
    certificates: ["spiffe://prod/billing", "dns:billing.internal", "cn:billing"]
    addresses: [10.1.0.0/16]
    mode: report
    allowHosts: ["*.example.com", hooks.slack.com, 203.0.113.0/24]
    denyHosts: ["*.example.net"]
    allowPorts: [443, 8443]
    cidrAllowList: [10.9.0.0/16]
    clientCerts: [acme]
    maxConnections: 500
    requestsPerSecond: 100
    checkAddresses: true
  - name: everybody
destinations:
  - hosts: ["mm.corp.example"]
    ports: [443]
    cidrAllowList: [10.9.0.0/16]
    caFile: corp.pem
    clientCert: acme
    tls: {minVersion: 1.0, legacyCiphers: true, renegotiation: true}
    egress: [203.0.113.7]
    maxConnections: 20
    connectTimeout: 5s
    readTimeout: 30s
    connectionLifetime: 120s
    maxResponseBodySize: 256KiB
  - {hosts: ["*.bank.example"], pins: ["sha256/n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="]}
breaker: {failures: 5, openFor: 1m}
`)
	if err != nil {
		t.Fatal(err)
	}
	of := func(n int) *int { return &n }
	for_ := func(d time.Duration) *time.Duration { return &d }
	size := int64(256 << 10)
	prefix := netip.MustParsePrefix
	want := policy.Config{
		Clients: []policy.ClientConfig{{
			Name: "billing", Tokens: []string{hashA, hashB},
			Certificates: []string{"spiffe://prod/billing", "dns:billing.internal", "cn:billing"},
			Addresses:    []netip.Prefix{prefix("10.1.0.0/16")}, Mode: "report",
			AllowHosts: []string{"*.example.com", "hooks.slack.com", "203.0.113.0/24"}, DenyHosts: []string{"*.example.net"},
			AllowPorts: []int{443, 8443}, AllowList: []netip.Prefix{prefix("10.9.0.0/16")}, ClientCerts: []string{"acme"},
			MaxConnections: of(500), RequestsPerSecond: of(100), CheckAddresses: true,
		}, {Name: "everybody"}},
		Destinations: []policy.DestinationConfig{{
			Hosts: []string{"mm.corp.example"}, Ports: []int{443}, AllowList: []netip.Prefix{prefix("10.9.0.0/16")},
			CAFile: "corp.pem", ClientCert: "acme", TLS: policy.DestinationTLS{MinVersion: "1.0", LegacyCiphers: true, Renegotiation: true},
			Egress: []netip.Addr{netip.MustParseAddr("203.0.113.7")}, MaxConnections: of(20),
			ConnectTimeout: for_(5 * time.Second), ReadTimeout: for_(30 * time.Second), ConnectionLifetime: for_(2 * time.Minute),
			MaxResponseBodySize: &size,
		}, {Hosts: []string{"*.bank.example"}, Pins: []string{"sha256/n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="}}},
		Breaker:            policy.BreakerConfig{Failures: 5, OpenFor: time.Minute},
		Aliases:            map[string][]string{"acme": {"*.acme.com"}, "other": nil},
		ClientCertificates: true,
		EgressAddresses:    []netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("203.0.113.8")},
	}
	if !reflect.DeepEqual(s.Policy, want) {
		t.Errorf("got  %+v\nwant %+v", s.Policy, want)
	}
	if len(s.CA.Destinations) != 2 || s.CA.Destinations[0].CAFile != "corp.pem" || len(s.CA.Destinations[1].Pins) != 1 {
		t.Errorf("got %+v for the trust store; want what the entries say of TLS", s.CA.Destinations)
	}
}

// TestRuleErrors makes each mistake that there can be in an entry: one error, with key and line.
func TestRuleErrors(t *testing.T) {
	client := func(keys string) string { return "# rules\nclients:\n  - name: a\n    " + keys + "\n" }
	destination := func(keys string) string { return "# rules\ndestinations:\n  - hosts: [a.example]\n    " + keys + "\n" }
	for _, tt := range []struct{ name, text, want string }{
		{"clients without a value", "clients:\n", ":1: clients: is empty"},
		{"clients that are nothing", "clients: []\n", ":1: clients: is empty"},
		{"clients that are null", "clients: ~\n", ":1: clients: is empty"},
		{"clients that are a mapping", "clients: {name: a}\n", ":1: clients: \"...\": a mapping; want a list of mappings"},
		{"destinations without a value", "destinations:\n", ":1: destinations: is empty"},
		{"destinations that are nothing", "destinations: []\n", ":1: destinations: is empty"},
		{"a client that is null", "clients:\n  -\n", `:2: clients[0]: "": empty; want a mapping of`},
		{"no name", "clients:\n  - mode: open\n", ":2: clients[0].name: is missing; want"},
		{"name that is none", "clients:\n  - name: a b\n", `:2: clients[0].name: "a b": is no name of a client`},
		{"one name twice", "clients:\n  - name: a\n    addresses: [10.0.0.1]\n  - name: a\n", `:4: clients[1].name: "a": is the name of clients[0] too`},
		{"unknown key", client("allowHost: [b]"), `:4: clients[0].allowHost: "...": unknown key; did you mean allowHosts?`},
		{"tokens without a value", client("tokens:"), ":4: clients[0].tokens: is empty"},
		{"no tokens", client("tokens: []"), ":4: clients[0].tokens: is empty"},
		{"tokens that are no list", client("tokens: secret"), ":4: clients[0].tokens: text, not a list; want a list, in it"},
		{"token that is a number", client("tokens: [12345678]"), ":4: clients[0].tokens[0]: a number; want a list, in it"},
		{"token that is none", client("tokens: [secret]"), ":4: clients[0].tokens[0]: "},
		{"token that is short", client("tokens: [\"sha256:9f86secret\"]"), ":4: clients[0].tokens[0]: "},
		{"hash of nothing", client("tokens: [\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"]"), ":4: clients[0].tokens[0]: "},
		{"a token of two clients", client("tokens: [\"" + hashA + "\"]\n  - name: b\n    tokens:\n      - \"" + hashA + "\""), `:7: clients[1].tokens[0]: is a token of the client "a" too`},
		{"certificates without a CA", client("certificates: [\"cn:a\"]"), `:4: clients[0].certificates: "cn:a": no listener asks for a certificate; want clientCAFile`},
		{"no certificates", client("certificates: []"), ":4: clients[0].certificates: is empty"},
		{"address that is none", client("addresses: [10.1.2.3/8]"), `:4: clients[0].addresses: "10.1.2.3/8": has host bits set`},
		{"addresses without a value", client("addresses:"), ":4: clients[0].addresses: is empty"},
		{"mode that is none", client("mode: enforced"), `:4: clients[0].mode: "enforced": is no mode; want enforce, report or open`},
		{"hosts without a value", client("allowHosts:"), ":4: clients[0].allowHosts: is empty"},
		{"denied hosts without a value", client("denyHosts: []"), ":4: clients[0].denyHosts: is empty"},
		{"every host", client("allowHosts: [b.example, \"*\"]"), ":4: clients[0].allowHosts[1]: \"*\": "},
		{"host of no ASCII", client("allowHosts:\n      - b.example\n      - \"bücher.example\""), ":6: clients[0].allowHosts[1]: \"bücher.example\": "},
		{"hosts beside mode open", client("mode: open\n    allowHosts: [b.example]"), ":5: clients[0].allowHosts: is beside mode: open"},
		{"ports beside mode open", client("mode: open\n    allowPorts: [443]"), ":5: clients[0].allowPorts: is beside mode: open"},
		{"port that is none", client("allowPorts: [443, 65536]"), ":4: clients[0].allowPorts[1]: \"65536\": is no port"},
		{"port of text", client("allowPorts: [https]"), ":4: clients[0].allowPorts: \"https\": not a whole number"},
		{"no ports", client("allowPorts: []"), ":4: clients[0].allowPorts: is empty"},
		{"allow list without a value", client("cidrAllowList:"), ":4: clients[0].cidrAllowList: is empty"},
		{"alias that does not exist", client("clientCerts: [acme]"), `:4: clients[0].clientCerts[0]: "acme": there is no client certificate with this alias`},
		{"aliases without a value", client("clientCerts:"), ":4: clients[0].clientCerts: is empty"},
		{"alias called none", "clientCerts: {none: {certFile: a, keyFile: b}}\n", ":1: clientCerts.none: "},
		{"alias for no hosts", "clientCerts:\n  acme: {certFile: a, keyFile: b, hosts: []}\n", ":2: clientCerts.acme.hosts: is empty"},
		{"alias for every host", "clientCerts:\n  acme: {certFile: a, keyFile: b, hosts: [\"*\"]}\n", ":2: clientCerts.acme.hosts[0]: \"*\": "},
		{"no connections", client("maxConnections: 0"), ":4: clients[0].maxConnections: \"0\": is not above 0"},
		{"no requests", client("requestsPerSecond: 0"), ":4: clients[0].requestsPerSecond: \"0\": is not above 0"},
		{"boolean that is none", client("checkAddresses: maybe"), `:4: clients[0].checkAddresses: "maybe": text; want true or false`},
		{"a second for everybody", "clients:\n  - name: a\n  - name: b\n", `:3: clients[1]: "b": is a second entry for everybody`},
		{"everybody not the last", "clients:\n  - name: a\n  - name: b\n    addresses: [10.0.0.1]\n", `:2: clients[0]: "a": has neither tokens`},
		{"destination without hosts", "destinations:\n  - ports: [443]\n", ":2: destinations[0].hosts: is missing"},
		{"destination for no hosts", "destinations:\n  - hosts: []\n", ":2: destinations[0].hosts: is empty"},
		{"destination for every host", "destinations:\n  - hosts: [\"*\"]\n", ":2: destinations[0].hosts[0]: \"*\": "},
		{"unknown key of a destination", destination("pin: [x]"), `:4: destinations[0].pin: "[x]": unknown key; did you mean pins?`},
		{"port 0", destination("ports: [0]"), ":4: destinations[0].ports[0]: \"0\": is no port"},
		{"pin that is none", destination("pins: [\"sha256/abc\"]"), ":4: destinations[0].pins[0]: \"sha256/abc\": is no pin"},
		{"pins beside further roots", destination("caFile: a.pem\n    pins: [\"sha256/n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=\"]"), ":5: destinations[0].pins: "},
		{"unknown alias of a destination", destination("clientCert: acme"), `:4: destinations[0].clientCert: "acme": there is no client certificate`},
		{"version of TLS that is none", destination("tls: {minVersion: 1.4}"), `:4: destinations[0].tls.minVersion: "1.4": is no version of TLS; want 1.0, 1.1, 1.2 or 1.3`},
		{"unknown key of TLS", destination("tls: {minVersions: 1.2}"), `destinations[0].tls.minVersions: "1.2": unknown key; did you mean minVersion?`},
		{"address that is not ours", destination("egress: [203.0.113.9]"), `:4: destinations[0].egress[0]: "203.0.113.9": is not in egress.addresses`},
		{"no address", destination("egress:"), ":4: destinations[0].egress: is empty"},
		{"time of 0", destination("readTimeout: 0s"), ":4: destinations[0].readTimeout: \"0s\": not above 0"},
		{"time without a unit", destination("connectTimeout: 5"), ":4: destinations[0].connectTimeout: \"5\": a number without a unit"},
		{"size of 0", destination("maxResponseBodySize: 0"), ":4: destinations[0].maxResponseBodySize: \"0\": not above 0"},
		{"size of 0 as it was written", destination("maxResponseBodySize: 0KiB"), ":4: destinations[0].maxResponseBodySize: \"0KiB\": not above 0"},
		{"breaker that is open for nothing", "breaker:\n  openFor: 0s\n", ":2: breaker.openFor: \"0s\": not above 0 and at most 10m; want a duration"},
		{"breaker that is open for long", "breaker:\n  openFor: 11m\n", ":2: breaker.openFor: \"11m\": not above 0 and at most 10m"},
		{"failures below 0", "breaker: {failures: -1}\n", ":1: breaker.failures: \"-1\": negative"},
		{"plain tunnels", "connect:\n  plain: look\n", `:2: connect.plain: "look": not known; want inspect or opaque`},
		{"incomplete responses", "incompleteResponses: cut\n", `:1: incompleteResponses: "cut": not known; want error or pass`},
		{"reason's text", "reasonText: none\n", `:1: reasonText: "none": not known; want full or generic`},
		{"fields of errors", "errorHeaders: [whsentry, nginx]\n", `:1: errorHeaders: "nginx": not known; want whsentry, proxy-status or envoy`},
		{"name with a port", "metrics: {hosts: [\"a.example:2112\"]}\n", `:1: metrics.hosts: "a.example:2112": not a host name; want`},
		{"watching below 0", "watchFiles: -1s\n", ":1: watchFiles: "},
		{"watching without a unit", "watchFiles: 10\n", `:1: watchFiles: "10": a number without a unit`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := loadText(t, tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant one line with %s", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v; want no token in it", err)
			}
			if err != nil && !strings.Contains(err.Error(), "want ") && !strings.Contains(err.Error(), "did you mean ") {
				t.Errorf("got %v; want what is accepted in it", err)
			}
		})
	}
}

// TestTokensStayOutOfErrors puts tokens where other things should stand.
func TestTokensStayOutOfErrors(t *testing.T) {
	token, hash := policy.NewToken()
	const own = "n0ne-of-ours" // which nothing but its place tells from other words
	for _, text := range []string{
		"clients:\n  - name: a\n    token: \"" + token + "\"\n",
		"clients:\n  - name: a\n    tokens: \"" + token + "\"\n",
		"clients:\n  - name: a\n    tokens: [\"" + token + "\"]\n",
		"clients:\n  - name: a\n    tokens: [\"" + token + "\n",
		"clients:\n  - name: a\n    tokens: {\"" + token + "\": x}\n",
		"clients:\n  - name: a\n    tokens: [\"" + hash + "\"]\n    tokens: [\"" + hash + "\"]\n",
		"clients:\n  - name: " + token + " x\n",
		"token: " + token + "\n",
		"connectTimeout: " + hash + "\n",
		"token: " + own + "\n",
		"clients:\n  - name: a\ntokens: [" + own + "]\n",
		"clients:\n  - [" + own + "]\n",
		"clients:\n  - name: a\n    tokens: [*" + own + "]\n",
		"clients:\n  - name: a\n    tokens: [!" + own + " x]\n",
		"clients:\n  - name: a\n    tokens: [\"" + own + "]\n",
		"clients:\n  - name: a\n    tokens:" + own + "\n",
		"clients:\n- name: a\n  tokens\n    - " + own + "\n",
		"\"clients\":\n\n# some\n- name: a\n  tokens:" + own + "\n",
		"{clients: [{name: a, tokens: [\"" + own + "]}]}\n",
	} {
		_, err := loadText(t, text)
		if err == nil {
			t.Errorf("%q: got no error", text)
			continue
		}
		if got := err.Error(); strings.Contains(got, token) || strings.Contains(got, own) || strings.Contains(got, strings.TrimPrefix(hash, "sha256:")) {
			t.Errorf("got %s; want no token in it", got)
		}
	}
}

func TestWarnings(t *testing.T) {
	s, err := loadText(t, "destinations:\n  - hosts: [\"*.example\"]\n  - hosts: [a.example]\n")
	if err != nil {
		t.Fatal(err)
	}
	got := s.Warnings()
	if len(got) != 1 || !strings.Contains(got[0].Error(), ":3: destinations[1]: never applies: ") {
		t.Errorf("got %v; want a warning about the second entry", got)
	}
}
