package proxy

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"whsentry/proxy/socket"
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
			var r rounds
			at := socket.Tick(time.Hour)
			got := []bool{r.late(at, int64(interval))}
			for _, gap := range tt.gaps {
				at += int64(gap)
				got = append(got, r.late(at, int64(interval)))
			}
			if !slices.Equal(got, tt.lates) {
				t.Errorf("got late %v; want %v", got, tt.lates)
			}
		})
	}
}

// TestSweepEndsWhatIsPending: the sweeper ends what is due, and the client's going away what is not.
func TestSweepEndsWhatIsPending(t *testing.T) {
	for _, tt := range []struct {
		name string
		does func(c *client, due socket.Tick)
		want error
	}{
		{"not due", func(c *client, due socket.Tick) { c.expire(due - socket.Tick(time.Minute)) }, nil},
		{"due", func(c *client, due socket.Tick) { c.expire(due + socket.Tick(time.Minute)) }, context.DeadlineExceeded},
		{"the client left", func(c *client, _ socket.Tick) { c.vanished() }, context.Canceled},
		{"the client left, and then it was due", func(c *client, due socket.Tick) { c.vanished(); c.expire(due + socket.Tick(time.Minute)) }, context.Canceled},
	} {
		pending, c := socket.NewContext(time.Hour), new(client)
		c.attach(nil, pending)
		tt.does(c, socket.Now()+socket.Tick(time.Hour))
		if !errors.Is(pending.Err(), tt.want) {
			t.Errorf("%s: got %v; want %v", tt.name, pending.Err(), tt.want)
		}
		pending.Cancel()
	}
}
