package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"slices"
	"time"
)

//go:embed report.html.tmpl
var reportText string

// writeReports writes report.json and report.html to the folder and returns their paths.
func writeReports(folder string, r *result) ([]string, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the report: %w", err)
	}
	page, err := renderReport(r)
	if err != nil {
		return nil, err
	}
	files := []string{filepath.Join(folder, "report.html"), filepath.Join(folder, "report.json")}
	for i, content := range [][]byte{page, append(text, '\n')} {
		if err := os.WriteFile(files[i], content, 0o644); err != nil {
			return nil, fmt.Errorf("write the report: %w", err)
		}
	}
	return files, nil
}

// page is what report.html.tmpl shows.
type page struct {
	*result
	Summary             []summaryRow
	Met, Missed, Others int
	Sections            []section
	Took                time.Duration
	Colors              [colors]struct{}
}

// section is a scenario with its charts and its numbers.
type section struct {
	*scenarioResult
	Bars    *barChart
	Lines   []lineChart
	Head    []string
	Cells   []sectionRow
	Remarks []sectionRow // a proxy's name and what there is to say of it
}

// sectionRow is a row of a section's table.
type sectionRow struct {
	Name  string
	Ours  bool
	Color int
	Cells []string
}

// renderReport returns report.html.
func renderReport(r *result) ([]byte, error) {
	t, err := template.New("report").Parse(reportText)
	if err != nil {
		return nil, fmt.Errorf("report.html.tmpl: %w", err)
	}
	p := page{result: r, Took: time.Duration(r.Seconds) * time.Second}
	color := func(name string) int {
		return slices.IndexFunc(r.Peers, func(p peerResult) bool { return p.Name == name }) % colors
	}
	p.Summary = r.summary()
	p.Met, p.Missed, p.Others = countStatuses(p.Summary)
	for i := range r.Scenarios {
		p.Sections = append(p.Sections, draw(&r.Scenarios[i], color))
	}
	var out bytes.Buffer
	if err := t.Execute(&out, p); err != nil {
		return nil, fmt.Errorf("report.html.tmpl: %w", err)
	}
	return out.Bytes(), nil
}

// draw returns the section of s.
func draw(s *scenarioResult, color func(string) int) section {
	out := section{scenarioResult: s}
	switch s.chart {
	case chartCurve:
		out.Lines = []lineChart{curveChart(s, perSecond, color), curveChart(s, cpuPerRequest, color)}
	default:
		chart := bars(s)
		out.Bars = &chart
	}
	out.Lines = slices.DeleteFunc(out.Lines, func(c lineChart) bool { return len(c.Lines) == 0 })
	columns := s.columns()
	for _, c := range columns {
		out.Head = append(out.Head, c.info().title)
	}
	for i := range s.Rows {
		r := &s.Rows[i]
		line := sectionRow{Name: r.Peer, Ours: r.Peer == ours, Color: color(r.Peer)}
		if remark := r.remark(); remark != "" {
			out.Remarks = append(out.Remarks, sectionRow{Name: r.Peer, Cells: []string{remark}})
		}
		if len(r.Median) == 0 {
			continue
		}
		for _, c := range columns {
			line.Cells = append(line.Cells, cell(r, c, true))
		}
		out.Cells = append(out.Cells, line)
	}
	return out
}
