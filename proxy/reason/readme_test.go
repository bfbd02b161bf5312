package reason

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write README.md's table of reasons anew")

// readmeHead begins the table of reasons. The last column is written by hand: what else the sender's owner should do.
const readmeHead = "| code | status | when | source | delivered | `Retry` | what else to do |\n| --- | --- | --- | --- | --- | --- | --- |\n"

// documented is the row of README.md's table that says what goes with c, but for its last cell.
func documented(c Code) string {
	var statuses, sources []string
	for _, v := range c.Variants() {
		if s := fmt.Sprint(v.Status); !slices.Contains(statuses, s) {
			statuses = append(statuses, s)
		}
		if s := v.Source.String(); !slices.Contains(sources, s) {
			sources = append(sources, s)
		}
	}
	r := c.row()
	return fmt.Sprintf("| %d | %s | %s | %s | %s | %s |", c, strings.Join(statuses, ", "), r.when, strings.Join(sources, ", "), r.delivered, r.again)
}

// TestReadmeReasons holds README.md's table to this one. With -update it writes it.
func TestReadmeReasons(t *testing.T) {
	const file = "../../README.md"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), readmeHead)
	rows, after, ends := strings.Cut(rest, "\n\n")
	if !found || !ends {
		t.Fatalf("%s has no table that begins with %q", file, readmeHead)
	}
	advice := make(map[string]string) // by code
	for row := range strings.SplitSeq(rows, "\n") {
		cells := strings.Split(row, " | ")
		advice[strings.TrimPrefix(cells[0], "| ")] = strings.TrimSuffix(cells[len(cells)-1], " |")
	}
	var want []string
	for c := First; c <= Last; c++ {
		want = append(want, documented(c)+" "+advice[fmt.Sprint(int(c))]+" |")
	}
	whole := before + readmeHead + strings.Join(want, "\n") + "\n\n" + after
	if whole == string(page) {
		return
	}
	if !*update {
		t.Errorf("got the rows\n%s\nwant\n%s\n(go test ./proxy/reason -update writes them)", rows, strings.Join(want, "\n"))
		return
	}
	if err := os.WriteFile(file, []byte(whole), 0o644); err != nil {
		t.Error(err)
	}
}
