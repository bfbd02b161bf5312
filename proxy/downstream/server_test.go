package downstream

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

const host = "Host: h\r\n"

// padded is a field of some more than n bytes.
func padded(n int) string { return "A: " + strings.Repeat("a", n) + "\r\n" }

// TestHeads holds that each head comes whole and once, whatever its size, whether fasthttp has parsed it or not, and that
// nothing of what follows it is lost.
func TestHeads(t *testing.T) {
	s := startServer(t, io.Discard, func(*Config) {}, func(c *stub, h *fasthttp.RequestHeader, unparsed []byte) bool {
		if h == nil {
			return c.answer(fmt.Sprintf("unparsed, %d bytes", len(unparsed)))
		}
		return c.answer(fmt.Sprintf("%s %s, %d bytes", h.Method(), h.RequestURI(), len(h.RawHeaders())))
	})
	for _, tt := range []struct {
		name, before, line, fields string
		unparsed                   bool
	}{
		{name: "small", line: "GET /a HTTP/1.1\r\n", fields: host},
		{name: "larger than the first buffer", line: "GET /b HTTP/1.1\r\n", fields: host + padded(smallHead)},
		{name: "larger than what a client may rest with", line: "GET /c HTTP/1.1\r\n", fields: host + padded(restingHead)},
		{name: "of as many lines as fasthttp is given", line: "GET /d HTTP/1.1\r\n", fields: host + strings.Repeat("A:\r\n", parsedLines-1)},
		{name: "of more lines", line: "GET /e HTTP/1.1\r\n", fields: host + strings.Repeat("A:\r\n", parsedLines), unparsed: true},
		{name: "that fasthttp does not take", line: "GET /f HTTP/1.1\r\n", fields: host + "Trailer: Content-Length\r\n", unparsed: true},
		{name: "behind empty lines", before: "\r\n\r\n", line: "GET /g HTTP/1.1\r\n", fields: host},
	} {
		t.Run(tt.name, func(t *testing.T) {
			head := tt.line + tt.fields + "\r\n"
			wants := answerTo(fmt.Sprintf("%s, %d bytes", tt.line[:len("GET /a")], len(tt.fields+"\r\n")))
			if tt.unparsed {
				wants = answerTo(fmt.Sprintf("unparsed, %d bytes", len(head)))
			}
			next, answered := "GET /n HTTP/1.1\r\n"+host+"\r\n", answerTo(fmt.Sprintf("GET /n, %d bytes", len(host+"\r\n")))
			conn := dial(t, s)
			io.WriteString(conn, next+tt.before+head+next)
			expect(t, conn, answered+wants+answered)
			for _, b := range []byte(tt.before + head) { // as it comes from far away
				conn.Write([]byte{b})
			}
			expect(t, conn, wants)
		})
	}
	t.Run("that is none", func(t *testing.T) {
		conn := dial(t, s)
		io.WriteString(conn, "GET / HTTP/1.1\nA: a\n\n")
		if got, _ := io.ReadAll(conn); !strings.HasPrefix(string(got), answerTo("")[:19]+"refused: ") {
			t.Errorf("got %q; want it refused", got)
		}
	})
}

// TestTooManyConnections holds that those above MaxConnections are served as such, and those far above it not at all.
func TestTooManyConnections(t *testing.T) {
	s := startServer(t, io.Discard, func(cfg *Config) { cfg.MaxConnections = 1 }, func(c *stub, _ *fasthttp.RequestHeader, _ []byte) bool {
		return c.answer(fmt.Sprintf("excess %t", c.IsExcess())) && !c.IsExcess()
	})
	const request = "GET / HTTP/1.1\r\n" + host + "\r\n"
	first := dial(t, s)
	io.WriteString(first, request)
	expect(t, first, answerTo("excess false"))
	var excess []net.Conn
	for range excessConnections {
		conn := dial(t, s)
		io.WriteString(conn, request[:4])
		excess = append(excess, conn)
	}
	last := dial(t, s)
	expect(t, last, answerTo("turned away"))
	for _, conn := range excess {
		io.WriteString(conn, request[4:])
		expect(t, conn, answerTo("excess true"))
	}
	io.WriteString(first, request)
	expect(t, first, answerTo("excess false"))
}

// TestStop holds what clients see of a server that stops: at rest, in time with their request, and too late.
func TestStop(t *testing.T) {
	heard := make(chan string, 16)
	begun := make(chan struct{}, 2)
	finish := make(chan struct{})
	s := startHeard(t, io.Discard, func(*Config) {}, func(c *stub, h *fasthttp.RequestHeader, _ []byte) bool {
		c.Enter(Waiting)
		begun <- struct{}{}
		if string(h.RequestURI()) == "/endless" {
			why := <-c.ended
			return c.answer(fmt.Sprintf("ended, %d", why))
		}
		<-finish
		return c.answer("in time") && c.MayGoOn()
	}, heard)
	resting, quick, endless := dial(t, s), dial(t, s), dial(t, s)
	for range 3 {
		if got := <-heard; got != "greeted 127.0.0.1" {
			t.Fatalf("got %q; want each client to be greeted", got)
		}
	}
	io.WriteString(quick, "GET /quick HTTP/1.1\r\n"+host+"\r\n")
	io.WriteString(endless, "GET /endless HTTP/1.1\r\n"+host+"\r\n")
	for range 2 {
		<-begun
	}
	stopped := make(chan bool)
	go func() { stopped <- stop(s, 1500*time.Millisecond) }()
	if n, err := resting.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %d, %v at rest; want the end", n, err)
	}
	close(finish)
	expect(t, quick, answerTo("in time"))
	expect(t, endless, answerTo(fmt.Sprintf("ended, %d", Dropped)))
	if <-stopped {
		t.Error("got all clients in time; want one that was thrown out")
	}
	for range 3 {
		if got := <-heard; got != "left" {
			t.Errorf("got %q; want each client to leave", got)
		}
	}
}
