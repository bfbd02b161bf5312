package settings

import (
	"strings"
	"testing"
)

func TestUnknownVariables(t *testing.T) {
	for _, tt := range []struct{ name, value, want string }{
		{"WHSENTRY_CIDR_DENYLIST", "10.0.0.0/8", `"WHSENTRY_CIDR_DENYLIST": "10.0.0.0/8": unknown variable; did you mean WHSENTRY_CIDR_DENY_LIST?`},
		{"WHSENTRY_ZZZ", "1", `"WHSENTRY_ZZZ": "1": unknown variable; want one that whsentry --help lists`},
		{"WHSENTRY_", "1", `unknown variable`},
		{"WHSENTRY_PORT", "9090", `unknown variable`},
		{"WHSENTRY_LISTENERS", "x", `WHSENTRY_LISTENERS: not a variable; want listeners in a configuration file`},
		{"WHSENTRY_CLIENTS", "x", `WHSENTRY_CLIENTS: not a variable; want clients in a configuration file`},
		{"WHSENTRY_TOKEN", "hunter2", `"WHSENTRY_TOKEN": "...": unknown variable`},
		{"WHSENTRY_CIDR_DENYLIST", "", ""},
		{"whsentry_cidr_denylist", "x", ""},
		{"WHSENTRYX", "x", ""},
		{"WHSENTRY_CONFIG", "", ""},
		{"WHSENTRY_SERVICE_HOST", "10.0.0.1", ""},
		{"WHSENTRY_SERVICE_PORT", "9090", ""},
		{"WHSENTRY_SERVICE_PORT_PROXY", "9090", ""},
		{"WHSENTRY_PORT", "tcp://10.0.0.1:9090", ""},
		{"WHSENTRY_PORT_9090_TCP", "tcp://10.0.0.1:9090", ""},
		{"WHSENTRY_PORT_9090_TCP_PROTO", "tcp", ""},
		{"WHSENTRY_PORT_9090_TCP_PORT", "9090", ""},
		{"WHSENTRY_PORT_53_UDP_ADDR", "10.0.0.1", ""},
		{"WHSENTRY_METRICS_SERVICE_HOST", "10.0.0.1", ""},
		{"WHSENTRY_METRICS_PORT_2112_TCP_ADDR", "10.0.0.1", ""},
		{"WHSENTRY_ANYTHING", "udp://10.0.0.1:53", ""},
		{"WHSENTRY_ANYTHING", "sctp://10.0.0.1:53", ""},
	} {
		_, err := Sources{ConfigFile: writeFile(t, ""), Environ: Environ{"A=b", tt.name + "=" + tt.value}}.Load()
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s=%s: got %v; want none", tt.name, tt.value, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s=%s: got %v; want %s", tt.name, tt.value, err, tt.want)
		case err != nil && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("got %v; want no token in it", err)
		}
	}
}

// TestHome writes ~/ at the start of files' names in every place where there is one.
func TestHome(t *testing.T) {
	file := writeFile(t, `
listeners: [{type: https, certFile: ~/a.pem, keyFile: "~/a.key"}]
clientCerts: {acme: {certFile: ~/b.pem, keyFile: ~/b.key}}
destinations: [{hosts: [a.example], caFile: ~/c.pem}]
caBundle: {extraFile: ~/d.pem}
userAgent: ~/x
`)
	src := Sources{ConfigFile: file, Environ: Environ{"HOME=/home/me", "WHSENTRY_ACCESS_LOG_FILE=~/access.log"},
		Flags: map[string][]string{"--proxy-log-file": {"~/proxy.log"}}}
	s, err := src.Load()
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		s.Proxy.Listeners[0].CertFile:    "/home/me/a.pem",
		s.Proxy.Listeners[0].KeyFile:     "/home/me/a.key",
		s.CA.ClientCerts["acme"].KeyFile: "/home/me/b.key",
		s.Policy.Destinations[0].CAFile:  "/home/me/c.pem",
		s.CA.Bundle.ExtraFile:            "/home/me/d.pem",
		s.Proxy.AccessLog.File:           "/home/me/access.log",
		s.Log.File:                       "/home/me/proxy.log",
		s.Proxy.UserAgent:                "~/x",
	} {
		if got != want {
			t.Errorf("got %s; want %s", got, want)
		}
	}
	src.Environ = src.Environ[1:]
	if _, err := src.Load(); err == nil || !strings.Contains(err.Error(), `:2: listeners[0].certFile: "~/a.pem": ~ is $HOME, which is not set; want the name`) {
		t.Errorf("got %v; want an error about HOME", err)
	}
	src = Sources{ConfigFile: "~/config.yaml", Environ: Environ{"HOME=" + t.TempDir()}}
	if _, err := src.Load(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v; want the configuration file to be missing", err)
	}
	src.Environ = nil
	if _, err := src.Load(); err == nil || !strings.Contains(err.Error(), "$HOME, which is not set") {
		t.Errorf("got %v; want an error about HOME", err)
	}
}

func TestBufferedBytesByMemory(t *testing.T) {
	const MiB = 1 << 20
	for _, tt := range []struct {
		name   string
		memory uint64
		flags  map[string][]string
		want   int64
	}{
		{"not known", 0, nil, 256 * MiB},
		{"much", 64 << 30, nil, 256 * MiB},
		{"just enough", 1024 * MiB, nil, 256 * MiB},
		{"little", 64 * MiB, nil, 16 * MiB},
		{"less than a body", 20 * MiB, nil, 10 * MiB},
		{"a larger body", 64 * MiB, map[string][]string{"--max-request-body-size": {"32MiB"}}, 32 * MiB},
		{"a body above all", 64 << 30, map[string][]string{"--max-request-body-size": {"512MiB"}}, 512 * MiB},
		{"set", 64 * MiB, map[string][]string{"--max-buffered-bytes": {"200MiB"}}, 200 * MiB},
	} {
		s, err := Sources{ConfigFile: writeFile(t, ""), Memory: tt.memory, Flags: tt.flags}.Load()
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		} else if got := s.Proxy.MaxBufferedBytes; got != tt.want {
			t.Errorf("%s: got %d; want %d", tt.name, got, tt.want)
		}
	}
}
