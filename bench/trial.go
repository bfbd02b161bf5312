package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// trial is one measurement of one proxy, which is running.
type trial struct {
	form    form
	about   *scenario
	origins *origins
	address string // of the proxy
	peer    *peer
	command command
	process *process
	args    []string      // further ones of the proxy
	env     []string      // further ones
	done    *atomic.Int64 // for the progress line

	figures figures
	curve   []curvePoint
	total   outcome // all that counts, without its latency
	skipped string  // why nothing was measured; "": it was
	note    string  // what was different from what the scenario says
	partial string  // why the figures are none to judge; "": they are
}

const (
	firstClients = 16              // connections that ask new destinations
	holdLimit    = 5 * time.Minute // for opening idle connections
	watchEvery   = 50 * time.Millisecond
	nofileLeft   = 500 // file descriptors for all else than the connections counted
)

// run sends l through the proxy and adds what it came to. It returns what the proxy used meanwhile.
func (t *trial) run(ctx context.Context, l load) (outcome, usage, error) {
	l = t.dress(l)
	var before, after usage
	var errBefore, errAfter error
	l.begin = func() { before, errBefore = t.process.usage() }
	l.end = func() { after, errAfter = t.process.usage() }
	o, err := l.run(ctx, t.address)
	t.total.requests += o.requests
	t.total.failed += o.failed
	if t.total.firstError == "" {
		t.total.firstError = o.firstError
	}
	if err := errors.Join(err, errBefore, errAfter); err != nil {
		return o, usage{}, err
	}
	used := after.since(before)
	t.figures.growth(before, after)
	return o, used, nil
}

// growth adds what resident memory grew by.
func (f figures) growth(before, after usage) {
	if before.rss >= 0 && after.rss >= 0 {
		f[growth] = mebibytes(after.rss - before.rss)
	}
}

// dress gives l what requests to this proxy carry.
func (t *trial) dress(l load) load {
	l.header = t.command.header
	l.done = t.done
	if t.peer.TLS == tlsByScheme && t.about.tls {
		targets := make([]string, len(l.targets))
		for i, url := range l.targets {
			targets[i] = "https" + strings.TrimPrefix(url, "http")
		}
		l.targets = targets
	}
	return l
}

// requestsOf returns a measurement of requests, or of tunnels opened: of their cost, number and latency.
func requestsOf(of func(*origins) load) func(context.Context, *trial) error {
	return func(ctx context.Context, t *trial) error {
		l := of(t.origins)
		first := l
		first.duration = t.form.warmUp
		if _, err := t.dress(first).run(ctx, t.address); err != nil {
			return fmt.Errorf("warm up: %w", err)
		}
		l.duration = t.form.duration
		o, used, err := t.run(ctx, l)
		if err != nil {
			return err
		}
		delete(t.figures, growth)
		t.figures.costs(used, o.requests)
		t.figures.times(o)
		return nil
	}
}

// measureBulk measures what a GiB through tunnels costs.
func measureBulk(ctx context.Context, t *trial) error {
	o, used, err := t.run(ctx, load{
		kind: loadTunnelBulk, connections: 8, duration: t.form.duration, targets: []string{fmt.Sprintf("127.0.0.1:%d", t.origins.tunnel)},
	})
	if err != nil {
		return err
	}
	delete(t.figures, growth)
	gib := float64(o.bytes) / (1 << 30)
	if gib > 0 && used.user >= 0 {
		t.figures[cpuPerGiB] = float64(used.user+used.system) / 1e6 / gib
	}
	if o.took > 0 {
		t.figures[gibPerSecond] = gib / o.took.Seconds()
	}
	t.figures.memory(used)
	return nil
}

// measureFirst measures how long the first request to a destination takes, in a proxy that has served some.
func measureFirst(ctx context.Context, t *trial) error {
	warm := post(firstClients, at(t.origins.plain, "/ok"))
	warm.duration = t.form.warmUp
	if _, err := t.dress(warm).run(ctx, t.address); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	l := post(firstClients, destinationURLs(t.origins.plain, "/ok", 1000)...)
	l.count, l.cold = int64(len(l.targets)), true
	o, used, err := t.run(ctx, l)
	if err != nil {
		return err
	}
	delete(t.figures, growth)
	t.figures.costs(used, o.requests)
	t.figures.times(o)
	return nil
}

// measureInFlight measures the most memory that the proxy takes while 4,000 requests wait for their answers.
func measureInFlight(ctx context.Context, t *trial) error {
	const wanted = 4000
	n := t.form.fewer(wanted)
	l := post(n, destinationURLs(t.origins.plain, "/slow", t.form.fewer(1000))...)
	l.duration = max(t.form.duration, 2*slowAnswer)
	watching, stop := context.WithCancel(ctx)
	seen := make(chan peak, 1)
	go func() { seen <- t.watch(watching) }() // ends with stop
	_, used, err := t.run(ctx, l)
	stop()
	most := <-seen
	if err != nil {
		return err
	}
	delete(t.figures, growth)
	used.rss = max(used.rss, most.rss)
	t.figures.memory(used)
	switch {
	case most.waiting < int64(n)*9/10:
		t.partial = fmt.Sprintf("at most %d of %d requests waited at once", most.waiting, n)
	case n < wanted:
		t.partial = fmt.Sprintf("only %d of %d requests", n, wanted)
	}
	return nil
}

// peak is the most that there was at once.
type peak struct {
	rss     int64 // resident memory, bytes
	waiting int64 // requests that the origins had not answered yet
}

// watch looks at the proxy's memory, and at the requests that wait, until ctx ends.
func (t *trial) watch(ctx context.Context) (most peak) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return most
		case <-tick.C:
		}
		if u, err := t.process.systemUsage(); err == nil {
			most.rss = max(most.rss, u.rss)
		}
		most.waiting = max(most.waiting, t.origins.waiting.Load())
	}
}

// measureDestinations measures the memory of a kept connection to each of 20,000 destinations on port. Where file
// descriptors do not suffice for as many, the growth for those that there can be is scaled up.
func measureDestinations(ctx context.Context, t *trial, port int) error {
	const wanted = 20000
	n := t.form.fewer(wanted)
	if limit := maxOpenFiles(); limit > 0 {
		n = min(n, limit-nofileLeft)
	}
	if n < 100 {
		return fmt.Errorf("%d file descriptors are too few", n+nofileLeft)
	}
	_, used, err := t.run(ctx, load{
		kind: loadDestinations, method: "POST", body: body, connections: 16, targets: destinationURLs(port, "/ok", n), pause: t.form.settle, duration: holdLimit,
	})
	if err != nil {
		return err
	}
	kept := t.origins.open()
	t.figures.memory(used)
	switch {
	case kept < n*9/10:
		t.partial = fmt.Sprintf("after %d destinations it keeps %d connections", n, kept)
	case n < wanted/2:
		t.partial = fmt.Sprintf("only %d of %d destinations", n, wanted)
	case n < wanted:
		t.note = fmt.Sprintf("%d destinations, which is what file descriptors suffice for; growth scaled to %d", n, wanted)
		t.figures[growth] *= float64(wanted) / float64(n)
	}
	return nil
}

// measureIdle measures the memory that 5,000 clients cost which have made one request each.
func measureIdle(ctx context.Context, t *trial) error {
	const wanted = 5000
	n := t.form.fewer(wanted)
	if limit := maxOpenFiles(); limit > 0 && limit-nofileLeft < n {
		return fmt.Errorf("%d idle clients need as many file descriptors; there may be %d", n, limit)
	}
	l := get(n, at(t.origins.plain, "/ok"))
	l.kind, l.pause, l.duration = loadIdleClients, t.form.settle, holdLimit
	_, used, err := t.run(ctx, l)
	if err != nil {
		return err
	}
	t.figures.memory(used)
	if n < wanted {
		t.partial = fmt.Sprintf("only %d of %d clients", n, wanted)
	}
	return nil
}

// connectionCounts are the numbers of clients for which throughput is measured.
var connectionCounts = []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512}

// measureConnections measures throughput and cost for growing numbers of clients.
func measureConnections(ctx context.Context, t *trial) error {
	best := -1
	for i, n := range connectionCounts {
		if t.form.short && i%3 != 0 {
			continue
		}
		l := post(n, at(t.origins.plain, "/ok"))
		l.duration = t.form.duration / 3
		o, used, err := t.run(ctx, l)
		if err != nil {
			return fmt.Errorf("%d connections: %w", n, err)
		}
		f := figures{}
		f.costs(used, o.requests)
		f.times(o)
		t.curve = append(t.curve, curvePoint{n, f})
		if best < 0 || f[perSecond] > t.curve[best].Figures[perSecond] {
			best = len(t.curve) - 1
		}
	}
	t.figures = t.curve[best].Figures
	t.note = fmt.Sprintf("best with %d connections", t.curve[best].Connections)
	return nil
}

// hang sends n requests to a destination that does not answer, and returns when they wait there. release ends them.
func (t *trial) hang(ctx context.Context, n int) (release func(), err error) {
	l := t.dress(post(n, fmt.Sprintf("http://127.0.0.9:%d/hang", t.origins.plain)))
	request, err := l.request(l.targets[0])
	if err != nil {
		return nil, err
	}
	var conns []net.Conn
	var readers sync.WaitGroup
	release = func() {
		for _, c := range conns {
			c.Close()
		}
		readers.Wait()
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	for range n {
		conn, err := dialer.DialContext(ctx, "tcp", t.address)
		if err == nil {
			conns = append(conns, conn)
			_, err = conn.Write(request)
		}
		if err != nil {
			release()
			return nil, fmt.Errorf("send a request to a hanging destination: %w", err)
		}
		// Ends when release closes the connection, at the latest.
		readers.Go(func() { _, _ = io.Copy(io.Discard, conn) })
	}
	for deadline := time.Now().Add(holdLimit); t.origins.waiting.Load() < int64(n); {
		if time.Now().After(deadline) || ctx.Err() != nil {
			release()
			return nil, fmt.Errorf("%d of %d requests have reached a hanging destination", t.origins.waiting.Load(), n)
		}
		time.Sleep(pollEvery)
	}
	return release, nil
}
