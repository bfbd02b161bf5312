package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// originClient returns a client that trusts o, and the sessions that it resumes.
func originClient(t *testing.T, o *origins) *http.Client {
	t.Helper()
	text, err := os.ReadFile(o.caFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		t.Fatalf("got no certificate in %s; want the CA's", o.caFile)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(8)}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

func TestOriginAnswers(t *testing.T) {
	t.Parallel()
	o := testOrigins(t)
	client := originClient(t, o)
	tests := []struct {
		path   string
		status int
		size   int
		close  bool
	}{
		{"/ok", 200, 3, false},
		{"/ok?a=b", 404, 0, false},
		{"/size/0", 200, 0, false},
		{"/size/1", 200, 1, false},
		{"/size/65536", 200, 65536, false},
		{"/size/65537", 200, 65537, false},
		{"/size/1048576", 200, 1048576, false},
		{"/size/-1", 404, 0, false},
		{"/size/1073741825", 404, 0, false},
		{"/size/x", 404, 0, false},
		{"/close", 200, 3, true},
		{"/soon", 200, 3, false},
		{"/soon/close", 200, 3, true},
		{"/slow", 200, 3, false},
		{"/", 404, 0, false},
	}
	for name, base := range map[string]string{
		"plain": "http://127.0.0.1:" + strconv.Itoa(o.plain), "tls": "https://localhost:" + strconv.Itoa(o.tls), "full tls": "https://127.0.0.1:" + strconv.Itoa(o.tlsFull),
	} {
		for _, tt := range tests {
			t.Run(name+tt.path, func(t *testing.T) {
				t.Parallel()
				resp, err := client.Post(base+tt.path, "text/plain", strings.NewReader(strings.Repeat("x", 5000)))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if resp.StatusCode != tt.status || len(body) != tt.size || resp.Close != tt.close || err != nil {
					t.Errorf("got %d, %d bytes, close %v, %v; want %d, %d, %v", resp.StatusCode, len(body), resp.Close, err, tt.status, tt.size, tt.close)
				}
			})
		}
	}
}

func TestOriginResumesSessions(t *testing.T) {
	o := testOrigins(t)
	client := originClient(t, o)
	tests := []struct {
		name    string
		port    int
		resumed bool
	}{{"with tickets", o.tls, true}, {"without", o.tlsFull, false}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for i := range 2 {
				resp, err := client.Get("https://localhost:" + strconv.Itoa(tt.port) + "/close")
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if want := tt.resumed && i > 0; resp.TLS.DidResume != want {
					t.Errorf("got resumed %v on connection %d; want %v", resp.TLS.DidResume, i, want)
				}
			}
		})
	}
}

func TestOriginListensOnEveryAddress(t *testing.T) {
	if !reachable("127.0.3.7") {
		t.Skip("this system has no 127.0.3.7")
	}
	o := testOrigins(t)
	// Over TLS, its certificate is for that address.
	for _, base := range []string{"http://127.0.3.7:" + strconv.Itoa(o.plain), "https://127.0.3.7:" + strconv.Itoa(o.tls)} {
		resp, err := originClient(t, o).Get(base + "/ok")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("got %d from %s; want 200", resp.StatusCode, base)
		}
	}
}

// reachable reports whether this host has an address.
func reachable(address string) bool {
	listener, err := net.Listen("tcp", address+":0")
	if err != nil {
		return false
	}
	listener.Close()
	return true
}

func TestOriginHangs(t *testing.T) {
	o, err := startOrigins(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(o.plain))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The second answer never comes: what does come is the end.
	_, _ = io.WriteString(conn, "GET /ok HTTP/1.1\r\nHost: a\r\n\r\nPOST /hang HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\nx")
	var got [200]byte
	n, err := conn.Read(got[:])
	if !bytes.Equal(got[:n], []byte(answerOK)) || err != nil {
		t.Fatalf("got %q, %v; want %q", got[:n], err, answerOK)
	}
	o.close()
	if n, err := conn.Read(got[:]); n != 0 || err == nil {
		t.Errorf("got %q, %v; want the end", got[:n], err)
	}
}

func TestTunnelOrigin(t *testing.T) {
	o := testOrigins(t)
	open := func(t *testing.T, first string) net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(o.tunnel))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(conn, first); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	t.Run("echo", func(t *testing.T) {
		conn := open(t, string(rune(tunnelEcho))+"hello")
		_ = conn.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(conn); string(got) != string(rune(tunnelEcho))+"hello" || err != nil {
			t.Errorf("got %q, %v; want what was sent", got, err)
		}
	})
	t.Run("source", func(t *testing.T) {
		if n, err := io.CopyN(io.Discard, open(t, string(rune(tunnelSource))), 1<<20); err != nil {
			t.Errorf("got %d bytes, %v; want 1 MiB", n, err)
		}
	})
	t.Run("sink", func(t *testing.T) {
		conn := open(t, string(rune(tunnelSink)))
		if n, err := conn.Write(make([]byte, 8<<20)); err != nil {
			t.Errorf("got %d bytes written, %v; want 8 MiB", n, err)
		}
	})
	t.Run("unknown", func(t *testing.T) {
		if got, err := io.ReadAll(open(t, "x")); len(got) != 0 || err != nil {
			t.Errorf("got %q, %v; want the end", got, err)
		}
	})
}
