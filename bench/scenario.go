package main

import (
	"bytes"
	"context"
	"fmt"
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
	measure func(ctx context.Context, t *trial) error
}

// chartKind is how a scenario is drawn.
type chartKind int

const (
	chartBars    chartKind = iota // the main figure, a bar a proxy
	chartLatency                  // the distribution of latency
	chartCurve                    // throughput against connections
	chartBeside                   // two figures side by side: p99Alone and p99
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
	var all []*scenario
	for _, some := range [][]*scenario{requestScenarios(), closeScenarios(), manyScenarios(), tunnelScenarios(), latencyScenarios(), idleScenarios()} {
		all = append(all, some...)
	}
	return all
}

// requestScenarios are about the cost of one request on connections that are kept.
func requestScenarios() []*scenario {
	requests := []need{needRequests}
	return []*scenario{{
		id: "post", title: "POST of 1 KiB, kept alive", needs: requests, main: cpuPerRequest,
		about:   "64 clients send webhooks of 1 KiB one after another over plain HTTP; connections are kept on both sides.",
		targets: []target{{figure: cpuPerRequest, most: 1.0, peer: "haproxy"}, {figure: allocations, most: 0}},
		measure: requestsOf(func(o *origins) load { return post(webhookClients, at(o.plain, "/ok")) }),
	}, {
		id: "post-tls", title: "POST of 1 KiB, TLS to the destination", needs: append(requests, needTLS), tls: true, main: cpuPerRequest,
		about:   "The same, with TLS from the proxy to the destination.",
		targets: []target{{figure: cpuPerRequest, most: 0.85, peer: "haproxy"}},
		measure: requestsOf(func(o *origins) load { return post(webhookClients, at(o.tls, "/ok")) }),
	}, {
		id: "response-32k", title: "32 KiB response", needs: requests, main: cpuPerRequest,
		about:   "64 clients fetch answers of 32 KiB.",
		targets: []target{{figure: cpuPerRequest, most: 0.8, peer: "haproxy"}},
		measure: requestsOf(func(o *origins) load { return get(webhookClients, at(o.plain, "/size/32768")) }),
	}, {
		id: "response-1m", title: "1 MiB response", needs: requests, main: cpuPerRequest,
		about:   "16 clients fetch answers of 1 MiB.",
		measure: requestsOf(func(o *origins) load { return get(16, at(o.plain, "/size/1048576")) }),
	}}
}

// closeScenarios are about the cost of a new connection to the destination for each request.
func closeScenarios() []*scenario {
	return []*scenario{{
		id: "close", title: "A new connection a request", needs: []need{needRequests}, main: cpuPerRequest,
		about:   "The destination closes its connection after each answer, plain HTTP.",
		targets: []target{{figure: cpuPerRequest, most: 1.1, peer: "haproxy"}},
		measure: requestsOf(func(o *origins) load { return post(32, at(o.plain, "/close")) }),
	}, {
		id: "close-tls", title: "A new TLS connection a request, resumed", needs: []need{needRequests, needTLS}, tls: true, main: cpuPerRequest,
		about:   "The same over TLS; the destination gives session tickets, so that handshakes can be resumed ones.",
		targets: []target{{figure: cpuPerRequest, most: 0.75, peer: "haproxy"}},
		measure: requestsOf(func(o *origins) load { return post(32, at(o.tls, "/close")) }),
	}, {
		id: "close-tls-full", title: "A new TLS connection a request, full handshake", needs: []need{needRequests, needTLS}, tls: true, main: cpuPerRequest,
		about:   "The same with a destination that gives no session tickets.",
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
		measure: requestsOf(func(o *origins) load { return post(32, destinationURLs(o, 1000)...) }),
	}, {
		id: "destinations-20000", title: "20,000 destinations, a kept connection each", needs: many, main: growth,
		about:   "One webhook to each of 20,000 destinations, after which the proxy keeps a connection to each: resident memory over the start.",
		targets: []target{{figure: growth, most: 60}},
		measure: measureDestinations,
	}}
}

// destinationURLs returns n URLs on as many addresses, from 127.1.0.1 on.
func destinationURLs(o *origins, n int) []string {
	urls := make([]string, n)
	for i := range urls {
		urls[i] = fmt.Sprintf("http://127.%d.%d.%d:%d/ok", 1+i/62500, i/250%250, 1+i%250, o.plain)
	}
	return urls
}

// tunnelScenarios are about CONNECT.
func tunnelScenarios() []*scenario {
	return []*scenario{{
		id: "connect-bulk", title: "CONNECT, bulk", needs: []need{needConnect}, main: cpuPerGiB,
		about:   "8 tunnels carry as many bytes as they can, half of them upwards and half downwards.",
		targets: []target{{figure: cpuPerGiB, most: 0.8, peer: "squid"}},
		measure: measureBulk,
	}, {
		id: "connect-open", title: "CONNECT, opening", needs: []need{needConnect}, main: cpuPerRequest,
		about:   "32 clients open tunnels one after another, send a byte there and back through each, and close it.",
		targets: []target{{figure: cpuPerRequest, most: 1.0, peer: "squid"}},
		measure: requestsOf(func(o *origins) load {
			return load{kind: loadTunnelOpen, connections: 32, targets: []string{fmt.Sprintf("127.0.0.1:%d", o.tunnel)}}
		}),
	}}
}

// latencyScenarios are about how long a client waits.
func latencyScenarios() []*scenario {
	requests := []need{needRequests}
	atRate := func(rate float64) func(context.Context, *trial) error {
		return requestsOf(func(o *origins) load {
			l := post(openRateClients, at(o.plain, "/ok"))
			l.rate = rate
			return l
		})
	}
	return []*scenario{{
		id: "rate-1000", title: "Latency at 1,000 requests/s", needs: requests, main: p99, chart: chartLatency,
		about:   "Webhooks of 1 KiB at a fixed rate, whatever the proxy does; latency counts from the moment at which each was due.",
		measure: atRate(1000),
	}, {
		id: "rate-4000", title: "Latency at 4,000 requests/s", needs: requests, main: p99, chart: chartLatency,
		about:   "The same at 4,000 requests/s.",
		targets: []target{{figure: p99, most: 1.0, peer: "haproxy"}},
		measure: atRate(4000),
	}, {
		id: "connections", title: "Throughput against connections", needs: requests, main: perSecond, chart: chartCurve,
		about:   "Webhooks of 1 KiB from 1 to 512 clients, each one after another.",
		measure: measureConnections,
	}, {
		id: "hanging", title: "A hanging destination beside a healthy one", needs: requests, main: p99, chart: chartBeside,
		about:   "500 webhooks/s to a healthy destination, first alone, then while 64 clients wait for a destination that never answers.",
		measure: measureHanging,
	}}
}

// idleScenarios are about the memory that clients cost which do nothing.
func idleScenarios() []*scenario {
	idle := func(n int, targets ...target) *scenario {
		return &scenario{
			id: fmt.Sprintf("idle-%d", n), title: fmt.Sprintf("%s idle clients", group(fmt.Sprint(n))), main: resident,
			about:   "As many clients have made one request each and keep their connections open: resident memory.",
			needs:   []need{needRequests, needKeep},
			targets: targets,
			measure: func(ctx context.Context, t *trial) error { return measureIdle(ctx, t, n) },
		}
	}
	return []*scenario{idle(5000, target{figure: resident, most: 40}), idle(10000)}
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
	f := form{rounds: 3, duration: 3 * time.Second, settle: 2 * time.Second}
	if o.short {
		f = form{short: true, rounds: 1, duration: 600 * time.Millisecond, settle: 200 * time.Millisecond}
	}
	if o.rounds > 0 {
		f.rounds = o.rounds
	}
	if o.duration > 0 {
		f.duration = o.duration
	}
	f.warmUp = min(f.duration/2, 500*time.Millisecond)
	return f
}

// fewer returns how many of n connections there are to be.
func (f form) fewer(n int) int {
	if f.short {
		return n / 10
	}
	return n
}
