package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"whsentry/proxy/accesslog"
	"whsentry/proxy/e2e/corpus"
	"whsentry/proxy/http1"
)

// FuzzRequestHead holds that whatever is taken and rewritten is read by another parser as exactly one request: with
// the same method, target, Host and body.
func FuzzRequestHead(f *testing.F) {
	for _, row := range corpus.Requests(f) {
		f.Add([]byte(row.To("h.test:8080").Sends))
	}
	f.Add([]byte("POST http://h/a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET"))
	f.Add([]byte("POST http://h/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET"))
	f.Add([]byte("POST http://h/a HTTP/1.1\r\nConnection: x\r\n" + strings.Repeat("x:\r\n", 256) + "Content-Length: 1\r\nTE: a\r\nHost: h\r\n\r\na"))
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
	origin := string(http1.AppendOriginForm(nil, ex.method(), ex.path))
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
