package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

func TestReadPeers(t *testing.T) {
	tests := []struct {
		name, text string
		want       string // within the error; "": none
	}{
		{"smallest", "peers: [{name: p, command: p}]", ""},
		{"all keys", "peers: [{name: p, about: a, command: 'p {{.Port}}', version: p -v, headers: ['A: b'], tls: https, user: nobody, metrics: '{{.MetricsAddress}}', short: true, cannot: {tls: none}, everything: {args: '-c {{.Dir}}', headers: ['C: d'], check: test}, files: {p.conf: '{{range to 3}}{{.}}{{end}}'}}]", ""},
		{"empty", "", "no peers in it"},
		{"no list", "peers:\n", "no peers in it"},
		{"empty peer", "peers: [null]", "peer 1 is empty"},
		{"unknown key", "peers: [{name: p, command: p, speed: 1}]", "speed"},
		{"wrong type", "peers: 5", "peers file x"},
		{"no name", "peers: [{command: p}]", `name ""; want`},
		{"name with a slash", "peers: [{name: a/b, command: p}]", `name "a/b"; want`},
		{"no command", "peers: [{name: p}]", "command: empty"},
		{"blank command", "peers: [{name: p, command: ' '}]", "command: empty"},
		{"broken template", "peers: [{name: p, command: 'p {{.Port'}]", "command: template"},
		{"unknown field", "peers: [{name: p, command: p, files: {x: '{{.Colour}}'}}]", "files: x: template"},
		{"broken template in everything", "peers: [{name: p, command: p, everything: {args: '{{.Colour}}'}}]", "command: template"},
		{"unknown tls", "peers: [{name: p, command: p, tls: maybe}]", `tls "maybe"; want header or https`},
		{"unknown need", "peers: [{name: p, command: p, cannot: {fly: no}}]", `cannot: "fly"; want one of`},
		{"file elsewhere", "peers: [{name: p, command: p, files: {../x: y}}]", `files: "../x"; want`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			peers, err := readPeers("x", []byte(tt.text))
			if tt.want == "" {
				if err != nil || len(peers) != 1 {
					t.Errorf("got %d peers, %v; want one", len(peers), err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v; want an error with %q", err, tt.want)
			}
		})
	}
}

func TestPeerCommand(t *testing.T) {
	peers, err := readPeers("x", []byte("peers: [{name: p, command: 'p -l {{.Host}}:{{.Port}} --dir={{.Dir}}', headers: ['To: {{.Plain}}'], files: {c: 'ca {{.CAFile}}'}}]"))
	if err != nil {
		t.Fatal(err)
	}
	s := setup{dir: "/a folder", address: "127.0.0.1:9", origins: &origins{plain: 7, caFile: "/ca"}, tls: true}
	c, err := peers[0].command(s, "127.0.0.1:8")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(c.args, "|"), "-l|127.0.0.1:9|--dir=/a folder"; got != want {
		t.Errorf("got arguments %s; want %s", got, want)
	}
	if got, want := strings.Join(c.header, "|"), "To: 7|X-WhSentry-TLS: true"; got != want {
		t.Errorf("got header %s; want %s", got, want)
	}
	if got, want := c.files["c"], "ca /ca"; got != want {
		t.Errorf("got file %q; want %q", got, want)
	}
}

func TestCommandWithEverything(t *testing.T) {
	peers, err := readPeers("x", []byte("peers: [{name: p, command: p -a, headers: ['A: b'], everything: {args: '-c {{.Port}}', headers: ['C: d'], check: test}}]"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		full bool
		want string
	}{{false, "-a; A: b; "}, {true, "-a -c 9; A: b C: d; test"}} {
		c, err := peers[0].command(setup{address: "127.0.0.1:9", origins: &origins{}, full: tt.full}, "")
		if got := strings.Join(c.args, " ") + "; " + strings.Join(c.header, " ") + "; " + c.check; got != tt.want || err != nil {
			t.Errorf("got %q, %v; want %q", got, err, tt.want)
		}
	}
}

func TestRefusedConfiguration(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	for _, tt := range []struct{ name, check, text, want string }{
		{"nothing to check with", "", "exit 1", ""},
		{"accepted", "FILE", "exit 0", ""},
		{"refused", "FILE", "echo clients: not known; exit 1", "it refuses the configuration: clients: not known"},
		{"refused without a word", "FILE", "exit 2", "it refuses the configuration: exit status 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := setup{dir: t.TempDir()}
			check := strings.ReplaceAll(tt.check, "FILE", filepath.Join(s.dir, "script"))
			got, err := command{path: sh, check: check, files: map[string]string{"script": tt.text}}.refused(t.Context(), s)
			if got != tt.want || err != nil {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestPickPeers(t *testing.T) {
	all := []*peer{{Name: ours, Command: ours, Short: true}, {Name: "a", Command: "a", path: "/a", Short: true}, {Name: "b", Command: "b", path: "/b"}, {Name: "c", Command: "c -x"}}
	tests := []struct {
		name string
		o    suiteOptions
		want string // names; after "error: ", within the error
	}{
		{"all installed", suiteOptions{}, "whsentry a b"},
		{"short", suiteOptions{short: true}, "whsentry a"},
		{"none", suiteOptions{peers: []string{"none"}}, "whsentry"},
		{"one", suiteOptions{peers: []string{"b"}}, "whsentry b"},
		{"one in the short form", suiteOptions{peers: []string{"b"}, short: true}, "whsentry b"},
		{"ours by name", suiteOptions{peers: []string{ours}}, "whsentry"},
		{"unknown", suiteOptions{peers: []string{"d"}}, `error: "d" is not known; want some of whsentry, a, b, c, or none`},
		{"not installed", suiteOptions{peers: []string{"c"}}, `error: c is not installed: no program "c"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			peers, err := pickPeers(all, tt.o)
			got := strings.Join(peerNames(peers), " ")
			if err != nil {
				got = "error: " + err.Error()
			}
			if wanted, failure := strings.CutPrefix(tt.want, "error: "); failure && !strings.Contains(got, wanted) || !failure && got != tt.want {
				t.Errorf("got %s; want %s", got, tt.want)
			}
		})
	}
}

func TestUsersPeerReplacesOurs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "peers.yaml")
	if err := os.WriteFile(file, []byte("peers: [{name: nginx, command: my-nginx}, {name: mine, command: my-proxy}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	peers, err := knownPeers(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, p := range peers {
		if p.Name == "nginx" || p.Name == "mine" {
			commands = append(commands, p.Command)
		}
	}
	if got, want := strings.Join(commands, " "), "my-nginx my-proxy"; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
	if _, err := knownPeers(t.Context(), filepath.Join(t.TempDir(), "none.yaml")); err == nil {
		t.Error("got no error for a file that is not there; want one")
	}
}

// TestInstalledPeers holds the configurations in peers.yaml against the programs that there are: each starts with its own and
// does what it is said to be able to. Whether TLS is used shows by the plain origin not being there.
func TestInstalledPeers(t *testing.T) {
	if os.Getenv("TEST_INSTALLED") == "" {
		t.Skip("only with TEST_INSTALLED=1, for it starts what is installed")
	}
	peers, err := knownPeers(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		t.Run(p.Name, func(t *testing.T) {
			if p.path == "" || p.Name == ours {
				t.Skip("not installed")
			}
			if testing.Short() && !p.Short {
				t.Skip("some take seconds to start and to end")
			}
			if p.version == "" {
				t.Errorf("got no version from %q; want one", p.said)
			}
			t.Run("plain", func(t *testing.T) {
				runInstalled(t, p, false, func(o *origins) (loads []load) {
					if p.why([]need{needRequests}) == "" {
						loads = append(loads, post(2, at(o.plain, "/ok")), post(2, at(o.plain, "/close")), get(2, at(o.plain, "/size/32768")))
					}
					if p.why([]need{needConnect}) == "" {
						tunnel := load{kind: loadTunnelOpen, connections: 2, targets: []string{fmt.Sprintf("127.0.0.1:%d", o.tunnel)}}
						loads = append(loads, tunnel)
					}
					return loads
				})
			})
			t.Run("tls", func(t *testing.T) {
				if why := p.why([]need{needRequests, needTLS}); why != "" {
					t.Skip(why)
				}
				runInstalled(t, p, true, func(o *origins) []load {
					return []load{post(2, at(o.tls, "/ok")), post(2, at(o.tls, "/close")), post(2, at(o.tlsFull, "/close"))}
				})
			})
		})
	}
}

// runInstalled starts p and sends a few requests of each load through it.
func runInstalled(t *testing.T, p *peer, tls bool, loads func(*origins) []load) {
	// Not t.TempDir: there is a folder above it, through which no other user comes.
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	o, err := startOrigins(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.close)
	seen := &origins{plain: o.plain, tls: o.tls, tlsFull: o.tlsFull, tunnel: o.tunnel, caFile: o.caFile}
	if tls {
		_, port, _ := net.SplitHostPort(unused(t))
		seen.plain, _ = strconv.Atoi(port)
	}
	s := &suite{dir: dir, origins: seen, cpu: -1}
	about := &scenario{tls: tls, measure: func(ctx context.Context, tr *trial) error {
		for _, l := range loads(seen) {
			l.count, l.duration = 20, 20*time.Second
			before := tr.total
			if _, _, err := tr.run(ctx, l); err != nil {
				return err
			}
			if done := tr.total.requests - before.requests; done != 20 || tr.total.failed > before.failed {
				t.Errorf("%s: got %d requests, and failures: %s; want 20 requests", l.targets[0], done, tr.total.firstError)
			}
		}
		return nil
	}}
	if err := s.trial(t.Context(), &trial{about: about, origins: seen, peer: p, figures: figures{}}); err != nil {
		t.Fatal(err)
	}
}

// TestEverythingConfiguration holds the configuration with everything on to what its scenario says of it.
func TestEverythingConfiguration(t *testing.T) {
	peers, err := readPeers("peers.yaml", builtinPeers)
	if err != nil {
		t.Fatal(err)
	}
	own := slices.IndexFunc(peers, func(p *peer) bool { return p.Name == ours })
	c, err := peers[own].command(setup{dir: "/dir", address: "127.0.0.1:1", origins: &origins{}, full: true}, "127.0.0.1:2")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Breaker struct{ Failures int }
		Clients []struct {
			Tokens     []string
			AllowHosts []string `yaml:"allowHosts"`
			DenyHosts  []string `yaml:"denyHosts"`
		}
		Destinations []struct{ Hosts []string }
	}
	if err := yaml.Unmarshal([]byte(c.files["everything.yaml"]), &config); err != nil {
		t.Fatal(err)
	}
	client := config.Clients[0]
	if n := len(client.AllowHosts) + len(client.DenyHosts); n != 10001 || client.AllowHosts[5000] != "127.0.0.0/8" {
		t.Errorf("got %d rules; want 10,000, and the origins' prefix last", n)
	}
	if len(config.Destinations) != 101 || config.Breaker.Failures != 5 {
		t.Errorf("got %d destinations and %d failures; want 101 and 5", len(config.Destinations), config.Breaker.Failures)
	}
	_, token, _ := strings.Cut(c.header[0], "Bearer ")
	if want := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(token))); client.Tokens[0] != want {
		t.Errorf("got %s; want %s, which is %q", client.Tokens[0], want, token)
	}
}
