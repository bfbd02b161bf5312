package command

import (
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"whsentry/policy"
)

func TestClientsToken(t *testing.T) {
	seen := make(map[string]bool)
	for range 3 {
		// It needs no configuration, not even one that can be read.
		r := runApp(t, map[string]string{"WHSENTRY_CONFIG": "missing.yaml", "WHSENTRY_ZZZ": "x"}, "clients", "token", "billing-2_A")
		lines := strings.Split(r.stdout, "\n")
		if r.code != exitOK || r.stderr != "" || len(lines) != 3 || lines[2] != "" {
			t.Fatalf("got %+v; want two lines", r)
		}
		if !regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`).MatchString(lines[0]) || lines[1] != policy.HashToken(lines[0]) || seen[lines[0]] {
			t.Errorf("got %q; want a new token and its hash", r.stdout)
		}
		seen[lines[0]] = true
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "NAME is missing; want whsentry clients token [flags] NAME"},
		{[]string{"a", "b"}, `stray argument "b"`},
		{[]string{"a b"}, `NAME: "a b": is no name of a client; want letters, digits, "-" and "_"`},
		{[]string{""}, `NAME: "": is missing`},
	} {
		r := runApp(t, nil, append([]string{"clients", "token"}, tt.args...)...)
		if r.code != exitFailed || r.stdout != "" || !strings.Contains(r.stderr, tt.want) {
			t.Errorf("%q: got %+v; want %s", tt.args, r, tt.want)
		}
	}
}

func TestExplainClient(t *testing.T) {
	config := writeFile(t, `
clients:
  - {name: billing, addresses: [10.0.0.0/8], allowHosts: [1.1.1.0/24], allowPorts: [443]}
  - {name: trial, mode: report, denyHosts: [1.1.1.1]}
destinations:
  - {hosts: [9.9.9.0/24], ports: [443]}
  - {hosts: [8.8.8.8]}
`)
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"allowed", []string{"--client", "billing", "https://1.1.1.1/"}, exitOK, "let through: 1 of 1"},
		{"flag behind the URL", []string{"https://1.1.1.1/", "--client=billing"}, exitOK, "let through: 1 of 1"},
		{"another host", []string{"--client", "billing", "https://8.8.8.8/"}, exitRefused, "refused: client billing may not send to 8.8.8.8, port 443 (reason 1019, status 403)"},
		{"another port", []string{"--client", "billing", "http://1.1.1.1/"}, exitRefused, "port 80 (reason 1019"},
		{"report", []string{"--client", "trial", "http://1.1.1.1/"}, exitOK, "would be refused but for mode: report: client trial may not"},
		{"the last of two", []string{"--client", "billing", "--client", "trial", "http://8.8.8.8/"}, exitOK, "let through"},
		{"none", []string{"http://8.8.8.8/"}, exitOK, "no --client: judged as if there were no clients\n"},
		{"entry of destinations", []string{"http://8.8.8.8/"}, exitOK, "destinations[1] applies\n"},
		{"unknown", []string{"--client", "biling", "http://8.8.8.8/"}, exitFailed, `--client: "biling": no such client; want one of billing, trial`},
		{"empty", []string{"--client", "", "http://8.8.8.8/"}, exitFailed, `--client: "": no such client; want`},
		{"no value", []string{"http://8.8.8.8/", "--client"}, exitFailed, `--client: no value; want the name of an entry of clients`},
	} {
		r := runApp(t, nil, append([]string{"--config", config, "explain"}, tt.args...)...)
		if r.code != tt.code || !strings.Contains(r.stdout+r.stderr, tt.want) {
			t.Errorf("%s: got %+v; want exit code %d and %s", tt.name, r, tt.code, tt.want)
		}
	}
	r := runApp(t, nil, "explain", "--client", "a", "http://8.8.8.8/")
	if want := `--client: "a": clients is not set; want the settings that have it, or no --client`; r.code != exitFailed || !strings.Contains(r.stderr, want) {
		t.Errorf("got %+v; want %s", r, want)
	}
	if r := runApp(t, nil, "check", "--client", "a"); r.code != exitFailed || !strings.Contains(r.stderr, `"--client": unknown flag`) {
		t.Errorf("got %+v; want the flag to be explain's alone", r)
	}
}

// TestOpenListenerWarning warns of a listener on all addresses that nobody has to identify to.
func TestOpenListenerWarning(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("config.yaml", []byte("clients:\n  - name: a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		args    []string
		warning bool
	}{
		{"all addresses", []string{"--config", os.DevNull, "--listener-address", ":0"}, true},
		{"all IPv4 addresses", []string{"--config", os.DevNull, "--listener-address", "0.0.0.0:0"}, true},
		{"one address", []string{"--config", os.DevNull}, false},
		{"clients", []string{"--listener-address", ":0"}, false},
	} {
		d := startDaemon(t, quiet(tt.args...)...)
		d.log.wait(t, 0, "started")
		if r := d.stop(t, syscall.SIGTERM); r.code != exitOK {
			t.Fatalf("%s: got %+v", tt.name, r)
		}
		d.log.wait(t, 0, "stopped")
		warnings := 0
		for _, line := range d.log.lines {
			if text, _ := line["message"].(string); strings.HasPrefix(text, "everybody who reaches this host may send") {
				warnings++
			}
		}
		if warnings > 1 || (warnings == 1) != tt.warning {
			t.Errorf("%s: got %d warnings; want one: %v", tt.name, warnings, tt.warning)
		}
	}
}

// TestCheckWarnsOfRules names an entry that an earlier one leaves nothing to.
func TestCheckWarnsOfRules(t *testing.T) {
	file := writeFile(t, "destinations:\n  - hosts: [\"*.example\"]\n  - hosts: [a.example]\n")
	r := runApp(t, nil, "check", "--ca-bundle-file", "", "--config", file)
	if r.code != exitOK || r.stdout != "configuration is valid\n" || !strings.Contains(r.stderr, "whsentry: warning: "+file+":3: destinations[1]: never applies") {
		t.Errorf("got %+v; want a valid configuration with a warning", r)
	}
}

func TestMemoryLine(t *testing.T) {
	t.Chdir(t.TempDir())
	d := startDaemonIn(t, func(a *app) {
		a.environ, a.memory = environment(map[string]string{"GOMEMLIMIT": "1GiB"}), 512<<20 // so that this test's own limit stays
	}, quiet()...)
	line, _ := d.log.wait(t, 0, "limits of memory, in bytes")
	if line["memory"] != float64(512<<20) || line["maxBufferedBytes"] != float64(128<<20) || line["GOMEMLIMIT"] == nil {
		t.Errorf("got %v; want what was chosen", line)
	}
	d.stop(t, syscall.SIGTERM)
	if available := availableMemory(); available < 1<<20 {
		t.Errorf("got %d bytes of memory; want what this machine has", available)
	}
}
