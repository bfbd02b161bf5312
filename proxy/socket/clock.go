package socket

import (
	"math"
	"time"
)

// epoch is what ticks are counted from.
var epoch = time.Now()

// Tick is a moment on the monotonic clock: nanoseconds since the process began. It fits an atomic, which a
// time.Time does not.
type Tick = int64

// Never is a moment that does not come.
const Never Tick = math.MaxInt64

// Now is the moment that it is.
func Now() Tick { return int64(time.Since(epoch)) }

// At is the moment of t, which time.Now has returned.
func At(t time.Time) Tick { return int64(t.Sub(epoch)) }
