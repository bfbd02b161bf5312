package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// top is where the README and the folders of the project are.
const top = "../../"

// TestDocumentedCommands holds docs/commands.md to what the command line knows.
func TestDocumentedCommands(t *testing.T) {
	const page = top + "docs/commands.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range commandTree((&app{}).commands()) {
		if len(c.Subcommands) == 0 && !regexp.MustCompile("(?m)^\\| `whsentry "+name+"[ `]").Match(text) {
			t.Errorf("%s has no row of whsentry %s", page, name)
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
	pages, err := filepath.Glob(top + "docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(top+"deploy", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			pages = append(pages, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, page := range append(pages, top+"README.md", top+"CONTRIBUTING.md", top+"SECURITY.md", top+"CHANGELOG.md") {
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
