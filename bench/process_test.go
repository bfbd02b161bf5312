package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What a program that a test starts shall be, and where it listens.
const (
	roleVariable    = "BENCH_TEST_ROLE"
	addressVariable = "BENCH_TEST_ADDRESS"
)

// playRole is what such a program does. It returns the exit code.
func playRole(role string) int {
	switch role {
	case "fails":
		fmt.Println("line one")
		fmt.Println("no such option")
		return 3
	case "forwards":
		transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
		fmt.Println(http.ListenAndServe(os.Getenv(addressVariable), forwarder(transport)))
		return 1
	case "pins":
		return printPins()
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
	case "parent":
		child := exec.Command("sleep", "100")
		if err := child.Start(); err != nil {
			return 1
		}
		if err := os.WriteFile("child", fmt.Append(nil, child.Process.Pid), 0o600); err != nil {
			return 1
		}
	}
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, mallocsMetric+" 1.5e3") })
	http.HandleFunc("/work", func(http.ResponseWriter, *http.Request) {
		for began := cpuTime(); cpuTime()-began < 100*time.Millisecond; {
			// Uses CPU time.
		}
	})
	fmt.Println(http.ListenAndServe(os.Getenv(addressVariable), nil))
	return 1
}

// cpuTime returns the CPU time that this program has used.
func cpuTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// startRole starts this program in a role.
func startRole(t *testing.T, role string) (*process, setup, error) {
	t.Helper()
	s := setup{dir: t.TempDir(), address: unused(t)}
	p, err := start(t.Context(), roleCommand(t, role, s.address), s, -1)
	if err == nil {
		t.Cleanup(p.stop)
	}
	return p, s, err
}

func roleCommand(t *testing.T, role, address string) command {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return command{path: self, metrics: address, env: []string{roleVariable + "=" + role, addressVariable + "=" + address}, files: map[string]string{"some.conf": "content"}}
}

func TestStartAndStop(t *testing.T) {
	for _, role := range []string{"listens", "stubborn"} {
		t.Run(role, func(t *testing.T) {
			p, s, err := startRole(t, role)
			if err != nil {
				t.Fatal(err)
			}
			if text, err := os.ReadFile(filepath.Join(s.dir, "some.conf")); string(text) != "content" || err != nil {
				t.Errorf("got %q, %v; want the file that the command names", text, err)
			}
			if !p.running() {
				t.Error("got a program that has ended; want one that runs")
			}
			p.patience = 50 * time.Millisecond
			p.stop()
			if p.running() {
				t.Error("got a program that runs; want one that has ended")
			}
			if _, err := p.usage(); err == nil || !strings.Contains(err.Error(), "has ended") {
				t.Errorf("got %v; want an error for a program that has ended", err)
			}
			p.stop() // once more does no harm
		})
	}
}

func TestStartFailures(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name    string
		ctx     context.Context
		command command
		address string
		want    string
	}{
		{"no such program", t.Context(), command{path: "/nowhere/proxy"}, unused(t), "start /nowhere/proxy: "},
		{"it ends", t.Context(), roleCommand(t, "fails", ""), unused(t), "it ended (exit status 3) before it listened"},
		{"what it printed", t.Context(), roleCommand(t, "fails", ""), unused(t), "it printed:\nline one\nno such option"},
		{"address in use", t.Context(), roleCommand(t, "listens", ""), listener.Addr().String(), "something listens on"},
		{"interrupted", ended, roleCommand(t, "listens", unused(t)), unused(t), "context canceled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := start(tt.ctx, tt.command, setup{dir: t.TempDir(), address: tt.address}, -1)
			if err == nil {
				p.stop()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v; want an error with %q", err, tt.want)
			}
		})
	}
}

func TestUsageSince(t *testing.T) {
	tests := []struct {
		name              string
		before, now, want usage
	}{
		{"all", usage{user: 1, system: 2, rss: 3, mallocs: 4}, usage{user: 11, system: 22, rss: 33, mallocs: 44}, usage{user: 10, system: 20, rss: 33, mallocs: 40}},
		{"ticks that run backwards", usage{user: 10, system: 10}, usage{user: 9, system: 15}, usage{user: 0, system: 4}},
		{"user takes all", usage{user: 10, system: 10}, usage{user: 16, system: 8}, usage{user: 4, system: 0}},
		{"unknown", usage{user: -1, system: -1, rss: -1, mallocs: -1}, usage{user: -1, system: -1, rss: -1, mallocs: -1}, usage{user: -1, system: -1, rss: -1, mallocs: -1}},
		{"mallocs of nobody but the scraper", usage{mallocs: 50}, usage{mallocs: 49}, usage{mallocs: 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.now.since(tt.before); got != tt.want {
				t.Errorf("got %+v; want %+v", got, tt.want)
			}
		})
	}
}

func TestMallocCounter(t *testing.T) {
	tests := []struct {
		name    string
		answers []int64 // of the program, two a count
		want    []int64
	}{
		{"asking costs nothing", []int64{100, 100, 150, 150}, []int64{0, 50}},
		{"asking costs 10", []int64{100, 110, 120, 130, 190, 200}, []int64{0, 0, 50}},
		{"asking costs more as time goes on", []int64{100, 110, 125, 145}, []int64{0, 0}},
		{"less than asking usually takes", []int64{100, 110, 115, 125}, []int64{0, 0}},
		{"does not tell", []int64{-1, -1}, []int64{-1}},
		{"not every time", []int64{100, 110, -1, -1, 170, 180}, []int64{0, -1, 50}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m mallocCounter
			for i, want := range tt.want {
				if got := m.count(func() int64 {
					answer := tt.answers[0]
					tt.answers = tt.answers[1:]
					return answer
				}); got != want {
					t.Errorf("got %d at count %d; want %d", got, i, want)
				}
			}
		})
	}
}
