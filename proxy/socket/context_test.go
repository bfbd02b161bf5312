package socket

import (
	"context"
	"testing"
	"time"
)

// TestContext holds the context to what those of the standard library do.
func TestContext(t *testing.T) {
	for _, why := range []error{context.Canceled, context.DeadlineExceeded} {
		c := NewContext(time.Hour)
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
		c.Cancel() // is too late
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

// TestContextForgets: nothing is kept of contexts that have ended before it.
func TestContextForgets(t *testing.T) {
	c := NewContext(time.Hour)
	defer c.Cancel()
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

func TestContextExpires(t *testing.T) {
	c := NewContext(time.Hour)
	defer c.Cancel()
	if c.Expire(c.due - 1); c.Err() != nil {
		t.Errorf("got %v before its time is up; want nil", c.Err())
	}
	if c.Expire(c.due); c.Err() != context.DeadlineExceeded {
		t.Errorf("got %v once its time is up; want %v", c.Err(), context.DeadlineExceeded)
	}
}
