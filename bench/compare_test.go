package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCompare(t *testing.T) {
	run := func(main figure, mine, theirs []float64) *result {
		s := scenarioResult{ID: "a", Title: "A", Of: "request", Main: main}
		for name, values := range map[string][]float64{ours: mine, "haproxy": theirs} {
			g := gathered{row: row{Peer: name, Requests: 1000}}
			for _, v := range values {
				g.row.Rounds = append(g.row.Rounds, figures{main: v})
			}
			s.Rows = append(s.Rows, g.finish())
		}
		return &result{Scenarios: []scenarioResult{s}}
	}
	type side []float64
	tests := []struct {
		name                           string
		figure                         figure
		mine, theirs, nowMine, nowHers side
		want                           string // "": not compared
	}{
		{"same", cpuPerRequest, side{10}, side{20}, side{10.4}, side{20}, "same"},
		{"worse", cpuPerRequest, side{10}, side{20}, side{10.6}, side{20}, "worse"},
		{"better", cpuPerRequest, side{10}, side{20}, side{9}, side{20}, "better"},
		{"slower machine", cpuPerRequest, side{10}, side{20}, side{20}, side{40}, "same"},
		{"faster machine hides nothing", cpuPerRequest, side{10}, side{20}, side{10}, side{10}, "worse"},
		{"noisy rounds", cpuPerRequest, side{8, 10, 12}, side{20}, side{12}, side{20}, "same"},
		{"throughput up", perSecond, side{10}, side{20}, side{12}, side{20}, "better"},
		{"throughput down", perSecond, side{10}, side{20}, side{8}, side{20}, "worse"},
		{"memory is not the machine's", resident, side{10}, side{20}, side{20}, side{40}, "worse"},
		{"alone", cpuPerRequest, side{10}, nil, side{11}, nil, "worse"},
		{"not there", cpuPerRequest, nil, side{20}, side{11}, side{20}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := compare(run(tt.figure, tt.mine, tt.theirs), run(tt.figure, tt.nowMine, tt.nowHers))
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("got %+v; want nothing to compare", got)
			case tt.want != "" && (len(got) != 1 || got[0].verdict() != tt.want):
				t.Errorf("got %+v; want %s", got, tt.want)
			}
		})
	}
}

func TestCompareReports(t *testing.T) {
	dir := t.TempDir()
	if _, err := writeReports(dir, sampleResult()); err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(dir, "report.json")
	empty := filepath.Join(dir, "empty.json")
	if err := os.WriteFile(empty, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name             string
		compared, report string
		want             string // within the output or the error
	}{
		{"a run with itself", report, report, "| Title of post: CPU time a request, µs |"},
		{"no old one", report + "x", report, "--compare: "},
		{"no new one", report, report + "x", "--report: "},
		{"nothing in it", empty, report, "no scenarios in it"},
		{"no JSON", filepath.Join(dir, "report.html"), report, "want the report.json of a run"},
		{"nothing to compare with", "", report, "want --compare with it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			err := runSuite(t.Context(), suiteOptions{compare: tt.compared, report: tt.report, stdout: &out})
			if err != nil {
				out.WriteString(err.Error())
			}
			if !strings.Contains(out.String(), tt.want) {
				t.Errorf("got %s; want %q in it", out.String(), tt.want)
			}
		})
	}
}
