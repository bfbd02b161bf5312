package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// suiteOfTest returns options for a run of the suite in which a forward proxy of the test's plays whsentry and a peer.
func suiteOfTest(t *testing.T, out *bytes.Buffer) suiteOptions {
	t.Helper()
	restorePins(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env, err := exec.LookPath("env")
	if err != nil {
		t.Skip(err)
	}
	command := fmt.Sprintf("env %s=forwards %s={{.Address}} %s", roleVariable, addressVariable, self)
	text := fmt.Sprintf("peers:\n  - {name: whsentry, command: %q, cannot: {tls: it never learnt to}}\n  - {name: twin, command: %q, cannot: {connect: it would rather not}}\n  - {name: dead, command: env false}\n", command, command)
	file := filepath.Join(t.TempDir(), "peers.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return suiteOptions{
		peersFile: file, peers: []string{"none"}, binary: env, short: true, rounds: 1, duration: 100 * time.Millisecond,
		out: t.TempDir(), stdout: out, stderr: new(bytes.Buffer),
	}
}

// leftovers returns the suite's temporary folders.
func leftovers(t *testing.T) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(os.TempDir(), "bench-*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

func TestSuite(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	o := suiteOfTest(t, &out)
	o.scenarios = []string{"post", "response-1m", "close", "connect-bulk", "connect-open", "lone", "tunnel-http", "everything", "rate-4000", "connections", "idle-5000"}
	if runtime.GOOS == "linux" { // elsewhere only 127.0.0.1 is there by itself
		o.scenarios = append(o.scenarios, "destinations-1000", "destinations-20000", "first-1000", "in-flight-4000")
	}
	if err := runSuite(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(o.out, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r result
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Scenarios) != len(o.scenarios) {
		t.Errorf("got %d scenarios; want %d", len(r.Scenarios), len(o.scenarios))
	}
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		got := s.row(ours)
		if _, ok := got.Median[s.Main]; !ok && runtime.GOOS == "linux" || got.Error != "" || got.Failed > 0 || got.Requests == 0 || len(got.Rounds) != 1 {
			t.Errorf("%s: got %+v; want a round with %s", s.ID, got, s.Main)
		}
	}
	for _, want := range []string{"POST of 1 KiB, kept alive (post)", "aims of whsentry", "report.html"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got output without %q; want it there:\n%s", want, out.String())
		}
	}
	if n := leftovers(t); n != 0 {
		t.Errorf("got %d temporary folders left; want none", n)
	}
}

func TestSuiteThatCannot(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	file := filepath.Join(t.TempDir(), "a file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*suiteOptions)
		want   string
	}{
		{"unknown scenario", func(o *suiteOptions) { o.scenarios = []string{"fly"} }, `--scenarios: "fly" is not known`},
		{"unknown peer", func(o *suiteOptions) { o.peers = []string{"fly"} }, `--peers: "fly" is not known`},
		{"no peers file", func(o *suiteOptions) { o.peersFile += "x" }, "read peers file"},
		{"no binary", func(o *suiteOptions) { o.binary = file + "x" }, "--binary: "},
		{"folder as binary", func(o *suiteOptions) { o.binary = o.out }, "is a folder; want a program"},
		{"file as folder", func(o *suiteOptions) { o.out = file }, "--out: "},
		{"whsentry does not start", func(o *suiteOptions) { o.binary = file; o.scenarios = []string{"post"} }, "requests through whsentry failed in post"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := suiteOfTest(t, new(bytes.Buffer))
			tt.change(&o)
			if err := runSuite(t.Context(), o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v; want an error with %q", err, tt.want)
			}
			if n := leftovers(t); n != 0 {
				t.Errorf("got %d temporary folders left; want none", n)
			}
		})
	}
}

func TestSuiteWithPeers(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	o := suiteOfTest(t, &out)
	o.peers, o.scenarios, o.rounds = []string{"twin", "dead"}, []string{"post", "connect-bulk"}, 2
	if err := runSuite(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"dead: start ", "twin: not measured: it would rather not", "±", "POST of 1 KiB, kept alive: haproxy was not measured, or failed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got output without %q; want it there:\n%s", want, out.String())
		}
	}
}

// interrupter is an output that interrupts the suite when the first scenario is printed.
type interrupter struct {
	bytes.Buffer
	cancel context.CancelFunc
}

func (i *interrupter) Write(p []byte) (int, error) {
	i.cancel()
	return i.Buffer.Write(p)
}

func TestInterruptedSuiteReports(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	o := suiteOfTest(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	out := &interrupter{cancel: cancel}
	o.stdout, o.scenarios = out, []string{"post", "close"}
	if err := runSuite(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v; want %v", err, context.Canceled)
	}
	text, err := os.ReadFile(filepath.Join(o.out, "report.html"))
	if err != nil || !strings.Contains(string(text), "The run was interrupted") {
		t.Errorf("got report %.100q, %v; want one that says that it was interrupted", text, err)
	}
	if n := leftovers(t); n != 0 {
		t.Errorf("got %d temporary folders left; want none", n)
	}
}

func TestList(t *testing.T) {
	var out bytes.Buffer
	if err := runSuite(t.Context(), suiteOptions{list: true, stdout: &out}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"scenarios:\n", "  close-tls ", "peers:\n", "  haproxy ", "built from this checkout"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got a list without %q; want it there", want)
		}
	}
}
