package settings

import (
	"reflect"
	"strings"
	"testing"
)

// TestColonsInLists holds texts with colons in lists, which stand in braces or not, to what YAML says they are.
func TestColonsInLists(t *testing.T) {
	for _, tt := range []struct {
		name, text, flag string
		want             []string
	}{
		{"below", "dns:\n  servers: [127.0.0.1:53]\n", "--dns-servers", []string{"127.0.0.1:53"}},
		{"in braces", "dns: {servers: [127.0.0.1:53]}\n", "--dns-servers", []string{"127.0.0.1:53"}},
		{"several", "dns: {servers: [127.0.0.1:53,\n  127.0.0.2:54, \"127.0.0.3:55\"], cacheTTL: 1s}\n", "--dns-servers",
			[]string{"127.0.0.1:53", "127.0.0.2:54", "127.0.0.3:55"}},
		{"IPv6", "{cidrDenyList: [fd00::/8, ::1, fd00:ec2::254/128, 10.0.0.0/8]}\n", "--cidr-deny-list",
			[]string{"fd00::/8", "::1/128", "fd00:ec2::254/128", "10.0.0.0/8"}},
		{"in braces within the list's own", "{listener: {proxyProtocolFrom: [fd00::/8]}, metrics: {hosts: [fd00::1, a]}}\n", "--metrics-hosts",
			[]string{"fd00::1", "a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := loadText(t, tt.text)
			if err != nil {
				t.Fatal(err)
			}
			for _, st := range Flags() {
				if st.Flag() == tt.flag && !reflect.DeepEqual(st.get(s), tt.want) {
					t.Errorf("got %q; want %q", st.get(s), tt.want)
				}
			}
		})
	}
	s, err := loadText(t, "clients: [{name: a, addresses: [fd00::/8], tokens: [sha256:"+strings.Repeat("ab", 32)+"]}]\n"+
		"listeners: [{address: 127.0.0.1:1}, {\"address\":\"127.0.0.1:2\"}]\n")
	if err != nil {
		t.Fatal(err)
	}
	if c := s.Policy.Clients[0]; len(c.Tokens) != 1 || len(c.Addresses) != 1 {
		t.Errorf("got the client %+v; want a token and a prefix", c)
	}
	if l := s.Proxy.Listeners; len(l) != 2 || l[0].Address != "127.0.0.1:1" || l[1].Address != "127.0.0.1:2" {
		t.Errorf("got the listeners %+v; want two, with their addresses", l)
	}
	for text, want := range map[string]string{
		"dns: {servers: [a: b]}\n":    `a mapping in a list`,
		"dns: {servers: [\"a\":b]}\n": `a mapping in a list`,
		"dns: {servers: [a:b]}\n":     `"a:b": not the address and port of a server`,
	} {
		if _, err := loadText(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got the error %v; want %s", text, err, want)
		}
	}
}
