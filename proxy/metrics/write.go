package metrics

import (
	"bytes"
	"io"
	"strings"

	"github.com/VictoriaMetrics/metrics"
)

// Write writes all of it in Prometheus' text format, each metric with its help. Histograms of Go's runtime that lack
// their sum or count are none for Prometheus, and are left out.
func (m *Metrics) Write(w io.Writer) {
	var b bytes.Buffer
	m.set.WritePrometheus(&b)
	metrics.WriteProcessMetrics(&b)
	metrics.WriteFDMetrics(&b)
	w.Write(document(b.Bytes()))
}

const helpPrefix = "# HELP "

// document puts the help texts into what the library writes, which has none, family by family.
func document(text []byte) []byte {
	var whole, family bytes.Buffer
	for line := range bytes.Lines(text) {
		if name, found := bytes.CutPrefix(line, []byte(helpPrefix)); found {
			appendFamily(&whole, family.Bytes())
			family.Reset()
			name = bytes.TrimSpace(name)
			family.WriteString(helpPrefix)
			family.Write(name)
			family.WriteString(" " + helpOf(string(name)) + "\n")
			continue
		}
		family.Write(line)
	}
	appendFamily(&whole, family.Bytes())
	return whole.Bytes()
}

// appendFamily appends a metric's lines, unless it says that it is a histogram and is not a whole one.
func appendFamily(whole *bytes.Buffer, family []byte) {
	if bytes.Contains(family, []byte(" histogram\n")) &&
		(!bytes.Contains(family, []byte("_sum")) || !bytes.Contains(family, []byte("_count"))) {
		return
	}
	whole.Write(family)
}

// helpOf is the help text of the metric with that name; what the library has gained since is known by its name alone.
func helpOf(name string) string {
	if text, found := help[name]; found {
		return text
	}
	return strings.ReplaceAll(name, "_", " ") + "."
}
