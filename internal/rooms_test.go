// Package internal holds what no other module may import, and the test that holds the rooms of this one apart.
package internal

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "whsentry"

var (
	// leaves are the packages that import nothing of ours.
	leaves = []string{"guard", "ca", "policy", "bench", "proxy/http1", "proxy/socket"}
	// rooms are those below proxy.
	rooms = []string{
		"proxy/http1", "proxy/socket", "proxy/reason", "proxy/metrics", "proxy/accesslog", "proxy/admin", "proxy/listen", "proxy/downstream",
		"proxy/upstream", "proxy/destination", "proxy/urlcheck",
	}
	// judges decide and know nothing of whom they decide for.
	judges = []string{"guard", "ca", "policy"}
)

// mayImport has the arrows of the house: for each package that is no leaf, what of ours it may import.
var mayImport = map[string][]string{
	"proxy/reason":      {"guard", "ca", "policy", "proxy/http1"},
	"proxy/metrics":     {"guard", "ca", "policy", "proxy/reason"},
	"proxy/accesslog":   {"proxy/http1", "proxy/reason", "proxy/metrics"},
	"proxy/admin":       {"guard", "ca", "policy", "proxy/http1", "proxy/reason", "proxy/metrics"},
	"proxy/listen":      {"ca", "proxy/socket", "proxy/metrics"},
	"proxy/downstream":  {"proxy/http1", "proxy/socket", "proxy/reason", "proxy/metrics", "proxy/listen"},
	"proxy/destination": {"guard", "ca", "policy", "proxy/http1", "proxy/reason", "proxy/upstream"},
	"proxy/upstream":    {"guard", "ca", "proxy/http1", "proxy/socket", "proxy/reason", "proxy/metrics"},
	"proxy/urlcheck":    {"guard", "proxy/reason"},
	"proxy":             slices.Concat(judges, rooms),

	"internal/settings": slices.Concat(judges, rooms, []string{"proxy"}),
	"internal/command":  slices.Concat(judges, rooms, []string{"proxy", "internal/settings"}),
	"":                  {"internal/command"},
}

// mustNotImport has what others' packages are none of a package's business.
var mustNotImport = map[string][]string{
	"guard":         {"github.com/valyala/", "github.com/rs/", "github.com/VictoriaMetrics/", "net/http"},
	"ca":            {"github.com/valyala/", "github.com/rs/", "github.com/VictoriaMetrics/"},
	"policy":        {"github.com/valyala/", "github.com/rs/", "github.com/VictoriaMetrics/"},
	"proxy/http1":   {"github.com/", "net", "net/http", "crypto/tls"}, // bytes alone
	"proxy/reason":  {"github.com/valyala/", "github.com/rs/", "github.com/VictoriaMetrics/"},
	"proxy/metrics": {"github.com/valyala/", "github.com/rs/"},
	"proxy":         {"github.com/urfave/", "github.com/goccy/"},
}

// TestRooms holds that what imports what goes down only, as proxy/doc.go draws it.
func TestRooms(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"/...").CombinedOutput()
	if err != nil {
		t.Fatalf("list the imports: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		pkg := within(words[0])
		if strings.HasSuffix(pkg, "test") || strings.HasPrefix(pkg, "proxy/e2e") || pkg == "internal" || strings.HasPrefix(pkg, "internal/acceptance") {
			continue // tests and what they are made of look at everything
		}
		allowed, known := mayImport[pkg]
		if !known && !slices.Contains(leaves, pkg) {
			t.Errorf("%s is in no picture of the rooms; want it in this test, and in proxy/doc.go", pkg)
		}
		for _, imported := range words[1:] {
			checkImport(t, pkg, imported, allowed)
		}
	}
}

func checkImport(t *testing.T, pkg, imported string, allowed []string) {
	if own := within(imported); own != imported || imported == module {
		if !slices.Contains(allowed, own) {
			t.Errorf("%s imports %s, which is none of its business", pkg, own)
		}
		return
	}
	for _, prefix := range mustNotImport[pkg] {
		if imported == prefix || strings.HasSuffix(prefix, "/") && strings.HasPrefix(imported, prefix) {
			t.Errorf("%s imports %s, which is none of its business", pkg, imported)
		}
	}
}

// within is a package's path within the module; another module's stays as it is.
func within(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
}
