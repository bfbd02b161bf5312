package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"whsentry/proxy/accesslog"
	"whsentry/proxy/e2e/corpus"
	"whsentry/proxy/http1"
	"whsentry/proxy/reason"
)

// FuzzRequestHead holds that whatever is taken and rewritten is read by another parser as exactly one request: with
// the same method, target, Host and body.
func FuzzRequestHead(f *testing.F) {
	for _, row := range corpus.Requests(f) {
		f.Add([]byte(row.To("h.test:8080").Sends))
	}
	f.Add([]byte("POST http://h/a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET"))
	f.Add([]byte("POST http://h/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET"))
	f.Add([]byte("OPTIONS http://h HTTP/1.0\r\nConnection: x, y\r\nx: 1\r\nY: 2\r\nExpect: 100-continue\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, got := scanWhole(string(raw))
		if got.length == 0 {
			return
		}
		body, ok := bodyOf(h, raw[got.length:])
		target, failed := http1.ParseTarget(h.Target)
		if !ok || failed != nil || h.CheckHost() != nil || string(h.Method) == "CONNECT" {
			return
		}
		ex := exchangeFor(t, string(raw[:got.length]))
		checkRewritten(t, ex, &target, body)
		checkOriginal(t, h, raw, body)
		ex.release()
	})
}

// bodyOf returns the body that the proxy reads behind a head; ok says that all of it is there.
func bodyOf(h *http1.Request, raw []byte) (body string, ok bool) {
	switch {
	case h.Chunked:
		data, _, done, _ := decode(string(raw))
		return data, done
	case h.ContentLength > int64(len(raw)):
		return "", false
	case h.ContentLength > 0:
		return string(raw[:h.ContentLength]), true
	}
	return "", true
}

// checkRewritten reads what the destination would be sent.
func checkRewritten(t *testing.T, ex *exchange, want *http1.Target, body string) {
	t.Helper()
	sent := string(ex.appendRequestHead(nil, len(body))) + body
	const next = "GET /next HTTP/1.1\r\nHost: next\r\n\r\n"
	r := bufio.NewReader(strings.NewReader(sent + next))
	req, err := http.ReadRequest(r)
	origin := string(ex.appendOriginForm(nil))
	if _, urlErr := url.ParseRequestURI(origin); err != nil && urlErr != nil {
		// That parser minds what a path is made of; the proxy passes it on as it came.
		sent = strings.Replace(sent, " "+origin+" ", " /other ", 1)
		origin, r = "/other", bufio.NewReader(strings.NewReader(sent+next))
		req, err = http.ReadRequest(r)
	}
	if err != nil {
		t.Fatalf("%q is not a request: %v", sent, err)
	}
	if req.Method != string(ex.method()) || req.RequestURI != origin || req.Host != string(want.Authority.Raw) {
		t.Fatalf("got %s %s for %s; want %s %s for %s", req.Method, req.RequestURI, req.Host, ex.method(), origin, want.Authority.Raw)
	}
	if got, err := io.ReadAll(req.Body); err != nil || string(got) != body {
		t.Fatalf("got the body %q, %v; want %q", got, err, body)
	}
	for name := range req.Header {
		if hopByHop(asciiLower(name), nil) {
			t.Fatalf("got %s in %q; want it dropped", name, sent)
		}
	}
	if len(req.TransferEncoding) > 0 || len(req.Header["User-Agent"]) != 1 {
		t.Fatalf("got %q; want no coding and one User-Agent", sent)
	}
	if rest, _ := io.ReadAll(r); string(rest) != next {
		t.Fatalf("got %q behind the request; want %q", rest, next)
	}
}

// checkOriginal holds that another parser finds the same body in what the client sent.
func checkOriginal(t *testing.T, h *http1.Request, raw []byte, want string) {
	t.Helper()
	raw = bytes.TrimLeft(raw, "\r\n")
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return // it is stricter about a URI, and about a length over an int64
	}
	if got, err := io.ReadAll(req.Body); err != nil || string(got) != want || req.Method != string(h.Method) {
		t.Fatalf("got %s with the body %q, %v; want %s with %q", req.Method, got, err, h.Method, want)
	}
}

// FuzzTarget holds that the host of a target that is taken is a name or a literal, and the one that other parsers
// of URLs would go to.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{
		"http://h/", "https://Example.COM.:8443/a?b", "http://[::1]:80/", "http://[::ffff:1.2.3.4]", "http://1.2.3.4:5/", "http://0x7f.1/",
		"http://a\\@b/", "http:/\\h/", "http://h:80:81/", "http://h#@evil/", "http://h?@evil/", "http://u:p@h/", "ftp://h/", "http://1.2.3.4./",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, failed := http1.ParseTarget([]byte(raw))
		if failed != nil {
			if f := reason.OfMessage(failed); f.Code != reason.Malformed && f.Code != reason.Scheme || f.Status != 400 {
				t.Fatalf("got %d with status %d; want 1002 or 1003 with 400", f.Code, f.Status)
			}
			return
		}
		var a address
		a.set(&got.Authority, got.HTTPS)
		checkAddress(t, &a, &got.Authority)
		if host := browserHost(raw); host != string(got.Authority.Raw) {
			t.Fatalf("%q: got the authority %q; a browser reads %q", raw, got.Authority.Raw, host)
		}
		u, err := url.Parse(raw)
		if err != nil {
			if _, pathErr := url.Parse(string(got.Path)); pathErr == nil && !strings.ContainsAny(string(got.Path), ":") {
				t.Fatalf("%q is no URL: %v", raw, err)
			}
			return
		}
		if u.Host != string(got.Authority.Raw) || u.User != nil || u.Fragment != "" || (u.Scheme == "https") != got.HTTPS {
			t.Fatalf("%q: got the authority %q; net/url reads %q", raw, got.Authority.Raw, u.Host)
		}
	})
}

// checkAddress holds that an address is a name or a literal in its one form, with a port.
func checkAddress(t *testing.T, a *address, from *http1.Authority) {
	t.Helper()
	key := string(a.key)
	if strings.ContainsFunc(key, func(r rune) bool { return unicode.IsUpper(r) || r > 0x7e || r <= ' ' }) {
		t.Fatalf("got the key %q; want small letters of ASCII", key)
	}
	host := a.name()
	if !strings.HasPrefix(key, host+":") || key[len(host)+1:] != strconv.Itoa(int(a.port)) || a.port == 0 {
		t.Fatalf("got the key %q for host %q and port %d", key, host, a.port)
	}
	if literal, err := netip.ParseAddr(host); err == nil {
		if literal.String() != host || literal.Zone() != "" || literal != from.Literal {
			t.Fatalf("got the literal %q; want %s", host, literal)
		}
		return
	}
	if from.Literal.IsValid() || host == "" || len(host) > 253 || strings.HasSuffix(host, ".") {
		t.Fatalf("got the name %q from %+v", host, from)
	}
	if endsInNumber.MatchString(host) {
		t.Fatalf("got the name %q, which ends in a number", host)
	}
}

// endsInNumber is what the WHATWG URL standard takes for an IPv4 address, or for a failed attempt at one.
var endsInNumber = regexp.MustCompile(`(^|\.)([0-9]+|0[xX][0-9a-fA-F]*)\.?$`)

// browserHost is the authority that the WHATWG URL standard finds in a URL with http or https: slashes may be
// missing, too many or backslashes, and tabs and line ends do not count.
func browserHost(raw string) string {
	raw = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(raw)
	_, rest, _ := strings.Cut(raw, ":")
	rest = strings.TrimLeft(rest, `/\`)
	if end := strings.IndexAny(rest, `/\?#`); end >= 0 {
		rest = rest[:end]
	}
	return rest[strings.LastIndexByte(rest, '@')+1:]
}

// FuzzConnectAuthority holds that host and port of a CONNECT are those that net reads.
func FuzzConnectAuthority(f *testing.F) {
	for _, seed := range []string{"h:443", "[::1]:443", "1.2.3.4:80", "::1:80", "h:", "u@h:1", "a.:00443", "127.1:80", "[::1%25lo]:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, failed := http1.ParseConnectTarget([]byte(raw))
		if failed != nil {
			return
		}
		var a address
		a.set(&got, true)
		checkAddress(t, &a, &got)
		host, port, err := net.SplitHostPort(raw)
		if err != nil || host != string(got.Host) {
			t.Fatalf("%q: got the host %q; net reads %q, %v", raw, got.Host, host, err)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || uint16(n) != a.port {
			t.Fatalf("%q: got port %d; net reads %q", raw, a.port, port)
		}
	})
}

// FuzzUserInformation holds that a password in a URL, however it is written, is not logged.
func FuzzUserInformation(f *testing.F) {
	for _, s := range []string{"http://user:", "http:/", "//", "https://u:p@", "ftp://", "CONNECT:", "a/b?c#d", "http://h:80/?"} {
		f.Add(s, "h/")
		f.Add("http://", s)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "s3cr3t"
		if strings.Contains(before+after, secret) || strings.ContainsAny(before, "/?#") && !strings.HasPrefix(before, "http://") {
			return
		}
		if strings.ContainsAny(strings.TrimPrefix(before, "http://"), "/?#@") {
			return // then it is part of a path or of a query
		}
		for _, mode := range []string{accesslog.URLFull, accesslog.URLPath, accesslog.URLHost} {
			ex := exchangeOf(logged{"7", "GET", before + secret + "@" + after}, mode)
			if got := textLine(ex); strings.Contains(got, secret) {
				t.Fatalf("got %q of %q", got, before+secret+"@"+after)
			}
			ex.release()
		}
	})
}
