package proxy

import (
	"context"
	"errors"
	"testing"
	"time"

	"whsentry/proxy/socket"
)

// TestConnecting holds the context to what those of the standard library do.
func TestConnecting(t *testing.T) {
	for _, why := range []error{context.Canceled, context.DeadlineExceeded} {
		c := newConnecting(time.Hour)
		if deadline, ok := c.Deadline(); !ok || time.Until(deadline) < time.Minute || c.Err() != nil {
			t.Fatalf("got %v, %v and %v at first; want an hour, and no error", deadline, ok, c.Err())
		}
		child, cancel := context.WithCancel(c)
		defer cancel()
		called := make(chan string, 4)
		stop := context.AfterFunc(c, func() { called <- "stopped" })
		context.AfterFunc(c, func() { called <- "left" })
		if !stop() || stop() {
			t.Error("what is called in the end cannot be taken back, or twice")
		}
		c.end(why)
		c.cancel() // is too late
		<-c.Done()
		<-child.Done()
		if c.Err() != why || child.Err() != why {
			t.Errorf("got %v, and %v of a context made of it; want %v", c.Err(), child.Err(), why)
		}
		if got := <-called; got != "left" {
			t.Errorf("what was %s has been called", got)
		}
		late := context.AfterFunc(c, func() { called <- "late" })
		if got := <-called; got != "late" || late() {
			t.Errorf("got %q; want it called at once", got)
		}
	}
}

// TestConnectingForgets: nothing is kept of contexts that have ended before it.
func TestConnectingForgets(t *testing.T) {
	c := newConnecting(time.Hour)
	defer c.cancel()
	for range 100 {
		child, cancel := context.WithTimeout(c, time.Minute)
		stop := context.AfterFunc(child, func() {})
		stop()
		cancel()
	}
	if len(c.after) != 0 {
		t.Errorf("got %d functions still to be called; want none", len(c.after))
	}
}

// TestSweepEndsConnecting: the sweeper ends what is due, and the client's going away what is not.
func TestSweepEndsConnecting(t *testing.T) {
	for _, tt := range []struct {
		name string
		does func(c *client, due socket.Tick)
		want error
	}{
		{"not due", func(c *client, due socket.Tick) { c.expire(due - 1) }, nil},
		{"due", func(c *client, due socket.Tick) { c.expire(due) }, context.DeadlineExceeded},
		{"the client left", func(c *client, _ socket.Tick) { c.vanished() }, context.Canceled},
		{"the client left, and then it was due", func(c *client, due socket.Tick) { c.vanished(); c.expire(due) }, context.Canceled},
	} {
		pending, c := newConnecting(time.Hour), new(client)
		c.attach(nil, pending)
		tt.does(c, pending.due)
		if !errors.Is(pending.Err(), tt.want) {
			t.Errorf("%s: got %v; want %v", tt.name, pending.Err(), tt.want)
		}
		pending.cancel()
	}
}
