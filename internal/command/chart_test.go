package command

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// schemaOf is the part of a JSON schema that a test looks at.
type schemaOf struct {
	AdditionalProperties any                 `json:"additionalProperties"`
	Properties           map[string]schemaOf `json:"properties"`
}

// TestChartSchemaKnowsTheSettings holds the keys that the chart takes below config to those that there are.
func TestChartSchemaKnowsTheSettings(t *testing.T) {
	var schema schemaOf
	unmarshalFile(t, chartFolder+"/values.schema.json", json.Unmarshal, &schema)
	page, err := os.ReadFile(top + "docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Za-z.]+)` \\| (?:`--|\\|)").FindAllStringSubmatch(string(page), -1) {
		want = append(want, row[1])
	}
	config := schema.Properties["config"]
	got := keysOf(t, "config", config, "")
	slices.Sort(want)
	if slices.Sort(got); len(want) < 50 || !slices.Equal(got, want) {
		t.Errorf("got the keys %s; want %s", strings.Join(got, " "), strings.Join(want, " "))
	}
}

// keysOf returns the keys of a schema with those below them, none of which takes any other.
func keysOf(t *testing.T, name string, s schemaOf, prefix string) (keys []string) {
	t.Helper()
	if s.AdditionalProperties != false {
		t.Errorf("%s takes keys that it does not know", name)
	}
	for _, key := range slices.Sorted(maps.Keys(s.Properties)) {
		if below := s.Properties[key]; below.Properties != nil {
			keys = append(keys, keysOf(t, prefix+key, below, prefix+key+".")...)
		} else {
			keys = append(keys, prefix+key)
		}
	}
	return keys
}
