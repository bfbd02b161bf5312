package command

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"whsentry/policy"
)

// TestReloadClients reads clients from the file, and again at SIGHUP: for kept connections, requests inside a tunnel and
// opaque tunnels. What is wrong with them leaves the old ones in force.
func TestReloadClients(t *testing.T) {
	t.Chdir(t.TempDir())
	asked := make(chan string, 100)
	destination := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path + r.Header.Get("Proxy-Authorization")
	}))
	defer destination.Close()
	web, echo := destination.Listener.Addr().String(), startEcho(t)
	clients := func(name, token, rules string) {
		t.Helper()
		text := fmt.Sprintf("clients:\n  - name: %s\n    tokens: [%q]\n%s", name, policy.HashToken(token), rules)
		if err := os.WriteFile("config.yaml", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	clients("billing", "first", "")
	d := startDaemon(t, quiet("--cidr-allow-list", "127.0.0.1", "--access-log-type", "json")...)
	started, n := d.log.wait(t, 0, "started")
	reload := func(message string) {
		t.Helper()
		d.signals <- syscall.SIGHUP
		_, n = d.log.wait(t, n, message)
	}
	proxy := started["listening"].([]any)[0].(string)
	kept, inside, tunnel, unknown := dialRaw(t, proxy), dialRaw(t, proxy), dialRaw(t, proxy), dialRaw(t, proxy)
	request := func(path, token string) string {
		return "GET http://" + web + path + " HTTP/1.1\r\nHost: " + web + "\r\nProxy-Authorization: Bearer " + token + "\r\n\r\n"
	}
	open := func(authority, token string) string {
		return "CONNECT " + authority + " HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Bearer " + token + "\r\n\r\n"
	}
	within := "GET /within HTTP/1.1\r\nHost: " + web + "\r\n\r\n"
	unknown.ask(t, request("/", "second"), "407 1016")
	kept.ask(t, request("/first", "first"), "200 ")
	inside.ask(t, open(web, "first"), "200 ")
	inside.ask(t, within, "200 ")
	tunnel.ask(t, open(echo, "first"), "200 ")
	tunnel.echoes(t)

	reload("reloaded")
	kept.ask(t, request("/first", "first"), "200 ")
	tunnel.echoes(t)

	clients("billing", "first", "    allowHosts: []\n")
	reload("not reloaded; the settings stay as they were")
	kept.ask(t, request("/first", "first"), "200 ")
	tunnel.echoes(t)

	clients("billing", "first", "    allowHosts: [127.0.0.1]\n    allowPorts: ["+echo[strings.LastIndexByte(echo, ':')+1:]+"]\n")
	reload("reloaded")
	kept.ask(t, request("/denied", "first"), "403 1019")
	inside.ask(t, within, "403 1019")
	tunnel.echoes(t)

	clients("billing", "second", "")
	reload("reloaded")
	kept.ask(t, request("/denied", "first"), "407 1016")
	kept.ask(t, request("/second", "second"), "200 ")
	inside.ask(t, within, "407 1016")
	if b, err := tunnel.r.ReadByte(); err == nil {
		t.Errorf("got %q through a tunnel whose token is gone; want its end", b)
	}
	unknown.ask(t, request("/second", "second"), "200 ")

	if r := d.stop(t, syscall.SIGTERM); r.code != exitOK {
		t.Errorf("got %+v; want exit code 0", r)
	}
	close(asked)
	got := make(map[string]int)
	for path := range asked {
		got[path]++
	}
	if want := map[string]int{"/first": 3, "/within": 1, "/second": 2}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v at the destination; want %v", got, want)
	}
}

// startEcho serves connections that get back what they send.
func startEcho(t *testing.T) (address string) {
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
			go func() { // ends with the proxy's connection
				io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
	return ln.Addr().String()
}

// rawClient is a client's connection to the proxy.
type rawClient struct {
	net.Conn
	r *bufio.Reader
}

func dialRaw(t *testing.T, proxy string) *rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", proxy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return &rawClient{conn, bufio.NewReader(conn)}
}

// ask sends a request and holds status and reason code of the answer against want.
func (c *rawClient) ask(t *testing.T, request, want string) {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if method != http.MethodConnect || resp.StatusCode != http.StatusOK {
		io.Copy(io.Discard, resp.Body)
	}
	if got := fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("X-Whsentry-Reasoncode")); got != want {
		t.Errorf("%.40q: got %s; want %s", request, got, want)
	}
}

// echoes holds that the tunnel still carries bytes.
func (c *rawClient) echoes(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(c, "\x00"); err != nil {
		t.Fatal(err)
	}
	if b, err := c.r.ReadByte(); err != nil || b != 0 {
		t.Errorf("got %q, %v through the tunnel; want what was sent", b, err)
	}
}
