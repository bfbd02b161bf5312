package proxy

import (
	"crypto/tls"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"whsentry/proxy/accesslog"
	"whsentry/proxy/downstream"
	"whsentry/proxy/http1"
	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
)

// logged is what comes from outside into a line of the access log.
type logged struct{ id, method, target string }

// exchangeOf is an exchange of which nothing is known but what in holds, as if it had been scanned: the log must
// not rely on what a parser keeps out.
func exchangeOf(in logged, mode string) *exchange {
	cfg := DefaultConfig()
	cfg.AccessLog.URL = mode
	ex := acquireExchange()
	ex.begin(&client{Conn: downstream.Conn{Addr: "10.0.0.7:51324"}, proxy: proxyWith(&cfg)})
	ex.head.Raw, ex.head.ID = []byte(in.id), http1.Span{To: int32(len(in.id))}
	ex.head.Method, ex.head.Target = []byte(in.method), []byte(in.target)
	ex.status = 200
	if t, err := http1.ParseTarget([]byte(in.target)); err == nil {
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

// textLine is what the text log has of ex from the id to the URL.
func textLine(ex *exchange) string {
	var l accesslog.Record
	ex.fillRecord(&l, logTime, 12*time.Millisecond)
	var words []string
	for _, part := range [][]byte{l.ID, []byte(l.ClientAddr), l.Method, l.URL} {
		if len(part) == 0 {
			part = []byte("-")
		}
		words = append(words, string(reason.AppendWord(nil, part)))
	}
	return strings.Join(words, " ")
}

func TestRecordURL(t *testing.T) {
	for _, tt := range []struct {
		name, mode string
		in         logged
		want       string // between the client's address and the status
	}{
		{"plain", accesslog.URLFull, logged{"7", "POST", "https://example.com/hook"}, "POST https://example.com/hook"},
		{"host in capitals", accesslog.URLFull, logged{"7", "POST", "HTTP://Example.com:80/a?b=c"}, "POST http://Example.com:80/a?b=c"},
		{"path", accesslog.URLPath, logged{"7", "GET", "http://h/a?token=b"}, "GET http://h/a"},
		{"path without one", accesslog.URLPath, logged{"7", "GET", "http://h?token=b"}, "GET http://h"},
		{"host", accesslog.URLHost, logged{"7", "GET", "http://h:81/a?token=b"}, "GET http://h:81"},
		{"space and line ends", accesslog.URLFull, logged{"7", "G E\nT", "http://h/\r\n[x] y"}, `G\x20E\x0aT http://h/\x0d\x0a[x]\x20y`},
		{"backslash", accesslog.URLFull, logged{"7", "GET", `http://h/\x20`}, `GET http://h/\x5cx20`},
		{"beyond ASCII", accesslog.URLFull, logged{"7", "GET", "http://h/ä\xff\x7f\x00"}, `GET http://h/\xc3\xa4\xff\x7f\x00`},
		{"nothing known", accesslog.URLFull, logged{"7", "", ""}, "- -"},
		{"origin form", accesslog.URLFull, logged{"7", "GET", "/a?b@c"}, "GET /a?b@c"},
		{"origin form, path", accesslog.URLPath, logged{"7", "GET", "/a?b"}, "GET /a"},
		{"origin form, host", accesslog.URLHost, logged{"7", "GET", "/a?b"}, "GET -"},
		{"asterisk", accesslog.URLFull, logged{"7", "OPTIONS", "*"}, "OPTIONS *"},
		{"another scheme", accesslog.URLFull, logged{"7", "GET", "ftp://h/a"}, "GET ftp://h/a"},
		{"another scheme, path", accesslog.URLPath, logged{"7", "GET", "ftp://h/a?b"}, "GET ftp://h/a"},
		{"fragment, path", accesslog.URLPath, logged{"7", "GET", "http://h/a#token"}, "GET http://h/a"},
		{"@ in a path", accesslog.URLFull, logged{"7", "GET", "http://h/a@b#c"}, "GET http://h/a@b#c"},
		{"@ behind a bad port", accesslog.URLFull, logged{"7", "GET", "http://h:0/?mail=a@b"}, "GET http://b"},

		{"user", accesslog.URLFull, logged{"7", "GET", "http://user@h/a"}, "GET http://h/a"},
		{"user and password", accesslog.URLFull, logged{"7", "GET", "http://user:secret@h/a?b"}, "GET http://h/a?b"},
		{"user and password, path", accesslog.URLPath, logged{"7", "GET", "http://user:secret@h/a?b"}, "GET http://h/a"},
		{"user and password, host", accesslog.URLHost, logged{"7", "GET", "http://user:secret@h/a?b"}, "GET http://h"},
		{"slash in a password, host", accesslog.URLHost, logged{"7", "GET", "http://user:sec/ret@h/a"}, "GET -"},
		{"another scheme, host", accesslog.URLHost, logged{"7", "GET", "ftp://h:21/a?b#c"}, "GET ftp://h:21"},
		{"no scheme, host", accesslog.URLHost, logged{"7", "GET", "//user:secret@h/a"}, "GET -"},
		{"two @", accesslog.URLFull, logged{"7", "GET", "http://user:sec@ret@h/a"}, "GET http://h/a"},
		{"@ in a path behind a user", accesslog.URLFull, logged{"7", "GET", "http://user:secret@h/a@b"}, "GET http://h/a@b"},
		{"slash in a password", accesslog.URLFull, logged{"7", "GET", "http://user:sec/ret@h/a"}, "GET http://h/a"},
		{"question mark in a password", accesslog.URLPath, logged{"7", "GET", "http://user:sec?ret@h/a?b"}, "GET http://h/a"},
		{"number sign in a password", accesslog.URLPath, logged{"7", "GET", "http://user:sec#ret@h/a"}, "GET http://h/a"},
		{"user without a scheme", accesslog.URLFull, logged{"7", "GET", "user:secret@h/a"}, "GET h/a"},
		{"user without slashes", accesslog.URLFull, logged{"7", "GET", "http:user:secret@h/a"}, "GET h/a"},
		{"user with one slash", accesslog.URLFull, logged{"7", "GET", "http:/user:secret@h/a"}, "GET h/a"},
		{"user without a scheme and two slashes later", accesslog.URLFull, logged{"7", "GET", "user:secret@h//a"}, "GET h//a"},
		{"user with backslashes", accesslog.URLFull, logged{"7", "GET", `http:\\user:secret@h/a`}, "GET h/a"},
		{"user without a scheme but slashes", accesslog.URLFull, logged{"7", "GET", "//user:secret@h/a"}, "GET //h/a"},
		{"user of another scheme", accesslog.URLFull, logged{"7", "GET", "ftp://user:secret@h/a"}, "GET ftp://h/a"},
		{"user in a CONNECT", accesslog.URLFull, logged{"7", "CONNECT", "user:secret@h:443"}, "CONNECT h:443"},
		{"user in a CONNECT, host", accesslog.URLHost, logged{"7", "CONNECT", "user:secret@h:443"}, "CONNECT -"},
		{"CONNECT refused early", accesslog.URLFull, logged{"7", "CONNECT", "h:443"}, "CONNECT h:443"},
		{"CONNECT refused early, path", accesslog.URLPath, logged{"7", "CONNECT", "h:443"}, "CONNECT h:443"},
		{"CONNECT refused early, host", accesslog.URLHost, logged{"7", "CONNECT", "h:443"}, "CONNECT h:443"},
		{"CONNECT without a port, host", accesslog.URLHost, logged{"7", "CONNECT", "h"}, "CONNECT -"},
		{"what only CONNECT may ask for, host", accesslog.URLHost, logged{"7", "GET", "h:443"}, "GET -"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := "7 10.0.0.7:51324 " + tt.want
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

func TestRecordOfATunnel(t *testing.T) {
	for _, mode := range []string{accesslog.URLFull, accesslog.URLPath, accesslog.URLHost} {
		ex := exchangeOf(logged{"7", "CONNECT", "h:443"}, mode)
		ex.connect, ex.authority = true, []byte("h:443")
		want := "7 10.0.0.7:51324 CONNECT h:443"
		if got := textLine(ex); got != want {
			t.Errorf("%s: got %q; want %q", mode, got, want)
		}
	}
}

// What is inside a tunnel is for the CONNECT's host, also where it is refused before that is looked at.
func TestRecordWithinATunnel(t *testing.T) {
	for _, tt := range []struct {
		name, mode string
		plain      bool
		in         logged
		want       string
	}{
		{"intercepted", accesslog.URLFull, false, logged{"7", "GET", "/a?b"}, "GET https://h:443/a?b"},
		{"intercepted, path", accesslog.URLPath, false, logged{"7", "GET", "/a?b"}, "GET https://h:443/a"},
		{"intercepted, host", accesslog.URLHost, false, logged{"7", "GET", "/a?b"}, "GET https://h:443"},
		{"inspected", accesslog.URLFull, true, logged{"7", "GET", "/a?b"}, "GET http://h:443/a?b"},
		{"absolute", accesslog.URLFull, false, logged{"7", "GET", "http://other/a"}, "GET http://other/a"},
		{"CONNECT, host", accesslog.URLHost, false, logged{"7", "CONNECT", "other:443"}, "CONNECT other:443"},
		{"no request line", accesslog.URLFull, false, logged{"7", "", ""}, "- -"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ex := exchangeOf(tt.in, tt.mode)
			ex.client.within = &interception{authority: []byte("h:443"), plain: tt.plain}
			want := "7 10.0.0.7:51324 " + tt.want
			if got := textLine(ex); got != want {
				t.Errorf("got %q; want %q", got, want)
			}
		})
	}
}

// The id is the client's own, or a random one.
func TestRequestID(t *testing.T) {
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12} `)
	if got := textLine(exchangeOf(logged{"", "GET", "/"}, accesslog.URLFull)); !uuid.MatchString(got) {
		t.Errorf("got %q; want a UUID", got)
	}
	if got := textLine(exchangeOf(logged{"mine", "GET", "/"}, accesslog.URLFull)); !strings.HasPrefix(got, "mine ") {
		t.Errorf("got %q; want the client's own", got)
	}
	if got := textLine(exchangeOf(logged{"a b\n\\", "GET", "/"}, accesslog.URLFull)); !strings.Contains(got, `a\x20b\x0a\x5c 10.0.0.7`) {
		t.Errorf("got %q; want the id escaped", got)
	}
}

// The record of an exchange says what the exchange does.
func TestFillRecord(t *testing.T) {
	ex := exchangeOf(logged{"7", "POST", "https://h/a?b"}, accesslog.URLPath)
	ex.failed = reason.Newf(reason.Timeout, "timed out")
	ex.failed.Happened(true, 0)
	ex.status, ex.reason = 502, reason.Timeout
	ex.remote, ex.reused, ex.tlsVersion = netip.MustParseAddrPort("192.0.2.1:443"), true, tls.VersionTLS13
	ex.body.Came, ex.responseBytes = 3, 4
	ex.phases = [metrics.Phases]time.Duration{1, 2, 3, -1}
	var r accesslog.Record
	ex.fillRecord(&r, logTime, time.Second)
	if !r.At.Equal(logTime) || r.Took != time.Second || string(r.ID) != "7" || string(r.URL) != "https://h/a" ||
		r.Status != 502 || r.Code != reason.Timeout || r.Text != "timed out" ||
		r.Source != reason.SourceDestination || r.Delivered != reason.DeliveredMaybe || r.Received != 0 || r.Gone || r.Upstream != ex.remote || !r.Reused ||
		r.TLSVersion != "TLSv1.3" || r.RequestBytes != 3 || r.ResponseBytes != 4 || r.Phases != ex.phases {
		t.Errorf("got %+v", r)
	}
}

// The trace is that of one well-formed traceparent, and is looked for where the log has a place for it.
func TestRecordTraceID(t *testing.T) {
	const id, other = "4bf92f3577b34da6a3ce929d0e0e4736", "5bf92f3577b34da6a3ce929d0e0e4736"
	parent := func(id string) string { return "TraceParent:  00-" + id + "-00f067aa0ba902b7-01 \r\n" }
	for _, tt := range []struct{ name, fields, format, want string }{
		{"one", parent(id), accesslog.JSON, id},
		{"none", "", accesslog.JSON, ""},
		{"two", parent(id) + parent(other), accesslog.JSON, ""},
		{"malformed", "traceparent: " + id + "\r\n", accesslog.JSON, ""},
		{"two, one of them empty", parent(id) + "traceparent:\r\n", accesslog.JSON, ""},
		{"in a log that does not show it", parent(id), accesslog.Text, ""},
	} {
		ex := exchangeFor(t, "POST http://h/ HTTP/1.1\r\nHost: h\r\n"+tt.fields+"\r\n")
		ex.run.cfg.AccessLog.Type = tt.format
		var l accesslog.Record
		ex.fillRecord(&l, logTime, 0)
		if got := string(l.TraceID); got != tt.want {
			t.Errorf("%s: got %q; want %q", tt.name, got, tt.want)
		}
	}
}
