package policy

import (
	"crypto/tls"
	"encoding/base64"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

func TestDestination(t *testing.T) {
	p := mustNew(t, Config{Destinations: []DestinationConfig{
		{Hosts: []string{"a.test"}, Ports: []int{8443}},
		{Hosts: []string{"*.test", "10.0.0.0/8"}, Ports: []int{80, 443}},
		{Hosts: []string{"a.test", "*.b.test"}},
		{Hosts: []string{"10.1.0.0/16"}},
	}}, nil)
	for _, tt := range []struct {
		host string
		port uint16
		want int
	}{
		{"a.test", 8443, 0},
		{"a.test", 443, 1},
		{"a.test", 80, 1},
		{"a.test", 8444, 2},
		{"x.b.test", 443, 1},
		{"x.b.test", 1, 2},
		{"b.test", 1, -1},
		{"test", 443, -1},
		{"10.1.2.3", 443, 1},
		{"10.1.2.3", 444, 3},
		{"10.2.2.3", 444, -1},
		{"::ffff:10.2.2.3", 443, 1},
		{"2001:db8::1", 443, -1},
	} {
		got := -1
		if d := p.Destination(host(tt.host), tt.port); d != nil {
			got = d.Index
		}
		if got != tt.want {
			t.Errorf("%s:%d: got entry %d; want %d", tt.host, tt.port, got, tt.want)
		}
	}
	if d := mustNew(t, Config{}, nil).Destination(host("a.test"), 1); d != nil {
		t.Errorf("without entries: got %+v; want none", d)
	}
}

// fullEntry has every key.
func fullEntry() DestinationConfig {
	return DestinationConfig{
		Hosts: []string{"a.test"}, Ports: []int{443}, AllowList: prefixes("10.9.0.0/16"),
		Pins:       []string{"sha256/" + base64.StdEncoding.EncodeToString(make([]byte, 32))},
		ClientCert: "acme", TLS: DestinationTLS{MinVersion: "1.0", LegacyCiphers: true, Renegotiation: true},
		Egress: []netip.Addr{netip.MustParseAddr("203.0.113.7")}, MaxConnections: limit(20),
		ConnectTimeout: limit(5 * time.Second), ReadTimeout: limit(30 * time.Second),
		ConnectionLifetime: limit(2 * time.Minute), MaxResponseBodySize: limit(int64(1 << 18)),
	}
}

func withEntries(entries ...DestinationConfig) Config {
	return Config{Destinations: entries, Aliases: map[string][]string{"acme": nil},
		EgressAddresses: []netip.Addr{netip.MustParseAddr("203.0.113.7")}}
}

func TestDestinationKeys(t *testing.T) {
	d := *mustNew(t, withEntries(fullEntry()), nil).Destination(host("a.test"), 443)
	want := Destination{ID: d.ID, AllowList: prefixes("10.9.0.0/16"), Pins: make([][32]byte, 1), ClientCert: "acme",
		MinVersion: tls.VersionTLS10, LegacyCiphers: true, Renegotiation: true,
		Egress: []netip.Addr{netip.MustParseAddr("203.0.113.7")}, MaxConnections: 20, ConnectTimeout: 5 * time.Second,
		ReadTimeout: 30 * time.Second, ConnectionLifetime: 2 * time.Minute, MaxResponseBodySize: 1 << 18}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("got  %+v\nwant %+v", d, want)
	}
	for text, want := range map[string]uint16{"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13, "": 0} {
		if got, err := readVersion("k", text); got != want || err != nil {
			t.Errorf("%q: got %#x, %v; want %#x", text, got, err, want)
		}
	}
}

// TestDestinationID: an entry that moved is the same one, and one that changed in any key is another.
func TestDestinationID(t *testing.T) {
	id := func(entries ...DestinationConfig) uint64 {
		return mustNew(t, withEntries(entries...), nil).Destination(host("a.test"), 443).ID
	}
	first := id(fullEntry())
	if again := id(DestinationConfig{Hosts: []string{"b.test"}}, fullEntry()); first == 0 || again != first {
		t.Errorf("got %d and, moved, %d; want the same, not 0", first, again)
	}
	seen := map[uint64]string{first: "none"}
	for name, change := range map[string]func(*DestinationConfig){
		"hosts":               func(d *DestinationConfig) { d.Hosts = append(d.Hosts, "b.test") },
		"ports":               func(d *DestinationConfig) { d.Ports = nil },
		"cidrAllowList":       func(d *DestinationConfig) { d.AllowList = prefixes("10.9.0.0/17") },
		"pins and caFile":     func(d *DestinationConfig) { d.Pins, d.CAFile = nil, "corp.pem" },
		"clientCert":          func(d *DestinationConfig) { d.ClientCert = "" },
		"minVersion":          func(d *DestinationConfig) { d.TLS.MinVersion = "1.1" },
		"legacyCiphers":       func(d *DestinationConfig) { d.TLS.LegacyCiphers = false },
		"renegotiation":       func(d *DestinationConfig) { d.TLS.Renegotiation = false },
		"egress":              func(d *DestinationConfig) { d.Egress = nil },
		"maxConnections":      func(d *DestinationConfig) { *d.MaxConnections++ },
		"connectTimeout":      func(d *DestinationConfig) { *d.ConnectTimeout++ },
		"readTimeout":         func(d *DestinationConfig) { *d.ReadTimeout++ },
		"connectionLifetime":  func(d *DestinationConfig) { *d.ConnectionLifetime++ },
		"maxResponseBodySize": func(d *DestinationConfig) { *d.MaxResponseBodySize++ },
	} {
		entry := fullEntry()
		change(&entry)
		changed := id(entry)
		if other, is := seen[changed]; is {
			t.Errorf("%s: got the ID of the change of %s", name, other)
		}
		seen[changed] = name
	}
}

func TestAllowListID(t *testing.T) {
	a, again := only(t, ClientConfig{AllowList: prefixes("10.9.0.0/16")}), only(t, ClientConfig{AllowList: prefixes("10.9.0.0/16")})
	b, none := only(t, ClientConfig{AllowList: prefixes("10.8.0.0/16")}), only(t, ClientConfig{})
	if a.AllowListID == 0 || a.AllowListID != again.AllowListID || a.AllowListID == b.AllowListID || none.AllowListID != 0 {
		t.Errorf("got %d, %d, %d, %d; want the same twice, another, 0", a.AllowListID, again.AllowListID, b.AllowListID, none.AllowListID)
	}
}
