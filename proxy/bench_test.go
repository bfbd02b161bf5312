package proxy

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

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
	{"pool get and put", benchPool},
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
	c := &client{addr: "10.0.0.7:51324", proxy: proxyWith(new(Config))}
	return func() {
		ex := acquireExchange()
		ex.begin(c)
		ex.release()
	}, 0
}

func benchRequestScan(t testing.TB) (func(), int) {
	raw := []byte(benchRequest)
	var h requestHead
	return func() {
		h.reset()
		if n, f := h.scan(raw, "request-id"); n != len(raw) || f != nil {
			t.Fatalf("got %d, %v; want %d", n, f, len(raw))
		}
	}, len(raw)
}

func benchTarget(t testing.TB) (func(), int) {
	h := &exchangeFor(t, benchRequest).head
	raw := h.target.of(h.raw)
	return func() {
		target, f := parseTarget(raw)
		if f == nil {
			f = h.checkHost()
		}
		if f != nil || len(target.path) == 0 {
			t.Fatalf("got %q, %v; want a path", target.path, f)
		}
	}, len(raw)
}

func benchPoolKey(t testing.TB) (func(), int) {
	target, f := parseTarget([]byte("https://hooks.shop.example:8443/"))
	if f != nil {
		t.Fatal(f)
	}
	var a address
	return func() {
		a.set(&target.authority, true)
		if len(a.key) != len("hooks.shop.example:8443") {
			t.Fatalf("got %q", a.key)
		}
	}, 0
}

func benchRequestRewrite(t testing.TB) (func(), int) {
	ex := exchangeFor(t, benchRequest)
	return func() { ex.out = ex.appendRequestHead(ex.out[:0], 1024) }, len(benchRequest)
}

// benchPool takes a connection to a real destination, one of a thousand, and lays it to rest again.
func benchPool(t testing.TB) (func(), int) {
	p := startForBench(t, func(c *Config) { c.ConnectionLifetime, c.ReadTimeout = time.Hour, time.Hour })
	postLoop(t, p, 1024, 2)()
	key := []byte(onlyDestination(t, p.pool))
	for i := range 999 {
		p.pool.reserve(fmt.Appendf(nil, "hooks-%d.shop.example:443", i), 1)
	}
	limits := p.run.Load().limits
	return func() {
		u := p.pool.idleConn(p.pool.reserve(key, 256), route{}, now(), limits)
		if u == nil {
			t.Fatal("got no connection; want the one at rest")
		}
		p.pool.put(u, now(), limits)
	}, 0
}

// onlyDestination returns the key of the one destination that the pool holds, once its connection is at rest.
func onlyDestination(t testing.TB, p *pool) string {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); p.metrics.IdleUpstreams.Load() != 1; {
		if time.Now().After(end) {
			t.Fatal("got no connection at rest; want one")
		}
	}
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		defer s.mu.Unlock()
		for key := range s.destinations {
			return key
		}
	}
	t.Fatal("got an empty pool; want a destination")
	return ""
}

func benchResponseScan(t testing.TB) (func(), int) {
	raw := []byte(benchResponse)
	var r responseHead
	return func() {
		r.reset()
		if n, f := r.scan(raw); n != len(raw) || f != nil {
			t.Fatalf("got %d, %v; want %d", n, f, len(raw))
		}
	}, len(raw)
}

func benchResponseRewrite(t testing.TB) (func(), int) {
	ex := exchangeFor(t, benchRequest)
	ex.resp.reset()
	if _, f := ex.resp.scan([]byte(benchResponse)); f != nil {
		t.Fatal(f)
	}
	return func() { ex.out = ex.appendResponseHead(ex.out[:0], &ex.resp, framingLength, 15) }, len(benchResponse)
}

func benchChunks(t testing.TB, size, count int) (func(), int) {
	chunk := fmt.Sprintf("%x\r\n%s\r\n", size, strings.Repeat("a", size))
	raw := []byte(strings.Repeat(chunk, count) + "0\r\n\r\n")
	var d chunkDecoder
	return func() {
		d.reset(64 * kiB)
		got := 0
		for rest := raw; len(rest) > 0; {
			data, n, err := d.next(rest)
			if err != nil {
				t.Fatal(err)
			}
			got, rest = got+len(data), rest[n:]
		}
		if got != size*count || !d.done() {
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
	ex.status, ex.requestBytes, ex.responseBytes = 202, 1024, 15
	ex.remote, ex.reused = netip.MustParseAddrPort("203.0.113.7:80"), true
	ex.phases = [metrics.Phases]time.Duration{-1, -1, -1, 11 * time.Millisecond}
	return func() {
		ex.fillRecord(time.Now(), 12*time.Millisecond)
		ex.logged.Forget()
	}, 0
}
