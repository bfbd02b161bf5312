package accesslog

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

	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
)

// hostile are strings from outside that have forged logs before.
var hostile = []string{
	"", " ", "\n", "\r\n[2026-11-23T09:30:00Z] 1 1.1.1.1:1 GET http://ok/ 200 1ms", "a b", "\"", `\`, `\n`, `","reason":"`, "\x00", "\x1b[2J", "\x7f",
	"\u0085", "\u2028", "\u202e", "ä", "\xff", "\xc3", "\xed\xa0\x80", "</script>", "%0a", strings.Repeat("\n", 3000),
}

// logged is what comes from outside into a line of the access log.
type logged struct{ id, method, url string }

var logTime = time.Date(2026, 11, 23, 9, 30, 0, 123456789, time.UTC)

// recordOf is a record of which nothing is known but what in holds: the log must not rely on what a parser keeps out.
func recordOf(in logged) *Record {
	return &Record{
		At: logTime, Took: 12 * time.Millisecond, ID: []byte(in.id), ClientAddr: "10.0.0.7:51324", Method: []byte(in.method), URL: []byte(in.url),
		Status: 200, Phases: [metrics.Phases]time.Duration{-1, -1, -1, -1},
	}
}

func textLine(r *Record) string { return string(new(Log).appendText(nil, r)) }

func TestAccessLogText(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   logged
		want string // between the time and the status
	}{
		{"plain", logged{"7", "POST", "https://example.com/hook"}, "7 10.0.0.7:51324 POST https://example.com/hook"},
		{"nothing known", logged{"7", "", ""}, "7 10.0.0.7:51324 - -"},
		{"what is no word", logged{"a b\n\\", "G E\nT", "http://h/ä\xff\x7f\x00"}, `a\x20b\x0a\x5c 10.0.0.7:51324 G\x20E\x0aT http://h/\xc3\xa4\xff\x7f\x00`},
	} {
		if got, want := textLine(recordOf(tt.in)), "[2026-11-23T09:30:00Z] "+tt.want+" 200 12ms 0 -\n"; got != want {
			t.Errorf("%s: got %q; want %q", tt.name, got, want)
		}
	}
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
var textWords = regexp.MustCompile(`^\[2026-11-23T09:30:00Z\] [!-~]+ 10\.0\.0\.7:51324 [!-~]+ [!-~]+ 200 12ms \d{1,4} [!-~]+\n$`)

func checkTextLine(t *testing.T, in logged) {
	t.Helper()
	if got := textLine(recordOf(in)); !textWords.MatchString(got) {
		t.Errorf("got %q of %+v; want one line of nine words", got, in)
	}
}

func checkJSONLine(t *testing.T, in logged, reasonText string) {
	t.Helper()
	r := recordOf(in)
	r.Code, r.Text = reason.Malformed, reasonText
	r.Upstream = netip.MustParseAddrPort("[2001:db8::1]:443")
	var out bytes.Buffer
	l := &Log{json: true, logger: zerolog.New(&out)}
	l.logJSON(r)
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

// jsonLine is the line of r as JSON.
func jsonLine(r *Record) string {
	var out bytes.Buffer
	l := &Log{json: true, logger: zerolog.New(&out)}
	l.logJSON(r)
	return out.String()
}

func TestAccessLogJSON(t *testing.T) {
	const begin = `{"time":"2026-11-23T09:30:00.123Z","rq_id":"7","client_addr":"10.0.0.7:51324",`
	const request = `"method":"POST","url":"https://h/a","response_code":`
	const bytes = `"request_bytes":0,"response_bytes":0}` + "\n"
	for _, tt := range []struct {
		name string
		fill func(*Record)
		want string
	}{
		{"nothing but what is always there", func(*Record) {}, begin + request + `200,"response_time_ms":12,` + bytes},
		{"everything", func(r *Record) {
			r.At, r.Took = logTime.In(time.FixedZone("", -5*60*60)), 0
			r.Client, r.Status, r.Code, r.Text = "billing", 502, reason.Timeout, "timed out\n"
			r.Source, r.Delivered, r.Received = reason.SourceDestination, reason.DeliveredYes, 201
			r.Untidy, r.Closed, r.WouldDeny = []string{"bare_lf", "folded"}, "idle", reason.NotAllowed
			r.Upstream, r.Reused, r.TLSVersion = netip.MustParseAddrPort("192.0.2.1:443"), true, "TLSv1.3"
			r.TraceID, r.RequestBytes, r.ResponseBytes = []byte(traceID), 3, 4
			r.Phases = [metrics.Phases]time.Duration{1500 * time.Microsecond, 2 * time.Millisecond, 3 * time.Millisecond, 0}
		}, `{"time":"2026-11-23T04:30:00.123-05:00","rq_id":"7","client_addr":"10.0.0.7:51324","client":"billing",` + request + `502,"response_time_ms":0,` +
			`"reason_code":1004,"reason":"timed out\\x0a","source":"destination","delivered":"yes","received_status":201,"untidy":["bare_lf","folded"],` +
			`"closed":"idle","would_deny":1019,"upstream_addr":"192.0.2.1:443","conn_reused":true,"tls_version":"TLSv1.3","trace_id":"` + traceID + `",` +
			`"request_bytes":3,"response_bytes":4,"dns_ms":1,"connect_ms":2,"tls_ms":3,"first_byte_ms":0}` + "\n"},
		{"nothing was delivered", func(r *Record) {
			r.Status, r.Code, r.Text, r.Source = 403, reason.BlockedAddress, "IP 10.0.0.1 is blocked", reason.SourcePolicy
		}, begin + request + `403,"response_time_ms":12,"reason_code":1000,"reason":"IP 10.0.0.1 is blocked","source":"policy","delivered":"no",` + bytes},
		{"nothing was reached", func(r *Record) {
			r.Status, r.Code, r.Text, r.Source = 502, reason.Unreachable, "no", reason.SourceDestination
			r.Tried = netip.MustParseAddrPort("192.0.2.1:443")
		}, begin + request + `502,"response_time_ms":12,"reason_code":1006,"reason":"no","source":"destination","delivered":"no","upstream_addr":"192.0.2.1:443",` + bytes},
		{"the client went away", func(r *Record) { r.Status, r.Gone, r.Delivered, r.Received = 499, true, reason.DeliveredMaybe, 0 },
			begin + request + `499,"response_time_ms":12,"delivered":"maybe",` + bytes},
		{"the destination's own 499", func(r *Record) { r.Status = 499 }, begin + request + `499,"response_time_ms":12,` + bytes},
		{"the client went away from an answer", func(r *Record) { r.Status, r.Gone, r.Delivered, r.Received = 499, true, reason.DeliveredYes, 200 },
			begin + request + `499,"response_time_ms":12,"delivered":"yes",` + bytes},
	} {
		r := recordOf(logged{"7", "POST", "https://h/a"})
		tt.fill(r)
		if got := jsonLine(r); got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

func TestAccessLogTextColumns(t *testing.T) {
	r := recordOf(logged{"7", "POST", "https://example.com/hook"})
	r.Upstream = netip.MustParseAddrPort("93.184.216.34:443")
	want := "[2026-11-23T09:30:00Z] 7 10.0.0.7:51324 POST https://example.com/hook 200 12ms 0 93.184.216.34:443\n"
	if got := textLine(r); got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	r.Status, r.Code, r.Upstream, r.Tried = 502, reason.Timeout, netip.AddrPort{}, netip.MustParseAddrPort("[2001:db8::1]:80")
	want = "[2026-11-23T09:30:00Z] 7 10.0.0.7:51324 POST https://example.com/hook 502 12ms 1004 [2001:db8::1]:80\n"
	if got := textLine(r); got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}

// FuzzAccessLogText holds that a line of the log is one line of nine words, or one JSON object, whatever comes in.
func FuzzAccessLogText(f *testing.F) {
	for _, s := range hostile {
		f.Add(s, s, s)
		f.Add(s, "GET", "http://"+s+"@h/")
	}
	f.Fuzz(func(t *testing.T, id, method, url string) {
		in := logged{id, method, url}
		checkTextLine(t, in)
		checkJSONLine(t, in, url)
	})
}
