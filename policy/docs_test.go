package policy

import (
	"os"
	"regexp"
	"testing"

	"github.com/goccy/go-yaml"
)

// documentedClients returns the clients of the last YAML block of a page.
func documentedClients(t *testing.T, page string) []ClientConfig {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(clients:.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Fatalf("%s: no block with clients", page)
	}
	var file struct {
		Clients []struct {
			Name         string   `yaml:"name"`
			Tokens       []string `yaml:"tokens"`
			Certificates []string `yaml:"certificates"`
			Mode         string   `yaml:"mode"`
			AllowHosts   []string `yaml:"allowHosts"`
			DenyHosts    []string `yaml:"denyHosts"`
			AllowPorts   []int    `yaml:"allowPorts"`
		} `yaml:"clients"`
	}
	if err := yaml.UnmarshalWithOptions(blocks[len(blocks)-1][1], &file, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", page, err)
	}
	var clients []ClientConfig
	for _, c := range file.Clients {
		clients = append(clients, ClientConfig{Name: c.Name, Tokens: c.Tokens, Certificates: c.Certificates, Mode: c.Mode,
			AllowHosts: c.AllowHosts, DenyHosts: c.DenyHosts, AllowPorts: c.AllowPorts})
	}
	return clients
}

// TestFromSmokescreen: the sample does what the page says of it.
func TestFromSmokescreen(t *testing.T) {
	p := mustNew(t, Config{Clients: documentedClients(t, "../docs/from-smokescreen.md"), ClientCertificates: true}, nil)
	for _, tt := range []struct {
		role, host string
		want       Verdict
	}{
		{"billing", "api.bank.example", Allowed},
		{"billing", "bank.example", Denied},
		{"billing", "telemetry.example", Allowed},
		{"billing", "x.bad.example", Denied},
		{"billing", "198.51.100.1", Denied},
		{"shop", "a.partner.example", Allowed},
		{"shop", "other.example", WouldDeny},
		{"shop", "x.bad.example", WouldDeny},
		{"crawler", "other.example", Allowed},
		{"crawler", "x.bad.example", Denied},
		{"crawler", "198.51.100.1", Denied},
		{"stranger", "status.example", Allowed},
		{"stranger", "other.example", Denied},
	} {
		c := p.Identify(&Peer{Certificate: &Certificate{cn: tt.role, hasCN: true}}, Credential{})
		if c.Name != tt.role && tt.role != "stranger" {
			t.Errorf("%s: got the client %q", tt.role, c.Name)
		}
		if got := c.Judge(host(tt.host), 443); got != tt.want {
			t.Errorf("%s to %s: got %d; want %d", tt.role, tt.host, got, tt.want)
		}
	}
}

func TestPolicyPage(t *testing.T) {
	c := mustNew(t, Config{Clients: documentedClients(t, "../docs/policy.md")}, nil).Client("billing")
	for text, want := range map[string]Verdict{"api.bank.example": Allowed, "api.partner.example": WouldDeny} {
		if got := c.Judge(host(text), 443); got != want {
			t.Errorf("%s: got %d; want %d", text, got, want)
		}
	}
}
