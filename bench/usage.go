package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	mallocsMetric  = "go_memstats_mallocs_total"
	maxMetrics     = 4 << 20 // bytes of a /metrics page
	metricsTimeout = 5 * time.Second
)

// since returns what was used from before to u. Its rss is u's own.
func (u usage) since(before usage) usage {
	d := usage{user: -1, system: -1, rss: u.rss, mallocs: -1}
	if u.user >= 0 && before.user >= 0 {
		// The sum is exact; how it divides is not, and may seem to run backwards.
		total := u.cpu() - before.cpu()
		d.user = min(max(u.user-before.user, 0), total)
		d.system = total - d.user
	}
	if u.mallocs >= 0 && before.mallocs >= 0 {
		d.mallocs = max(u.mallocs-before.mallocs, 0)
	}
	return d
}

// cpu returns user and system time together; -1: unknown.
func (u usage) cpu() time.Duration {
	if u.user < 0 || u.system < 0 {
		return -1
	}
	return u.user + u.system
}

// usage says what the proxy has used up to now, without what it took to ask.
func (p *process) usage() (usage, error) {
	if !p.running() {
		return usage{}, fmt.Errorf("%s has ended (%s)%s", p.name, p.cmd.ProcessState, p.printed())
	}
	u, err := p.systemUsage()
	if err != nil {
		return usage{}, fmt.Errorf("usage of %s: %w", p.name, err)
	}
	u.mallocs = -1
	asked := p.asked
	if p.metrics != "" {
		u.mallocs = p.mallocs.count(func() int64 { return int64(p.scrape(mallocsMetric)) })
		if after, err := p.systemUsage(); err == nil {
			cost := after.since(u)
			p.asked.user, p.asked.system = asked.user+max(cost.user, 0), asked.system+max(cost.system, 0)
		}
	}
	if u.user >= 0 {
		// How it divides is not exact, neither in u nor in asked.
		total := max(u.cpu()-asked.cpu(), 0)
		u.user = min(max(u.user-asked.user, 0), total)
		u.system = total - u.user
	}
	return u, nil
}

// mallocCounter counts the objects that a program has allocated, without those for telling it. How many these are depends
// on how much else there is to tell, so it asks twice each time.
type mallocCounter struct {
	asked       bool
	total, last int64 // what was counted so far, and the program's own figure then
	cost        int64 // of asking, then
}

// count asks and returns the total, -1 where the program does not tell.
func (m *mallocCounter) count(ask func() int64) int64 {
	first := ask()
	second := ask()
	if first < 0 || second < first {
		return -1
	}
	cost := second - first
	if m.asked {
		// Between the two readings lie the end of one asking and the begin of another.
		m.total += max(first-m.last-(m.cost+cost)/2, 0)
	}
	m.asked, m.last, m.cost = true, second, cost
	return m.total
}

// scrape reads a metric without labels from the proxy's metrics page; -1: it does not tell.
func (p *process) scrape(name string) float64 {
	client := http.Client{Timeout: metricsTimeout, Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	resp, err := client.Get("http://" + p.metrics + "/metrics")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(io.LimitReader(resp.Body, maxMetrics))
	for lines.Scan() {
		if value, found := strings.CutPrefix(lines.Text(), name+" "); found {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return -1
			}
			return n
		}
	}
	return -1
}
