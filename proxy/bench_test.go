package proxy

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"whsentry/proxy/accesslog"
	"whsentry/proxy/destination"
	"whsentry/proxy/downstream"
	"whsentry/proxy/http1"
	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
)

// What a request of the benchmarks is made of: a webhook as a large sender of them posts it, through the client of a
// proxy that names its connection's end, and an answer as a web application behind a common server gives it.
var (
	benchRequest = strings.ReplaceAll(`POST http://hooks.shop.example/integrations/github/4711?tenant=acme HTTP/1.1
Host: hooks.shop.example
User-Agent: GitHub-Hookshot/2f4c1a7
Content-Length: 1024
Accept: */*
Accept-Encoding: gzip, deflate
Content-Type: application/json
Proxy-Connection: Keep-Alive
Request-ID: 6f9619ff-8b86-d011-b42d-00c04fc964ff
X-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958
X-GitHub-Event: push
X-GitHub-Hook-ID: 292430182
X-GitHub-Hook-Installation-Target-ID: 79929171
X-GitHub-Hook-Installation-Target-Type: repository
X-Hub-Signature-256: sha256=d57c68ca6f92289e6987922ff26938930f6e66a2d161ef06abdf1859230aa23c

`, "\n", "\r\n")
	benchResponse = strings.ReplaceAll(`HTTP/1.1 202 Accepted
Server: nginx
Date: Mon, 23 Nov 2026 09:30:00 GMT
Content-Type: application/json; charset=utf-8
Content-Length: 15
Connection: keep-alive
Cache-Control: max-age=0, private, must-revalidate
X-Request-Id: 0f3b6f7e-5d2a-4c7f-9a54-3c1f0f6f2f11
Strict-Transport-Security: max-age=31536000; includeSubDomains

`, "\n", "\r\n")
)

// hotPath is every step of a request on kept-alive connections. None may allocate. prepare returns one round of a step,
// and how many bytes that works through; 0 where the step's cost is not one of bytes.
var hotPath = []struct {
	name    string
	prepare func(testing.TB) (round func(), size int)
}{
	{"exchange", benchExchange},
	{"request scan", benchRequestScan},
	{"target", benchTarget},
	{"pool key", benchPoolKey},
	{"request rewrite", benchRequestRewrite},
	{"response scan", benchResponseScan},
	{"response rewrite", benchResponseRewrite},
	{"chunks of 1 KiB", func(t testing.TB) (func(), int) { return benchChunks(t, 1024, 4) }},
	{"chunks of 16 B", func(t testing.TB) (func(), int) { return benchChunks(t, 16, 64) }},
	{"count", benchCount},
	{"record", func(t testing.TB) (func(), int) { return benchRecord(t, benchRequest) }},
	{"record with an id of its own", func(t testing.TB) (func(), int) {
		return benchRecord(t, strings.Replace(benchRequest, "\r\nRequest-ID:", "\r\nX-Other-ID:", 1))
	}},
}

func BenchmarkHotPath(b *testing.B) {
	for _, step := range hotPath {
		b.Run(step.name, func(b *testing.B) {
			round, size := step.prepare(b)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				round()
			}
		})
	}
}

// TestAllocHotPath holds every step to no allocation at all. What happens now and then, such as the log's new second,
// can fall into one measurement, but not into all three.
func TestAllocHotPath(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties every sync.Pool")
	}
	for _, step := range hotPath {
		t.Run(step.name, func(t *testing.T) {
			round, _ := step.prepare(t)
			const rounds = 500
			least := math.Inf(1)
			for range 3 {
				least = min(least, testing.AllocsPerRun(10, func() {
					for range rounds {
						round()
					}
				}))
			}
			if least != 0 {
				t.Errorf("got %v allocations in %d rounds; want 0", least, rounds)
			}
		})
	}
}

func benchExchange(t testing.TB) (func(), int) {
	c := &client{Conn: downstream.Conn{Addr: "10.0.0.7:51324"}, proxy: proxyWith(new(Config))}
	return func() {
		ex := acquireExchange()
		ex.begin(c)
		ex.release()
	}, 0
}

func benchRequestScan(t testing.TB) (func(), int) {
	raw := []byte(benchRequest)
	var g http1.Gate
	var h http1.Request
	return func() {
		g.Reset(64 * kiB)
		h.Reset()
		n, err := g.Scan(raw)
		if err == nil {
			err = h.Scan(raw[:n], "request-id")
		}
		if n != len(raw) || err != nil {
			t.Fatalf("got %d, %v; want %d", n, err, len(raw))
		}
	}, len(raw)
}

func benchTarget(t testing.TB) (func(), int) {
	h := &exchangeFor(t, benchRequest).head
	raw := h.Target
	return func() {
		target, f := http1.ParseTarget(raw)
		if f == nil {
			f = h.CheckHost()
		}
		if f != nil || len(target.Path) == 0 {
			t.Fatalf("got %q, %v; want a path", target.Path, f)
		}
	}, len(raw)
}

func benchPoolKey(t testing.TB) (func(), int) {
	target, f := http1.ParseTarget([]byte("https://hooks.shop.example:8443/"))
	if f != nil {
		t.Fatal(f)
	}
	var a destination.Address
	return func() {
		a.Set(&target.Authority, true)
		if len(a.Key()) != len("hooks.shop.example:8443") {
			t.Fatalf("got %q", a.Key())
		}
	}, 0
}

func benchRequestRewrite(t testing.TB) (func(), int) {
	ex := exchangeFor(t, benchRequest)
	return func() { ex.out = ex.appendRequestHead(ex.borrowOut(), 1024) }, len(benchRequest)
}

func benchResponseScan(t testing.TB) (func(), int) {
	raw := []byte(benchResponse)
	var r http1.Response
	return func() {
		r.Reset()
		if n, f := r.Scan(raw); n != len(raw) || f != nil {
			t.Fatalf("got %d, %v; want %d", n, f, len(raw))
		}
	}, len(raw)
}

func benchResponseRewrite(t testing.TB) (func(), int) {
	ex := exchangeFor(t, benchRequest)
	ex.resp.Reset()
	if _, f := ex.resp.Scan([]byte(benchResponse)); f != nil {
		t.Fatal(f)
	}
	return func() { ex.out = ex.appendResponseHead(ex.borrowOut(), &ex.resp, http1.ByLength, 15) }, len(benchResponse)
}

func benchChunks(t testing.TB, size, count int) (func(), int) {
	chunk := fmt.Sprintf("%x\r\n%s\r\n", size, strings.Repeat("a", size))
	raw := []byte(strings.Repeat(chunk, count) + "0\r\n\r\n")
	var d http1.Chunks
	return func() {
		d.Reset(64*kiB, false)
		got := 0
		for rest := raw; len(rest) > 0; {
			data, n, err := d.Next(rest)
			if err != nil {
				t.Fatal(err)
			}
			got, rest = got+len(data), rest[n:]
		}
		if got != size*count || !d.Done() {
			t.Fatalf("got %d bytes; want %d", got, size*count)
		}
	}, len(raw)
}

func benchCount(t testing.TB) (func(), int) {
	m := metrics.New("test", "none")
	return func() { m.CountRequest(202, reason.None, reason.SourceNone, 12*time.Millisecond) }, 0
}

// benchRecord makes the record of an exchange that the access log gets.
func benchRecord(t testing.TB, request string) (func(), int) {
	ex := exchangeFor(t, request)
	ex.status, ex.body.Came, ex.responseBytes = 202, 1024, 15
	ex.remote, ex.reused = netip.MustParseAddrPort("203.0.113.7:80"), true
	ex.phases = [metrics.Phases]time.Duration{-1, -1, -1, 11 * time.Millisecond}
	r := accesslog.AcquireRecord()
	return func() {
		ex.fillRecord(r, time.Now(), 12*time.Millisecond)
		r.Forget()
	}, 0
}
