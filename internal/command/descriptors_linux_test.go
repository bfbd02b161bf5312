package command

import (
	"bytes"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLastDescriptor(t *testing.T) {
	tests := []struct {
		name           string
		maxConnections int
		limit          uint64
		want           int
	}{
		{"default", 16384, 1 << 20, 32767},
		{"below the limit", 511, 1024, 1021},
		{"at the limit", 512, 1024, 1023},
		{"over the limit", 513, 1024, 1023},
		{"one", 1, 1024, 1},
		{"none", 0, 1024, 1},
		{"more than any machine serves", math.MaxInt, math.MaxUint64, maxDescriptorTable - 1},
		{"no limit", 1000, unix.RLIM_INFINITY, 1999},
		{"limit of none", 1000, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := lastDescriptor(tt.maxConnections, tt.limit); got != tt.want {
				t.Errorf("got %d; want %d", got, tt.want)
			}
		})
	}
}

// growsVariable tells the test's own program, started once more, to grow its table for so many connections.
const growsVariable = "WHSENTRY_TEST_GROWS"

// TestGrowDescriptorTable grows the table of a process of its own: that of this one may be large already, for it never shrinks.
func TestGrowDescriptorTable(t *testing.T) {
	if text := os.Getenv(growsVariable); text != "" {
		growHere(t, text)
		return
	}
	again := exec.Command(os.Args[0], "-test.run=^TestGrowDescriptorTable$", "-test.v")
	again.Env = append(os.Environ(), growsVariable+"=1500")
	if out, err := again.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestGrowDescriptorTable")) {
		t.Errorf("got %v; want a table that grew once:\n%s", err, out)
	}
}

func growHere(t *testing.T, connections string) {
	n, err := strconv.Atoi(connections)
	if err != nil {
		t.Fatal(err)
	}
	before, open := tableSize(t), openDescriptors(t)
	if err := growDescriptorTable(n); err != nil {
		t.Fatal(err)
	}
	grown := tableSize(t)
	if before >= 2*n || grown < 2*n {
		t.Errorf("got a table of %d entries that was one of %d; want at least %d, and less before", grown, before, 2*n)
	}
	if now := openDescriptors(t); now != open {
		t.Errorf("got %d open files; want the %d that were open before", now, open)
	}
}

// tableSize returns how many entries the table of this process has.
func tableSize(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "FDSize:")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
