package proxy

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"whsentry/policy"
)

// manyRules are 50 clients with limits, 10,000 host rules and an allow list of the first one's own, entries of
// destinations, and a breaker.
func manyRules() policy.Config {
	hosts := []string{"127.0.0.1"}
	for i := range 10_000 {
		hosts = append(hosts, fmt.Sprintf("*.customer%d.example", i))
	}
	cfg := policy.Config{Breaker: policy.BreakerConfig{Failures: 3, OpenFor: time.Minute}}
	most, rate := 1000, 10_000_000
	for i := range 50 {
		cfg.Clients = append(cfg.Clients, policy.ClientConfig{
			Name: fmt.Sprintf("client%d", i), Tokens: []string{policy.HashToken(fmt.Sprintf("token%d", i))},
			MaxConnections: &most, RequestsPerSecond: &rate,
		})
	}
	cfg.Clients[49].AllowHosts = hosts
	cfg.Clients[49].AllowList = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}
	size := int64(1 << 20)
	for i := range 20 {
		cfg.Destinations = append(cfg.Destinations, policy.DestinationConfig{Hosts: []string{fmt.Sprintf("*.bank%d.example", i)}, MaxResponseBodySize: &size})
	}
	cfg.Destinations = append(cfg.Destinations, policy.DestinationConfig{
		Hosts: []string{"127.0.0.1"}, AllowList: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, MaxResponseBodySize: &size,
	})
	return cfg
}

// TestAllocPostWithRules is TestAllocPost where everything that clients and destinations can have rules for is set.
func TestAllocPostWithRules(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties every sync.Pool")
	}
	p := startRuledForBench(t, manyRules(), nil)
	credential := "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("client49:token49")) + "\r\n"
	post := postLoopWith(t, p, credential, 1024, 2)
	for range 200 {
		post()
	}
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	if perRound := testing.AllocsPerRun(2000, post); perRound != 0 {
		t.Errorf("got %v allocations per request; want 0", perRound)
	}
}
