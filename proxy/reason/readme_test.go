package reason

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"testing"
)

// TestReadmeReasons holds the codes and statuses of README.md's table to those of this one.
func TestReadmeReasons(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, row := range regexp.MustCompile(`(?m)^\| (1\d{3}) \| (\d{3})\b`).FindAllStringSubmatch(string(readme), -1) {
		got = append(got, row[1]+" "+row[2])
	}
	for code := First; code <= Last; code++ {
		want = append(want, fmt.Sprintf("%d %d", code, Newf(code, "").Status))
	}
	if !slices.Equal(got, want) {
		t.Errorf("README.md's codes and statuses: got %q; want %q", got, want)
	}
}
