package upstream

import (
	"testing"
	"time"

	"whsentry/proxy/socket"
)

func TestKeptUntil(t *testing.T) {
	const at = socket.Tick(time.Hour)
	for _, tt := range []struct {
		value string
		want  time.Duration // after at; -1: it does not say
	}{
		{"timeout=5", 4 * time.Second},
		{"timeout=5, max=100", 4 * time.Second},
		{"max=100,timeout=5", 4 * time.Second},
		{"Timeout = 5", 4 * time.Second},
		{`timeout="5"`, 4 * time.Second},
		{"timeout=2", time.Second},
		{"timeout=1", 0},
		{"timeout=0", -time.Second},
		{"timeout=60, timeout=3", 2 * time.Second},
		{"timeout=99999999999999999999", (1<<31 - 2) * time.Second},
		{"", -1}, {"timeout", -1}, {"timeout=", -1}, {"timeout=-1", -1}, {"timeout=+5", -1}, {"timeout=5s", -1},
		{"timeouts=5", -1}, {"max=5", -1}, {"5", -1}, {",,,=,", -1},
	} {
		want := at + int64(tt.want)
		if tt.want == -1 {
			want = socket.Never
		}
		if got := KeptUntil(at, []byte(tt.value)); got != want {
			t.Errorf("%q: got %v; want %v", tt.value, time.Duration(got-at), time.Duration(want-at))
		}
	}
}

func TestAllocKeptUntil(t *testing.T) {
	value := []byte("timeout=5, max=100")
	if got := testing.AllocsPerRun(100, func() { KeptUntil(0, value) }); got != 0 {
		t.Errorf("got %v allocations; want 0", got)
	}
}

// FuzzKeptUntil: whatever comes, the moment is not before a second ago.
func FuzzKeptUntil(f *testing.F) {
	f.Add([]byte("timeout=5, max=100"))
	f.Add([]byte("timeout=99999999999999999999"))
	f.Add([]byte(`=,timeout="5",`))
	f.Fuzz(func(t *testing.T, value []byte) {
		const at = socket.Tick(time.Hour)
		if got := KeptUntil(at, value); got < at-keepAliveMargin {
			t.Errorf("got %v after %v", time.Duration(got), time.Duration(at))
		}
	})
}
