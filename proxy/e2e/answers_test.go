package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
	"whsentry/proxy/reason"
)

// answerRow is what a destination sends in answer to a webhook, and what everybody must come to know of it.
type answerRow struct {
	name  string
	sends string
	stays bool // keeps the connection open behind it, where the others close theirs

	status    int // that the client gets
	reason    string
	delivered string
	received  float64 // 0: none
	retry     string
	untidy    []string
	body      string
}

// errorRows are under incompleteResponses: error, with bodies of at most 100,000 bytes and heads of 1,000.
var errorRows = []answerRow{
	{name: "a 200", sends: okResponse, stays: true, status: 200, body: "ok"},
	{name: "bare LFs", sends: "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", stays: true, status: 200, body: "ok", untidy: []string{"bare_lf"}},
	{name: "a fold", sends: "HTTP/1.1 200 OK\r\nX: a\r\n\tb\r\nContent-Length: 2\r\n\r\nok", stays: true, status: 200, body: "ok", untidy: []string{"folded"}},
	{name: "chunked twice", sends: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", stays: true, status: 200, body: "ok", untidy: []string{"chunked_twice"}},
	{name: "both framings", sends: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", stays: true, status: 200, body: "ok", untidy: []string{"length_beside_chunked"}},
	{name: "two lengths, one value", sends: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2, 2\r\n\r\nok", stays: true, status: 200, body: "ok", untidy: []string{"length_repeated"}},
	{name: "chunks in 1.0", sends: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", stays: true, status: 200, body: "ok", untidy: []string{"chunked_in_http10"}},
	{name: "identity", sends: "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok", stays: true, status: 200, body: "ok", untidy: []string{"identity"}},
	{name: "a line without a colon", sends: "HTTP/1.1 200 OK\r\nWarning\r\nContent-Length: 2\r\n\r\nok", stays: true, status: 200, body: "ok", untidy: []string{"bad_line"}},
	{name: "blank lines", sends: "\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", stays: true, status: 200, body: "ok", untidy: []string{"blank_lines"}},
	{name: "a 600", sends: "HTTP/1.1 600 No\r\nContent-Length: 2\r\n\r\nok", stays: true, status: 600, body: "ok", untidy: []string{"status"}},
	{name: "a 999", sends: "HTTP/1.1 999 Denied\r\nContent-Length: 2\r\n\r\nok", stays: true, status: 999, body: "ok", untidy: []string{"status"}},
	{name: "an odd trailer", sends: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nodd\r\n\r\n", stays: true, status: 200, body: "ok", untidy: []string{"trailers"}},
	{name: "much at once", sends: "\nHTTP/1.0 900 No\nX y\nX: a\n b\nTransfer-Encoding: identity, chunked\nContent-Length: 7\n\n2\r\nok\r\n0\r\n\r\n", stays: true, status: 900, body: "ok",
		untidy: []string{"bare_lf", "folded", "length_beside_chunked", "chunked_in_http10", "identity", "bad_line", "blank_lines", "status"}},
	{name: "an untidy interim", sends: "HTTP/1.1 103 Hints\nLink: a\n\n" + okResponse, stays: true, status: 200, body: "ok", untidy: []string{"bare_lf"}},

	{name: "nothing", sends: "", status: 502, reason: "1011", delivered: "maybe", retry: "later"},
	{name: "no HTTP", sends: "220 mail.test ESMTP\r\n", stays: true, status: 502, reason: "1011", delivered: "maybe", retry: "later"},
	{name: "half a status line", sends: "HTTP/1.1 200", status: 502, reason: "1011", delivered: "maybe", retry: "later"},
	{name: "another version", sends: "HTTP/2.0 200 OK\r\n\r\n", status: 502, reason: "1011", delivered: "maybe", retry: "later"},
	{name: "an interim alone", sends: "HTTP/1.1 100 Continue\r\n\r\n", status: 502, reason: "1011", delivered: "maybe", retry: "later"},
	{name: "a switch of protocols", sends: "HTTP/1.1 101 Go\r\n\r\n", status: 502, reason: "1011", delivered: "maybe", retry: "later"},
	{name: "a 200, no more", sends: "HTTP/1.1 200 OK\r\n", status: 502, reason: "1011", delivered: "yes", received: 200, retry: "no"},
	{name: "a 404, no more", sends: "HTTP/1.1 404 No\r\n", status: 502, reason: "1011", delivered: "yes", received: 404, retry: "no"},
	{name: "a 302, no more", sends: "HTTP/1.1 302 There\r\n", status: 502, reason: "1011", delivered: "yes", received: 302, retry: "no"},
	{name: "a 408, no more", sends: "HTTP/1.1 408 Slow\r\n", status: 502, reason: "1011", delivered: "yes", received: 408, retry: "later"},
	{name: "a 425, no more", sends: "HTTP/1.1 425 Early\r\n", status: 502, reason: "1011", delivered: "yes", received: 425, retry: "later"},
	{name: "a 429, no more", sends: "HTTP/1.1 429 Many\r\n", status: 502, reason: "1011", delivered: "yes", received: 429, retry: "later"},
	{name: "a 503, no more", sends: "HTTP/1.1 503 Busy\r\n", status: 502, reason: "1011", delivered: "yes", received: 503, retry: "later"},
	{name: "a 700, no more", sends: "HTTP/1.1 700 Odd\r\n", status: 502, reason: "1011", delivered: "yes", received: 700, retry: "later"},
	{name: "two lengths", sends: "HTTP/1.1 201 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", status: 502, reason: "1011", delivered: "yes", received: 201, retry: "no"},
	{name: "gzip as a coding", sends: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", status: 502, reason: "1011", delivered: "yes", received: 200, retry: "no"},
	{name: "a fold behind the status line", sends: "HTTP/1.1 200 OK\r\n X: y\r\n\r\n", status: 502, reason: "1011", delivered: "yes", received: 200, retry: "no"},
	{name: "a NUL", sends: "HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n", status: 502, reason: "1011", delivered: "yes", received: 200, retry: "no"},
	{name: "a length with white space before the colon", sends: "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", status: 502, reason: "1011", delivered: "yes", received: 200, retry: "no"},
	{name: "a large head", sends: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1000) + "\r\n\r\n", status: 502, reason: "1011", delivered: "yes", received: 200, retry: "no"},
	{name: "a head that stalls", sends: "HTTP/1.1 200 OK\r\nX", stays: true, status: 502, reason: "1004", delivered: "yes", received: 200, retry: "no"},
	{name: "nothing, stalls", sends: "", stays: true, status: 502, reason: "1004", delivered: "maybe", retry: "later"},
	{name: "a body that stalls", sends: "HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\nhalf", stays: true, status: 502, reason: "1004", delivered: "yes", received: 500, retry: "later"},
	{name: "a body that is cut", sends: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", status: 502, reason: "1011", delivered: "yes", received: 200, retry: "no"},
	{name: "chunks that are cut", sends: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", status: 502, reason: "1011", delivered: "yes", received: 200, retry: "no"},
	{name: "a chunk that is none", sends: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n", status: 502, reason: "1011", delivered: "yes", received: 200, retry: "no"},
	{name: "a trailer with a bare LF", sends: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n", status: 502, reason: "1011", delivered: "yes", received: 200, retry: "no"},
	{name: "a length over the limit", sends: "HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n", stays: true, status: 502, reason: "1008", delivered: "yes", received: 200, retry: "no"},
	{name: "a 500 over the limit", sends: "HTTP/1.1 500 No\r\nContent-Length: 100001\r\n\r\n", stays: true, status: 502, reason: "1008", delivered: "yes", received: 500, retry: "later"},
}

// passRows are what is another under incompleteResponses: pass.
var passRows = []answerRow{
	{name: "a 200", sends: okResponse, stays: true, status: 200, body: "ok"},
	{name: "a large one", sends: withLength(pattern(100000)), stays: true, status: 200, body: pattern(100000)},
	{name: "a large one in chunks", sends: chunked(pattern(100000), 999), stays: true, status: 200, body: pattern(100000)},
	{name: "one until the end", sends: untilClose(pattern(70000)), status: 200, body: pattern(70000)},
	{name: "an untidy one", sends: "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", stays: true, status: 200, body: "ok", untidy: []string{"bare_lf"}},
	{name: "a body that is cut", sends: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", status: 200, reason: "1011", delivered: "yes", received: 200, body: "half"},
	{name: "an untidy one that is cut", sends: "HTTP/1.1 201 OK\nContent-Length: 9\n\nhalf", status: 201, reason: "1011", delivered: "yes", received: 201, body: "half", untidy: []string{"bare_lf"}},
	{name: "cut before its first byte", sends: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", status: 200, reason: "1011", delivered: "yes", received: 200},
	{name: "chunks that are cut", sends: "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", status: 404, reason: "1011", delivered: "yes", received: 404, body: "half"},
	{name: "a chunk that is none", sends: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n", status: 200, reason: "1011", delivered: "yes", received: 200, body: "half"},
	{name: "a body that stalls", sends: "HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\nhalf", stays: true, status: 500, reason: "1004", delivered: "yes", received: 500, body: "half"},
	{name: "a length over the limit", sends: "HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n" + pattern(100001), status: 200, reason: "1008", delivered: "yes", received: 200, body: pattern(100000)},
	{name: "a length over the limit, cut", sends: "HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\nhalf", status: 200, reason: "1008", delivered: "yes", received: 200, body: "half"},
	{name: "chunks over the limit", sends: chunked(pattern(100001), 5000), stays: true, status: 200, reason: "1008", delivered: "yes", received: 200, body: pattern(100000)},
	{name: "no end, over the limit", sends: untilClose(pattern(200000)), status: 200, reason: "1008", delivered: "yes", received: 200, body: pattern(100000)},
	{name: "a forged field", sends: "HTTP/1.1 200 OK\r\nX-WhSentry-Incomplete: 1000\r\nContent-Length: 2\r\n\r\nok", stays: true, status: 200, body: "ok"},
	{name: "a large head", sends: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1000) + "\r\n\r\n", status: 502, reason: "1011", delivered: "yes", received: 200, retry: "no"},
	{name: "a head without its end", sends: "HTTP/1.1 200 OK\r\nX: y\r\n", status: 502, reason: "1011", delivered: "yes", received: 200, retry: "no"},
	{name: "nothing", sends: "", status: 502, reason: "1011", delivered: "maybe", retry: "later"},
}

func TestAnswersOfDestinations(t *testing.T) {
	t.Parallel()
	for incomplete, rows := range map[string][]answerRow{proxy.IncompleteError: errorRows, proxy.IncompletePass: passRows} {
		t.Run(incomplete, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
				cfg.IncompleteResponses, cfg.AccessLog.Type = incomplete, accesslog.JSON
				cfg.MaxResponseBodySize, cfg.MaxHeaderSize, cfg.ReadTimeout = 100000, 1000, 2*time.Second
			})
			untidy, webhooks := make(map[string]int), make([]string, len(rows))
			t.Run("client", func(t *testing.T) {
				for i, row := range rows {
					t.Run(row.name, func(t *testing.T) {
						t.Parallel()
						webhooks[i] = row.run(t, s, incomplete == proxy.IncompletePass)
					})
					for _, what := range row.untidy {
						untidy[what]++
					}
				}
			})
			lines := make(map[string]map[string]any)
			for _, line := range s.jsonLines(2 * len(rows)) {
				lines[line["url"].(string)] = line
			}
			for i, row := range rows {
				t.Run("log, "+row.name, func(t *testing.T) { row.checkLog(t, lines[webhooks[i]]) })
			}
			for what, n := range untidy {
				s.waitMetric(fmt.Sprintf("whsentry_untidy_responses_total{what=%q}", what), fmt.Sprint(n))
			}
			s.waitMetric("whsentry_buffered_bytes", "0")
		})
	}
}

// run has the row's answer sent to a POST, and asks the same destination once more: it must get that answer and no other.
// It returns the POST's URL.
func (row *answerRow) run(t *testing.T, s *sentry, pass bool) string {
	o := newOrigin(t, func(c *originConn) {
		for {
			req, _, ok := c.request()
			if !ok {
				return
			}
			if req.URL.Path == "/2" {
				c.Write([]byte(secondResponse))
				continue
			}
			if c.Write([]byte(row.sends)); !row.stays {
				return
			}
		}
	})
	c := s.dialFor(t)
	defer c.Close()
	c.send(post(o, "/", "hook"))
	r := c.receive("POST")
	for r.code() < 200 { // interim
		r = c.receive("POST")
	}
	incomplete := pass && row.status != 502
	if r.code() != row.status || r.closing || r.bodyErr != nil {
		t.Fatalf("got %q, %d bytes, %v, closing %v; want %d", r.status, len(r.body), r.bodyErr, r.closing, row.status)
	}
	if incomplete || row.reason == "" {
		if got := r.header.Get("X-Whsentry-Incomplete"); got != row.reason || r.body != row.body || r.reason() != "" {
			t.Errorf("got %d bytes, incomplete for %q, reason %q; want %d, %q and none", len(r.body), got, r.reason(), len(row.body), row.reason)
		}
	} else {
		row.checkOutcome(t, r)
	}
	c.send(get(o, "/2"))
	if second := c.receive("GET"); second.body != "second" {
		t.Errorf("got %q with %q for the second request; want its own answer", second.status, second.body)
	}
	reused := row.stays && row.reason == "" && row.untidy == nil
	if got := o.connections() == 1; got != reused {
		t.Errorf("got the connection reused %v; want %v", got, reused)
	}
	if got := strings.Count(o.bytes(), "POST / "); got != 1 {
		t.Errorf("got the webhook %d times at the destination; want once", got)
	}
	return "http://" + o.addr + "/"
}

func (row *answerRow) checkOutcome(t *testing.T, r *response) {
	t.Helper()
	if r.reason() != row.reason || r.header.Get("X-Whsentry-Delivered") != row.delivered || r.header.Get("X-Whsentry-Retry") != row.retry ||
		r.header.Get("X-Whsentry-Source") != "destination" {
		t.Errorf("got %q, delivered %q, retry %q; want %q, %q, %q", r.reason(), r.header.Get("X-Whsentry-Delivered"), r.header.Get("X-Whsentry-Retry"),
			row.reason, row.delivered, row.retry)
	}
	status := r.header.Get("Proxy-Status")
	if want := fmt.Sprintf("; received-status=%g;", row.received); strings.Contains(status, "; received-status=") != (row.received > 0) ||
		row.received > 0 && !strings.Contains(status, want) {
		t.Errorf("got %q; want %q in it", status, want)
	}
}

func (row *answerRow) checkLog(t *testing.T, line map[string]any) {
	t.Helper()
	var untidy []string
	if list, ok := line["untidy"].([]any); ok {
		for _, what := range list {
			untidy = append(untidy, what.(string))
		}
	}
	code, _ := line["reason_code"].(float64)
	received, _ := line["received_status"].(float64)
	delivered, _ := line["delivered"].(string)
	want := row.reason
	if want == "" {
		want = "0"
	}
	if !slices.Equal(untidy, row.untidy) || fmt.Sprint(code) != want || received != row.received || delivered != row.delivered || line["response_code"] != float64(row.status) {
		t.Errorf("got the line %v; want status %d, reason %s, received %g, delivered %q, untidy %q", line, row.status, want, row.received, row.delivered, row.untidy)
	}
}

// TestPassedBodiesAreCounted is a body that does not fit into maxBufferedBytes: as much as does is passed on.
func TestPassedBodiesAreCounted(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.IncompleteResponses, cfg.MaxBufferedBytes = proxy.IncompletePass, 300000
	})
	o := answering(t, withLength(pattern(400000)))
	r := s.exchange(post(o, "/", "hook"))
	if r.status != "200 OK" || r.header.Get("X-Whsentry-Incomplete") != "1014" || r.bodyErr != nil || !strings.HasPrefix(pattern(400000), r.body) {
		t.Errorf("got %q, incomplete for %q, %d bytes, %v; want 200, 1014 and the body's beginning", r.status, r.header.Get("X-Whsentry-Incomplete"), len(r.body), r.bodyErr)
	}
	s.waitMetric("whsentry_buffered_bytes", "0")
	s.waitMetric(`whsentry_limit_reached_total{limit="maxBufferedBytes"}`, "1")
}

// TestEnvoyFields holds that with errorHeaders: envoy those fields are the proxy's own, and else a destination's business.
func TestEnvoyFields(t *testing.T) {
	t.Parallel()
	o := answering(t, "HTTP/1.1 200 OK\r\nX-Envoy-Response-Flags: DF\r\nx-envoy-response-code-details: forged\r\nX-Envoy-Other: 1\r\nContent-Length: 2\r\n\r\nok")
	for _, envoy := range []bool{false, true} {
		s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
			if cfg.Answers.ErrorHeaders = nil; envoy {
				cfg.Answers.ErrorHeaders = []string{reason.HeadersEnvoy}
			}
		})
		r := s.exchange(post(o, "/", "hook"))
		flags, details := r.header.Get("X-Envoy-Response-Flags"), r.header.Get("X-Envoy-Response-Code-Details")
		if (flags == "" && details == "") != envoy || r.header.Get("X-Envoy-Other") != "1" {
			t.Errorf("envoy %v: got %v", envoy, r.header)
		}
		r = s.exchange("POST http://127.0.0.1:25/ HTTP/1.1\r\nHost: x\r\n\r\n")
		if got := r.header.Get("X-Envoy-Response-Flags"); (got == "UAEX") != envoy || r.header.Get("Proxy-Status") != "" {
			t.Errorf("envoy %v: got %v of the proxy's own", envoy, r.header)
		}
	}
}
