package socket

import (
	"slices"
	"testing"
	"time"
)

func TestRoundsThatAreLate(t *testing.T) {
	const interval = 100 * time.Millisecond
	for _, tt := range []struct {
		name  string
		gaps  []time.Duration // between one round and the next
		lates []bool          // of the first round and of each after a gap
	}{
		{"in time", []time.Duration{interval, interval}, []bool{false, false, false}},
		{"a little late", []time.Duration{lateRounds * interval, interval}, []bool{false, false, false}},
		{"late", []time.Duration{lateRounds*interval + 1, interval}, []bool{false, true, false}},
		{"after a day", []time.Duration{24 * time.Hour, interval, interval}, []bool{false, true, false, false}},
		{"never in time", []time.Duration{time.Second, time.Second, time.Second, time.Second}, []bool{false, true, false, true, false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r Rounds
			at := Tick(time.Hour)
			got := []bool{r.Late(at, int64(interval))}
			for _, gap := range tt.gaps {
				at += int64(gap)
				got = append(got, r.Late(at, int64(interval)))
			}
			if !slices.Equal(got, tt.lates) {
				t.Errorf("got late %v; want %v", got, tt.lates)
			}
		})
	}
}
