//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fleet is a steady load while something changes: clients of several kinds, each of which sends one POST with an id of
// its own after the other. What a good client library does by itself a client does here too: a request on a connection
// that was used before, or that has rested for restLimit, and that ended without a byte of an answer, is sent again on a
// new one. No other may fail.
type fleet struct {
	quit   chan struct{}
	wg     sync.WaitGroup
	ids    atomic.Int64
	ok     atomic.Int64
	again  atomic.Int64 // requests that were sent a second time
	failed tally
	// untilRefused has clients end when nobody listens any more, which is what a stop without a successor comes to.
	untilRefused bool

	mu       sync.Mutex // guards the following
	arrived  map[string]int
	answered map[string]bool
}

// sender is one client of a fleet.
type sender struct {
	name    string
	dial    func() (net.Conn, error)
	keep    bool   // sends on one connection for as long as that may be
	to      string // host:port of the destination
	headers string // more of them, each with its line's end
	body    int    // bytes
	pause   time.Duration
}

const (
	fleetPause = 3 * time.Millisecond
	// restLimit is after how long without a request the end of a connection is no failure: whsentry closes those at rest
	// 500 ms after it was told to stop, and a client that the machine has stand still meanwhile comes too late. Its request
	// must not have been taken, which shows in the end: it is sent again, and may arrive only once.
	restLimit = 400 * time.Millisecond
)

func newFleet() *fleet {
	return &fleet{quit: make(chan struct{}), arrived: map[string]int{}, answered: map[string]bool{}}
}

// seen counts an arrival at the destination.
func (f *fleet) seen(a arrival) {
	if id := a.get("X-Id"); id != "" {
		f.mu.Lock()
		f.arrived[id]++
		f.mu.Unlock()
	}
}

// plainSenders are clients of a plain listener: kept connections and new ones, small and large bodies, answers that take
// a while. Two of each, and as many of Go's net/http.
func plainSenders(address, to string) []sender {
	dial := func() (net.Conn, error) { return net.DialTimeout("tcp", address, 5*time.Second) }
	var all []sender
	for range 2 {
		all = append(all,
			sender{name: "kept", dial: dial, keep: true, to: to, body: 200, pause: fleetPause},
			sender{name: "new", dial: dial, to: to, body: 200, pause: fleetPause},
			sender{name: "slow", dial: dial, keep: true, to: to, headers: "X-Behave: wait 100\r\n", pause: fleetPause},
			sender{name: "large", dial: dial, to: to, headers: "X-Behave: size 300000\r\n", body: 100_000, pause: 10 * fleetPause},
		)
	}
	return all
}

func (f *fleet) start(senders []sender) {
	for _, s := range senders {
		f.wg.Go(func() { f.run(s) }) // until quit
	}
}

// startLibrary starts clients with Go's net/http, which sends no POST again that it has begun to send.
func (f *fleet) startLibrary(n int, address, to string) {
	for range n {
		f.wg.Go(func() { f.library(address, to) }) // until quit
	}
}

// over reports whether a client is to end, and waits a little where it is not.
func (f *fleet) over(pause time.Duration) bool {
	select {
	case <-f.quit:
		return true
	case <-time.After(pause):
		return false
	}
}

func (f *fleet) run(s sender) {
	var conn *dialled
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	id, again := f.newID(), false
	for !f.over(s.pause) {
		used, began := conn != nil, time.Now()
		if !used {
			c, err := s.dial()
			if err != nil && f.untilRefused && ended(err) {
				return
			}
			if err != nil {
				f.fail("%s: connect: %v", s.name, err)
				continue
			}
			conn = &dialled{c, bufio.NewReader(c)}
		}
		answer, sent, err := conn.askAt(s.request(id))
		repeatable := used || sent.Sub(began) > restLimit
		if err == nil && answer.verdict() == "200/0" {
			f.success(id)
		}
		if err != nil || !s.keep || answer.get("Connection") == "close" {
			conn.Close()
			conn = nil
		}
		switch {
		case err != nil && repeatable && ended(err):
			f.again.Add(1)
			if again = !again; again {
				continue // with the same id
			}
			f.fail("%s: ended twice without an answer", s.name)
		case err != nil:
			f.fail("%s, on a new connection %v: %v", s.name, !used, err)
		case answer.verdict() != "200/0":
			f.fail("%s: %s %s", s.name, answer.Start, strings.TrimSpace(string(answer.Body)))
		}
		id, again = f.newID(), false
	}
}

// fail notes a failure. What goes wrong with every request must not become a flood.
func (f *fleet) fail(format string, args ...any) {
	f.failed.add(fmt.Sprintf(format, args...))
	f.over(10 * fleetPause)
}

// ended reports whether a connection ended, or was refused, before a byte of an answer came.
func ended(err error) bool {
	for _, e := range []error{io.EOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNREFUSED} {
		if errors.Is(err, e) && !errors.Is(err, errCut) {
			return true
		}
	}
	return false
}

func (f *fleet) newID() string { return fmt.Sprint(f.ids.Add(1)) }

func (s *sender) request(id string) string {
	return fmt.Sprintf("POST http://%s/hook HTTP/1.1\r\nHost: %s\r\nX-Id: %s\r\n%sContent-Length: %d\r\n\r\n%s",
		s.to, s.to, id, s.headers, s.body, strings.Repeat("b", s.body))
}

func (f *fleet) success(id string) {
	f.ok.Add(1)
	f.mu.Lock()
	f.answered[id] = true
	f.mu.Unlock()
}

func (f *fleet) library(address, to string) {
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: address})}}
	defer client.CloseIdleConnections()
	id, again, rests := f.newID(), false, time.Now()
	for !f.over(fleetPause) {
		req, err := http.NewRequest("POST", "http://"+to+"/hook", bytes.NewReader(make([]byte, 200)))
		if err != nil {
			f.fail("net/http: %v", err)
			return
		}
		req.Header.Set("X-Id", id)
		resp, err := client.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		switch {
		case errors.Is(err, syscall.ECONNREFUSED) && f.untilRefused:
			return
		case ended(err) && !errors.Is(err, syscall.ECONNREFUSED) && !again && time.Since(rests) > restLimit:
			f.again.Add(1)
			again = true
			continue // with the same id
		case err != nil:
			f.fail("net/http: %v", err)
		case resp.StatusCode != 200:
			f.fail("net/http: %s", resp.Status)
		default:
			f.success(id)
		}
		id, again, rests = f.newID(), false, time.Now()
	}
}

// more waits until n more requests have been answered.
func (f *fleet) more(t *stage, n int64) error {
	enough := f.ok.Load() + n
	return eventually(t.ctx, 20*time.Second, func() error {
		if f.ok.Load() < enough {
			return fmt.Errorf("the load stands still: %d requests answered, these failed: %v", f.ok.Load(), f.failed.all())
		}
		return nil
	})
}

// finish ends the load and says what came of it. No request may have failed, and none may have arrived twice, or
// without having been answered.
func (f *fleet) finish() error {
	close(f.quit)
	f.wg.Wait()
	var errs []error
	if failed := f.failed.all(); len(failed) > 0 {
		errs = append(errs, fmt.Errorf("failed: %v", failed))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	wrong := 0
	for id, times := range f.arrived {
		if times != 1 || !f.answered[id] {
			wrong++
		}
	}
	for id := range f.answered {
		if f.arrived[id] == 0 {
			wrong++
		}
	}
	return errors.Join(append(errs, want("requests that did not arrive once and have an answer", wrong, 0))...)
}

// counts is for the line of a check.
func (f *fleet) counts() string {
	failed := 0
	for _, n := range f.failed.all() {
		failed += n
	}
	return fmt.Sprintf(" (%d requests, %d failed, %d sent again on a new connection)", f.ok.Load(), failed, f.again.Load())
}

// farSenders are clients of a plain listener a tenth of a second away: so long is the way of the ACK that ends their
// handshakes, which a client can hold back until it has something to send.
func farSenders(address, to string) []sender {
	d := net.Dialer{Timeout: 5 * time.Second, Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		controlErr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0) })
		return errors.Join(controlErr, err)
	}}
	dial := func() (net.Conn, error) {
		conn, err := d.Dial("tcp", address)
		time.Sleep(100 * time.Millisecond)
		return conn, err
	}
	return slices.Repeat([]sender{{name: "far", dial: dial, to: to, body: 200, pause: fleetPause}}, 8)
}

// tlsSenders are clients of an https listener; the last of them keep their connection.
func tlsSenders(address, to, headers string) []sender {
	dial := func() (net.Conn, error) {
		return tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", address, &tls.Config{InsecureSkipVerify: true})
	}
	return []sender{
		{name: "new over TLS", dial: dial, to: to, headers: headers, body: 200, pause: 5 * fleetPause},
		{name: "new over TLS", dial: dial, to: to, headers: headers, body: 200, pause: 5 * fleetPause},
		{name: "kept over TLS", dial: dial, to: to, headers: headers, body: 200, keep: true, pause: fleetPause},
		{name: "kept over TLS", dial: dial, to: to, headers: headers, body: 200, keep: true, pause: fleetPause},
	}
}
