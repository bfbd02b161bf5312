//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	hangingClients    = 1000
	perDestination    = 256 // maxConnectionsPerDestination's default
	isolationRounds   = 7   // of each kind, in turn
	isolationAttempts = 3   // what else the machine does can spoil one
	isolationRequests = 1000
	isolationClients  = 2
	// atOnce is how soon a request above the limit is refused, at the latest, with all of them sent at the same time. It is
	// far below every timeout, those that are let in hang for a minute.
	atOnce = 5 * time.Second
	// noMore is how long it is then looked whether others are refused, too.
	noMore = 200 * time.Millisecond
)

// isolationTest has one destination hang while requests to another are timed.
type isolationTest struct {
	s              *sentry
	quick, hanging *origin
	to, hangs      string // their addresses
}

// isolation compares what a destination's clients see while another one hangs with what they see while it does not, in
// turn, so that whatever else the machine does meets both.
func isolation(ctx context.Context, o options) *report {
	r := &report{name: "isolation"}
	t := &isolationTest{quick: newOrigin(nil), hanging: newOrigin(nil)}
	defer t.quick.close()
	defer t.hanging.close()
	if !r.check("isolation/starts", t.begin(ctx, o)) {
		return r
	}
	for attempt := 1; ; attempt++ {
		var calm, disturbed []time.Duration
		for round := range isolationRounds {
			before, err := t.p99()
			if !r.check(fmt.Sprintf("isolation/attempt %d, round %d: undisturbed", attempt, round+1), err) {
				return r
			}
			during, err := t.whileHanging(ctx)
			if !r.check(fmt.Sprintf("isolation/attempt %d, round %d: with %d requests hanging elsewhere", attempt, round+1, hangingClients), err) {
				return r
			}
			fmt.Printf("p99 undisturbed %v, disturbed %v\n", before, during)
			calm, disturbed = append(calm, before), append(disturbed, during)
		}
		before, during := median(calm), median(disturbed)
		fmt.Printf("medians of p99: undisturbed %v, disturbed %v, %.2f times as long\n", before, during, float64(during)/float64(before))
		var err error
		if during > 2*before {
			err = fmt.Errorf("p99 is %v beside a destination that hangs; want at most twice %v", during, before)
		}
		if err == nil || attempt == isolationAttempts {
			r.check("isolation/p99 stays within twice its undisturbed value", err)
			break
		}
	}
	r.check("isolation/exits 0", t.s.stop(stopLimit))
	return r
}

func (t *isolationTest) begin(ctx context.Context, o options) error {
	for _, server := range []struct {
		origin *origin
		at     *string
	}{{t.quick, &t.to}, {t.hanging, &t.hangs}} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		server.origin.listen(ln)
		*server.at = ln.Addr().String()
	}
	var err error
	t.s, err = start(ctx, o, filepath.Join(o.scratch, "isolation"), allowed+"readTimeout: 1m\nconnectionLifetime: 10m\n")
	return err
}

// p99 is of requests to the destination that does not hang.
func (t *isolationTest) p99() (time.Duration, error) {
	times, errs := make([][]time.Duration, isolationClients), make([]error, isolationClients)
	var clients sync.WaitGroup
	for i := range isolationClients {
		clients.Go(func() { times[i], errs[i] = t.timed(isolationRequests / isolationClients) }) // awaited below
	}
	clients.Wait()
	all := slices.Concat(times...)
	slices.Sort(all)
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	return all[len(all)*99/100], nil
}

// timed sends n requests on one connection, after some that do not count.
func (t *isolationTest) timed(n int) (times []time.Duration, err error) {
	const warmUp = 20
	conn, err := net.Dial("tcp", t.s.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	br := bufio.NewReader(conn)
	request := fmt.Sprintf("POST http://%s/ HTTP/1.1\r\nHost: %s\r\nContent-Length: 4\r\n\r\nhook", t.to, t.to)
	for i := range warmUp + n {
		began := time.Now()
		if _, err := io.WriteString(conn, request); err != nil {
			return nil, err
		}
		answer, err := readAnswer(br, "POST")
		if err != nil {
			return nil, err
		}
		if err := want("the answer", answer.verdict(), "200/0"); err != nil {
			return nil, err
		}
		if i >= warmUp {
			times = append(times, time.Since(began))
		}
	}
	return times, nil
}

// whileHanging is p99 while as many requests as may hang on the other destination. What is above that must have been
// refused at once; and when their clients leave, nothing of them stays.
func (t *isolationTest) whileHanging(ctx context.Context) (time.Duration, error) {
	conns, err := dialMany(t.s, hangingClients)
	defer closeAll(conns)
	if err != nil {
		return 0, err
	}
	before := t.hanging.conns.Load()
	if err := t.hang(conns); err != nil {
		return 0, err
	}
	if err := eventually(ctx, 10*time.Second, func() error {
		return want("connections to the destination that hangs", t.hanging.conns.Load()-before, perDestination)
	}); err != nil {
		return 0, err
	}
	during, err := t.p99()
	if err != nil {
		return 0, err
	}
	answer, err := ask(t.s.address, t.hangingRequest())
	if err == nil {
		err = want("one request more", answer.verdict(), "503/1014")
	}
	if err != nil {
		return 0, err
	}
	closeAll(conns)
	return during, eventually(ctx, 10*time.Second, func() error {
		samples, err := t.s.scrape()
		if err != nil {
			return err
		}
		return want("busy connections", samples[`whsentry_destination_connections{state="busy"}`], 0)
	})
}

func (t *isolationTest) hangingRequest() string {
	return fmt.Sprintf("POST http://%s/ HTTP/1.1\r\nHost: %s\r\nX-Behave: hang\r\nContent-Length: 4\r\n\r\nhook", t.hangs, t.hangs)
}

// hang sends a request that will not be answered on each of conns, and holds it to that all but perDestination of them
// are refused at once.
func (t *isolationTest) hang(conns []net.Conn) error {
	request := []byte(t.hangingRequest())
	began := time.Now()
	for _, conn := range conns {
		if _, err := conn.Write(request); err != nil {
			return err
		}
	}
	deadline := time.Now().Add(atOnce)
	for _, conn := range conns {
		conn.SetReadDeadline(deadline)
	}
	refused, times, wrong := 0, []time.Duration{}, tally{}
	var mu sync.Mutex // guards refused and times
	var clients sync.WaitGroup
	for _, conn := range conns {
		clients.Go(func() { // awaited below
			answer, err := readAnswer(bufio.NewReader(conn), "POST")
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return // it hangs
			}
			if err != nil {
				wrong.add(err.Error())
				return
			}
			if answer.verdict() != "503/1014" || answer.get("Retry-After") == "" {
				wrong.add(fmt.Sprintf("%s, Retry-After %q", answer.verdict(), answer.get("Retry-After")))
			}
			mu.Lock()
			defer mu.Unlock()
			refused++
			times = append(times, time.Since(began))
			if refused == hangingClients-perDestination {
				for _, conn := range conns {
					conn.SetReadDeadline(time.Now().Add(noMore))
				}
			}
		})
	}
	clients.Wait()
	if all := wrong.all(); len(all) > 0 {
		return fmt.Errorf("got %v; want 503/1014 with Retry-After", all)
	}
	if err := want(fmt.Sprintf("refused within %v", atOnce), refused, hangingClients-perDestination); err != nil {
		return err
	}
	fmt.Printf("%d refused, the last one %v after the first of them was sent\n", refused, slices.Max(times).Round(time.Millisecond))
	return nil
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}
