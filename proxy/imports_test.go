package proxy

import (
	"os/exec"
	"strings"
	"testing"
)

// TestImports holds the packages to the picture in doc.go: guard and ca know neither each other nor HTTP engines,
// loggers and metrics, and nothing but main knows all of them.
func TestImports(t *testing.T) {
	forbidden := map[string][]string{
		"whsentry/guard":          {"whsentry/", "github.com/valyala/", "github.com/rs/", "github.com/VictoriaMetrics/", "net/http"},
		"whsentry/ca":             {"whsentry/", "github.com/valyala/", "github.com/rs/", "github.com/VictoriaMetrics/"},
		"whsentry/proxy/listen":   {"whsentry/", "github.com/valyala/", "github.com/rs/", "github.com/VictoriaMetrics/", "net/http"},
		"whsentry/proxy/upstream": {"whsentry/guard", "whsentry/ca", "whsentry/policy", "github.com/", "net/http"},
		"whsentry/proxy/socket":   {"whsentry/", "github.com/", "net/http"},
		"whsentry/proxy":          {"github.com/urfave/", "github.com/goccy/", "whsentry/bench"},
	}
	for pkg, prefixes := range forbidden {
		out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, pkg).CombinedOutput()
		if err != nil {
			t.Fatalf("list the imports of %s: %v\n%s", pkg, err, out)
		}
		for imported := range strings.Lines(string(out)) {
			for _, prefix := range prefixes {
				if strings.HasPrefix(imported, prefix) {
					t.Errorf("%s imports %s, which is none of its business", pkg, strings.TrimSpace(imported))
				}
			}
		}
	}
}
