package metrics

import (
	"bytes"
	"strconv"
	"strings"

	"whsentry/proxy/reason"
)

// EachRequest calls f for every status and reason that there were requests with, in their order.
func (m *Metrics) EachRequest(f func(status int, why reason.Code, n uint64)) {
	for s := range m.requests {
		for i := range m.requests[s] {
			if c := m.requests[s][i].Load(); c != nil {
				why := reason.None
				if i > 0 {
					why = reason.First + reason.Code(i-1)
				}
				f(firstStatus+s, why, c.Get())
			}
		}
	}
}

// RequestTimes returns the buckets of whsentry_request_duration_seconds, the one for everything last. A histogram tells
// what is in it only in the text that Prometheus reads.
func (m *Metrics) RequestTimes() []uint64 {
	var text bytes.Buffer
	m.set.WritePrometheus(&text)
	counts := make([]uint64, 0, len(DurationBuckets)+1)
	for line := range strings.Lines(text.String()) {
		if !strings.HasPrefix(line, "whsentry_request_duration_seconds_bucket{") {
			continue
		}
		_, value, _ := strings.Cut(line, "} ")
		n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
		if err != nil {
			return nil // a count that this does not understand is no reason to fail
		}
		counts = append(counts, n)
	}
	return counts
}
