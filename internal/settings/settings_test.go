package settings

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// noEnvironment has no variables.
func noEnvironment(string) string { return "" }

// environment makes a Getenv of a map.
func environment(m map[string]string) func(string) string {
	return func(name string) string { return m[name] }
}

// writeFile writes text to a new file and returns its name.
func writeFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// loadText loads settings from a file with the text alone.
func loadText(t *testing.T, text string) (*Settings, error) {
	t.Helper()
	return Sources{ConfigFile: writeFile(t, text), Getenv: noEnvironment}.Load()
}

func TestNames(t *testing.T) {
	for _, tt := range []struct{ key, flag, variable string }{
		{"connectTimeout", "--connect-timeout", "WHSENTRY_CONNECT_TIMEOUT"},
		{"dns.cacheTTL", "--dns-cache-ttl", "WHSENTRY_DNS_CACHE_TTL"},
		{"dns.servers", "--dns-servers", "WHSENTRY_DNS_SERVERS"},
		{"requestIDHeader", "--request-id-header", "WHSENTRY_REQUEST_ID_HEADER"},
		{"cidrDenyList", "--cidr-deny-list", "WHSENTRY_CIDR_DENY_LIST"},
		{"listener.address", "--listener-address", "WHSENTRY_LISTENER_ADDRESS"},
		{"listener.clientCAFile", "--listener-client-ca-file", "WHSENTRY_LISTENER_CLIENT_CA_FILE"},
		{"listener.proxyProtocolFrom", "--listener-proxy-protocol-from", "WHSENTRY_LISTENER_PROXY_PROTOCOL_FROM"},
		{"caBundle.url", "--ca-bundle-url", "WHSENTRY_CA_BUNDLE_URL"},
		{"mitmIssuerCertFile", "--mitm-issuer-cert-file", "WHSENTRY_MITM_ISSUER_CERT_FILE"},
		{"insecureSkipCidrDenyList", "--insecure-skip-cidr-deny-list", "WHSENTRY_INSECURE_SKIP_CIDR_DENY_LIST"},
		{"metrics.address", "--metrics-address", "WHSENTRY_METRICS_ADDRESS"},
		{"accessLog.url", "--access-log-url", "WHSENTRY_ACCESS_LOG_URL"},
		{"maxConnectionsPerDestination", "--max-connections-per-destination", "WHSENTRY_MAX_CONNECTIONS_PER_DESTINATION"},
	} {
		i := slices.IndexFunc(table, func(st Setting) bool { return st.Key == tt.key })
		if i < 0 {
			t.Errorf("%s is not in the table", tt.key)
			continue
		}
		if got := table[i].Flag(); got != tt.flag {
			t.Errorf("flag of %s: got %s; want %s", tt.key, got, tt.flag)
		}
		if got := table[i].Variable(); got != tt.variable {
			t.Errorf("variable of %s: got %s; want %s", tt.key, got, tt.variable)
		}
	}
}

// TestTable holds every row to what its users expect of it.
func TestTable(t *testing.T) {
	seen := make(map[string]bool)
	for i := range table {
		st := &table[i]
		for _, name := range []string{st.Key, st.Flag(), st.Variable()} {
			if seen[name] {
				t.Errorf("%s: %s is there twice", st.Key, name)
			}
			seen[name] = true
		}
		if st.Help == "" || st.Want == "" {
			t.Errorf("%s: got no help or no want", st.Key)
		}
		if strings.Count(st.Key, ".") > 1 {
			t.Errorf("%s: nested deeper than the reader of files looks", st.Key)
		}
	}
}

// written returns three values of a setting, none of them its default, each unlike the one before it.
func written(t *testing.T, st *Setting) [3]string {
	t.Helper()
	switch placeholder := strings.TrimSuffix(st.Placeholder, ",..."); placeholder {
	case "":
		return [3]string{"true", "false", "true"}
	case "DURATION":
		return [3]string{"11s", "12s", "13s"}
	case "SIZE":
		return [3]string{"1001", "2KiB", "3MiB"}
	case "NUMBER", "PORT":
		return [3]string{"11", "12", "13"}
	case "CIDR":
		return [3]string{"10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"}
	case "IP":
		return [3]string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}
	case "IP:PORT":
		return [3]string{"192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"}
	case "FILE", "TEXT", "URL", "HOST:PORT":
		return [3]string{"one", "two", "three"}
	default:
		choices := strings.Split(placeholder, "|")
		if len(choices) < 2 {
			t.Fatalf("%s: no values for %s", st.Key, placeholder)
		}
		return [3]string{choices[1], choices[0], choices[1]}
	}
}

// TestPrecedence sets every key of the table in one more source after the other.
func TestPrecedence(t *testing.T) {
	for i := range table {
		st := &table[i]
		if st.Structure {
			continue
		}
		t.Run(st.Key, func(t *testing.T) {
			inFile, inEnv, inFlag := written(t, st)[0], written(t, st)[1], written(t, st)[2]
			yaml := inFile
			if st.list {
				yaml = "[" + inFile + "]"
			}
			if group, name, nested := strings.Cut(st.Key, "."); nested {
				yaml = group + ":\n  " + name + ": " + yaml
			} else {
				yaml = st.Key + ": " + yaml
			}
			file := writeFile(t, "# settings\n"+yaml+"\n")
			env := map[string]string{}
			flags := map[string][]string{}
			src := Sources{ConfigFile: writeFile(t, ""), Getenv: environment(env), Flags: flags}
			expect := func(source, want string) {
				t.Helper()
				s, err := src.collect()
				if err != nil {
					t.Fatalf("%s: %v", source, err)
				}
				if got := strings.Join(st.get(s), ","); got != want {
					t.Errorf("%s: got %q; want %q", source, got, want)
				}
			}
			expect("default", strings.Join(st.get(Default()), ","))
			src.ConfigFile = file
			expect("file", inFile)
			env[st.Variable()] = ""
			expect("empty variable", inFile)
			env[st.Variable()] = inEnv
			expect("environment", inEnv)
			flags[st.Flag()] = []string{inFlag}
			expect("flag", inFlag)
			if st.list {
				flags[st.Flag()] = []string{inFlag, inEnv + ", " + inFile}
				expect("flag given twice", inFlag+","+inEnv+","+inFile)
				flags[st.Flag()] = []string{""}
				expect("empty flag", "")
			} else {
				flags[st.Flag()] = []string{inEnv, inFlag}
				expect("flag given twice", inFlag)
			}
		})
	}
}

// byFlag returns the setting of a flag.
func byFlag(name string) *Setting {
	all := Flags()
	return all[slices.IndexFunc(all, func(st *Setting) bool { return st.Flag() == name })]
}

// TestEmptyText sets the keys for which empty means something.
func TestEmptyText(t *testing.T) {
	for _, flag := range []string{"--user-agent", "--request-id-header", "--metrics-address", "--ca-bundle-url", "--ca-bundle-file"} {
		st := byFlag(flag)
		s, err := Sources{ConfigFile: writeFile(t, ""), Getenv: noEnvironment, Flags: map[string][]string{flag: {""}}}.Load()
		if err != nil {
			t.Errorf("%s: %v", flag, err)
			continue
		}
		if got := st.get(s)[0]; got != "" {
			t.Errorf("%s: got %q; want it empty", flag, got)
		}
	}
}

func TestValues(t *testing.T) {
	t.Run("durations", func(t *testing.T) {
		testFormat(t, durations, []valueTest{
			{"10s", "10s", ""}, {"1m30s", "90s", ""}, {"500ms", "500ms", ""}, {"24h", "24h", ""}, {"0s", "0s", ""}, {"60s", "60s", ""},
			{"90m", "90m", ""}, {"1.5s", "1.5s", ""}, {"-1s", "-1s", ""},
			{"10", "", "without a unit"}, {"0", "", "without a unit"}, {"-5", "", "without a unit"}, {"1e3", "", "without a unit"},
			{"", "", "not a duration"}, {"ten seconds", "", "not a duration"}, {"10 s", "", "not a duration"},
			{"9999999999h", "", "not a duration"},
		})
	})
	t.Run("sizes", func(t *testing.T) {
		testFormat(t, sizes, []valueTest{
			{"0", "0", ""}, {"1048576", "1MiB", ""}, {"512KiB", "512KiB", ""}, {"1536KiB", "1536KiB", ""}, {"2GiB", "2GiB", ""},
			{"7B", "7", ""}, {"1025", "1025", ""}, {"9223372036854775807", "9223372036854775807", ""},
			{"-1", "", "negative"}, {"-1KiB", "", "negative"}, {"9223372036854775808", "", "out of range"},
			{"8589934592GiB", "", "out of range"}, {"9007199254740992KiB", "", "out of range"},
			{"1.5MiB", "", "not a size"}, {"1MB", "", "not a size"}, {"1mib", "", "not a size"}, {"1 MiB", "", "not a size"},
			{"MiB", "", "not a whole number"}, {"", "", "not a whole number"}, {"0x10", "", "not a size"}, {"1_000", "", "not a size"},
			{"010", "", "plain decimal"},
		})
	})
	t.Run("counts", func(t *testing.T) {
		testFormat(t, counts, []valueTest{
			{"0", "0", ""}, {"16384", "16384", ""},
			{"-1", "", "negative"}, {"+1", "", "plain decimal"}, {"010", "", "plain decimal"}, {"0x10", "", "not a whole number"},
			{"1e3", "", "not a whole number"}, {"1_000", "", "not a whole number"}, {"99999999999999999999", "", "out of range"},
			{"", "", "not a whole number"},
		})
	})
	t.Run("ports", func(t *testing.T) {
		testFormat(t, ports, []valueTest{
			{"1", "1", ""}, {"65535", "65535", ""}, {"0", "", "not a port"}, {"65536", "", "out of range"}, {"http", "", "not a whole number"},
		})
	})
	t.Run("booleans", func(t *testing.T) {
		testFormat(t, booleans, []valueTest{
			{"true", "true", ""}, {"false", "false", ""}, {"True", "true", ""}, {"1", "true", ""}, {"yes", "", "not a boolean"}, {"", "", "not a boolean"},
		})
	})
	t.Run("prefixes", func(t *testing.T) {
		testFormat(t, prefixes, []valueTest{
			{"10.0.0.0/8", "10.0.0.0/8", ""}, {"10.1.2.3", "10.1.2.3/32", ""}, {"::/0", "::/0", ""}, {"2001:db8::1", "2001:db8::1/128", ""},
			{"0.0.0.0/0", "0.0.0.0/0", ""},
			{"10.1.2.3/8", "", "host bits set (the prefix is 10.0.0.0/8)"}, {"2001:db8::1/32", "", "host bits"},
			{"::ffff:10.0.0.0/104", "", "IPv4-mapped"}, {"::ffff:10.0.0.1", "", "IPv4-mapped"}, {"fe80::1%eth0", "", "zone"},
			{"fe80::%eth0/64", "", "neither"}, {"10.0.0.0/33", "", "neither"}, {"10.0.0/8", "", "neither"}, {"010.0.0.0/8", "", "neither"},
			{"10.0.0.0/", "", "neither"}, {"10.0.0.0/08", "", "neither"}, {"", "", "neither"}, {"example.com", "", "neither"},
		})
	})
	t.Run("servers", func(t *testing.T) {
		testFormat(t, servers, []valueTest{
			{"1.1.1.1:53", "1.1.1.1:53", ""}, {"[::1]:5353", "[::1]:5353", ""}, {"1.1.1.1", "", "address and port"}, {":53", "", "address and port"},
			{"localhost:53", "", "address and port"}, {"1.1.1.1:0", "", "address and port"}, {"1.1.1.1:65536", "", "address and port"}, {"::1:53", "", "address and port"},
		})
	})
	t.Run("addresses", func(t *testing.T) {
		testFormat(t, addresses, []valueTest{
			{"192.0.2.1", "192.0.2.1", ""}, {"2001:db8::1", "2001:db8::1", ""}, {"192.0.2.0/24", "", "not an IP address"}, {"0.0.0.0", "", "connect from"},
			{"::ffff:192.0.2.1", "", "connect from"}, {"fe80::1%eth0", "", "connect from"}, {"eth0", "", "not an IP address"},
		})
	})
}

// valueTest is a text with either what it is printed as or a part of the error.
type valueTest struct{ text, want, problem string }

func testFormat[T any](t *testing.T, f format[T], tests []valueTest) {
	t.Helper()
	for _, tt := range tests {
		value, err := f.read("aKey", scalar{tt.text, bareForm, "--a-flag"})
		if tt.problem == "" {
			if err != nil {
				t.Errorf("%q: %v", tt.text, err)
			} else if got := f.print(value); got != tt.want {
				t.Errorf("%q: got %s; want %s", tt.text, got, tt.want)
			}
			continue
		}
		if err == nil {
			t.Errorf("%q: got %s; want an error with %q", tt.text, f.print(value), tt.problem)
			continue
		}
		for _, part := range []string{"--a-flag: aKey: " + Quote(tt.text) + ": ", tt.problem, "; want " + f.want} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q: got error %q; want %q in it", tt.text, err, part)
			}
		}
	}
}
