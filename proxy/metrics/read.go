package metrics

import (
	"bytes"
	"strconv"
	"strings"
)

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
