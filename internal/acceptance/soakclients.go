//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

// abandon ends a connection, by FIN or by a reset.
func abandon(conn net.Conn, rng *rand.Rand) {
	if tcp, ok := conn.(*net.TCPConn); ok && rng.IntN(2) == 0 {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// leaves sends something and goes away, at once or a little later.
func leaves(sent func(*soaking) string) func(*soaking, *sentry, *rand.Rand) (string, error) {
	return func(k *soaking, s *sentry, rng *rand.Rand) (string, error) {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			return "", err
		}
		defer abandon(conn, rng)
		if _, err := io.WriteString(conn, sent(k)); err != nil {
			return "", err
		}
		time.Sleep(time.Duration(rng.IntN(3)) * 100 * time.Millisecond)
		return "gone", nil
	}
}

// pipelined sends five requests at once.
func (k *soaking) pipelined(s *sentry, _ *rand.Rand) (string, error) {
	conn, err := dialReader(s.address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	outcome, err := outcomeOf(conn.ask(strings.Repeat(k.post(""), 5)))
	for range 4 {
		if err != nil || outcome != "200/0" {
			break
		}
		outcome, err = outcomeOf(readAnswer(conn.br, "POST"))
	}
	return outcome, err
}

// stalled sends a part of a request and waits for what the proxy makes of it.
func (k *soaking) stalled(s *sentry, part string) (string, error) {
	return outcomeOf(ask(s.address, part))
}

func (k *soaking) slowHead(s *sentry, rng *rand.Rand) (string, error) {
	whole := k.post("")
	return k.stalled(s, whole[:10+rng.IntN(len(whole)-20)])
}

func (k *soaking) slowBody(s *sentry, rng *rand.Rand) (string, error) {
	return k.stalled(s, strings.Replace(k.post(""), "Content-Length: 2", fmt.Sprint("Content-Length: ", 3+rng.IntN(1_000_000)), 1))
}

// slowReader takes a large response in small parts.
func (k *soaking) slowReader(s *sentry, _ *rand.Rand) (string, error) {
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	conn.(*net.TCPConn).SetReadBuffer(8 << 10)
	if _, err := io.WriteString(conn, k.post("size 300000")); err != nil {
		return "", err
	}
	return outcomeOf(readAnswer(bufio.NewReaderSize(slowly{conn}, 4<<10), "POST"))
}

// slowly reads with pauses.
type slowly struct{ net.Conn }

func (s slowly) Read(p []byte) (int, error) {
	time.Sleep(10 * time.Millisecond)
	return s.Conn.Read(p)
}

// noReader asks for more than fits between the two, and takes none of it.
func (k *soaking) noReader(s *sentry, rng *rand.Rand) (string, error) {
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		return "", err
	}
	defer abandon(conn, rng)
	conn.(*net.TCPConn).SetReadBuffer(8 << 10)
	if _, err := io.WriteString(conn, strings.Repeat(k.post("size 900000"), 10)); err != nil {
		return "", err
	}
	time.Sleep(4 * time.Second)
	return "gone", nil
}

// resting makes a request, or none, and then nothing.
func (k *soaking) resting(s *sentry, rng *rand.Rand) (string, error) {
	conn, err := dialReader(s.address)
	if err != nil {
		return "", err
	}
	defer abandon(conn.Conn, rng)
	if rng.IntN(2) == 0 {
		if outcome, err := outcomeOf(conn.ask(k.post(""))); err != nil || outcome != "200/0" {
			return outcome, err
		}
	}
	time.Sleep(500 * time.Millisecond)
	return "gone", nil
}

// tunnelled uses a tunnel for a while, ends its side, and waits for the other to end.
func (k *soaking) tunnelled(s *sentry, rng *rand.Rand) (string, error) {
	conn, err := k.connect(s, k.destination)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	for range 1 + rng.IntN(3) {
		if err := k.through(conn); err != nil {
			return "", err
		}
	}
	if err := conn.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	if rest, err := io.ReadAll(conn.br); err != nil || len(rest) > 0 {
		return "", fmt.Errorf("%d bytes behind the end, %v", len(rest), err)
	}
	return "200/0", nil
}

func (k *soaking) tunnelReset(s *sentry, rng *rand.Rand) (string, error) {
	conn, err := k.connect(s, k.destination)
	if err != nil {
		return "", err
	}
	defer abandon(conn.Conn, rng)
	_, err = io.WriteString(conn, k.inside("drip 100", rng.IntN(2) == 0))
	time.Sleep(time.Duration(rng.IntN(3)) * 50 * time.Millisecond)
	return "gone", err
}

// inside is a request for a tunnel to the destination. A tunnel stays opaque where it asks for WebSocket, which the
// destination takes no notice of; else the proxy serves what is inside.
func (k *soaking) inside(behave string, opaque bool) string {
	upgrade := ""
	if opaque {
		upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
	}
	return "POST / HTTP/1.1\r\nHost: " + k.destination + "\r\n" + upgrade + "X-Behave: " + behave + "\r\nContent-Length: 2\r\n\r\nhi"
}

// tunnelCut has the destination end the tunnel within a response.
func (k *soaking) tunnelCut(s *sentry, rng *rand.Rand) (string, error) {
	conn, err := k.connect(s, k.destination)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	behave := []string{"reset 1000 500", "cut-length 300000 200000", "cut-chunked 1000"}[rng.IntN(3)]
	m, err := conn.ask(k.inside(behave, true))
	if m == nil && err != nil {
		return "cut", nil // a reset may overtake the bytes before it
	}
	return outcomeOf(m, err)
}

// inspectedCut has the destination end its answer to a request in a tunnel early, in which the proxy serves it.
func (k *soaking) inspectedCut(s *sentry, rng *rand.Rand) (string, error) {
	conn, err := k.connect(s, k.destination)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	behave := []string{"reset 1000 500", "cut-length 1000 500", "cut-chunked 1000"}[rng.IntN(3)]
	return outcomeOf(conn.ask(k.inside(behave, false)))
}

// tunnelIdle waits for the proxy to close a tunnel without traffic.
func (k *soaking) tunnelIdle(s *sentry, _ *rand.Rand) (string, error) {
	conn, err := k.connect(s, k.destination)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = conn.br.ReadByte()
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		return "", fmt.Errorf("the tunnel goes on: %v", err)
	}
	return "cut", nil
}

// noHandshake leaves an intercepted tunnel in the middle of the handshake, or of what is none.
func (k *soaking) noHandshake(s *sentry, rng *rand.Rand) (string, error) {
	conn, err := k.connect(s, k.secure)
	if err != nil {
		return "", err
	}
	defer abandon(conn.Conn, rng)
	_, err = io.WriteString(conn, []string{"", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "POST / HTTP/1.1\r\n\r\n"}[rng.IntN(3)])
	time.Sleep(time.Duration(rng.IntN(3)) * 50 * time.Millisecond)
	return "gone", err
}
