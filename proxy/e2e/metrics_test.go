package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"whsentry/guard"
	"whsentry/proxy"
)

// Every metric of SPEC 11, by the pattern of its line, is there from the start or once what it counts has happened.
func TestEveryMetricIsThere(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	s.exchange(post(o, "/", "body")).check(t, "200 OK", "")
	s.exchange("GET http://127.0.0.2/ HTTP/1.1\r\nHost: x\r\n\r\n").check(t, "403 Forbidden", "1000")
	s.waitMetric(series(200, 0), "1")
	s.waitMetric(series(403, 1000), "1")
	s.waitMetric("whsentry_request_duration_seconds_count", "2")
	s.waitMetric("whsentry_response_bytes_total", "26")
	s.waitMetric(idleConnections, "1")
	all := s.scrape()
	const number = ` [0-9.e+-]+$`
	want := []string{
		`whsentry_requests_total\{status="200",reason="0",source=""\} 1$`,
		`whsentry_requests_total\{status="403",reason="1000",source="policy"\} 1$`,
		`whsentry_request_duration_seconds_bucket\{le="0.005"\}` + number,
		`whsentry_request_duration_seconds_bucket\{le="\+Inf"\} 2$`,
		`whsentry_request_duration_seconds_count 2$`,
		`whsentry_request_duration_seconds_sum` + number,
		`whsentry_client_connections\{listener="127.0.0.1:0"\}` + number,
		`whsentry_client_connections_total\{listener="127.0.0.1:0"\} 2$`,
		`whsentry_destination_connections\{state="busy"\} 0$`,
		`whsentry_destination_connections\{state="idle"\} 1$`,
		`whsentry_destination_connections_opened_total 1$`,
		`whsentry_destination_connections_reused_total 0$`,
		`whsentry_destination_connections_closed_total\{why="idle"\} 0$`,
		`whsentry_destination_connections_closed_total\{why="lifetime"\} 0$`,
		`whsentry_refused_addresses_total\{rule="[^"]+"\} 1$`,
		`whsentry_request_bytes_total 4$`,
		`whsentry_response_bytes_total 26$`,
		`whsentry_buffered_bytes 0$`,
		`whsentry_tunnels 0$`,
		`whsentry_tunnels_total 0$`,
		`whsentry_dns_lookups_total\{result="ok"\}` + number,
		`whsentry_dns_lookups_total\{result="cached"\}` + number,
		`whsentry_dns_lookups_total\{result="failed"\}` + number,
		`whsentry_trust_store_roots [1-9][0-9]*$`,
		`whsentry_trust_store_timestamp_seconds [1-9][0-9.e+]*$`,
		`whsentry_trust_store_refreshes_total\{result="[a-z]+"\} 0$`,
		`whsentry_config_reloads_total\{result="ok"\} 0$`,
		`whsentry_config_reloads_total\{result="failed"\} 0$`,
		`whsentry_log_errors_total 0$`,
		`whsentry_build_info\{[^}]*version="test"[^}]*\} 1$`,
		`go_goroutines` + number,
		`process_resident_memory_bytes` + number,
		`process_open_fds` + number,
	}
	for _, phase := range []string{"dns", "connect", "tls", "first_byte"} {
		want = append(want,
			`whsentry_phase_duration_seconds_bucket\{phase="`+phase+`",le="\+Inf"\}`+number,
			`whsentry_phase_duration_seconds_count\{phase="`+phase+`"\}`+number)
	}
	for _, w := range want {
		if !regexp.MustCompile(`(?m)^` + w).MatchString(all) {
			t.Errorf("no line matches %s", w)
		}
	}
	if strings.Contains(all, "vmrange") {
		t.Errorf("there are vmrange buckets, which Prometheus does not know")
	}
	checkFormat(t, all)
}

// checkFormat holds text against Prometheus' format: each series once, each value a number, each histogram's
// buckets rising.
func checkFormat(t *testing.T, text string) {
	t.Helper()
	line := regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{([a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\.)*",?\s*)*\})? (\S+)$`)
	seen := make(map[string]bool)
	last, bucket := 0.0, ""
	for _, l := range strings.Split(strings.TrimSpace(text), "\n") {
		if strings.HasPrefix(l, "#") {
			continue
		}
		m := line.FindStringSubmatch(l)
		if m == nil {
			t.Errorf("the line %q is not in Prometheus' format", l)
			continue
		}
		series := m[1] + m[2]
		if seen[series] {
			t.Errorf("the series %s is there twice", series)
		}
		seen[series] = true
		value, err := strconv.ParseFloat(m[4], 64)
		if err != nil {
			t.Errorf("the value of %q: %v", l, err)
		}
		name, _, isBucket := strings.Cut(series, `le="`)
		if !isBucket || !strings.HasSuffix(m[1], "_bucket") {
			continue
		}
		if name != bucket {
			last, bucket = 0, name
		}
		if value < last {
			t.Errorf("the buckets of %s do not rise: %q", name, l)
		}
		last = value
	}
}

// No label's value comes from a client or a destination.
func TestLabelsComeFromNobodyElse(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answeringOnce(t, "HTTP/1.1 299 Evil-Label\r\nX-WhSentry-ReasonCode: 777\r\nContent-Length: 0\r\n\r\n")
	for _, status := range []int{100, 599, 600, 999} {
		bad := answeringOnce(t, fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", status))
		if status == 100 {
			continue
		}
		s.exchange(get(bad, "/"))
	}
	s.exchange("EVILMETHOD http://"+o.addr+"/evil HTTP/1.1\r\nHost: evil.example\r\nRequest-ID: evil\r\n\r\n").check(t, "299 Evil-Label", "")
	s.waitMetric(series(299, 0), "1")
	s.waitMetric(series(599, 0), "1")
	s.waitMetric("whsentry_request_duration_seconds_count", "4")
	all := s.scrape()
	for _, evil := range []string{"evil", "EVIL", "Evil", `"777"`, `status="600"`, `status="999"`} {
		if strings.Contains(all, evil) {
			t.Errorf("%q is in the metrics", evil)
		}
	}
}

func TestRequestsAreCounted(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.MaxRequestBodySize, cfg.MaxResponseBodySize = 100, 100
		cfg.ConnectMode = proxy.ConnectDeny
	})
	ok := answering(t, okResponse)
	large := answering(t, withLength(pattern(101)))
	bad := answering(t, "nonsense\r\n")
	for _, tt := range []struct {
		request        string
		status, reason int
		times          int
	}{
		{get(ok, "/"), 200, 0, 3},
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, 1002, 2},
		{"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, 1003, 1},
		{"GET http://127.0.0.2/ HTTP/1.1\r\nHost: x\r\n\r\n", 403, 1000, 2},
		{"GET http://127.0.0.1:25/ HTTP/1.1\r\nHost: x\r\n\r\n", 403, 1013, 1},
		{"GET https://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nX-WhSentry-ClientCert: nobody\r\n\r\n", 400, 1010, 1},
		{get(large, "/"), 502, 1008, 1},
		{get(bad, "/"), 502, 1011, 1},
		{post(ok, "/", pattern(101)), 413, 1012, 1},
		{connectRequest(ok), 405, 1015, 1},
	} {
		for range tt.times {
			if r := s.exchange(tt.request); r.code() != tt.status {
				t.Errorf("got %q to %.40q; want %d", r.status, tt.request, tt.status)
			}
		}
		s.waitMetric(series(tt.status, tt.reason), strconv.Itoa(tt.times))
	}
	s.waitMetric("whsentry_request_duration_seconds_count", "14")
	s.waitMetric(busyConnections, "0")
	s.waitMetric(clientCounter, "14")
}

// Opened connections are closed ones and those that are there still.
func TestConnectionsAddUp(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, o := range []*origin{
		answering(t, okResponse), answeringOnce(t, okResponse), answeringOnce(t, "x"), dropSecond(t),
		answering(t, okResponse+"x"), answeringOnce(t, untilClose("")), echoing(t),
	} {
		c := s.dial()
		for range 3 {
			c.send(get(o, "/"))
			if _, err := c.tryReceive("GET"); err != nil {
				break
			}
		}
		c.abort()
	}
	s.waitMetric(busyConnections, "0")
	opened, idle, closed := 0.0, 0.0, 0.0
	for _, l := range strings.Split(s.scrape(), "\n") {
		name, text, _ := strings.Cut(l, " ")
		value, _ := strconv.ParseFloat(text, 64)
		switch {
		case name == "whsentry_destination_connections_opened_total":
			opened = value
		case name == idleConnections:
			idle = value
		case strings.HasPrefix(name, "whsentry_destination_connections_closed_total"):
			closed += value
		}
	}
	if opened != closed+idle || opened == 0 {
		t.Errorf("got %v opened, %v closed, %v idle; want the first to be the sum of the others", opened, closed, idle)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, tt := range []struct {
		path   string
		status int
	}{{"/healthz", 200}, {"/readyz", 200}, {"/metrics", 200}, {"/", 200}, {"/debug/pprof/", 404}} {
		if status, _ := s.admin(tt.path); status != tt.status {
			t.Errorf("got %d for %s; want %d", status, tt.path, tt.status)
		}
	}
}
