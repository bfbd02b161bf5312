package policy

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// only returns the only client of a configuration that has it, for everybody.
func only(t testing.TB, c ClientConfig) *Client {
	t.Helper()
	c.Name = "a"
	p := mustNew(t, Config{Clients: []ClientConfig{c}, Aliases: map[string][]string{"acme": nil, "default": nil}}, nil)
	return p.Identify(&Peer{}, Credential{})
}

func TestJudge(t *testing.T) {
	allow := ClientConfig{AllowHosts: []string{"*.example.com", "203.0.113.0/24"}, DenyHosts: []string{"*.bad.example.com", "203.0.113.8/29"}}
	names := ClientConfig{DenyHosts: []string{"*.example.net"}}
	denied := ClientConfig{DenyHosts: []string{"example.net", "203.0.113.0/24"}}
	ports := ClientConfig{AllowPorts: []int{443, 8443}}
	for _, tt := range []struct {
		name string
		c    ClientConfig
		host string
		port uint16
		want Verdict
	}{
		{"no rules", ClientConfig{}, "anything.test", 1, Allowed},
		{"no rules, a literal", ClientConfig{}, "127.0.0.1", 1, Allowed},
		{"allowed", allow, "a.example.com", 80, Allowed},
		{"not allowed", allow, "example.com", 80, Denied},
		{"allowed and denied", allow, "a.bad.example.com", 80, Denied},
		{"just above what is denied", allow, "bad.example.com", 80, Allowed},
		{"allowed prefix, before the denied", allow, "203.0.113.7", 80, Allowed},
		{"allowed prefix, first denied", allow, "203.0.113.8", 80, Denied},
		{"allowed prefix, last denied", allow, "203.0.113.15", 80, Denied},
		{"allowed prefix, after the denied", allow, "203.0.113.16", 80, Allowed},
		{"mapped and denied", allow, "::ffff:203.0.113.8", 80, Denied},
		{"a literal that is not allowed", allow, "198.51.100.1", 80, Denied},
		{"names denied, another name", names, "example.net", 80, Allowed},
		{"names denied, a denied one", names, "x.example.net", 80, Denied},
		{"names denied, any literal", names, "198.51.100.1", 80, Denied},
		{"names denied, any IPv6 literal", names, "2001:db8::1", 80, Denied},
		{"prefixes denied, another literal", denied, "198.51.100.1", 80, Allowed},
		{"prefixes denied, a denied literal", denied, "203.0.113.1", 80, Denied},
		{"names allowed, any literal", ClientConfig{AllowHosts: []string{"a.test"}}, "198.51.100.1", 80, Denied},
		{"port", ports, "a.test", 443, Allowed},
		{"port below", ports, "a.test", 442, Denied},
		{"port above", ports, "a.test", 8444, Denied},
		{"ports alone say nothing of literals", ports, "198.51.100.1", 8443, Allowed},
	} {
		if got := only(t, tt.c).Judge(host(tt.host), tt.port); got != tt.want {
			t.Errorf("%s: got %d; want %d", tt.name, got, tt.want)
		}
		tt.c.Mode = "report"
		want := Allowed
		if tt.want == Denied {
			want = WouldDeny
		}
		if got := only(t, tt.c).Judge(host(tt.host), tt.port); got != want {
			t.Errorf("%s, report: got %d; want %d", tt.name, got, want)
		}
	}
	if got := only(t, ClientConfig{Mode: "open"}).Judge(host("127.0.0.1"), 1); got != Allowed {
		t.Errorf("open: got %d; want %d", got, Allowed)
	}
}

func limit[T any](n T) *T { return &n }

func TestMaxConnections(t *testing.T) {
	const most = 3
	c := only(t, ClientConfig{MaxConnections: limit(most)})
	var held atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if c.Acquire() {
				held.Add(1)
			}
		})
	}
	wg.Wait()
	if held.Load() != most {
		t.Fatalf("got %d at once; want %d", held.Load(), most)
	}
	c.Release()
	if !c.Acquire() || c.Acquire() {
		t.Error("want room for exactly the one that was released")
	}
}

func TestRequestsPerSecond(t *testing.T) {
	c := only(t, ClientConfig{RequestsPerSecond: limit(5)})
	taken := func(now time.Time) (n int) {
		for c.TakeRequest(now) {
			n++
		}
		return n
	}
	for _, tt := range []struct {
		after time.Duration
		want  int
	}{{0, 5}, {199 * time.Millisecond, 0}, {200 * time.Millisecond, 1}, {1200 * time.Millisecond, 5}, {time.Hour, 5}} {
		if got := taken(t0.Add(tt.after)); got != tt.want {
			t.Errorf("after %v: got %d; want %d", tt.after, got, tt.want)
		}
	}
}

func TestChecksPerSecond(t *testing.T) {
	for name, c := range map[string]*Client{
		"client":  only(t, ClientConfig{RequestsPerSecond: limit(1)}),
		"anybody": mustNew(t, Config{}, nil).Identify(&Peer{}, Credential{}),
	} {
		n := 0
		for c.TakeCheck(t0) {
			n++
		}
		if n != 20 || !c.TakeRequest(t0) {
			t.Errorf("%s: got %d checks; want 20, and room for a request yet", name, n)
		}
	}
}

func TestCountersGoOn(t *testing.T) {
	cfg := func(most, perSecond int) Config {
		return Config{Clients: []ClientConfig{
			{Name: "other", Tokens: []string{HashToken("other")}},
			{Name: "a", MaxConnections: limit(most), RequestsPerSecond: limit(perSecond)},
		}}
	}
	before := mustNew(t, cfg(2, 10), nil)
	old := before.Client("a")
	for range 6 {
		old.TakeRequest(t0)
	}
	old.Acquire()
	for range 20 {
		old.TakeCheck(t0)
	}
	left := func(c *Client) (n int) {
		for c.TakeRequest(t0) {
			n++
		}
		return n
	}
	for _, tt := range []struct{ perSecond, want int }{{20, 4}, {3, 3}, {4, 4}, {10, 4}} {
		p := mustNew(t, cfg(1, tt.perSecond), before)
		c := p.Client("a")
		if c.Acquire() || c.TakeCheck(t0) {
			t.Errorf("%d a second: there is room in a limit that was reached before", tt.perSecond)
		}
		if got := left(c); got != tt.want {
			t.Errorf("%d a second: got %d requests; want %d", tt.perSecond, got, tt.want)
		}
	}
	old.Release()
	if c := mustNew(t, cfg(1, 10), before).Client("a"); !c.Acquire() || old.Acquire() != true {
		t.Error("what the old one releases is not the new one's, or its own limit is changed")
	}
}

func TestAlias(t *testing.T) {
	cfg := Config{
		Clients: []ClientConfig{
			{Name: "all", Tokens: []string{HashToken("all")}},
			{Name: "acme", Tokens: []string{HashToken("acme")}, ClientCerts: []string{"acme"}},
			{Name: "no", Tokens: []string{HashToken("no")}, ClientCerts: []string{"none"}},
		},
		Destinations: []DestinationConfig{
			{Hosts: []string{"*.acme.com"}, ClientCert: "acme"},
			{Hosts: []string{"contradiction.test"}, ClientCert: "acme"},
			{Hosts: []string{"bank.test"}, ClientCert: "bank"},
			{Hosts: []string{"plain.test"}},
		},
		Aliases: map[string][]string{"default": nil, "bank": nil, "acme": {"*.acme.com"}},
	}
	p := mustNew(t, cfg, nil)
	for _, tt := range []struct {
		name, client, host, named string
		alias                     string
		want                      AliasVerdict
	}{
		{"default", "all", "a.test", "", "default", Present},
		{"default of an entry without", "all", "plain.test", "", "default", Present},
		{"named", "all", "x.acme.com", "acme", "acme", Present},
		{"named before the entry's", "all", "bank.test", "default", "default", Present},
		{"named, not here", "all", "acme.com", "acme", "", AliasNotHere},
		{"named, unknown", "all", "a.test", "acm", "", AliasUnknown},
		{"named, none", "all", "a.test", "none", "", AliasUnknown},
		{"named, not this client's", "acme", "a.test", "bank", "", AliasUnknown},
		{"named, neither this client's nor here", "no", "a.test", "acme", "", AliasUnknown},
		{"entry's", "all", "x.acme.com", "", "acme", Present},
		{"entry's, not here", "all", "contradiction.test", "", "", AliasNotHere},
		{"entry's, not this client's", "acme", "bank.test", "", "", Present},
		{"default, not this client's", "acme", "a.test", "", "", Present},
		{"no client certificates at all", "no", "x.acme.com", "", "", Present},
	} {
		h := host(tt.host)
		alias, got := p.Alias(p.Client(tt.client), p.Destination(h, 443), h, tt.named)
		if alias != tt.alias || got != tt.want {
			t.Errorf("%s: got %q, %d; want %q, %d", tt.name, alias, got, tt.alias, tt.want)
		}
	}
	delete(cfg.Aliases, "default")
	p = mustNew(t, cfg, nil)
	if alias, got := p.Alias(Anybody(), nil, host("a.test"), ""); alias != "" || got != Present {
		t.Errorf("no default: got %q, %d; want none", alias, got)
	}
}
