package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/policy"
	"whsentry/proxy/accesslog"
	"whsentry/proxy/metrics"
)

// startForBench starts a proxy on the loopback interface, with everything on that the defaults have on.
func startForBench(t testing.TB, change func(*Config)) *Proxy {
	t.Helper()
	return startRuledForBench(t, policy.Config{}, change)
}

// startRuledForBench is startForBench with rules about who may send where.
func startRuledForBench(t testing.TB, rules policy.Config, change func(*Config)) *Proxy {
	t.Helper()
	p := newForBench(t, rules, change)
	served := make(chan error, 1)
	go func() { served <- p.Serve() }() // awaited below
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		p.Shutdown(ctx)
		<-served
	})
	return p
}

// newForBench returns a proxy that is still to be started.
func newForBench(t testing.TB, rules policy.Config, change func(*Config)) *Proxy {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Listeners[0].Address, cfg.Metrics.Address = "127.0.0.1:0", "127.0.0.1:0"
	cfg.AccessLog.File = filepath.Join(t.TempDir(), "access.log")
	if change != nil {
		change(&cfg)
	}
	m := metrics.New("test", "none")
	guardConfig := guard.DefaultConfig()
	guardConfig.PortDenyList = nil
	guardConfig.AllowList = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	g, err := guard.New(guardConfig, m.GuardHooks())
	if err != nil {
		t.Fatal(err)
	}
	caConfig := ca.DefaultConfig()
	caConfig.Bundle.URL, caConfig.Bundle.File = "", ""
	caConfig.Destinations = make([]ca.RulesConfig, len(rules.Destinations))
	store, err := ca.New(caConfig, ca.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	judged, err := policy.New(rules, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(cfg, Dependencies{Guard: g, Dialer: guard.NewDialer(g), CA: store, Policy: judged, Log: zerolog.Nop(), Metrics: m})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fixedOrigin answers every request, which is requestLen bytes long, with answer. It allocates nothing.
func fixedOrigin(t testing.TB, requestLen func() int, answer []byte) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with the listener
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer conn.Close()
				buf := make([]byte, 512*kiB)
				for {
					if _, err := io.ReadFull(conn, buf[:requestLen()]); err != nil {
						return
					}
					if _, err := conn.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// postLoop returns a function that posts a body of bodyLen bytes through p, on one connection, and reads the answer.
func postLoop(t testing.TB, p *Proxy, bodyLen, responseLen int) func() {
	t.Helper()
	return postLoopWith(t, p, "", bodyLen, responseLen)
}

// postLoopWith is postLoop with fields that are for the proxy alone.
func postLoopWith(t testing.TB, p *Proxy, forProxy string, bodyLen, responseLen int) func() {
	t.Helper()
	answer := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 09:30:00 GMT\r\nServer: fixed\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s",
		responseLen, bytes.Repeat([]byte("a"), responseLen)))
	forwarded := 0
	origin := fixedOrigin(t, func() int { return forwarded }, answer)
	fields := "Content-Type: application/json\r\nX-Signature: sha256=2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\r\nAccept: */*\r\n"
	body := bytes.Repeat([]byte("b"), bodyLen)
	request := fmt.Appendf(nil, "POST http://%s/hooks/4711 HTTP/1.1\r\nHost: %s\r\n%s%sContent-Length: %d\r\n\r\n%s", origin, origin, forProxy, fields, bodyLen, body)
	forwarded = len(fmt.Sprintf("POST /hooks/4711 HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\nUser-Agent: Webhook Sentry/0.1\r\n\r\n%s", origin, fields, bodyLen, body))
	conn, err := net.Dial("tcp", p.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	buf := make([]byte, len(answer))
	return func() {
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, buf); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(buf, answer) {
			t.Fatalf("got %q; want %q", buf, answer)
		}
	}
}

// TestAllocPost counts the allocations of the whole process, which is the proxy, a destination and a client that
// allocate nothing, while webhooks are posted over the loopback interface with the access log and the metrics on.
func TestAllocPost(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties every sync.Pool")
	}
	for _, format := range []string{accesslog.Text, accesslog.JSON} {
		t.Run(format, func(t *testing.T) {
			p := startForBench(t, func(c *Config) { c.AccessLog.Type = format })
			post := postLoop(t, p, 1024, 2)
			for range 200 {
				post()
			}
			runtime.GC()
			defer debug.SetGCPercent(debug.SetGCPercent(-1))
			const rounds = 2000
			perRound := testing.AllocsPerRun(rounds, post)
			if perRound != 0 {
				t.Errorf("got %v allocations per request; want 0", perRound)
			}
		})
	}
}

func BenchmarkPost(b *testing.B) {
	for _, size := range []struct{ request, response int }{{1024, 2}, {1024, 32 * kiB}, {256 * kiB, 2}} {
		b.Run(fmt.Sprintf("%dB-%dB", size.request, size.response), func(b *testing.B) {
			post := postLoop(b, startForBench(b, nil), size.request, size.response)
			b.ReportAllocs()
			for b.Loop() {
				post()
			}
		})
	}
}

// TestAllocInspected is TestAllocPost inside a CONNECT.
func TestAllocInspected(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties every sync.Pool")
	}
	p := startForBench(t, nil)
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	forwarded := 0
	origin := fixedOrigin(t, func() int { return forwarded }, []byte(answer))
	request := "POST /hook HTTP/1.1\r\nHost: " + origin + "\r\nContent-Length: 4\r\nUser-Agent: Webhook Sentry/0.1\r\n\r\nbody"
	forwarded = len(request)
	conn, err := net.Dial("tcp", p.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	buf := make([]byte, 512)
	send := func(raw []byte, want string) {
		if _, err := conn.Write(raw); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, buf[:len(want)]); err != nil || string(buf[:len(want)]) != want {
			t.Fatalf("got %q, %v; want %q", buf[:len(want)], err, want)
		}
	}
	send([]byte("CONNECT "+origin+" HTTP/1.1\r\nHost: "+origin+"\r\n\r\n"), connectionEstablished)
	raw := []byte(request)
	for range 200 {
		send(raw, answer)
	}
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	if perRound := testing.AllocsPerRun(2000, func() { send(raw, answer) }); perRound != 0 {
		t.Errorf("got %v allocations per request; want 0", perRound)
	}
}
