package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"
)

// scenario is one question that the suite asks of every proxy.
type scenario struct {
	id      string
	title   string
	about   string // what is done, in a sentence or two
	needs   []need // what a proxy has to be able to do
	main    figure // the figure that it asks for
	chart   chartKind
	targets []target // what whsentry must reach
	tls     bool     // the proxy originates TLS
	full    bool     // the proxy has everything on that it has; those to which that means nothing are as always
	once    bool     // one round suffices, for what it measures does not vary
	measure func(ctx context.Context, t *trial) error
}

// chartKind is how a scenario is drawn.
type chartKind int

const (
	chartBars  chartKind = iota // the main figure, a bar a proxy
	chartCurve                  // throughput against connections
)

const (
	webhookSize     = 1 << 10 // of a request's body, bytes
	webhookClients  = 64      // connections of a closed loop
	openRateClients = 64      // connections of an open loop
)

// body is what is sent in a POST.
var body = bytes.Repeat([]byte("x"), webhookSize)

// post is a load of webhooks to urls.
func post(connections int, urls ...string) load {
	return load{method: "POST", body: body, connections: connections, targets: urls}
}

// get is a load of requests for urls.
func get(connections int, urls ...string) load {
	return load{method: "GET", connections: connections, targets: urls}
}

// at returns the URL of path on port of the origins.
func at(port int, path string) string { return fmt.Sprintf("http://127.0.0.1:%d%s", port, path) }

// of says what is counted.
func (s *scenario) of() string {
	if s.id == "connect-open" {
		return "tunnel"
	}
	return "request"
}

// scenarios returns all scenarios in the order in which they run.
func scenarios() []*scenario {
	return slices.Concat(requestScenarios(), connectionScenarios(), manyScenarios(), tunnelScenarios(), latencyScenarios(), memoryScenarios())
}

// requestScenarios are about the cost of one request on connections that are kept.
func requestScenarios() []*scenario {
	requests := []need{needRequests}
	webhooks := requestsOf(func(o *origins) load { return post(webhookClients, at(o.plain, "/ok")) })
	return []*scenario{{
		id: "post", title: "POST of 1 KiB, kept alive", needs: requests, main: cpuPerRequest,
		about: "64 clients send webhooks of 1 KiB one after another over plain HTTP; connections are kept on both sides.",
		targets: []target{
			{figure: cpuPerRequest, most: 0.90, peer: "haproxy"}, {figure: p99, most: 1.2, peer: "haproxy"}, {figure: allocations, most: 0},
		},
		measure: webhooks,
	}, {
		id: "everything", title: "POST of 1 KiB, everything on", needs: requests, full: true, main: cpuPerRequest,
		about:   "Clients by token, 10,000 host rules, rules for destinations and the breaker; the other proxies are as in the first row.",
		targets: []target{{figure: cpuPerRequest, most: 0.98, peer: "haproxy"}, {figure: allocations, most: 0}},
		measure: webhooks,
	}, {
		id: "post-tls", title: "POST of 1 KiB, TLS to the destination", needs: append(requests, needTLS), tls: true, main: cpuPerRequest,
		about:   "As the first row, with TLS from the proxy to the destination.",
		targets: []target{{figure: cpuPerRequest, most: 0.80, peer: "haproxy"}},
		measure: requestsOf(func(o *origins) load { return post(webhookClients, at(o.tls, "/ok")) }),
	}, {
		id: "response-32k", title: "32 KiB response", needs: requests, main: cpuPerRequest,
		about:   "64 clients fetch answers of 32 KiB.",
		targets: []target{{figure: cpuPerRequest, most: 0.75, peer: "haproxy"}},
		measure: requestsOf(func(o *origins) load { return get(webhookClients, at(o.plain, "/size/32768")) }),
	}, {
		id: "response-1m", title: "1 MiB response", needs: requests, main: cpuPerRequest,
		about:   "16 clients fetch answers of 1 MiB.",
		measure: requestsOf(func(o *origins) load { return get(16, at(o.plain, "/size/1048576")) }),
	}}
}

// connectionScenarios are about the cost of a new connection for each request.
func connectionScenarios() []*scenario {
	return []*scenario{{
		id: "lone", title: "A client connection for each request", needs: []need{needRequests}, main: cpuPerRequest,
		about:   "32 clients open a connection for each webhook and say Connection: close; those to the destination are kept.",
		targets: []target{{figure: cpuPerRequest, most: 1.0, peer: "haproxy"}},
		measure: requestsOf(func(o *origins) load {
			l := post(32, at(o.plain, "/ok"))
			l.lone = true
			return l
		}),
	}, {
		id: "close", title: "A destination connection for each request", needs: []need{needRequests}, main: cpuPerRequest,
		about:   "The destination closes its connection after each answer, plain HTTP.",
		targets: []target{{figure: cpuPerRequest, most: 1.05, peer: "haproxy"}},
		measure: requestsOf(func(o *origins) load { return post(32, at(o.plain, "/close")) }),
	}, {
		id: "close-tls", title: "A destination connection for each request, TLS, resumed", needs: []need{needRequests, needTLS}, tls: true, main: cpuPerRequest,
		about:   "The same over TLS; the destination gives session tickets, so that handshakes can be resumed ones.",
		targets: []target{{figure: cpuPerRequest, most: 0.50, peer: "haproxy"}},
		measure: requestsOf(func(o *origins) load { return post(32, at(o.tls, "/close")) }),
	}, {
		id: "close-tls-full", title: "A destination connection for each request, TLS, full handshake", needs: []need{needRequests, needTLS}, tls: true, main: cpuPerRequest,
		about:   "The same with a destination that gives no session tickets.",
		targets: []target{{figure: cpuPerRequest, most: 0.85, peer: "haproxy"}},
		measure: requestsOf(func(o *origins) load { return post(32, at(o.tlsFull, "/close")) }),
	}}
}

// manyScenarios are about many destinations.
func manyScenarios() []*scenario {
	many := []need{needRequests, needKeep, needMany}
	return []*scenario{{
		id: "destinations-1000", title: "1,000 destinations in turn", needs: many, main: cpuPerRequest,
		about:   "32 clients send webhooks of 1 KiB to 1,000 destinations in turn; connections are kept on both sides.",
		targets: []target{{figure: cpuPerRequest, most: 1.2, scenario: "post"}},
		measure: requestsOf(func(o *origins) load { return post(32, destinationURLs(o.plain, "/ok", 1000)...) }),
	}, {
		id: "first-1000", title: "The first request to 1,000 destinations", needs: []need{needRequests}, main: p99,
		about:   "16 clients that the proxy knows send one webhook of 1 KiB to each of 1,000 destinations that it does not.",
		targets: []target{{figure: p99, most: 1.5, peer: "haproxy"}},
		measure: measureFirst,
	}, {
		id: "destinations-20000", title: "20,000 destinations, a kept connection each", needs: many, main: growth, once: true,
		about:   "One webhook to each of 20,000 destinations, after which the proxy keeps a connection to each: resident memory over the start.",
		targets: []target{{figure: growth, most: 38}},
		measure: func(ctx context.Context, t *trial) error { return measureDestinations(ctx, t, t.origins.plain) },
	}, {
		id: "destinations-20000-tls", title: "20,000 destinations over TLS, a kept connection each", needs: append(many, needTLS), tls: true, main: growth, once: true,
		about:   "The same over TLS to the destinations.",
		targets: []target{{figure: growth, most: 250}},
		measure: func(ctx context.Context, t *trial) error { return measureDestinations(ctx, t, t.origins.tls) },
	}}
}

// destinationURLs returns n URLs of path on as many addresses, from 127.1.0.1 on.
func destinationURLs(port int, path string, n int) []string {
	urls := make([]string, n)
	for i := range urls {
		urls[i] = fmt.Sprintf("http://127.%d.%d.%d:%d%s", 1+i/62500, i/250%250, 1+i%250, port, path)
	}
	return urls
}

// tunnelScenarios are about CONNECT.
func tunnelScenarios() []*scenario {
	return []*scenario{{
		id: "tunnel-http", title: "POST of 1 KiB inside a kept tunnel", needs: []need{needConnect, needRequests}, main: cpuPerRequest,
		about:   "64 clients each keep a tunnel to the destination and send plain webhooks of 1 KiB through it, which whsentry inspects.",
		targets: []target{{figure: cpuPerRequest, most: 1.1, scenario: "post"}, {figure: allocations, most: 0}},
		measure: requestsOf(func(o *origins) load {
			l := post(webhookClients, at(o.plain, "/ok"))
			l.tunnel = fmt.Sprintf("127.0.0.1:%d", o.plain)
			return l
		}),
	}, {
		id: "connect-bulk", title: "CONNECT, bulk", needs: []need{needConnect}, main: cpuPerGiB,
		about:   "8 tunnels carry as many bytes as they can, half of them upwards and half downwards.",
		targets: []target{{figure: cpuPerGiB, most: 0.65, peer: "squid"}},
		measure: measureBulk,
	}, {
		id: "connect-open", title: "CONNECT, opening", needs: []need{needConnect}, main: cpuPerRequest,
		about:   "32 clients open tunnels one after another, send a byte there and back through each, and close it.",
		targets: []target{{figure: cpuPerRequest, most: 0.75, peer: "squid"}},
		measure: requestsOf(openTunnels(32)),
	}}
}

// openTunnels is a load of tunnels that are opened and closed again.
func openTunnels(connections int) func(*origins) load {
	return func(o *origins) load {
		return load{kind: loadTunnelOpen, connections: connections, targets: []string{fmt.Sprintf("127.0.0.1:%d", o.tunnel)}}
	}
}

// latencyScenarios are about how long a client waits.
func latencyScenarios() []*scenario {
	return []*scenario{{
		id: "rate-4000", title: "Latency at 4,000 requests/s", needs: []need{needRequests}, main: p99,
		about:   "Webhooks of 1 KiB at a fixed rate, whatever the proxy does; latency counts from the moment at which each was due.",
		targets: []target{{figure: p99, most: 1.0, peer: "haproxy"}},
		measure: requestsOf(func(o *origins) load {
			l := post(openRateClients, at(o.plain, "/ok"))
			l.rate = 4000
			return l
		}),
	}, {
		id: "connections", title: "Throughput against connections", needs: []need{needRequests}, main: perSecond, chart: chartCurve, once: true,
		about:   "Webhooks of 1 KiB from 1 to 512 clients, each one after another.",
		measure: measureConnections,
	}}
}

// memoryScenarios are about the memory that clients cost.
func memoryScenarios() []*scenario {
	return []*scenario{{
		id: "in-flight-4000", title: "4,000 requests in flight", needs: []need{needRequests}, main: resident, once: true,
		about:   "4,000 clients each send webhooks of 1 KiB one after another, to 1,000 destinations that answer after a second: the most resident memory meanwhile.",
		targets: []target{{figure: resident, most: 75}},
		measure: measureInFlight,
	}, {
		id: "idle-5000", title: "5,000 clients at rest", needs: []need{needRequests, needKeep}, main: resident, once: true,
		about:   "5,000 clients have made one request each and keep their connections open: resident memory.",
		targets: []target{{figure: resident, most: 60}},
		measure: measureIdle,
	}}
}

// form is how much the suite measures.
type form struct {
	short    bool
	rounds   int
	duration time.Duration // of each measurement
	warmUp   time.Duration // of load before it
	settle   time.Duration // after which memory is read
}

// form returns the form that o asks for.
func (o suiteOptions) form() form {
	f := form{rounds: 3, duration: 1200 * time.Millisecond, settle: 2 * time.Second}
	if o.short {
		f = form{short: true, rounds: 1, duration: 600 * time.Millisecond, settle: 200 * time.Millisecond}
	}
	if o.rounds > 0 {
		f.rounds = o.rounds
	}
	if o.duration > 0 {
		f.duration = o.duration
	}
	f.warmUp = min(f.duration/3, 500*time.Millisecond)
	return f
}

// fewer returns how many of n connections there are to be.
func (f form) fewer(n int) int {
	if f.short {
		return n / 10
	}
	return n
}
