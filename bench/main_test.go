package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// TestMain also is the programs that tests start: this one over again, told by the environment what to be. Other programs
// than those that every system has are found only where TEST_INSTALLED is set. Tests that only wait are parallel, so that
// many may be at once.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(playRole(role))
	}
	folder := ""
	if os.Getenv("TEST_INSTALLED") == "" {
		var err error
		if folder, err = fewPrograms(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	flag.Set("test.parallel", "16")
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(folder)
		os.Exit(code)
	}))
}

// fewPrograms has programs be looked for in a new folder alone, which holds what the tests start themselves.
func fewPrograms() (folder string, err error) {
	if folder, err = os.MkdirTemp("", "bench-path-"); err != nil {
		return "", err
	}
	for _, program := range []string{"cat", "env", "sh", "sleep"} {
		if path, err := exec.LookPath(program); err == nil {
			if err := os.Symlink(path, filepath.Join(folder, program)); err != nil {
				return folder, err
			}
		}
	}
	serverFolders = nil
	return folder, os.Setenv("PATH", folder)
}

func TestCommandLine(t *testing.T) {
	const proxy, target = "--proxy=http://127.0.0.1:1", "--target=http://127.0.0.1:1/ok"
	tests := []struct {
		name string
		args []string
		want string // within what is printed as an error
	}{
		{"stray word", []string{"post"}, `"post": want flags only`},
		{"unknown flag", []string{"--fast"}, "-fast"},
		{"negative rounds", []string{"--rounds=-1"}, "--rounds: -1; want from 1 to 100"},
		{"negative duration", []string{"--duration=-1s"}, "--duration: -1s; want one over 0"},
		{"bare duration", []string{"--duration=5"}, "duration"},
		{"suite flag with a deployment", []string{proxy, target, "--short"}, "--short is of the suite"},
		{"deployment flag with the suite", []string{"--rate=5"}, "--rate is for a proxy that runs already"},
		{"no target", []string{proxy}, "--target: none"},
		{"relative target", []string{proxy, "--target=/ok"}, `target "/ok": want an absolute URL`},
		{"proxy without scheme", []string{"--proxy=127.0.0.1:9090", target}, "want http://host:port"},
		{"proxy with a path", []string{"--proxy=http://127.0.0.1:9090/x", target}, "want http://host:port"},
		{"proxy port too large", []string{"--proxy=http://127.0.0.1:65536", target}, "want from 1 to 65535"},
		{"no connections", []string{proxy, target, "--connections=0"}, "--connections: 0; want from 1 to 60000"},
		{"rate over the ceiling", []string{proxy, target, "--rate=20001"}, "over --max-rate, which is 20000"},
		{"negative rate", []string{proxy, target, "--rate=-1"}, "--rate: -1; want"},
		{"rate that is no number", []string{proxy, target, "--rate=NaN"}, "--rate: NaN; want"},
		{"no ceiling on rate", []string{proxy, target, "--max-rate=0"}, "--max-rate: 0; want"},
		{"no ceiling on count", []string{proxy, target, "--count=0"}, "--count: 0; want"},
		{"no ceiling on time", []string{proxy, target, "--time=0s"}, "--time: 0s; want"},
		{"no timeout", []string{proxy, target, "--timeout=0s"}, "--timeout: 0s; want"},
		{"negative body", []string{proxy, target, "--body-size=-1"}, "--body-size: -1; want"},
		{"header without colon", []string{proxy, target, "--header=X"}, `header "X": want Name: value`},
		{"header of the framing", []string{proxy, target, "--header=host: x"}, "want any other"},
		{"CA for a proxy without TLS", []string{proxy, target, "--proxy-ca=x.pem"}, "--proxy-ca: the proxy speaks no TLS"},
		{"CA that is not there", []string{"--proxy=https://127.0.0.1:1", target, "--proxy-ca=x.pem"}, "--proxy-ca: open x.pem"},
		{"nothing listens", []string{proxy, target}, "connect to the proxy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), append([]string{"bench"}, tt.args...), &stdout, &stderr)
			if code != exitFailed || !strings.Contains(stderr.String(), "bench: error: ") || !strings.Contains(stderr.String(), tt.want) {
				t.Errorf("got %d and %q; want %d and an error with %q", code, stderr.String(), exitFailed, tt.want)
			}
			if stdout.Len() > 0 {
				t.Errorf("got %q on standard output; want nothing", stdout.String())
			}
		})
	}
}

func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"bench", "--help"}, &stdout, &stderr); code != exitOK {
		t.Fatalf("got %d and %q; want %d", code, stderr.String(), exitOK)
	}
	text := stdout.String()
	for _, flag := range append(suiteFlags(), deploymentFlags()...) {
		if name := "--" + flag.Names()[0]; !strings.Contains(text, name) {
			t.Errorf("got a help without %s; want one with every flag", name)
		}
	}
	if !strings.Contains(text, "Examples:") {
		t.Error("got a help without examples; want some")
	}
}

func TestCommaList(t *testing.T) {
	tests := []struct {
		name, text string
		want       string // with | between
	}{
		{"empty", "", ""}, {"one", "post", "post"}, {"two", "post,close", "post|close"}, {"spaces and gaps", " post, ,close,", "post|close"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.Join(commaList(tt.text), "|"); got != tt.want {
				t.Errorf("got %q; want %q", got, tt.want)
			}
		})
	}
}
