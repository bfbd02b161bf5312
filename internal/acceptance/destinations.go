//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	waves       = 5
	perWave     = 4000 // destinations, each with a connection at once; what 20,000 descriptors are enough for
	waveClients = 50
	// heapSlack is by how much the heap may have grown: names are remembered, 16,384 of them at most.
	heapSlack = 12 << 20
)

// manyDestinations sends a request to each of 20,000 destinations, in waves; some of them close their connections
// before they are asked again. What the last wave leaves behind must be what the first one did.
func (t *scarce) manyDestinations() error {
	s, err := start(t.ctx, t.o, filepath.Join(t.o.scratch, "many"), t.config())
	if err != nil {
		return err
	}
	defer s.kill()
	first, err := s.restLevels(t.ctx)
	if err != nil {
		return err
	}
	for wave := range waves {
		began := time.Now()
		most, err := t.wave(s, wave)
		if err != nil {
			return fmt.Errorf("wave %d: %w", wave, err)
		}
		if wave%2 == 1 {
			t.origin.drop()
			if _, err := t.wave(s, wave); err != nil {
				return fmt.Errorf("wave %d, when its connections were closed: %w", wave, err)
			}
		}
		took := time.Since(began)
		rest, err := s.restLevels(t.ctx)
		if err != nil {
			return fmt.Errorf("after wave %d: %w", wave, err)
		}
		fmt.Printf("wave %d of %d: %d descriptors at most, %v; then %v\n", wave+1, waves, most, took.Round(time.Millisecond), rest)
		if wave == 0 {
			first.heap = rest.heap
		}
		if rest.goroutines > first.goroutines+goroutineSlack || rest.descriptors > first.descriptors || rest.heap > first.heap+heapSlack {
			return fmt.Errorf("after wave %d it holds %v; before the first, and of heap after it, it held %v", wave, rest, first)
		}
	}
	return s.stop(stopLimit)
}

// wave sends one request to each destination of a wave, and returns how many descriptors whsentry then has.
func (t *scarce) wave(s *sentry, wave int) (descriptors int, err error) {
	_, port, _ := net.SplitHostPort(t.destination)
	var next atomic.Int64
	var failed tally
	var running sync.WaitGroup
	for range waveClients {
		running.Go(func() {
			if err := t.waveClient(s, wave, port, &next); err != nil {
				failed.add(err.Error())
			}
		})
	}
	running.Wait()
	if all := failed.all(); len(all) > 0 {
		return 0, fmt.Errorf("%v", all)
	}
	descriptors, err = s.descriptors()
	if err == nil && descriptors < perWave/10 {
		err = errors.New("no connections are kept: the destinations can't have been different ones")
	}
	return descriptors, err
}

func (t *scarce) waveClient(s *sentry, wave int, port string, next *atomic.Int64) error {
	conn, err := dialReader(s.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	for n := next.Add(1); n <= perWave; n = next.Add(1) {
		host := fmt.Sprintf("w%d-d%d.hooks.test:%s", wave, n, port)
		m, err := conn.ask("POST http://" + host + "/ HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 2\r\n\r\nhi")
		if err != nil {
			return err
		}
		if err := want("verdict", m.verdict(), "200/0"); err != nil {
			return err
		}
	}
	return nil
}
