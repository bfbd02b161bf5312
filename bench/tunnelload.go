package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// The first byte through a tunnel to the origins' tunnel port says what the other end shall do. No HTTP request can begin
// with one: a proxy that inspects tunnels need not wait for more.
const (
	tunnelSink   = 1 // read everything, answer nothing: bytes go upwards
	tunnelSource = 2 // send zeroes: bytes go downwards
	tunnelEcho   = 3 // send back every byte, this one included
)

const (
	tunnelBuffer = 64 << 10 // of each end of a bulk tunnel, bytes
	connectHead  = 4 << 10  // of the buffer for the answer to CONNECT, bytes
)

// openTunnel connects to the proxy and opens a tunnel to target. Its deadline is a timeout away.
func (r *running) openTunnel(target string) (net.Conn, error) {
	conn, err := r.dial()
	if err != nil {
		return nil, err
	}
	if err := r.add(conn); err != nil {
		return nil, err
	}
	r.setDeadline(conn, time.Now().Add(r.timeout))
	if err := r.connect(conn, target); err != nil {
		r.remove(conn)
		return nil, err
	}
	return conn, nil
}

// connect asks for a tunnel over conn.
func (r *running) connect(conn net.Conn, target string) error {
	request, err := r.appendHeader(fmt.Appendf(nil, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", target, target))
	if err != nil {
		return err
	}
	if _, err := conn.Write(append(request, "\r\n"...)); err != nil {
		return fmt.Errorf("CONNECT %s: %w", target, err)
	}
	w := newWire(conn, connectHead)
	h, err := w.head()
	if err != nil {
		return fmt.Errorf("CONNECT %s: no answer: %w", target, err)
	}
	if status, err := h.status(); err != nil {
		return fmt.Errorf("CONNECT %s: %w", target, err)
	} else if status != 200 {
		return fmt.Errorf("CONNECT %s: %q", target, bytes.TrimSpace(h.first))
	}
	if w.start != w.end {
		return fmt.Errorf("CONNECT %s: %d bytes behind the answer's head; want none before the first byte is sent", target, w.end-w.start)
	}
	return nil
}

// tunnelBulk is loadTunnelBulk: tunnels that stay open and carry bytes, every other one upwards.
func (r *running) tunnelBulk() error {
	var tunnels []bulkTunnel
	for i := range r.connections {
		conn, err := r.openTunnel(r.targets[i%len(r.targets)])
		if err != nil {
			return err
		}
		t := bulkTunnel{conn: conn, up: i%2 == 0}
		if _, err := conn.Write([]byte{t.command()}); err != nil {
			return fmt.Errorf("first byte through a tunnel: %w", err)
		}
		r.setDeadline(conn, time.Time{})
		tunnels = append(tunnels, t)
	}
	var moved atomic.Int64
	r.measure(func() {
		if r.duration > 0 {
			// Bytes in flight are part of the work: nothing waits for them.
			defer time.AfterFunc(r.duration, r.stopNow).Stop()
		}
		each(tunnels, func(t bulkTunnel) { r.move(t, &moved) })
	})
	r.out.bytes = moved.Load()
	return nil
}

// bulkTunnel is a tunnel that carries bytes one way.
type bulkTunnel struct {
	conn net.Conn
	up   bool
}

func (t bulkTunnel) command() byte {
	if t.up {
		return tunnelSink
	}
	return tunnelSource
}

// move sends or reads until the load's count of bytes is reached over all tunnels, or the run is stopped.
func (r *running) move(t bulkTunnel, moved *atomic.Int64) {
	do := t.conn.Read
	if t.up {
		do = t.conn.Write
	}
	buf := make([]byte, tunnelBuffer)
	for !r.stopped.Load() {
		n, err := do(buf)
		r.tell(int64(n))
		if total := moved.Add(int64(n)); r.count > 0 && total >= r.count {
			r.stopNow()
		}
		if err != nil && !r.stopped.Load() {
			r.fail(fmt.Errorf("a tunnel ended: %w", err))
			return
		}
	}
	r.mu.Lock()
	r.out.requests++
	r.mu.Unlock()
}

// tunnelOpen is loadTunnelOpen: open a tunnel, a byte there and back, close, and again.
func (r *running) tunnelOpen() error {
	workers := make([]int, r.connections)
	r.measure(func() {
		each(workers, func(int) {
			for {
				i, ok := r.next()
				if !ok {
					return
				}
				start := time.Now()
				r.record(start, 2, r.oneTunnel(r.targets[i%int64(len(r.targets))]))
			}
		})
	})
	return nil
}

// oneTunnel is one round of tunnelOpen.
func (r *running) oneTunnel(target string) error {
	conn, err := r.openTunnel(target)
	if err != nil {
		return err
	}
	defer r.remove(conn)
	b := []byte{tunnelEcho}
	if _, err := conn.Write(b); err != nil {
		return fmt.Errorf("write through a tunnel: %w", err)
	}
	if _, err := io.ReadFull(conn, b); err != nil {
		return fmt.Errorf("read through a tunnel: %w", err)
	}
	if b[0] != tunnelEcho {
		return fmt.Errorf("byte %#x came back through a tunnel; want %#x", b[0], tunnelEcho)
	}
	return nil
}
