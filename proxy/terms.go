package proxy

import (
	"fmt"
	"time"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/policy"
	"whsentry/proxy/reason"
	"whsentry/proxy/upstream"
)

// terms are how a destination is connected to: what its entry of destinations says, and where that is silent, or there
// is none, the global settings.
type terms struct {
	entry *policy.Destination // nil: none
	id    uint64              // of the entry; 0: there is none
	allow *guard.AllowList
	// egress are the entry's source addresses; nil: those of egress.addresses.
	egress              *guard.Egress
	rules               *ca.Rules // nil: none
	connectTimeout      time.Duration
	limits              upstream.Limits
	maxConnections      int
	maxResponseBodySize int64
	keys                limitKeys
}

// limitKeys are the settings that the limits of terms come from.
type limitKeys struct {
	connectTimeout, readTimeout, lifetime, maxConnections, maxResponseBodySize reason.Limit
}

// globalTerms are those of destinations without an entry.
func globalTerms(cfg *Config) terms {
	return terms{
		connectTimeout: cfg.ConnectTimeout,
		limits:         upstream.Limits{Lifetime: cfg.ConnectionLifetime, Idle: cfg.ReadTimeout},
		maxConnections: cfg.MaxConnectionsPerDestination, maxResponseBodySize: cfg.MaxResponseBodySize,
		keys: limitKeys{reason.LimitConnectTimeout, reason.LimitReadTimeout, reason.LimitConnectionLifetime,
			reason.LimitMaxConnectionsPerDestination, reason.LimitMaxResponseBodySize},
	}
}

// entryTerms are those of the destinations that d is for.
func entryTerms(cfg *Config, d *policy.Destination, g *guard.Guard, store *ca.Store) (terms, error) {
	t := globalTerms(cfg)
	t.entry, t.id, t.rules = d, d.ID, store.Rules(d.Index)
	key := fmt.Sprintf("destinations[%d]", d.Index)
	var err error
	if t.allow, err = guard.NewAllowList(key+".cidrAllowList", d.AllowList); err != nil {
		return t, err
	}
	if t.egress, err = g.Egress(d.Egress); err != nil {
		return t, fmt.Errorf("%s.%w", key, err)
	}
	override(&t.connectTimeout, &t.keys.connectTimeout, d.ConnectTimeout, reason.LimitDestinationsConnectTimeout)
	override(&t.limits.Idle, &t.keys.readTimeout, d.ReadTimeout, reason.LimitDestinationsReadTimeout)
	override(&t.limits.Lifetime, &t.keys.lifetime, d.ConnectionLifetime, reason.LimitDestinationsLifetime)
	override(&t.maxConnections, &t.keys.maxConnections, d.MaxConnections, reason.LimitDestinationsMaxConnections)
	override(&t.maxResponseBodySize, &t.keys.maxResponseBodySize, d.MaxResponseBodySize, reason.LimitDestinationsMaxResponseBodySize)
	return t, nil
}

// override puts an entry's limit in place of the global one; 0 is none.
func override[T int | int64 | time.Duration](limit *T, key *reason.Limit, own T, ownKey reason.Limit) {
	if own > 0 {
		*limit, *key = own, ownKey
	}
}

// useRules makes of the run's policy what its guard and its certificates have to do with it.
func (r *run) useRules() error {
	r.global = globalTerms(r.cfg)
	for _, d := range r.policy.Destinations() {
		t, err := entryTerms(r.cfg, d, r.guard, r.ca)
		if err != nil {
			return err
		}
		r.entries = append(r.entries, t)
	}
	r.allows = make(map[*policy.Client]*guard.AllowList)
	for _, name := range r.policy.Clients() {
		c := r.policy.Client(name)
		allow, err := guard.NewAllowList("cidrAllowList of client "+name, c.AllowList)
		if err != nil {
			return err
		}
		if allow != nil {
			r.allows[c] = allow
		}
	}
	return nil
}

// terms returns those that apply to a host and port.
func (r *run) terms(h policy.Host, port uint16) *terms {
	if d := r.policy.Destination(h, port); d != nil {
		return &r.entries[d.Index]
	}
	return &r.global
}

// exceptions are what the guard lets through for c, which may be nil, on terms t.
func (r *run) exceptions(c *policy.Client, t *terms) guard.Exceptions {
	return guard.Exceptions{Client: r.allows[c], Entry: t.allow, Egress: t.egress}
}

// intervalLimits are the limits in time that the sweeper enforces.
func (r *run) intervalLimits() []time.Duration {
	limits := []time.Duration{r.cfg.ClientTimeout, r.cfg.ClientIdleTimeout, r.cfg.ConnectTimeout, r.cfg.ReadTimeout, r.cfg.ConnectionLifetime}
	for i := range r.entries {
		limits = append(limits, r.entries[i].connectTimeout, r.entries[i].limits.Idle, r.entries[i].limits.Lifetime)
	}
	return limits
}
