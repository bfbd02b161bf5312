package main

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Charts are HTML with figures in percent of their width and height, so that they fit a phone without their text getting
// small; lines are SVG that is stretched below them.

// barChart is a bar a proxy, the shortest first.
type barChart struct {
	Title  string
	Bars   []bar
	Legend []legend // what the parts of a bar are; none: it has but one
}

// bar is one bar. Its parts, spread and target are in percent of the chart's width.
type bar struct {
	Name  string
	Ours  bool
	Parts []part
	Value string
	Title string // shown when it is pointed at

	Spread     bool // there were several rounds
	Cut        bool // it is longer than what is shown
	Low, Width float64
	Target     float64 // 0: none

	length float64
}

// part is a part of a bar.
type part struct {
	Class string
	Width float64
}

// legend is an entry of a legend.
type legend struct {
	Class, Name string
}

// bars draws the main figure of s; cost is drawn with what the program and the kernel took of it.
func bars(s *scenarioResult) barChart {
	c := barChart{Title: titleOf(s, s.Main)}
	for i := range s.Rows {
		if r := &s.Rows[i]; len(r.Median) > 0 {
			if value, ok := r.Median[s.Main]; ok {
				c.Bars = append(c.Bars, oneBar(s, r, value))
			}
		}
	}
	slices.SortStableFunc(c.Bars, func(a, b bar) int { return cmp.Compare(a.length, b.length) })
	if s.Main == cpuPerRequest {
		c.Legend = []legend{{"part user", "in the program"}, {"part system", "in the kernel"}}
	}
	c.scale()
	return c
}

// titleOf says what a chart shows.
func titleOf(s *scenarioResult, f figure) string {
	if unit := f.info().unit; unit != "" && unit[0] != '/' {
		return f.says(s.Of) + ", " + unit
	}
	return f.says(s.Of)
}

// HasTarget reports whether a bar has a target.
func (c barChart) HasTarget() bool {
	return slices.ContainsFunc(c.Bars, func(b bar) bool { return b.Target > 0 })
}

// oneBar draws a row whose main figure is value. Its widths are the figures themselves until they are scaled.
func oneBar(s *scenarioResult, r *row, value float64) bar {
	info := s.Main.info()
	b := bar{
		Name: r.Peer, Ours: r.Peer == ours, Value: strings.TrimSpace(s.Main.format(value) + " " + info.unit), length: value,
		Parts: []part{{"part user", max(value, 0)}}, Low: r.Low[s.Main], Width: r.High[s.Main] - r.Low[s.Main], Spread: len(r.Rounds) > 1,
	}
	if s.Main == cpuPerRequest {
		b.Parts = []part{{"part user", r.Median[userPerRequest]}, {"part system", max(value-r.Median[userPerRequest], 0)}}
	}
	b.Title = fmt.Sprintf("%s: %s %s", r.Peer, s.Main.says(s.Of), b.Value)
	if b.Spread {
		b.Title += fmt.Sprintf(", %s to %s over %d rounds", s.Main.format(r.Low[s.Main]), s.Main.format(r.High[s.Main]), len(r.Rounds))
	}
	if !r.sound() {
		b.Value += " !"
		b.Title += "; " + r.remark()
	}
	if b.Ours {
		b.Target = aim(s)
	}
	return b
}

// aim returns how long our bar may be at most; 0: there is no target, or it can't be told.
func aim(s *scenarioResult) float64 {
	for _, v := range s.Targets {
		if v.Figure != s.Main || v.Status == notMeasured {
			continue
		}
		if v.Than != "" && v.Value > 0 {
			return s.row(ours).Median[s.Main] / v.Value * v.Most
		}
		return v.Most
	}
	return 0
}

// longestBar is how many times as long as the middle one a bar may be before it is cut off, for the sake of the others.
const longestBar = 4

// scale turns figures into percent of the longest bar that is shown whole.
func (c *barChart) scale() {
	var lengths []float64
	longest, least := 0.0, 0.0
	for _, b := range c.Bars {
		lengths = append(lengths, b.length)
		longest = max(longest, b.length, b.Low+b.Width, b.Target)
		if b.Ours {
			least = max(b.length, b.Target)
		}
	}
	if longest <= 0 {
		return
	}
	if limit := max(longestBar*middle(lengths), least); longest > 1.5*limit {
		longest = limit
	}
	for i := range c.Bars {
		c.Bars[i].scale(longest)
	}
}

// scale turns b's figures into percent of whole, and cuts b off there.
func (b *bar) scale(whole float64) {
	percent := func(v float64) float64 { return min(max(round2(100*v/whole), 0), 100) }
	b.Cut = b.length > whole
	b.Spread = b.Spread && !b.Cut
	left := 100.0
	for i := range b.Parts {
		b.Parts[i].Width = min(percent(b.Parts[i].Width), round2(left))
		left -= b.Parts[i].Width
	}
	b.Low, b.Target = percent(b.Low), percent(b.Target)
	b.Width = min(percent(b.Width), round2(100-b.Low))
}

// lineChart is a line a proxy. Places are in percent of the chart's width, from the left, and height, from the top.
type lineChart struct {
	Title, XTitle  string
	XTicks, YTicks []tick
	Lines          []line
}

// tick is a label of an axis.
type tick struct {
	At    float64
	Label string
}

// line is one line.
type line struct {
	Name   string
	Ours   bool
	Color  int // number of the peer
	Points template.HTMLAttr
	Dots   []dot
}

// dot is a point that says its value when it is pointed at.
type dot struct {
	X, Y  float64
	Title string
}

// axis maps values to 0 to 1.
type axis func(float64) float64

// add adds a line through points.
func (c *lineChart) add(name string, color int, points [][2]float64, x, y axis, title func(x, y float64) string) {
	l := line{Name: name, Ours: name == ours, Color: color % colors}
	var path []string
	for _, p := range points {
		d := dot{X: round2(100 * x(p[0])), Y: round2(100 - 100*y(p[1])), Title: name + ", " + title(p[0], p[1])}
		l.Dots = append(l.Dots, d)
		path = append(path, fmt.Sprintf("%g,%g", d.X, d.Y))
	}
	l.Points = template.HTMLAttr(fmt.Sprintf(`points="%s"`, strings.Join(path, " ")))
	c.Lines = append(c.Lines, l)
}

// colors is how many colors the page has for lines.
const colors = 10

func round2(v float64) float64 { return math.Round(100*v) / 100 }

// curveChart draws a figure against the number of connections.
func curveChart(s *scenarioResult, f figure, color func(string) int) lineChart {
	c := lineChart{Title: titleOf(s, f), XTitle: "connections"}
	counts := map[int]bool{}
	high := 0.0
	for _, r := range s.Rows {
		for _, p := range r.Curve {
			counts[p.Connections] = true
			high = max(high, p.Figures[f])
		}
	}
	if high == 0 {
		return lineChart{}
	}
	var y axis
	y, c.YTicks = linearAxis(high)
	last := math.Log2(float64(connectionCounts[len(connectionCounts)-1]))
	x := func(n float64) float64 { return math.Log2(n) / last }
	for _, n := range connectionCounts {
		if counts[n] {
			c.XTicks = append(c.XTicks, tick{round2(100 * x(float64(n))), strconv.Itoa(n)})
		}
	}
	for _, r := range s.Rows {
		var points [][2]float64
		for _, p := range r.Curve {
			if v, ok := p.Figures[f]; ok {
				points = append(points, [2]float64{float64(p.Connections), v})
			}
		}
		if points != nil {
			c.add(r.Peer, color(r.Peer), points, x, y, func(x, y float64) string { return fmt.Sprintf("%g connections: %s", x, f.format(y)) })
		}
	}
	return c
}

// linearAxis returns an axis from 0 to a round number that is at least high, and its ticks.
func linearAxis(high float64) (axis, []tick) {
	step := math.Pow(10, math.Floor(math.Log10(high)))
	for _, divisor := range []float64{5, 2, 1} {
		if high/(step/divisor) <= 6 {
			step /= divisor
			break
		}
	}
	to := step * math.Ceil(high/step)
	var ticks []tick
	for i := range int(math.Round(to/step)) + 1 {
		v := float64(i) * step
		ticks = append(ticks, tick{round2(100 - 100*v/to), group(strconv.FormatFloat(math.Round(1e6*v)/1e6, 'f', -1, 64))})
	}
	return func(v float64) float64 { return v / to }, ticks
}
