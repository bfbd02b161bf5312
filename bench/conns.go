package main

import (
	"net"
	"time"
)

// add takes charge of a connection. It refuses, and closes, one that comes after the run has been cut short.
func (r *running) add(conn net.Conn) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		conn.Close()
		return net.ErrClosed
	}
	r.conns[conn] = struct{}{}
	return nil
}

// remove closes a connection.
func (r *running) remove(conn net.Conn) {
	r.mu.Lock()
	delete(r.conns, conn)
	r.mu.Unlock()
	conn.Close()
}

// setDeadline sets conn's deadline unless the run has been cut short.
func (r *running) setDeadline(conn net.Conn, deadline time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		deadline = past
	}
	// What comes of a closed connection shows at its next use.
	_ = conn.SetDeadline(deadline)
}

// stopNow begins nothing more and ends whatever waits on a connection.
func (r *running) stopNow() {
	r.stopped.Store(true)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = true
	for conn := range r.conns {
		_ = conn.SetDeadline(past)
	}
}

// closeConns closes every connection that is left.
func (r *running) closeConns() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.conns {
		conn.Close()
	}
	clear(r.conns)
}
