//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// levels are what a process holds. They must come back to where they were.
type levels struct {
	goroutines  int
	descriptors int
	heap        int64 // bytes in use after a garbage collection
	resident    int64 // bytes
}

func (l levels) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %.1f MiB of heap, %.1f MiB resident",
		l.goroutines, l.descriptors, float64(l.heap)/(1<<20), float64(l.resident)/(1<<20))
}

// goroutineSlack is for what asking for metrics itself may have running.
const goroutineSlack = 3

// heldOpen are the gauges of what clients and destinations make whsentry hold.
var heldOpen = []string{"whsentry_client_connections", "whsentry_destination_connections", "whsentry_tunnels", "whsentry_buffered_bytes"}

// holdsNothing returns an error unless every gauge is at 0.
func holdsNothing(samples map[string]float64) error {
	for _, metric := range heldOpen {
		if n := sum(samples, metric); n != 0 {
			return fmt.Errorf("%s is %v; want 0", metric, n)
		}
	}
	return nil
}

// descriptors counts the file descriptors of the process.
func (s *sentry) descriptors() (int, error) {
	open, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(s.process.Process.Pid), "fd"))
	return len(open), err
}

// levels returns what whsentry holds at the moment, garbage included.
func (s *sentry) levels() (levels, error) {
	samples, err := s.scrape()
	if err != nil {
		return levels{}, err
	}
	open, err := s.descriptors()
	return levels{int(samples["go_goroutines"]), open,
		int64(samples["go_memstats_heap_alloc_bytes"]), int64(samples["process_resident_memory_bytes"])}, err
}

// collections is how many garbage collections empty what is kept for reuse: sync.Pool gives up its content in two.
const collections = 3

// restTime is how long whsentry is left alone before its descriptors are counted: late answers of resolvers are waited
// for a little less.
const restTime = 3 * time.Second

// leaveLimit is how long whsentry may take to notice that nobody is there any more.
const leaveLimit = 30 * time.Second

// restLevels waits until nobody makes whsentry hold anything, and returns what it holds then. Descriptors come first,
// for garbage collections, which asking for metrics brings about, close those that were forgotten. The heap is the least
// that was seen over some of them.
func (s *sentry) restLevels(ctx context.Context) (levels, error) {
	var samples map[string]float64
	err := eventually(ctx, leaveLimit, func() (err error) {
		if samples, err = s.scrape(); err != nil {
			return err
		}
		return holdsNothing(samples)
	})
	if err != nil {
		return levels{}, err
	}
	least := levels{math.MaxInt, math.MaxInt, math.MaxInt64, math.MaxInt64}
	for end := time.Now().Add(restTime); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		open, err := s.descriptors()
		if err != nil {
			return least, err
		}
		least.descriptors = min(least.descriptors, open)
	}
	first := samples["go_gc_duration_seconds_count"]
	for range 5000 {
		if samples, err = s.scrape(); err != nil {
			return least, err
		}
		least.goroutines = min(least.goroutines, int(samples["go_goroutines"]))
		least.heap = min(least.heap, int64(samples["go_memstats_heap_alloc_bytes"]))
		least.resident = min(least.resident, int64(samples["process_resident_memory_bytes"]))
		if samples["go_gc_duration_seconds_count"] >= first+collections {
			return least, nil
		}
		if ctx.Err() != nil {
			return least, ctx.Err()
		}
	}
	return least, errors.New("no garbage is collected")
}

// limitDescriptors returns the path of a script in dir that runs whsentry with so many file descriptors at most.
func limitDescriptors(dir, whsentry string, most int) (string, error) {
	path := filepath.Join(dir, "limited-"+strconv.Itoa(most))
	script := fmt.Sprintf("#!/bin/sh\nulimit -n %d\nexec '%s' \"$@\"\n", most, strings.ReplaceAll(whsentry, "'", `'\''`))
	return path, os.WriteFile(path, []byte(script), 0o755)
}
