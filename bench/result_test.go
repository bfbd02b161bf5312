package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestFigureFormat(t *testing.T) {
	tests := []struct {
		name   string
		figure figure
		value  float64
		want   string
	}{
		{"micros", cpuPerRequest, 12.345, "12.3"},
		{"many", perSecond, 1234567.8, "1,234,568"},
		{"three digits", perSecond, 999, "999"},
		{"four digits", perSecond, 1000, "1,000"},
		{"thousands with a fraction", cpuPerRequest, 1234.56, "1,234.6"},
		{"short time", p50, 0.0123, "0.012"},
		{"time", p50, 1.5, "1.50"},
		{"negative", growth, -1234.5, "-1,234.5"},
		{"none", allocations, 0, "0.00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.figure.format(tt.value); got != tt.want {
				t.Errorf("got %s; want %s", got, tt.want)
			}
		})
	}
}

func TestCosts(t *testing.T) {
	f := figures{}
	f.costs(usage{user: 30 * time.Millisecond, system: 10 * time.Millisecond, rss: 3 << 20, mallocs: 500}, 1000)
	want := figures{cpuPerRequest: 40, userPerRequest: 30, systemPerRequest: 10, perSecondCore: 25000, resident: 3, allocations: 0.5}
	if got, want := fmt.Sprint(f), fmt.Sprint(want); got != want {
		t.Errorf("got %s; want %s", got, want)
	}
	f = figures{}
	f.costs(usage{user: -1, system: -1, rss: -1, mallocs: -1}, 1000)
	f.costs(usage{user: 1, system: 1, rss: 1, mallocs: 1}, 0)
	if len(f) > 0 {
		t.Errorf("got %v of what is unknown, or of no requests; want nothing", f)
	}
}

func TestSpread(t *testing.T) {
	median, low, high := spread([]figures{{p50: 3}, {p50: 1, p99: 7}, {p50: 2, p99: 9}})
	got := fmt.Sprint(median, low, high)
	if want := fmt.Sprint(figures{p50: 2, p99: 8}, figures{p50: 1, p99: 7}, figures{p50: 3, p99: 9}); got != want {
		t.Errorf("got %s; want %s", got, want)
	}
}

// measured returns a scenario in which peers' CPU time a request was as given, round by round.
func measured(id string, peers map[string][]float64) scenarioResult {
	s := scenarioResult{ID: id, Title: "Title of " + id, Of: "request", Main: cpuPerRequest}
	for name, values := range peers {
		g := gathered{row: row{Peer: name, Requests: 10000}}
		for _, v := range values {
			g.row.Rounds = append(g.row.Rounds, figures{cpuPerRequest: v, userPerRequest: v / 4, systemPerRequest: v * 3 / 4})
		}
		s.Rows = append(s.Rows, g.finish())
	}
	return s
}

// allocated returns a scenario in which our requests allocated so much each.
func allocated(each float64) scenarioResult {
	return scenarioResult{ID: "post", Of: "request", Main: cpuPerRequest, Rows: []row{{Peer: ours, Requests: 1000, Rounds: []figures{{allocations: each}}}}}
}

func TestJudge(t *testing.T) {
	against := target{figure: cpuPerRequest, most: 1, peer: "haproxy"}
	both := func(mine, theirs []float64) scenarioResult {
		return measured("post", map[string][]float64{ours: mine, "haproxy": theirs})
	}
	change := func(s scenarioResult, name string, to func(*row)) scenarioResult {
		to(s.row(name))
		return s
	}
	tests := []struct {
		name   string
		target target
		s      scenarioResult
		want   string // status, value and reason
	}{
		{"below", against, both([]float64{9}, []float64{10}), "met 0.90 "},
		{"as shown", against, both([]float64{10.04}, []float64{10}), "met 1.00 "},
		{"just over", against, both([]float64{10.1}, []float64{10}), "missed 1.01 "},
		{"ratio of each round", against, both([]float64{10, 20, 30}, []float64{20, 40, 10}), "met 0.50 "},
		{"a round more on one side", against, both([]float64{10, 99}, []float64{20}), "met 0.50 "},
		{"no yardstick", against, measured("post", map[string][]float64{ours: {1}}), "not measured 0.00 haproxy was not measured, or failed"},
		{"yardstick failed", against, change(both([]float64{1}, []float64{2}), "haproxy", func(r *row) { r.Failed = 11 }), "not measured 0.00 haproxy was not measured, or failed"},
		{"yardstick failed once", against, change(both([]float64{1}, []float64{2}), "haproxy", func(r *row) { r.Failed = 10 }), "met 0.50 "},
		{"ours skipped", against, change(both([]float64{1}, []float64{2}), ours, func(r *row) { r.Skipped = "x" }), "not measured 0.00 x"},
		{"ours partial", against, change(both([]float64{1}, []float64{2}), ours, func(r *row) { r.Partial = "only 5" }), "not measured 0.00 only 5"},
		{"not told", target{figure: allocations}, both([]float64{1}, []float64{2}), "not measured 0.00 this system does not tell allocations a request"},
		{"hardly an allocation", target{figure: allocations}, allocated(0.09), "met 0.09 "},
		{"an allocation in ten requests", target{figure: allocations}, allocated(0.1), "missed 0.10 "},
		{"absolute", target{figure: cpuPerRequest, most: 9}, both([]float64{9.04}, nil), "met 9.04 "},
		{"absolute over", target{figure: cpuPerRequest, most: 9}, both([]float64{9.06}, nil), "missed 9.06 "},
		{"own elsewhere", target{figure: cpuPerRequest, most: 1.2, scenario: "first"}, both([]float64{12}, nil), "met 1.20 "},
		{"own where it was not measured", target{figure: cpuPerRequest, most: 1.2, scenario: "second"}, both([]float64{12}, nil), "not measured 0.00 the scenario second was not measured, or failed"},
	}
	all := []scenarioResult{measured("first", map[string][]float64{ours: {10}})}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := tt.target.judge(&tt.s, all)
			if got := fmt.Sprintf("%s %.2f %s", v.Status, v.Value, v.Reason); got != tt.want {
				t.Errorf("got %s; want %s", got, tt.want)
			}
		})
	}
}

func TestScenarios(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range scenarios() {
		if s.id == "" || s.title == "" || s.about == "" || s.measure == nil || len(s.needs) == 0 || seen[s.id] {
			t.Errorf("got scenario %q without something, or twice; want each whole and once", s.id)
		}
		for _, target := range s.targets {
			if target.scenario != "" && !seen[target.scenario] {
				t.Errorf("got %s compared with %s, which does not come before it; want one that does", s.id, target.scenario)
			}
		}
		seen[s.id] = true
	}
	if _, err := pickScenarios([]string{"post", "fly"}); err == nil || !strings.Contains(err.Error(), `"fly" is not known; want some of post, `) {
		t.Errorf("got %v; want an error for a scenario that there is not", err)
	}
	picked, err := pickScenarios([]string{"close", "post"})
	if err != nil || len(picked) != 2 || picked[0].id != "post" {
		t.Errorf("got %d scenarios, %v; want post and close", len(picked), err)
	}
	urls := destinationURLs(1, "/ok", 20000)
	different := map[string]bool{}
	for _, url := range urls {
		different[url] = true
	}
	if len(different) != 20000 || urls[0] != "http://127.1.0.1:1/ok" || urls[19999] != "http://127.1.79.250:1/ok" {
		t.Errorf("got %d destinations from %s to %s; want 20000", len(different), urls[0], urls[19999])
	}
}
