package proxy

import (
	"testing"
)

func TestParseKeepAlive(t *testing.T) {
	for _, tt := range []struct {
		value string
		want  int
	}{
		{"timeout=5", 5}, {"timeout=5, max=100", 5}, {"max=100,timeout=5", 5}, {"Timeout = 5", 5}, {`timeout="5"`, 5},
		{"timeout=1", 1}, {"timeout=0", 0}, {"timeout=60, timeout=3", 3}, {"timeout=99999999999999999999", 1 << 30},
		{"", -1}, {"timeout", -1}, {"timeout=", -1}, {"timeout=-1", -1}, {"timeout=+5", -1}, {"timeout=5s", -1},
		{"timeouts=5", -1}, {"max=5", -1}, {"5", -1}, {",,,=,", -1},
	} {
		if got := parseKeepAlive([]byte(tt.value)); got != tt.want {
			t.Errorf("%q: got %d; want %d", tt.value, got, tt.want)
		}
	}
}

func TestAllocParseKeepAlive(t *testing.T) {
	value := []byte("timeout=5, max=100")
	if got := testing.AllocsPerRun(100, func() { parseKeepAlive(value) }); got != 0 {
		t.Errorf("got %v allocations; want 0", got)
	}
}

// FuzzKeepAlive: whatever comes, it is a number of seconds that can be reckoned with, or none.
func FuzzKeepAlive(f *testing.F) {
	f.Add([]byte("timeout=5, max=100"))
	f.Add([]byte("timeout=99999999999999999999"))
	f.Add([]byte(`=,timeout="5",`))
	f.Fuzz(func(t *testing.T, value []byte) {
		if got := parseKeepAlive(value); got < -1 || got > 1<<31 {
			t.Errorf("got %d", got)
		}
	})
}
