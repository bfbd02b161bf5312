package command

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestNextPercent(t *testing.T) {
	const soon, late, between = time.Millisecond, time.Second, 100 * time.Millisecond
	for _, c := range []struct {
		name    string
		percent int
		inUse   uint64
		took    time.Duration
		want    int
	}{
		{"nothing is known", 100, 0, late, 100},
		{"little, soon", 100, 3 << 20, soon, 400},
		{"some, soon", 100, 6 << 20, soon, 200},
		{"it stays where it helped", 200, 6 << 20, between, 200},
		{"not for good", 200, 6 << 20, late, 100},
		{"more than is wanted by now", 400, 6 << 20, between, 200},
		{"much, soon", 100, 24 << 20, soon, 50},
		{"much, late", 100, 24 << 20, late, 50},
		{"very much", 100, 1 << 40, between, 50},
		{"little once more", 50, 3 << 20, between, 100},
	} {
		if got := nextPercent(c.percent, c.inUse, c.took); got != c.want {
			t.Errorf("%s: got %d; want %d", c.name, got, c.want)
		}
	}
}

// TestPaceCollector: the percentage follows what is in use, up and down, until the end.
func TestPaceCollector(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	a := &app{environ: environment(nil)}
	stop := a.paceCollector()
	inUse := make([]byte, 64<<20)
	awaitPercent(t, func(percent uint64) bool { return percent == leastPercent })
	runtime.KeepAlive(inUse)
	awaitPercent(t, func(percent uint64) bool { return percent > leastPercent })
	stop()
	awaitPercent(t, func(percent uint64) bool { return percent == 100 })
}

// TestPaceCollectorAsToldByGOGC: what is set is obeyed.
func TestPaceCollectorAsToldByGOGC(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(123))
	a := &app{environ: environment(map[string]string{"GOGC": "123"})}
	stop := a.paceCollector()
	runtime.GC()
	stop()
	if got := gcPercent(); got != 123 {
		t.Errorf("got %d; want what GOGC says", got)
	}
}

func gcPercent() uint64 {
	percent := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(percent)
	return percent[0].Value.Uint64()
}

// awaitPercent collects garbage until fits says so of the percentage.
func awaitPercent(t *testing.T, fits func(percent uint64) bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		percent := gcPercent()
		if fits(percent) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("got %d %% in the end", percent)
		}
	}
}
