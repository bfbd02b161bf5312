package proxy

import (
	"strings"
	"testing"
)

func TestOpening(t *testing.T) {
	for _, tt := range []struct {
		name, opening string
		want          verdict
		at            int // how many bytes decide; 0: all that are there
	}{
		{"a request", "POST /hook HTTP/1.1\r\nHost: h\r\n", request, 21},
		{"an absolute URI", "GET http://h/ HTTP/1.0\r\n", request, 0},
		{"letters of no method", "m-search * HTTP/1.1\r\n", request, 0},
		{"a version to be refused", "GET / HTTP/1.7\r\n", request, 0},
		{"LF alone", "GET / HTTP/1.1\n", request, 0},
		{"bytes over 0x7f in the target", "GET /\xc3\xa4 HTTP/1.1\r\n", request, 0},
		{"nothing", "", undecided, 0},
		{"a word", "QUIT", undecided, 0},
		{"a method and a space", "GET ", undecided, 0},
		{"no line end yet", "GET / HTTP/1.1", undecided, 0},
		{"CR", "GET / HTTP/1.1\r", undecided, 0},
		{"TLS", "\x16\x03\x01\x02\x00\x01", foreign, 1},
		{"an empty line first", "\r\nGET / HTTP/1.1\r\n", foreign, 1},
		{"a space first", " GET / HTTP/1.1\r\n", foreign, 1},
		{"two spaces", "GET  / HTTP/1.1\r\n", foreign, 5},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", foreign, 12},
		{"RTSP", "OPTIONS rtsp://h RTSP/1.0\r\n", foreign, 18},
		{"HTTP/0.9", "GET /\r\n", foreign, 6},
		{"SMTP", "EHLO h\r\n", foreign, 7},
		{"SSH", "SSH-2.0-Go\r\n", foreign, 11},
		{"a tab", "GET\t/ HTTP/1.1\r\n", foreign, 4},
		{"a version of two digits", "GET / HTTP/1.11\r\n", foreign, 15},
		{"small letters in the version", "GET / http/1.1\r\n", foreign, 7},
		{"CR alone", "GET / HTTP/1.1\rX", foreign, 16},
		{"words", "GET / HTTP/1.1 x\r\n", foreign, 15},
		{"NUL", "GET /\x00 HTTP/1.1\r\n", foreign, 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := tt.at
			if at == 0 {
				at = len(tt.opening)
			}
			if got := new(opening).judge([]byte(tt.opening[:at])); got != tt.want {
				t.Errorf("got %d; want %d", got, tt.want)
			}
			if got := new(opening).judge([]byte(tt.opening[:max(at-1, 0)])); got != undecided {
				t.Errorf("got %d a byte earlier; want it undecided", got)
			}
		})
	}
}

// FuzzOpening holds that it makes no difference in which pieces the bytes come, and that what HTTP would take for a
// request is never passed on unseen.
func FuzzOpening(f *testing.F) {
	for _, seed := range []string{"POST /hook HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\n", "PRI * HTTP/2.0\r\n", "\x16\x03\x01", "EHLO h\r\n", "GET  / HTTP/1.1\r\n"} {
		f.Add([]byte(seed), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		whole := new(opening).judge(b)
		var o opening
		got := undecided
		for n := 0; n < len(b) && got == undecided; {
			n = min(n+max(1, piece&0xff), len(b))
			got = o.judge(b[:n])
		}
		if got != whole {
			t.Errorf("got %d for %q in pieces of %d; want %d as for the whole", got, b, piece, whole)
		}
		line, _, ended := strings.Cut(string(b), "\n")
		h, _ := scanWhole(strings.TrimSuffix(line, "\r") + "\r\n\r\n")
		if isRequest := ended && strings.HasSuffix(line, "\r") && h != nil && h.Target != nil && line[0] != '\r'; isRequest && whole != request {
			if strings.Contains(line, " HTTP/1.") {
				t.Errorf("got %d for %q; want it a request", whole, b)
			}
		}
	})
}
