package metrics

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"whsentry/guard"
	"whsentry/proxy/reason"
)

func (m *Metrics) text() string {
	var b bytes.Buffer
	m.Write(&b)
	return b.String()
}

// Every status has its place, the first and the last ones too, and so has every reason with every source; what is beyond
// is counted together.
func TestCountRequest(t *testing.T) {
	m := New("v", "c")
	statuses := map[int]string{99: "other", 100: "100", 200: "200", 499: "499", 599: "599", 600: "other", 999: "other"}
	var counting sync.WaitGroup
	for range 4 { // at once: each counter is made once
		counting.Add(1)
		go func() { // awaited below
			defer counting.Done()
			for status := range statuses {
				m.CountRequest(status, reason.None, reason.SourceNone, time.Millisecond)
				for r := reason.First; r <= reason.Last; r++ {
					m.CountRequest(status, r, reason.SourceProxy, time.Millisecond)
				}
			}
		}()
	}
	counting.Wait()
	text := m.text()
	want := make(map[string]int)
	for _, status := range statuses {
		want[fmt.Sprintf(`whsentry_requests_total{status=%q,reason="0",source=""}`, status)] += 4
		for r := reason.First; r <= reason.Last; r++ {
			want[fmt.Sprintf(`whsentry_requests_total{status=%q,reason="%d",source="proxy"}`, status, r)] += 4
		}
	}
	for line, n := range want {
		if !strings.Contains(text, fmt.Sprintf("%s %d\n", line, n)) {
			t.Errorf("got no %s %d", line, n)
		}
	}
	all := uint64(0)
	m.EachRequest(func(_ int, _ reason.Code, _ reason.Source, n uint64) { all += n })
	if want := uint64(4 * len(statuses) * (int(reason.Last-reason.First) + 2)); all != want {
		t.Errorf("got %d requests; want %d", all, want)
	}
}

// What an alert may be about is there before it happens.
func TestSeriesFromTheStart(t *testing.T) {
	m := New("v", "c")
	m.NameClients([]string{"billing"})
	text := m.text()
	want := []string{
		`whsentry_would_deny_total{client=""}`, `whsentry_would_deny_total{client="billing"}`,
		`whsentry_client_requests_total{client="billing",reason="0"}`, "whsentry_breakers_open", "whsentry_requests_in_flight",
		`whsentry_untidy_responses_total{what="no_close_notify"}`, `whsentry_limit_reached_total{limit="clients.maxConnections"}`,
	}
	for code := reason.First; code <= reason.Last; code++ {
		for _, v := range code.Variants() {
			want = append(want, fmt.Sprintf(`whsentry_requests_total{status="%d",reason="%d",source=%q}`, v.Status, code, v.Source))
		}
	}
	for _, l := range reason.Limits {
		want = append(want, fmt.Sprintf(`whsentry_limit_reached_total{limit=%q}`, l))
	}
	for _, line := range want {
		if !strings.Contains(text, "\n"+line+" 0\n") {
			t.Errorf("got no %s 0", line)
		}
	}
}

// Counters of clients go on by name when the settings change, and nobody else's name becomes a label.
func TestClients(t *testing.T) {
	m := New("v", "c")
	m.NameClients([]string{"a", "b"})
	m.Client("a").Count(reason.None)
	m.Client("a").Count(reason.OverLimit)
	m.Client("b").CountWouldDeny()
	m.NameClients([]string{"a"})
	m.Client("a").Count(reason.None)
	m.Client("stranger").Count(reason.Unauthorized)
	text := m.text()
	for _, want := range []string{
		`whsentry_client_requests_total{client="a",reason="0"} 2`, `whsentry_client_requests_total{client="a",reason="1020"} 1`,
		`whsentry_would_deny_total{client="b"} 1`, `whsentry_client_requests_total{client="",reason="1016"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("got no %s", want)
		}
	}
	if strings.Contains(text, "stranger") {
		t.Errorf("a name that is not of the settings is a label")
	}
}

func TestCountLimitAndUntidy(t *testing.T) {
	m := New("v", "c")
	m.CountLimit("")
	m.CountLimit(reason.LimitReadTimeout)
	m.CountUntidy("folded")
	m.CountUntidy("something else")
	m.UseBreakers(func() int { return 7 })
	m.MemoryLimit.Store(1 << 30)
	text := m.text()
	for _, want := range []string{
		`whsentry_limit_reached_total{limit="readTimeout"} 1`, `whsentry_untidy_responses_total{what="folded"} 1`, "whsentry_breakers_open 7",
		"whsentry_memory_limit_bytes 1073741824",
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("got no %s", want)
		}
	}
	if strings.Contains(text, "something else") {
		t.Errorf("what the contract does not name is a label")
	}
}

// Every metric says what it is, and each that claims to be a histogram is a whole one.
func TestWrite(t *testing.T) {
	m := New("v", "c")
	m.NameCloses([]string{"", "idle"})
	m.Listener(":9090")
	m.RefusedBy(guard.Rule{Name: "private"})
	m.CountRequest(200, reason.None, reason.SourceNone, time.Millisecond)
	m.CountPhases(&[Phases]time.Duration{1, 2, 3, 4})
	text := m.text()
	helped, histograms := make(map[string]bool), 0
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case words[0] == "#" && words[1] == "HELP":
			if helped[words[2]] || help[words[2]] == "" || len(words) < 4 {
				t.Errorf("got %q, which has no text, or twice", line)
			}
			helped[words[2]] = true
		case words[0] == "#" && words[3] == "histogram":
			histograms++
			for _, part := range []string{"_bucket{", "_sum", "_count"} {
				if !strings.Contains(text, "\n"+words[2]+part) {
					t.Errorf("%s claims to be a histogram without %s", words[2], part)
				}
			}
		case words[0] != "#":
			name, _, _ := strings.Cut(words[0], "{")
			if !helped[name] && !helped[strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")] {
				t.Errorf("%s has no help before it", name)
			}
		}
	}
	if histograms < 2 {
		t.Errorf("got %d histograms; want ours at least", histograms)
	}
	for name := range help {
		if strings.HasPrefix(name, "whsentry_") && !helped[name] {
			t.Errorf("%s has a help and is not there", name)
		}
	}
}

func TestDocument(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"ours", "# HELP whsentry_tunnels\n# TYPE whsentry_tunnels gauge\nwhsentry_tunnels 0\n",
			"# HELP whsentry_tunnels " + help["whsentry_tunnels"] + "\n# TYPE whsentry_tunnels gauge\nwhsentry_tunnels 0\n"},
		{"new in the library", "# HELP go_new_thing\n# TYPE go_new_thing gauge\ngo_new_thing 0\n",
			"# HELP go_new_thing go new thing.\n# TYPE go_new_thing gauge\ngo_new_thing 0\n"},
		{"no histogram", "# HELP x\n# TYPE x histogram\nx_bucket{le=\"1\"} 0\n# HELP y\n# TYPE y gauge\ny 1\n", "# HELP y y.\n# TYPE y gauge\ny 1\n"},
		{"half a histogram", "# HELP x\n# TYPE x histogram\nx_bucket{le=\"1\"} 0\nx_sum 0\n", ""},
		{"a histogram", "# HELP x\n# TYPE x histogram\nx_bucket{le=\"1\"} 0\nx_sum 0\nx_count 0\n", "# HELP x x.\n# TYPE x histogram\nx_bucket{le=\"1\"} 0\nx_sum 0\nx_count 0\n"},
	} {
		if got := string(document([]byte(tt.in))); got != tt.want {
			t.Errorf("%s: got %q; want %q", tt.name, got, tt.want)
		}
	}
}

// Counting a request that its destination answered costs no memory.
func TestAllocCount(t *testing.T) {
	m := New("v", "c")
	m.NameClients([]string{"billing"})
	count := func() {
		m.CountRequest(202, reason.None, reason.SourceNone, time.Millisecond)
		m.CountPhases(&[Phases]time.Duration{-1, -1, -1, 1})
		m.Client("billing").Count(reason.None)
	}
	count()
	if got := testing.AllocsPerRun(1000, count); got != 0 {
		t.Errorf("got %v allocations; want 0", got)
	}
}

// Two proxies in one process, or one after another, do not share what they count.
func TestMetricsAreTheirOwn(t *testing.T) {
	a, b := New("v", "c"), New("v", "c")
	a.TunnelsTotal.Inc()
	if text := b.text(); !strings.Contains(text, "\nwhsentry_tunnels_total 0\n") {
		t.Errorf("one proxy's Tunnels are another's")
	}
}

func TestListenerMetrics(t *testing.T) {
	m := New("v", "c")
	first, second := m.Listener("127.0.0.1:1"), m.Listener("[::1]:2")
	first.Open.Add(3)
	second.Total.Inc()
	text := m.text()
	for _, want := range []string{
		`whsentry_client_connections{listener="127.0.0.1:1"} 3`, `whsentry_client_connections{listener="[::1]:2"} 0`,
		`whsentry_client_connections_total{listener="127.0.0.1:1"} 0`, `whsentry_client_connections_total{listener="[::1]:2"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("got no %s", want)
		}
	}
}

// Listeners of one address, whose ports the system chooses, share their series.
func TestListenerMetricsOfOneAddress(t *testing.T) {
	m := New("v", "c")
	for range 2 {
		l := m.Listener("127.0.0.1:0")
		l.Open.Add(3)
		l.Total.Inc()
	}
	text := m.text()
	for _, want := range []string{`whsentry_client_connections{listener="127.0.0.1:0"} 6`, `whsentry_client_connections_total{listener="127.0.0.1:0"} 2`} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("got no %s", want)
		}
	}
}

func TestBuildInfo(t *testing.T) {
	text := New("1.2.3", "abc").text()
	if !strings.Contains(text, `whsentry_build_info{version="1.2.3",commit="abc",goversion="go`) {
		t.Errorf("got no build info with version and commit")
	}
}

// Statuses that HTTP does not know are passed on, and counted together: a destination could make 400 series of them.
func TestOddStatuses(t *testing.T) {
	m := New("v", "c")
	for _, status := range []int{599, 600, 601, 999} {
		m.CountRequest(status, reason.None, reason.SourceNone, time.Millisecond)
	}
	text := m.text()
	for _, want := range []string{`{status="599",reason="0",source=""} 1`, `{status="other",reason="0",source=""} 3`} {
		if !strings.Contains(text, "\nwhsentry_requests_total"+want+"\n") {
			t.Errorf("got no %s", want)
		}
	}
	if strings.Contains(text, `{status="600"`) {
		t.Errorf("got a series for the status 600")
	}
}
