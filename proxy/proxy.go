package proxy

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/rs/zerolog"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/policy"
	"whsentry/proxy/accesslog"
	"whsentry/proxy/admin"
	"whsentry/proxy/destination"
	"whsentry/proxy/downstream"
	"whsentry/proxy/listen"
	"whsentry/proxy/metrics"
	"whsentry/proxy/upstream"
)

// Dependencies is what a proxy needs from its surroundings.
type Dependencies struct {
	Guard   *guard.Guard
	Dialer  *guard.Dialer
	CA      *ca.Store
	Log     zerolog.Logger // the application log
	Metrics *metrics.Metrics
	// Policy is who may send where, made of the same settings as Guard and CA; nil: everybody may, without client certificates.
	Policy *policy.Policy
	// Settings lists the configuration of which cfg is the proxy's part, for the status page; nil: it shows none.
	Settings func(cfg Config) []admin.Setting
	// SettingsFile is what cfg was read from, for the status page; "": no file.
	SettingsFile string
	Sockets      *listen.Sockets // to listen on instead of opening new ones; nil: none. New takes them over, also where it fails
}

// Proxy is a running, or a runnable, proxy.
type Proxy struct {
	metrics  *metrics.Metrics
	run      atomic.Pointer[run]
	access   atomic.Pointer[accesslog.Log]
	pool     *upstream.Pool
	clients  *downstream.Server
	buffered downstream.Budget

	admin   *admin.Server // nil: there is none
	adminLn net.Listener  // that it is served on

	sweeps   chan struct{} // closed to end the sweeper
	swept    chan struct{} // closed when it has ended
	interval atomic.Int64  // the sweeper's
	row      atomic.Int32  // connections that are about to be made in a row
	issuers  atomic.Uint32 // counts the CAs of interceptions
}

// run is what requests are served by; a reload replaces it whole, and a request keeps the one that it began with.
type run struct {
	cfg          *Config
	guard        *guard.Guard
	dialer       *guard.Dialer
	ca           *ca.Store
	log          zerolog.Logger
	settings     func(Config) []admin.Setting
	settingsFile string
	idHeader     string // lower-cased

	policy       *policy.Policy
	destinations *destination.Table
}

// counters are what the pool counts with.
func counters(m *metrics.Metrics) upstream.Counters {
	c := upstream.Counters{Busy: &m.BusyUpstreams, Idle: &m.IdleUpstreams, Opened: m.UpstreamsOpened}
	var names [upstream.CloseReasons]string
	for why := range names {
		names[why] = upstream.CloseReason(why).String()
	}
	m.NameCloses(names[:])
	for why := upstream.CloseNone + 1; why < upstream.CloseReasons; why++ {
		c.Closed[why] = m.Closed(int(why))
	}
	return c
}

// New opens every listener and log that cfg names. Nothing is accepted before Serve.
func New(cfg Config, deps Dependencies) (*Proxy, error) {
	defer deps.Sockets.Close()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Proxy{metrics: deps.Metrics, pool: upstream.NewPool(counters(deps.Metrics)), sweeps: make(chan struct{}), swept: make(chan struct{})}
	p.clients = downstream.New(p.newClient, p.log)
	p.buffered.CountIn(&deps.Metrics.BufferedBytes)
	first, err := newRun(cfg, deps)
	if err != nil {
		return nil, err
	}
	p.install(first)
	if err := p.openAll(cfg, deps); err != nil {
		p.closeListeners()
		return nil, err
	}
	p.protect(deps.Guard)
	access, err := accesslog.Open(cfg.AccessLog, p.logFailed, p.logWorks)
	if err != nil {
		p.closeListeners()
		return nil, err
	}
	p.access.Store(access)
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
		if err := p.clients.Open(lc, deps.Sockets.Take(key), p.metrics.Listener(lc.Address)); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if certificates[i] != nil {
			p.clients.Listeners()[i].UseTLS(certificates[i])
		}
	}
	if cfg.Metrics.Address == "" {
		return nil
	}
	if p.adminLn, err = listen.Plain(cfg.Metrics.Address, deps.Sockets.Take(metricsKey)); err != nil {
		return fmt.Errorf("%s: %w", metricsKey, err)
	}
	p.admin = admin.New(p.source())
	return nil
}

// source is what the status page shows of the proxy.
func (p *Proxy) source() admin.Source {
	return admin.Source{
		Metrics: p.metrics, Stopping: p.clients.Stopping, State: p.state,
		Failed: func(err error) { p.log().Error().Err(err).Msg("a bug keeps the status page from being shown") },
	}
}

func (p *Proxy) state() admin.State {
	run := p.run.Load()
	s := admin.State{
		Hosts: run.cfg.Metrics.Hosts, SettingsFile: run.settingsFile, MaxConnections: run.cfg.MaxConnections,
		MaxBufferedBytes: run.cfg.MaxBufferedBytes, Guard: run.guard, CA: run.ca, Breakers: run.policy.Breaker().Open,
	}
	for i, l := range p.clients.Listeners() {
		s.Listeners = append(s.Listeners, admin.Listener{Name: run.cfg.Listeners[i].Type + " " + l.Addr().String(), Counts: l.Counts})
	}
	if run.settings != nil {
		s.Settings = func() []admin.Setting { return run.settings(*run.cfg) }
	}
	return s
}

func (p *Proxy) closeListeners() {
	p.clients.Close()
	if p.admin != nil {
		p.adminLn.Close()
	}
}

func (p *Proxy) newClient() (downstream.Handler, *downstream.Conn) {
	c := &client{proxy: p}
	return c, &c.Conn
}

func (p *Proxy) log() *zerolog.Logger { return &p.run.Load().log }

// logFailed reports that the access log cannot be written: every time in the metrics, and once in the log.
func (p *Proxy) logFailed(err error) {
	p.metrics.LogErrors.Inc()
	var failed *accesslog.WriteError
	if errors.As(err, &failed) && failed.News {
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
	for _, l := range p.clients.Listeners() {
		addrs = append(addrs, l.Addr())
	}
	return addrs
}

// MetricsAddr returns the address of metrics and health, or nil where they are off.
func (p *Proxy) MetricsAddr() net.Addr {
	if p.admin == nil {
		return nil
	}
	return p.adminLn.Addr()
}

// Serve serves clients until Shutdown, and returns once the last of them has left.
func (p *Proxy) Serve() error {
	go p.sweep() // ended, and awaited, by Shutdown
	if p.admin != nil {
		ln := listen.Patient(p.adminLn, p.clients.Shortage(p.run.Load().cfg.Metrics.Address))
		go p.admin.Serve(ln) // likewise
	}
	p.clients.Serve()
	return nil
}
