package proxy

import (
	"io"
	"net"
	"sync"
	"time"

	"whsentry/proxy/listen"
)

const clientShards = 16

// clientShard is a part of the clients that are connected.
type clientShard struct {
	mu      sync.Mutex // guards the following
	clients map[*client]struct{}
	_       [48]byte
}

// excessConnections is how many connections above maxConnections are held at once to be told so on their first
// request; what comes above them is told at once.
const excessConnections = 256

// accept has the engine serve the clients of one listener.
func (p *Proxy) accept(l *listener) {
	defer p.goers.Done()
	defer close(l.accepted)
	l.OnShortage(p.shortage(l.Config().Address))
	p.engine[0].Serve(&entrance{l, p})
}

// entrance is where the engine gets its connections from.
type entrance struct {
	*listener
	proxy *Proxy
}

// Accept waits for the next client that there is a place for. io.EOF ends the engine's loop.
func (e *entrance) Accept() (net.Conn, error) {
	for {
		conn, err := e.listener.Accept()
		if err != nil {
			if !e.proxy.stopping.Load() {
				e.proxy.log().Error().Err(err).Str("listener", e.Config().Address).Msg("a listener has failed")
			}
			return nil, io.EOF
		}
		if c := e.proxy.welcome(e.listener, conn.(*net.TCPConn)); c != nil {
			return c, nil
		}
	}
}

// shortage returns what logs that connections to address cannot be accepted for now.
func (p *Proxy) shortage(address string) func(err error, failed int) {
	return func(err error, failed int) {
		p.log().Error().Err(listen.BareError(err)).Str("listener", address).Int("attempts", failed).
			Msg("connections cannot be accepted for now; they wait")
	}
}

// welcome takes a connection in; nil says that it has been turned away.
func (p *Proxy) welcome(l *listener, tcp *net.TCPConn) *client {
	l.metrics.Total.Inc()
	c, err := newClient(p, l, tcp)
	if err != nil {
		tcp.Close()
		return nil
	}
	p.goers.Add(1)
	l.metrics.Open.Add(1)
	s := c.shard()
	s.mu.Lock()
	s.clients[c] = struct{}{}
	s.mu.Unlock()
	if !p.admit(c) {
		p.turnAway(c)
		return nil
	}
	return c
}

// admit counts a client. It reports false where there is no place even to tell the client that there is none.
func (p *Proxy) admit(c *client) bool {
	if p.admitted.Add(1) <= int64(p.run.Load().cfg.MaxConnections) {
		return true
	}
	p.admitted.Add(-1)
	c.overload = true
	return p.excess.Add(1) <= excessConnections
}

// turnAway tells a client that there is no place, without a goroutine and without waiting for its request: the
// answer fits into a new socket's buffer.
func (p *Proxy) turnAway(c *client) {
	f, ex := c.overloaded(), acquireExchange()
	defer ex.release()
	ex.begin(c)
	ex.start = ex.at
	ex.failed, ex.reason, ex.status = f, f.Code, f.Status
	if c.listener.tls == nil {
		answer, body := ex.run.cfg.Answers.AppendAnswer(nil, f, time.Now(), "", "close")
		c.tcp.SetWriteDeadline(time.Now().Add(time.Second))
		c.tcp.Write(answer)
		ex.responseBytes = int64(body)
	}
	ex.record().release()
	p.leave(c)
}

// leave ends a client's connection.
func (p *Proxy) leave(c *client) {
	defer p.goers.Done()
	c.tcp.Close()
	c.in.Release()
	c.dropOpened()
	s := c.shard()
	s.mu.Lock()
	delete(s.clients, c)
	s.mu.Unlock()
	c.listener.metrics.Open.Add(-1)
	if c.overload {
		p.excess.Add(-1)
	} else {
		p.admitted.Add(-1)
	}
}

func (c *client) shard() *clientShard {
	port := c.tcp.RemoteAddr().(*net.TCPAddr).Port
	return &c.proxy.clients[port%clientShards]
}

// each calls f for every client that is connected.
func (p *Proxy) each(f func(*client)) {
	for i := range p.clients {
		s := &p.clients[i]
		s.mu.Lock()
		for c := range s.clients {
			f(c)
		}
		s.mu.Unlock()
	}
}
