package policy

import (
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Policy is what one configuration says. It is safe for concurrent use and never changes, but for what it counts; a new
// configuration is a new Policy.
type Policy struct {
	clients   []*Client
	byToken   map[[32]byte]*Client
	hasTokens bool
	everybody *Client // where clients is not set; else nil

	destinations     []*Destination
	destinationHosts hostIndex
	aliases          map[string]*hostIndex // nil: every host
	breaker          *Breaker
	warnings         []*ConfigError
}

// New returns the Policy of cfg, which is validated and copied. Counters and rates of clients of the same name, and
// breakers, go on at now from previous, which may be nil; it stays as it is and may go on to be used. An error is a
// *ConfigError, for the first setting that cannot be used.
func New(cfg Config, previous *Policy, now time.Time) (*Policy, error) {
	p := &Policy{byToken: make(map[[32]byte]*Client)}
	if err := p.readAliases(cfg.Aliases); err != nil {
		return nil, err
	}
	if err := p.readClients(&cfg); err != nil {
		return nil, err
	}
	if err := p.readDestinations(&cfg); err != nil {
		return nil, err
	}
	breaker, err := newBreaker(cfg.Breaker)
	if err != nil {
		return nil, err
	}
	p.breaker = breaker
	if previous != nil {
		p.goOn(previous, now)
	}
	return p, nil
}

// goOn makes p continue what previous counted.
func (p *Policy) goOn(previous *Policy, now time.Time) {
	p.breaker.goOn(previous.breaker)
	if p.everybody != nil && previous.everybody != nil {
		p.everybody.goOn(previous.everybody, now)
		return
	}
	known := make(map[string]*Client, len(previous.clients))
	for _, c := range previous.clients {
		known[c.Name] = c
	}
	for _, c := range p.clients {
		if before := known[c.Name]; before != nil {
			c.goOn(before, now)
		}
	}
}

// HasClients reports whether clients is set. Where not, everybody may send, and a credential means nothing.
func (p *Policy) HasClients() bool { return p.everybody == nil }

// HasTokens reports whether an entry of clients has tokens: then 1016 is 407 (401 for the URL check), else 403.
func (p *Policy) HasTokens() bool { return p.hasTokens }

// Client returns the entry of clients called name; "" is everybody where clients is not set. Nil: there is none.
func (p *Policy) Client(name string) *Client {
	if p.everybody != nil && name == "" {
		return p.everybody
	}
	for _, c := range p.clients {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Clients returns the names of clients, in their order; nil where clients is not set.
func (p *Policy) Clients() []string {
	var names []string
	for _, c := range p.clients {
		names = append(names, c.Name)
	}
	return names
}

// Destinations returns the entries of destinations, in their order; nil where there are none. They must not be changed.
func (p *Policy) Destinations() []*Destination { return p.destinations }

// Anybody returns a Client without rules or limits, to judge as if there were no clients.
func Anybody() *Client {
	return &Client{mode: open, checks: rate.NewLimiter(checksPerSecond, checksPerSecond)}
}

// Breaker returns the breaker of destinations; it is never nil, and does nothing where breaker.failures is 0.
func (p *Policy) Breaker() *Breaker { return p.breaker }

// Warnings returns what is no error and yet no use: entries of destinations to which earlier ones leave nothing.
func (p *Policy) Warnings() []*ConfigError { return p.warnings }

// newCounters gives c what it counts with.
func (c *Client) newCounters(requestsPerSecond *int) {
	c.inFlight = new(atomic.Int64)
	c.checks = rate.NewLimiter(checksPerSecond, checksPerSecond)
	if requestsPerSecond != nil {
		c.requests = rate.NewLimiter(rate.Limit(*requestsPerSecond), *requestsPerSecond)
	}
}
