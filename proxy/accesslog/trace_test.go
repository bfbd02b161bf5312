package accesslog

import (
	"regexp"
	"testing"
)

const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"

func TestTraceID(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"well-formed", "00-" + traceID + "-00f067aa0ba902b7-01", traceID},
		{"not sampled", "00-" + traceID + "-00f067aa0ba902b7-00", traceID},
		{"a version to come", "cc-" + traceID + "-00f067aa0ba902b7-01", traceID},
		{"a version to come with more", "cc-" + traceID + "-00f067aa0ba902b7-01-what.the.future", traceID},
		{"a version to come with more at once", "cc-" + traceID + "-00f067aa0ba902b7-01.what", ""},
		{"more than version 00 has", "00-" + traceID + "-00f067aa0ba902b7-01-", ""},
		{"version ff", "ff-" + traceID + "-00f067aa0ba902b7-01", ""},
		{"capitals", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", ""},
		{"no trace", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", ""},
		{"no parent", "00-" + traceID + "-0000000000000000-01", ""},
		{"a digit too few", "00-" + traceID[1:] + "-00f067aa0ba902b7-01", ""},
		{"a digit too many", "00-" + traceID + "0-00f067aa0ba902b7-01", ""},
		{"no hexadecimal digit", "00-" + traceID + "-00f067aa0ba902bg-01", ""},
		{"cut", "00-" + traceID + "-00f067aa0ba902b7-0", ""},
		{"a list", "00-" + traceID + "-00f067aa0ba902b7-01, 00-" + traceID + "-00f067aa0ba902b7-01", ""},
		{"empty", "", ""},
		{"hyphens", "-------------------------------------------------------", ""},
	} {
		if got := string(TraceID([]byte(tt.in))); got != tt.want {
			t.Errorf("%s: got %q; want %q", tt.name, got, tt.want)
		}
	}
}

// FuzzTraceID holds that what is taken for a trace-id is one, whatever comes in.
func FuzzTraceID(f *testing.F) {
	for _, s := range []string{"", "00-" + traceID + "-00f067aa0ba902b7-01", "cc-" + traceID + "-00f067aa0ba902b7-01-x", "ff-", "00-\n"} {
		f.Add(s)
	}
	whole := regexp.MustCompile(`^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?s:-.*)?$`)
	f.Fuzz(func(t *testing.T, s string) {
		got := string(TraceID([]byte(s)))
		if found := whole.FindStringSubmatch(s); got != "" && (found == nil || found[1] != got) {
			t.Errorf("got %q of %q", got, s)
		}
	})
}
