package proxy

import (
	"math"
	"time"
)

// epoch is what ticks are counted from.
var epoch = time.Now()

// tick is a moment on the monotonic clock: nanoseconds since the process began. It fits an atomic, which a
// time.Time does not.
type tick = int64

// never is a moment that does not come.
const never tick = math.MaxInt64

func now() tick { return int64(time.Since(epoch)) }

// sweepInterval is how often limits in time are looked at: so often that none is overrun by more than about a
// tenth, and not so often that looking costs anything.
func sweepInterval(limits ...time.Duration) time.Duration {
	interval := 250 * time.Millisecond
	for _, l := range limits {
		interval = min(interval, l/10)
	}
	return max(interval, 5*time.Millisecond)
}
