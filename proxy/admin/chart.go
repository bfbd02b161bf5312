package admin

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The charts' own units. The page stretches them to the width that it has.
const (
	chartWidth  = 600
	chartHeight = 100
)

// chart is what the page needs to draw some values over the last minutes.
type chart struct {
	Title string
	Top   string // the value at the upper edge
	Base  string // that at the lower one
	Grid  string // of an SVG path element: the edges, and what is between them
	Lines []chartLine
}

// chartLine is one value of a chart.
type chartLine struct {
	Name string
	Now  string // its latest value
	Path string // of an SVG path element, in a box of chartWidth by chartHeight
}

// measure is a value at a moment; NaN where there was none.
type measure struct {
	at    time.Time
	value float64
}

// curve is a value over time, before it is drawn.
type curve struct {
	name     string
	measures []measure
}

// unit is what the values of a chart are.
type unit struct {
	print   func(float64) string
	roundUp func(float64) float64 // to what is a good upper edge
	log     bool                  // the scale is logarithmic, from the power of ten below the least value
}

var (
	numberUnit = unit{showNumber, roundUp, false}
	secondUnit = unit{showSeconds, roundUp, true}
	byteUnit   = unit{showBytes, roundUpBytes, false}
)

// drawChart draws curves of the time up to end, all by the same scale.
func drawChart(title string, end time.Time, u unit, curves ...curve) chart {
	e := u.edges(curves)
	drawn := chart{Title: title, Top: u.print(e.top), Base: u.print(e.base), Grid: e.grid()}
	for _, c := range curves {
		now := "–"
		if n := len(c.measures); n > 0 && !math.IsNaN(c.measures[n-1].value) {
			now = u.print(c.measures[n-1].value)
		}
		drawn.Lines = append(drawn.Lines, chartLine{Name: c.name, Now: now, Path: c.path(end, e)})
	}
	return drawn
}

// edges are the values at a chart's upper and lower edge.
type edges struct {
	top, base float64
	log       bool
}

// edges are those around all of curves.
func (u *unit) edges(curves []curve) edges {
	e := edges{log: u.log}
	least := math.Inf(1)
	for _, c := range curves {
		for _, m := range c.measures {
			if m.value > e.top { // which NaN is not
				e.top = m.value
			}
			if m.value > 0 && m.value < least {
				least = m.value
			}
		}
	}
	e.top = u.roundUp(e.top)
	if e.log {
		e.base = math.Pow(10, math.Ceil(math.Log10(min(least, e.top)))-1)
	}
	return e
}

// height is where v is between the edges, from 0 to 1.
func (e *edges) height(v float64) float64 {
	if !e.log {
		return v / e.top
	}
	return max(math.Log(v/e.base)/math.Log(e.top/e.base), 0)
}

// grid draws a line at each edge, and between them one at each power of ten, or where the scale is linear in the middle.
func (e *edges) grid() string {
	var b strings.Builder
	line := func(v float64) { fmt.Fprintf(&b, "M0 %.1fH%d", chartHeight-e.height(v)*chartHeight, chartWidth) }
	line(e.top)
	if !e.log {
		line(e.top / 2)
	}
	for v := 10 * e.base; e.log && v < e.top; v *= 10 {
		line(v)
	}
	line(e.base)
	return b.String()
}

// path draws c, with a gap where there is no value. A value between two gaps is a dot.
func (c *curve) path(end time.Time, e edges) string {
	var b strings.Builder
	pen := false
	for _, m := range c.measures {
		x := chartWidth - end.Sub(m.at).Seconds()*chartWidth/(sampleInterval*sampleCount).Seconds()
		if math.IsNaN(m.value) || x < 0 {
			pen = false
			continue
		}
		y := chartHeight - e.height(m.value)*chartHeight
		if pen {
			fmt.Fprintf(&b, "L%.1f %.1f", x, y)
		} else {
			fmt.Fprintf(&b, "M%.1f %.1fh0", x, y)
		}
		pen = true
	}
	return b.String()
}

// roundUp returns the least of 1, 2, 3, 4, 5, 6 and 8 times a power of ten that is not below v; 1 where v is not above 0.
func roundUp(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, factor := range []float64{1, 2, 3, 4, 5, 6, 8} {
		if v <= factor*power {
			return factor * power
		}
	}
	return 10 * power
}

// roundUpBytes does the same in KiB, MiB or GiB.
func roundUpBytes(v float64) float64 {
	for _, size := range byteSizes {
		if v >= size.bytes {
			return roundUp(v/size.bytes) * size.bytes
		}
	}
	return min(roundUp(v), 1<<10)
}

// rates is the curve of a count's growth a second.
func rates(name string, readings []reading, count func(*reading) uint64) curve {
	c := curve{name: name}
	for i := 1; i < len(readings); i++ {
		c.measures = append(c.measures, measure{readings[i].at, perSecond(readings[i-1], readings[i], count)})
	}
	return c
}

// quantiles is the curve of the time that the share q of the requests took at most.
func quantiles(name string, readings []reading, q float64) curve {
	c := curve{name: name}
	for i := 1; i < len(readings); i++ {
		v, ok := quantile(readings[i-1], readings[i], q)
		if !ok {
			v = math.NaN()
		}
		c.measures = append(c.measures, measure{readings[i].at, v})
	}
	return c
}

// levels is the curve of how many there are of something.
func levels(name string, readings []reading, level func(*reading) int64) curve {
	c := curve{name: name}
	for i := range readings {
		c.measures = append(c.measures, measure{readings[i].at, float64(level(&readings[i]))})
	}
	return c
}

// showCount writes a count with a comma for each three digits.
func showCount[N int | int64 | uint64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// showNumber writes a number that need not be whole, in three digits where it is small.
func showNumber(v float64) string {
	if v >= 100 || v == 0 {
		return showCount(int64(math.Round(v)))
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// showSeconds writes a time.
func showSeconds(v float64) string {
	switch {
	case v < 0.001:
		return showNumber(v*1e6) + " µs"
	case v < 1:
		return showNumber(v*1e3) + " ms"
	}
	return showNumber(v) + " s"
}

// showBytes writes a size.
func showBytes(v float64) string {
	for _, size := range byteSizes {
		if v >= size.bytes {
			return showNumber(v/size.bytes) + " " + size.name
		}
	}
	return showNumber(v) + " B"
}

var byteSizes = []struct {
	name  string
	bytes float64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// showAge writes how long something has been going on, or ago, in its two largest units.
func showAge(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm %ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh %dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd %dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}
