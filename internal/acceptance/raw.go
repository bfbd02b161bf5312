//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"
)

// raw checks what no client library shows: exact heads, pipelining, and a tunnel's bytes.
func (b *bench) raw(r *report) {
	r.check("raw/request head", b.requestHead())
	r.check("raw/response head", b.responseHead())
	r.check("raw/pipelined posts", b.pipelined())
	r.check("raw/the connection goes on after a refusal", b.afterRefusal())
	r.check("raw/tunnel bytes and half-close", b.tunnelBytes())
	r.check("raw/tunnel refused", b.tunnelRefused())
	r.check("raw/redirect is not followed", b.redirect())
}

// open connects to the plain proxy.
func (b *bench) open() (net.Conn, *bufio.Reader, error) {
	conn, err := net.Dial("tcp", b.proxies["plain"].address)
	if err != nil {
		return nil, nil, err
	}
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn, bufio.NewReader(conn), nil
}

func (b *bench) requestHead() error {
	answer, err := ask(b.proxies["plain"].address, "POST http://"+b.plain+"/p%2Fx/../y?z HTTP/1.1\r\n"+
		"x-first: 1\r\nhOsT: elsewhere.example\r\nX-Dup: a\r\nuser-AGENT: mine\r\nX-Case: raw-head\r\nX-Dup: b\r\n"+
		"Proxy-Connection: keep-alive\r\nConnection: X-Named, keep-alive\r\nX-Named: gone\r\nX-Hub-SIGNATURE-256: "+
		signature([]byte("hi"))+"\r\nContent-LENGTH: 2\r\nX-WhSentry-TLS: no\r\nTE: trailers\r\nX-Empty:\r\nx-LAST: a  b\r\n\r\nhi")
	if err != nil {
		return err
	}
	if err := want("answer", answer.verdict(), "200/0"); err != nil {
		return err
	}
	seen := b.arrivals("raw-head")
	if len(seen) != 1 {
		return fmt.Errorf("it arrived %d times; want once", len(seen))
	}
	expected := []field{
		{"x-first", "1"}, {"hOsT", b.plain}, {"X-Dup", "a"}, {"user-AGENT", "Webhook Sentry/0.1"}, {"X-Case", "raw-head"}, {"X-Dup", "b"},
		{"X-Hub-SIGNATURE-256", signature([]byte("hi"))}, {"Content-LENGTH", "2"}, {"X-Empty", ""}, {"x-LAST", "a  b"},
	}
	if got := seen[0]; got.Start != "POST /p%2Fx/../y?z HTTP/1.1" || !slices.Equal(got.Fields, expected) {
		return fmt.Errorf("the destination got\n  %q %q\nwant\n  %q", got.Start, got.Fields, expected)
	}
	return nil
}

func (b *bench) responseHead() error {
	answer, err := ask(b.proxies["plain"].address, "GET http://"+b.plain+"/ HTTP/1.1\r\nHost: "+b.plain+"\r\nX-Behave: forge\r\n\r\n")
	if err != nil {
		return err
	}
	expected := []field{{"x-lower", "a"}, {"Set-Cookie", "a=1"}, {"SET-COOKIE", "b=2"}, {"Content-Length", "4"}, {"X-Last", "two  words"}}
	got := slices.DeleteFunc(answer.Fields, func(f field) bool { return f.Name == "Connection" })
	if answer.Start != "HTTP/1.1 299 Odd But Fine" || !slices.Equal(got, expected) || string(answer.Body) != "body" {
		return fmt.Errorf("the client got\n  %q %q %q\nwant\n  %q", answer.Start, got, answer.Body, expected)
	}
	return nil
}

func (b *bench) pipelined() error {
	conn, br, err := b.open()
	if err != nil {
		return err
	}
	defer conn.Close()
	before := b.origin.conns.Load()
	const n = 20
	var all strings.Builder
	body := func(i int) string { return strings.Repeat(fmt.Sprintf("<%d>", i), i*10) }
	for i := range n {
		fmt.Fprintf(&all, "POST http://%s/%d HTTP/1.1\r\nHost: %s\r\nX-Case: pipelined-%d\r\nContent-Length: %d\r\n\r\n%s",
			b.plain, i, b.plain, i, len(body(i)), body(i))
	}
	if _, err := io.WriteString(conn, all.String()); err != nil {
		return err
	}
	for i := range n {
		answer, err := readAnswer(br, "POST")
		if err != nil {
			return fmt.Errorf("answer %d: %w", i, err)
		}
		expected := fmt.Sprintf("received %x %d at 127.0.0.1\n", sha256.Sum256([]byte(body(i))), len(body(i)))
		if string(answer.Body) != expected {
			return fmt.Errorf("answer %d is %q; want %q", i, answer.Body, expected)
		}
		if seen := b.arrivals(fmt.Sprintf("pipelined-%d", i)); len(seen) != 1 {
			return fmt.Errorf("request %d arrived %d times; want once", i, len(seen))
		}
	}
	if opened := b.origin.conns.Load() - before; opened > 2 {
		return fmt.Errorf("%d connections for %d pipelined requests; want at most 1", opened, n)
	}
	return nil
}

func (b *bench) afterRefusal() error {
	conn, br, err := b.open()
	if err != nil {
		return err
	}
	defer conn.Close()
	for i, step := range []struct{ to, verdict string }{{"10.0.0.1", "403/1000"}, {b.plain, "200/0"}, {"10.0.0.1", "403/1000"}, {b.plain, "200/0"}} {
		fmt.Fprintf(conn, "POST http://%s/ HTTP/1.1\r\nHost: %s\r\nContent-Length: 5\r\n\r\nhello", step.to, step.to)
		answer, err := readAnswer(br, "POST")
		if err != nil {
			return fmt.Errorf("answer %d: %w", i, err)
		}
		if err := want(fmt.Sprintf("answer %d", i), answer.verdict(), step.verdict); err != nil {
			return err
		}
	}
	return nil
}

// tunnelBytes sends a megabyte each way at once, the first of it in the same write as CONNECT, and then ends its
// side; the destination answers the end with a last word.
func (b *bench) tunnelBytes() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close()
	go echo(ln)
	conn, br, err := b.open()
	if err != nil {
		return err
	}
	defer conn.Close()
	sent := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{3}).Read(sent)
	written := make(chan error, 1)
	go func() { // ends with the connection's deadline at the latest
		_, err := conn.Write(append([]byte("CONNECT "+ln.Addr().String()+" HTTP/1.1\r\nHost: "+ln.Addr().String()+"\r\n\r\n"), sent...))
		if err == nil {
			err = conn.(*net.TCPConn).CloseWrite()
		}
		written <- err
	}()
	answer, err := readAnswer(br, "CONNECT")
	if err != nil {
		return err
	}
	if err := want("answer", answer.verdict(), "200/0"); err != nil {
		return err
	}
	if answer.get("Content-Length") != "" || answer.get("Transfer-Encoding") != "" {
		return fmt.Errorf("the answer to CONNECT has framing (RFC 9110 9.3.6): %q", answer.Fields)
	}
	got, err := io.ReadAll(br)
	if err := errors.Join(err, <-written); err != nil {
		return err
	}
	if expected := append(sent, "last word"...); !bytes.Equal(got, expected) {
		return fmt.Errorf("%d bytes came back, with the right beginning of %d; want %d", len(got), commonPrefix(got, expected), len(expected))
	}
	return nil
}

func echo(ln net.Listener) {
	conn, err := ln.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	io.Copy(conn, conn)
	io.WriteString(conn, "last word")
}

func commonPrefix(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func (b *bench) tunnelRefused() error {
	answer, err := ask(b.proxies["plain"].address, "CONNECT 10.0.0.1:443 HTTP/1.1\r\nHost: 10.0.0.1:443\r\n\r\n")
	if err != nil {
		return err
	}
	if answer.Start != "HTTP/1.1 403 IP 10.0.0.1 is blocked (1000)" || answer.reason() != "1000" || string(answer.Body) != "IP 10.0.0.1 is blocked\n" {
		return fmt.Errorf("got %q %q %q", answer.Start, answer.Fields, answer.Body)
	}
	return nil
}

func (b *bench) redirect() error {
	answer, err := ask(b.proxies["plain"].address, "GET http://"+b.plain+"/ HTTP/1.1\r\nHost: "+b.plain+"\r\nX-Behave: redirect http://169.254.169.254/\r\n\r\n")
	if err != nil {
		return err
	}
	if err := want("answer", answer.verdict(), "302/0"); err != nil {
		return err
	}
	return want("Location", answer.get("Location"), "http://169.254.169.254/")
}
