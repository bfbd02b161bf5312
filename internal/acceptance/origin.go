//go:build linux

package main

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// secret is what the webhooks' bodies are signed with, as X-Hub-Signature-256: sha256=HEX.
const secret = "a shared secret"

func signature(body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// arrival is one request as the destination got it.
type arrival struct {
	*message
	conn int64    // which connection, from 1
	to   net.Addr // the address that was connected to
	at   time.Time
}

// origin is the destination: a plain server that tells of every request what was on the wire, and misbehaves as
// the request's X-Behave asks (see respond).
type origin struct {
	seen  func(arrival) // called for each whole request, from any goroutine
	conns atomic.Int64  // connections accepted

	listeners []net.Listener
	mu        sync.Mutex // guards open
	open      map[net.Conn]bool
	gates     sync.Map // of what `hold` waits for, by its name: a channel that release closes
	wg        sync.WaitGroup
}

func newOrigin(seen func(arrival)) *origin {
	return &origin{seen: seen, open: map[net.Conn]bool{}}
}

// listen serves ln until close.
func (o *origin) listen(ln net.Listener) {
	o.listeners = append(o.listeners, ln)
	o.wg.Add(1)
	go o.accept(ln)
}

func (o *origin) accept(ln net.Listener) {
	defer o.wg.Done()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		o.mu.Lock()
		o.open[conn] = true
		o.mu.Unlock()
		o.wg.Add(1)
		go o.serve(conn, o.conns.Add(1))
	}
}

func (o *origin) close() {
	for _, ln := range o.listeners {
		ln.Close()
	}
	o.drop()
	o.wg.Wait()
}

// gate is what a request to `hold NAME` waits for.
func (o *origin) gate(name string) chan struct{} {
	gate, _ := o.gates.LoadOrStore(name, make(chan struct{}))
	return gate.(chan struct{})
}

// release lets the requests to `hold NAME` be answered, those that come later too. It may be called once for a name.
func (o *origin) release(name string) { close(o.gate(name)) }

// drop closes every connection, but goes on listening.
func (o *origin) drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for conn := range o.open {
		conn.Close()
	}
}

// serve answers one connection's requests, one after the other.
func (o *origin) serve(conn net.Conn, number int64) {
	defer o.wg.Done()
	defer func() {
		conn.Close()
		o.mu.Lock()
		delete(o.open, conn)
		o.mu.Unlock()
	}()
	br := bufio.NewReader(conn)
	for {
		conn.SetDeadline(time.Now().Add(90 * time.Second))
		m, err := readHead(br)
		if err != nil {
			return
		}
		if strings.EqualFold(m.get("Expect"), "100-continue") {
			io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		if m.readBody(br, false) != nil {
			return
		}
		if o.seen != nil {
			o.seen(arrival{m, number, conn.LocalAddr(), time.Now()})
		}
		if !o.respond(conn, m) || strings.EqualFold(m.get("Connection"), "close") {
			return
		}
	}
}

// respond answers m as its X-Behave says and reports whether the connection may go on. Without X-Behave it is a
// 200 that repeats the body's SHA-256 and length and the address that was connected to.
func (o *origin) respond(conn net.Conn, m *message) bool {
	words := strings.Fields(m.get("X-Behave"))
	number := func(i int) int {
		if i >= len(words) {
			return 0
		}
		n, _ := strconv.Atoi(words[i])
		return n
	}
	head := strings.HasPrefix(m.Start, "HEAD ")
	behave := ""
	if len(words) > 0 {
		behave = words[0]
	}
	text := func(s string) bool { _, err := io.WriteString(conn, s); return err == nil }
	switch behave {
	case "wait": // MS, then the plain answer
		time.Sleep(time.Duration(number(1)) * time.Millisecond)
		return text(plainAnswer(conn, m))
	case "hold": // NAME: until it is released, then the plain answer
		select {
		case <-o.gate(words[1]):
			return text(plainAnswer(conn, m))
		case <-time.After(time.Minute): // longer than any test waits
		}
	case "status": // NNN
		if n := number(1); n == 204 || n == 304 {
			return text(fmt.Sprintf("HTTP/1.1 %d Whatever\r\n\r\n", n))
		}
		return text(fmt.Sprintf("HTTP/1.1 %d Whatever\r\nContent-Length: 2\r\n\r\nno", number(1)))
	case "size": // BYTES with a length
		return text(sized(number(1), number(1), head))
	case "chunked": // BYTES
		return text(chunks(number(1)) + "0\r\n\r\n")
	case "cut-length": // SAID SENT, then close
		text(sized(number(1), number(2), false))
	case "cut-chunked": // SENT, then close
		text(chunks(number(1)))
	case "stall": // SAID SENT, then nothing until the other side closes
		text(sized(number(1), number(2), false))
		io.Copy(io.Discard, conn)
	case "hang":
		io.Copy(io.Discard, conn)
	case "vanish": // close without a byte
	case "reset": // SAID SENT, or without either nothing, then a reset
		if len(words) > 1 {
			text(sized(number(1), number(2), false))
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
	case "drip": // BYTES, one every 10 ms
		text(sized(number(1), 0, false))
		for i := 0; i < number(1) && text("r"); i++ {
			time.Sleep(10 * time.Millisecond)
		}
		return true
	case "garbage":
		text("HTTP/1.1 abc\r\n\r\n")
	case "lengths": // two that differ
		text("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nnot")
	case "untidy": // a length beside chunks, and a line that ends in LF alone
		return text("HTTP/1.1 200 OK\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nuntidy\r\n0\r\n\r\n")
	case "close": // the plain answer, on a connection that ends with it
		text(strings.Replace(plainAnswer(conn, m), "\r\n", "\r\nConnection: close\r\n", 1))
	case "redirect": // URL
		return text("HTTP/1.1 302 Found\r\nLocation: " + strings.Join(words[1:], "") + "\r\nContent-Length: 0\r\n\r\n")
	case "forge":
		return text(forgedAnswer)
	default:
		return text(plainAnswer(conn, m))
	}
	return false
}

// forgedAnswer has fields that must not reach the client beside ones that must, letters and order kept.
const forgedAnswer = "HTTP/1.1 299 Odd But Fine\r\n" +
	"x-lower: a\r\nX-WhSentry-Reason: forged\r\nSet-Cookie: a=1\r\nx-whsentry-reasonCODE: 1000\r\nSET-COOKIE: b=2\r\n" +
	"Connection: X-Named, keep-alive\r\nX-Named: gone\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\n" +
	"Proxy-Whatever: gone\r\nContent-Length: 4\r\nX-Last:  two  words \r\n\r\nbody"

func plainAnswer(conn net.Conn, m *message) string {
	body := fmt.Sprintf("received %x %d at %s\n", sha256.Sum256(m.Body), len(m.Body), hostOf(conn.LocalAddr()))
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", len(body))
	if strings.HasPrefix(m.Start, "HEAD ") {
		return head
	}
	return head + body
}

func sized(said, sent int, head bool) string {
	s := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", said)
	if head {
		return s
	}
	return s + strings.Repeat("r", sent)
}

func chunks(size int) string {
	var s strings.Builder
	s.WriteString("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
	for size > 0 {
		n := min(size, 8000)
		fmt.Fprintf(&s, "%x\r\n%s\r\n", n, strings.Repeat("c", n))
		size -= n
	}
	return s.String()
}

// hostOf is an address without its port, in RFC 5952 form, IPv4 as IPv4.
func hostOf(a net.Addr) string {
	return a.(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("").String()
}
