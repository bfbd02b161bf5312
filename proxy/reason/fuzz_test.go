package reason

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// hostile are texts from outside that have forged answers before.
var hostile = []string{
	"", " ", "\n", "a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "\"", `\`, `\n`, "\x00", "\x1b[2J", "\x7f", "\u0085", "\u2028", "\u202e", "ä", "\xff", "\xc3", "\xed\xa0\x80",
	strings.Repeat("\n", 3000),
}

// FuzzReasonText holds that a text is one line of printable UTF-8, bounded, and an answer with it one response.
func FuzzReasonText(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := string(AppendText(nil, text))
		if !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) || len(got) > MaxText+16+len("...") {
			t.Fatalf("got %q", got)
		}
		for _, method := range []string{"GET", "HEAD", "CONNECT"} {
			checkAnswer(t, text, method)
		}
	})
}
