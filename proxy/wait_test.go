package proxy

import (
	"context"
	"errors"
	"testing"
	"time"
	"whsentry/proxy/downstream"
	"whsentry/proxy/socket"
)

// TestSweepEndsWhatIsPending: the sweeper ends what is due, and the client's going away what is not.
func TestSweepEndsWhatIsPending(t *testing.T) {
	for _, tt := range []struct {
		name string
		does func(c *client, due socket.Tick)
		want error
	}{
		{"not due", func(c *client, due socket.Tick) { c.Expire(due - socket.Tick(time.Minute)) }, nil},
		{"due", func(c *client, due socket.Tick) { c.Expire(due + socket.Tick(time.Minute)) }, context.DeadlineExceeded},
		{"the client left", func(c *client, _ socket.Tick) { c.End(downstream.Gone) }, context.Canceled},
		{"the client left, and then it was due", func(c *client, due socket.Tick) { c.End(downstream.Gone); c.Expire(due + socket.Tick(time.Minute)) }, context.Canceled},
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
