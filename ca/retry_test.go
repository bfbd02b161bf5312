package ca

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"whsentry/ca/catest"
)

// hearingServer does act to whoever sends a ClientHello of more than one segment, and serves others. It counts them all.
type hearingServer struct {
	port         uint16
	large, small atomic.Int32
}

func newHearingServer(t *testing.T, cfg *tls.Config, act func(net.Conn)) *hearingServer {
	t.Helper()
	s := &hearingServer{}
	s.port = serve(t, func(conn net.Conn) {
		r := bufio.NewReader(conn)
		head, err := r.Peek(5)
		if err != nil {
			return
		}
		if size := int(head[3])<<8 | int(head[4]); size > 1000 {
			s.large.Add(1)
			r.Discard(5 + size) // closing with unread input would reset the connection
			act(conn)
			return
		}
		s.small.Add(1)
		greet(&readAhead{conn, r}, cfg, nil)
	})
	return s
}

type readAhead struct {
	net.Conn
	r io.Reader
}

func (c *readAhead) Read(p []byte) (int, error) { return c.r.Read(p) }

func (s *hearingServer) check(t *testing.T, large, small int32) {
	t.Helper()
	if l, m := s.large.Load(), s.small.Load(); l != large || m != small {
		t.Errorf("the server saw %d large and %d small ClientHellos; want %d and %d", l, m, large, small)
	}
}

// dialTwice makes the handshake, with a second connection where one is asked for, and counts those.
func dialTwice(t *testing.T, s *Store, port uint16, timeout time.Duration) (state tls.ConnectionState, seconds int, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	conn := connect(t, port)
	client, err := s.Handshake(ctx, conn, Destination{Host: testHost, Port: port}, func() (net.Conn, error) {
		seconds++
		conn.Close()
		conn = connect(t, port)
		return conn, nil
	})
	defer func() { conn.Close() }()
	if err != nil {
		return tls.ConnectionState{}, seconds, err
	}
	return client.ConnectionState(), seconds, readGreeting(client)
}

var unanswering = map[string]func(net.Conn){
	"closes": func(net.Conn) {},
	"resets": func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) },
	"stalls": func(c net.Conn) { io.Copy(io.Discard, c) },
}

// TestRetryWithoutMLKEM is for servers, and boxes before them, that do not answer a ClientHello of two segments.
func TestRetryWithoutMLKEM(t *testing.T) {
	long := catest.Valid(time.Now().Add(-time.Hour), time.Now().Add(1000*time.Hour))
	root := catest.Root(t, "Root", long)
	cfg := &tls.Config{Certificates: []tls.Certificate{root.Leaf(t, testHost, long)}, SessionTicketsDisabled: true}
	for name, act := range unanswering {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, testConfig(t, root))
			began := time.Now()
			now := began
			s.now = func() time.Time { return now }
			server := newHearingServer(t, cfg, act)
			for _, step := range []struct {
				after       time.Duration
				wantSeconds int
				large       int32
				small       int32
			}{
				{0, 1, 1, 1},
				{0, 0, 1, 2},                            // remembered
				{classicFor - time.Nanosecond, 0, 1, 3}, // to the last
				{classicFor, 1, 2, 4},
				{classicFor, 0, 2, 5}, // once more
			} {
				now = began.Add(step.after)
				state, seconds, err := dialTwice(t, s, server.port, time.Second)
				if err != nil || seconds != step.wantSeconds || state.CurveID != tls.X25519 {
					t.Fatalf("after %s: got %v with %d connections more and %s; want no error, %d, X25519", step.after, err, seconds, state.CurveID, step.wantSeconds)
				}
				server.check(t, step.large, step.small)
			}
			again, err := s.Reload(s.cfg, Hooks{})
			if err != nil {
				t.Fatalf("Reload: %v", err)
			}
			again.now = s.now
			if _, seconds, err := dialTwice(t, again, server.port, time.Second); err != nil || seconds != 0 {
				t.Errorf("after a reload: got %v with %d connections more; want none", err, seconds)
			}
			// What is remembered is the port too.
			other := newHearingServer(t, cfg, act)
			if _, seconds, err := dialTwice(t, s, other.port, time.Second); err != nil || seconds != 1 {
				t.Errorf("on another port: got %v with %d connections more; want 1", err, seconds)
			}
		})
	}
}

// TestRetryFails shows what the second attempt does not cure, and that it is not remembered.
func TestRetryFails(t *testing.T) {
	root := catest.Root(t, "Root")
	s := newStore(t, testConfig(t, root))
	for name, act := range unanswering {
		t.Run(name, func(t *testing.T) {
			var conns atomic.Int32
			port := serve(t, func(c net.Conn) { conns.Add(1); readSome(c); act(c) })
			const limit = 300 * time.Millisecond
			began := time.Now()
			_, seconds, err := dialTwice(t, s, port, limit)
			if err == nil || seconds != 1 || conns.Load() != 2 {
				t.Fatalf("got %v after %d connections; want an error after 2", err, conns.Load())
			}
			if cause := Explain(err, testHost).Cause; (cause == CauseTimeout) != (name == "stalls") {
				t.Errorf("got the cause %v of %v", cause, err)
			}
			if took := time.Since(began); name == "stalls" && took < limit {
				t.Errorf("took %s; want all of %s", took, limit)
			}
			if _, known := s.learned.classic.get(fmt.Sprintf("%s:%d", testHost, port)); known {
				t.Error("a failure is remembered")
			}
		})
	}
}

// TestNoRetry shows when there is no second attempt.
func TestNoRetry(t *testing.T) {
	root := catest.Root(t, "Root")
	leaf := root.Leaf(t, testHost)
	say := func(text string) func(net.Conn) {
		return func(c net.Conn) { readSome(c); io.WriteString(c, text) }
	}
	tests := []struct {
		name   string
		handle func(net.Conn)
	}{
		{"a byte came", say("\x16")},
		{"an alert", say("\x15\x03\x03\x00\x02\x02\x28")},
		{"not TLS", say("HTTP/1.1 400 Bad Request\r\n\r\n")},
		{"a byte, then nothing", func(c net.Conn) { readSome(c); io.WriteString(c, "\x16"); io.Copy(io.Discard, c) }},
		{"a certificate that is not trusted", func(c net.Conn) {
			greet(c, &tls.Config{Certificates: []tls.Certificate{catest.SelfSigned(t, testHost)}}, nil)
		}},
	}
	s := newStore(t, testConfig(t, root))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, seconds, err := dialTwice(t, s, serve(t, tt.handle), 200*time.Millisecond); err == nil || seconds != 0 {
				t.Errorf("got %v and %d connections more; want an error and none", err, seconds)
			}
		})
	}
	t.Run("nobody has another connection", func(t *testing.T) {
		_, err := dial(t, s, "", testHost, serve(t, readSome))
		checkError(t, err, testHost, false, "the server closed the connection during the TLS handshake")
	})
	t.Run("no other connection is to be had", func(t *testing.T) {
		conn := connect(t, serve(t, readSome))
		defer conn.Close()
		want := errors.New("no")
		if _, err := s.Handshake(t.Context(), conn, Destination{Host: testHost}, func() (net.Conn, error) { return nil, want }); err != want {
			t.Errorf("got %v; want %v", err, want)
		}
	})
	t.Run("the client left", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		conn := connect(t, serve(t, func(c net.Conn) { readSome(c); cancel(); io.Copy(io.Discard, c) }))
		defer conn.Close()
		if _, err := s.Handshake(ctx, conn, Destination{Host: testHost}, func() (net.Conn, error) {
			t.Error("another connection is asked for")
			return nil, io.EOF
		}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v; want %v", err, context.Canceled)
		}
	})
	t.Run("a session is to be resumed", func(t *testing.T) {
		var n atomic.Int32
		cfg := &tls.Config{Certificates: []tls.Certificate{leaf}}
		port := serve(t, func(c net.Conn) {
			if n.Add(1) == 1 {
				greet(c, cfg, nil)
				return
			}
			readSome(c)
		})
		if _, _, err := dialTwice(t, s, port, patience); err != nil {
			t.Fatal(err)
		}
		// Its ClientHello was small.
		if _, seconds, err := dialTwice(t, s, port, patience); err == nil || seconds != 0 {
			t.Errorf("got %v and %d connections more; want an error and none", err, seconds)
		}
	})
}
