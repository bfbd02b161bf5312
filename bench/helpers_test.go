package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

// forwardProxy starts a tiny forward proxy and returns its host:port. It forwards requests and opens tunnels.
func forwardProxy(t *testing.T) string {
	t.Helper()
	transport := &http.Transport{Proxy: nil, DisableCompression: true, MaxIdleConnsPerHost: 100}
	server := httptest.NewServer(forwarder(transport))
	t.Cleanup(server.Close)
	t.Cleanup(transport.CloseIdleConnections)
	return server.Listener.Addr().String()
}

// forwarder returns what forwards requests by transport, and opens tunnels.
func forwarder(transport *http.Transport) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect {
			serveConnect(w, r)
			return
		}
		r.RequestURI = ""
		resp, err := transport.RoundTrip(r)
		if err != nil {
			w.Header().Set("X-WhSentry-Reason", "the test's proxy: "+err.Error())
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.Header().Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}
}

// serveConnect opens a tunnel and carries bytes until either side ends.
func serveConnect(w http.ResponseWriter, r *http.Request) {
	up, err := net.Dial("tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer up.Close()
	client, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	carry(client, up)
}

// carry passes bytes between two connections until either ends, and closes both.
func carry(client, up net.Conn) {
	upwards := make(chan struct{})
	go func() { // ends with either connection; awaited below
		defer close(upwards)
		_, _ = io.Copy(up, client)
		up.Close()
	}()
	_, _ = io.Copy(client, up)
	client.Close()
	up.Close()
	<-upwards
}

// scripted starts a server that calls handle for each connection, with its number from 0, and returns its host:port. The
// connection is closed when handle returns, or when the test ends.
func scripted(t *testing.T, handle func(number int, conn net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	o := &origins{conns: make(map[net.Conn]struct{})}
	go func() { // ends with the listener; awaited by the cleanup
		defer close(ended)
		for number := 0; ; number++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if o.keep(conn) {
				o.all.Go(func() {
					defer o.drop(conn)
					handle(number, conn)
				})
			}
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-ended
		o.close()
	})
	return listener.Addr().String()
}

// answering returns a handler for scripted: it reads heads of requests and writes what answer returns for the request's
// number on the connection, from 0, until that is "" or says Connection: close.
func answering(answer func(conn, request int) string) func(int, net.Conn) {
	return func(number int, conn net.Conn) {
		reader := bufio.NewReader(conn)
		for request := 0; ; request++ {
			for {
				line, err := reader.ReadString('\n')
				if err != nil {
					return
				}
				if strings.TrimSpace(line) == "" {
					break
				}
			}
			text := answer(number, request)
			if _, err := io.WriteString(conn, text); err != nil || text == "" || strings.Contains(text, "Connection: close") {
				return
			}
		}
	}
}

// testOrigins starts origins for a test.
func testOrigins(t *testing.T) *origins {
	t.Helper()
	o, err := startOrigins(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.close)
	return o
}

// onPort returns a URL of a port of this host.
func onPort(port int, path string) string { return "http://127.0.0.1:" + strconv.Itoa(port) + path }

// waitFor waits until is returns true, for at most 10 s.
func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("got no %s within 10 s; want it", what)
		}
		time.Sleep(time.Millisecond)
	}
}
