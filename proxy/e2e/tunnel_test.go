package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
)

func connectRequest(o *origin) string {
	return "CONNECT " + o.addr + " HTTP/1.1\r\nHost: " + o.addr + "\r\n\r\n"
}

// flood writes n bytes that depend on seed and returns their hash.
func flood(w io.Writer, seed byte, n int) string {
	hash := sha256.New()
	block := make([]byte, 1<<16)
	for i := range block {
		block[i] = byte(i)*seed + byte(i>>8)
	}
	for n > 0 {
		b := block[:min(n, len(block))]
		hash.Write(b)
		if _, err := w.Write(b); err != nil {
			return err.Error()
		}
		n -= len(b)
	}
	return hex.EncodeToString(hash.Sum(nil))
}

func drain(r io.Reader) string {
	hash := sha256.New()
	if _, err := io.Copy(hash, r); err != nil {
		return err.Error()
	}
	return hex.EncodeToString(hash.Sum(nil))
}

func TestTunnelCarriesBothWaysAtOnce(t *testing.T) {
	t.Parallel()
	const size = 16 << 20
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.AccessLog.Type = accesslog.JSON })
	type hashes struct{ sent, got string }
	atOrigin := make(chan hashes, 1)
	o := newOrigin(t, func(c *originConn) {
		sent := make(chan string, 1)
		go func() { // awaited below
			sent <- flood(c, 7, size)
			c.Conn.(*net.TCPConn).CloseWrite()
		}()
		got := drain(c.Conn)
		atOrigin <- hashes{<-sent, got}
	})
	c := s.dial()
	c.connectTo(o)
	s.waitMetric("whsentry_tunnels", "1")
	sent := make(chan string, 1)
	go func() { // awaited below
		sent <- flood(c.Conn, 11, size)
		c.Conn.(*net.TCPConn).CloseWrite()
	}()
	got := drain(c.r)
	if there := <-atOrigin; there.sent != got || there.got != <-sent {
		t.Errorf("what arrives is not what was sent")
	}
	s.waitMetric("whsentry_tunnels", "0")
	s.waitMetric("whsentry_tunnels_total", "1")
	s.waitMetric(busyConnections, "0")
	s.waitMetric("whsentry_request_bytes_total", strconv.Itoa(size))
	s.waitMetric("whsentry_response_bytes_total", strconv.Itoa(size))
	line := s.jsonLines(1)[0]
	for key, want := range map[string]any{
		"method": "CONNECT", "url": o.addr, "response_code": 200.0, "upstream_addr": o.addr, "conn_reused": false,
		"request_bytes": float64(size), "response_bytes": float64(size),
	} {
		if line[key] != want {
			t.Errorf("got %s = %v in the log; want %v", key, line[key], want)
		}
	}
	if _, there := line["reason_code"]; there {
		t.Errorf("got a reason in %v; want none", line)
	}
}

func TestTunnelHalfClose(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	t.Run("of the client", func(t *testing.T) {
		t.Parallel()
		o := newOrigin(t, func(c *originConn) {
			all, _ := io.ReadAll(c.r) // until the client's FIN
			fmt.Fprintf(c, "got %d", len(all))
		})
		c := s.dialFor(t)
		c.connectTo(o)
		c.send(pattern(100_000))
		c.halfClose()
		if answer, err := io.ReadAll(c.r); string(answer) != "got 100000" || err != nil {
			t.Errorf("got %q, %v; want got 100000", answer, err)
		}
	})
	t.Run("of the destination", func(t *testing.T) {
		t.Parallel()
		got := make(chan int, 1)
		o := newOrigin(t, func(c *originConn) {
			io.WriteString(c, "bye")
			c.Conn.(*net.TCPConn).CloseWrite()
			all, _ := io.ReadAll(c.r)
			got <- len(all)
		})
		c := s.dialFor(t)
		c.connectTo(o)
		if answer, err := io.ReadAll(c.r); string(answer) != "bye" || err != nil {
			t.Errorf("got %q, %v; want bye", answer, err)
		}
		c.send(pattern(100_000))
		c.halfClose()
		if n := <-got; n != 100_000 {
			t.Errorf("got %d bytes at the destination after its FIN; want 100000", n)
		}
	})
}

func testTunnelIdleTimeout(t *testing.T) {
	const timeout = 500 * time.Millisecond
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.ReadTimeout = timeout
		cfg.AccessLog.Type = accesslog.JSON
	})
	for i, tt := range []struct {
		name  string
		begin func(c *rawConn)
	}{
		{"silent", func(c *rawConn) {}},
		{"half-closed by the client", func(c *rawConn) { c.halfClose() }},
	} {
		ended := make(chan struct{})
		o := newOrigin(t, func(c *originConn) { <-ended })
		c := s.dial()
		began := time.Now()
		c.connectTo(o)
		tt.begin(c)
		c.waitEnd()
		close(ended)
		if took := time.Since(began); took < timeout {
			t.Errorf("%s: closed after %v; want %v at least", tt.name, took, timeout)
		}
		line := s.jsonLines(i + 1)[i]
		if line["response_code"] != 200.0 || line["reason_code"] != 1004.0 || !strings.Contains(line["reason"].(string), "idle") {
			t.Errorf("%s: got the line %v; want status 200 and reason 1004, idle", tt.name, line)
		}
	}
}

// A byte in either direction is enough.
func testTunnelIdleTimeoutRolls(t *testing.T) {
	const timeout = 2 * time.Second
	const pause = timeout / 6 // seven of them are longer
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = timeout })
	t.Run("upward", func(t *testing.T) {
		t.Parallel()
		o := newOrigin(t, func(c *originConn) { io.Copy(io.Discard, c.r) })
		c := s.dialFor(t)
		c.connectTo(o)
		drip(c.Conn, "12345678", pause)
		c.halfClose()
		if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
			t.Errorf("got %q, %v; want an orderly end", rest, err)
		}
		eventually(t, "all eight bytes", func() bool { return o.bytes() == "12345678" })
	})
	t.Run("downward", func(t *testing.T) {
		t.Parallel()
		c := s.dialFor(t)
		c.connectTo(newOrigin(t, func(c *originConn) { drip(c, "12345678", pause) }))
		if all, err := io.ReadAll(c.r); string(all) != "12345678" || err != nil {
			t.Errorf("got %q, %v; want all eight bytes", all, err)
		}
	})
}

// A tunnel in which bytes move is closed at twice its lifetime. Where an answer may be owed, that is a failure.
func testTunnelLifetime(t *testing.T) {
	const lifetime = 600 * time.Millisecond
	for _, tt := range []struct {
		name  string
		serve func(c *originConn)
		drip  bool // whether the client does
		owed  bool
	}{
		{"the client's bytes are the last", func(c *originConn) { io.Copy(io.Discard, c.r) }, true, true},
		{"the destination's bytes are the last", func(c *originConn) { drip(c, pattern(1000), 20*time.Millisecond) }, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
				cfg.ConnectionLifetime = lifetime
				cfg.AccessLog.Type = accesslog.JSON
			})
			began := time.Now()
			c := s.dial()
			c.connectTo(newOrigin(t, tt.serve))
			if tt.drip {
				go drip(c.Conn, pattern(1000), 20*time.Millisecond) // ends with the connection
			}
			io.Copy(io.Discard, c.r)
			if took := time.Since(began); took < 2*lifetime {
				t.Errorf("closed after %v; want %v at least", took, 2*lifetime)
			}
			line := s.jsonLines(1)[0]
			if tt.owed && (line["reason_code"] != 1004.0 || !strings.Contains(line["reason"].(string), "lifetime") || line["closed"] != nil) {
				t.Errorf("got the line %v; want reason 1004, lifetime", line)
			}
			if !tt.owed && (line["reason_code"] != nil || line["response_code"] != 200.0 || line["closed"] != "lifetime") {
				t.Errorf("got the line %v; want 200, closed for its lifetime", line)
			}
			s.waitMetric(`whsentry_destination_connections_closed_total{why="lifetime"}`, "1")
		})
	}
}

// A tunnel that has served its purpose is closed at a quiet moment from half its lifetime on, and that is no failure.
func testTunnelIsClosedAtAQuietMoment(t *testing.T) {
	const lifetime = 3 * time.Second
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.ConnectionLifetime = lifetime
		cfg.AccessLog.Type = accesslog.JSON
	})
	began := time.Now()
	c := s.dial()
	c.connectTo(echoing(t))
	c.send("ping")
	c.expect("ping")
	c.waitEnd()
	if took := time.Since(began); took < lifetime/2 || took >= 2*lifetime {
		t.Errorf("closed after %v; want %v at least, and less than %v", took, lifetime/2, 2*lifetime)
	}
	if line := s.jsonLines(1)[0]; line["reason_code"] != nil || line["closed"] != "lifetime" {
		t.Errorf("got the line %v; want no reason, closed for its lifetime", line)
	}
}

// A tunnel that has been idle since an answer came has served its purpose too.
func testTunnelIdleAfterAnAnswer(t *testing.T) {
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.ReadTimeout = 2 * time.Second
		cfg.AccessLog.Type = accesslog.JSON
	})
	c := s.dial()
	c.connectTo(echoing(t))
	c.send("ping")
	c.expect("ping")
	c.waitEnd()
	if line := s.jsonLines(1)[0]; line["reason_code"] != nil || line["closed"] != "idle" {
		t.Errorf("got the line %v; want no reason, closed for being idle", line)
	}
}

func TestTunnelEarlyBytes(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := echoing(t)
	for _, size := range []int{1, 3000, 60_000} {
		c := s.dial()
		early := pattern(size)
		go io.WriteString(c.Conn, connectRequest(o)+early) // ends with the connection
		c.readHead()
		got := make([]byte, size)
		if _, err := io.ReadFull(c.r, got); err != nil || string(got) != early {
			t.Errorf("got %v and other bytes than the %d sent behind the CONNECT", err, size)
		}
		c.Conn.Close()
	}
}

func TestTunnelForms(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.AccessLog.Type = accesslog.JSON })
	o := echoing(t)
	for i, request := range []string{
		connectRequest(o),
		"CONNECT " + o.addr + " HTTP/1.0\r\n\r\n",
		"CONNECT " + o.addr + " HTTP/1.1\r\nHost: " + o.addr + "\r\nConnection: close\r\n\r\n",
		"CONNECT " + o.addr + " HTTP/1.1\r\nHost: other.example\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\nUser-Agent: x\r\n\r\n",
		"CONNECT " + o.addr + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
	} {
		c := s.dial()
		c.send(request)
		head := c.readHead()
		if !strings.HasPrefix(head, "HTTP/1.1 200 ") || strings.Contains(strings.ToLower(head), "content-length") ||
			strings.Contains(strings.ToLower(head), "transfer-encoding") {
			t.Errorf("got %q to %q; want a 200 without framing (RFC 9110 section 9.3.6)", head, request)
		}
		c.send("ping")
		got := make([]byte, 4)
		if _, err := io.ReadFull(c.r, got); err != nil || string(got) != "ping" {
			t.Errorf("got %q, %v through the tunnel; want ping", got, err)
		}
		c.Conn.Close()
		if line := s.jsonLines(i + 1)[i]; line["url"] != o.addr || line["request_bytes"] != 4.0 || line["response_bytes"] != 4.0 {
			t.Errorf("got the line %v; want the url %s and 4 bytes either way", line, o.addr)
		}
	}
	if got := o.bytes(); strings.Trim(got, "ping") != "" {
		t.Errorf("got %q at the destination; want nothing of the CONNECTs", got)
	}
}

func TestConnectRefused(t *testing.T) {
	t.Parallel()
	o := echoing(t)
	_, originPort, _ := net.SplitHostPort(o.addr)
	port, _ := strconv.Atoi(originPort)
	deny := func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectMode = proxy.ConnectDeny }
	ports := func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectPorts = []uint16{25, 443} }
	thisPort := func(cfg *proxy.Config, g *guard.Config) {
		cfg.ConnectPorts = []uint16{443, uint16(port)}
		g.PortDenyList = []uint16{uint16(port)}
	}
	for _, tt := range []struct {
		name           string
		change         func(*proxy.Config, *guard.Config)
		target         string
		status, reason string
	}{
		{"denied", deny, o.addr, "405 ", "1015"},
		{"denied before its port is looked at", deny, "127.0.0.1:25", "405 ", "1015"},
		{"malformed before denied", deny, "127.0.0.1", "400 ", "1002"},
		{"not to this port", ports, o.addr, "403 ", "1015"},
		{"a listed port that is refused", ports, "127.0.0.1:25", "403 port 25 is blocked", "1013"},
		{"a refused port", thisPort, o.addr, "403 port " + originPort + " is blocked", "1013"},
		{"a refused address", nil, "127.0.0.2:443", "403 IP 127.0.0.2 is blocked", "1000"},
		{"no port", nil, "127.0.0.1", "400 ", "1002"},
		{"port 0", nil, "127.0.0.1:0", "400 ", "1002"},
		{"an absolute URI", nil, "http://" + o.addr + "/", "400 ", "1002"},
		{"user information", nil, "a:b@" + o.addr, "400 ", "1002"},
		{"a number for an address", nil, "2130706433:443", "400 ", "1002"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, tt.change)
			c := s.dial()
			c.send("CONNECT " + tt.target + " HTTP/1.1\r\nHost: x\r\n\r\n")
			r := c.receive("GET")
			if !strings.HasPrefix(r.status, tt.status) || r.reason() != tt.reason {
				t.Errorf("got %q and reason %q; want %q and %q", r.status, r.reason(), tt.status, tt.reason)
			}
			if text := r.header.Get("X-Whsentry-Reason"); r.status[4:] != text+" ("+tt.reason+")" || r.body != text+"\n" {
				t.Errorf("got the status line %q and body %q; want the reason %q in both", r.status, r.body, text)
			}
			if line := s.logLines(1)[0]; !strings.Contains(line, " CONNECT ") || strings.Contains(line, " 200 ") {
				t.Errorf("got the line %q; want the refused CONNECT", line)
			}
		})
	}
	t.Cleanup(func() {
		if n := o.connections(); n != 0 {
			t.Errorf("got %d connections to the destination; want none", n)
		}
	})
}

// A client whose CONNECT was refused may try another on the same connection.
func TestConnectAfterARefusedOne(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := echoing(t)
	c := s.dial()
	c.send("CONNECT 127.0.0.2:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	if r := c.receive("GET"); r.reason() != "1000" || r.closing {
		t.Fatalf("got %q, closing %v; want 1000 and an open connection", r.status, r.closing)
	}
	c.connectTo(o)
}

func TestTunnelPassesResetsOn(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	t.Run("of the client", func(t *testing.T) {
		t.Parallel()
		ended := make(chan error, 1)
		o := newOrigin(t, func(c *originConn) {
			io.WriteString(c, "x")
			_, err := io.ReadAll(c.r)
			ended <- err
		})
		c := s.dialFor(t)
		c.connectTo(o)
		c.r.ReadByte()
		c.abort()
		if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v at the destination; want a reset", err)
		}
	})
	t.Run("of the destination", func(t *testing.T) {
		t.Parallel()
		o := newOrigin(t, func(c *originConn) {
			c.r.ReadByte()
			c.Conn.(*net.TCPConn).SetLinger(0)
		})
		c := s.dialFor(t)
		c.connectTo(o)
		c.send("x")
		if _, err := io.ReadAll(c.r); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v at the client; want a reset", err)
		}
	})
	t.Cleanup(func() {
		for _, line := range s.logLines(2) {
			if !strings.Contains(line, " 200 ") {
				t.Errorf("got the line %q; want the tunnel's 200", line)
			}
		}
		s.waitMetric("whsentry_tunnels", "0")
	})
}

// A tunnel is logged when it ends, with host:port for its URL, and not before.
func TestTunnelIsLoggedWhenItEnds(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := echoing(t)
	c := s.dial()
	c.connectTo(o)
	s.exchange(get(answering(t, okResponse), "/"))
	if first := s.logLines(1)[0]; strings.Contains(first, "CONNECT") {
		t.Errorf("got %q while the tunnel is open", first)
	}
	c.Conn.Close()
	if line := s.logLines(2)[1]; !strings.Contains(line, " CONNECT "+o.addr+" 200 ") {
		t.Errorf("got the line %q; want CONNECT %s 200", line, o.addr)
	}
}

// A tunnel's connection is its own: none is taken from the pool, and none goes there.
func TestTunnelsDoNotUseThePool(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectPlain = proxy.PlainOpaque })
	o := answering(t, okResponse)
	s.exchange(get(o, "/")).check(t, "200 OK", "")
	s.waitMetric(idleConnections, "1")
	c := s.dial()
	c.connectTo(o)
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	c.receive("GET")
	c.Conn.Close()
	s.waitMetric(busyConnections, "0")
	s.waitMetric(idleConnections, "1")
	s.exchange(get(o, "/")).check(t, "200 OK", "")
	if n := o.connections(); n != 2 {
		t.Errorf("got %d connections; want 2", n)
	}
}

// However its sides hang, a tunnel has an end, and with it its places among the connections.
func testTunnelEndsWhoeverHangs(t *testing.T) {
	tests := []struct {
		name  string
		serve func(c *originConn)
	}{
		{"the destination half-closes and the client is silent", func(c *originConn) {
			c.Conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c.r)
		}},
		{"the client does not read what the destination floods it with", func(c *originConn) { flood(c, 3, 64<<20) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
				cfg.ReadTimeout = 300 * time.Millisecond
				cfg.ConnectionLifetime = time.Second
			})
			c := s.dial() // stays open, and silent
			c.connectTo(newOrigin(t, tt.serve))
			s.waitMetric("whsentry_tunnels", "0")
			s.waitMetric(busyConnections, "0")
			s.waitMetric(clientGauge, "0")
		})
	}
}
