package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
)

const uuid = `[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`

func TestTextLog(t *testing.T) {
	t.Parallel()
	o := answering(t, okResponse)
	at := regexp.QuoteMeta(o.addr)
	const stamp, client = `\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)\] `, ` 127\.0\.0\.1:\d+ `
	tests := []struct{ name, mode, request, want string }{
		{"a request", accesslog.URLFull, get(o, "/hook?a=b"), uuid + client + `GET http://` + at + `/hook\?a=b 200 \d+ms 0 ` + at},
		{"its own id", accesslog.URLFull, "GET http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\nreQuest-iD:  abc-1 \r\n\r\n", `abc-1` + client + `GET http://` + at + `/ 200 \d+ms 0 ` + at},
		{"an empty id", accesslog.URLFull, "GET http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\nRequest-ID:\r\n\r\n", uuid + client + `GET http://` + at + `/ 200 \d+ms 0 ` + at},
		{"an id with a space", accesslog.URLFull, "GET http://" + o.addr + "/ HTTP/1.1\r\nHost: x\r\nRequest-ID: a b\\c\x80\r\n\r\n", `a\\x20b\\x5cc\\x80` + client + `GET http://` + at + `/ 200 \d+ms 0 ` + at},
		{"no path", accesslog.URLFull, "GET http://" + o.addr + " HTTP/1.1\r\nHost: x\r\n\r\n", uuid + client + `GET http://` + at + ` 200 \d+ms 0 ` + at},
		{"bytes beyond ASCII", accesslog.URLFull, get(o, "/\xc3\xa9\\\x80"), uuid + client + `GET http://` + at + `/\\xc3\\xa9\\x5c\\x80 200 \d+ms 0 ` + at},
		{"the path alone", accesslog.URLPath, get(o, "/hook?secret"), uuid + client + `GET http://` + at + `/hook 200 \d+ms 0 ` + at},
		{"the path alone, where there is a query alone", accesslog.URLPath, get(o, "?secret"), uuid + client + `GET http://` + at + ` 200 \d+ms 0 ` + at},
		{"the host alone", accesslog.URLHost, get(o, "/hook?secret"), uuid + client + `GET http://` + at + ` 200 \d+ms 0 ` + at},
		{"the host alone, of a CONNECT", accesslog.URLHost, "CONNECT 127.0.0.2:443 HTTP/1.1\r\nHost: x\r\n\r\n", uuid + client + `CONNECT 127\.0\.0\.2:443 403 \d+ms 1000 -`},
		{"the host alone, of a CONNECT that is malformed", accesslog.URLHost, "CONNECT 127.0.0.2:443 HTTP/1.1\r\n\r\n", uuid + client + `CONNECT 127\.0\.0\.2:443 400 \d+ms 1002 -`},
		{"TLS", accesslog.URLFull, "GET http://127.0.0.2/ HTTP/1.1\r\nHost: x\r\nX-WhSentry-TLS: 1\r\n\r\n", uuid + client + `GET https://127\.0\.0\.2/ 403 \d+ms 1000 -`},
		{"TLS by its scheme", accesslog.URLFull, "GET https://127.0.0.2/ HTTP/1.1\r\nHost: x\r\n\r\n", uuid + client + `GET https://127\.0\.0\.2/ 403 \d+ms 1000 -`},
		{"a relative target", accesslog.URLFull, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n", uuid + client + `GET /x 400 \d+ms 1002 -`},
		{"no request at all", accesslog.URLFull, "\x16\x03\x01\x02\x00\x01", uuid + client + `- - 400 \d+ms 1002 -`},
		{"a password", accesslog.URLFull, "GET http://me:secret@127.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n", uuid + client + `GET http://127\.0\.0\.1/ 400 \d+ms 1002 -`},
		{"a password of a CONNECT", accesslog.URLFull, "CONNECT me:secret@127.0.0.1:443 HTTP/1.1\r\nHost: x\r\n\r\n", uuid + client + `CONNECT 127\.0\.0\.1:443 400 \d+ms 1002 -`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.AccessLog.URL = tt.mode })
			s.exchange(tt.request)
			want := "^" + stamp + tt.want + "$"
			if line := s.logLines(1)[0]; !regexp.MustCompile(want).MatchString(line) {
				t.Errorf("got %q; want %s", line, want)
			}
		})
	}
}

// The keys that every JSON line has, and those of one that was forwarded over a new connection.
var (
	always    = []string{"time", "rq_id", "client_addr", "method", "url", "response_code", "response_time_ms", "request_bytes", "response_bytes"}
	refused   = slices.Concat(always, outcome)
	outcome   = []string{"reason_code", "reason", "source", "delivered"}
	reused    = slices.Concat(always, []string{"upstream_addr", "conn_reused", "first_byte_ms"})
	forwarded = slices.Concat(reused, []string{"connect_ms"})
)

func TestJSONLog(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.AccessLog.Type = accesslog.JSON })
	o := answering(t, okResponse)
	broken := answeringOnce(t, "nonsense\r\n")
	for i, tt := range []struct {
		name, request string
		keys          []string
		values        map[string]any
	}{
		{"a new connection", post(o, "/a?b", "12345"), forwarded, map[string]any{
			"method": "POST", "url": "http://" + o.addr + "/a?b", "response_code": 200.0, "upstream_addr": o.addr,
			"conn_reused": false, "request_bytes": 5.0, "response_bytes": 2.0}},
		{"a reused one", post(o, "/", ""), reused, map[string]any{"conn_reused": true, "request_bytes": 0.0, "response_bytes": 2.0}},
		{"chunks are counted without their framing", postChunked(o, "/", "12345678", 3), reused, map[string]any{"request_bytes": 8.0}},
		{"refused", "GET http://127.0.0.2/ HTTP/1.1\r\nHost: x\r\n\r\n", refused, map[string]any{
			"response_code": 403.0, "reason_code": 1000.0, "reason": "IP 127.0.0.2 is blocked", "source": "policy",
			"delivered": "no", "response_bytes": 24.0}},
		{"a bad answer", get(broken, "/"), slices.Concat(forwarded, outcome), map[string]any{
			"response_code": 502.0, "reason_code": 1011.0, "source": "destination", "delivered": "maybe", "upstream_addr": broken.addr}},
		{"no request", "\x00", refused, map[string]any{"method": "-", "url": "-", "response_code": 400.0, "reason_code": 1002.0}},
		{"what is no UTF-8", "GET http://" + o.addr + "/\xff\xfe\"\\ HTTP/1.1\r\nHost: x\r\nRequest-ID: \xc3\x28\t\"\r\n\r\n", reused, nil},
	} {
		s.exchange(tt.request)
		line := s.jsonLines(i + 1)[i]
		if raw := s.logLines(i + 1)[i]; !utf8.ValidString(raw) {
			t.Errorf("%s: the line %q is not UTF-8", tt.name, raw)
		}
		got, want := slices.Sorted(maps.Keys(line)), slices.Sorted(slices.Values(tt.keys))
		if !slices.Equal(got, want) {
			t.Errorf("%s: got the keys %v; want %v", tt.name, got, want)
		}
		for key, value := range tt.values {
			if line[key] != value {
				t.Errorf("%s: got %s = %v; want %v", tt.name, key, line[key], value)
			}
		}
		if stamp, _ := line["time"].(string); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d)$`).MatchString(stamp) {
			t.Errorf("%s: got the time %q; want RFC 3339 with milliseconds", tt.name, stamp)
		}
	}
}

func TestJSONLogOverTLS(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.AccessLog.Type = accesslog.JSON })
	o := answering(t, okResponse) // which does not speak TLS
	s.exchange("GET https://"+o.addr+"/ HTTP/1.1\r\nHost: x\r\n\r\n").check(t, "502 Bad Gateway", "1005")
	line := s.jsonLines(1)[0]
	if line["upstream_addr"] != o.addr || line["url"] != "https://"+o.addr+"/" || line["reason_code"] != 1005.0 {
		t.Errorf("got the line %v; want the address, an https URL and 1005", line)
	}
	for key, want := range map[string]bool{"tls_ms": true, "connect_ms": true, "tls_version": false, "first_byte_ms": false, "dns_ms": false} {
		if _, got := line[key]; got != want {
			t.Errorf("got %s there: %v; want %v", key, got, want)
		}
	}
}

// Everything hostile that a log line can hold leaves it one line, and one of as many words as ever.
func TestLogCannotBeForged(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	hostile := []string{
		"GET http://x/\x1b[31m HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://127.0.0.2/ HTTP/1.1\r\nHost: x\r\nRequest-ID: a 10.0.0.1:1 GET http://good/ 200 1ms\r\n\r\n",
		"GET http://a\u2028b/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"G\x00T http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://x/\n[2026-01-01T00:00:00Z] forged HTTP/1.1\r\nHost: x\r\n\r\n",
	}
	for _, request := range hostile {
		s.exchange(request)
	}
	lines := s.logLines(len(hostile))
	if len(lines) != len(hostile) {
		t.Errorf("got %d lines; want %d", len(lines), len(hostile))
	}
	for _, line := range lines {
		if words := len(strings.Split(line, " ")); words != 9 {
			t.Errorf("got %d words in %q; want 9", words, line)
		}
		for _, c := range []byte(line) {
			if c < ' ' || c > '~' {
				t.Errorf("got the byte %#x in %q", c, line)
			}
		}
	}
}

// A line is in the file soon after its response, and is there once only; TestLogWriterWritesWithinASecond says how soon.
func TestLogIsWrittenSoon(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	c := s.dial()
	for i := range 3 {
		c.send(get(o, "/"))
		c.receive("GET")
		if n := len(s.logLines(i + 1)); n != i+1 {
			t.Errorf("got %d lines; want %d", n, i+1)
		}
	}
}

func TestLogIsAppendedTo(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/access.log"
	if err := os.WriteFile(file, []byte("from before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.AccessLog.File = file })
	s.logFile = file
	s.exchange("\x00")
	if lines := s.logLines(2); lines[0] != "from before" {
		t.Errorf("got %q; want what was there before", lines[0])
	}
}

// A rotated log: the file is renamed, and the proxy told to open a new one. Not one line is lost or torn, under load.
func TestLogIsReopenedOnReload(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.AccessLog.Type = accesslog.JSON })
	o := answering(t, okResponse)
	const clients = 4
	done := make(chan struct{})
	var sending sync.WaitGroup
	var mu sync.Mutex
	sent := make(map[string]bool)
	for n := range clients {
		sending.Add(1)
		c := s.dial()
		go func() { // ends with done, awaited below
			defer sending.Done()
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				id := fmt.Sprintf("%d-%d", n, i)
				io.WriteString(c.Conn, "GET http://"+o.addr+"/ HTTP/1.1\r\nHost: x\r\nRequest-ID: "+id+"\r\n\r\n")
				if r, err := c.tryReceive("GET"); err != nil || r.code() != 200 {
					t.Errorf("got %v, %v", r, err)
					return
				}
				mu.Lock()
				sent[id] = true
				mu.Unlock()
			}
		}()
	}
	var files []string
	for i := range 5 {
		rotated := fmt.Sprintf("%s.%d", s.logFile, i)
		time.Sleep(20 * time.Millisecond) // of load
		if err := os.Rename(s.logFile, rotated); err != nil {
			t.Fatal(err)
		}
		files = append(files, rotated)
		if err := s.reload(nil); err != nil {
			t.Fatalf("reload: %v", err)
		}
	}
	close(done)
	sending.Wait()
	s.stop(patience)
	logged := make(map[string]int)
	for _, file := range append(files, s.logFile) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			var m map[string]any
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatalf("the line %q is torn: %v", line, err)
			}
			logged[m["rq_id"].(string)]++
		}
	}
	for id := range sent {
		if logged[id] != 1 {
			t.Errorf("got %d lines for request %s; want 1", logged[id], id)
		}
	}
	if len(logged) != len(sent) {
		t.Errorf("got lines for %d requests; want %d", len(logged), len(sent))
	}
}

// Every answer that a client has seen is in the log once the proxy has stopped.
func TestNoLineIsLostAtShutdown(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	const n = 50
	c := s.dial()
	for range n {
		c.send("GET http://127.0.0.2/ HTTP/1.1\r\nHost: x\r\n\r\n")
		c.receive("GET")
	}
	s.stop(patience)
	b, err := os.ReadFile(s.logFile)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(b), "\n"); lines != n {
		t.Errorf("got %d lines when the proxy had stopped; want %d", lines, n)
	}
}
