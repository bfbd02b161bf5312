//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// idleConnections: neither a client that rests nor a pooled connection may hold up a stop.
func (t *stage) idleConnections(s *sentry) error {
	idle, err := dialReader(s.address)
	if err != nil {
		return err
	}
	defer idle.Close()
	if _, err := idle.ask(t.post("")); err != nil {
		return err
	}
	silent, err := net.Dial("tcp", s.address)
	if err != nil {
		return err
	}
	defer silent.Close()
	return s.stop(6 * time.Second) // well below clientTimeout, which would end them too
}

// tunnel opens one to the destination and passes a request through it.
func (t *stage) tunnel(s *sentry) (*dialled, error) {
	conn, err := dialReader(s.address)
	if err != nil {
		return nil, err
	}
	m, err := conn.ask("CONNECT " + t.destination + " HTTP/1.1\r\nHost: " + t.destination + "\r\n\r\n")
	if err == nil {
		err = want("CONNECT", m.verdict(), "200/0")
	}
	if err == nil {
		err = t.through(conn)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// through sends a request inside a tunnel, which stays opaque, for it asks for WebSocket.
func (t *stage) through(conn *dialled) error {
	m, err := conn.ask("POST / HTTP/1.1\r\nHost: inside\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi")
	if err != nil {
		return fmt.Errorf("in the tunnel: %w", err)
	}
	return want("in the tunnel", m.verdict(), "200/0")
}

// openTunnel: a tunnel goes on while whsentry stops, and is closed and logged at shutdownTimeout.
func (t *stage) openTunnel(s *sentry) error {
	conn, err := t.tunnel(s)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := s.signal(syscall.SIGTERM); err != nil {
		return err
	}
	time.Sleep(300 * time.Millisecond) // well inside the 5 s that it has
	if err := t.through(conn); err != nil {
		return fmt.Errorf("while stopping: %w", err)
	}
	if err := s.exits(0, 9*time.Second); err != nil {
		return err
	}
	last, err := lastLine(filepath.Join(s.dir, "access.log"))
	if err == nil && !strings.Contains(last, `"CONNECT"`) {
		err = fmt.Errorf("the last log line is %q; want the tunnel's", last)
	}
	return err
}

// tunnelEnds: the stop is over when the tunnel is, not only at shutdownTimeout.
func (t *stage) tunnelEnds(s *sentry) error {
	conn, err := t.tunnel(s)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := s.signal(syscall.SIGTERM); err != nil {
		return err
	}
	time.AfterFunc(500*time.Millisecond, func() { conn.Close() })
	return s.exits(0, 5*time.Second)
}

// reloadAmid sends SIGHUP many times while a request and a tunnel are open and others come and go.
func (t *stage) reloadAmid(s *sentry) error {
	conn, err := t.tunnel(s)
	if err != nil {
		return err
	}
	defer conn.Close()
	answer, err := t.pending(s, "wait 1500")
	if err != nil {
		return err
	}
	l := t.traffic(s)
	for range 20 {
		if err := s.signal(syscall.SIGHUP); err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond) // two signals at once may count as one
	}
	var running error
	if m := <-answer; m == nil || m.verdict() != "200/0" {
		running = fmt.Errorf("the running request got %+v; want 200/0", m)
	}
	return errors.Join(t.through(conn), running, l.stop())
}

// secondInstance shares the port with a first one, and takes over when that stops.
func (t *stage) secondInstance() error {
	dir := filepath.Join(t.o.scratch, "reuse-port")
	free := freeAddresses(3)
	address := free[0]
	config := allowed + "listener: {address: \"" + address + "\", reusePort: true}\n"
	var both []*sentry
	for i, name := range []string{"first", "second"} {
		metrics := free[i+1]
		s, err := launch(t.o, filepath.Join(dir, name), config, "--metrics-address", metrics)
		if err != nil {
			return err
		}
		defer s.kill()
		s.address, s.metrics = address, metrics
		if err := s.ready(t.ctx); err != nil {
			return fmt.Errorf("the %s: %w", name, err)
		}
		both = append(both, s)
	}
	if err := both[0].stop(stopLimit); err != nil {
		return err
	}
	for range 50 {
		m, err := ask(address, t.post(""))
		if err != nil {
			return fmt.Errorf("after the first one stopped: %w", err)
		}
		if err := want("verdict", m.verdict(), "200/0"); err != nil {
			return err
		}
	}
	return both[1].stop(stopLimit)
}
