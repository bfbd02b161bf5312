package admin

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
)

// sourceOf is a source of m and nothing else.
func sourceOf(m *metrics.Metrics) Source {
	return Source{Metrics: m, State: func() State { return State{} }}
}

func TestQuantile(t *testing.T) {
	took := func(times ...float64) []uint64 {
		counts := make([]uint64, len(metrics.DurationBuckets)+1)
		for _, seconds := range times {
			for i, upper := range metrics.DurationBuckets {
				if seconds <= upper {
					counts[i]++
				}
			}
			counts[len(metrics.DurationBuckets)]++
		}
		return counts
	}
	for _, tt := range []struct {
		name     string
		from, to []uint64
		q, want  float64
		ok       bool
	}{
		{"no requests", took(), took(), .5, 0, false},
		{"none in between", took(.1), took(.1), .5, 0, false},
		{"no reading", nil, nil, .5, 0, false},
		{"another form", took(), []uint64{1}, .5, 0, false},
		{"one in the first bucket", took(), took(.0001), 1, .0005, true},
		{"the half of a bucket", took(), took(.07, .07), .5, .075, true},
		{"all of a bucket", took(), took(.07, .07), 1, .1, true},
		{"the last of two buckets", took(), took(.07, .3), 1, .5, true},
		{"only what is new", took(50, 50, 50), took(50, 50, 50, .002), 1, .0025, true},
		{"above every bound", took(), took(1000), .5, 60, true},
	} {
		got, ok := quantile(reading{took: tt.from}, reading{took: tt.to}, tt.q)
		if math.Abs(got-tt.want) > 1e-9 || ok != tt.ok {
			t.Errorf("%s: got %v, %v; want %v, %v", tt.name, got, ok, tt.want, tt.ok)
		}
	}
}

// A reading says what the metrics do.
func TestReading(t *testing.T) {
	m := metrics.New("v", "c")
	m.CountRequest(200, reason.None, reason.SourceNone, time.Millisecond)
	m.CountRequest(503, reason.None, reason.SourceNone, time.Millisecond)
	m.CountRequest(403, reason.BlockedAddress, reason.SourcePolicy, time.Second)
	m.CountRequest(200, reason.LargeResponse, reason.SourceDestination, time.Hour) // cut
	m.CountRequest(reason.StatusClientGone, reason.None, reason.SourceNone, time.Second)
	m.Tunnels.Add(3)
	src := sourceOf(m)
	r := src.read(time.Now())
	if r.delivered != 2 || r.own != 2 || r.gone != 1 || r.tunnels != 3 {
		t.Errorf("got %+v; want 2 delivered, 2 own, 1 gone, 3 tunnels", r)
	}
	if n := len(r.took); n != len(metrics.DurationBuckets)+1 || r.took[n-1] != 5 || r.took[n-2] != 4 || r.took[0] != 0 {
		t.Errorf("got the times %v; want 5 requests, one of them above the last bound", r.took)
	}
}

// The page keeps what happened in the last minutes, and ends when it is told to.
func TestKeepHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStatusPage(sourceOf(metrics.New("v", "c")))
		stop, ended := make(chan struct{}), make(chan struct{})
		go func() { // awaited below
			defer close(ended)
			s.keepHistory(stop)
		}()
		begun := time.Now()
		for _, tt := range []struct {
			after time.Duration
			want  int
		}{{0, 1}, {sampleInterval, 2}, {sampleInterval * sampleCount, sampleCount}, {3*sampleInterval*sampleCount + sampleInterval, sampleCount}} {
			time.Sleep(tt.after - time.Since(begun))
			synctest.Wait()
			all := s.history.all()
			if len(all) != tt.want {
				t.Errorf("after %s: got %d readings; want %d", tt.after, len(all), tt.want)
			}
			for i := 1; i < len(all); i++ {
				if all[i].at.Sub(all[i-1].at) != sampleInterval {
					t.Errorf("after %s: reading %d is %s after the one before; want %s", tt.after, i, all[i].at.Sub(all[i-1].at), sampleInterval)
				}
			}
			if last := all[len(all)-1].at; time.Since(last) >= sampleInterval {
				t.Errorf("after %s: the last reading is %s old", tt.after, time.Since(last))
			}
		}
		close(stop)
		<-ended
	})
}

func TestSince(t *testing.T) {
	begun := time.Now()
	var readings []reading
	for i := range 30 {
		readings = append(readings, reading{at: begun.Add(time.Duration(i) * 5 * time.Second), own: uint64(i)})
	}
	for _, tt := range []struct {
		name string
		n    int
		want uint64
	}{{"one", 1, 0}, {"two", 2, 0}, {"not a minute yet", 12, 0}, {"a minute", 13, 0}, {"more than a minute", 30, 17}} {
		if got := since(readings[:tt.n], time.Minute); got.own != tt.want {
			t.Errorf("%s: got reading %d; want %d", tt.name, got.own, tt.want)
		}
	}
	from, to := readings[0], readings[2]
	if got := perSecond(from, to, func(r *reading) uint64 { return r.own }); got != .2 {
		t.Errorf("got %v a second; want 0.2", got)
	}
	if got := perSecond(to, to, func(r *reading) uint64 { return r.own }); got != 0 {
		t.Errorf("within no time: got %v a second; want 0", got)
	}
}

func TestDrawChart(t *testing.T) {
	end := time.Now()
	ago := func(samples int) time.Time { return end.Add(-time.Duration(samples) * sampleInterval) }
	c := drawChart("Title", end, numberUnit,
		curve{"up", []measure{{ago(2 * sampleCount), 9000}, {ago(sampleCount), 0}, {ago(sampleCount / 2), 10}, {ago(0), 20}}},
		curve{"with a gap", []measure{{ago(2), 15}, {ago(1), math.NaN()}, {ago(0), math.NaN()}}},
		curve{"empty", nil})
	want := chart{Title: "Title", Top: "10,000", Base: "0", Grid: "M0 0.0H600M0 50.0H600M0 100.0H600", Lines: []chartLine{
		{"up", "20", "M0.0 100.0h0L300.0 99.9L600.0 99.8"}, {"with a gap", "–", "M590.0 99.8h0"}, {"empty", "–", ""}}}
	if fmt.Sprint(c) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", c, want)
	}
}

// On a logarithmic scale ten times as much is as far up wherever it is.
func TestDrawLogarithmic(t *testing.T) {
	end := time.Now()
	c := drawChart("Time", end, secondUnit, curve{"some", []measure{{end.Add(-sampleInterval), .002}, {end, .02}, {end, .2}, {end, 1}}}, curve{"none", nil})
	want := chart{Title: "Time", Top: "1 s", Base: "1 ms", Grid: "M0 0.0H600M0 66.7H600M0 33.3H600M0 100.0H600", Lines: []chartLine{{"some", "1 s", "M595.0 90.0h0L600.0 56.6L600.0 23.3L600.0 0.0"}, {"none", "–", ""}}}
	if fmt.Sprint(c) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", c, want)
	}
	for _, values := range [][]measure{nil, {{end, 0}}, {{end, 1}}, {{end, math.NaN()}}} {
		if c := drawChart("Time", end, secondUnit, curve{"some", values}); strings.Contains(fmt.Sprint(c), "NaN") || strings.Contains(fmt.Sprint(c), "Inf") {
			t.Errorf("%v: got %v", values, c)
		}
	}
}

func TestShow(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{showCount(0), "0"}, {showCount(999), "999"}, {showCount(1000), "1,000"}, {showCount(uint64(1234567)), "1,234,567"},
		{showNumber(0), "0"}, {showNumber(1.0 / 3), "0.333"}, {showNumber(12.34), "12.3"}, {showNumber(1234.5), "1,235"}, {showNumber(0.00001), "1e-05"},
		{showSeconds(0.0000005), "0.5 µs"}, {showSeconds(.0123), "12.3 ms"}, {showSeconds(60), "60 s"},
		{showBytes(0), "0 B"}, {showBytes(1023), "1,023 B"}, {showBytes(1536), "1.5 KiB"}, {showBytes(5 << 40), "5,120 GiB"},
		{showAge(-time.Second), "0s"}, {showAge(59 * time.Second), "59s"}, {showAge(61 * time.Second), "1m 1s"},
		{showAge(25*time.Hour + time.Minute), "1d 1h"}, {showAge(119 * time.Minute), "1h 59m"},
		{showNumber(roundUp(0)), "1"}, {showNumber(roundUp(1)), "1"}, {showNumber(roundUp(1.1)), "2"}, {showNumber(roundUp(.034)), "0.04"},
		{showNumber(roundUp(501)), "600"}, {showBytes(roundUpBytes(700)), "800 B"}, {showBytes(roundUpBytes(1010)), "1 KiB"}, {showBytes(roundUpBytes(97 * 1024)), "100 KiB"},
		{showBytes(roundUpBytes(0)), "1 B"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q; want %q", tt.got, tt.want)
		}
	}
}

func TestRedactURL(t *testing.T) {
	for _, tt := range []struct{ name, url, want string }{
		{"plain", "https://curl.se/ca/cacert.pem", "https://curl.se/ca/cacert.pem"},
		{"password", "https://bob:hunter2@example.com/a", "https://xxxxx@example.com/a"},
		{"user alone, which may be a token", "https://hunter2@example.com/a", "https://xxxxx@example.com/a"},
		{"query", "http://example.com/a?token=hunter2&x", "http://example.com/a?xxxxx"},
		{"malformed", "http://bob:hunter2@[/%zz", "xxxxx"},
		{"a file", "/var/cache/a@b?c.pem", "/var/cache/a@b?c.pem"},
		{"built-in", "built-in", "built-in"},
		{"empty", "", ""},
	} {
		if got := RedactURL(tt.url); got != tt.want {
			t.Errorf("%s: got %q; want %q", tt.name, got, tt.want)
		}
	}
}

func TestShowText(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"plain", "IP 127.0.0.1 is blocked", "IP 127.0.0.1 is blocked"},
		{"controls", "a\r\n\x1b[31mb\x00", "a\ufffd\ufffd\ufffd[31mb\ufffd"},
		{"turned round and hidden", "a\u202eb\u200bc", "a\ufffdb\ufffdc"},
		{"not UTF-8", "a\xffb", "a\ufffdb"},
		{"letters", "Größe 日本", "Größe 日本"},
		{"long", strings.Repeat("x", maxShown+1), strings.Repeat("x", maxShown) + "…"},
	} {
		if got := showText(tt.text); got != tt.want {
			t.Errorf("%s: got %q; want %q", tt.name, got, tt.want)
		}
	}
	if got, want := showRaw([]byte("http://a/\x00é\"<"), maxShown), `http://a/\x00\xc3\xa9"<`; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	if got := showRaw(bytes.Repeat([]byte("\x01"), 4096), maxShown); len(got) > 4*maxShown+len("…") {
		t.Errorf("got %d bytes of a URL; want at most 4 for each of %d", len(got), maxShown)
	}
}

// The policy in the header lets in the one style and the one script that are in the page, and there is nothing else in
// it that a browser would load or run.
func TestStatusPolicy(t *testing.T) {
	var page bytes.Buffer
	hostile := `"><script>x()</script><img src=x onerror=x()>'`
	v := statusView{
		Version: hostile, Stopping: true, Tiles: []fact{{Name: hostile, Value: hostile, Note: hostile, Alarm: true}},
		Charts:  []chart{{Title: hostile, Top: hostile, Grid: hostile, Lines: []chartLine{{hostile, hostile, hostile}}}},
		Answers: []portion{{Name: hostile, Note: hostile}}, Latest: []refusal{{Client: hostile, Method: hostile, URL: hostile, Text: hostile, Rule: hostile}},
		Instance: []string{hostile}, SettingsFile: hostile, Clients: []clientPortion{{Name: hostile}}, Failing: []portion{{Name: hostile}},
		Breakers: []openBreaker{{hostile, hostile, hostile, hostile, hostile}}, Sources: []portion{{Name: hostile, Class: hostile}},
		Earlier: []refusal{{URL: hostile, ID: hostile, Upstream: hostile, Times: 2}}, Trust: []fact{{Name: hostile}}, Changed: []Setting{{hostile, hostile, hostile}}, Defaults: []Setting{{}},
	}
	if err := statusTemplate.Execute(&page, v); err != nil {
		t.Fatal(err)
	}
	for _, element := range []string{"style", "script"} {
		found := regexp.MustCompile(`(?s)<`+element+`\b[^>]*>(.*?)</`+element+`>`).FindAllStringSubmatch(page.String(), -1)
		if len(found) != 1 {
			t.Fatalf("got %d elements %s; want 1", len(found), element)
		}
		if want := element + "-src '" + sourceHash(found[0][1]) + "'"; !strings.Contains(statusPolicy, want) {
			t.Errorf("the policy %s lacks %s", statusPolicy, want)
		}
	}
	for _, bad := range []string{" style=", "onerror=x()>", "<img", "http://", "https://", "//cdn", "ZgotmplZ"} {
		if strings.Contains(page.String(), bad) {
			t.Errorf("the page has %s in it", bad)
		}
	}
}
