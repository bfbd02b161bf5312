package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sampleResult is a result with every kind of chart in it.
func sampleResult() *result {
	post := measured("post", map[string][]float64{ours: {9, 10}, "haproxy": {11, 12}, "slow": {900, 901}})
	post.Targets = []verdict{
		target{figure: cpuPerRequest, most: 1, peer: "haproxy"}.judge(&post, nil),
		target{figure: cpuPerRequest, most: 0.5, peer: "haproxy"}.judge(&post, nil),
		target{figure: cpuPerRequest, most: 1, peer: "squid"}.judge(&post, nil),
	}
	post.Rows = append(post.Rows, row{Peer: "nginx", Skipped: "it <cannot> do that"}, row{Peer: "broken", Error: "first line\nsecond line", Failed: 5})
	latency := scenarioResult{ID: "rate", Title: "Latency", Of: "request", Main: p99}
	curve := scenarioResult{ID: "connections", Title: "Throughput", Of: "request", Main: perSecond, chart: chartCurve}
	for i, name := range []string{ours, "haproxy"} {
		at := float64(i + 1)
		latency.Rows = append(latency.Rows, row{Peer: name, Requests: 10, Median: figures{p99: at}})
		curve.Rows = append(curve.Rows, row{Peer: name, Requests: 10, Median: figures{perSecond: 1000 * at}, Curve: []curvePoint{
			{1, figures{perSecond: 500 * at, cpuPerRequest: 20}}, {512, figures{perSecond: 1000 * at, cpuPerRequest: 10}},
		}})
	}
	empty := scenarioResult{ID: "empty", Title: "Nothing measured", Of: "request", Main: p99, Rows: []row{{Peer: ours}}}
	return &result{
		Started: time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC), Seconds: 75, Rounds: 2, Short: true,
		Machine:   machine{System: "linux/amd64", CPU: "A CPU", CPUs: 2, Kernel: "Linux 6", Go: "go1.26"},
		Peers:     []peerResult{{Name: ours, Version: "1.0"}, {Name: "haproxy", About: "forward proxy"}, {Name: "slow"}, {Name: "nginx"}, {Name: "broken"}},
		Scenarios: []scenarioResult{post, latency, curve, empty},
	}
}

func TestReports(t *testing.T) {
	dir := t.TempDir()
	files, err := writeReports(dir, sampleResult())
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 2 {
		t.Fatalf("got files %v; want two", files)
	}
	text, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	html := string(text)
	for _, want := range []string{
		"1 of the 6 rows below meet their aim", "1 miss it", "1 were not measured", "0.83 × haproxy", "Latency: 99th percentile, ms", "Short form", "A CPU, 2 cores", "1m15s", "it &lt;cannot&gt; do that",
		"first line …", "5 of 5 failed", "<polyline", "512 connections: 1,000", `class="target"`, "cut", "prefers-color-scheme: dark",
	} {
		if !strings.Contains(html, want) {
			t.Errorf("got a report without %q; want it there", want)
		}
	}
	for _, bad := range []string{"<script", "src=", "@import", "url(", "ZgotmplZ", "NaN", "Inf", "http://", "https://"} {
		if strings.Contains(html, bad) {
			t.Errorf("got a report with %q; want one that stands by itself", bad)
		}
	}
	var back result
	text, err = os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil || json.Unmarshal(text, &back) != nil {
		t.Fatalf("got report.json %.100q, %v; want JSON", text, err)
	}
	if got := back.Scenarios[0].row(ours).Median[cpuPerRequest]; got != 9.5 || back.Scenarios[0].Targets[0].Status != met {
		t.Errorf("got %v and %s from report.json; want 9.5 and met", got, back.Scenarios[0].Targets[0].Status)
	}
	if _, err := writeReports(filepath.Join(dir, "none"), sampleResult()); err == nil {
		t.Error("got no error for a folder that is not there; want one")
	}
}

func TestPrintedTable(t *testing.T) {
	r := sampleResult()
	var b strings.Builder
	for i := range r.Scenarios {
		printScenario(&b, &r.Scenarios[i])
	}
	printSummary(&b, r)
	for _, want := range []string{
		"Title of post (post)", "9.5 ±5%", "nginx: not measured: it <cannot> do that", "broken: 5 of 5 failed; first line …",
		"| Title of post ", " | 0.83 × haproxy | 1.00 |          met |", "Title of post: squid was not measured, or failed",
		"aims of whsentry: 1 met, 1 missed, 1 not measured (short form",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got a table without %q; want it there:\n%s", want, b.String())
		}
	}
}

func TestAxes(t *testing.T) {
	tests := []struct {
		name      string
		axis      func() (axis, []tick)
		low, high float64
		labels    string
	}{
		{"linear", func() (axis, []tick) { return linearAxis(47000) }, 0, 50000, "0 10,000 20,000 30,000 40,000 50,000"},
		{"linear, round", func() (axis, []tick) { return linearAxis(1000) }, 0, 1000, "0 200 400 600 800 1,000"},
		{"linear, small", func() (axis, []tick) { return linearAxis(0.3) }, 0, 0.3, "0 0.05 0.1 0.15 0.2 0.25 0.3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			y, ticks := tt.axis()
			if math.Abs(y(tt.low)) > 1e-9 || math.Abs(y(tt.high)-1) > 1e-9 {
				t.Errorf("got %g and %g for %g and %g; want 0 and 1", y(tt.low), y(tt.high), tt.low, tt.high)
			}
			var labels []string
			for _, tick := range ticks {
				labels = append(labels, tick.Label)
			}
			if got := strings.Join(labels, " "); got != tt.labels {
				t.Errorf("got ticks %s; want %s", got, tt.labels)
			}
		})
	}
}

func TestLongBarIsCut(t *testing.T) {
	s := measured("post", map[string][]float64{ours: {10}, "a": {12}, "b": {1000}})
	c := bars(&s)
	if len(c.Bars) != 3 || c.Bars[0].Name != ours || c.Bars[0].Cut || !c.Bars[2].Cut {
		t.Fatalf("got bars %+v; want ours first and the last one cut", c.Bars)
	}
	if width := c.Bars[2].Parts[0].Width + c.Bars[2].Parts[1].Width; math.Abs(width-100) > 0.01 {
		t.Errorf("got a cut bar of %g %%; want 100", width)
	}
	if got := c.Bars[0].Parts[0].Width; got < 5 {
		t.Errorf("got %g %% for the first part of ours; want one that can be seen", got)
	}
}
