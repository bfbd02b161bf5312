package admin

import (
	"whsentry/ca"
	"whsentry/guard"
	"whsentry/policy"
	"whsentry/proxy/metrics"
)

// Config is where metrics, health and the status page are served.
type Config struct {
	Address string // (metrics.address) host:port; "" is nowhere
	// Hosts (metrics.hosts) are names that the status page is shown to beside those that no stranger can own; in lower
	// case, without a final dot.
	Hosts []string
}

// Source is what there is to show. Its functions may be called at any time, by many at once.
type Source struct {
	Metrics  *metrics.Metrics
	Stopping func() bool // whether the proxy takes no more clients
	State    func() State
	Failed   func(error) // is told of a bug that keeps the status page from being shown
}

// State is what the status page shows beside the metrics.
type State struct {
	Hosts            []string // Config.Hosts
	MaxConnections   int
	MaxBufferedBytes int64
	Listeners        []Listener
	Guard            *guard.Guard
	CA               *ca.Store
	Settings         func() []Setting // the configuration in force; nil: it is not shown
	SettingsFile     string           // that it was read from; "": none was
	// Breakers returns up to n destinations whose breaker is open, those with the most failures first; nil: there are none.
	Breakers func(n int) []policy.OpenDestination
}

// Listener is one endpoint that clients connect to.
type Listener struct {
	Name   string // its type and address
	Counts *metrics.Listener
}
