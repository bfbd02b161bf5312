package metrics

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"whsentry/proxy/reason"
)

// Client counts the requests of one entry of clients, or of those that are nobody's.
type Client struct {
	name      string
	set       *metrics.Set
	requests  [1 + reason.Last - reason.First + 1]atomic.Pointer[metrics.Counter] // none, and each reason
	wouldDeny *metrics.Counter
}

// clients are all that were ever named: counters go on by name when the settings change.
type clients struct {
	set    *metrics.Set
	mu     sync.Mutex // guards the making of byName
	byName atomic.Pointer[map[string]*Client]
}

// NameClients makes the counters of the clients with those names, which are of the settings, besides that of "".
func (m *Metrics) NameClients(names []string) {
	c := &m.clients
	c.mu.Lock()
	defer c.mu.Unlock()
	byName := make(map[string]*Client)
	if old := c.byName.Load(); old != nil {
		maps.Copy(byName, *old)
	}
	for _, name := range append([]string{""}, names...) {
		if byName[name] == nil {
			byName[name] = newClient(c.set, name)
		}
	}
	c.byName.Store(&byName)
}

func newClient(set *metrics.Set, name string) *Client {
	c := &Client{name: name, set: set, wouldDeny: set.GetOrCreateCounter(fmt.Sprintf(`whsentry_would_deny_total{client=%q}`, name))}
	c.counter(reason.None)
	return c
}

// Client returns what counts the requests of the client with that name, ""'s where it has not been named.
func (m *Metrics) Client(name string) *Client {
	byName := *m.clients.byName.Load()
	if c := byName[name]; c != nil {
		return c
	}
	return byName[""]
}

// EachClient calls f for every client, with how many requests it has made and how many of them the proxy answered itself.
func (m *Metrics) EachClient(f func(name string, requests, own uint64)) {
	for name, c := range *m.clients.byName.Load() {
		requests, own := uint64(0), uint64(0)
		for i := range c.requests {
			counter := c.requests[i].Load()
			if counter == nil {
				continue
			}
			requests += counter.Get()
			if i > 0 {
				own += counter.Get()
			}
		}
		f(name, requests, own)
	}
}

// Count counts a request that ended with that code.
func (c *Client) Count(code reason.Code) { c.counter(code).Inc() }

// CountWouldDeny counts a request that its rules would have refused, were they enforced.
func (c *Client) CountWouldDeny() { c.wouldDeny.Inc() }

func (c *Client) counter(code reason.Code) *metrics.Counter {
	index := 0
	if code != reason.None {
		index = int(code-reason.First) + 1
	}
	slot := &c.requests[index]
	counter := slot.Load()
	if counter == nil {
		counter = c.set.GetOrCreateCounter(fmt.Sprintf(`whsentry_client_requests_total{client=%q,reason="%d"}`, c.name, code))
		slot.Store(counter)
	}
	return counter
}

// untidy has what may be untidy about a response that is passed on tidied, in the words of the contract.
var untidy = []string{
	"bare_lf", "folded", "chunked_twice", "length_beside_chunked", "length_repeated", "chunked_in_http10", "identity", "bad_line",
	"blank_lines", "status", "no_close_notify", "trailers",
}

// prepareLimits makes the counters of the limits and of untidy responses, all of them.
func (m *Metrics) prepareLimits() {
	m.limits, m.untidy = make(map[reason.Limit]*metrics.Counter), make(map[string]*metrics.Counter)
	for _, l := range reason.Limits {
		m.limits[l] = m.set.NewCounter(fmt.Sprintf(`whsentry_limit_reached_total{limit=%q}`, l))
	}
	for _, what := range untidy {
		m.untidy[what] = m.set.NewCounter(fmt.Sprintf(`whsentry_untidy_responses_total{what=%q}`, what))
	}
}

// CountLimit counts that a limit was reached; "" is none.
func (m *Metrics) CountLimit(l reason.Limit) {
	if c := m.limits[l]; c != nil {
		c.Inc()
	}
}

// CountUntidy counts a response that was passed on tidied, by what of it was untidy.
func (m *Metrics) CountUntidy(what string) {
	if c := m.untidy[what]; c != nil {
		c.Inc()
	}
}
