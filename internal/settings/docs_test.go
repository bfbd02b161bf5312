package settings

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write config.example.yaml, docs/configuration.md and README.md's table of settings anew")

// top is where the files are that are generated.
const top = "../../"

// hold compares a file with what it is generated from, or writes it with -update.
func hold(t *testing.T, file, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the table of settings says; go test -run 'Example|Documentation|Readme' ./internal/settings -update writes it anew", file)
	}
}

// cacheFolder is what the documentation has for the user's cache folder.
const cacheFolder = "~/.cache"

// documentedDefaults returns the defaults as they are for somebody else.
func documentedDefaults(t *testing.T) *Settings {
	t.Helper()
	const folder = "/cache"
	t.Setenv("HOME", folder)
	t.Setenv("XDG_CACHE_HOME", folder)
	s := Default()
	s.CA.Bundle.File = strings.Replace(s.CA.Bundle.File, folder, cacheFolder, 1)
	return s
}

const exampleHead = `# Settings of Webhook Sentry: every key, with its default. Read from config.yaml in the working directory, or from the
# file that --config or WHSENTRY_CONFIG names. Keep the keys that you change and delete the others.
#
# DURATION  10s, 500ms, 1h30m            SIZE  bytes, or 512KiB, 1MiB, 2GiB
# CIDR      10.0.0.0/8, or an address    FILE  relative to the working directory; "" is none
`

// exampleStructures are what the example shows of the keys that have no single value.
var exampleStructures = map[string]string{
	"listeners": `# listeners:
#   - {type: http, address: "127.0.0.1:9090"}
#   - {type: https, address: ":9443", certFile: proxy.pem, keyFile: proxy.key}
`,
	"clientCerts": `# clientCerts:
#   acme: {certFile: acme.pem, keyFile: acme.key, hosts: ["*.acme.com"]}
`,
	"clients": `# clients:
#   - name: billing                       # in logs and metrics
#     tokens: ["sha256:..."]              # whsentry clients token billing
#     certificates: ["spiffe://prod/billing", "dns:billing.internal", "cn:billing"]
#     addresses: [10.1.0.0/16]
#     mode: enforce                       # enforce, report or open
#     allowHosts: ["*.example.com", "hooks.slack.com", 203.0.113.0/24]
#     denyHosts: ["*.example.net"]
#     allowPorts: [443]
#     cidrAllowList: [10.9.0.0/16]
#     clientCerts: [acme]                 # aliases; [none]: none
#     maxConnections: 500
#     requestsPerSecond: 100
#     checkAddresses: false
#   - name: everybody                     # neither tokens, certificates nor addresses: all other requests
#     allowHosts: ["*.partner.example"]
`,
	"destinations": `# destinations:
#   - hosts: ["mm.corp.example", "*.bank.example"]
#     ports: [443]
#     cidrAllowList: [10.9.0.0/16]
#     caFile: corp.pem                    # or pins: ["sha256/..."]
#     clientCert: acme                    # an alias
#     tls: {minVersion: "1.2", legacyCiphers: false, renegotiation: false}
#     egress: [203.0.113.7]               # of egress.addresses
#     maxConnections: 20
#     connectTimeout: 5s
#     readTimeout: 30s
#     connectionLifetime: 120s
#     maxResponseBodySize: 256KiB
`,
}

// commentedOut are keys whose default depends on something else; to set them would end that.
var commentedOut = map[string]bool{"caBundle.file": true, "connect.mode": true, "maxBufferedBytes": true}

func example(s *Settings) string {
	var b strings.Builder
	b.WriteString(exampleHead)
	inGroup := ""
	for i := range table {
		st := &table[i]
		group, name, nested := strings.Cut(st.Key, ".")
		indent := "  "
		if !nested {
			group, name, indent = "", st.Key, ""
		}
		if group != inGroup || !nested {
			b.WriteString("\n")
		}
		if group != inGroup && nested {
			fmt.Fprintf(&b, "%s:\n", group)
		}
		inGroup = group
		comment(&b, indent, st)
		switch {
		case st.Structure:
			b.WriteString(exampleStructures[st.Key])
		case commentedOut[st.Key]:
			fmt.Fprintf(&b, "%s# %s: %s\n", indent, name, yamlValue(st, s))
		default:
			fmt.Fprintf(&b, "%s%s: %s\n", indent, name, yamlValue(st, s))
		}
	}
	return b.String()
}

// comment writes what a key is for, in lines that fit a page.
func comment(b *strings.Builder, indent string, st *Setting) {
	text := st.Help
	if unit := strings.TrimSuffix(st.Placeholder, ",..."); unit != "" {
		text += " (" + unit + ")"
	}
	line := indent + "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > 118 {
			b.WriteString(line + "\n")
			line = indent + "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}

// yamlValue writes a value as YAML: free text in quotes, a long list over lines.
func yamlValue(st *Setting, s *Settings) string {
	items := st.get(s)
	switch strings.TrimSuffix(st.Placeholder, ",...") {
	case "FILE", "HOST", "HOST:PORT", "IP:PORT", "TEXT", "URL":
		for i, item := range items {
			items[i] = strconv.Quote(item)
		}
	}
	if !st.list {
		return items[0]
	}
	text := "["
	column := 0
	for i, item := range items {
		if i > 0 {
			text += ","
			if column += len(item) + 2; column > 90 {
				text, column = text+"\n ", 0
			}
			text += " "
		}
		text += item
	}
	return text + "]"
}

// TestExampleFile holds the example to the table, and the table's defaults to the example.
func TestExampleFile(t *testing.T) {
	want := documentedDefaults(t)
	hold(t, top+"config.example.yaml", example(want))
	s, err := Sources{ConfigFile: top + "config.example.yaml", Environ: noEnvironment}.Load()
	if err != nil {
		t.Fatal(err)
	}
	for i := range table {
		st := &table[i]
		if _, set := s.origin[st.Key]; set == (st.Structure || commentedOut[st.Key]) {
			t.Errorf("%s: got set: %v; want the other", st.Key, set)
		}
		if !st.Structure && !commentedOut[st.Key] && !reflect.DeepEqual(st.get(s), st.get(want)) {
			t.Errorf("%s: got %v; want the default %v", st.Key, st.get(s), st.get(want))
		}
	}
}

const documentationHead = `# Configuration

This page has every setting, as does ` + "`whsentry --help`" + `. The first of these that has a value wins: flag, environment
variable (an empty one has no value), YAML file, default. The file is ` + "`config.yaml`" + ` in the working directory, if there is one, or the
one that ` + "`--config FILE`" + ` or ` + "`WHSENTRY_CONFIG`" + ` names. [` + "`config.example.yaml`" + `](../config.example.yaml) has every key with its
default; delete what you do not change.

- Durations: ` + "`10s`, `500ms`, `1h30m`" + `; a number without a unit is an error.
- Sizes: bytes, or whole ` + "`KiB`, `MiB`, `GiB`" + `, as in ` + "`512KiB`" + `.
- CIDR prefixes: ` + "`10.0.0.0/8`" + `, not ` + "`10.0.0.1/8`" + ` (which has host bits); a bare address stands for itself alone.
- Lists, outside of YAML: items separated by commas; repeating a flag adds to its list.
- Booleans: ` + "`--listener-reuse-port`, `--listener-reuse-port=false`" + `.
- Files: relative to the working directory; a leading ` + "`~/`" + ` is ` + "`$HOME/`" + `.

If there is a mistake, the proxy does not start, and one message names the place, the key, the value and what is accepted.
` + "`whsentry check`" + ` finds it beforehand, and also looks into the files that the settings name.

`

// markdownTable returns the documentation of every key.
func markdownTable(s *Settings) string {
	var b strings.Builder
	b.WriteString("| key | flag and environment variable | default | meaning |\n| --- | --- | --- | --- |\n")
	for i := range table {
		st := &table[i]
		if st.Structure {
			fmt.Fprintf(&b, "| `%s` | | | %s |\n", st.Key, st.Help)
			continue
		}
		value := st.fallback
		if shown := strings.Join(st.get(s), ", "); value == "" && shown != "" {
			value = "`" + shown + "`"
		}
		flag := strings.TrimSpace(st.Flag() + " " + strings.ReplaceAll(st.Placeholder, "|", "\\|"))
		fmt.Fprintf(&b, "| `%s` | `%s`<br>`%s` | %s | %s |\n", st.Key, flag, st.Variable(), value, st.Help)
	}
	return b.String()
}

const documentationTail = `
## Settings with a structure

` + "`listeners`, `clientCerts`, `clients` and `destinations`" + ` can only be set in the YAML file:

` + "```yaml" + `
listeners: # instead of listener
  - {type: http, address: "127.0.0.1:9090"}
  - {type: https, address: ":9443", certFile: proxy.pem, keyFile: proxy.key, clientCAFile: clients-ca.pem}
clientCerts: # by the alias that X-WhSentry-ClientCert names
  acme: {certFile: acme.pem, keyFile: acme.key, hosts: ["*.acme.com"]} # without hosts: for every destination
clients: # who may send, and where: policy.md
  - name: billing
    tokens: ["sha256:0c8fbf58b4ee6f0cbd7a8ad6d5aa3c5b2f1ffbaf8f31a16f6c1d96b6a9b39fd5"] # of whsentry clients token billing
    allowHosts: ["*.example.com", "hooks.slack.com", 203.0.113.0/24]
    requestsPerSecond: 100
destinations: # the first entry that fits applies
  - hosts: ["mm.corp.example"]
    cidrAllowList: [10.9.0.0/16]
    caFile: corp.pem
    readTimeout: 30s
` + "```" + `

[policy.md](policy.md) explains every key of ` + "`clients` and `destinations`" + `.

## Unknown variables

A variable that begins with ` + "`WHSENTRY_`" + `, is not empty and is not a setting is an error, so that a misspelt setting does not go
unnoticed.
Variables that Kubernetes makes for a Service (` + "`WHSENTRY_SERVICE_HOST`, `WHSENTRY_PORT_9090_TCP`" + `, …) are ignored.

## Memory

If ` + "`maxBufferedBytes`" + ` is not set, it is 256MiB, or a quarter of the memory that the process may use if that is less. The process may use
what its cgroup and the cgroups above it allow, or all of the machine's memory. If ` + "`GOMEMLIMIT`" + ` (Go's own memory limit) is not set, the
proxy sets it to nine tenths of the same. The application log says what was chosen.

## Changing settings at run time

SIGHUP reads everything again. If something is wrong, that is logged and nothing changes. A listener's address, ` + "`type`" + ` and
` + "`reusePort`, `metrics.address`, `accessLog.type` and `proxyLog.type`" + ` need a restart: if one of these has changed, the log warns that
it stays as it was, and the rest of the new settings is used. Certificate, key and CA files need neither signal nor restart: their
contents are looked at every ` + "`watchFiles`" + ` (10 s), through symbolic links, and used once certificate and key fit together.
[upgrading.md](upgrading.md) says how to restart without losing a request.
`

func TestDocumentation(t *testing.T) {
	hold(t, top+"docs/configuration.md", documentationHead+markdownTable(documentedDefaults(t))+documentationTail)
}

const (
	readmeTableBegin = "<!-- settings: written by go test -run Readme ./internal/settings -update -->\n"
	readmeTableEnd   = "<!-- end of settings -->\n"
)

// readme returns README.md.
func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(top + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// readmeKeys are the settings that README.md has, those that matter first; docs/configuration.md has all.
var readmeKeys = []string{
	"listener.address", "metrics.address", "cidrAllowList", "cidrDenyList", "clients", "clientCerts", "connect.mode",
	"readTimeout", "maxResponseBodySize", "accessLog.type",
}

// shortTable returns readmeKeys with their defaults and meanings.
func shortTable(s *Settings) string {
	var b strings.Builder
	b.WriteString("| key | default | meaning |\n| --- | --- | --- |\n")
	for _, key := range readmeKeys {
		i := slices.IndexFunc(table, func(st Setting) bool { return st.Key == key })
		st := &table[i]
		value := ""
		if !st.Structure {
			value = strings.Join(st.get(s), ", ")
		}
		switch {
		case st.fallback != "":
			value = st.fallback
		case value != "":
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", st.Key, value, st.Help)
	}
	return b.String()
}

func TestReadmeSettings(t *testing.T) {
	head, rest, begins := strings.Cut(readme(t), readmeTableBegin)
	_, tail, ends := strings.Cut(rest, readmeTableEnd)
	if !begins || !ends {
		t.Fatalf("README.md has no lines %q and %q", readmeTableBegin, readmeTableEnd)
	}
	hold(t, top+"README.md", head+readmeTableBegin+shortTable(documentedDefaults(t))+readmeTableEnd+tail)
}
