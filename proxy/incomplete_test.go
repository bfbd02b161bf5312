package proxy

import (
	"runtime"
	"runtime/debug"
	"testing"

	"whsentry/proxy/reason"
)

// TestAllocPass is TestAllocPost under what looks at more of an answer: incompleteResponses: pass, which counts each body,
// and errorHeaders: envoy, which drops fields of a destination's.
func TestAllocPass(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties every sync.Pool")
	}
	p := startForBench(t, func(c *Config) {
		c.IncompleteResponses, c.Answers.ErrorHeaders = IncompletePass, []string{reason.HeadersEnvoy}
	})
	post := postLoop(t, p, 1024, 2048)
	for range 200 {
		post()
	}
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	if perRound := testing.AllocsPerRun(2000, post); perRound != 0 {
		t.Errorf("got %v allocations per request; want 0", perRound)
	}
}
