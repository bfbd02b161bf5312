package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// figure is the name of something that is measured, as report.json has it.
type figure string

const (
	cpuPerRequest    figure = "cpu_us"          // µs of CPU a request or tunnel, all the proxy's processes together
	userPerRequest   figure = "user_us"         // of it in the program
	systemPerRequest figure = "system_us"       // of it in the kernel
	perSecond        figure = "per_second"      // requests or tunnels a second
	perSecondCore    figure = "per_second_core" // requests or tunnels that one core would do in a second: 1 s / cpu_us
	p50              figure = "p50_ms"
	p99              figure = "p99_ms"
	p999             figure = "p999_ms"
	maxLatency       figure = "max_ms"
	resident         figure = "rss_mib"        // resident memory at the end, MiB
	growth           figure = "growth_mib"     // resident memory at the end less that at the start, MiB
	allocations      figure = "allocs"         // heap objects a request, of programs that tell
	cpuPerGiB        figure = "cpu_ms_per_gib" // ms of CPU a GiB moved
	gibPerSecond     figure = "gib_per_second"
	socketCalls      figure = "socket_calls" // system calls on sockets a request, less those that find nothing to do
	emptyCalls       figure = "empty_calls"  // these
	heldBytes        figure = "held_bytes"   // of heap and stacks that a request in flight holds
)

// figureInfo is how a figure is shown.
type figureInfo struct {
	figure figure
	title  string // a column's head
	says   string // in a sentence; "request" stands for whatever is counted
	unit   string
	digits int // after the point
}

var figureTable = []figureInfo{
	{cpuPerRequest, "CPU µs", "CPU time a request", "µs", 1},
	{userPerRequest, "user", "CPU time in the program a request", "µs", 1},
	{systemPerRequest, "system", "CPU time in the kernel a request", "µs", 1},
	{cpuPerGiB, "CPU ms/GiB", "CPU time a GiB", "ms", 0},
	{gibPerSecond, "GiB/s", "throughput", "GiB/s", 2},
	{perSecond, "per s", "requests a second", "/s", 0},
	{perSecondCore, "per s and core", "requests a second that one core can do", "/s", 0},
	{p50, "p50 ms", "median latency", "ms", 2},
	{p99, "p99 ms", "99th percentile of latency", "ms", 2},
	{p999, "p99.9 ms", "99.9th percentile of latency", "ms", 2},
	{maxLatency, "max ms", "longest latency", "ms", 1},
	{resident, "RSS MiB", "resident memory", "MiB", 1},
	{growth, "growth MiB", "resident memory over the start", "MiB", 1},
	{socketCalls, "calls", "system calls on sockets a request", "", 2},
	{emptyCalls, "empty calls", "system calls a request that find nothing", "", 2},
	{heldBytes, "held", "memory held a request in flight", "bytes", 0},
	{allocations, "allocs", "allocations a request", "", 2},
}

// info returns how f is shown.
func (f figure) info() figureInfo {
	i := slices.IndexFunc(figureTable, func(i figureInfo) bool { return i.figure == f })
	return figureTable[i]
}

// says names f in a sentence about what is counted: requests, or what of calls them.
func (f figure) says(of string) string {
	return strings.ReplaceAll(f.info().says, "request", of)
}

// format writes a value of f without its unit.
func (f figure) format(value float64) string {
	i := f.info()
	digits := i.digits
	if i.unit == "ms" && value < 0.1 {
		digits = 3
	}
	if value == 0 {
		value = 0 // not -0
	}
	return group(strconv.FormatFloat(value, 'f', digits, 64))
}

// group puts commas between the thousands of a number.
func group(number string) string {
	end := len(number)
	for i := range number {
		if number[i] == '.' {
			end = i
		}
	}
	for i := end - 3; i > 0 && number[i-1] != '-'; i -= 3 {
		number = number[:i] + "," + number[i:]
	}
	return number
}

// figures are what one measurement came to; what was not measured is not in it.
type figures map[figure]float64

// costs adds what was used over n requests or tunnels.
func (f figures) costs(u usage, n int64) {
	if n <= 0 {
		return
	}
	if u.user >= 0 && u.system >= 0 {
		per := func(d float64) float64 { return d / 1e3 / float64(n) }
		f[userPerRequest] = per(float64(u.user))
		f[systemPerRequest] = per(float64(u.system))
		if total := per(float64(u.user + u.system)); total > 0 {
			f[cpuPerRequest] = total
			f[perSecondCore] = 1e6 / total
		}
	}
	if u.mallocs >= 0 {
		f[allocations] = float64(u.mallocs) / float64(n)
	}
	f.memory(u)
}

// memory adds resident memory.
func (f figures) memory(u usage) {
	if u.rss >= 0 {
		f[resident] = mebibytes(u.rss)
	}
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

// times adds what o says of speed and latency.
func (f figures) times(o outcome) {
	if o.took > 0 {
		f[perSecond] = float64(o.requests) / o.took.Seconds()
	}
	if o.latency == nil || o.latency.TotalCount() == 0 {
		return
	}
	for name, percentile := range map[figure]float64{p50: 50, p99: 99, p999: 99.9, maxLatency: 100} {
		f[name] = milliseconds(o.latency.ValueAtPercentile(percentile))
	}
}

func milliseconds(ns int64) float64 { return float64(ns) / 1e6 }

// spread returns the median, lowest and highest of each figure over rounds. A figure counts where any round has it.
func spread(rounds []figures) (median, low, high figures) {
	median, low, high = figures{}, figures{}, figures{}
	for _, info := range figureTable {
		var values []float64
		for _, r := range rounds {
			if v, ok := r[info.figure]; ok {
				values = append(values, v)
			}
		}
		if len(values) == 0 {
			continue
		}
		median[info.figure], low[info.figure], high[info.figure] = middle(values), slices.Min(values), slices.Max(values)
	}
	return median, low, high
}

// middle returns the median of values, of which there is at least one.
func middle(values []float64) float64 {
	values = slices.Clone(values)
	slices.SortFunc(values, cmp.Compare[float64])
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
