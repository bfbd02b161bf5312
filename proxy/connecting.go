package proxy

import (
	"context"
	"sync"
	"time"

	"whsentry/proxy/socket"
)

// connecting is the context of what is done until there is a connection: looking the name up, connecting, the TLS
// handshake. It ends when its time is up, which the sweeper sees to, and when the client goes away. A timer for each is a
// tenth of what a new connection costs.
type connecting struct {
	deadline time.Time
	due      socket.Tick // the same, for the sweeper

	mu    sync.Mutex    // guards the following
	err   error         // why it has ended; nil: it has not
	done  chan struct{} // nil: nobody has asked for it
	after []*func()     // to be called when it ends
}

var _ context.Context = (*connecting)(nil)

func newConnecting(limit time.Duration) *connecting {
	return &connecting{deadline: time.Now().Add(limit), due: socket.Now() + int64(limit)}
}

func (c *connecting) Deadline() (deadline time.Time, ok bool) { return c.deadline, true }

func (c *connecting) Value(any) any { return nil }

func (c *connecting) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *connecting) Done() <-chan struct{} {
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
func (c *connecting) AfterFunc(f func()) (stop func() bool) {
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
func (c *connecting) forget(f *func()) bool {
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
func (c *connecting) end(why error) {
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

// cancel ends it where it is not needed any more.
func (c *connecting) cancel() { c.end(context.Canceled) }
