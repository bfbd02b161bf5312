package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	originBuffer = 4 << 10          // of a connection to an HTTP origin, bytes
	originIdle   = 10 * time.Minute // without a byte, after which an origin closes a connection
	soonAnswer   = 3 * time.Millisecond
	slowAnswer   = time.Second
	maxSize      = 1 << 30  // of /size/N, bytes
	blockSize    = 64 << 10 // bytes of a long body, or of zeroes into a tunnel, that are written at once
)

// origins are the servers that requests end at. Each port listens on every address, so that the addresses 127.x.y.z are as
// many destinations as one wants. The HTTP ones answer by path: /ok with 200 and a short body, /soon and /slow so after a
// moment and after a second, /soon/close likewise, /size/N with 200 and N bytes, /close like /ok but with Connection: close, /hang never. The tunnel port does what a
// tunnel's first byte says.
type origins struct {
	plain    int    // port: HTTP
	tls      int    // port: HTTPS with session tickets, so that sessions are resumed
	tlsFull  int    // port: HTTPS without tickets, so that every handshake is a full one
	tunnel   int    // port: for loadTunnelBulk and loadTunnelOpen
	caFile   string // PEM of the CA behind the certificates of the TLS ports: for localhost, bench.test and the address connected to
	certFile string // PEM of the one for 127.0.0.1
	keyFile  string // PEM of its key

	waiting atomic.Int64 // requests that are not answered yet, on purpose

	all       sync.WaitGroup // of accept loops and connections
	mu        sync.Mutex     // guards the following
	listeners []net.Listener
	conns     map[net.Conn]struct{}
	closed    bool
}

// startOrigins starts the servers and writes their certificates to dir.
func startOrigins(dir string) (*origins, error) {
	o := &origins{
		caFile: filepath.Join(dir, "ca.pem"), certFile: filepath.Join(dir, "origin.pem"), keyFile: filepath.Join(dir, "origin.key"),
		conns: make(map[net.Conn]struct{}),
	}
	signer, err := makeCertificates(o.caFile, o.certFile, o.keyFile)
	if err != nil {
		return nil, fmt.Errorf("make the origins' certificates: %w", err)
	}
	resumed := &tls.Config{GetCertificate: signer.forConnection, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}
	full := resumed.Clone()
	full.SessionTicketsDisabled = true
	for _, server := range []struct {
		port   *int
		config *tls.Config
		serve  func(net.Conn)
	}{
		{&o.plain, nil, o.serveHTTP}, {&o.tls, resumed, o.serveHTTP}, {&o.tlsFull, full, o.serveHTTP}, {&o.tunnel, nil, serveTunnel},
	} {
		if *server.port, err = o.listen(server.config, server.serve); err != nil {
			o.close()
			return nil, fmt.Errorf("start an origin: %w", err)
		}
	}
	return o, nil
}

// listen starts a server on a free port.
func (o *origins) listen(config *tls.Config, serve func(net.Conn)) (int, error) {
	// No keep-alive probes: they cost system calls with every connection.
	listener, err := (&net.ListenConfig{KeepAlive: -1}).Listen(context.Background(), "tcp4", "0.0.0.0:0")
	if err != nil {
		return 0, err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if config != nil {
		listener = tls.NewListener(listener, config)
	}
	o.listeners = append(o.listeners, listener)
	o.all.Go(func() { o.accept(listener, serve) })
	return port, nil
}

// accept serves connections until the listener is closed.
func (o *origins) accept(listener net.Listener, serve func(net.Conn)) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			o.mu.Lock()
			closed := o.closed
			o.mu.Unlock()
			if closed {
				return
			}
			time.Sleep(pollEvery) // out of file descriptors: others will be closed
			continue
		}
		if o.keep(conn) {
			o.all.Go(func() {
				defer o.drop(conn)
				serve(conn)
			})
		}
	}
}

// keep takes charge of a connection; false, and it is closed, where the origins have been closed.
func (o *origins) keep(conn net.Conn) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		conn.Close()
		return false
	}
	o.conns[conn] = struct{}{}
	return true
}

func (o *origins) drop(conn net.Conn) {
	o.mu.Lock()
	delete(o.conns, conn)
	o.mu.Unlock()
	conn.Close()
}

// open returns how many connections there are to all of the servers.
func (o *origins) open() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.conns)
}

// close ends the servers and every connection to them, and waits for both.
func (o *origins) close() {
	o.mu.Lock()
	o.closed = true
	for _, listener := range o.listeners {
		listener.Close()
	}
	for conn := range o.conns {
		// Not Close: one over TLS would write, and wait for it.
		_ = conn.SetDeadline(past)
	}
	o.mu.Unlock()
	o.all.Wait()
}

// serveHTTP answers requests until the connection ends or is not HTTP.
func (o *origins) serveHTTP(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(originIdle))
	w := newWire(conn, originBuffer)
	var out []byte
	for {
		h, err := w.head()
		if err != nil {
			return
		}
		path := requestPath(h.first) // gone with the next read
		pause := pauseOf(path)
		if pause < 0 {
			o.waiting.Add(1)
			defer o.waiting.Add(-1)
			for err == nil { // until the other side gives up, or the origins close
				w.start = w.end
				err = w.fill()
			}
			return
		}
		var more int
		var last bool
		out, more, last = appendAnswer(out[:0], path)
		if _, err := w.skipBody(&h, false); err != nil {
			return
		}
		if pause > 0 {
			o.waiting.Add(1)
			time.Sleep(pause)
			o.waiting.Add(-1)
		}
		if _, err := conn.Write(out); err != nil || writeZeroes(conn, more) != nil || last || h.close {
			return
		}
	}
}

// requestPath returns the path of a request line, "" where it has none.
func requestPath(line []byte) []byte {
	_, rest, _ := bytes.Cut(line, []byte(" "))
	path, _, _ := bytes.Cut(rest, []byte(" "))
	return path
}

// pauseOf returns how long the answer for a path is held back; -1: for ever.
func pauseOf(path []byte) time.Duration {
	switch string(path) {
	case "/soon", "/soon/close":
		return soonAnswer
	case "/slow":
		return slowAnswer
	case "/hang":
		return -1
	}
	return 0
}

const (
	answerOK       = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"
	answerClose    = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: 3\r\n\r\nok\n"
	answerNotFound = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
)

// appendAnswer appends the answer for a path to b. more is how many bytes of body come behind that; last says that the
// connection ends with it.
func appendAnswer(b, path []byte) (out []byte, more int, last bool) {
	switch string(path) {
	case "/ok", "/soon", "/slow":
		return append(b, answerOK...), 0, false
	case "/close", "/soon/close":
		return append(b, answerClose...), 0, true
	}
	if digits, found := bytes.CutPrefix(path, []byte("/size/")); found {
		if n, err := strconv.Atoi(string(digits)); err == nil && n >= 0 && n <= maxSize {
			b = fmt.Appendf(b, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", n)
			// What is not too long goes out with the head in one write, as a server's answer would.
			with := min(n, blockSize)
			return append(b, zeroes[:with]...), n - with, false
		}
	}
	return append(b, answerNotFound...), 0, false
}

// zeroes is what long bodies and tunnels carry.
var zeroes [blockSize]byte

// writeZeroes writes n zero bytes.
func writeZeroes(conn net.Conn, n int) error {
	for n > 0 {
		written, err := conn.Write(zeroes[:min(n, len(zeroes))])
		if err != nil {
			return err
		}
		n -= written
	}
	return nil
}

// serveTunnel does what the first byte says. Before it there may be a CONNECT, which is a plain TCP proxy's way to pass
// for one that opens tunnels.
func serveTunnel(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(originIdle))
	var first [1]byte
	if _, err := io.ReadFull(conn, first[:]); err != nil {
		return
	}
	if first[0] == 'C' {
		// The client waits for the answer, so that the wire holds nothing but the head.
		if _, err := newWire(conn, connectHead).head(); err != nil {
			return
		}
		if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
			return
		}
		if _, err := io.ReadFull(conn, first[:]); err != nil {
			return
		}
	}
	switch first[0] {
	case tunnelSink:
		sink(conn)
	case tunnelSource:
		for writeZeroes(conn, blockSize) == nil {
		}
	case tunnelEcho:
		if _, err := conn.Write(first[:]); err == nil {
			// Its end is the tunnel's end, for whatever reason.
			_, _ = io.Copy(conn, conn)
		}
	}
}

// sink reads and drops everything.
func sink(conn net.Conn) {
	buf := make([]byte, blockSize)
	for {
		if _, err := conn.Read(buf); err != nil {
			return
		}
	}
}
