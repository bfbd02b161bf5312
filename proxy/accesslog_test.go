package proxy

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"

	"whsentry/proxy/http1"
)

// logged is what comes from outside into a line of the access log.
type logged struct{ id, method, target string }

// exchangeOf is an exchange of which nothing is known but what in holds, as if it had been scanned: the log must
// not rely on what a parser keeps out.
func exchangeOf(in logged, mode string) *exchange {
	cfg := DefaultConfig()
	cfg.AccessLog.URL = mode
	ex := acquireExchange()
	ex.begin(&client{addr: "10.0.0.7:51324", proxy: proxyWith(&cfg)})
	ex.head.Raw, ex.head.ID = []byte(in.id), http1.Span{To: int32(len(in.id))}
	ex.head.Method, ex.head.Target = []byte(in.method), []byte(in.target)
	ex.status = 200
	if t, f := http1.ParseTarget([]byte(in.target)); f == nil {
		ex.authority, ex.path, ex.tls = t.Authority.Raw, t.Path, t.HTTPS
	}
	return ex
}

func proxyWith(cfg *Config) *Proxy {
	p := new(Proxy)
	p.run.Store(&run{cfg: cfg})
	return p
}

var logTime = time.Date(2026, 11, 23, 9, 30, 0, 123456789, time.UTC)

func textLine(ex *exchange) string {
	return string(new(accessLog).appendText(nil, ex, logTime, 12*time.Millisecond))
}

func TestAccessLogText(t *testing.T) {
	for _, tt := range []struct {
		name, mode string
		in         logged
		want       string // between the client's address and the status
	}{
		{"plain", URLFull, logged{"7", "POST", "https://example.com/hook"}, "POST https://example.com/hook"},
		{"host in capitals", URLFull, logged{"7", "POST", "HTTP://Example.com:80/a?b=c"}, "POST http://Example.com:80/a?b=c"},
		{"path", URLPath, logged{"7", "GET", "http://h/a?token=b"}, "GET http://h/a"},
		{"path without one", URLPath, logged{"7", "GET", "http://h?token=b"}, "GET http://h"},
		{"host", URLHost, logged{"7", "GET", "http://h:81/a?token=b"}, "GET http://h:81"},
		{"space and line ends", URLFull, logged{"7", "G E\nT", "http://h/\r\n[x] y"}, `G\x20E\x0aT http://h/\x0d\x0a[x]\x20y`},
		{"backslash", URLFull, logged{"7", "GET", `http://h/\x20`}, `GET http://h/\x5cx20`},
		{"beyond ASCII", URLFull, logged{"7", "GET", "http://h/ä\xff\x7f\x00"}, `GET http://h/\xc3\xa4\xff\x7f\x00`},
		{"nothing known", URLFull, logged{"7", "", ""}, "- -"},
		{"origin form", URLFull, logged{"7", "GET", "/a?b@c"}, "GET /a?b@c"},
		{"origin form, path", URLPath, logged{"7", "GET", "/a?b"}, "GET /a"},
		{"origin form, host", URLHost, logged{"7", "GET", "/a?b"}, "GET -"},
		{"asterisk", URLFull, logged{"7", "OPTIONS", "*"}, "OPTIONS *"},
		{"another scheme", URLFull, logged{"7", "GET", "ftp://h/a"}, "GET ftp://h/a"},
		{"another scheme, path", URLPath, logged{"7", "GET", "ftp://h/a?b"}, "GET ftp://h/a"},
		{"fragment, path", URLPath, logged{"7", "GET", "http://h/a#token"}, "GET http://h/a"},
		{"@ in a path", URLFull, logged{"7", "GET", "http://h/a@b#c"}, "GET http://h/a@b#c"},
		{"@ behind a bad port", URLFull, logged{"7", "GET", "http://h:0/?mail=a@b"}, "GET http://b"},

		{"user", URLFull, logged{"7", "GET", "http://user@h/a"}, "GET http://h/a"},
		{"user and password", URLFull, logged{"7", "GET", "http://user:secret@h/a?b"}, "GET http://h/a?b"},
		{"user and password, path", URLPath, logged{"7", "GET", "http://user:secret@h/a?b"}, "GET http://h/a"},
		{"user and password, host", URLHost, logged{"7", "GET", "http://user:secret@h/a?b"}, "GET http://h"},
		{"slash in a password, host", URLHost, logged{"7", "GET", "http://user:sec/ret@h/a"}, "GET -"},
		{"another scheme, host", URLHost, logged{"7", "GET", "ftp://h:21/a?b#c"}, "GET ftp://h:21"},
		{"no scheme, host", URLHost, logged{"7", "GET", "//user:secret@h/a"}, "GET -"},
		{"two @", URLFull, logged{"7", "GET", "http://user:sec@ret@h/a"}, "GET http://h/a"},
		{"@ in a path behind a user", URLFull, logged{"7", "GET", "http://user:secret@h/a@b"}, "GET http://h/a@b"},
		{"slash in a password", URLFull, logged{"7", "GET", "http://user:sec/ret@h/a"}, "GET http://h/a"},
		{"question mark in a password", URLPath, logged{"7", "GET", "http://user:sec?ret@h/a?b"}, "GET http://h/a"},
		{"number sign in a password", URLPath, logged{"7", "GET", "http://user:sec#ret@h/a"}, "GET http://h/a"},
		{"user without a scheme", URLFull, logged{"7", "GET", "user:secret@h/a"}, "GET h/a"},
		{"user without slashes", URLFull, logged{"7", "GET", "http:user:secret@h/a"}, "GET h/a"},
		{"user with one slash", URLFull, logged{"7", "GET", "http:/user:secret@h/a"}, "GET h/a"},
		{"user without a scheme and two slashes later", URLFull, logged{"7", "GET", "user:secret@h//a"}, "GET h//a"},
		{"user with backslashes", URLFull, logged{"7", "GET", `http:\\user:secret@h/a`}, "GET h/a"},
		{"user without a scheme but slashes", URLFull, logged{"7", "GET", "//user:secret@h/a"}, "GET //h/a"},
		{"user of another scheme", URLFull, logged{"7", "GET", "ftp://user:secret@h/a"}, "GET ftp://h/a"},
		{"user in a CONNECT", URLFull, logged{"7", "CONNECT", "user:secret@h:443"}, "CONNECT h:443"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := "[2026-11-23T09:30:00Z] 7 10.0.0.7:51324 " + tt.want + " 200 12ms\n"
			got := textLine(exchangeOf(tt.in, tt.mode))
			if got != want {
				t.Errorf("got %q; want %q", got, want)
			}
			if strings.Contains(got, "sec") || strings.Contains(got, "ret@") {
				t.Errorf("got a password in %q", got)
			}
		})
	}
}

func TestAccessLogOfATunnel(t *testing.T) {
	for _, mode := range []string{URLFull, URLPath, URLHost} {
		ex := exchangeOf(logged{"7", "CONNECT", "h:443"}, mode)
		ex.connect, ex.authority = true, []byte("h:443")
		want := "[2026-11-23T09:30:00Z] 7 10.0.0.7:51324 CONNECT h:443 200 12ms\n"
		if got := textLine(ex); got != want {
			t.Errorf("%s: got %q; want %q", mode, got, want)
		}
	}
}

func TestRequestID(t *testing.T) {
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := make(map[string]bool)
	for range 1000 {
		ex := exchangeOf(logged{"", "GET", "/"}, URLFull)
		id := string(ex.requestID())
		if !uuid.MatchString(id) || seen[id] {
			t.Fatalf("got %q; want a UUID that has not been there", id)
		}
		seen[id] = true
	}
	if got := string(exchangeOf(logged{"mine", "GET", "/"}, URLFull).requestID()); got != "mine" {
		t.Errorf("got %q; want the client's own", got)
	}
	if got := textLine(exchangeOf(logged{"a b\n\\", "GET", "/"}, URLFull)); !strings.Contains(got, ` a\x20b\x0a\x5c 10.0.0.7`) {
		t.Errorf("got %q; want the id escaped", got)
	}
}

// hostile are strings from outside that have forged logs before.
var hostile = []string{
	"", " ", "\n", "\r\n[2026-11-23T09:30:00Z] 1 1.1.1.1:1 GET http://ok/ 200 1ms", "a b", "\"", `\`, `\n`, `","reason":"`, "\x00", "\x1b[2J", "\x7f",
	"\u0085", "\u2028", "\u202e", "ä", "\xff", "\xc3", "\xed\xa0\x80", "</script>", "%0a", strings.Repeat("\n", 3000),
}

func TestAccessLogCannotBeForged(t *testing.T) {
	for _, s := range hostile {
		for _, in := range []logged{{s, "GET", "http://h/"}, {"7", s, "http://h/"}, {"7", "GET", s}, {"7", "GET", "http://h/" + s}, {s, s, s}} {
			checkTextLine(t, in)
			checkJSONLine(t, in, s)
		}
	}
}

// textWords is a whole line of the text log.
var textWords = regexp.MustCompile(`^\[2026-11-23T09:30:00Z\] [!-~]+ 10\.0\.0\.7:51324 [!-~]+ [!-~]+ 200 12ms\n$`)

func checkTextLine(t *testing.T, in logged) {
	t.Helper()
	for _, mode := range []string{URLFull, URLPath, URLHost} {
		if got := textLine(exchangeOf(in, mode)); !textWords.MatchString(got) {
			t.Errorf("got %q of %+v; want one line of seven words", got, in)
		}
	}
}

func checkJSONLine(t *testing.T, in logged, reasonText string) {
	t.Helper()
	ex := exchangeOf(in, URLFull)
	ex.reason, ex.reasonText = reasonMalformed, reasonText
	ex.remote = netip.MustParseAddrPort("[2001:db8::1]:443")
	var out bytes.Buffer
	l := &accessLog{json: true, logger: zerolog.New(&out)}
	l.logJSON(ex, logTime, 12*time.Millisecond)
	line := out.String()
	if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") || !utf8.ValidString(line) {
		t.Fatalf("got %q of %+v; want one line of UTF-8", line, in)
	}
	var got map[string]any
	decoder := json.NewDecoder(strings.NewReader(line))
	if err := decoder.Decode(&got); err != nil || decoder.More() {
		t.Fatalf("got %q of %+v: %v; want one JSON object", line, in, err)
	}
	for key, want := range map[string]any{
		"time": "2026-11-23T09:30:00.123Z", "client_addr": "10.0.0.7:51324", "response_code": 200.0, "response_time_ms": 12.0,
		"reason_code": 1002.0, "upstream_addr": "[2001:db8::1]:443",
	} {
		if got[key] != want {
			t.Errorf("%s: got %v; want %v", key, got[key], want)
		}
	}
	if in.method != "" && utf8.ValidString(in.method) && got["method"] != in.method {
		t.Errorf("method: got %q; want %q", got["method"], in.method)
	}
}

func TestAccessLogJSON(t *testing.T) {
	var out bytes.Buffer
	l := &accessLog{json: true, logger: zerolog.New(&out)}
	ex := exchangeOf(logged{"7", "POST", "https://h/a?b"}, URLPath)
	l.logJSON(ex, logTime, 12*time.Millisecond)
	want := `{"time":"2026-11-23T09:30:00.123Z","rq_id":"7","client_addr":"10.0.0.7:51324","method":"POST","url":"https://h/a","response_code":200,"response_time_ms":12,"request_bytes":0,"response_bytes":0}` + "\n"
	if got := out.String(); got != want {
		t.Errorf("got %s; want %s", got, want)
	}

	out.Reset()
	ex = exchangeOf(logged{"7", "POST", "https://h/a?b"}, URLFull)
	ex.status, ex.reason, ex.reasonText = 502, reasonTimeout, "timed out\n"
	ex.remote, ex.reused, ex.tlsVersion = netip.MustParseAddrPort("192.0.2.1:443"), true, "TLSv1.3"
	ex.requestBytes, ex.responseBytes = 3, 4
	ex.phases = [phases]time.Duration{1500 * time.Microsecond, 2 * time.Millisecond, 3 * time.Millisecond, 0}
	l.logJSON(ex, logTime.In(time.FixedZone("", -5*60*60)), 0)
	want = `{"time":"2026-11-23T04:30:00.123-05:00","rq_id":"7","client_addr":"10.0.0.7:51324","method":"POST","url":"https://h/a?b","response_code":502,"response_time_ms":0,` +
		`"reason_code":1004,"reason":"timed out\\x0a","upstream_addr":"192.0.2.1:443","conn_reused":true,"tls_version":"TLSv1.3","request_bytes":3,"response_bytes":4,` +
		`"dns_ms":1,"connect_ms":2,"tls_ms":3,"first_byte_ms":0}` + "\n"
	if got := out.String(); got != want {
		t.Errorf("got %s; want %s", got, want)
	}
}
