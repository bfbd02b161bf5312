package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/proxy/listen"
	"whsentry/proxy/upstream"
)

// Dependencies is what a proxy needs from its surroundings.
type Dependencies struct {
	Guard   *guard.Guard
	Dialer  *guard.Dialer
	CA      *ca.Store
	Log     zerolog.Logger // the application log
	Metrics *Metrics
	// Settings lists the configuration of which cfg is the proxy's part, for the status page; nil: it shows none.
	Settings func(cfg Config) []Setting
	Sockets  *listen.Sockets // to listen on instead of opening new ones; nil: none. New takes them over, also where it fails
}

// Proxy is a running, or a runnable, proxy.
type Proxy struct {
	metrics  *Metrics
	run      atomic.Pointer[run]
	access   atomic.Pointer[accessLog]
	pool     *upstream.Pool
	buffered budget

	listeners []*listener
	admin     *admin

	stopping atomic.Bool // answers end their connections
	closing  atomic.Bool // there is no waiting for another request
	clients  [clientShards]clientShard
	admitted atomic.Int64   // clients within maxConnections, over all listeners
	excess   atomic.Int64   // clients above it
	shed     int            // goroutines replaced since memory was last returned; the sweeper's own
	goers    sync.WaitGroup // accept loops and clients
	sweeps   chan struct{}  // closed to end the sweeper
	swept    chan struct{}  // closed when it has ended
	interval atomic.Int64   // the sweeper's
}

// run is what requests are served by; a reload replaces it whole, and a request keeps the one that it began with.
type run struct {
	cfg      *Config
	guard    *guard.Guard
	dialer   *guard.Dialer
	ca       *ca.Store
	log      zerolog.Logger
	settings func(Config) []Setting
	limits   upstream.Limits
	idHeader string // lower-cased
}

// listener is one endpoint that clients connect to.
type listener struct {
	*listen.Listener
	metrics  *listenerMetrics
	tls      *atomic.Pointer[tls.Config] // nil: plain
	accepted chan struct{}               // closed when the accept loop has ended
}

// openListener opens cfg's address, unless a socket for it has been passed; an https listener gets its certificates by
// loadListeners.
func openListener(cfg listen.Config, passed *net.TCPListener, m *Metrics) (*listener, error) {
	open, err := listen.Open(cfg, passed)
	if err != nil {
		return nil, err
	}
	l := &listener{Listener: open, metrics: m.listener(cfg.Address), accepted: make(chan struct{})}
	if cfg.Type == listen.HTTPS {
		l.tls = new(atomic.Pointer[tls.Config])
	}
	return l, nil
}

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

// New opens every listener and log that cfg names. Nothing is accepted before Serve.
func New(cfg Config, deps Dependencies) (*Proxy, error) {
	defer deps.Sockets.Close()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Proxy{metrics: deps.Metrics, pool: upstream.NewPool(deps.Metrics.pool()), sweeps: make(chan struct{}), swept: make(chan struct{})}
	p.buffered.used = &deps.Metrics.bufferedBytes
	for i := range p.clients {
		p.clients[i].clients = make(map[*client]struct{})
	}
	p.install(cfg, deps)
	if err := p.openAll(cfg, deps); err != nil {
		p.closeListeners()
		return nil, err
	}
	access, err := newAccessLog(cfg.AccessLog, p.logFailed, p.logWorks)
	if err != nil {
		p.closeListeners()
		return nil, fmt.Errorf("accessLog.file: open the access log: %w", err)
	}
	p.access.Store(access)
	p.goers.Add(len(p.listeners)) // Serve's accept loops; counted now, for Shutdown may come before they begin
	return p, nil
}

func (p *Proxy) openAll(cfg Config, deps Dependencies) error {
	certificates, err := p.loadListeners(cfg, deps.CA)
	if err != nil {
		return err
	}
	endpoints := cfg.endpoints()
	if err := deps.Sockets.Match(endpoints); err != nil {
		return err
	}
	for i, lc := range cfg.Listeners {
		key := endpoints[i].Key
		l, err := openListener(lc, deps.Sockets.Take(key), p.metrics)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		p.listeners = append(p.listeners, l)
		if l.tls != nil {
			l.tls.Store(certificates[i])
		}
	}
	if cfg.MetricsAddress == "" {
		return nil
	}
	p.admin, err = newAdmin(cfg.MetricsAddress, deps.Sockets.Take(metricsKey), p)
	return err
}

func (p *Proxy) closeListeners() {
	for _, l := range p.listeners {
		l.Close()
	}
	if p.admin != nil {
		p.admin.listener.Close()
	}
}

func (p *Proxy) log() *zerolog.Logger { return &p.run.Load().log }

// logFailed reports that the access log cannot be written: every time in the metrics, and once in the log.
func (p *Proxy) logFailed(err error) {
	p.metrics.logErrors.Inc()
	var failed *logError
	if errors.As(err, &failed) && failed.news {
		p.log().Error().Err(err).Msg("the access log cannot be written; its lines are kept and tried again")
	}
}

// logWorks reports that the access log can be written again.
func (p *Proxy) logWorks(lost int) {
	p.log().Warn().Int("lost_lines", lost).Msg("the access log can be written again")
}

// Addrs returns the addresses that the proxy listens on, in the order of the configuration.
func (p *Proxy) Addrs() []net.Addr {
	var addrs []net.Addr
	for _, l := range p.listeners {
		addrs = append(addrs, l.Addr())
	}
	return addrs
}

// MetricsAddr returns the address of metrics and health, or nil where they are off.
func (p *Proxy) MetricsAddr() net.Addr {
	if p.admin == nil {
		return nil
	}
	return p.admin.listener.Addr()
}

// Serve serves clients until Shutdown, and returns once the last of them has left.
func (p *Proxy) Serve() error {
	go p.sweep() // ended, and awaited, by Shutdown
	if p.admin != nil {
		go p.admin.serve(p.shortage(p.run.Load().cfg.MetricsAddress)) // likewise
	}
	for _, l := range p.listeners {
		go p.accept(l) // ends when Shutdown closes the listener
	}
	p.goers.Wait()
	return nil
}

// accept takes the connections of one listener.
func (p *Proxy) accept(l *listener) {
	defer p.goers.Done()
	defer close(l.accepted)
	l.OnShortage(p.shortage(l.Config().Address))
	for {
		conn, err := l.Accept()
		if err != nil {
			if err != io.EOF {
				p.log().Error().Err(err).Str("listener", l.Config().Address).Msg("a listener has failed")
			}
			return
		}
		p.welcome(l, conn.(*net.TCPConn))
	}
}

// shortage returns what logs that connections to address cannot be accepted for now.
func (p *Proxy) shortage(address string) func(err error, failed int) {
	return func(err error, failed int) {
		p.log().Error().Err(listen.BareError(err)).Str("listener", address).Int("attempts", failed).
			Msg("connections cannot be accepted for now; they wait")
	}
}

// welcome starts the goroutine of a client's connection.
func (p *Proxy) welcome(l *listener, tcp *net.TCPConn) {
	l.metrics.total.Inc()
	c, err := newClient(p, l, tcp)
	if err != nil {
		tcp.Close()
		return
	}
	l.metrics.open.Add(1)
	s := c.shard()
	s.mu.Lock()
	s.clients[c] = struct{}{}
	s.mu.Unlock()
	if !p.admit(c) {
		p.turnAway(c)
		return
	}
	p.start(c)
}

// start starts a goroutine of a client's connection.
func (p *Proxy) start(c *client) {
	p.goers.Add(1)
	go func() {
		defer p.goers.Done()
		c.serve()
	}()
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
	if c.listener.tls == nil {
		answer, _ := appendAnswer(nil, c.overloaded(), time.Now(), "", "close")
		c.tcp.SetWriteDeadline(time.Now().Add(time.Second))
		c.tcp.Write(answer)
	}
	p.leave(c)
}

// leave ends a client's connection.
func (p *Proxy) leave(c *client) {
	c.tcp.Close()
	c.dropExchange()
	s := c.shard()
	s.mu.Lock()
	delete(s.clients, c)
	s.mu.Unlock()
	c.listener.metrics.open.Add(-1)
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
