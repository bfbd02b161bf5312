// Package downstream is about connections of clients: it accepts them (Server), learns who is at the other end by the PROXY
// protocol and TLS, hands on the heads of their requests one whole head at a time, reads and writes within limits in time,
// and ends them so that nothing is lost that a client should get. A request's meaning, and its answer, are its Handler's.
//
// The files, in the order in which a connection meets them:
//
//	server.go    Server: listeners, accepting, how many there may be
//	engine.go    the fasthttp servers that connections are served by
//	conn.go      Conn: its states, writing under limits in time, vanishing
//	gate.go      what fasthttp takes for the connection: Read delivers one whole head at a time
//	body.go      the body of a request, read within its limits
//	greeting.go  what comes before the first request: PROXY protocol, TLS
//	opening.go   what a tunnel's client begins with
//	sweep.go     limits in time, and clients that go away
//	leave.go     the end of a connection
//	drain.go     the end of all of them
package downstream

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"whsentry/proxy/listen"
	"whsentry/proxy/metrics"

	"github.com/rs/zerolog"
)

// Config is what a Server may be told anew. Its limits are those of the settings' keys with the same names.
type Config struct {
	// ClientTimeout bounds a request's head, a pause within its body, a TLS handshake and a pause in reading an answer.
	ClientTimeout time.Duration
	// IdleTimeout is how long a connection may rest between requests, and StrangerIdleTimeout how long where the client is
	// not Known.
	IdleTimeout, StrangerIdleTimeout time.Duration
	MaxHeaderSize                    int64 // of a request's head, in bytes
	MaxConnections                   int   // at once, over all listeners
	// Listeners are those that have been opened, in their order: whom each takes the PROXY protocol from.
	Listeners []listen.Config
}

// Server accepts clients' connections and serves them, until Leave.
type Server struct {
	cfg       atomic.Pointer[Config]
	newClient func() (Handler, *Conn)
	log       func() *zerolog.Logger
	engine    *engine
	listeners []*Listener

	stopping atomic.Bool // nothing is accepted any more
	closing  atomic.Bool // there is no waiting for another request
	shards   [connShards]connShard
	admitted atomic.Int64   // connections within MaxConnections, over all listeners
	excess   atomic.Int64   // connections above it
	parked   atomic.Int64   // connections parked since memory was last returned to the system
	memory   spareMemory    // the sweeper's own
	goers    sync.WaitGroup // accept loops and connections
	left     chan struct{}  // closed when the last of them has gone; Drain's
}

// New returns a Server that is to be told its configuration by Use before it serves. newClient returns whom a new
// connection is for, and the Conn that is a part of it; log returns the log of the moment.
func New(newClient func() (Handler, *Conn), log func() *zerolog.Logger) *Server {
	s := &Server{newClient: newClient, log: log, left: make(chan struct{})}
	s.engine = newEngine(s)
	s.memory.at = -int64(freePause)
	for i := range s.shards {
		s.shards[i].conns = make(map[*Conn]struct{})
	}
	return s
}

// Use makes cfg what holds from here on.
func (s *Server) Use(cfg Config) { s.cfg.Store(&cfg) }

// Listener is one endpoint that clients connect to.
type Listener struct {
	*listen.Listener
	Counts *metrics.Listener

	server   *Server
	index    int                         // among the listeners of the configuration
	tls      *atomic.Pointer[tls.Config] // nil: plain
	accepted chan struct{}               // closed when the accept loop has ended
}

// Open opens the next of the listeners, unless a socket for its address has been passed. An https listener gets its
// certificates by UseTLS, before the server serves.
func (s *Server) Open(cfg listen.Config, passed *net.TCPListener, counts *metrics.Listener) error {
	open, err := listen.Open(cfg, passed)
	if err != nil {
		return err
	}
	open.OnShortage(s.Shortage(cfg.Address))
	l := &Listener{Listener: open, Counts: counts, server: s, index: len(s.listeners), accepted: make(chan struct{})}
	if cfg.Type == listen.HTTPS {
		l.tls = new(atomic.Pointer[tls.Config])
	}
	s.listeners = append(s.listeners, l)
	s.goers.Add(1) // the accept loop, which ends before Leave does: counted now, for that may come before it begins
	return nil
}

// Listeners returns those that have been opened, in their order.
func (s *Server) Listeners() []*Listener { return s.listeners }

// UseTLS makes cfg what the https listener speaks TLS with from here on.
func (l *Listener) UseTLS(cfg *tls.Config) { l.tls.Store(cfg) }

// ReplaceTLS is UseTLS where the listener is an https one that speaks TLS with old.
func (l *Listener) ReplaceTLS(old, now *tls.Config) {
	if l.tls != nil {
		l.tls.CompareAndSwap(old, now)
	}
}

// Close closes the listeners of a Server that has not served.
func (s *Server) Close() {
	for _, l := range s.listeners {
		l.Close()
	}
}

// Serve serves clients until Leave, and returns once the last of them has left.
func (s *Server) Serve() {
	for _, l := range s.listeners {
		go s.accept(l) // ends when Leave interrupts the listener
	}
	s.goers.Wait()
}

// Stopping reports whether Leave has been called.
func (s *Server) Stopping() bool { return s.stopping.Load() }

// Shortage returns what logs that connections to address cannot be accepted for now.
func (s *Server) Shortage(address string) func(err error, failed int) {
	return func(err error, failed int) {
		s.log().Error().Err(listen.BareError(err)).Str("listener", address).Int("attempts", failed).
			Msg("connections cannot be accepted for now; they wait")
	}
}

const connShards = 16

// connShard is a part of the connections.
type connShard struct {
	mu    sync.Mutex // guards the following
	conns map[*Conn]struct{}
	_     [48]byte
}

// excessConnections is how many connections above MaxConnections are held at once to be told so on their first
// request; what comes above them is told at once.
const excessConnections = 256

// accept has the engine serve the clients of one listener.
func (s *Server) accept(l *Listener) {
	defer s.goers.Done()
	defer close(l.accepted)
	s.engine[0].Serve(&entrance{l})
}

// entrance is where the engine gets its connections from.
type entrance struct{ *Listener }

// Accept waits for the next client that there is a place for. io.EOF ends the engine's loop.
func (e *entrance) Accept() (net.Conn, error) {
	for {
		conn, err := e.Listener.Accept()
		if err != nil {
			if !e.server.Stopping() {
				e.server.log().Error().Err(err).Str("listener", e.Config().Address).Msg("a listener has failed")
			}
			return nil, io.EOF
		}
		if c := e.server.welcome(e.Listener, conn.(*net.TCPConn)); c != nil {
			return (*gate)(c), nil
		}
	}
}

// welcome takes a connection in; nil says that it has been turned away.
func (s *Server) welcome(l *Listener, tcp *net.TCPConn) *Conn {
	l.Counts.Total.Inc()
	h, c := s.newClient()
	if err := c.open(l, h, tcp); err != nil {
		tcp.Close()
		return nil
	}
	s.goers.Add(1)
	l.Counts.Open.Add(1)
	shard := c.shard()
	shard.mu.Lock()
	shard.conns[c] = struct{}{}
	shard.mu.Unlock()
	if !s.admit(c) {
		h.TurnAway(l.tls == nil) // without a goroutine and without waiting for its request
		s.leave(c)
		return nil
	}
	return c
}

// admit counts a client. It reports false where there is no place even to tell the client that there is none.
func (s *Server) admit(c *Conn) bool {
	if s.admitted.Add(1) <= int64(s.cfg.Load().MaxConnections) {
		return true
	}
	s.admitted.Add(-1)
	c.excess = true
	return s.excess.Add(1) <= excessConnections
}

// leave ends a client's connection.
func (s *Server) leave(c *Conn) {
	defer s.goers.Done()
	c.tcp.Close()
	c.In.Release()
	c.handler.Left()
	shard := c.shard()
	shard.mu.Lock()
	delete(shard.conns, c)
	shard.mu.Unlock()
	c.listener.Counts.Open.Add(-1)
	if c.excess {
		s.excess.Add(-1)
	} else {
		s.admitted.Add(-1)
	}
}

func (c *Conn) shard() *connShard {
	port := c.tcp.RemoteAddr().(*net.TCPAddr).Port
	return &c.server().shards[port%connShards]
}

// Each calls f for the Handler of every connection. Connections come and go only once it has returned.
func (s *Server) Each(f func(Handler)) {
	s.each(func(c *Conn) { f(c.handler) })
}

func (s *Server) each(f func(*Conn)) {
	for i := range s.shards {
		shard := &s.shards[i]
		shard.mu.Lock()
		for c := range shard.conns {
			f(c)
		}
		shard.mu.Unlock()
	}
}
