package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"whsentry/proxy/upstream"
)

// logCloseTimeout is how long Shutdown waits for a log that takes nothing.
const logCloseTimeout = 5 * time.Second

// Shutdown stops accepting, lets running requests and tunnels finish until ctx ends, and ends what is then left.
// Connections that the system has made are still served, one request each. It returns once nothing of the proxy runs
// and the access log is written. It may be called once, after Serve.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.clients.Leave(ctx)
	err := p.drain(ctx)
	close(p.sweeps)
	<-p.swept
	p.pool.CloseAll(upstream.CloseShutdown)
	if p.admin != nil {
		p.adminLn.Close() // its server may not have begun to accept yet, and would not know of it
		p.admin.Shutdown()
	}
	written := make(chan struct{})
	go func() { // ends when the log has taken its last line
		defer close(written)
		if lost := p.access.Load().Close(); lost > 0 {
			p.log().Error().Int("lost_lines", lost).Msg("the access log could not be written to its end")
		}
	}()
	select {
	case <-written:
		return err
	case <-time.After(logCloseTimeout):
		return errors.New("write the last lines of the access log: it takes nothing")
	}
}

// drain waits for the clients to leave, as long as ctx lasts, and throws out those that are still there then.
func (p *Proxy) drain(ctx context.Context) error {
	if p.clients.Drain(ctx) {
		return nil
	}
	p.pool.CloseAll(upstream.CloseShutdown)
	p.clients.ThrowOut()
	return fmt.Errorf("requests were still running after the time to finish: %w", ctx.Err())
}
