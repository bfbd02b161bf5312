package e2e

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
)

// closer is a destination that closes its connections at every moment, and knows of every request what it did to it.
// One client sends to it, one request at a time, so that there is one pooled connection at most.
type closer struct {
	serving   sync.WaitGroup
	mu        sync.Mutex     // guards the following
	delivered map[string]int // by id: read in full
	taken     map[string]int // by id: of which a byte was read
	closings  []moment       // closings that were not behind a look at what had come
}

// moment is one in time that took a while.
type moment struct{ from, to time.Time }

// side is one end of a connection, plain or with TLS.
type side struct {
	r     *bufio.Reader
	w     io.Writer
	tcp   *net.TCPConn
	leave func() // says good-bye in TLS
}

var requestID = regexp.MustCompile(`/id-([0-9a-z-]+) `)

// take notes which request the bytes at the beginning of what has come belong to.
func (o *closer) take(text []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range requestID.FindAllSubmatch(text, -1) {
		o.taken[string(m[1])]++
	}
}

// serve answers at least one request on each connection.
func (o *closer) serve(s side) {
	o.serving.Add(1)
	defer o.serving.Done()
	for first := true; ; first = false {
		if _, err := s.r.Peek(1); err != nil {
			return
		}
		come, _ := s.r.Peek(s.r.Buffered())
		o.take(come)
		if !first && rand.IntN(12) == 0 { // with no more than that in hand
			o.close(s, rand.IntN(3))
			return
		}
		req, err := http.ReadRequest(s.r)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		o.mu.Lock()
		o.delivered[strings.TrimPrefix(req.URL.Path, "/id-")]++
		o.mu.Unlock()
		if !first && req.Method == http.MethodPost && rand.IntN(25) == 0 { // with all of it in hand
			o.close(s, rand.IntN(3))
			return
		}
		io.WriteString(s.w, okResponse)
		if whim := rand.IntN(10); whim < 5 {
			switch rand.IntN(3) { // right away, some microseconds later, while it is at rest
			case 1:
				pauseBriefly(400 * time.Microsecond)
			case 2:
				time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
			}
			o.close(s, whim)
			return
		}
	}
}

// close ends a connection in one of five ways.
func (o *closer) close(s side, how int) {
	began := time.Now()
	switch how {
	case 0: // whatever has come is not looked at
		s.leave()
		s.tcp.Close()
	case 1:
		s.tcp.SetLinger(0)
		s.tcp.Close()
	case 2: // in TLS, without a good-bye
		s.tcp.Close()
	default: // what comes behind the FIN is known
		s.leave()
		s.tcp.CloseWrite()
		rest, _ := io.ReadAll(s.r)
		o.take(rest)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closings = append(o.closings, moment{began, time.Now()})
}

// closingSlack is how long after the end of a closing it is certain that the proxy's system knows of it.
const closingSlack = 60 * time.Millisecond

// excuses reports whether a request that was under way then had a reason to fail: the destination had some of it and
// closed, or was closing while it was on its way.
func (o *closer) excuses(id string, underWay moment) bool {
	if o.taken[id] > 0 {
		return true
	}
	for _, m := range o.closings {
		if m.to.Add(closingSlack).After(underWay.from) && m.from.Before(underWay.to) {
			return true
		}
	}
	return false
}

// try sends requests and holds what comes of them against what the destination did. It returns how many failed.
func (o *closer) try(t *testing.T, s *sentry, name string, count int, request func(id string) string) {
	failures := make(map[string]moment)
	answered := make(map[string]bool)
	c := s.dialFor(t)
	for i := range count {
		switch rand.IntN(16) {
		default:
			pauseBriefly(400 * time.Microsecond)
		case 0, 1, 2, 4:
			time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		case 3:
			time.Sleep(closingSlack + time.Duration(rand.IntN(3000))*time.Microsecond)
		}
		id := fmt.Sprintf("%s-%d", name, i)
		raw, sent := request(id), time.Now()
		c.SetDeadline(sent.Add(patience))
		c.send(raw)
		switch r := c.receive("POST"); {
		case r.code() == 200:
			answered[id] = true
		case r.code() == 502 && r.reason() == "1011" && strings.HasPrefix(raw, "POST"):
			failures[id] = moment{sent, time.Now()}
		default:
			t.Fatalf("request %s: got %q, %q", id, r.status, r.header.Get("X-Whsentry-Reason"))
		}
	}
	s.waitMetric(busyConnections, "0")
	t.Cleanup(func() { // once the proxy has let go of the connection that is left
		o.serving.Wait()
		unknown := 0
		for id, underWay := range failures {
			if !o.excuses(id, underWay) {
				t.Errorf("request %s, sent at %s, has failed; the destination had nothing of it and had closed its connections before: %v",
					id, underWay.from, o.closings)
			}
			if o.taken[id] == 0 {
				unknown++
			}
		}
		for id, n := range o.delivered {
			if n > 1 && strings.HasPrefix(request(id), "POST") {
				t.Errorf("request %s was delivered %d times", id, n)
			}
		}
		for id := range answered {
			if o.delivered[id] == 0 {
				t.Errorf("request %s was answered and not delivered", id)
			}
		}
		t.Logf("%d answered, %d failed, %d of these while the destination closed", len(answered), len(failures), unknown)
	})
}

func newCloser() *closer {
	return &closer{delivered: make(map[string]int), taken: make(map[string]int)}
}

// TestClosingAtEveryMoment sends thousands of requests to destinations that close their connections at every moment
// with FIN and RST: no POST arrives twice, none fails because its connection was closed while it was at rest, and every
// GET is answered. Nothing hangs: that would be a 1004.
func TestClosingAtEveryMoment(t *testing.T) {
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = 5 * time.Second })
	for _, kind := range []struct {
		name, method string
		size, count  int
	}{
		{"post-a", "POST", 1, 400}, {"post-b", "POST", 1000, 400}, {"post-c", "POST", copyLimit, 400},
		{"post-d", "POST", copyLimit + 1, 400}, {"post-e", "POST", 200 << 10, 150},
		{"get", "GET", 0, 400}, {"put", "PUT", 200 << 10, 150},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			o := newCloser()
			at := newOrigin(t, func(c *originConn) {
				o.serve(side{c.r, c, c.Conn.(*net.TCPConn), func() {}})
			})
			body := pattern(kind.size)
			o.try(t, s, kind.name, kind.count, func(id string) string {
				return strings.Replace(post(at, "/id-"+id, body), "POST", kind.method, 1)
			})
			t.Cleanup(at.closeAll)
		})
	}
}

// TestTLSClosingAtEveryMoment is the same above TLS, where a good-bye may come without a FIN, and a FIN without a
// good-bye.
func TestTLSClosingAtEveryMoment(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "Root")
	s := startTLS(t, root, nil, func(cfg *proxy.Config, _ *guard.Config) { cfg.ReadTimeout = 5 * time.Second })
	for _, version := range tlsVersions {
		for _, kind := range []struct {
			name, method string
			size         int
		}{
			{"post", "POST", 1}, {"large", "POST", 40 << 10}, {"get", "GET", 0},
		} {
			t.Run(version.name+" "+kind.name, func(t *testing.T) {
				t.Parallel()
				o := newCloser()
				at := newTLSOrigin(t, only(serving(root.Leaf(t, hooksHost)), version.version), func(c *tlsConn) {
					o.serve(side{c.r, c, c.tcp, func() { c.CloseWrite() }})
				})
				body := pattern(kind.size)
				o.try(t, s, kind.name, 100, func(id string) string {
					return strings.Replace(overTLS(at.to(hooksHost), "/id-"+id, body), "POST", kind.method, 1)
				})
				t.Cleanup(at.closeAll)
			})
		}
	}
}
