package proxy

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func (m *Metrics) text() string {
	var b bytes.Buffer
	m.write(&b)
	return b.String()
}

// Every status and reason has its place, the first and the last ones too, and counts there alone.
func TestCountRequest(t *testing.T) {
	m := NewMetrics("v", "c")
	var counting sync.WaitGroup
	for range 4 { // at once: each counter is made once
		counting.Add(1)
		go func() { // awaited below
			defer counting.Done()
			for _, status := range []int{100, 200, 499, 599} {
				for r := firstReason; r <= lastReason; r++ {
					m.countRequest(status, r, time.Millisecond)
				}
				m.countRequest(status, reasonNone, time.Millisecond)
			}
		}()
	}
	counting.Wait()
	text := m.text()
	for _, status := range []int{100, 200, 499, 599} {
		for _, r := range []reason{reasonNone, firstReason, lastReason} {
			want := fmt.Sprintf("whsentry_requests_total{status=\"%d\",reason=\"%d\"} 4\n", status, r)
			if !strings.Contains(text, want) {
				t.Errorf("got no %s", want)
			}
		}
	}
	lines := strings.Count(text, "\nwhsentry_requests_total{")
	if want := 4 * (int(lastReason-firstReason) + 2); lines != want {
		t.Errorf("got %d series; want %d", lines, want)
	}
}

// Two proxies in one process, or one after another, do not share what they count.
func TestMetricsAreTheirOwn(t *testing.T) {
	a, b := NewMetrics("v", "c"), NewMetrics("v", "c")
	a.tunnelsTotal.Inc()
	if text := b.text(); !strings.Contains(text, "\nwhsentry_tunnels_total 0\n") {
		t.Errorf("one proxy's tunnels are another's")
	}
}

func TestListenerMetrics(t *testing.T) {
	m := NewMetrics("v", "c")
	first, second := m.listener("127.0.0.1:1"), m.listener("[::1]:2")
	first.open.Add(3)
	second.total.Inc()
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
	text := NewMetrics("1.2.3", "abc").text()
	if !strings.Contains(text, `whsentry_build_info{version="1.2.3",commit="abc",goversion="go`) {
		t.Errorf("got no build info with version and commit")
	}
}

// Statuses that HTTP does not know are passed on, and counted together: a destination could make 400 series of them.
func TestOddStatuses(t *testing.T) {
	m := NewMetrics("v", "c")
	for _, status := range []int{599, 600, 601, 999} {
		m.countRequest(status, reasonNone, time.Millisecond)
	}
	text := m.text()
	for _, want := range []string{`{status="599",reason="0"} 1`, `{status="other",reason="0"} 3`} {
		if !strings.Contains(text, "\nwhsentry_requests_total"+want+"\n") {
			t.Errorf("got no %s", want)
		}
	}
	if got := strings.Count(text, "\nwhsentry_requests_total{"); got != 2 {
		t.Errorf("got %d series; want 2", got)
	}
}
