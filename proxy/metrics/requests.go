package metrics

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"whsentry/proxy/reason"
)

const (
	firstStatus = 100
	statuses    = 500 // 100 to 599
)

// OtherStatus stands for every status beyond 100 to 599, which destinations may answer with.
const OtherStatus = 0

// requests counts requests by what became of them. Those that their destinations answered cost no more than an atomic
// load and an addition; the others are looked up.
type requests struct {
	set      *metrics.Set
	answered [statuses + 1]atomic.Pointer[metrics.Counter] // by status, the others last
	failed   sync.Map                                      // series to *metrics.Counter
}

// series is what a counter of failed requests is for.
type series struct {
	status int
	code   reason.Code
	source reason.Source
}

// prepare makes the counters of everything that the table of reasons has, for an alert on growth misses what appears
// with its first event.
func (r *requests) prepare() {
	for code := reason.First; code <= reason.Last; code++ {
		for _, v := range code.Variants() {
			r.counter(series{v.Status, code, v.Source})
		}
	}
}

func (r *requests) count(status int, code reason.Code, source reason.Source) {
	if status < firstStatus || status >= firstStatus+statuses {
		status = OtherStatus
	}
	if code != reason.None {
		r.counter(series{status, code, source}).Inc()
		return
	}
	slot := &r.answered[statuses]
	if status != OtherStatus {
		slot = &r.answered[status-firstStatus]
	}
	c := slot.Load()
	if c == nil {
		c = r.make(series{status: status})
		slot.Store(c)
	}
	c.Inc()
}

func (r *requests) counter(s series) *metrics.Counter {
	if c, found := r.failed.Load(s); found {
		return c.(*metrics.Counter)
	}
	c, _ := r.failed.LoadOrStore(s, r.make(s))
	return c.(*metrics.Counter)
}

// make returns the counter of s, which the set makes but once.
func (r *requests) make(s series) *metrics.Counter {
	status := "other"
	if s.status != OtherStatus {
		status = strconv.Itoa(s.status)
	}
	return r.set.GetOrCreateCounter(`whsentry_requests_total{status="` + status + `",reason="` + strconv.Itoa(int(s.code)) +
		`",source="` + s.source.String() + `"}`)
}

// EachRequest calls f for every status, reason and source that there were requests with, in their order. A status beyond
// those that are counted is OtherStatus.
func (m *Metrics) EachRequest(f func(status int, code reason.Code, source reason.Source, n uint64)) {
	for i := range m.requests.answered {
		status := firstStatus + i
		if i == statuses {
			status = OtherStatus
		}
		if c := m.requests.answered[i].Load(); c != nil {
			f(status, reason.None, reason.SourceNone, c.Get())
		}
	}
	counts := make(map[series]uint64)
	for key, c := range m.requests.failed.Range {
		if n := c.(*metrics.Counter).Get(); n > 0 {
			counts[key.(series)] = n
		}
	}
	for _, s := range slices.SortedFunc(maps.Keys(counts), func(a, b series) int {
		return cmp.Or(cmp.Compare(a.code, b.code), cmp.Compare(a.status, b.status), cmp.Compare(a.source, b.source))
	}) {
		f(s.status, s.code, s.source, counts[s])
	}
}
