package socket

import (
	"context"
	"sync"
	"time"
)

// Context is the context of what is done until there is a connection: looking the name up, connecting, the TLS handshake.
// Whoever looks at it now and then (Expire) ends it when its time is up. With a timer for each, and what the contexts of
// the standard library take besides, a new connection costs a twentieth more.
type Context struct {
	deadline time.Time
	due      Tick // the same, for Expire

	mu    sync.Mutex    // guards the following
	err   error         // why it has ended; nil: it has not
	done  chan struct{} // nil: nobody has asked for it
	after []*func()     // to be called when it ends
}

var _ context.Context = (*Context)(nil)

// NewContext returns a Context that may take limit.
func NewContext(limit time.Duration) *Context {
	return &Context{deadline: time.Now().Add(limit), due: Now() + int64(limit)}
}

// Deadline returns when its time is up.
func (c *Context) Deadline() (deadline time.Time, ok bool) { return c.deadline, true }

// Value returns nil.
func (c *Context) Value(any) any { return nil }

// Err returns context.DeadlineExceeded once its time is up, context.Canceled where Cancel came first, and nil before.
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Done returns what is closed when it ends.
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		}
	}
	return c.done
}

// AfterFunc is what context.AfterFunc and the contexts made of this one look for, and do without a goroutine then.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f() // ends by itself, as context.AfterFunc has it
		return func() bool { return false }
	}
	c.after = append(c.after, &f)
	return func() bool { return c.forget(&f) }
}

// forget takes back what AfterFunc has noted. It reports false where it has been called.
func (c *Context) forget(f *func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, noted := range c.after {
		if noted == f {
			c.after = append(c.after[:i], c.after[i+1:]...)
			return true
		}
	}
	return false
}

// end ends it for that reason, unless it has ended.
func (c *Context) end(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = why
	if c.done != nil {
		close(c.done)
	}
	for _, f := range c.after {
		go (*f)() // likewise
	}
	c.after = nil
}

// Cancel ends it: it is not needed any more.
func (c *Context) Cancel() { c.end(context.Canceled) }

// Expire ends it where its time is up at that tick.
func (c *Context) Expire(at Tick) {
	if at >= c.due {
		c.end(context.DeadlineExceeded)
	}
}
