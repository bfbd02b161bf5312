package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// summaryRow is a row of the table that says what a run came to: one figure of every proxy, and what whsentry has to reach.
type summaryRow struct {
	Scenario string // its id
	What     string
	Values   []string // in the unit that What names, else µs; in the order of result.Peers; "": none
	Ratio    string   // what is held against the aim where that is a ratio
	Aim      string
	Status   string // of a verdict; "": there is no aim
	Reason   string // why it was not measured
}

// summary returns the table: for each scenario a row for each aim, or one for its main figure where it has none.
func (r *result) summary() []summaryRow {
	var rows []summaryRow
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		if len(s.Targets) == 0 {
			rows = append(rows, r.summaryRow(s, s.Main))
		}
		for _, v := range s.Targets {
			row := r.summaryRow(s, v.Figure)
			row.Status, row.Reason = v.Status, v.Reason
			row.Aim = strconv.FormatFloat(v.Most, 'f', -1, 64)
			if v.Than != "" {
				row.Aim = fmt.Sprintf("%.2f", v.Most)
				row.Ratio = "– × " + v.Than
				if v.Status != notMeasured {
					row.Ratio = fmt.Sprintf("%.2f × %s", v.Value, v.Than)
				}
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// summaryRow returns the row of a figure without an aim.
func (r *result) summaryRow(s *scenarioResult, f figure) summaryRow {
	row := summaryRow{Scenario: s.ID, What: s.Title}
	if f != cpuPerRequest {
		row.What += ": " + f.short(s.Of)
	}
	for _, p := range r.Peers {
		text := ""
		if one := s.row(p.Name); one != nil {
			if value, ok := one.Median[f]; ok {
				text = f.format(value)
				if !one.sound() || one.Partial != "" {
					text += " !"
				}
			}
		}
		row.Values = append(row.Values, text)
	}
	return row
}

// short names f with its unit where a row's title is before it.
func (f figure) short(of string) string {
	name := strings.TrimSuffix(f.says(of), " of latency")
	if unit := f.info().unit; unit != "" && unit[0] != '/' {
		return name + ", " + unit
	}
	return name
}

// countStatuses counts the rows by what became of their aims.
func countStatuses(rows []summaryRow) (reached, not, unknown int) {
	for _, row := range rows {
		switch row.Status {
		case met:
			reached++
		case missed:
			not++
		case notMeasured:
			unknown++
		}
	}
	return reached, not, unknown
}

// printSummary prints the table, as Markdown.
func printSummary(w io.Writer, r *result) {
	head := []string{"CPU µs a request, or as said"}
	for _, p := range r.Peers {
		head = append(head, p.Name)
	}
	lines := [][]string{append(head, "ratio", "aim", "")}
	rows := r.summary()
	for _, row := range rows {
		lines = append(lines, append(append([]string{row.What}, row.Values...), row.Ratio, row.Aim, row.Status))
	}
	fmt.Fprintln(w)
	printTable(w, lines)
	for _, row := range rows {
		if row.Reason != "" {
			fmt.Fprintf(w, "%s: %s\n", row.What, row.Reason)
		}
	}
	reached, not, unknown := countStatuses(rows)
	fmt.Fprintf(w, "\naims of %s: %d met, %d missed, %d not measured%s\n", ours, reached, not, unknown, shortRemark(r))
}

// printTable prints lines of cells, of which the first is the head, as a Markdown table with columns of equal width.
func printTable(w io.Writer, lines [][]string) {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell), 3)
		}
	}
	for n, line := range lines {
		for i, cell := range line {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				fmt.Fprint(w, "| "+cell+space)
			} else {
				fmt.Fprint(w, " | "+space+cell)
			}
		}
		fmt.Fprintln(w, " |")
		if n > 0 {
			continue
		}
		for i, width := range widths {
			if i == 0 {
				fmt.Fprint(w, "| "+strings.Repeat("-", width))
			} else {
				fmt.Fprint(w, " | "+strings.Repeat("-", width-1)+":")
			}
		}
		fmt.Fprintln(w, " |")
	}
}

// shortRemark says what the short form is worth.
func shortRemark(r *result) string {
	if r.Short {
		return " (short form: times are a hint at best)"
	}
	return ""
}

// yardstick returns another proxy's row of s that ours can be compared with: the one that an aim names, or else the first.
func (s *scenarioResult) yardstick() *row {
	var names []string
	for _, v := range s.Targets {
		names = append(names, v.Than)
	}
	for i := range s.Rows {
		names = append(names, s.Rows[i].Peer)
	}
	for _, name := range names {
		if r := s.row(name); name != ours && r.sound() {
			return r
		}
	}
	return nil
}
