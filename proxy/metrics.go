package proxy

import (
	"fmt"
	"io"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"whsentry/ca"
	"whsentry/guard"
)

// Metrics holds every metric of the process. Each is made once, at the start or when its labels' values first come
// up, for making one costs far more than counting.
type Metrics struct {
	set             *metrics.Set
	version, commit string

	requests        [statuses][reasons]atomic.Pointer[metrics.Counter]
	requestDuration *metrics.PrometheusHistogram
	phases          [phases]*metrics.PrometheusHistogram
	requestBytes    *metrics.Counter
	responseBytes   *metrics.Counter

	busyUpstreams   atomic.Int64
	idleUpstreams   atomic.Int64
	upstreamsOpened *metrics.Counter
	upstreamsReused *metrics.Counter
	upstreamsClosed [closeReasons]*metrics.Counter

	bufferedBytes atomic.Int64
	tunnels       atomic.Int64
	tunnelsTotal  *metrics.Counter
	logErrors     *metrics.Counter
	lookups       map[guard.LookupResult]*metrics.Counter
	refreshes     map[ca.RefreshResult]*metrics.Counter
	reloadsOK     *metrics.Counter
	reloadsFailed *metrics.Counter
	store         atomic.Pointer[ca.Store]
}

const (
	firstStatus = 100
	statuses    = 501                              // 100 to 599, and all others together
	reasons     = 1 + lastReason - firstReason + 1 // none, and each
)

// phase is a part of a request's time.
type phase int

const (
	phaseDNS phase = iota
	phaseConnect
	phaseTLS
	phaseFirstByte
	phases
)

// durationBuckets are the upper bounds of the histograms, in seconds: from what an answer on the same machine takes
// to the longest time that a connection lives by default.
var durationBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// NewMetrics makes the metrics of one proxy. version and commit go into whsentry_build_info.
func NewMetrics(version, commit string) *Metrics {
	metrics.ExposeMetadata(true)
	set := metrics.NewSet()
	m := &Metrics{
		set:             set,
		version:         version,
		commit:          commit,
		requestDuration: set.NewPrometheusHistogramExt("whsentry_request_duration_seconds", durationBuckets),
		requestBytes:    set.NewCounter("whsentry_request_bytes_total"),
		responseBytes:   set.NewCounter("whsentry_response_bytes_total"),
		upstreamsOpened: set.NewCounter("whsentry_destination_connections_opened_total"),
		upstreamsReused: set.NewCounter("whsentry_destination_connections_reused_total"),
		tunnelsTotal:    set.NewCounter("whsentry_tunnels_total"),
		logErrors:       set.NewCounter("whsentry_log_errors_total"),
		reloadsOK:       set.NewCounter(`whsentry_config_reloads_total{result="ok"}`),
		reloadsFailed:   set.NewCounter(`whsentry_config_reloads_total{result="failed"}`),
		lookups:         make(map[guard.LookupResult]*metrics.Counter),
		refreshes:       make(map[ca.RefreshResult]*metrics.Counter),
	}
	for i, name := range [phases]string{"dns", "connect", "tls", "first_byte"} {
		m.phases[i] = set.NewPrometheusHistogramExt(fmt.Sprintf(`whsentry_phase_duration_seconds{phase=%q}`, name), durationBuckets)
	}
	for why := closeNone + 1; why < closeReasons; why++ {
		m.upstreamsClosed[why] = set.NewCounter(fmt.Sprintf(`whsentry_destination_connections_closed_total{why=%q}`, closeReasonNames[why]))
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
	gauge(`whsentry_destination_connections{state="busy"}`, &m.busyUpstreams)
	gauge(`whsentry_destination_connections{state="idle"}`, &m.idleUpstreams)
	gauge("whsentry_buffered_bytes", &m.bufferedBytes)
	gauge("whsentry_tunnels", &m.tunnels)
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

// listenerMetrics counts the client connections of one listener.
type listenerMetrics struct {
	open  atomic.Int64
	total *metrics.Counter
}

func (m *Metrics) listener(address string) *listenerMetrics {
	l := &listenerMetrics{total: m.set.GetOrCreateCounter(fmt.Sprintf(`whsentry_client_connections_total{listener=%q}`, address))}
	m.set.GetOrCreateGauge(fmt.Sprintf(`whsentry_client_connections{listener=%q}`, address),
		func() float64 { return float64(l.open.Load()) })
	return l
}

// GuardHooks returns what makes a guard count in these metrics.
func (m *Metrics) GuardHooks() guard.Hooks {
	return guard.Hooks{
		Lookup: func(r guard.LookupResult) { m.lookups[r].Inc() },
		Refused: func(r guard.Rule) {
			m.refusedBy(r).Inc()
		},
	}
}

// countRules makes the counters of g's rules, so that they show 0 before the first refusal.
func (m *Metrics) countRules(g *guard.Guard) {
	for _, r := range g.Rules() {
		m.refusedBy(r)
	}
}

// refusedBy returns the counter of the addresses that rules of r's name have refused.
func (m *Metrics) refusedBy(r guard.Rule) *metrics.Counter {
	return m.set.GetOrCreateCounter(fmt.Sprintf(`whsentry_refused_addresses_total{rule=%q}`, r.Name))
}

// CAHooks returns what makes a trust store count in these metrics.
func (m *Metrics) CAHooks() ca.Hooks {
	return ca.Hooks{Refreshed: func(r ca.RefreshResult, _ error) { m.refreshes[r].Inc() }}
}

// LogFailed counts a failed write to the application log.
func (m *Metrics) LogFailed() { m.logErrors.Inc() }

// countRequest counts an exchange that has ended.
func (m *Metrics) countRequest(status int, r reason, took time.Duration) {
	index := 0
	if r != reasonNone {
		index = int(r-firstReason) + 1
	}
	known := min(status-firstStatus, statuses-1)
	slot := &m.requests[known][index]
	c := slot.Load()
	if c == nil {
		label := "other"
		if known < statuses-1 {
			label = strconv.Itoa(status)
		}
		c = m.set.GetOrCreateCounter(`whsentry_requests_total{status="` + label + `",reason="` + strconv.Itoa(int(r)) + `"}`)
		slot.Store(c)
	}
	c.Inc()
	m.requestDuration.Update(took.Seconds())
}

func (m *Metrics) write(w io.Writer) {
	m.set.WritePrometheus(w)
	metrics.WriteProcessMetrics(w)
	metrics.WriteFDMetrics(w)
}
