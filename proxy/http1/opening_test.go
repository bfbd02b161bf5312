package http1

import (
	"strings"
	"testing"
)

func TestOpening(t *testing.T) {
	for _, tt := range []struct {
		name, opening string
		want          Protocol
		at            int // how many bytes decide; 0: all that are there
	}{
		{"a request", "POST /hook HTTP/1.1\r\nHost: h\r\n", HTTP, 21},
		{"an absolute URI", "GET http://h/ HTTP/1.0\r\n", HTTP, 0},
		{"letters of no method", "m-search * HTTP/1.1\r\n", HTTP, 0},
		{"a version to be refused", "GET / HTTP/1.7\r\n", HTTP, 0},
		{"LF alone", "GET / HTTP/1.1\n", HTTP, 0},
		{"bytes over 0x7f in the target", "GET /\xc3\xa4 HTTP/1.1\r\n", HTTP, 0},
		{"nothing", "", Undecided, 0},
		{"a word", "QUIT", Undecided, 0},
		{"a method and a space", "GET ", Undecided, 0},
		{"no line end yet", "GET / HTTP/1.1", Undecided, 0},
		{"CR", "GET / HTTP/1.1\r", Undecided, 0},
		{"TLS", "\x16\x03\x01\x02\x00\x01", Foreign, 1},
		{"an empty line first", "\r\nGET / HTTP/1.1\r\n", Foreign, 1},
		{"a space first", " GET / HTTP/1.1\r\n", Foreign, 1},
		{"two spaces", "GET  / HTTP/1.1\r\n", Foreign, 5},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Foreign, 12},
		{"RTSP", "OPTIONS rtsp://h RTSP/1.0\r\n", Foreign, 18},
		{"HTTP/0.9", "GET /\r\n", Foreign, 6},
		{"SMTP", "EHLO h\r\n", Foreign, 7},
		{"SSH", "SSH-2.0-Go\r\n", Foreign, 11},
		{"a tab", "GET\t/ HTTP/1.1\r\n", Foreign, 4},
		{"a version of two digits", "GET / HTTP/1.11\r\n", Foreign, 15},
		{"small letters in the version", "GET / http/1.1\r\n", Foreign, 7},
		{"CR alone", "GET / HTTP/1.1\rX", Foreign, 16},
		{"words", "GET / HTTP/1.1 x\r\n", Foreign, 15},
		{"NUL", "GET /\x00 HTTP/1.1\r\n", Foreign, 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := tt.at
			if at == 0 {
				at = len(tt.opening)
			}
			if got := new(Opening).Judge([]byte(tt.opening[:at])); got != tt.want {
				t.Errorf("got %d; want %d", got, tt.want)
			}
			if got := new(Opening).Judge([]byte(tt.opening[:max(at-1, 0)])); got != Undecided {
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
		whole := new(Opening).Judge(b)
		var o Opening
		got := Undecided
		for n := 0; n < len(b) && got == Undecided; {
			n = min(n+max(1, piece&0xff), len(b))
			got = o.Judge(b[:n])
		}
		if got != whole {
			t.Errorf("got %d for %q in pieces of %d; want %d as for the whole", got, b, piece, whole)
		}
		line, _, ended := strings.Cut(string(b), "\n")
		h, _ := scanWhole(strings.TrimSuffix(line, "\r") + "\r\n\r\n")
		if isRequest := ended && strings.HasSuffix(line, "\r") && h != nil && h.Target != nil && line[0] != '\r'; isRequest && whole != HTTP {
			if strings.Contains(line, " HTTP/1.") {
				t.Errorf("got %d for %q; want it a request", whole, b)
			}
		}
	})
}
