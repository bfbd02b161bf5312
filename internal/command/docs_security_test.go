package command

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	securityPage = top + "docs/security.md"
	promisesHead = "| promise | held by |"
	// fewestPromises is below how many there must be something wrong with how they are read.
	fewestPromises = 50
)

// promise is a row of the tables in docs/security.md.
type promise struct {
	text string
	line int
	held []string // guard.TestEdges, proxy.FuzzTarget or .ci/netns
}

var (
	holderInRow = regexp.MustCompile("^`([^`]+)`$")
	testHolder  = regexp.MustCompile(`^([a-z][a-z0-9]*)\.((?:Test|test|Fuzz)[A-Z0-9]\w*)$`)
	ciHolder    = regexp.MustCompile(`^\.ci/[a-z-]+$`)
)

// promises reads the tables of a page that have the head of promises.
func promises(page string) (rows []promise, err error) {
	within := false
	for i, line := range strings.Split(page, "\n") {
		switch {
		case line == promisesHead:
			within = true
			continue
		case !strings.HasPrefix(line, "|"):
			within = false
		}
		if !within || strings.HasPrefix(line, "| --- |") {
			continue
		}
		cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "| "), " |"), " | ")
		if len(cells) != 2 {
			return nil, fmt.Errorf("line %d: got %d cells; want a promise and what holds it", i+1, len(cells))
		}
		p := promise{text: cells[0], line: i + 1}
		for _, item := range strings.Split(cells[1], ", ") {
			name := holderInRow.FindStringSubmatch(item)
			if name == nil {
				return nil, fmt.Errorf("line %d: got %q among what holds the promise; want a name in backquotes", i+1, item)
			}
			p.held = append(p.held, name[1])
		}
		rows = append(rows, p)
	}
	return rows, nil
}

// testsIn returns the names of the tests, their parts, and fuzz targets in the sources of a folder, those for other systems included.
func testsIn(folder string) (map[string]bool, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && isTest(f) {
				names[f.Name.Name] = true
			}
		}
	}
	return names, nil
}

// isTest reports whether f is a test or a fuzz target for go test, or a part of one, whose name begins with a small letter.
func isTest(f *ast.FuncDecl) bool {
	if f.Recv != nil || len(f.Type.Params.List) != 1 {
		return false
	}
	pointer, ok := f.Type.Params.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	of, ok := pointer.X.(*ast.SelectorExpr)
	return ok && (of.Sel.Name == "T" && strings.HasPrefix(strings.ToLower(f.Name.Name), "test") || of.Sel.Name == "F" && strings.HasPrefix(f.Name.Name, "Fuzz"))
}

// ciScript returns an error unless name is a script that .ci/run runs.
func ciScript(name, run string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("is not a file")
	}
	if !regexp.MustCompile(`(?m)^[^#\n]*[\s/]` + filepath.Base(name) + `\b`).MatchString(run) {
		return errors.New("is not run by .ci/run")
	}
	return nil
}

// TestSecurityPromises holds docs/security.md to the sources: whatever is said to hold a promise must be there.
func TestSecurityPromises(t *testing.T) {
	page, err := os.ReadFile(securityPage)
	if err != nil {
		t.Fatal(err)
	}
	run, err := os.ReadFile(top + ".ci/run")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := promises(string(page))
	if err != nil || len(rows) < fewestPromises {
		t.Fatalf("%s: got %d promises, %v; want %d at least", securityPage, len(rows), err, fewestPromises)
	}
	tests := make(map[string]map[string]bool)
	for _, pattern := range []string{"*", "proxy/*", "internal/*"} { // the packages, by their own names
		folders, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, folder := range folders {
			if tests[filepath.Base(folder)], err = testsIn(folder); err != nil {
				t.Fatalf("%s: %v", folder, err)
			}
		}
	}
	for _, p := range rows {
		for _, holder := range p.held {
			if test := testHolder.FindStringSubmatch(holder); test != nil {
				if !tests[test[1]][test[2]] {
					t.Errorf("%s:%d: %s is in no source, and is to hold %q", securityPage, p.line, holder, p.text)
				}
			} else if !ciHolder.MatchString(holder) {
				t.Errorf("%s:%d: %q is neither a test such as guard.TestEdges nor a script such as .ci/netns", securityPage, p.line, holder)
			} else if err := ciScript(top+holder, string(run)); err != nil {
				t.Errorf("%s:%d: %s: %v, and is to hold %q", securityPage, p.line, holder, err, p.text)
			}
		}
	}
}

// TestReadPromises holds the reading of the tables to what may stand in them.
func TestReadPromises(t *testing.T) {
	for _, tt := range []struct{ name, page, want, err string }{
		{"one", promisesHead + "\n| --- | --- |\n| It holds `x` | `guard.TestA`, `.ci/b` |\n", "It holds `x`: [guard.TestA .ci/b]\n", ""},
		{"two tables", promisesHead + "\n| --- | --- |\n| a | `command.TestA` |\n\ntext\n\n" + promisesHead + "\n| --- | --- |\n| b | `command.TestB` |", "a: [command.TestA]\nb: [command.TestB]\n", ""},
		{"another table", "| key | value |\n| --- | --- |\n| a | b |\n", "", ""},
		{"no table", "promise and held by\n", "", ""},
		{"held by nothing", promisesHead + "\n| --- | --- |\n| a |  |\n", "", `line 3: got "" among`},
		{"held by words", promisesHead + "\n| --- | --- |\n| a | `command.TestA` and care |\n", "", "line 3: got \"`command.TestA` and care\" among"},
		{"a cell too many", promisesHead + "\n| --- | --- |\n| a | b | `command.TestA` |\n", "", "line 3: got 3 cells"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rows, err := promises(tt.page)
			got := ""
			for _, p := range rows {
				got += fmt.Sprintf("%s: %v\n", p.text, p.held)
			}
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.HasPrefix(err.Error(), tt.err) {
				t.Errorf("got %q, %v; want %q, %q", got, err, tt.want, tt.err)
			}
		})
	}
}
