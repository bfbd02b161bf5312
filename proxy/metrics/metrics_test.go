package metrics

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"whsentry/proxy/reason"
)

func (m *Metrics) text() string {
	var b bytes.Buffer
	m.Write(&b)
	return b.String()
}

// Every status and reason has its place, the first and the last ones too, and counts there alone.
func TestCountRequest(t *testing.T) {
	m := New("v", "c")
	var counting sync.WaitGroup
	for range 4 { // at once: each counter is made once
		counting.Add(1)
		go func() { // awaited below
			defer counting.Done()
			for _, status := range []int{100, 200, 499, 599} {
				for r := reason.First; r <= reason.Last; r++ {
					m.CountRequest(status, r, time.Millisecond)
				}
				m.CountRequest(status, reason.None, time.Millisecond)
			}
		}()
	}
	counting.Wait()
	text := m.text()
	for _, status := range []int{100, 200, 499, 599} {
		for _, r := range []reason.Code{reason.None, reason.First, reason.Last} {
			want := fmt.Sprintf("whsentry_requests_total{status=\"%d\",reason=\"%d\"} 4\n", status, r)
			if !strings.Contains(text, want) {
				t.Errorf("got no %s", want)
			}
		}
	}
	lines := strings.Count(text, "\nwhsentry_requests_total{")
	if want := 4 * (int(reason.Last-reason.First) + 2); lines != want {
		t.Errorf("got %d series; want %d", lines, want)
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

func TestBuildInfo(t *testing.T) {
	text := New("1.2.3", "abc").text()
	if !strings.Contains(text, `whsentry_build_info{version="1.2.3",commit="abc",goversion="go`) {
		t.Errorf("got no build info with version and commit")
	}
}
