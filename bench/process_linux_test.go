package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestUsage(t *testing.T) {
	p, s, err := startRole(t, "listens")
	if err != nil {
		t.Fatal(err)
	}
	before, err := p.usage()
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + s.address + "/work")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	now, err := p.usage()
	if err != nil {
		t.Fatal(err)
	}
	used := now.since(before)
	// The kernel counts it in ticks of up to 10 ms, user and system apart.
	if used.cpu() < 10*time.Millisecond || used.cpu() > 5*time.Second || used.cpu() != used.user+used.system {
		t.Errorf("got %v of CPU time, %v user, %v system; want about 100ms", used.cpu(), used.user, used.system)
	}
	if used.rss < 1<<20 || used.rss > 1<<30 {
		t.Errorf("got %d bytes of resident memory; want some MiB", used.rss)
	}
	if before.mallocs != 0 || used.mallocs != 0 {
		t.Errorf("got %d mallocs and %d more; want none", before.mallocs, used.mallocs)
	}
}

func TestStopEndsTheWholeFamily(t *testing.T) {
	p, s, err := startRole(t, "parent")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(s.dir, "child"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	child, err := readStat(pid)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(p.family()); n != 2 {
		t.Errorf("got a family of %d; want parent and child", n)
	}
	p.stop()
	if child.alive() {
		t.Error("got a child that is alive; want none after stop")
	}
}

func TestPinned(t *testing.T) {
	var before, now unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	cpu := 0
	for !before.IsSet(cpu) {
		cpu++
	}
	for name, tt := range map[string]struct {
		cpu  int
		want string
	}{"on one": {cpu, strconv.Itoa(cpu)}, "on any": {-1, ""}} {
		t.Run(name, func(t *testing.T) {
			var status strings.Builder
			child := exec.Command("cat", "/proc/self/status")
			child.Stdout = &status
			if err := pinned(tt.cpu, child.Start); err != nil {
				t.Fatal(err)
			}
			if err := child.Wait(); err != nil {
				t.Fatal(err)
			}
			_, after, _ := strings.Cut(status.String(), "Cpus_allowed_list:")
			got, _, _ := strings.Cut(strings.TrimSpace(after), "\n")
			if tt.want != "" && got != tt.want {
				t.Errorf("got a child on CPUs %s; want %s", got, tt.want)
			}
		})
	}
	if err := unix.SchedGetaffinity(0, &now); err != nil || now != before {
		t.Errorf("got a test on other CPUs than before, %v; want the same", err)
	}
}

// In a program of its own, for it lasts.
func TestPinLoad(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), roleVariable+"=pins", "GORACE=atexit_sleep_ms=0")
	if text, err := child.CombinedOutput(); err != nil || string(text) != "apart\n" {
		t.Errorf("got %q, %v; want the load's threads apart from the proxies' CPU", text, err)
	}
}

// printPins pins this program and prints whether any of its threads may use the proxies' CPU.
func printPins() int {
	busy := make(chan struct{})
	for range 20 {
		go func() { // ends with the program
			for range busy {
				time.Sleep(time.Microsecond)
			}
		}()
	}
	cpu, err := pinLoad()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, thread := range threads {
		id, _ := strconv.Atoi(thread.Name())
		var set unix.CPUSet
		if unix.SchedGetaffinity(id, &set) == nil && cpu >= 0 && set.IsSet(cpu) {
			fmt.Println("together")
			return 0
		}
	}
	fmt.Println("apart")
	return 0
}

// restorePins has the end of the test give back to this program the CPUs that the suite keeps it off.
func restorePins(t *testing.T) {
	t.Helper()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	procs := runtime.GOMAXPROCS(0)
	t.Cleanup(func() {
		if err := pinThreads(&before); err != nil {
			t.Error(err)
		}
		runtime.GOMAXPROCS(procs)
	})
}
