package reason

import (
	"strings"
	"testing"
)

func TestReasonText(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"plain", "IP ::1 is blocked", "IP ::1 is blocked"},
		{"empty", "", ""},
		{"UTF-8", "bücher.example", "bücher.example"},
		{"line ends", "a\r\nb", `a\x0d\x0ab`},
		{"NUL, tab, escape and DEL", "\x00\t\x1b\x7f", `\x00\x09\x1b\x7f`},
		{"C1 control characters", "a\u0085b\u009fc", `a\xc2\x85b\xc2\x9fc`},
		{"not UTF-8", "a\xffb\xc3", `a\xffb\xc3`},
		{"an encoded surrogate", "\xed\xa0\x80", `\xed\xa0\x80`},
		{"the replacement character itself", "\ufffd", "\ufffd"},
		{"as long as it may be", strings.Repeat("a", MaxText), strings.Repeat("a", MaxText)},
		{"longer", strings.Repeat("a", MaxText+1), strings.Repeat("a", MaxText) + "..."},
		{"not cut within a character", strings.Repeat("a", MaxText-1) + "üü", strings.Repeat("a", MaxText-1) + "ü..."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(AppendText(nil, tt.text)); got != tt.want {
				t.Errorf("got %q; want %q", got, tt.want)
			}
		})
	}
}

func TestAppendWord(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""}, {"GET", "GET"}, {"!~", "!~"}, {" \x7f", `\x20\x7f`}, {`\x20`, `\x5cx20`}, {"a\nb", `a\x0ab`}, {"ä", `\xc3\xa4`},
	} {
		if got := string(AppendWord(nil, []byte(tt.in))); got != tt.want {
			t.Errorf("%q: got %q; want %q", tt.in, got, tt.want)
		}
	}
}
