package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

func TestDeployment(t *testing.T) {
	o, proxy := testOrigins(t), forwardProxy(t)
	tests := []struct {
		name string
		args []string
		code int
		want []string // in what is printed
	}{
		{"closed loop", []string{"--target", onPort(o.plain, "/ok"), "--count=100"}, exitOK,
			[]string{"closed loop below 20000/s, 64 connections", "succeeded  100 in ", "failed     0\n", "p99.9 "}},
		{"closed loop with bodies", []string{"--target", onPort(o.plain, "/size/1048576"), "--body-size=1000", "--count=10", "--connections=2"}, exitOK,
			[]string{"POST http://", "succeeded  10 in ", "bodies     10.0 MiB"}},
		{"open loop", []string{"--target", onPort(o.plain, "/ok"), "--rate=500", "--time=100ms"}, exitOK,
			[]string{"open loop at 500/s", "succeeded  50 in "}},
		{"answer that is no success but the destination's", []string{"--target", onPort(o.plain, "/missing"), "--count=5"}, exitOK, []string{"succeeded  5 in"}},
		{"some fail", []string{"--target", onPort(o.plain, "/ok"), "--target", "http://" + refusing(t) + "/", "--count=4"}, exitOK,
			[]string{"/ok and 1 more through", "succeeded  2 in", "failed     2, the first: status 502: the test's proxy"}},
		{"all fail", []string{"--target", "http://" + refusing(t) + "/", "--count=3"}, exitFailed,
			[]string{"succeeded  0 in", "failed     3,", "bench: error: every request failed: status 502"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var printed bytes.Buffer
			code := run(t.Context(), append([]string{"bench", "--proxy", "http://" + proxy}, tt.args...), &printed, &printed)
			if code != tt.code {
				t.Errorf("got exit code %d; want %d", code, tt.code)
			}
			for _, want := range tt.want {
				if !strings.Contains(printed.String(), want) {
					t.Errorf("got\n%swant %q in it", printed.String(), want)
				}
			}
		})
	}
}

func TestDeploymentSendsWhatIsAsked(t *testing.T) {
	got := make(chan *http.Request, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r }))
	t.Cleanup(server.Close)
	var printed bytes.Buffer
	args := []string{"bench", "--proxy", server.URL, "--target=http://a.test/b?c=1,2", "--tls", "--method=PUT", "--body-size=7", "--header=X-A: 1, 2", "--header=X-B: 3", "--count=1", "--connections=1"}
	if code := run(t.Context(), args, &printed, &printed); code != exitOK {
		t.Fatalf("got %d:\n%s", code, printed.String())
	}
	r := <-got
	if r.Method != "PUT" || r.RequestURI != "http://a.test/b?c=1,2" || r.ContentLength != 7 || r.Host != "a.test" {
		t.Errorf("got %s %s, %d bytes, Host %s; want PUT http://a.test/b?c=1,2, 7, a.test", r.Method, r.RequestURI, r.ContentLength, r.Host)
	}
	for name, want := range map[string]string{"X-A": "1, 2", "X-B": "3", "X-Whsentry-Tls": "true"} {
		if r.Header.Get(name) != want {
			t.Errorf("got %s: %s; want %s", name, r.Header.Get(name), want)
		}
	}
}

func TestDeploymentOverTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"bench", "--proxy", server.URL, "--target=http://a.test/", "--count=5", "--connections=2"}
	tests := []struct {
		name string
		more []string
		code int
		want string
	}{
		{"trusted", []string{"--proxy-ca", ca}, exitOK, "succeeded  5 in"},
		{"not trusted", nil, exitFailed, "tls with the proxy: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var printed bytes.Buffer
			if code := run(t.Context(), append(args, tt.more...), &printed, &printed); code != tt.code || !strings.Contains(printed.String(), tt.want) {
				t.Errorf("got %d:\n%swant %d and %q", code, printed.String(), tt.code, tt.want)
			}
		})
	}
}

func TestDeploymentInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked atomic.Int64
	proxy := scripted(t, answering(func(int, int) string {
		if asked.Add(1) == 100 {
			cancel()
		}
		return "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	}))
	var printed bytes.Buffer
	args := []string{"bench", "--proxy", "http://" + proxy, "--target=http://a.test/", "--time=1h", "--connections=2"}
	if code := run(ctx, args, &printed, &printed); code != exitInterrupted {
		t.Errorf("got %d; want %d", code, exitInterrupted)
	}
	for _, want := range []string{"succeeded  ", "p99.9", "bench: interrupted"} {
		if !strings.Contains(printed.String(), want) {
			t.Errorf("got\n%swant %q in it", printed.String(), want)
		}
	}
}

func TestProxyAddress(t *testing.T) {
	tests := []struct {
		name, url, want string
		secure          bool
	}{
		{"http", "http://h:9090", "h:9090", false},
		{"slash", "http://h:9090/", "h:9090", false},
		{"default port", "http://h", "h:80", false},
		{"https", "https://h:9090", "h:9090", true},
		{"https default port", "https://h", "h:443", true},
		{"IPv6", "http://[::1]:9090", "[::1]:9090", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, secure, err := proxyAddress(tt.url)
			if got != tt.want || secure != tt.secure || err != nil {
				t.Errorf("got %s, %v, %v; want %s, %v", got, secure, err, tt.want, tt.secure)
			}
		})
	}
}
