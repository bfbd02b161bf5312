package destination

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/policy"
	"whsentry/proxy/reason"
	"whsentry/proxy/upstream"
)

// tableOf makes a table of the default limits and of what cfg says of clients and destinations.
func tableOf(t *testing.T, cfg policy.Config) (*Table, *policy.Policy, error) {
	t.Helper()
	p, err := policy.New(cfg, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	g, err := guard.New(guard.DefaultConfig(), guard.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	certificates := ca.DefaultConfig()
	certificates.Destinations = make([]ca.RulesConfig, len(cfg.Destinations))
	store, err := ca.New(certificates, ca.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	table, err := NewTable(DefaultLimits(), p, g, store)
	return table, p, err
}

// TestTerms: where an entry says something that applies, and everything else does where it is silent.
func TestTerms(t *testing.T) {
	connect, connections, size := 3*time.Second, 7, int64(100)
	table, p, err := tableOf(t, policy.Config{
		Clients: []policy.ClientConfig{
			{Name: "shop", Tokens: []string{policy.HashToken("a")}, AllowList: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
			{Name: "bank", Tokens: []string{policy.HashToken("b")}},
		},
		Destinations: []policy.DestinationConfig{{
			Hosts: []string{"*.bank.example"}, Ports: []int{443}, AllowList: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")},
			ConnectTimeout: &connect, MaxConnections: &connections, MaxResponseBodySize: &size,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	on := func(host string, port uint16) *Terms { return table.Terms(policy.NewHost(host, netip.Addr{}), port) }
	entry, global := on("hooks.bank.example", 443), on("hooks.bank.example", 80)
	if entry.ConnectTimeout != connect || entry.MaxConnections != connections || entry.MaxResponseBodySize != size || entry.ID == 0 || entry.Entry == nil ||
		entry.Connection != (upstream.Limits{Lifetime: time.Minute, Idle: 10 * time.Second}) {
		t.Errorf("got %+v of the entry", entry)
	}
	if want := (LimitKeys{reason.LimitDestinationsConnectTimeout, reason.LimitReadTimeout, reason.LimitConnectionLifetime,
		reason.LimitDestinationsMaxConnections, reason.LimitDestinationsMaxResponseBodySize}); entry.Keys != want {
		t.Errorf("got the keys %v; want %v", entry.Keys, want)
	}
	if global.ConnectTimeout != 10*time.Second || global.MaxConnections != 256 || global.MaxResponseBodySize != 1<<20 || global.ID != 0 || global.Entry != nil ||
		global.Keys.ConnectTimeout != reason.LimitConnectTimeout {
		t.Errorf("got %+v without an entry", global)
	}
	shop, bank := table.Exceptions(p.Client("shop"), entry), table.Exceptions(p.Client("bank"), global)
	if shop.Client == nil || shop.Entry == nil || bank != (guard.Exceptions{}) || table.Exceptions(nil, global) != (guard.Exceptions{}) {
		t.Errorf("got the exceptions %+v and %+v", shop, bank)
	}
	if got := table.Durations(); len(got) != 6 || got[3] != connect {
		t.Errorf("got %v; want three of either", got)
	}
}

// TestTermsRefused: what the guard does not take has its key before it.
func TestTermsRefused(t *testing.T) {
	egress := []netip.Addr{netip.MustParseAddr("192.0.2.1")} // which the guard does not have
	_, _, err := tableOf(t, policy.Config{EgressAddresses: egress, Destinations: []policy.DestinationConfig{{Hosts: []string{"h"}, Egress: egress}}})
	if want := "destinations[0].egress"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v; want an error that begins with %s", err, want)
	}
}
