package reason

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dunglas/httpsfv"
)

var answerTime = time.Date(2020, 9, 18, 9, 15, 20, 999, time.FixedZone("CEST", 2*60*60))

// outcome is the four fields that end an answer's head.
func outcome(proxyStatus, source, delivered, retry string) string {
	return "Proxy-Status: whsentry; " + proxyStatus + "\r\nX-Whsentry-Source: " + source + "\r\nX-Whsentry-Delivered: " + delivered +
		"\r\nX-Whsentry-Retry: " + retry + "\r\n"
}

func TestAnswerByteForByte(t *testing.T) {
	const begin = "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
	const date = "Date: Fri, 18 Sep 2020 07:15:20 GMT\r\n"
	const blockedHead = begin + "X-Whsentry-Reason: IP 127.0.0.1 is blocked\r\nX-Whsentry-Reasoncode: 1000\r\n" + date + "Content-Length: 24\r\n"
	blocked := Newf(BlockedAddress, "IP 127.0.0.1 is blocked")
	blockedOutcome := outcome(`error=destination_ip_prohibited; details="IP 127.0.0.1 is blocked"`, "policy", "no", "no")
	happened := func(f *Failure, written bool, status int) *Failure {
		f.Happened(written, status)
		return f
	}
	unknown := Newf(Unauthorized, "who are you")
	check := Newf(Malformed, "method").With(405, SourceClient)
	check.Allow = "GET, HEAD"
	waits := Newf(BreakerOpen, "open")
	waits.RetryAfter = 27
	for _, tt := range []struct {
		name               string
		f                  *Failure
		method, connection string
		want               string
	}{
		{"to a POST", blocked, "POST", "",
			"HTTP/1.1 403 Forbidden\r\n" + blockedHead + blockedOutcome + "\r\nIP 127.0.0.1 is blocked\n"},
		{"to a HEAD", blocked, "HEAD", "",
			"HTTP/1.1 403 Forbidden\r\n" + blockedHead + blockedOutcome + "\r\n"},
		{"to a CONNECT", blocked, "CONNECT", "",
			"HTTP/1.1 403 IP 127.0.0.1 is blocked (1000)\r\n" + blockedHead + blockedOutcome + "\r\nIP 127.0.0.1 is blocked\n"},
		{"that closes", Malformedf("bad"), "", "close",
			"HTTP/1.1 400 Bad Request\r\n" + begin + "X-Whsentry-Reason: malformed request: bad\r\nX-Whsentry-Reasoncode: 1002\r\n" + date +
				"Content-Length: 23\r\nConnection: close\r\n" +
				outcome(`error=http_request_error; details="malformed request: bad"`, "client", "no", "no") + "\r\nmalformed request: bad\n"},
		{"to a 1.0 client that stays", blocked, "GET", "keep-alive",
			"HTTP/1.1 403 Forbidden\r\n" + blockedHead + "Connection: keep-alive\r\n" + blockedOutcome + "\r\nIP 127.0.0.1 is blocked\n"},
		{"with Retry-After", Newf(TooMany, "too many"), "GET", "",
			"HTTP/1.1 503 Service Unavailable\r\n" + begin + "X-Whsentry-Reason: too many\r\nX-Whsentry-Reasoncode: 1014\r\n" + date +
				"Content-Length: 9\r\nRetry-After: 1\r\n" + outcome(`error=connection_limit_reached; details="too many"`, "proxy", "no", "later") + "\r\ntoo many\n"},
		{"with a Retry-After of its own", waits, "GET", "close",
			"HTTP/1.1 503 Service Unavailable\r\n" + begin + "X-Whsentry-Reason: open\r\nX-Whsentry-Reasoncode: 1018\r\n" + date +
				"Content-Length: 5\r\nRetry-After: 27\r\nConnection: close\r\n" +
				outcome(`error=destination_unavailable; details="open"`, "destination", "no", "later") + "\r\nopen\n"},
		{"with a challenge", unknown, "GET", "",
			"HTTP/1.1 407 Proxy Authentication Required\r\n" + begin + "X-Whsentry-Reason: who are you\r\nX-Whsentry-Reasoncode: 1016\r\n" + date +
				"Content-Length: 12\r\nProxy-Authenticate: Basic realm=\"whsentry\"\r\n" +
				outcome(`error=http_request_denied; details="who are you"`, "client", "no", "no") + "\r\nwho are you\n"},
		{"with Allow", check, "POST", "",
			"HTTP/1.1 405 Method Not Allowed\r\n" + begin + "X-Whsentry-Reason: method\r\nX-Whsentry-Reasoncode: 1002\r\n" + date +
				"Content-Length: 7\r\nAllow: GET, HEAD\r\n" + outcome(`error=http_request_error; details="method"`, "client", "no", "no") + "\r\nmethod\n"},
		{"for what was answered", happened(Newf(LargeResponse, "too large"), true, 201), "POST", "",
			"HTTP/1.1 502 Bad Gateway\r\n" + begin + "X-Whsentry-Reason: too large\r\nX-Whsentry-Reasoncode: 1008\r\n" + date +
				"Content-Length: 10\r\n" + outcome(`error=http_response_body_size; received-status=201; details="too large"`, "destination", "yes", "no") + "\r\ntoo large\n"},
		{"with line ends in it", Newf(Certificate, "for \"a\r\nSet-Cookie: b\x00\""), "CONNECT", "",
			"HTTP/1.1 502 for \"a\\x0d\\x0aSet-Cookie: b\\x00\" (1007)\r\n" + begin + "X-Whsentry-Reason: for \"a\\x0d\\x0aSet-Cookie: b\\x00\"\r\nX-Whsentry-Reasoncode: 1007\r\n" + date +
				"Content-Length: 33\r\n" + outcome(`error=tls_certificate_error; details="for \"a\\x0d\\x0aSet-Cookie: b\\x00\""`, "destination", "no", "later") +
				"\r\nfor \"a\\x0d\\x0aSet-Cookie: b\\x00\"\n"},
		{"beyond ASCII", Newf(Certificate, "bücher"), "GET", "",
			"HTTP/1.1 502 Bad Gateway\r\n" + begin + "X-Whsentry-Reason: bücher\r\nX-Whsentry-Reasoncode: 1007\r\n" + date +
				"Content-Length: 8\r\n" + outcome(`error=tls_certificate_error; details="b\\xc3\\xbccher"`, "destination", "no", "later") + "\r\nbücher\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			got, body := cfg.AppendAnswer(nil, tt.f, answerTime, tt.method, tt.connection)
			if string(got) != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if _, want, _ := strings.Cut(tt.want, "\r\n\r\n"); body != len(want) {
				t.Errorf("got a body of %d bytes; want %d", body, len(want))
			}
		})
	}
}

// What belongs to an answer is there whatever errorHeaders says; what it lists follows, in one order.
func TestErrorHeaders(t *testing.T) {
	f := Newf(Unreachable, "no")
	for _, tt := range []struct {
		name    string
		headers []string
		want    string // after Content-Length
	}{
		{"none", nil, ""},
		{"ours", []string{"whsentry"}, "X-Whsentry-Source: destination\r\nX-Whsentry-Delivered: no\r\nX-Whsentry-Retry: later\r\n"},
		{"the standard's", []string{"proxy-status"}, "Proxy-Status: whsentry; error=connection_refused; details=\"no\"\r\n"},
		{"all, turned round", []string{"envoy", "proxy-status", "whsentry"}, outcome(`error=connection_refused; details="no"`, "destination", "no", "later") +
			"x-envoy-response-flags: UF\r\nx-envoy-response-code-details: upstream_reset_before_response_started{connection_failure}\r\n"},
	} {
		answer, _ := (&Config{ErrorHeaders: tt.headers}).AppendAnswer(nil, f, answerTime, "HEAD", "")
		_, got, _ := strings.Cut(string(answer), "Content-Length: 3\r\n")
		if got != tt.want+"\r\n" {
			t.Errorf("%s: got %q; want %q", tt.name, got, tt.want)
		}
	}
}

func TestEnvoy(t *testing.T) {
	const reset = " upstream_reset_before_response_started"
	after := func(f *Failure) *Failure {
		f.Happened(true, 0)
		return f
	}
	want := map[Code]string{
		1000: "UAEX rbac_access_denied_matched_policy[whsentry]", 1013: "UAEX rbac_access_denied_matched_policy[whsentry]",
		1019: "UAEX rbac_access_denied_matched_policy[whsentry]", 1001: "DF dns_resolution_failure",
		1004: "UF" + reset + "{connection_timeout}", 1005: "UF" + reset + "{connection_failure}", 1006: "UF" + reset + "{connection_failure}",
		1007: "UF" + reset + "{connection_failure}", 1011: "UPE" + reset + "{protocol_error}",
		1014: "UO overflow", 1018: "UO overflow", 1020: "UO overflow",
	}
	for c := First; c <= Last; c++ {
		flags, details := Newf(c, "").envoy()
		if w := want[c]; flags+" "+details != w && (w != "" || flags != "-" || details != "direct_response") {
			t.Errorf("%d: got %s %s; want %s", c, flags, details, w)
		}
	}
	for _, tt := range []struct {
		name string
		f    *Failure
		want string
	}{
		{"timed out after the request", after(Newf(Timeout, "")), "UT upstream_response_timeout"},
		{"closed before an answer", Terminatedf(""), "UC" + reset + "{connection_termination}"},
		{"closed within the answer", Incompletef(""), "UC" + reset + "{connection_termination}"},
		{"head too large", LargeResponseHeadf(""), "UPE" + reset + "{protocol_error}"},
	} {
		if flags, details := tt.f.envoy(); flags+" "+details != tt.want {
			t.Errorf("%s: got %s %s; want %s", tt.name, flags, details, tt.want)
		}
	}
}

// Under reasonText generic the text is of the code alone, in every place; the failure keeps the full one for the logs.
func TestGenericText(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Text = TextGeneric
	for c := First; c <= Last; c++ {
		f := Newf(c, "203.0.113.7:443 hooks.example.com")
		answer, _ := cfg.AppendAnswer(nil, f, answerTime, "CONNECT", "")
		if strings.Contains(string(answer), "203.0") || strings.Contains(string(answer), "hooks.example") {
			t.Errorf("%d: got the address in %q", c, answer)
		}
		if n := strings.Count(string(answer), c.Generic()); n < 4 || c.Generic() == "" {
			t.Errorf("%d: got %q %d times in %q; want it in status line, reason, details and body", c, c.Generic(), n, answer)
		}
	}
}

// checkAnswer holds that an answer is one whole response, whatever its text is made of.
func checkAnswer(t *testing.T, text, method string) {
	t.Helper()
	f := Newf(Certificate, "%s", text)
	cfg := DefaultConfig()
	answer, _ := cfg.AppendAnswer(nil, f, answerTime, method, "")
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
	if method == "CONNECT" && !strings.HasSuffix(resp.Status, strings.TrimLeft(want+" (1007)", " ")) {
		t.Errorf("got the status %q; want %q in it", resp.Status, want)
	}
	item, err := httpsfv.UnmarshalItem(resp.Header.Values("Proxy-Status"))
	if err != nil {
		t.Fatalf("got Proxy-Status %q: %v", resp.Header.Values("Proxy-Status"), err)
	}
	if details, _ := item.Params.Get("details"); details != string(appendASCII(nil, want)) {
		t.Errorf("got the details %q; want %q", details, want)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "next" {
		t.Errorf("got %q behind the answer; want %q", rest, "next")
	}
	if len(resp.Header) != 10 {
		t.Errorf("got the fields %v; want ten", resp.Header)
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
