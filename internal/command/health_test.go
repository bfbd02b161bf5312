package command

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
)

// TestHealth asks a proxy that runs, and one that has stopped.
func TestHealth(t *testing.T) {
	d := startDaemon(t, quiet()...)
	line, _ := d.log.wait(t, 0, "started")
	flags := []string{"--metrics-address", line["metrics"].(string)}
	for _, words := range [][]string{{"health"}, {"health", "readyz"}, {"health", "healthz"}} {
		if r := runApp(t, nil, append(words, flags...)...); r.code != exitOK || r.stdout != "ok\n" || r.stderr != "" {
			t.Errorf("%v: got %+v; want exit code 0 and ok", words, r)
		}
	}
	// A proxy in the environment is for other hosts.
	env := map[string]string{"WHSENTRY_METRICS_ADDRESS": flags[1]}
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	if r := runApp(t, env, "health"); r.code != exitOK {
		t.Errorf("got %+v; want exit code 0", r)
	}
	d.stop(t, syscall.SIGTERM)
	r := runApp(t, env, "health")
	if r.code != exitFailed || !strings.Contains(r.stderr, "/readyz: dial tcp "+flags[1]) || !strings.Contains(r.stderr, "connection refused") {
		t.Errorf("got %+v; want exit code 1 and why", r)
	}
}

// TestHealthAnswers checks what is made of answers.
func TestHealthAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		code   int
		want   string
	}{
		{"ready", 200, "ok\n", exitOK, "ok\n"},
		{"nothing said", 200, "", exitOK, "\n"},
		{"stopping", 503, "stopping\n", exitFailed, "/readyz: 503 Service Unavailable: stopping; want 200\n"},
		{"another server", 404, "not\nfound", exitFailed, `404 Not Found: not\nfound; want 200`},
		{"moved", 302, "", exitFailed, "302 Found"},
		{"control characters", 200, "\x1b[31mred", exitOK, `\x1b[31mred`},
		{"endless", 200, strings.Repeat("x", 1<<20), exitOK, strings.Repeat("x", maxHealthText) + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", "http://127.0.0.1:1/")
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
			}))
			defer server.Close()
			r := runApp(t, nil, "health", "--metrics-address", server.Listener.Addr().String())
			if got := r.stdout + r.stderr; r.code != tt.code || !strings.Contains(got, tt.want) || strings.Count(got, "\n") != 1 {
				t.Errorf("got exit code %d and %q; want %d and %q", r.code, got, tt.code, tt.want)
			}
		})
	}
}

// TestHealthCommandLine checks what cannot be asked.
func TestHealthCommandLine(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"metrics off", []string{"--metrics-address="}, `--metrics-address: metrics.address: "": metrics and health are off; want the address of a proxy that runs`},
		{"port of the system's choice", []string{"--metrics-address", ":0"}, `metrics.address: ":0": a port that is chosen at the start; want`},
		{"another word", []string{"metrics"}, `"metrics": not known; want one of readyz, healthz`},
		{"two words", []string{"readyz", "healthz"}, `stray argument "healthz"; want whsentry health [flags] [healthz]`},
		{"bad settings", []string{"--read-timeout", "x"}, `readTimeout: "x": not a duration`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := runApp(t, nil, append([]string{"health"}, tt.args...)...)
			if r.code != exitFailed || r.stdout != "" || !strings.Contains(r.stderr, tt.want) {
				t.Errorf("got %+v; want exit code 1 and %s", r, tt.want)
			}
		})
	}
}

func TestHealthAddress(t *testing.T) {
	for _, tt := range []struct{ address, want string }{
		{":2112", "127.0.0.1:2112"},
		{"0.0.0.0:2112", "127.0.0.1:2112"},
		{"[::]:2112", "[::1]:2112"},
		{"127.0.0.3:2112", "127.0.0.3:2112"},
		{"[2001:db8::7]:80", "[2001:db8::7]:80"},
		{"localhost:2112", "localhost:2112"},
	} {
		if got, err := healthAddress(tt.address); got != tt.want || err != nil {
			t.Errorf("%s: got %q, %v; want %q", tt.address, got, err, tt.want)
		}
	}
}

// TestHealthSilence asks a server that closes without an answer.
func TestHealthSilence(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() { // ends with ln
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	r := runApp(t, nil, "health", "--metrics-address", ln.Addr().String())
	if r.code != exitFailed || !strings.HasPrefix(r.stderr, "whsentry: error: ") || !strings.Contains(r.stderr, "ask http://"+ln.Addr().String()+"/readyz: ") {
		t.Errorf("got %+v; want exit code 1 and why", r)
	}
}
