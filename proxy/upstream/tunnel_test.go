package upstream

import (
	"io"
	"net"
	"testing"
	"time"

	"whsentry/proxy/socket"
)

// tunnelOver returns a tunnel over a new connection of the pool, the client's end of it and the destination's.
func tunnelOver(p *poolPeers) (t *Tunnel, client, destination *net.TCPConn) {
	p.t.Helper()
	u := p.add("h:80", Route{})
	near, err := net.Dial("tcp", p.ln.Addr().String())
	if err != nil {
		p.t.Fatal(err)
	}
	far, err := p.ln.Accept()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { near.Close(); far.Close() })
	s, err := socket.New(far.(*net.TCPConn))
	if err != nil {
		p.t.Fatal(err)
	}
	t = u.Join(s, s, func(bug any) { p.t.Errorf("panic: %v", bug) })
	return t, near.(*net.TCPConn), p.far[u].(*net.TCPConn)
}

// TestTunnelAge moves the sweeper's clock: a tunnel is closed at a quiet moment from half its age on, at twice its age
// whatever happens, and in between only for being idle.
func TestTunnelAge(t *testing.T) {
	const life, idle = time.Hour, time.Minute // testLimits
	for _, tt := range []struct {
		name  string
		age   time.Duration
		moved time.Duration // before that, exact to a nanosecond; 0: nothing has
		whose side
		want  CloseReason
	}{
		{"young, the destination's word the last", life/2 - time.Second, 5 * time.Second, destinations, CloseNone},
		{"half its age, the destination's word the last", life / 2, 5 * time.Second, destinations, CloseLifetime},
		{"half its age, a second ago", life / 2, time.Second + 1, destinations, CloseLifetime},
		{"half its age, just now", life / 2, time.Second - time.Millisecond, destinations, CloseNone},
		{"half its age, an answer is owed", life / 2, 5 * time.Second, clients, CloseNone},
		{"half its age, nothing has moved", life / 2, 0, clients, CloseNone},
		{"over its age, an answer is owed", life + idle, idle - time.Second, clients, CloseNone},
		{"over its age, an answer is owed for too long", life + idle, idle, clients, CloseIdle},
		{"young, idle after an answer", life/2 - time.Second, idle, destinations, CloseIdle},
		{"just under twice its age", 2*life - time.Second, time.Millisecond, destinations, CloseNone},
		{"twice its age, an answer is owed", 2 * life, time.Millisecond, clients, CloseLifetime},
		{"twice its age, just now", 2 * life, time.Millisecond, destinations, CloseLifetime},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPoolPeers(t)
			tunnel, client, _ := tunnelOver(p)
			u := tunnel.conn
			at := u.born + int64(tt.age)
			u.Expect(at)
			if tt.moved > 0 {
				tunnel.moved.Store((at-int64(tt.moved))&^1 | tt.whose)
				u.Expect(at - int64(tt.moved))
			}
			p.pool.Sweep(at)
			if got := u.Killed(); got != tt.want {
				t.Fatalf("got closed for %q; want %q", got, tt.want)
			}
			if tt.want == CloseNone {
				return
			}
			client.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := client.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("got %v; want that the client's side is closed too", err)
			}
		})
	}
}

// TestTunnelIsNotQuiet: what has come and was only not carried yet is no quiet moment.
func TestTunnelIsNotQuiet(t *testing.T) {
	for name, say := range map[string]func(client, destination *net.TCPConn){
		"the client's bytes":      func(client, _ *net.TCPConn) { io.WriteString(client, "POST") },
		"the destination's bytes": func(_, destination *net.TCPConn) { io.WriteString(destination, "HTTP") },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPoolPeers(t)
			tunnel, client, destination := tunnelOver(p)
			at := tunnel.conn.born + int64(testLimits.Lifetime/2)
			tunnel.moved.Store((at-2*quietAfter)&^1 | destinations)
			tunnel.conn.Expect(at)
			say(client, destination)
			waitFor(t, "the bytes", func() bool { return hasBytes(tunnel.prober) || hasBytes(tunnel.conn.early) })
			p.pool.Sweep(at)
			if got := tunnel.conn.Killed(); got != CloseNone {
				t.Errorf("got closed for %q; want it open", got)
			}
		})
	}
}

// TestTunnelCarries: bytes and half-closes go both ways, and whose were the last is known.
func TestTunnelCarries(t *testing.T) {
	p := newPoolPeers(t)
	tunnel, client, destination := tunnelOver(p)
	carried := make(chan struct{})
	go func() { // awaited below
		defer close(carried)
		tunnel.Begin()
		tunnel.Carry([]byte("early "), nil)
	}()
	expect := func(from *net.TCPConn, want string, answered bool) {
		t.Helper()
		from.SetReadDeadline(time.Now().Add(10 * time.Second))
		got := make([]byte, len(want))
		if _, err := io.ReadFull(from, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
		if tunnel.Answered() != answered {
			t.Errorf("after %q: got answered %v; want %v", want, !answered, answered)
		}
	}
	expect(destination, "early ", false)
	io.WriteString(client, "request")
	expect(destination, "request", false)
	io.WriteString(destination, "answer")
	expect(client, "answer", true)
	client.CloseWrite()
	if _, err := destination.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %v; want the client's half-close", err)
	}
	io.WriteString(destination, "!")
	destination.CloseWrite()
	expect(client, "!", true)
	<-carried
	if up, down := tunnel.Bytes(); up != 13 || down != 7 {
		t.Errorf("got %d and %d bytes; want 13 and 7", up, down)
	}
}
