package destination

import (
	"fmt"
	"time"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/policy"
	"whsentry/proxy/reason"
	"whsentry/proxy/upstream"
)

// Limits are those of destinations whose entry does not say otherwise, or which have none.
type Limits struct {
	// ConnectTimeout (connectTimeout) bounds resolving and connecting, over all addresses together; a TLS
	// handshake has as long again. Above 0.
	ConnectTimeout time.Duration
	// ConnectionLifetime (connectionLifetime) is the age at which a connection to a destination is closed,
	// whatever it is doing. Above 0.
	ConnectionLifetime time.Duration
	// ReadTimeout (readTimeout) is how long a connection to a destination may carry no byte. Above 0.
	ReadTimeout time.Duration
	// MaxResponseBodySize (maxResponseBodySize) in bytes; 0 allows only empty bodies.
	MaxResponseBodySize int64
	// MaxConnectionsPerDestination (maxConnectionsPerDestination) is the most connections in use to one host
	// and port at once, tunnels included. Above 0.
	MaxConnectionsPerDestination int
}

// DefaultLimits returns the defaults of these keys.
func DefaultLimits() Limits {
	return Limits{
		ConnectTimeout:               10 * time.Second,
		ConnectionLifetime:           60 * time.Second,
		ReadTimeout:                  10 * time.Second,
		MaxResponseBodySize:          1 << 20,
		MaxConnectionsPerDestination: 256,
	}
}

// Terms are how a destination is connected to: what its entry of destinations says, and where that is silent, or there
// is none, the global settings.
type Terms struct {
	Entry               *policy.Destination // nil: none
	ID                  uint64              // of the entry; 0: there is none
	Rules               *ca.Rules           // nil: none
	ConnectTimeout      time.Duration
	Connection          upstream.Limits
	MaxConnections      int
	MaxResponseBodySize int64
	Keys                LimitKeys

	allow  *guard.AllowList // the entry's; nil: none
	egress *guard.Egress    // the entry's source addresses; nil: those of egress.addresses
}

// LimitKeys are the settings that the limits of Terms come from.
type LimitKeys struct {
	ConnectTimeout, ReadTimeout, Lifetime, MaxConnections, MaxResponseBodySize reason.Limit
}

// Table has the terms of every destination, and what the guard lets through on them and for a client.
type Table struct {
	policy  *policy.Policy
	global  Terms
	entries []Terms                             // of destinations, in their order
	allows  map[*policy.Client]*guard.AllowList // of the clients that have one
}

// NewTable makes of the rules in p what a guard and certificates that were made of the same settings have to do with them.
// An error begins with the key of the setting.
func NewTable(l Limits, p *policy.Policy, g *guard.Guard, store *ca.Store) (*Table, error) {
	t := &Table{policy: p, global: globalTerms(l), allows: make(map[*policy.Client]*guard.AllowList)}
	for _, d := range p.Destinations() {
		terms, err := entryTerms(l, d, g, store)
		if err != nil {
			return nil, err
		}
		t.entries = append(t.entries, terms)
	}
	for _, name := range p.Clients() {
		c := p.Client(name)
		allow, err := guard.NewAllowList("cidrAllowList of client "+name, c.AllowList)
		if err != nil {
			return nil, err
		}
		if allow != nil {
			t.allows[c] = allow
		}
	}
	return t, nil
}

// Terms returns those that apply to a host and port.
func (t *Table) Terms(h policy.Host, port uint16) *Terms {
	if d := t.policy.Destination(h, port); d != nil {
		return &t.entries[d.Index]
	}
	return &t.global
}

// Exceptions are what the guard lets through for c, which may be nil, on those terms.
func (t *Table) Exceptions(c *policy.Client, on *Terms) guard.Exceptions {
	return guard.Exceptions{Client: t.allows[c], Entry: on.allow, Egress: on.egress}
}

// Durations are the limits in time of all terms: how often these have to be looked at depends on the shortest.
func (t *Table) Durations() []time.Duration {
	var all []time.Duration
	add := func(on *Terms) {
		all = append(all, on.ConnectTimeout, on.Connection.Idle, on.Connection.Lifetime)
	}
	add(&t.global)
	for i := range t.entries {
		add(&t.entries[i])
	}
	return all
}

// globalTerms are those of destinations without an entry.
func globalTerms(l Limits) Terms {
	return Terms{
		ConnectTimeout: l.ConnectTimeout,
		Connection:     upstream.Limits{Lifetime: l.ConnectionLifetime, Idle: l.ReadTimeout},
		MaxConnections: l.MaxConnectionsPerDestination, MaxResponseBodySize: l.MaxResponseBodySize,
		Keys: LimitKeys{reason.LimitConnectTimeout, reason.LimitReadTimeout, reason.LimitConnectionLifetime,
			reason.LimitMaxConnectionsPerDestination, reason.LimitMaxResponseBodySize},
	}
}

// entryTerms are those of the destinations that d is for.
func entryTerms(l Limits, d *policy.Destination, g *guard.Guard, store *ca.Store) (Terms, error) {
	t := globalTerms(l)
	t.Entry, t.ID, t.Rules = d, d.ID, store.Rules(d.Index)
	key := fmt.Sprintf("destinations[%d]", d.Index)
	var err error
	if t.allow, err = guard.NewAllowList(key+".cidrAllowList", d.AllowList); err != nil {
		return t, err
	}
	if t.egress, err = g.Egress(d.Egress); err != nil {
		return t, fmt.Errorf("%s.%w", key, err)
	}
	override(&t.ConnectTimeout, &t.Keys.ConnectTimeout, d.ConnectTimeout, reason.LimitDestinationsConnectTimeout)
	override(&t.Connection.Idle, &t.Keys.ReadTimeout, d.ReadTimeout, reason.LimitDestinationsReadTimeout)
	override(&t.Connection.Lifetime, &t.Keys.Lifetime, d.ConnectionLifetime, reason.LimitDestinationsLifetime)
	override(&t.MaxConnections, &t.Keys.MaxConnections, d.MaxConnections, reason.LimitDestinationsMaxConnections)
	override(&t.MaxResponseBodySize, &t.Keys.MaxResponseBodySize, d.MaxResponseBodySize, reason.LimitDestinationsMaxResponseBodySize)
	return t, nil
}

// override puts an entry's limit in place of the global one; 0 is none.
func override[T int | int64 | time.Duration](limit *T, key *reason.Limit, own T, ownKey reason.Limit) {
	if own > 0 {
		*limit, *key = own, ownKey
	}
}
