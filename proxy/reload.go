package proxy

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/policy"
	"whsentry/proxy/destination"
	"whsentry/proxy/downstream"
	"whsentry/proxy/listen"
)

// Reload replaces the configuration, the guard and the certificates, and opens the access log anew. Requests in
// flight end under what they began with. Where it fails everything stays as it was.
func (p *Proxy) Reload(cfg Config, deps Dependencies) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	old := p.run.Load()
	cfg.Listeners, cfg.Metrics.Address = listen.Keep(old.cfg.Listeners, cfg.Listeners), old.cfg.Metrics.Address
	cfg.AccessLog.Type = old.cfg.AccessLog.Type
	certificates, err := p.loadListeners(cfg, deps.CA)
	if err != nil {
		return err
	}
	next, err := newRun(cfg, deps)
	if err != nil {
		return err
	}
	if err := p.access.Load().Reopen(cfg.AccessLog.File); err != nil {
		return err
	}
	for i, c := range certificates {
		if c != nil {
			p.clients.Listeners()[i].UseTLS(c)
		}
	}
	p.protect(deps.Guard)
	p.install(next)
	p.pool.Retire()
	if !deps.CA.SharesIssuer(old.ca) {
		p.RetireInterceptions()
	}
	p.recheckTunnels()
	p.metrics.ReloadsOK.Inc()
	return nil
}

// newRun makes of cfg and deps what requests are served by.
func newRun(cfg Config, deps Dependencies) (*run, error) {
	r := &run{
		cfg: &cfg, guard: deps.Guard, dialer: deps.Dialer, ca: deps.CA, log: deps.Log, settings: deps.Settings, policy: deps.Policy,
		settingsFile: deps.SettingsFile,
		idHeader:     strings.ToLower(cfg.RequestIDHeader),
	}
	if r.policy == nil {
		var err error
		if r.policy, err = policy.New(policy.Config{}, nil, time.Now()); err != nil {
			return nil, err
		}
	}
	var err error
	r.destinations, err = destination.NewTable(cfg.Limits, r.policy, r.guard, r.ca)
	return r, err
}

// install makes r what the next requests are served by.
func (p *Proxy) install(r *run) {
	p.run.Store(r)
	p.clients.Use(r.downstreamConfig())
	p.buffered.SetLimit(r.cfg.MaxBufferedBytes)
	p.interval.Store(int64(sweepInterval(append(r.destinations.Durations(), r.cfg.ClientTimeout, r.cfg.ClientIdleTimeout)...)))
	p.metrics.CountRules(r.guard)
	p.metrics.UseStore(r.ca)
	p.metrics.NameClients(r.policy.Clients())
	p.metrics.UseBreakers(r.policy.Breaker().OpenCount)
}

// downstreamConfig is what clients are accepted by. Whoever is not known as one that may send is not given a place for long.
func (r *run) downstreamConfig() downstream.Config {
	c := downstream.Config{
		Listeners: r.cfg.Listeners, ClientTimeout: r.cfg.ClientTimeout, IdleTimeout: r.cfg.ClientIdleTimeout, StrangerIdleTimeout: r.cfg.ClientIdleTimeout,
		MaxHeaderSize: r.cfg.MaxHeaderSize, MaxConnections: r.cfg.MaxConnections,
	}
	if r.policy.HasClients() {
		c.StrangerIdleTimeout = min(c.ClientTimeout, c.IdleTimeout)
	}
	return c
}

// protect tells a guard where the proxy itself listens.
func (p *Proxy) protect(g *guard.Guard) {
	own := p.Addrs()
	if a := p.MetricsAddr(); a != nil {
		own = append(own, a)
	}
	var addrs []netip.AddrPort
	for _, a := range own {
		addrs = append(addrs, a.(*net.TCPAddr).AddrPort())
	}
	g.Protect(addrs)
}

// loadListeners loads the certificates of the https listeners; a plain one's place is nil.
func (p *Proxy) loadListeners(cfg Config, store *ca.Store) ([]*tls.Config, error) {
	certificates := make([]*tls.Config, len(cfg.Listeners))
	for i, l := range cfg.Listeners {
		if l.Type != listen.HTTPS {
			continue
		}
		c, err := store.ServerConfig(l.CertFile, l.KeyFile, l.ClientCAFile)
		if err != nil {
			return nil, fmt.Errorf("listeners[%d].%w", i, err)
		}
		certificates[i] = c
	}
	return certificates, nil
}

// ReloadFailed counts a reload that failed, and opens the access log anew even so: whoever has moved it away to
// rotate it must get a new one, whatever is wrong with the settings.
func (p *Proxy) ReloadFailed() {
	p.metrics.ReloadsFailed.Inc()
	if err := p.access.Load().Reopen(p.run.Load().cfg.AccessLog.File); err != nil {
		p.log().Error().Err(err).Msg("the access log cannot be opened anew; the old file stays in use")
	}
}

// Retire keeps every connection to a destination that there is from being used again, for what it was verified by
// has changed.
func (p *Proxy) Retire() { p.pool.Retire() }

// sweepInterval is how often limits in time are looked at: so often that none is overrun by more than about a
// tenth, and not so often that looking costs anything.
func sweepInterval(limits ...time.Duration) time.Duration {
	interval := 250 * time.Millisecond
	for _, l := range limits {
		interval = min(interval, l/10)
	}
	return max(interval, 5*time.Millisecond)
}
