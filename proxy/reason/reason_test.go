package reason

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"whsentry/guard"
)

var answerTime = time.Date(2020, 9, 18, 9, 15, 20, 999, time.FixedZone("CEST", 2*60*60))

func TestAnswerByteForByte(t *testing.T) {
	const begin = "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
	const date = "Date: Fri, 18 Sep 2020 07:15:20 GMT\r\n"
	blocked := Newf(BlockedAddress, "IP 127.0.0.1 is blocked")
	for _, tt := range []struct {
		name               string
		f                  *Failure
		method, connection string
		want               string
	}{
		{"to a POST", blocked, "POST", "",
			"HTTP/1.1 403 Forbidden\r\n" + begin + "X-Whsentry-Reason: IP 127.0.0.1 is blocked\r\nX-Whsentry-Reasoncode: 1000\r\n" + date +
				"Content-Length: 24\r\n\r\nIP 127.0.0.1 is blocked\n"},
		{"to a HEAD", blocked, "HEAD", "",
			"HTTP/1.1 403 Forbidden\r\n" + begin + "X-Whsentry-Reason: IP 127.0.0.1 is blocked\r\nX-Whsentry-Reasoncode: 1000\r\n" + date +
				"Content-Length: 24\r\n\r\n"},
		{"to a CONNECT", blocked, "CONNECT", "",
			"HTTP/1.1 403 IP 127.0.0.1 is blocked\r\n" + begin + "X-Whsentry-Reason: IP 127.0.0.1 is blocked\r\nX-Whsentry-Reasoncode: 1000\r\n" + date +
				"Content-Length: 24\r\n\r\nIP 127.0.0.1 is blocked\n"},
		{"that closes", Malformedf("bad"), "", "close",
			"HTTP/1.1 400 Bad Request\r\n" + begin + "X-Whsentry-Reason: malformed request: bad\r\nX-Whsentry-Reasoncode: 1002\r\n" + date +
				"Content-Length: 23\r\nConnection: close\r\n\r\nmalformed request: bad\n"},
		{"to a 1.0 client that stays", blocked, "GET", "keep-alive",
			"HTTP/1.1 403 Forbidden\r\n" + begin + "X-Whsentry-Reason: IP 127.0.0.1 is blocked\r\nX-Whsentry-Reasoncode: 1000\r\n" + date +
				"Content-Length: 24\r\nConnection: keep-alive\r\n\r\nIP 127.0.0.1 is blocked\n"},
		{"with Retry-After", Newf(TooMany, "too many"), "GET", "",
			"HTTP/1.1 503 Service Unavailable\r\n" + begin + "X-Whsentry-Reason: too many\r\nX-Whsentry-Reasoncode: 1014\r\n" + date +
				"Content-Length: 9\r\nRetry-After: 1\r\n\r\ntoo many\n"},
		{"with line ends in it", Newf(Certificate, "for \"a\r\nSet-Cookie: b\x00\""), "CONNECT", "",
			"HTTP/1.1 502 for \"a\\x0d\\x0aSet-Cookie: b\\x00\"\r\n" + begin + "X-Whsentry-Reason: for \"a\\x0d\\x0aSet-Cookie: b\\x00\"\r\nX-Whsentry-Reasoncode: 1007\r\n" + date +
				"Content-Length: 33\r\n\r\nfor \"a\\x0d\\x0aSet-Cookie: b\\x00\"\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, body := AppendAnswer(nil, tt.f, answerTime, tt.method, tt.connection)
			if string(got) != tt.want {
				t.Errorf("got %q; want %q", got, tt.want)
			}
			if _, want, _ := strings.Cut(tt.want, "\r\n\r\n"); body != len(want) {
				t.Errorf("got a body of %d bytes; want %d", body, len(want))
			}
		})
	}
}

// TestReasonStatus holds the table of reasons and statuses against the contract's.
func TestReasonStatus(t *testing.T) {
	want := map[Code]int{
		1000: 403, 1001: 502, 1002: 400, 1003: 400, 1004: 502, 1005: 502, 1006: 502, 1007: 502, 1008: 502, 1009: 500,
		1010: 400, 1011: 502, 1012: 413, 1013: 403, 1014: 503, 1015: 405, 1016: 407, 1017: 408,
	}
	for r := First; r <= Last; r++ {
		if got := Newf(r, "").Status; got != want[r] {
			t.Errorf("%d: got status %d; want %d", r, got, want[r])
		}
	}
	if got := LargeHeadf("").Status; got != 431 {
		t.Errorf("a large head: got status %d; want 431", got)
	}
}

// What this host has run out of is not the destination's fault, nor the resolver's.
func TestReasonOutOfDescriptors(t *testing.T) {
	addr := netip.MustParseAddrPort("192.0.2.1:80")
	for _, tt := range []struct {
		name string
		err  error
		want Code
	}{
		{"connecting", &guard.ConnectError{Addr: addr, Err: os.NewSyscallError("socket", syscall.EMFILE)}, TooMany},
		{"connecting, the system's", &guard.ConnectError{Addr: addr, Err: os.NewSyscallError("socket", syscall.ENFILE)}, TooMany},
		{"connecting, refused", &guard.ConnectError{Addr: addr, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, Unreachable},
		{"looking up", &guard.ResolveError{Host: "x.example", Err: fmt.Errorf("no resolver answers: %w", syscall.EMFILE)}, TooMany},
		{"looking up, refused", &guard.ResolveError{Host: "x.example", Err: fmt.Errorf("no resolver answers: %w", syscall.ECONNREFUSED)}, Unresolved},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := OfConnect(tt.err, "x.example", time.Second)
			if f.Code != tt.want {
				t.Errorf("got %d (%s); want %d", f.Code, f.Text, tt.want)
			}
		})
	}
}

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

// checkAnswer holds that an answer is one whole response, whatever its text is made of.
func checkAnswer(t *testing.T, text, method string) {
	t.Helper()
	f := Newf(Certificate, "%s", text)
	answer, _ := AppendAnswer(nil, f, answerTime, method, "")
	r := bufio.NewReader(strings.NewReader(string(answer) + "next"))
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if method == "CONNECT" && err == nil {
		resp.Body = io.NopCloser(io.LimitReader(r, resp.ContentLength))
	}
	if err != nil {
		t.Fatalf("%q is not a response: %v", answer, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read the body of %q: %v", answer, err)
	}
	want := string(AppendText(nil, text))
	if method != "HEAD" && string(body) != want+"\n" {
		t.Errorf("got the body %q; want %q and a newline", body, want)
	}
	if got := resp.Header.Get("X-Whsentry-Reason"); got != strings.Trim(want, " ") {
		t.Errorf("got the reason %q; want %q", got, want)
	}
	if method == "CONNECT" && !strings.HasSuffix(resp.Status, strings.TrimLeft(want, " ")) {
		t.Errorf("got the status %q; want %q in it", resp.Status, want)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "next" {
		t.Errorf("got %q behind the answer; want %q", rest, "next")
	}
	if len(resp.Header) != 6 {
		t.Errorf("got the fields %v; want six", resp.Header)
	}
	if !utf8.ValidString(want) {
		t.Errorf("got %q; want UTF-8", want)
	}
}

func TestAnswersAreOneResponse(t *testing.T) {
	for _, text := range []string{"", "plain", "a\r\n\r\nHTTP/1.1 200 OK", "a\nX-Forged: 1", "\r\r\n\x00", "\xff\xfe", "üml\u2028aut", strings.Repeat("\n", 5000)} {
		for _, method := range []string{"GET", "HEAD", "CONNECT"} {
			checkAnswer(t, text, method)
		}
	}
}
