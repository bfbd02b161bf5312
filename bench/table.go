package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// printScenario prints one scenario as a table: a row a proxy, a column a figure.
func printScenario(w io.Writer, s *scenarioResult) {
	fmt.Fprintf(w, "\n%s (%s)\n", s.Title, s.ID)
	columns := s.columns()
	// The cells are padded on the left, so that figures stand under each other.
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := []string{"  proxy"}
	for _, c := range columns {
		head = append(head, c.info().title)
	}
	fmt.Fprintln(table, strings.Join(append(head, ""), "\t"))
	for i := range s.Rows {
		r := &s.Rows[i]
		if len(r.Median) == 0 {
			continue
		}
		cells := []string{"  " + r.Peer}
		for _, c := range columns {
			cells = append(cells, cell(r, c, c == s.Main))
		}
		fmt.Fprintln(table, strings.Join(append(cells, ""), "\t"))
	}
	// A tabwriter fails only with its writer, and that is the terminal.
	_ = table.Flush()
	for i := range s.Rows {
		if remark := s.Rows[i].remark(); remark != "" {
			fmt.Fprintf(w, "  %s: %s\n", s.Rows[i].Peer, remark)
		}
	}
}

// columns returns the figures that any row has, the main one first.
func (s *scenarioResult) columns() []figure {
	var columns []figure
	for _, info := range figureTable {
		has := func(r row) bool { _, ok := r.Median[info.figure]; return ok }
		if info.figure == s.Main {
			columns = slices.Insert(columns, 0, info.figure)
		} else if slices.ContainsFunc(s.Rows, has) {
			columns = append(columns, info.figure)
		}
	}
	return columns
}

// cell writes a row's figure, with its spread where there were several rounds.
func cell(r *row, f figure, spread bool) string {
	value, ok := r.Median[f]
	if !ok {
		return "-"
	}
	text := f.format(value)
	if half := (r.High[f] - r.Low[f]) / 2; spread && len(r.Rounds) > 1 && value >= 0.01 {
		text += fmt.Sprintf(" ±%.0f%%", 100*half/value)
	}
	return text
}

// remark says what has to be known about a row beside its figures; "": nothing.
func (r *row) remark() string {
	var parts []string
	if r.Skipped != "" {
		parts = append(parts, "not measured: "+r.Skipped)
	}
	if r.Failed > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d failed", r.Failed, r.Failed+r.Requests))
	}
	if r.Error != "" {
		parts = append(parts, firstLine(r.Error))
	}
	if r.Partial != "" {
		parts = append(parts, r.Partial)
	}
	if r.Note != "" {
		parts = append(parts, r.Note)
	}
	return strings.Join(parts, "; ")
}

// longestRemark is how much of an error is shown, bytes; report.json has all of it.
const longestRemark = 300

// firstLine returns the first line of an error, or the part of it that is not too long.
func firstLine(text string) string {
	line, rest, _ := strings.Cut(text, "\n")
	if len(line) > longestRemark {
		line, rest = strings.ToValidUTF8(line[:longestRemark], ""), "more"
	}
	if rest != "" {
		line += " …"
	}
	return line
}

// list prints the scenarios and the peers.
func list(w io.Writer, peers []*peer) {
	fmt.Fprintln(w, "scenarios:")
	for _, s := range scenarios() {
		fmt.Fprintf(w, "  %-20s %s\n", s.id, s.title)
	}
	fmt.Fprintln(w, "\npeers:")
	for _, p := range peers {
		state := "not installed"
		switch {
		case p.Name == ours:
			state = "built from this checkout, or --binary"
		case p.path != "":
			state = strings.TrimSpace(p.version + " " + p.path)
		}
		fmt.Fprintf(w, "  %-20s %s (%s)\n", p.Name, p.About, state)
	}
}
