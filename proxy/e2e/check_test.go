package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
	"whsentry/proxy/reason"
)

// checkRequest is a request with that target to the proxy itself.
func checkRequest(method, target string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: proxy.example\r\n\r\n"
}

// check asks whether rawURL can be sent to.
func (s *sentry) check(rawURL, more string) *response {
	s.t.Helper()
	escaped := strings.ReplaceAll(url.QueryEscape(rawURL), "+", "%20")
	return s.exchange(checkRequest("GET", "/check?url="+escaped+more))
}

// verdict is the answer's body, by its keys.
func (r *response) verdict(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(r.body), &v); err != nil || r.status != "200 OK" {
		t.Fatalf("got %s with %q; want 200 and JSON (%v)", r.status, r.body, err)
	}
	return v
}

// The check says what would become of a request, and sends none.
func TestCheckVerdicts(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, func(cfg *proxy.Config, g *guard.Config) {
		cfg.ConnectTimeout = 2 * time.Second
		cfg.MaxConnectionsPerDestination = 1
	})
	plain := answering(t, okResponse)
	trusted := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	untrusted := answeringTLS(t, serving(catest.Root(t, "Stranger").Leaf(t, hooksHost)), okResponse)
	closed := answering(t, okResponse)
	_, silentAddr := boundSocket(t)
	full := swallowing(t)
	held := s.dial()
	held.send("CONNECT " + full.addr + " HTTP/1.1\r\nHost: x\r\n\r\n")
	held.readHead()
	for _, tt := range []struct {
		name, url, more, verdict string
		code                     reason.Code
		source, retry, text      string
	}{
		{"allowed", "http://" + plain.addr + "/a?b=c&d=e+f", "", "allowed", 0, "", "", ""},
		{"connected to", "http://" + plain.addr, "&connect=true", "allowed", 0, "", "", ""},
		{"over TLS", "https://" + hooksHost + ":" + trusted.port, "&connect=true", "allowed", 0, "", "", ""},
		{"a private address", "http://10.1.2.3/", "", "refused", 1000, "policy", "no", "IP 10.1.2.3 is blocked"},
		{"a private address, to connect", "http://10.1.2.3/", "&connect=true", "refused", 1000, "policy", "no", "IP 10.1.2.3 is blocked"},
		{"a refused port", "http://" + hooksHost + ":25/", "", "refused", 1013, "policy", "no", "port 25 is blocked"},
		{"no host", "http:///a", "", "refused", 1002, "client", "no", "malformed request: its URI names no host"},
		{"a number", "http://2130706433/", "", "refused", 1002, "client", "no", ""},
		{"white space", "http://a/ b", "", "refused", 1002, "client", "no", ""},
		{"another scheme", "ftp://a/", "", "refused", 1003, "client", "no", `scheme "ftp" is neither http nor https`},
		{"no such name", "http://nowhere.example/", "", "unresolved", 1001, "destination", "later", ""},
		{"nobody listens, not connected to", "http://" + silentAddr, "", "allowed", 0, "", "", ""},
		{"nobody listens", "http://" + silentAddr, "&connect=true", "unreachable", 1006, "destination", "later", ""},
		{"no TLS", "https://" + closed.addr, "&connect=true", "unreachable", 1005, "destination", "later", ""},
		{"too many connections", "http://" + full.addr, "&connect=true", "unreachable", 1014, "proxy", "later", ""},
		{"a certificate of nobody's", "https://" + hooksHost + ":" + untrusted.port, "&connect=true", "untrusted", 1007, "destination", "later", ""},
	} {
		r := s.check(tt.url, tt.more)
		v := r.verdict(t)
		if v["url"] != tt.url || v["verdict"] != tt.verdict || v["reason_code"] != float64(tt.code) || v["source"] != tt.source ||
			v["retry"] != tt.retry || tt.text != "" && v["reason"] != tt.text || (v["reason"] == "") != (tt.code == 0) {
			t.Errorf("%s: got %s; want %s, %d, %s, %s, %q", tt.name, r.body, tt.verdict, tt.code, tt.source, tt.retry, tt.text)
		}
		if got := r.header.Get("Content-Type") + "|" + r.header.Get("Cache-Control") + "|" + r.reason(); got != "application/json|no-store|" {
			t.Errorf("%s: got the header %q", tt.name, got)
		}
		for name := range r.header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: got the field %s; want none that lets other sites read it", tt.name, name)
			}
		}
	}
	if n := plain.connections(); n != 1 {
		t.Errorf("got %d connections to a destination; want the one that was asked for", n)
	}
	for name, got := range map[string]string{"plain": plain.bytes(), "over TLS": trusted.decrypted(), "full": full.bytes()} {
		if got != "" {
			t.Errorf("%s: the destination got %q; want no request", name, got)
		}
	}
	s.waitMetric(idleConnections, "0")
}

// What the check cannot make sense of, and what it is not.
func TestCheckRequests(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, tt := range []struct{ name, request, status, code, allow string }{
		{"no query", checkRequest("GET", "/check"), "400 Bad Request", "1002", ""},
		{"no url", checkRequest("GET", "/check?connect=true"), "400 Bad Request", "1002", ""},
		{"an empty url", checkRequest("GET", "/check?url="), "400 Bad Request", "1002", ""},
		{"two", checkRequest("GET", "/check?url=http://a/&url=http://a/"), "400 Bad Request", "1002", ""},
		{"two, one empty", checkRequest("GET", "/check?url=&url=http://a/"), "400 Bad Request", "1002", ""},
		{"two, one disguised", checkRequest("GET", "/check?url=http://a/&%75rl=http://b/"), "400 Bad Request", "1002", ""},
		{"an escape that is none", checkRequest("GET", "/check?url=http://a/%zz"), "400 Bad Request", "1002", ""},
		{"half an escape", checkRequest("GET", "/check?url=http://a/%4"), "400 Bad Request", "1002", ""},
		{"connect neither true nor false", checkRequest("GET", "/check?url=http://10.1.2.3/&connect=maybe"), "400 Bad Request", "1002", ""},
		{"without a Host", "GET /check?url=http://10.1.2.3/ HTTP/1.1\r\n\r\n", "400 Bad Request", "1002", ""},
		{"a field that does not exist", "GET /check?url=http://10.1.2.3/ HTTP/1.1\r\nHost: x\r\nX-WhSentry-Tsl: 1\r\n\r\n", "400 Bad Request", "1002", ""},
		{"POST", "POST /check?url=http://10.1.2.3/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab", "405 Method Not Allowed", "1002", "GET, HEAD"},
		{"OPTIONS", checkRequest("OPTIONS", "/check"), "405 Method Not Allowed", "1002", "GET, HEAD"},
		{"another path", checkRequest("GET", "/checks?url=http://10.1.2.3/"), "400 Bad Request", "1002", ""},
		{"below it", checkRequest("GET", "/check/?url=http://10.1.2.3/"), "400 Bad Request", "1002", ""},
		{"CONNECT", checkRequest("CONNECT", "/check"), "400 malformed request", "1002", ""},
		{"HTTP/1.0", "GET /check?url=http://10.1.2.3/ HTTP/1.0\r\n\r\n", "200 OK", "", ""},
		{"connect=false", checkRequest("GET", "/check?url=http://127.0.0.1:1/&connect=false"), "200 OK", "", ""},
		{"another parameter", checkRequest("GET", "/check?a=%zz&url=http://10.1.2.3/&"), "200 OK", "", ""},
		{"with a body", "GET /check?url=http://10.1.2.3/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab", "200 OK", "", ""},
		{"proxy's absolute form", "GET http://10.1.2.3/check?url=http://a/ HTTP/1.1\r\nHost: x\r\n\r\n", "403 Forbidden", "1000", ""},
	} {
		r := s.exchange(tt.request)
		if !strings.HasPrefix(r.status, tt.status) || r.reason() != tt.code || r.header.Get("Allow") != tt.allow {
			t.Errorf("%s: got %s, %s, Allow %q; want %s, %s, %q", tt.name, r.status, r.reason(), r.header.Get("Allow"), tt.status, tt.code, tt.allow)
		}
	}
}

// The URL is decoded once, and a plus is a plus.
func TestCheckDecodes(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, tt := range []struct{ query, want string }{
		{"url=http://10.1.2.3/a+b", "http://10.1.2.3/a+b"},
		{"url=http%3A%2F%2F10.1.2.3%2F%2525%26x%3Dy", "http://10.1.2.3/%25&x=y"},
		{"url=http://10.1.2.3/?a=b", "http://10.1.2.3/?a=b"},
		{"url=http://10.1.2.3/<%22%C3%A9>", `http://10.1.2.3/<"é>`},
		{"url=http://10.1.2.3/%FF", "http://10.1.2.3/\ufffd"},
	} {
		r := s.exchange(checkRequest("GET", "/check?"+tt.query))
		if got := r.verdict(t); got["url"] != tt.want || got["reason_code"] != 1000. {
			t.Errorf("%s: got %s; want %s", tt.query, r.body, tt.want)
		}
	}
}

// What is refused of a request for two reasons is refused of a check for the same one.
func TestCheckRefusesInOrder(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, tt := range []struct {
		url, fields string
		code        reason.Code
	}{
		{"ftp://10.1.2.3/", "", 1003},
		{"ftp://10.1.2.3/", "X-WhSentry-ClientCert: a\r\n", 1002},
		{"http://10.1.2.3:25/", "X-WhSentry-ClientCert: a\r\n", 1002},
		{"http://10.1.2.3:25/", "X-WhSentry-TLS: yes\r\nX-WhSentry-ClientCert: a\r\n", 1013},
		{"https://10.1.2.3/", "X-WhSentry-ClientCert: a\r\n", 1010},
		{"https://10.1.2.3/", "", 1000},
	} {
		if r := s.exchange(with("GET "+tt.url+" HTTP/1.1\r\nHost: x\r\n\r\n", tt.fields)); r.reason() != fmt.Sprint(int(tt.code)) {
			t.Errorf("%s with %q: got %s for a request; want %d", tt.url, tt.fields, r.reason(), tt.code)
		}
		if got := s.exchange(with(checkRequest("GET", "/check?url="+tt.url), tt.fields)).verdict(t); got["reason_code"] != float64(tt.code) {
			t.Errorf("%s with %q: got %v for a check; want %d", tt.url, tt.fields, got["reason_code"], tt.code)
		}
	}
}

// HEAD is GET without the body; the connection goes on after either, also where the client waits for a 100.
func TestCheckOnOneConnection(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	c := s.dial()
	c.send(checkRequest("GET", "/check?url=http://10.1.2.3/"))
	got := c.receive("GET")
	c.send(checkRequest("HEAD", "/check?url=http://10.1.2.3/"))
	head := c.receive("HEAD")
	if head.status != "200 OK" || head.body != "" || head.header.Get("Content-Length") != fmt.Sprint(len(got.body)) {
		t.Errorf("HEAD: got %s, %q, %v; want what GET has, without the body", head.status, head.body, head.header)
	}
	c.send("GET /check?url=http://10.1.2.3/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	if head := c.readHead(); !strings.HasPrefix(head, "HTTP/1.1 100 ") {
		t.Fatalf("got %q; want a 100", head)
	}
	c.send("ab")
	c.receive("GET").verdict(t)
	c.send("GET /check?url=http://10.1.2.3/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
	if r := c.receive("GET"); r.header.Get("Connection") != "keep-alive" {
		t.Errorf("HTTP/1.0: got Connection %q; want keep-alive", r.header.Get("Connection"))
	}
	c.send("GET /check?url=http://10.1.2.3/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if r := c.receive("GET"); !r.closing || !c.ended() {
		t.Errorf("Connection: close: the connection goes on")
	}
}

// Addresses are told under reasonText full alone; elsewhere the reason is the generic text.
func TestCheckAddresses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text, reason string
		addresses    any
	}{
		{reason.TextFull, "IP 10.1.2.3 is blocked", []any{map[string]any{"address": "10.1.2.3", "verdict": "refused", "rule": "10.0.0.0/8 Private-Use (RFC 1918)"}}},
		{reason.TextGeneric, "the address is blocked", nil},
	} {
		s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.Answers.Text = tt.text })
		got := s.check("http://10.1.2.3/", "").verdict(t)
		if got["reason"] != tt.reason || !reflect.DeepEqual(got["addresses"], tt.addresses) {
			t.Errorf("reasonText %s: got %v; want %q and %v", tt.text, got, tt.reason, tt.addresses)
		}
	}
	s := start(t, func(_ *proxy.Config, g *guard.Config) {
		g.AllowList = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	want := []any{map[string]any{"address": "127.0.0.2", "verdict": "allowed", "rule": "127.0.0.0/8 cidrAllowList"}}
	if got := s.check("http://127.0.0.2/", "").verdict(t)["addresses"]; !reflect.DeepEqual(got, want) {
		t.Errorf("allowed: got %v; want %v", got, want)
	}
	if got := s.check("ftp://127.0.0.2/", "").verdict(t)["addresses"]; !reflect.DeepEqual(got, []any{}) {
		t.Errorf("not looked up: got %v; want an empty list", got)
	}
}

// There are 20 checks a second, over all clients.
func TestCheckRate(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	c := s.dial()
	c.send(strings.Repeat(checkRequest("GET", "/check?url=http://10.1.2.3/"), 60)) // in far less than the two seconds that they may take
	allowed := 0
	for range 60 {
		r := c.receive("GET")
		if r.status == "200 OK" {
			allowed++
			continue
		}
		r.check(t, "429 Too Many Requests", "1020")
		if r.header.Get("Retry-After") != "1" {
			t.Errorf("got Retry-After %q; want 1", r.header.Get("Retry-After"))
		}
	}
	if allowed < 20 || allowed > 40 {
		t.Errorf("got %d of 60 checks at once answered; want 20, and few more", allowed)
	}
	s.exchange("GET http://10.1.2.3/ HTTP/1.1\r\nHost: x\r\n\r\n").check(t, "403 Forbidden", "1000")
}

// A check has its line in the log, without the query, and its count.
func TestCheckIsLogged(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{accesslog.URLFull, accesslog.URLPath, accesslog.URLHost} {
		s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
			cfg.AccessLog.URL, cfg.AccessLog.Type = mode, accesslog.JSON
		})
		s.check("http://10.1.2.3/secret", "")
		s.jsonLines(1) // a line may come after the answer, and so after that of another connection's
		s.exchange(checkRequest("POST", "/check?url=secret"))
		lines := s.jsonLines(2)
		for i, want := range []struct{ method, status string }{{"GET", "200"}, {"POST", "405"}} {
			if got := lines[i]; got["method"] != want.method || got["url"] != "/check" || fmt.Sprint(got["response_code"]) != want.status {
				t.Errorf("%s: got %v; want %s /check %s", mode, got, want.method, want.status)
			}
			if strings.Contains(fmt.Sprint(lines[i]), "secret") {
				t.Errorf("%s: the log has the query: %v", mode, lines[i])
			}
		}
		s.waitMetric(series(http.StatusOK, 0), "1")
	}
}

// Inside an intercepted CONNECT the path is the destination's.
func TestCheckIsTheDestinationsInside(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	o := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	s := startMITM(t, root, issuer, nil)
	c := s.dial()
	c.open(o.to(hooksHost), "")
	in := c.secure(clientConfig(issuer, hooksHost))
	in.send("GET /check?url=http://10.1.2.3/ HTTP/1.1\r\nHost: " + o.to(hooksHost) + "\r\n\r\n")
	if r := in.receive("GET"); r.body != "ok" {
		t.Errorf("got %s %q; want the destination's own answer", r.status, r.body)
	}
	if got := o.decrypted(); !strings.HasPrefix(got, "GET /check?url=http://10.1.2.3/ ") {
		t.Errorf("the destination got %q; want the request for its own /check", got)
	}
}
