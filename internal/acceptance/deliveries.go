//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	webhookCount    = 5000
	webhookSenders  = 48
	webhookAttempts = 4
	webhookReloads  = 300 * time.Millisecond // between two
)

// shape is what a destination does with a webhook: its first attempt and every later one. What it answers with a 2xx it
// has processed.
type shape struct {
	name         string
	first, later string // the answer, after which the connection is closed unless it stalls
	stalls       bool
}

const deliveredAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// shapes are the destinations' kinds. None processes a webhook and then says nothing: of that nobody can know.
var shapes = []shape{
	{name: "good", first: deliveredAnswer},
	{name: "bare LFs", first: "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"},
	{name: "folded", first: "HTTP/1.1 201 Made\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok"},
	{name: "both framings", first: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
	{name: "a bad line", first: "HTTP/1.1 202 Later\r\nno field\r\nContent-Length: 0\r\n\r\n"},
	{name: "an odd trailer", first: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nodd\r\n\r\n"},
	{name: "cut", first: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"},
	{name: "cut, large", first: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n15f90\r\n" + strings.Repeat("a", 90_000) + "\r\n"},
	{name: "over the limit", first: "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\nz"},
	{name: "a head without its end", first: "HTTP/1.1 204 None\r\nX: y"},
	{name: "two lengths", first: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok"},
	{name: "late", first: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", stalls: true},
	{name: "gone", first: "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"},
	{name: "busy", first: "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", later: deliveredAnswer},
	{name: "busy, cut", first: "HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\n", later: deliveredAnswer},
	{name: "many, malformed", first: "HTTP/1.1 429 Many\r\nContent-Length: x\r\n\r\n", later: deliveredAnswer},
	{name: "closes unread", later: deliveredAnswer},
	{name: "refuses"},
}

// deliveringDestinations process webhooks and remember how often each.
type deliveringDestinations struct {
	addrs     []string // by shape
	mu        sync.Mutex
	attempts  map[string]int
	processed map[string]int
}

// deliveries has a sender that does what X-WhSentry-Retry says send webhooks to destinations of every shape, with reloads
// in between: each is processed once, or its sender knows that it was not.
func deliveries(ctx context.Context, o options) *report {
	r := &report{name: "deliveries"}
	d := &deliveringDestinations{attempts: make(map[string]int), processed: make(map[string]int)}
	closeAll, err := d.open()
	defer closeAll()
	if !r.check("deliveries/destinations", err) {
		return r
	}
	for _, incomplete := range []string{"error", "pass"} {
		config := fmt.Sprintf("cidrAllowList: [127.0.0.1]\nreadTimeout: 1s\nmaxResponseBodySize: 100KiB\ncaBundle: {url: \"\"}\naccessLog: {file: %s}\nincompleteResponses: %s\n", os.DevNull, incomplete)
		s, err := start(ctx, o, filepath.Join(o.scratch, incomplete), config)
		if !r.check("deliveries/"+incomplete+": starts", err) {
			return r
		}
		known := d.sendAll(ctx, s, incomplete)
		d.hold(r, incomplete, known)
		samples, err := s.scrape()
		if reloads := samples[`whsentry_config_reloads_total{result="ok"}`]; err == nil && reloads < 10 {
			err = fmt.Errorf("got %v reloads; want 10 at least", reloads)
		}
		r.check("deliveries/"+incomplete+": with reloads in between", err)
		r.check("deliveries/"+incomplete+": exits 0", s.stop(stopLimit))
	}
	return r
}

// sendAll sends the webhooks and returns what the sender believes of each: whether it has arrived.
func (d *deliveringDestinations) sendAll(ctx context.Context, s *sentry, prefix string) map[string]bool {
	proxy := &url.URL{Scheme: "http", Host: s.address}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{Proxy: http.ProxyURL(proxy), MaxIdleConnsPerHost: webhookSenders}}
	defer client.CloseIdleConnections()
	reloads, stop := context.WithCancel(ctx)
	var reloading, sending sync.WaitGroup
	reloading.Go(func() {
		for tick := time.NewTicker(webhookReloads); ; {
			select {
			case <-reloads.Done():
				tick.Stop()
				return
			case <-tick.C:
				s.signal(syscall.SIGHUP)
			}
		}
	})
	known := make(map[string]bool)
	var mu sync.Mutex
	var next atomic.Int64
	for range webhookSenders {
		sending.Go(func() {
			for n := next.Add(1); n <= webhookCount && ctx.Err() == nil; n = next.Add(1) {
				id := fmt.Sprintf("%s-%d", prefix, n)
				arrived := d.send(client, id, int(n)%len(shapes))
				mu.Lock()
				known[id] = arrived
				mu.Unlock()
			}
		})
	}
	sending.Wait()
	stop()
	reloading.Wait()
	return known
}

// send sends one webhook as often as it is told to, and reports whether it has arrived, as far as the sender knows.
func (d *deliveringDestinations) send(client *http.Client, id string, kind int) (arrived bool) {
	for range webhookAttempts {
		resp, err := client.Post("http://"+d.addrs[kind]+"/"+strconv.Itoa(kind)+"/"+id, "application/json", bytes.NewReader([]byte("{}")))
		if err != nil {
			return false
		}
		io.Copy(io.Discard, resp.Body) // where it is cut, its head has said what there is to know
		resp.Body.Close()
		if resp.Header.Get("X-WhSentry-ReasonCode") == "" {
			if arrived = resp.StatusCode/100 == 2; arrived || !worthRepeating(resp.StatusCode) {
				return arrived
			}
		} else if resp.Header.Get("X-WhSentry-Retry") == "no" {
			return resp.Header.Get("X-WhSentry-Delivered") == "yes" && strings.Contains(resp.Header.Get("Proxy-Status"), "received-status=2")
		}
	}
	return false
}

func worthRepeating(status int) bool {
	return status == 408 || status == 425 || status == 429 || status >= 500
}

// hold holds what the destinations have seen against what the sender believes.
func (d *deliveringDestinations) hold(r *report, prefix string, known map[string]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var wrong []error
	arrived, total := 0, 0
	for id, believed := range known {
		n := d.processed[id]
		total += n
		if believed {
			arrived++
		}
		if (n == 1) != believed || n > 1 {
			wrong = append(wrong, fmt.Errorf("%s: processed %d times, and its sender believes that it arrived: %v", id, n, believed))
		}
	}
	if len(wrong) > 20 {
		wrong = wrong[:20]
	}
	r.check(fmt.Sprintf("deliveries/%s: %d webhooks sent", prefix, webhookCount), want("webhooks", len(known), webhookCount))
	r.check("deliveries/"+prefix+": each is processed once, or its sender knows that it was not", errors.Join(wrong...))
	r.check("deliveries/"+prefix+": deliveries per webhook", want("deliveries per webhook", fmt.Sprintf("%.2f", float64(total)/float64(max(arrived, 1))), "1.00"))
}

// open starts a destination for each shape; closeAll ends them.
func (d *deliveringDestinations) open() (closeAll func(), err error) {
	var listeners []net.Listener
	closeAll = func() {
		for _, ln := range listeners {
			ln.Close()
		}
	}
	for i := range shapes {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return closeAll, err
		}
		d.addrs = append(d.addrs, ln.Addr().String())
		if shapes[i].name == "refuses" {
			ln.Close()
			continue
		}
		listeners = append(listeners, ln)
		go func() { // ends with the listener
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				go d.serve(conn.(*net.TCPConn), &shapes[i]) // ends with the connection, which has a deadline
			}
		}()
	}
	return closeAll, nil
}

func (d *deliveringDestinations) serve(conn *net.TCPConn, s *shape) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		io.Copy(io.Discard, req.Body)
		answer := d.answer(req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:], s)
		if answer == "" {
			conn.SetLinger(0) // a reset
			return
		}
		io.WriteString(conn, answer)
		if s.stalls {
			io.Copy(io.Discard, r)
		}
		if answer != deliveredAnswer {
			return
		}
	}
}

// answer says what a webhook is answered with, and notes it where that makes it processed.
func (d *deliveringDestinations) answer(id string, s *shape) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.attempts[id]++
	answer := s.first
	if d.attempts[id] > 1 && s.later != "" {
		answer = s.later
	}
	if strings.HasPrefix(answer, "HTTP/1.1 2") {
		d.processed[id]++
	}
	return answer
}
