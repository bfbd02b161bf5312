package accesslog

import (
	"io"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"whsentry/proxy/metrics"
)

// discarding is a log whose bytes go nowhere. It has no goroutine: the round whose line fills it writes it out, so that
// its cost is counted with the lines'.
func discarding(t testing.TB, format string) (log func(*Record), size func() int) {
	w := &writer{out: io.Discard, report: func(err error) { t.Error(err) }, wake: make(chan struct{}, 1)}
	w.room.L = &w.mu
	l := &Log{writer: w, json: format == JSON, logger: zerolog.New(w)}
	return func(r *Record) {
		l.Log(r)
		if len(w.wake) > 0 {
			<-w.wake
			w.flush()
		}
	}, func() int { return len(w.pending) }
}

// benchLog logs a delivered webhook, round after round.
func benchLog(t testing.TB, format string) (round func(), size int) {
	log, pending := discarding(t, format)
	r := new(Record)
	id, method, url := []byte("6f9619ff-8b86-d011-b42d-00c04fc964ff"), []byte("POST"), []byte("http://hooks.shop.example/integrations/github/4711?tenant=acme")
	round = func() {
		r.At, r.Took = time.Now(), 12*time.Millisecond
		r.ID, r.ClientAddr, r.Method, r.URL = id, "10.0.0.7:51324", method, append(r.URL[:0], url...)
		r.Status, r.RequestBytes, r.ResponseBytes = 202, 1024, 15
		r.Upstream, r.Reused = netip.MustParseAddrPort("203.0.113.7:80"), true
		r.Phases = [metrics.Phases]time.Duration{-1, -1, -1, 11 * time.Millisecond}
		log(r)
		r.Forget()
	}
	round()
	size = pending()
	for range 4 * logFlushSize / size { // until the buffers have their size
		round()
	}
	return round, size
}

func BenchmarkLog(b *testing.B) {
	for _, format := range []string{Text, JSON} {
		b.Run(format, func(b *testing.B) {
			round, size := benchLog(b, format)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				round()
			}
		})
	}
}

// TestAllocLog holds a line to no allocation at all. The log's new second can fall into one measurement, but not into
// all three.
func TestAllocLog(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties every sync.Pool")
	}
	for _, format := range []string{Text, JSON} {
		round, _ := benchLog(t, format)
		const rounds = 500
		least := math.Inf(1)
		for range 3 {
			least = min(least, testing.AllocsPerRun(10, func() {
				for range rounds {
					round()
				}
			}))
		}
		if least != 0 {
			t.Errorf("%s: got %v allocations in %d lines; want 0", format, least, rounds)
		}
	}
}
