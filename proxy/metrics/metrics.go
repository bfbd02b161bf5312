// Package metrics has every metric of the process, with its name, its labels' values and what makes it count. It is a
// leaf: whoever counts something knows it, and it knows the reasons, and the events of the guard and of the trust store.
// Labels have few values, none of which comes from a client or a destination.
package metrics

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/proxy/reason"
)

// Metrics holds every metric of the process. Each is made once, at the start or when its labels' values first come
// up, for making one costs far more than counting.
type Metrics struct {
	set             *metrics.Set
	Version, Commit string

	requests        requests
	requestDuration *metrics.PrometheusHistogram
	phases          [Phases]*metrics.PrometheusHistogram
	RequestBytes    *metrics.Counter
	ResponseBytes   *metrics.Counter
	InFlight        atomic.Int64 // requests, tunnels included

	clients clients
	limits  map[reason.Limit]*metrics.Counter
	untidy  map[string]*metrics.Counter

	listeners map[string][]*Listener // by address

	BusyUpstreams   atomic.Int64
	IdleUpstreams   atomic.Int64
	UpstreamsOpened *metrics.Counter
	UpstreamsReused *metrics.Counter
	closeNames      []string
	closed          []*metrics.Counter // by the number of the reason, as closeNames

	BufferedBytes atomic.Int64
	Tunnels       atomic.Int64
	TunnelsTotal  *metrics.Counter
	LogErrors     *metrics.Counter
	lookups       map[guard.LookupResult]*metrics.Counter
	refreshes     map[ca.RefreshResult]*metrics.Counter
	ReloadsOK     *metrics.Counter
	ReloadsFailed *metrics.Counter
	store         atomic.Pointer[ca.Store]
	breakers      atomic.Pointer[func() int]
	MemoryLimit   atomic.Int64 // the memory that the process may use, in bytes; 0: the runtime's own limit is shown
}

// Phase is a part of a request's time.
type Phase int

// The phases, in the order in which a request has them.
const (
	DNS Phase = iota
	Connect
	TLS
	FirstByte
	Phases // how many there are
)

// DurationBuckets are the upper bounds of the histograms, in seconds, ascending: from what an answer on the same machine takes
// to the longest time that a connection lives by default.
var DurationBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// New makes the metrics of one proxy. version and commit go into whsentry_build_info.
func New(version, commit string) *Metrics {
	metrics.ExposeMetadata(true)
	set := metrics.NewSet()
	m := &Metrics{
		set:             set,
		Version:         version,
		Commit:          commit,
		requestDuration: set.NewPrometheusHistogramExt("whsentry_request_duration_seconds", DurationBuckets),
		RequestBytes:    set.NewCounter("whsentry_request_bytes_total"),
		ResponseBytes:   set.NewCounter("whsentry_response_bytes_total"),
		UpstreamsOpened: set.NewCounter("whsentry_destination_connections_opened_total"),
		UpstreamsReused: set.NewCounter("whsentry_destination_connections_reused_total"),
		TunnelsTotal:    set.NewCounter("whsentry_tunnels_total"),
		LogErrors:       set.NewCounter("whsentry_log_errors_total"),
		ReloadsOK:       set.NewCounter(`whsentry_config_reloads_total{result="ok"}`),
		ReloadsFailed:   set.NewCounter(`whsentry_config_reloads_total{result="failed"}`),
		listeners:       make(map[string][]*Listener),
		lookups:         make(map[guard.LookupResult]*metrics.Counter),
		refreshes:       make(map[ca.RefreshResult]*metrics.Counter),
	}
	m.requests.set, m.clients.set = set, set
	m.requests.prepare()
	m.NameClients(nil)
	m.prepareLimits()
	for i, name := range [Phases]string{"dns", "connect", "tls", "first_byte"} {
		m.phases[i] = set.NewPrometheusHistogramExt(fmt.Sprintf(`whsentry_phase_duration_seconds{phase=%q}`, name), DurationBuckets)
	}
	for _, r := range []guard.LookupResult{guard.LookupOK, guard.LookupCached, guard.LookupFailed} {
		m.lookups[r] = set.NewCounter(fmt.Sprintf(`whsentry_dns_lookups_total{result=%q}`, r))
	}
	for _, r := range []ca.RefreshResult{ca.RefreshUpdated, ca.RefreshUnchanged, ca.RefreshFailed} {
		m.refreshes[r] = set.NewCounter(fmt.Sprintf(`whsentry_trust_store_refreshes_total{result=%q}`, r))
	}
	m.addGauges()
	set.NewGauge(fmt.Sprintf(`whsentry_build_info{version=%q,commit=%q,goversion=%q}`, version, commit, runtime.Version()),
		func() float64 { return 1 })
	return m
}

func (m *Metrics) addGauges() {
	gauge := func(name string, value *atomic.Int64) {
		m.set.NewGauge(name, func() float64 { return float64(value.Load()) })
	}
	gauge(`whsentry_destination_connections{state="busy"}`, &m.BusyUpstreams)
	gauge(`whsentry_destination_connections{state="idle"}`, &m.IdleUpstreams)
	gauge("whsentry_buffered_bytes", &m.BufferedBytes)
	gauge("whsentry_tunnels", &m.Tunnels)
	gauge("whsentry_requests_in_flight", &m.InFlight)
	m.set.NewGauge("whsentry_breakers_open", func() float64 {
		if open := m.breakers.Load(); open != nil {
			return float64((*open)())
		}
		return 0
	})
	m.set.NewGauge("whsentry_memory_limit_bytes", func() float64 {
		if limit := m.MemoryLimit.Load(); limit > 0 {
			return float64(limit)
		}
		return float64(debug.SetMemoryLimit(-1))
	})
	m.set.NewGauge("whsentry_trust_store_roots", func() float64 {
		if s := m.store.Load(); s != nil {
			return float64(s.Roots())
		}
		return 0
	})
	m.set.NewGauge("whsentry_trust_store_timestamp_seconds", func() float64 {
		if s := m.store.Load(); s != nil {
			return float64(s.Timestamp().Unix())
		}
		return 0
	})
}

// NameCloses makes the counters of why connections to destinations are closed. names[why] is the label's value of the
// reason with that number; one that is "" is no reason. It is called once, before the first Closed.
func (m *Metrics) NameCloses(names []string) {
	m.closeNames, m.closed = names, make([]*metrics.Counter, len(names))
	for why, name := range names {
		if name != "" {
			m.closed[why] = m.set.GetOrCreateCounter(fmt.Sprintf(`whsentry_destination_connections_closed_total{why=%q}`, name))
		}
	}
}

// Closed is the counter of connections to destinations that were closed for the reason of that number.
func (m *Metrics) Closed(why int) *metrics.Counter { return m.closed[why] }

// EachClosed calls f for each of the reasons why connections to destinations are closed.
func (m *Metrics) EachClosed(f func(why string, n uint64)) {
	for why, name := range m.closeNames {
		if name != "" {
			f(name, m.closed[why].Get())
		}
	}
}

// Listener counts the client connections of one listener.
type Listener struct {
	Open  atomic.Int64
	Total *metrics.Counter
}

// Listener returns what counts the client connections of the listener with that address of the settings. Several may have
// the same, whose port is 0: their series has the sum. It is called before the first Write.
func (m *Metrics) Listener(address string) *Listener {
	l := &Listener{Total: m.set.GetOrCreateCounter(fmt.Sprintf(`whsentry_client_connections_total{listener=%q}`, address))}
	m.listeners[address] = append(m.listeners[address], l)
	m.set.GetOrCreateGauge(fmt.Sprintf(`whsentry_client_connections{listener=%q}`, address), func() (open float64) {
		for _, l := range m.listeners[address] {
			open += float64(l.Open.Load())
		}
		return open
	})
	return l
}

// GuardHooks returns what makes a guard count in these metrics.
func (m *Metrics) GuardHooks() guard.Hooks {
	return guard.Hooks{
		Lookup: func(r guard.LookupResult) { m.lookups[r].Inc() },
		Refused: func(r guard.Rule) {
			m.RefusedBy(r).Inc()
		},
	}
}

// CountRules makes the counters of g's rules, so that they show 0 before the first refusal.
func (m *Metrics) CountRules(g *guard.Guard) {
	for _, r := range g.Rules() {
		m.RefusedBy(r)
	}
}

// RefusedBy returns the counter of the addresses that rules of r's name have refused.
func (m *Metrics) RefusedBy(r guard.Rule) *metrics.Counter {
	return m.set.GetOrCreateCounter(fmt.Sprintf(`whsentry_refused_addresses_total{rule=%q}`, r.Name))
}

// CAHooks returns what makes a trust store count in these metrics.
func (m *Metrics) CAHooks() ca.Hooks {
	return ca.Hooks{Refreshed: func(r ca.RefreshResult, _ error) { m.refreshes[r].Inc() }}
}

// UseBreakers makes open what says how many breakers are open.
func (m *Metrics) UseBreakers(open func() int) { m.breakers.Store(&open) }

// UseStore makes store the one whose size and age are shown.
func (m *Metrics) UseStore(store *ca.Store) { m.store.Store(store) }

// Lookups is how many look-ups of names ended so.
func (m *Metrics) Lookups(r guard.LookupResult) uint64 { return m.lookups[r].Get() }

// Refreshes is how many refreshes of the trust store ended so.
func (m *Metrics) Refreshes(r ca.RefreshResult) uint64 { return m.refreshes[r].Get() }

// LogFailed counts a failed write to the application log.
func (m *Metrics) LogFailed() { m.LogErrors.Inc() }

// CountRequest counts an exchange that has ended. source is that of the failure; reason.SourceNone with reason.None.
func (m *Metrics) CountRequest(status int, code reason.Code, source reason.Source, took time.Duration) {
	m.requests.count(status, code, source)
	m.requestDuration.Update(took.Seconds())
}

// CountPhases counts how long the parts of a request took; those below 0 did not happen.
func (m *Metrics) CountPhases(took *[Phases]time.Duration) {
	for i, d := range took {
		if d >= 0 {
			m.phases[i].Update(d.Seconds())
		}
	}
}
