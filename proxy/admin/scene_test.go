package admin

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/policy"
	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
)

var pageFile = flag.String("page", "", "write the status page of TestScene into this file, for the picture in docs")

// scene is a proxy that has been up for two days, as the status page sees one. The last ten minutes have it all: a customer
// whose server hangs, one whose server is gone, and somebody who tries what can be reached inside.
type scene struct {
	page     *statusPage
	m        *metrics.Metrics
	listener *metrics.Listener
	g        *guard.Guard
	rand     *rand.Rand
	n        int // requests so far
}

func newScene(t *testing.T) *scene {
	t.Helper()
	m := metrics.New("0.1.0", "3f2c1ab")
	m.NameClients([]string{"billing", "shop", "ci"})
	m.NameCloses([]string{"idle", "lifetime", "error"})
	g, err := guard.New(guard.DefaultConfig(), m.GuardHooks())
	if err != nil {
		t.Fatal(err)
	}
	m.CountRules(g)
	bundle := ca.DefaultConfig()
	bundle.Bundle.File, bundle.Bundle.URL = "", ""
	store, err := ca.New(bundle, m.CAHooks())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	s := &scene{m: m, listener: m.Listener("10.0.8.7:9090"), g: g, rand: rand.New(rand.NewPCG(1, 2))}
	settings := []Setting{
		{"listener.address", "10.0.8.7:9090", "config.yaml:1"}, {"breaker.failures", "5", "config.yaml:9"}, {"clients[0]", "billing", "config.yaml:12"},
		{"readTimeout", "10s", ""},
	}
	state := State{
		MaxConnections: 16384, MaxBufferedBytes: 256 << 20, Listeners: []Listener{{"http 10.0.8.7:9090", s.listener}}, Guard: g, CA: store,
		SettingsFile: "/etc/whsentry/config.yaml", Settings: func() []Setting { return settings },
		Breakers: func(int) []policy.OpenDestination {
			return []policy.OpenDestination{{Key: "https://hooks.gone.example:443 none", Failures: 12, Opened: time.Now().Add(-7 * time.Minute), Until: time.Now().Add(70 * time.Second)}}
		},
	}
	s.page = newStatusPage(Source{Metrics: m, State: func() State { return state }, Stopping: func() bool { return false }, Failed: func(error) {}})
	return s
}

// request has one request happen.
func (s *scene) request(client string, status int, took time.Duration, bytes int, r *Refused) {
	s.n++
	code, source := reason.None, reason.SourceNone
	if r != nil {
		code, source = r.Code, r.Source
		r.ID, r.ClientName, r.Status = fmt.Appendf(nil, "5c1f%04x-8b86-4d11-b42d-00c0%08x", s.n%0xffff, s.n), client, status
		s.page.refusals.add(r, time.Now())
		if source == reason.SourceDestination {
			s.page.failing.add(r.Destination, time.Now())
		}
	}
	s.m.CountRequest(status, code, source, took)
	s.m.Client(client).Count(code)
	s.listener.Total.Inc()
	s.m.RequestBytes.Add(bytes)
	s.m.ResponseBytes.Add(bytes / 6)
	s.m.UpstreamsReused.Inc()
}

// second has the requests of a second happen, which is that of the scene's end.
func (s *scene) second(toEnd time.Duration) {
	minutes := toEnd.Minutes()
	hangs := minutes < 6 && minutes > 2
	s.listener.Open.Store(int64(118 + s.rand.IntN(9)))
	s.m.BufferedBytes.Store(int64(30_000 + s.rand.IntN(20_000)))
	s.m.Tunnels.Store(2)
	s.m.TunnelsTotal.Add(s.rand.IntN(2))
	s.m.BusyUpstreams.Store(int64(9 + s.rand.IntN(5)))
	s.m.IdleUpstreams.Store(int64(52 + s.rand.IntN(7)))
	if hangs {
		s.m.BusyUpstreams.Add(24)
	}
	for range 30 + int(8*math.Sin(minutes)) + s.rand.IntN(7) {
		client := []string{"billing", "billing", "shop", "ci"}[s.rand.IntN(4)]
		status := 200
		if s.rand.IntN(40) == 0 {
			status = []int{404, 410, 500, 503}[s.rand.IntN(4)]
		}
		took := time.Duration(120e6 * math.Exp(s.rand.NormFloat64()*.7))
		s.request(client, status, took, 1500, nil)
	}
	if hangs && s.rand.IntN(2) == 0 {
		s.failure("billing", "hooks.slow.example:443", reason.Timeout, 502, "timed out: 198.51.100.20:443 was idle for 10s", 10*time.Second)
	}
	switch s.rand.IntN(14) {
	case 0:
		s.failure("shop", "hooks.gone.example:443", reason.BreakerOpen, 503, "hooks.gone.example:443 could not be reached of late: no request is let through for now", time.Millisecond)
	case 1:
		s.failure("billing", fmt.Sprintf("wh%d.old.example:443", s.rand.IntN(4)), reason.Unresolved, 502, "wh.old.example does not resolve: no such host", 9*time.Millisecond)
	case 2:
		s.failure("ci", "ci.acme.example:443", reason.Certificate, 502, "certificate has expired: 2026-11-28T23:59:59Z", 80*time.Millisecond)
	}
	if minutes < 3 && s.rand.IntN(3) == 0 {
		s.blocked(fmt.Sprintf("10.0.%d.%d", s.rand.IntN(4), s.rand.IntN(250)), "shop", "10.0.8.40:41172")
	}
	if s.rand.IntN(40) == 0 {
		s.blocked("169.254.169.254", "billing", "10.0.8.31:50222")
	}
}

func (s *scene) failure(client, destination string, code reason.Code, status int, text string, took time.Duration) {
	host, _, _ := strings.Cut(destination, ":")
	s.request(client, status, took, 1500, &Refused{
		Client: fmt.Sprintf("10.0.8.%d:%d", 31+len(client), 40000+s.n%9000), Method: []byte("POST"), URL: []byte("https://" + host), Code: code, Source: reason.SourceDestination,
		Text: text, Destination: destination,
	})
}

func (s *scene) blocked(address, client, from string) {
	rule := s.g.Verdict(netip.AddrPortFrom(netip.MustParseAddr(address), 80), guard.Exceptions{}).Rule
	s.m.RefusedBy(rule).Inc()
	s.request(client, 403, 300*time.Microsecond, 0, &Refused{
		Client: from, Method: []byte("POST"), URL: []byte("http://" + address), Code: reason.BlockedAddress, Source: reason.SourcePolicy,
		Text: "IP " + address + " is blocked", Rule: rule,
	})
}

// The page of a busy proxy has what somebody looks for who was woken up. With -page it is written into a file.
func TestScene(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 11, 28, 3, 2, 0, 0, time.UTC)))
		s := newScene(t)
		for range 600_000 { // what was before
			s.m.CountRequest(200, reason.None, reason.SourceNone, 100*time.Millisecond)
			s.m.Client("billing").Count(reason.None)
		}
		const end = 10*time.Minute + 50*time.Second
		time.Sleep(48*time.Hour - end)
		s.page.history, s.page.marks = history{}, marks{}
		for left := end; left > 0; left -= time.Second {
			s.second(left)
			if left%sampleInterval == 0 {
				s.page.take()
			}
			time.Sleep(time.Second)
		}
		v := s.page.view()
		v.Instance, v.GoVersion = []string{"host egress-1", "pod whsentry-7d9c5-x2k4p"}, "go1.26"
		var page bytes.Buffer
		if err := statusTemplate.Execute(&page, v); err != nil {
			t.Fatal(err)
		}
		text := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page.String(), " ")
		text = strings.Join(strings.Fields(text), " ")
		for _, want := range []string{
			"host egress-1 pod whsentry-7d9c5-x2k4p up for 2d 0h", "settings: /etc/whsentry/config.yaml", "hooks.slow.example:443", "https://hooks.gone.example:443 12",
			"by this client to many hosts, before this one to POST http://10.0.", "client 10.0.8.40:41172 (shop) · rule 10.0.0.0/8 Private-Use (RFC 1918) · status 403 · request 5c1f",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("the page lacks %q", want)
			}
		}
		if n := strings.Count(page.String(), "<time "); n > 12 {
			t.Errorf("got %d entries of refusals; want those of one client that scans to be one", n)
		}
		if *pageFile != "" {
			if err := os.WriteFile(*pageFile, page.Bytes(), 0o644); err != nil {
				t.Error(err)
			}
		}
	})
}
