package admin

import (
	"sync"
	"time"

	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
)

const (
	// sampleInterval is how often the metrics are read for the charts of the status page.
	sampleInterval = 5 * time.Second
	// sampleCount is how many readings are kept: those of ten minutes.
	sampleCount = 120
	// recently is what "now" is measured over, where something has to happen to be measured.
	recently = time.Minute
)

// reading is what the metrics say at one moment: counts since the start, and how many there are of what comes and goes.
type reading struct {
	at time.Time

	delivered uint64 // requests that their destinations answered
	own       uint64 // those that the proxy answered itself, with a reason
	gone      uint64 // those whose clients went away

	// took counts the requests by their time: took[i] of them took metrics.DurationBuckets[i] at most, and the last is all.
	took []uint64

	requestBytes, responseBytes                 uint64 // of bodies
	clients, busy, idle, tunnels, bufferedBytes int64
}

// read takes a reading.
func (src *Source) read(at time.Time) reading {
	m := src.Metrics
	r := reading{
		at: at, requestBytes: m.RequestBytes.Get(), responseBytes: m.ResponseBytes.Get(), took: m.RequestTimes(),
		busy: m.BusyUpstreams.Load(), idle: m.IdleUpstreams.Load(), tunnels: m.Tunnels.Load(), bufferedBytes: m.BufferedBytes.Load(),
	}
	for _, l := range src.State().Listeners {
		r.clients += l.Counts.Open.Load()
	}
	m.EachRequest(func(status int, why reason.Code, _ reason.Source, n uint64) {
		switch {
		case why != reason.None:
			r.own += n
		case status == reason.StatusClientGone:
			r.gone += n
		default:
			r.delivered += n
		}
	})
	return r
}

// history is the readings of the last minutes.
type history struct {
	mu       sync.Mutex // guards the following
	readings []reading  // a ring, once it is full
	next     int        // where in it the next one goes
}

func (h *history) add(r reading) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.readings) < sampleCount {
		h.readings = append(h.readings, r)
		return
	}
	h.readings[h.next] = r
	h.next = (h.next + 1) % sampleCount
}

// all returns the readings, the oldest first. None of them changes any more.
func (h *history) all() []reading {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append(append(make([]reading, 0, sampleCount+1), h.readings[h.next:]...), h.readings[:h.next]...)
}

// since returns the latest of readings that is older than d at the end of them, or else the first.
func since(readings []reading, d time.Duration) reading {
	last := readings[len(readings)-1]
	for i := len(readings) - 2; i > 0; i-- {
		if last.at.Sub(readings[i].at) >= d {
			return readings[i]
		}
	}
	return readings[0]
}

// perSecond returns how much of a count there was in a second between two readings.
func perSecond(from, to reading, count func(*reading) uint64) float64 {
	seconds := to.at.Sub(from.at).Seconds()
	if seconds <= 0 {
		return 0
	}
	return float64(count(&to)-count(&from)) / seconds
}

// quantile returns the time in seconds that the share q of the requests between two readings took at most; false where
// there were none. Within a bucket it takes them to be spread evenly; what is above the last bound is taken for that.
func quantile(from, to reading, q float64) (seconds float64, ok bool) {
	between := func(i int) float64 { return float64(to.took[i] - from.took[i]) }
	last := len(metrics.DurationBuckets)
	if len(from.took) != last+1 || len(to.took) != last+1 || between(last) == 0 {
		return 0, false
	}
	rank, below, lower := q*between(last), 0.0, 0.0
	for i, upper := range metrics.DurationBuckets {
		n := between(i)
		if n >= rank && n > below {
			return lower + (upper-lower)*(rank-below)/(n-below), true
		}
		below, lower = n, upper
	}
	return lower, true
}
