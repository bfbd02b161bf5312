package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestClosedLoop(t *testing.T) {
	o, proxy := testOrigins(t), forwardProxy(t)
	const count = 50
	tests := []struct {
		name  string
		load  load
		bytes int64 // of all answers
	}{
		{"GET", load{targets: []string{onPort(o.plain, "/ok")}, connections: 4, count: count}, 3 * count},
		{"POST", load{targets: []string{onPort(o.plain, "/ok")}, body: make([]byte, 10_000), connections: 4, count: count}, 3 * count},
		{"HEAD", load{targets: []string{onPort(o.plain, "/size/0")}, method: "HEAD", connections: 4, count: count}, 0},
		{"one connection", load{targets: []string{onPort(o.plain, "/ok")}, count: count}, 3 * count},
		{"more connections than requests", load{targets: []string{onPort(o.plain, "/ok")}, connections: 100, count: count}, 3 * count},
		{"cold", load{targets: []string{onPort(o.plain, "/ok")}, connections: 4, count: count, cold: true}, 3 * count},
		{"body larger than a buffer", load{targets: []string{onPort(o.plain, "/size/100000")}, connections: 2, count: count}, 100_000 * count},
		{"origin closes", load{targets: []string{onPort(o.plain, "/close")}, connections: 4, count: count}, 3 * count},
		{"targets in turn", load{targets: []string{onPort(o.plain, "/size/1"), onPort(o.plain, "/size/3")}, connections: 4, count: count}, 2 * count},
		{"below a ceiling", load{targets: []string{onPort(o.plain, "/ok")}, connections: 4, count: count, maxRate: 10_000}, 3 * count},
		{"open loop", load{targets: []string{onPort(o.plain, "/ok")}, connections: 4, count: count, rate: 1000}, 3 * count},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var begun, ended int
			var done atomic.Int64
			tt.load.begin, tt.load.end, tt.load.done = func() { begun++ }, func() { ended++ }, &done
			got, err := tt.load.run(t.Context(), proxy)
			if err != nil || got.requests != count || got.failed != 0 || got.firstError != "" {
				t.Fatalf("got %d requests, %d failed, %q, %v; want %d", got.requests, got.failed, got.firstError, err, count)
			}
			if got.bytes != tt.bytes || got.latency.TotalCount() != count || got.took <= 0 || done.Load() != count {
				t.Errorf("got %d bytes, %d latencies, took %v, %d done; want %d, %d, over 0, %d", got.bytes, got.latency.TotalCount(), got.took, done.Load(), tt.bytes, count, count)
			}
			if begun != 1 || ended != 1 {
				t.Errorf("got begin %d times and end %d times; want each once", begun, ended)
			}
		})
	}
}

func TestLoadFailures(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	tests := []struct {
		name   string
		answer string
		any    bool   // load.anyStatus
		want   string // first error; "": succeeds
	}{
		{"success", ok, false, ""},
		{"interim answers", "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" + ok, false, ""},
		{"too many of them", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", maxInterim) + ok, false, "over 10 interim responses"},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", true, ""},
		{"another status", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", false, "status 404"},
		{"another status, allowed", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", true, ""},
		{"server error", "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", true, "status 500"},
		{"refused", "HTTP/1.1 403 Forbidden\r\nX-WhSentry-Reason: IP 10.0.0.1 is blocked\r\nContent-Length: 0\r\n\r\n", true, "status 403: IP 10.0.0.1 is blocked"},
		{"ends with the connection", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", false, ""},
		{"cut", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\nhello", false, "the answer's body: unexpected EOF"},
		{"no HTTP", "hello\r\n\r\n", false, "want HTTP/1.1 and a status"},
		{"closes at once", "", false, "no answer: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			proxy := scripted(t, answering(func(int, int) string { return tt.answer }))
			l := load{targets: []string{"http://a.test/"}, count: 3, cold: true, anyStatus: tt.any}
			got, err := l.run(t.Context(), proxy)
			if err != nil {
				t.Fatal(err)
			}
			if tt.want == "" && (got.requests != l.count || got.failed != 0) {
				t.Errorf("got %d requests, %d failed: %s; want %d", got.requests, got.failed, got.firstError, l.count)
			}
			if tt.want != "" && (got.requests != 0 || got.failed != l.count || !strings.Contains(got.firstError, tt.want)) {
				t.Errorf("got %d requests, %d failed: %s; want %d failed: %s", got.requests, got.failed, got.firstError, l.count, tt.want)
			}
		})
	}
}

func TestLoadTimeout(t *testing.T) {
	t.Parallel()
	hang := scripted(t, func(_ int, conn net.Conn) { sink(conn) })
	got, err := load{targets: []string{"http://a.test/"}, count: 1, cold: true, timeout: 2 * time.Second}.run(t.Context(), hang)
	if err != nil || got.failed != 1 || got.firstError != "no whole answer within 2s" {
		t.Errorf("got %d failed: %s, %v; want 1 that took too long", got.failed, got.firstError, err)
	}
}

// A proxy may close a connection between requests, with a word or without.
func TestConnectionsThatEnd(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	const last = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
	tests := []struct {
		name   string
		answer func(conn, request int) string
		failed int64
	}{
		{"after each answer, with a word", func(int, int) string { return last }, 0},
		{"after two answers, without a word", func(_, request int) string {
			if request == 2 {
				return ""
			}
			return ok
		}, 0},
		{"before the first answer", func(conn, request int) string {
			if conn == 0 {
				return ""
			}
			return ok
		}, 1},
		{"within an answer", func(conn, request int) string {
			if conn == 0 && request == 1 {
				return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\no"
			}
			return ok
		}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			proxy := scripted(t, answering(tt.answer))
			got, err := load{targets: []string{"http://a.test/"}, count: 6, cold: true}.run(t.Context(), proxy)
			if err != nil || got.requests != 6-tt.failed || got.failed != tt.failed {
				t.Errorf("got %d requests, %d failed: %s, %v; want %d and %d", got.requests, got.failed, got.firstError, err, 6-tt.failed, tt.failed)
			}
		})
	}
}

func TestLoadEndsWithItsDuration(t *testing.T) {
	o, proxy := testOrigins(t), forwardProxy(t)
	got, err := load{targets: []string{onPort(o.plain, "/ok")}, connections: 2, duration: 100 * time.Millisecond}.run(t.Context(), proxy)
	if err != nil || got.requests == 0 || got.failed != 0 || got.took < 100*time.Millisecond {
		t.Errorf("got %d requests, %d failed, took %v, %v; want some, 0 and 100ms or more", got.requests, got.failed, got.took, err)
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	o := testOrigins(t)
	hang := scripted(t, func(_ int, conn net.Conn) { sink(conn) })
	for name, l := range map[string]load{
		"waiting for an answer": {targets: []string{onPort(o.plain, "/ok")}, connections: 4, count: 100},
		"open loop":             {targets: []string{onPort(o.plain, "/ok")}, connections: 4, rate: 1000, duration: time.Hour, cold: true},
		"slow open loop":        {targets: []string{onPort(o.plain, "/ok")}, connections: 4, rate: 0.001, duration: time.Hour, cold: true},
		"idle clients":          {kind: loadIdleClients, targets: []string{onPort(o.plain, "/ok")}, connections: 4},
		"destinations":          {kind: loadDestinations, targets: []string{onPort(o.plain, "/ok")}, connections: 4},
		"tunnels":               {kind: loadTunnelOpen, targets: []string{"a.test:1"}, connections: 4, count: 100},
		"bulk":                  {kind: loadTunnelBulk, targets: []string{"a.test:1"}, connections: 4, count: 100},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
			began := time.Now()
			got, err := l.run(ctx, hang)
			if err != context.Canceled || got.failed != 0 {
				t.Errorf("got %d failed: %s, %v; want none and %v", got.failed, got.firstError, err, context.Canceled)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %v; want an end at once", took)
			}
		})
	}
}

func TestLoadThatCannotBeSent(t *testing.T) {
	tests := []struct {
		name string
		load load
		want string
	}{
		{"no target", load{count: 1}, "0 targets; want"},
		{"no end", load{targets: []string{"http://a/"}}, "without an end"},
		{"negative rate", load{targets: []string{"http://a/"}, count: 1, rate: -1}, "negative"},
		{"bad target", load{targets: []string{"a"}, count: 1}, "absolute URL"},
		{"no proxy", load{targets: []string{"http://a/"}, count: 1, connections: 3}, "connect to the proxy"},
		{"no proxy for tunnels", load{kind: loadTunnelBulk, targets: []string{"a:1"}, count: 1}, "connect to the proxy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.load.run(t.Context(), refusing(t))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v; want an error with %q", err, tt.want)
			}
			if got.latency == nil {
				t.Error("got no histogram; want an empty one")
			}
		})
	}
}

// unused returns an address that nobody listens on for now.
func unused(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// refusing returns an address that refuses connections while the test runs: the near end of one that is open.
func refusing(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}
	conn, err := dialer.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().String()
}

// What fails at once must not be asked as fast as it fails.
func TestFailuresArePaced(t *testing.T) {
	proxy := scripted(t, answering(func(int, int) string { return "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n" }))
	got, err := load{targets: []string{"http://a.test/"}, count: 10}.run(t.Context(), proxy)
	if err != nil || got.failed != 10 || got.took < 10*failurePause {
		t.Errorf("got %d failures, took %v, %v; want 10 in %v or more", got.failed, got.took, err, 10*failurePause)
	}
}

func TestClosedLoopBelowCeiling(t *testing.T) {
	t.Parallel()
	o, proxy := testOrigins(t), forwardProxy(t)
	const rate, count = 200, 101
	got, err := load{targets: []string{onPort(o.plain, "/ok")}, connections: 8, maxRate: rate, count: count}.run(t.Context(), proxy)
	least := (count-1)*time.Second/rate - maxCatchUp // the pace was set before the time was taken
	if err != nil || got.failed != 0 || got.requests != count || got.took < least {
		t.Errorf("got %d requests, %d failed, took %v, %v; want %d in %v or more", got.requests, got.failed, got.took, err, count, least)
	}
}

func TestIdleClients(t *testing.T) {
	o, proxy := testOrigins(t), forwardProxy(t)
	held := 0
	l := load{kind: loadIdleClients, targets: []string{onPort(o.plain, "/ok")}, connections: 100, pause: time.Millisecond}
	probe := newCountingProxy(t, proxy)
	l.end = func() { held = int(probe.open.Load()) }
	got, err := l.run(t.Context(), probe.address)
	if err != nil || got.requests != 100 || got.failed != 0 {
		t.Errorf("got %d clients, %d failed: %s, %v; want 100", got.requests, got.failed, got.firstError, err)
	}
	if held != 100 {
		t.Errorf("got %d connections at the end; want 100", held)
	}
	waitFor(t, "end of the connections", func() bool { return probe.open.Load() == 0 })
}

// countingProxy passes connections on and counts those that are open.
type countingProxy struct {
	address string
	open    atomic.Int64
	all     atomic.Int64 // that there have been
}

func newCountingProxy(t *testing.T, to string) *countingProxy {
	t.Helper()
	p := &countingProxy{}
	p.address = scripted(t, func(_ int, conn net.Conn) {
		p.open.Add(1)
		p.all.Add(1)
		defer p.open.Add(-1)
		up, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		carry(conn, up)
	})
	return p
}

func TestIdleClientsThatAreClosed(t *testing.T) {
	proxy := scripted(t, answering(func(int, int) string { return "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" }))
	got, err := load{kind: loadIdleClients, targets: []string{"http://a.test/"}, connections: 2}.run(t.Context(), proxy)
	if err != nil || got.failed != 2 || !strings.Contains(got.firstError, "closed a connection") {
		t.Errorf("got %d failed: %s, %v; want 2", got.failed, got.firstError, err)
	}
}

func TestDestinations(t *testing.T) {
	o, proxy := testOrigins(t), forwardProxy(t)
	l := load{kind: loadDestinations, connections: 8}
	for i := range 200 {
		// Their number shows which were asked.
		l.targets = append(l.targets, onPort(o.plain, fmt.Sprintf("/size/%d", i)))
	}
	got, err := l.run(t.Context(), proxy)
	if err != nil || got.requests != 200 || got.failed != 0 || got.bytes != 199*200/2 {
		t.Errorf("got %d requests, %d bytes, %d failed, %v; want 200 and %d", got.requests, got.bytes, got.failed, err, 199*200/2)
	}
}

func TestDestinationsOutOfTime(t *testing.T) {
	proxy := scripted(t, answering(func(_, request int) string {
		time.Sleep(20 * time.Millisecond)
		return "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	}))
	l := load{kind: loadDestinations, targets: make([]string, 1000), duration: 50 * time.Millisecond}
	for i := range l.targets {
		l.targets[i] = "http://a.test/"
	}
	if _, err := l.run(t.Context(), proxy); err == nil || !strings.Contains(err.Error(), "1000 destinations were wanted") {
		t.Errorf("got %v; want an error that tells how many were reached", err)
	}
}

func TestLoneRequests(t *testing.T) {
	o, proxy := testOrigins(t), forwardProxy(t)
	probe := newCountingProxy(t, proxy)
	got, err := load{targets: []string{onPort(o.plain, "/ok")}, lone: true, cold: true, connections: 2, count: 20}.run(t.Context(), probe.address)
	// The two that were opened in advance are used.
	if err != nil || got.requests != 20 || got.failed != 0 || probe.all.Load() != 20 {
		t.Errorf("got %d requests over %d connections, failed: %s, %v; want 20 over 20", got.requests, probe.all.Load(), got.firstError, err)
	}
}

func TestRequestsInTunnels(t *testing.T) {
	o, proxy := testOrigins(t), forwardProxy(t)
	probe := newCountingProxy(t, proxy)
	l := load{targets: []string{onPort(o.plain, "/ok")}, tunnel: fmt.Sprintf("127.0.0.1:%d", o.plain), connections: 2, count: 20}
	got, err := l.run(t.Context(), probe.address)
	if err != nil || got.requests != 20 || got.failed != 0 || probe.all.Load() != 2 {
		t.Errorf("got %d requests over %d connections, failed: %s, %v; want 20 over 2", got.requests, probe.all.Load(), got.firstError, err)
	}
	l.tunnel = unused(t)
	if got, err := l.run(t.Context(), proxy); err == nil && got.failed == 0 {
		t.Errorf("got %d requests in a tunnel to nobody, %v; want none", got.requests, err)
	}
}
