package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func TestCompareCounts(t *testing.T) {
	tests := []struct {
		name    string
		figure  figure
		was, is float64
		want    string
	}{
		{"none", allocations, 0, 0, "same"},
		{"now and then", allocations, 0, 0.5, "same"},
		{"an allocation", allocations, 0, 1, "WORSE"},
		{"one of many", allocations, 40, 40.8, "same"},
		{"one too many", allocations, 40, 41, "WORSE"},
		{"a call", socketCalls, 5, 6, "WORSE"},
		{"at the edge", socketCalls, 5, 5.5, "same"},
		{"a call less", socketCalls, 5, 4, "better: write the file again"},
		{"some bytes", heldBytes, 1000, 1356, "same"},
		{"more bytes", heldBytes, 1000, 1357, "WORSE"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lines, worse := compareCounts(counts{"a": {tt.figure: tt.was}}, counts{"a": {tt.figure: tt.is}})
			if len(lines) != 1 || lines[0][4] != tt.want || (len(worse) > 0) != (tt.want == "WORSE") {
				t.Errorf("got %v, %v; want %s", lines, worse, tt.want)
			}
		})
	}
	lines, worse := compareCounts(counts{"a": {allocations: 1}, "gone": {allocations: 1}}, counts{"a": {socketCalls: 1}, "b": {socketCalls: 1}})
	if got, want := fmt.Sprint(lines), "not counted"; !strings.Contains(got, want) || !strings.Contains(got, "not in the file") {
		t.Errorf("got %s; want what cannot be compared", got)
	}
	// System calls need strace; what the process tells by itself is always there.
	if got, want := strings.Join(worse, "; "), "a: allocations a request cannot be counted any more; gone: allocations a request cannot be counted any more"; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
	if _, worse := compareCounts(counts{"a": {socketCalls: 1}}, counts{"a": {}}); len(worse) > 0 {
		t.Errorf("got %v; want nothing worse without strace", worse)
	}
}

func TestCountSocketCalls(t *testing.T) {
	const log = `101 read(7<socket:[11]>, ""..., 4096) = 1100
101 sendto(9<socket:[12]>, ""..., 1200, 0, NULL, 0 <unfinished ...>
102 epoll_pwait(4<anon_inode:[eventpoll]>, [], 128, 0, NULL, 0) = 0
102 write(5<anon_inode:[eventfd]>, ""..., 8) = 8
102 write(3</tmp/access.log>, ""..., 65536) = 65536
101 <... sendto resumed>) = 1200
101 read(9<socket:[12]>, 0xc000, 4096) = -1 EAGAIN (Resource temporarily unavailable)
103 socket(AF_INET, SOCK_STREAM, IPPROTO_TCP) = 10<socket:[13]>
103 socket(AF_INET, SOCK_STREAM, IPPROTO_TCP <unfinished ...>
103 <... socket resumed>) = 14<socket:[15]>
103 epoll_ctl(4<anon_inode:[eventpoll]>, EPOLL_CTL_ADD, 10<socket:[13]>, {...}) = 0
103 accept4(6<socket:[10]>,  <unfinished ...>
101 write(3</tmp/access.log>, ""..., 65536 <unfinished ...>
103 <... accept4 resumed>0xc000, [112], SOCK_CLOEXEC) = -1 EAGAIN (Resource temporarily unavailable)
101 <... write resumed>) = 65536
read(7<socket:[11]>, "", 4096) = 0
strace: Process 101 detached
`
	use, err := countSocketCalls(strings.NewReader(log))
	got := fmt.Sprint(use.done, use.empty)
	if want := "map[epoll_ctl:1 read:2 sendto:1 socket:2] map[accept4:1 read:1]"; got != want || err != nil {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	if got, want := listCalls(use.done, 2), "read 1.0, socket 1.0, epoll_ctl 0.5, sendto 0.5"; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
	if got := listCalls(use.done, 1000); got != "" {
		t.Errorf("got %s of hardly any; want nothing", got)
	}
	if got := perRequest(use.done, 3); got != 2 {
		t.Errorf("got %g calls a request; want 2", got)
	}
}

// TestCounts counts what the test's own proxy takes, up to what that does not tell.
func TestCounts(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	o := suiteOfTest(t, &out)
	o.counts = filepath.Join(t.TempDir(), "counts.yaml")
	if err := runCounts(t.Context(), o); err == nil || !strings.Contains(err.Error(), "does not tell what memory it holds") {
		t.Errorf("got %v; want an error, for the test's proxy tells nothing", err)
	}
	if want := "post, TLS to the destination: not counted: it never learnt to"; !strings.Contains(out.String(), want) {
		t.Errorf("got %q; want %q", out.String(), want)
	}
	if n := leftovers(t); n != 0 {
		t.Errorf("got %d temporary folders left; want none", n)
	}
}

func TestSettleCounts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "counts.yaml")
	var out bytes.Buffer
	s := &suite{out: &out}
	now := counts{"post": {allocations: 0, socketCalls: 5.01}, "held, for a while": {heldBytes: 12345.6}}
	if err := s.settle(file, now); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	var back counts
	if err != nil || yaml.Unmarshal(text, &back) != nil || back["held, for a while"][heldBytes] != 12346 || len(back["post"]) != 2 {
		t.Errorf("got %v from %q, %v; want what was counted", back, text, err)
	}
	if err := s.settle(file, now); err != nil {
		t.Errorf("got %v; want no change", err)
	}
	now["post"][socketCalls] = 6.5
	if err := s.settle(file, now); err == nil || !strings.Contains(err.Error(), "post: system calls on sockets a request 6.50, was 5.01") {
		t.Errorf("got %v; want an error that names what has become worse", err)
	}
}
