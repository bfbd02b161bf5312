package main

import (
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write config.example.yaml, docs/configuration.md and README.md's table of settings anew")

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
		t.Errorf("%s is not what the table of settings says; go test -run 'Example|Documentation|Readme' . -update writes it anew", file)
	}
}

// cacheFolder is what the documentation has for the user's cache folder.
const cacheFolder = "~/.cache"

// documentedDefaults returns the defaults as they are for somebody else.
func documentedDefaults(t *testing.T) *settings {
	t.Helper()
	const folder = "/cache"
	t.Setenv("HOME", folder)
	t.Setenv("XDG_CACHE_HOME", folder)
	s := defaultSettings()
	s.ca.Bundle.File = strings.Replace(s.ca.Bundle.File, folder, cacheFolder, 1)
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
#   acme: {certFile: acme.pem, keyFile: acme.key}
`,
}

// commentedOut are keys whose default depends on something else; to set them would end that.
var commentedOut = map[string]bool{"caBundle.file": true, "connect.mode": true}

func example(s *settings) string {
	var b strings.Builder
	b.WriteString(exampleHead)
	inGroup := ""
	for i := range table {
		st := &table[i]
		group, name, nested := strings.Cut(st.key, ".")
		indent := "  "
		if !nested {
			group, name, indent = "", st.key, ""
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
		case st.structure:
			b.WriteString(exampleStructures[st.key])
		case commentedOut[st.key]:
			fmt.Fprintf(&b, "%s# %s: %s\n", indent, name, yamlValue(st, s))
		default:
			fmt.Fprintf(&b, "%s%s: %s\n", indent, name, yamlValue(st, s))
		}
	}
	return b.String()
}

// comment writes what a key is for, in lines that fit a page.
func comment(b *strings.Builder, indent string, st *setting) {
	text := st.help
	if unit := strings.TrimSuffix(st.placeholder, ",..."); unit != "" {
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
func yamlValue(st *setting, s *settings) string {
	items := st.get(s)
	switch strings.TrimSuffix(st.placeholder, ",...") {
	case "FILE", "HOST:PORT", "IP:PORT", "TEXT", "URL":
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
	hold(t, "config.example.yaml", example(want))
	s, err := sources{configFile: "config.example.yaml", getenv: noEnvironment}.load()
	if err != nil {
		t.Fatal(err)
	}
	for i := range table {
		st := &table[i]
		if _, set := s.origin[st.key]; set == (st.structure || commentedOut[st.key]) {
			t.Errorf("%s: got set: %v; want the other", st.key, set)
		}
		if !st.structure && !commentedOut[st.key] && !reflect.DeepEqual(st.get(s), st.get(want)) {
			t.Errorf("%s: got %v; want the default %v", st.key, st.get(s), st.get(want))
		}
	}
}

const documentationHead = `# Configuration

Every setting, from the same table as ` + "`whsentry --help`" + `. For each key the first of these that has it counts: the flag,
the environment variable (an empty one is no setting), the YAML file, the default. The file is ` + "`config.yaml`" + ` in the
working directory where there is one, or the one that ` + "`--config FILE`" + ` or ` + "`WHSENTRY_CONFIG`" + ` names.
` + "[`config.example.yaml`](../config.example.yaml)" + ` has every key with its default.

- Durations are written ` + "`10s`, `500ms`, `1h30m`" + `; a number without a unit is an error.
- Sizes are bytes, or whole ` + "`KiB`, `MiB`, `GiB`: `512KiB`" + `.
- Prefixes are written ` + "`10.0.0.0/8`" + ` without host bits; an address is the prefix of that one address.
- Lists have commas between their items outside of YAML; a flag for a list that is given twice adds to it.
- A flag for a boolean needs no value: ` + "`--listener-reuse-port`, `--listener-reuse-port=false`" + `.

What is wrong stops the start with one message that names the place, the key, the value and what is accepted;
` + "`whsentry check`" + ` finds it beforehand, and looks into the files that the settings name.

`

// markdownTable returns the documentation of every key.
func markdownTable(s *settings) string {
	var b strings.Builder
	b.WriteString("| key | flag and environment variable | default | meaning |\n| --- | --- | --- | --- |\n")
	for i := range table {
		st := &table[i]
		if st.structure {
			fmt.Fprintf(&b, "| `%s` | | | %s |\n", st.key, st.help)
			continue
		}
		value := ""
		if shown := strings.Join(st.get(s), ", "); shown != "" {
			value = "`" + shown + "`"
		}
		flag := strings.TrimSpace(st.flag() + " " + strings.ReplaceAll(st.placeholder, "|", "\\|"))
		fmt.Fprintf(&b, "| `%s` | `%s`<br>`%s` | %s | %s |\n", st.key, flag, st.variable(), value, st.help)
	}
	return b.String()
}

const documentationTail = `
## Lists and maps of structures

` + "`listeners` and `clientCerts`" + ` have neither flag nor variable:

` + "```yaml" + `
listeners: # instead of listener
  - {type: http, address: "127.0.0.1:9090"}
  - {type: https, address: ":9443", certFile: proxy.pem, keyFile: proxy.key}
clientCerts: # by the alias that X-WhSentry-ClientCert names
  acme: {certFile: acme.pem, keyFile: acme.key}
` + "```" + `

## While it runs

SIGHUP has everything read again. What is wrong is logged, and all stays as it was. Listeners, ` + "`metrics.address`" + ` and the
types of the logs cannot change without a restart; the files of certificates and logs can.
How to restart, or to upgrade, without losing a request: [upgrading.md](upgrading.md).
`

func TestDocumentation(t *testing.T) {
	hold(t, "docs/configuration.md", documentationHead+markdownTable(documentedDefaults(t))+documentationTail)
}

const (
	readmeTableBegin = "<!-- settings: written by go test -run Readme . -update -->\n"
	readmeTableEnd   = "<!-- end of settings -->\n"
)

// readme returns README.md.
func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// shortTable returns every key with its default and meaning.
func shortTable(s *settings) string {
	const longest = 80 // default, in bytes; the full documentation has it anyway
	var b strings.Builder
	b.WriteString("| key | default | meaning |\n| --- | --- | --- |\n")
	for i := range table {
		st := &table[i]
		value := ""
		if !st.structure {
			value = strings.Join(st.get(s), ", ")
		}
		switch {
		case len(value) > longest:
			value = "[many](docs/configuration.md)"
		case value != "":
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", st.key, value, st.help)
	}
	return b.String()
}

func TestReadmeSettings(t *testing.T) {
	head, rest, begins := strings.Cut(readme(t), readmeTableBegin)
	_, tail, ends := strings.Cut(rest, readmeTableEnd)
	if !begins || !ends {
		t.Fatalf("README.md has no lines %q and %q", readmeTableBegin, readmeTableEnd)
	}
	hold(t, "README.md", head+readmeTableBegin+shortTable(documentedDefaults(t))+readmeTableEnd+tail)
}

// reasonStatuses reads the statuses of the reasons, in the order of their codes, from the source of the proxy's table.
func reasonStatuses(t *testing.T) []int {
	t.Helper()
	// net/http's constants are named after the statuses' texts, but for this one.
	named := map[string]int{"StatusProxyAuthRequired": http.StatusProxyAuthRequired}
	for status := 100; status < 600; status++ {
		named["Status"+strings.ReplaceAll(http.StatusText(status), " ", "")] = status
	}
	file, err := parser.ParseFile(token.NewFileSet(), "proxy/reason.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var statuses []int
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || spec.Names[0].Name != "reasonStatus" {
			return true
		}
		for _, element := range spec.Values[0].(*ast.CompositeLit).Elts {
			name := element.(*ast.SelectorExpr).Sel.Name
			if named[name] == 0 {
				t.Errorf("proxy/reason.go: http.%s is no status known here", name)
			}
			statuses = append(statuses, named[name])
		}
		return false
	})
	return statuses
}

// TestReadmeReasons holds the codes and statuses of README.md's table to those of the proxy's.
func TestReadmeReasons(t *testing.T) {
	const firstCode = 1000
	var got, want []string
	for _, row := range regexp.MustCompile(`(?m)^\| (1\d{3}) \| (\d{3})\b`).FindAllStringSubmatch(readme(t), -1) {
		got = append(got, row[1]+" "+row[2])
	}
	for i, status := range reasonStatuses(t) {
		want = append(want, fmt.Sprintf("%d %d", firstCode+i, status))
	}
	if !slices.Equal(got, want) || len(want) == 0 {
		t.Errorf("README.md's codes and statuses: got %q; want %q", got, want)
	}
}

// TestReadmeCommands holds README.md's table of commands to what the command line knows.
func TestReadmeCommands(t *testing.T) {
	text := readme(t)
	for name, c := range commandTree((&app{}).commands()) {
		if len(c.Subcommands) == 0 && !regexp.MustCompile("(?m)^\\| `whsentry "+name+"[ `]").MatchString(text) {
			t.Errorf("README.md has no row of whsentry %s", name)
		}
	}
}

var (
	markdownCode    = regexp.MustCompile("(?ms)^```.*?^```$|`[^`\n]*`")
	markdownLink    = regexp.MustCompile(`\]\(([^)\s]*)\)`)
	markdownHeading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notInAnchor     = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors returns what a link can name in a page: its headings in small letters, hyphens for spaces, without the rest.
func anchors(page string) map[string]bool {
	found := make(map[string]bool)
	// Text in backquotes is part of a heading; blocks of code, where # begins a comment, are not.
	text := regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(page, "")
	for _, heading := range markdownHeading.FindAllStringSubmatch(text, -1) {
		name := notInAnchor.ReplaceAllString(strings.ToLower(heading[1]), "")
		found[strings.ReplaceAll(name, " ", "-")] = true
	}
	return found
}

// checkLink reports where a link of a page leads nowhere. Links to elsewhere are not looked at.
func checkLink(page, link string) error {
	if strings.Contains(link, "://") {
		return nil
	}
	name, anchor, anchored := strings.Cut(link, "#")
	file := page
	if name != "" {
		file = filepath.Join(filepath.Dir(page), name)
	}
	if _, err := os.Stat(file); err != nil {
		return err
	}
	if !anchored {
		return nil
	}
	text, err := os.ReadFile(file)
	if err == nil && !anchors(string(text))[anchor] {
		err = fmt.Errorf("%s has no heading #%s", file, anchor)
	}
	return err
}

// TestLinks holds every relative link in the documentation to a file, and to a heading where it names one.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir("deploy", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			pages = append(pages, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, page := range append(pages, "README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range markdownLink.FindAllStringSubmatch(markdownCode.ReplaceAllString(string(text), ""), -1) {
			if err := checkLink(page, link[1]); err != nil {
				t.Errorf("%s: (%s): %v", page, link[1], err)
			}
		}
	}
}
