//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// crowdTest has thousands of clients misbehave at once. In everything that they do, an honest client beside them is
// served; and once they have gone, whsentry holds nothing of them any more.
type crowdTest struct {
	*stage
}

// crowdSettings let a crowd in, and log it.
const crowdSettings = allowed + "maxConnectionsPerDestination: 5000\n"

func crowd(ctx context.Context, o options) *report {
	t := &crowdTest{&stage{ctx: ctx, o: o, r: &report{name: "crowd"}}}
	t.origin = newOrigin(func(arrival) { t.arrivals.Add(1) })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if !t.r.check("crowd/the destination starts", err) {
		return t.r
	}
	t.origin.listen(ln)
	defer t.origin.close()
	t.destination = ln.Addr().String()
	for _, c := range []struct {
		name     string
		settings string
		try      func(*sentry) error
	}{
		{"10,000 idle clients", "", t.idle},
		{"clients that idle for too long", "clientIdleTimeout: 2s\n", t.idleTooLong},
		{"2,000 slow heads", "clientTimeout: 3s\n", t.slowHeads},
		{"a flood of connections", "maxConnections: 500\n", t.connections},
		{"a flood of bodies", "maxBufferedBytes: 16MiB\n", t.bodies},
		{"a flood of requests whose answers nobody reads", "clientTimeout: 2s\n", t.pipelines},
		{"2,000 clients that vanish at once", "readTimeout: 5m\nconnectionLifetime: 5m\n", t.vanishing},
	} {
		t.r.check("crowd/"+c.name, t.with(c.name, crowdSettings+c.settings, nil, t.leavesNothing(c.try)))
	}
	return t.r
}

// leavesNothing holds what whsentry has when try's crowd has gone against what it had before.
func (t *crowdTest) leavesNothing(try func(*sentry) error) func(*sentry) error {
	return func(s *sentry) error {
		if err := t.honest(s); err != nil {
			return err
		}
		if err := t.gone(s); err != nil {
			return err
		}
		before, err := s.restLevels(t.ctx)
		if err != nil {
			return err
		}
		if err := try(s); err != nil {
			return err
		}
		if err := t.honest(s); err != nil {
			return fmt.Errorf("afterwards: %w", err)
		}
		if err := t.gone(s); err != nil {
			return err
		}
		after, err := s.restLevels(t.ctx)
		const heapSlack = 8 << 20 // maps keep their size, and pools some buffers
		if err == nil && (after.goroutines > before.goroutines+goroutineSlack || after.descriptors > before.descriptors ||
			after.heap > before.heap+heapSlack) {
			err = fmt.Errorf("it holds %v afterwards; before: %v", after, before)
		}
		return errors.Join(err, s.stop(stopLimit))
	}
}

// gone waits until nobody makes whsentry hold anything; a pooled connection has readTimeout.
func (t *crowdTest) gone(s *sentry) error {
	// The destination's connections are closed from its side, for readTimeout is long in some checks.
	t.origin.drop()
	return eventually(t.ctx, 40*time.Second, func() error {
		samples, err := s.scrape()
		if err != nil {
			return err
		}
		if sum(samples, `whsentry_destination_connections{state="idle"}`) > 0 {
			t.ask(s) // which meets the closed ones
			t.origin.drop()
		}
		return holdsNothing(samples)
	})
}

// ask sends a plain request.
func (t *crowdTest) ask(s *sentry) (*message, error) {
	return ask(s.address, strings.Replace(t.post("close"), "\r\n", "\r\nConnection: close\r\n", 1))
}

// honest sends one and wants its answer.
func (t *crowdTest) honest(s *sentry) error {
	m, err := t.ask(s)
	if err == nil {
		err = want("an honest client's answer", m.verdict(), "200/0")
	}
	return err
}

// dialMany opens n connections to whsentry, from several addresses, for the ports of one are few.
func dialMany(s *sentry, n int) (conns []net.Conn, err error) {
	for i := range n {
		from := &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%8))}
		conn, err := (&net.Dialer{LocalAddr: from, Timeout: 10 * time.Second}).Dial("tcp", s.address)
		if err != nil {
			return conns, err
		}
		conn.SetDeadline(time.Now().Add(2 * time.Minute))
		conns = append(conns, conn)
	}
	return conns, nil
}

// closeAll resets connections, so that none of them lingers in the system.
func closeAll(conns []net.Conn) {
	for _, conn := range conns {
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}

// have waits until a metric, over all its labels, has a value.
func (t *crowdTest) have(s *sentry, metric string, value float64) error {
	return eventually(t.ctx, 30*time.Second, func() error {
		samples, err := s.scrape()
		if err == nil {
			err = want(metric, sum(samples, metric), value)
		}
		return err
	})
}

const (
	refusedRequest = "GET http://10.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n"
	clientsMetric  = "whsentry_client_connections"
)

// idle opens 10,000 connections, half of which have been used, and counts what one costs.
func (t *crowdTest) idle(s *sentry) error {
	const n = 10_000
	const most = 16 << 10 // bytes of memory for an idle connection
	before, err := s.restLevels(t.ctx)
	if err != nil {
		return err
	}
	conns, err := dialMany(s, n)
	defer closeAll(conns)
	if err != nil {
		return fmt.Errorf("connection %d: %w", len(conns)+1, err)
	}
	for i := 0; i < n; i += 2 {
		if _, err := io.WriteString(conns[i], refusedRequest); err != nil {
			return err
		}
		m, err := readAnswer(bufio.NewReaderSize(conns[i], 512), "GET")
		if err != nil {
			return err
		}
		if err := want("answer", m.verdict(), "403/1000"); err != nil {
			return err
		}
	}
	if err := t.have(s, clientsMetric, n); err != nil {
		return err
	}
	for range 20 {
		if err := t.honest(s); err != nil {
			return err
		}
	}
	if err := eventually(t.ctx, 20*time.Second, func() error { // some of it is garbage at first
		now, err := s.levels()
		if err != nil {
			return err
		}
		if each := (now.resident - before.resident) / n; each > most {
			return fmt.Errorf("%d bytes a connection: %v with them, %v without; want %d at most", each, now, before, most)
		}
		return nil
	}); err != nil {
		return err
	}
	return t.have(s, clientsMetric, n) // all of them are still there
}

// idleTooLong leaves the closing to whsentry.
func (t *crowdTest) idleTooLong(s *sentry) error {
	conns, err := dialMany(s, 3000)
	defer closeAll(conns)
	if err != nil {
		return err
	}
	for _, conn := range conns {
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err != io.EOF {
			return fmt.Errorf("got %d bytes and %v; want the connection closed without a word", n, err)
		}
	}
	return nil
}

// slowHeads drips heads, each of which has clientTimeout in all.
func (t *crowdTest) slowHeads(s *sentry) error {
	conns, err := dialMany(s, 2000)
	defer closeAll(conns)
	if err != nil {
		return err
	}
	for _, conn := range conns {
		io.WriteString(conn, "GET http://"+t.destination+"/ HTTP/1.1\r\nHost: x\r\n")
	}
	for range 6 {
		for _, conn := range conns {
			io.WriteString(conn, "X-Y: z\r\n") // it may have been given up
		}
		if err := t.honest(s); err != nil {
			return err
		}
		time.Sleep(600 * time.Millisecond)
	}
	late := 0
	for _, conn := range conns {
		m, err := readAnswer(bufio.NewReaderSize(conn, 512), "GET")
		switch {
		case err == nil && m.verdict() != "408/1017":
			return fmt.Errorf("got %s to a slow head; want 408/1017", m.verdict())
		case err != nil:
			late++ // what it sent to a connection that was closed broke it off
		}
	}
	if late > len(conns)/10 {
		return fmt.Errorf("%d of %d slow clients got no answer; want 408", late, len(conns))
	}
	return t.have(s, `whsentry_requests_total{status="408",reason="1017",source="client"}`, float64(len(conns)))
}

// vanishing has 2,000 clients leave while the destination is silent: half with FIN, half with a reset.
func (t *crowdTest) vanishing(s *sentry) error {
	const n = 2000
	conns, err := dialMany(s, n)
	defer closeAll(conns)
	if err != nil {
		return err
	}
	before := t.arrivals.Load()
	for _, conn := range conns {
		if _, err := io.WriteString(conn, t.post("hang")); err != nil {
			return err
		}
	}
	if err := eventually(t.ctx, 30*time.Second, func() error { return want("requests at the destination", t.arrivals.Load()-before, n) }); err != nil {
		return err
	}
	for i, conn := range conns {
		if i%2 == 0 {
			conn.(*net.TCPConn).SetLinger(0)
		}
		conn.Close()
	}
	left := time.Now()
	if err := t.have(s, `whsentry_destination_connections{state="busy"}`, 0); err != nil {
		return err
	}
	if took := time.Since(left); took > 10*time.Second {
		return fmt.Errorf("the destination's connections were held for %v after the clients had gone", took)
	}
	return eventually(t.ctx, 10*time.Second, func() error {
		log, err := os.ReadFile(filepath.Join(s.dir, "access.log"))
		if err == nil {
			err = want("log lines with 499", strings.Count(string(log), `"response_code":499,`), n)
		}
		return err
	})
}
