package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
)

// leastNoise is how far two runs may lie apart before it means something, where rounds say nothing of it: a part of the figure.
const leastNoise = 0.05

// comparison is how our main figure of a scenario has changed between two runs.
type comparison struct {
	title     string
	figure    figure
	then, now float64
	change    float64 // now/then
	yardstick string  // a proxy measured beside ours in both runs; "": none, or it would not help
	beside    float64 // change less what the yardstick's has changed by: machines differ
	noise     float64 // what of it may be chance, as a part
}

// verdict says whether it is worse.
func (c comparison) verdict() string {
	worse := c.beside
	if c.figure == perSecond || c.figure == gibPerSecond {
		worse = 1 / c.beside
	}
	switch {
	case worse > 1+c.noise:
		return "worse"
	case worse < 1/(1+c.noise):
		return "better"
	}
	return "same"
}

// readReport reads a report.json.
func readReport(file string) (*result, error) {
	text, err := readSmall(file)
	if err != nil {
		return nil, err
	}
	var r result
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s: %w; want the report.json of a run", file, err)
	}
	if len(r.Scenarios) == 0 {
		return nil, fmt.Errorf("%s: no scenarios in it; want the report.json of a run", file)
	}
	return &r, nil
}

// compare returns what can be compared of two runs.
func compare(then, now *result) []comparison {
	var all []comparison
	for i := range now.Scenarios {
		s := &now.Scenarios[i]
		j := slices.IndexFunc(then.Scenarios, func(old scenarioResult) bool { return old.ID == s.ID && old.Main == s.Main })
		if j < 0 {
			continue
		}
		if c, ok := compareScenario(&then.Scenarios[j], s); ok {
			all = append(all, c)
		}
	}
	return all
}

// compareScenario compares one; false where either run lacks it.
func compareScenario(then, now *scenarioResult) (comparison, bool) {
	was, is := then.row(ours), now.row(ours)
	if !was.sound() || !is.sound() || was.Partial != "" || is.Partial != "" {
		return comparison{}, false
	}
	c := comparison{title: now.Title, figure: now.Main, then: was.Median[now.Main], now: is.Median[now.Main]}
	if c.then <= 0 || c.now <= 0 {
		return comparison{}, false
	}
	c.change = c.now / c.then
	c.beside, c.noise = c.change, leastNoise+(was.noise(now.Main)+is.noise(now.Main))
	if now.Main == resident || now.Main == growth {
		return c, true // memory does not depend on the machine's speed
	}
	if other := now.yardstick(); other != nil {
		if before := then.row(other.Peer); before.sound() && before.Median[now.Main] > 0 && other.Median[now.Main] > 0 {
			c.yardstick = other.Peer
			c.beside = c.change / (other.Median[now.Main] / before.Median[now.Main])
			c.noise += before.noise(now.Main) + other.noise(now.Main)
		}
	}
	return c, true
}

// noise returns half the distance between a figure's lowest and highest round, as a part of the median.
func (r *row) noise(f figure) float64 {
	if r.Median[f] <= 0 {
		return 0
	}
	return (r.High[f] - r.Low[f]) / 2 / r.Median[f]
}

// printComparison prints how now differs from then.
func printComparison(w io.Writer, then, now *result) {
	const day = "2 January 2006 15:04"
	fmt.Fprintf(w, "\n%s, against the run of %s\n\n", ours, then.Started.Format(day))
	if then.Machine != now.Machine {
		fmt.Fprintf(w, "The machines differ (%s; %s): look at the change beside the other proxy.\n\n", then.Machine, now.Machine)
	}
	lines := [][]string{{"main figure", "then", "now", "change", "beside", "less its change", "may be chance", ""}}
	for _, c := range compare(then, now) {
		beside := ""
		if c.yardstick != "" {
			beside = percent(c.beside - 1)
		}
		lines = append(lines, []string{
			c.title + ": " + c.figure.short("request"), c.figure.format(c.then), c.figure.format(c.now), percent(c.change - 1),
			c.yardstick, beside, "±" + percent(c.noise)[1:], c.verdict(),
		})
	}
	printTable(w, lines)
}

// percent writes a part as a signed percentage.
func percent(part float64) string { return fmt.Sprintf("%+.0f%%", math.Round(100*part)) }
