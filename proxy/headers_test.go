package proxy

import (
	"strings"
	"testing"

	"whsentry/proxy/downstream"
	"whsentry/proxy/http1"
)

// exchangeFor is an exchange whose request's head is raw, as far as route takes it without a guard.
func exchangeFor(t testing.TB, raw string) *exchange {
	t.Helper()
	cfg := DefaultConfig()
	ex := acquireExchange()
	ex.run = &run{cfg: &cfg, idHeader: "request-id"}
	ex.client = &client{Conn: downstream.Conn{Addr: "10.0.0.7:51324"}}
	head, got := scanWhole(raw)
	if got.length == 0 {
		t.Fatalf("scan the head: %s", got.refused)
	}
	ex.head = *head
	ex.keep = ex.head.KeepsAlive()
	target, err := http1.ParseTarget(ex.head.Target)
	if err != nil {
		t.Fatalf("parse the target: %v", err)
	}
	ex.authority, ex.path = target.Authority.Raw, target.Path
	ex.tls = target.HTTPS || ex.head.TLS
	ex.address.Set(&target.Authority, ex.tls)
	return ex
}

func TestRequestRewriting(t *testing.T) {
	const agent = "User-Agent: Webhook Sentry/0.1\r\n"
	for _, tt := range []struct {
		name, line, fields string // Host: h is put before the fields
		bodyLen            int
		want, wantFields   string // the request line without its version, and the fields behind Host: h
	}{
		{"nothing but Host", "GET http://h/", "", 0, "GET /", agent},
		{"path and query as written", "GET http://h/a/../b//%2e%2E/%zz;x?q=%2f&&=?/", "", 0, "GET /a/../b//%2e%2E/%zz;x?q=%2f&&=?/", agent},
		{"bytes beyond ASCII", "GET http://h/\xc3\xa4\xff?\xfe", "", 0, "GET /\xc3\xa4\xff?\xfe", agent},
		{"brackets and the like", "GET http://h/[]{}<>\"^`|\\", "", 0, "GET /[]{}<>\"^`|\\", agent},
		{"no path", "GET http://h", "", 0, "GET /", agent},
		{"query without a path", "GET http://h?a=b", "", 0, "GET /?a=b", agent},
		{"an empty query", "GET http://h?", "", 0, "GET /?", agent},
		{"OPTIONS of the server", "OPTIONS http://h", "", 0, "OPTIONS *", agent},
		{"OPTIONS of the root", "OPTIONS http://h/", "", 0, "OPTIONS /", agent},
		{"OPTIONS with a query", "OPTIONS http://h?a", "", 0, "OPTIONS /?a", agent},
		{"a method in small letters", "options http://h", "", 0, "options /", agent},
		{"path of slashes", "GET http://h//evil/", "", 0, "GET //evil/", agent},

		{"letters and order", "GET http://h/", "x-B: 1\r\nX-a: 2\r\nx-b: 3\r\nACCEPT: */*\r\n", 0, "GET /", "x-B: 1\r\nX-a: 2\r\nx-b: 3\r\nACCEPT: */*\r\n" + agent},
		{"white space around a value", "GET http://h/", "A: \t b  c\t \r\n", 0, "GET /", "A: b  c\r\n" + agent},
		{"an empty value", "GET http://h/", "A:\r\nB: \r\n", 0, "GET /", "A:\r\nB:\r\n" + agent},
		{"credentials and cookies", "GET http://h/", "Authorization: Basic eA==\r\nCookie: a=b\r\nCookie: c\r\n", 0, "GET /", "Authorization: Basic eA==\r\nCookie: a=b\r\nCookie: c\r\n" + agent},
		{"accepted codings", "GET http://h/", "Accept-Encoding: gzip\r\nVia: 1.0 a\r\nX-Forwarded-For: 1.2.3.4\r\nRequest-ID: 7\r\n", 0, "GET /", "Accept-Encoding: gzip\r\nVia: 1.0 a\r\nX-Forwarded-For: 1.2.3.4\r\nRequest-ID: 7\r\n" + agent},

		{"hop-by-hop", "GET http://h/", "Connection: keep-alive\r\nKeep-Alive: 5\r\nTE: trailers\r\nTrailer: X\r\nUpgrade: h2c\r\n", 0, "GET /", agent},
		{"hop-by-hop in capitals", "GET http://h/", "CONNECTION: CLOSE\r\nKEEP-ALIVE: 5\r\nte: trailers\r\nTRAILER: X\r\nUPGRADE: h2c\r\n", 0, "GET /", agent},
		{"named by Connection", "GET http://h/", "X-A: 1\r\nConnection: x-a, X-B\r\nX-B: 2\r\nX-C: 3\r\n", 0, "GET /", "X-C: 3\r\n" + agent},
		{"many named by Connection", "GET http://h/", "X-A: 1\r\nConnection: a, b, c, d, x-a, X-B\r\nX-B: 2\r\nX-C: 3\r\n", 0, "GET /", "X-C: 3\r\n" + agent},
		{"named by a second Connection", "GET http://h/", "X-A: 1\r\nX-B: 2\r\nConnection: X-A\r\nConnection: ,, X-B ,\r\n", 0, "GET /", agent},
		{"half of a name by Connection", "GET http://h/", "X-A: 1\r\nConnection: X-, A, X-AB, \"X-A\"\r\n", 0, "GET /", "X-A: 1\r\n" + agent},
		{"Connection names what is generated", "POST http://h/", "Connection: Host, Content-Length, User-Agent\r\nContent-Length: 3\r\n", 3, "POST /", "Content-Length: 3\r\n" + agent},
		{"Proxy-*", "GET http://h/", "Proxy-Connection: close\r\nProxy-Authorization: Basic eA==\r\nproxy-x: 1\r\nPROXY-: 2\r\nProxy: 3\r\nX-Proxy-A: 4\r\n", 0, "GET /", "Proxy: 3\r\nX-Proxy-A: 4\r\n" + agent},
		{"X-WhSentry-*", "GET http://h/", "X-WhSentry-Foo: 1\r\nx-whsentry-reason: 2\r\nX-WHSENTRY-: 3\r\nX-WhSentry: 4\r\n", 0, "GET /", "X-WhSentry: 4\r\n" + agent},
		{"Expect: 100-continue", "POST http://h/", "Expect: 100-continue\r\nContent-Length: 1\r\n", 1, "POST /", "Content-Length: 1\r\n" + agent},
		{"another Expect", "POST http://h/", "Expect: 200-ok\r\n", 0, "POST /", "Expect: 200-ok\r\n" + agent},

		{"length where and as it was written", "POST http://h/", "A: 1\r\ncontent-LENGTH: 007\r\nB: 2\r\n", 7, "POST /", "A: 1\r\ncontent-LENGTH: 7\r\nB: 2\r\n" + agent},
		{"chunked becomes a length", "POST http://h/", "A: 1\r\nTransfer-Encoding: chunked\r\nB: 2\r\n", 5, "POST /", "A: 1\r\nContent-Length: 5\r\nB: 2\r\n" + agent},
		{"chunked and empty", "POST http://h/", "Transfer-Encoding: chunked\r\n", 0, "POST /", "Content-Length: 0\r\n" + agent},
		{"an empty length", "POST http://h/", "Content-Length: 0\r\n", 0, "POST /", "Content-Length: 0\r\n" + agent},

		{"User-Agent replaced in its place", "GET http://h/", "A: 1\r\nuser-AGENT: curl/8\r\nB: 2\r\n", 0, "GET /", "A: 1\r\nuser-AGENT: Webhook Sentry/0.1\r\nB: 2\r\n"},
		{"two of them become one", "GET http://h/", "User-Agent: a\r\nUser-Agent: b\r\n", 0, "GET /", agent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ex := exchangeFor(t, tt.line+" HTTP/1.1\r\nHost: other\r\n"+tt.fields+"\r\n")
			want := tt.want + " HTTP/1.1\r\nHost: h\r\n" + tt.wantFields + "\r\n"
			if got := string(ex.appendRequestHead(nil, tt.bodyLen)); got != want {
				t.Errorf("got %q; want %q", got, want)
			}
		})
	}
}

func TestUserAgentRules(t *testing.T) {
	for _, tt := range []struct{ name, agent, fields, want string }{
		{"replaced", "Hooks/2", "User-Agent: a\r\n", "User-Agent: Hooks/2\r\n"},
		{"added", "Hooks/2", "A: 1\r\n", "A: 1\r\nUser-Agent: Hooks/2\r\n"},
		{"replaced where it is empty", "Hooks/2", "User-Agent:\r\n", "User-Agent: Hooks/2\r\n"},
		{"the client's own", "", "A: 1\r\nUser-Agent: a b\r\n", "A: 1\r\nUser-Agent: a b\r\n"},
		{"the client's two", "", "User-Agent: a\r\nuser-agent: b\r\n", "User-Agent: a\r\nuser-agent: b\r\n"},
		{"the client's none", "", "A: 1\r\n", "A: 1\r\n"},
		{"the client's own, named by Connection", "", "User-Agent: a\r\nConnection: user-agent\r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ex := exchangeFor(t, "GET http://h/ HTTP/1.1\r\nHost: h\r\n"+tt.fields+"\r\n")
			ex.run.cfg.UserAgent = tt.agent
			want := "GET / HTTP/1.1\r\nHost: h\r\n" + tt.want + "\r\n"
			if got := string(ex.appendRequestHead(nil, 0)); got != want {
				t.Errorf("got %q; want %q", got, want)
			}
		})
	}
}

func TestHostRewriting(t *testing.T) {
	for _, tt := range []struct{ name, raw, want string }{
		{"in its place and letters", "GET http://h/ HTTP/1.1\r\nA: 1\r\nhOST: x\r\nB: 2\r\n", "A: 1\r\nhOST: h\r\nB: 2\r\n"},
		{"in front where there is none", "GET http://h/ HTTP/1.0\r\nA: 1\r\n", "Host: h\r\nA: 1\r\n"},
		{"host and port as written", "GET http://ExAmple.COM:080/ HTTP/1.1\r\nHost: h\r\n", "Host: ExAmple.COM:080\r\n"},
		{"IPv6 in brackets", "GET http://[2606:4700::1]:81/ HTTP/1.1\r\nHost: h\r\n", "Host: [2606:4700::1]:81\r\n"},
		{"1.0 becomes 1.1", "GET http://h/ HTTP/1.0\r\nConnection: keep-alive\r\n", "Host: h\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ex := exchangeFor(t, tt.raw+"\r\n")
			ex.run.cfg.UserAgent = ""
			want := "GET / HTTP/1.1\r\n" + tt.want + "\r\n"
			if got := string(ex.appendRequestHead(nil, 0)); got != want {
				t.Errorf("got %q; want %q", got, want)
			}
		})
	}
}

func TestResponseRewriting(t *testing.T) {
	for _, tt := range []struct {
		name, request, raw string
		how                http1.Framing
		length             int64
		want               string
	}{
		{"as it came", "", "HTTP/1.1 201 Made\r\nServer: x\r\ndate: y\r\nX-a: 1\r\nx-A: 2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 3\r\n\r\n", http1.ByLength, 3, "HTTP/1.1 201 Made\r\nServer: x\r\ndate: y\r\nX-a: 1\r\nx-A: 2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 3\r\n\r\n"},
		{"no phrase", "", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", http1.ByLength, 0, "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"},
		{"1.0 becomes 1.1", "", "HTTP/1.0 200 OK\r\n\r\n", http1.ByLength, 5, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
		{"hop-by-hop", "", "HTTP/1.1 200 OK\r\nConnection: close, X-A\r\nKeep-Alive: 5\r\nTE: a\r\nTrailer: a\r\nUpgrade: a\r\nProxy-Authenticate: a\r\nProxy-Connection: a\r\nx-a: 1\r\nB: 1\r\nContent-Length: 0\r\n\r\n", http1.ByLength, 0, "HTTP/1.1 200 OK\r\nB: 1\r\nContent-Length: 0\r\n\r\n"},
		{"forged reason", "", "HTTP/1.1 403 No\r\nX-WhSentry-Reason: a\r\nx-whsentry-reasoncode: 1000\r\nContent-Length: 0\r\n\r\n", http1.ByLength, 0, "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"},
		{"chunked becomes a length", "", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: 1\r\n\r\n", http1.ByLength, 9, "HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 9\r\n\r\n"},
		{"chunked stays chunked", "", "HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\nA: 1\r\n\r\n", http1.ByChunks, -1, "HTTP/1.1 200 OK\r\nA: 1\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"no content has no length", "", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", http1.NoBody, 5, "HTTP/1.1 204 No Content\r\n\r\n"},
		{"Connection names the length", "", "HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\n", http1.ByLength, 3, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"},
		{"the client closes", "GET http://h/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", http1.ByLength, 0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
		{"a 1.0 client", "GET http://h/ HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", http1.ByLength, 0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
		{"a 1.0 client that stays", "GET http://h/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", http1.ByLength, 0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"},
		{"interim", "", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X-B\r\nX-B: 1\r\nX-WhSentry-Reason: 1\r\n\r\n", http1.NoBody, 0, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"},
		{"bare LF", "", "HTTP/1.1 200 OK\nA: 1\nContent-Length: 0\n\n", http1.ByLength, 0, "HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 0\r\n\r\n"},
		{"folded", "", "HTTP/1.1 200 OK\r\nA: 1\r\n 2\r\n\t 3 \r\nB: \r\n 4\r\nContent-Length: 0\r\n\r\n", http1.ByLength, 0, "HTTP/1.1 200 OK\r\nA: 1 2 3\r\nB: 4\r\nContent-Length: 0\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.request == "" {
				tt.request = "GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n"
			}
			ex := exchangeFor(t, tt.request)
			ex.resp.Reset()
			if n, f := ex.resp.Scan([]byte(tt.raw)); f != nil || n != len(tt.raw) {
				t.Fatalf("scan: got %d, %v; want %d", n, f, len(tt.raw))
			}
			if got := string(ex.appendResponseHead(nil, &ex.resp, tt.how, tt.length)); got != tt.want {
				t.Errorf("got %q; want %q", got, tt.want)
			}
		})
	}
}

// TestManyConnectionOptions holds that what Connection names does not make the rewriting of a large head quadratic.
// Were it so, the test would take minutes.
func TestManyConnectionOptions(t *testing.T) {
	const size = 1 * miB
	ex := exchangeFor(t, "GET http://h/ HTTP/1.1\r\nHost: h\r\nConnection: "+strings.Repeat("a,", size/2)+"b\r\n"+strings.Repeat("c:\r\n", size/4)+"\r\n")
	ex.appendRequestHead(nil, 0)
}
