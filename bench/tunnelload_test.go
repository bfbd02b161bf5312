package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestTunnelBulk(t *testing.T) {
	t.Parallel()
	o, proxy := testOrigins(t), forwardProxy(t)
	target := fmt.Sprintf("127.0.0.1:%d", o.tunnel)
	tests := []struct {
		name string
		load load
	}{
		{"by count", load{count: 10 << 20}},
		{"by duration", load{duration: 1500 * time.Millisecond}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var done atomic.Int64
			l := tt.load
			l.kind, l.targets, l.connections, l.done = loadTunnelBulk, []string{target}, 4, &done
			got, err := l.run(t.Context(), proxy)
			if err != nil || got.requests != 4 || got.failed != 0 {
				t.Fatalf("got %d tunnels, %d failed: %s, %v; want 4", got.requests, got.failed, got.firstError, err)
			}
			if got.bytes < max(l.count, 1<<20) || got.bytes != done.Load() || got.took <= 0 {
				t.Errorf("got %d bytes, %d done, took %v; want %d or more", got.bytes, done.Load(), got.took, max(l.count, 1<<20))
			}
		})
	}
}

func TestTunnelOpen(t *testing.T) {
	o, proxy := testOrigins(t), forwardProxy(t)
	l := load{kind: loadTunnelOpen, targets: []string{fmt.Sprintf("127.0.0.1:%d", o.tunnel)}, connections: 4, count: 50}
	got, err := l.run(t.Context(), proxy)
	if err != nil || got.requests != 50 || got.failed != 0 || got.bytes != 100 || got.latency.TotalCount() != 50 {
		t.Errorf("got %d tunnels, %d failed: %s, %d bytes, %v; want 50 and 100 bytes", got.requests, got.failed, got.firstError, got.bytes, err)
	}
}

func TestTunnelFailures(t *testing.T) {
	answer := func(text string) func(int, net.Conn) {
		return answering(func(int, int) string { return text })
	}
	tests := []struct {
		name  string
		proxy func(int, net.Conn)
		want  string
	}{
		{"refused", answer("HTTP/1.1 403 IP 10.0.0.1 is blocked\r\n\r\n"), `"HTTP/1.1 403 IP 10.0.0.1 is blocked"`},
		{"closed", answer(""), "no answer"},
		{"no HTTP", answer("hello\r\n\r\n"), "want HTTP/1.1 and a status"},
		{"bytes too early", answer("HTTP/1.1 200 OK\r\n\r\nhello"), "5 bytes behind the answer's head"},
		{"tunnel to nowhere", func(_ int, conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			_, _ = io.CopyN(io.Discard, conn, 50)
		}, "through a tunnel"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := load{kind: loadTunnelOpen, targets: []string{"a.test:443"}, count: 1, timeout: 10 * time.Second}
			got, err := l.run(t.Context(), scripted(t, tt.proxy))
			if err != nil || got.failed != 1 || !strings.Contains(got.firstError, tt.want) {
				t.Errorf("got %d failed: %s, %v; want 1: %s", got.failed, got.firstError, err, tt.want)
			}
		})
	}
}

func TestBulkTunnelThatEnds(t *testing.T) {
	proxy := scripted(t, func(_ int, conn net.Conn) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		_, _ = io.CopyN(io.Discard, conn, 1<<20)
	})
	l := load{kind: loadTunnelBulk, targets: []string{"a.test:443"}, duration: 10 * time.Second}
	got, err := l.run(t.Context(), proxy)
	if err != nil || got.failed != 1 || got.requests != 0 || !strings.Contains(got.firstError, "a tunnel ended") {
		t.Errorf("got %d tunnels, %d failed: %s, %v; want 1 failed", got.requests, got.failed, got.firstError, err)
	}
}
