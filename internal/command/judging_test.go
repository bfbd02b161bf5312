package command

import (
	"strings"
	"testing"
)

// TestExplainExceptions names the lists that lift a rule, and says where the proxy itself listens.
func TestExplainExceptions(t *testing.T) {
	config := writeFile(t, `
listener: {address: "127.0.0.1:9090"}
clients:
  - {name: billing, addresses: [10.0.0.0/8], cidrAllowList: [10.9.0.0/16]}
  - {name: crm}
destinations:
  - {hosts: [10.8.0.0/16], cidrAllowList: [10.8.1.0/24]}
  - {hosts: [127.0.0.1], cidrAllowList: [127.0.0.1]}
`)
	for _, tt := range []struct {
		name, client, url string
		code              int
		want              string
	}{
		{"the client's list", "billing", "http://10.9.1.1/", exitOK, "cidrAllowList of client billing"},
		{"another client", "crm", "http://10.9.1.1/", exitRefused, "(reason 1000, status 403)"},
		{"the entry's list", "crm", "http://10.8.1.1/", exitOK, "destinations[0].cidrAllowList"},
		{"beside the entry's list", "crm", "http://10.8.2.1/", exitRefused, "(reason 1000, status 403)"},
		{"an entry for this host", "crm", "http://127.0.0.1:8080/", exitOK, "destinations[1].cidrAllowList"},
		{"the proxy's own listener", "crm", "http://127.0.0.1:9090/", exitRefused, "(reason 1000, status 403)"},
	} {
		r := runApp(t, nil, "--config", config, "explain", "--client", tt.client, tt.url)
		if r.code != tt.code || !strings.Contains(r.stdout+r.stderr, tt.want) {
			t.Errorf("%s: got %+v; want exit code %d and %s", tt.name, r, tt.code, tt.want)
		}
	}
}
