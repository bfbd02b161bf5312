package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"whsentry/ca"
	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/e2e/corpus"
)

// ua is the one User-Agent that reaches destinations.
const ua = "User-Agent: Webhook Sentry/0.1\r\n"

// TestRequestFraming sends each request of the corpus alone, byte by byte, and with another behind it in the same
// write, which must be served exactly where the connection goes on. At last another client asks the same destination:
// each must get the answer to what it has asked, and the destination these requests and not a byte more. The rows run
// side by side, each with a destination of its own: no byte of one may turn up in another.
func TestRequestFraming(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, row := range corpus.Requests(t) {
		t.Run(row.Name, func(t *testing.T) {
			t.Parallel()
			for _, how := range []struct {
				name string
				send func(c *rawConn, raw, behind string)
			}{
				{"alone", func(c *rawConn, raw, _ string) { c.send(raw) }},
				{"byte by byte", func(c *rawConn, raw, _ string) { c.dribble(raw) }},
				{"pipelined", func(c *rawConn, raw, behind string) { c.send(raw + behind) }},
			} {
				if how.name == "pipelined" && strings.HasPrefix(row.Sends, "CONNECT ") {
					continue // what follows is for the tunnel: TestBytesBehindARefusedConnect
				}
				t.Run(how.name, func(t *testing.T) {
					c := s.dialFor(t)
					runRequests(t, s, c, row, how.name == "pipelined", func(raw, behind string) { how.send(c, raw, behind) })
				})
			}
		})
	}
}

// runRequests sends a row over c and looks what comes of it.
func runRequests(t *testing.T, s *sentry, c *rawConn, row corpus.Request, pipelined bool, send func(raw, behind string)) {
	t.Helper()
	o := labelling(t)
	row = row.To(o.addr)
	send(row.Sends, get(o, "/behind"))
	arrived := requestLines(row.Passed)
	asked, _, _ := strings.Cut(row.Sends, " ")
	for i, want := range row.Answers {
		method := "GET"
		switch {
		case want.Reason == "" && len(arrived) == 0:
			t.Fatalf("answer %d: the row says that it is the destination's, and passes no such request on", i)
		case want.Reason == "":
			method, _, _ = strings.Cut(arrived[0], " ")
		case i == 0 && asked == "HEAD":
			method = asked
		}
		r := c.receiveFinal(method)
		if r.code() != want.Status || r.reason() != want.Reason || r.closing != want.Closed {
			t.Fatalf("answer %d: got %s with reason %q, closing %v (%s); want %+v", i, r.status, r.reason(), r.closing, r.body, want)
		}
		if want.Reason == "" {
			checkLabel(t, o, r, arrived[0])
			arrived = arrived[1:]
		}
	}
	passed := row.Passed
	if row.Answers[len(row.Answers)-1].Closed {
		if !c.ended() {
			t.Error("got the connection open; want it closed")
		}
	} else {
		if !pipelined {
			c.send(get(o, "/behind"))
		}
		checkLabel(t, o, c.receive("GET"), "GET /behind HTTP/1.1")
		passed += "GET /behind HTTP/1.1\r\nHost: " + o.addr + "\r\n" + ua + "\r\n"
	}
	other := s.dialFor(t)
	other.send(get(o, "/other"))
	checkLabel(t, o, other.receive("GET"), "GET /other HTTP/1.1")
	passed += "GET /other HTTP/1.1\r\nHost: " + o.addr + "\r\n" + ua + "\r\n"
	if got := o.bytes(); got != passed || o.connections() != 1 {
		t.Errorf("got %q on %d connections at the destination; want %q on one", got, o.connections(), passed)
	}
}

// labelling is an origin that answers every request with its own address and the request line, whatever that is.
func labelling(t *testing.T) *origin {
	t.Helper()
	return newOrigin(t, func(c *originConn) {
		for {
			line, ok := readPlainly(c.r)
			if !ok {
				return
			}
			label := c.LocalAddr().String() + " " + line
			answer := withLength(label)
			if strings.HasPrefix(line, "HEAD ") {
				answer = "HTTP/1.1 200 OK\r\nX-Label: " + label + "\r\n\r\n"
			}
			if _, err := io.WriteString(c, answer); err != nil {
				return
			}
		}
	})
}

// checkLabel fails the test unless r is labelling's answer to the request with that line.
func checkLabel(t *testing.T, o *origin, r *response, line string) {
	t.Helper()
	got := r.body
	if strings.HasPrefix(line, "HEAD ") {
		got += r.header.Get("X-Label")
	}
	if want := o.addr + " " + line; r.code() != 200 || got != want {
		t.Fatalf("got %s with %q; want 200 with %q", r.status, got, want)
	}
}

// readPlainly reads a request by its Content-Length and nothing else, and returns its first line.
func readPlainly(r *bufio.Reader) (first string, ok bool) {
	length := 0
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = r.ReadString('\n'); err != nil {
			return "", false
		}
		if first == "" {
			first = strings.TrimSuffix(line, "\r\n")
		}
		fmt.Sscanf(strings.ToLower(line), "content-length: %d\r\n", &length)
	}
	_, err := io.CopyN(io.Discard, r, int64(length))
	return first, err == nil
}

// requestLines returns the first lines of the requests in raw.
func requestLines(raw string) (lines []string) {
	for r := bufio.NewReader(strings.NewReader(raw)); ; {
		line, ok := readPlainly(r)
		if !ok {
			return lines
		}
		lines = append(lines, line)
	}
}

// dribble sends raw a byte at a time, as far as the other side takes it.
func (c *rawConn) dribble(raw string) {
	for i := range len(raw) {
		if _, err := c.Write([]byte{raw[i]}); err != nil {
			return
		}
	}
}

// receiveFinal is receive for a request that may be told to continue first.
func (c *rawConn) receiveFinal(method string) *response {
	c.t.Helper()
	for {
		if r := c.receive(method); r.code() != 100 {
			return r
		}
	}
}

// receiveRefusable is receive for a method of which the answer may be a refusal: that of a CONNECT has a body too.
func (c *rawConn) receiveRefusable(method string) *response {
	c.t.Helper()
	if method == "CONNECT" {
		method = "GET"
	}
	return c.receive(method)
}

// TestManyInOneWrite sends several requests in one write: each is answered in its turn, and none twice.
func TestManyInOneWrite(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	echo := responding(t, func(c *originConn, body string) bool {
		_, err := io.WriteString(c, withLength("<"+body+">"))
		return err == nil
	})
	var all strings.Builder
	const n = 50
	for i := range n {
		switch i % 3 {
		case 0:
			all.WriteString(get(echo, "/"))
		case 1:
			all.WriteString(post(echo, "/", fmt.Sprint("body ", i)))
		case 2:
			all.WriteString(postChunked(echo, "/", fmt.Sprint("chunks ", i), 3))
		}
	}
	all.WriteString("GET http://" + echo.addr + "/ HTTP/1.1\r\nHost: " + echo.addr + "\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n")
	all.WriteString(get(echo, "/never"))
	c := s.dial()
	c.send(all.String())
	for i := range n {
		want := []string{"<>", fmt.Sprintf("<body %d>", i), fmt.Sprintf("<chunks %d>", i)}[i%3]
		if r := c.receive("GET"); r.code() != 200 || r.body != want {
			t.Fatalf("request %d: got %s, %q; want 200, %q", i, r.status, r.body, want)
		}
	}
	if r := c.receive("GET"); r.code() != 400 || r.reason() != "1002" || !r.closing {
		t.Errorf("the malformed one: got %s, %s; want 400, 1002 and a close", r.status, r.reason())
	}
	if !c.ended() {
		t.Error("got the connection open; want it closed")
	}
	if got := strings.Count(echo.bytes(), " HTTP/1.1\r\n"); got != n || strings.Contains(echo.bytes(), "never") {
		t.Errorf("got %d requests at the destination; want %d, and not the last", got, n)
	}
	if lines := s.logLines(n + 1); len(lines) != n+1 {
		t.Errorf("got %d lines in the log; want %d", len(lines), n+1)
	}
}

// TestHeadAndBodySplit cuts one request of each framing at every byte.
func TestHeadAndBodySplit(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	want := "POST / HTTP/1.1\r\nHost: " + o.addr + "\r\nContent-Length: 5\r\n" + ua + "\r\nhello"
	sent := 0
	for _, raw := range []string{post(o, "/", "hello"), postChunked(o, "/", "hello", 2)} {
		for cut := 1; cut < len(raw); cut += 3 {
			c := s.dial()
			c.send(raw[:cut])
			time.Sleep(time.Millisecond) // so that most arrive apart; nothing depends on it
			c.send(raw[cut:])
			if r := c.receive("POST"); r.code() != 200 {
				t.Fatalf("cut at %d: got %s; want 200", cut, r.status)
			}
			c.Close()
			sent++
		}
	}
	if got := o.bytes(); got != strings.Repeat(want, sent) {
		t.Errorf("got %d bytes at the destination; want %d requests, all the same", len(got), sent)
	}
}

func TestExpectContinue(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxRequestBodySize = 100 })
	const expect = "POST http://%s/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n%s\r\n"
	const continued = "HTTP/1.1 100 Continue\r\n\r\n"
	for _, tt := range []struct {
		name, to, fields string // to: "" for the destination
		body             string // sent after the 100
		status           int
		reason           string
	}{
		{"a length", "", "Content-Length: 3\r\n", "abc", 200, ""},
		{"chunked", "", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n", 200, ""},
		{"in other letters", "", "EXPECT: 100-CONTINUE\r\nContent-Length: 3\r\n", "abc", 200, ""},
		{"a malformed body", "", "Transfer-Encoding: chunked\r\n", "3\nabc", 400, "1002"},
		{"a body too large, chunked", "", "Transfer-Encoding: chunked\r\n", "65\r\n" + pattern(0x65) + "\r\n0\r\n\r\n", 413, "1012"},
		{"a body too large", "", "Content-Length: 101\r\n", "", 413, "1012"},
		{"both framings", "", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "", 400, "1002"},
		{"a refused port", "127.0.0.1:25", "Content-Length: 3\r\n", "", 403, "1013"},
		{"a refused address", "127.0.0.2", "Content-Length: 3\r\n", "", 403, "1000"},
		{"a refused address, chunked", "127.0.0.2", "Transfer-Encoding: chunked\r\n", "", 403, "1000"},
		{"a refused name", "localhost", "Content-Length: 3\r\n", "", 0, ""},
		{"a malformed target", "127.1", "Content-Length: 3\r\n", "", 400, "1002"},
	} {
		if tt.status == 0 {
			continue // localhost is 127.0.0.1, which may be reached here
		}
		t.Run(tt.name, func(t *testing.T) {
			o := answering(t, okResponse)
			to := tt.to
			if to == "" {
				to = o.addr
			}
			c := s.dial()
			c.send(fmt.Sprintf(expect, to, tt.fields))
			if tt.body != "" {
				if got := c.readHead(); got != continued {
					t.Fatalf("got %q; want %q", got, continued)
				}
				if o.connections() != 0 {
					t.Error("got the destination contacted before the body was there")
				}
				c.send(tt.body)
			}
			r := c.receive("POST")
			if r.code() != tt.status || r.reason() != tt.reason {
				t.Fatalf("got %s, %s; want %d, %s", r.status, r.reason(), tt.status, tt.reason)
			}
			if tt.status != 200 {
				if !r.closing || !c.ended() {
					t.Error("got the connection open; want it closed, for it is not known whether the body comes")
				}
				if o.connections() != 0 {
					t.Errorf("got %d connections at the destination; want none", o.connections())
				}
				return
			}
			want := "POST / HTTP/1.1\r\nHost: " + o.addr + "\r\nContent-Length: 3\r\n" + ua + "\r\nabc"
			if got := o.bytes(); got != want {
				t.Errorf("got %q at the destination; want %q", got, want)
			}
			c.send(get(o, "/again"))
			if r := c.receive("GET"); r.code() != 200 {
				t.Errorf("got %s after it; want 200", r.status)
			}
		})
	}
}

// TestExpectWithTheBodyAlreadyThere holds that a client that does not wait for a 100 is not confused by one.
func TestExpectWithTheBodyAlreadyThere(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	c := s.dial()
	c.send("POST http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc" + get(o, "/2"))
	for range 2 {
		for {
			head := c.readHead()
			if strings.HasPrefix(head, "HTTP/1.1 100 ") {
				continue
			}
			if !strings.HasPrefix(head, "HTTP/1.1 200 ") {
				t.Fatalf("got %q; want a 200", head)
			}
			break
		}
		if _, err := io.ReadFull(c.r, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(o.bytes(), " HTTP/1.1\r\n"); got != 2 || strings.Contains(o.bytes(), "xpect") {
		t.Errorf("got %q at the destination; want two requests without Expect", o.bytes())
	}
}

// TestExpectOfTheDestination holds that a destination's own 100 does not reach the client.
func TestExpectOfTheDestination(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, "HTTP/1.1 100 Continue\r\nX-A: 1\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"+okResponse)
	c := s.dial()
	for range 3 {
		c.send(post(o, "/", "abc"))
		if got, want := c.readHead(), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"; got != want {
			t.Fatalf("got %q; want %q", got, want)
		}
		io.ReadFull(c.r, make([]byte, 2))
	}
	if got := o.connections(); got != 1 {
		t.Errorf("got %d connections at the destination; want 1", got)
	}
}

// TestResponseFraming has each response of the corpus sent in one piece and byte by byte.
func TestResponseFraming(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, row := range slices.Concat(corpus.Responses(t), chunkedResponses(t)) {
		t.Run(row.Name, func(t *testing.T) {
			t.Parallel()
			runResponse(t, s, row, false)
			runResponse(t, s, row, true)
		})
	}
}

// chunkedResponses are responses with the chunked bodies of the corpus' requests: one decoder is for both ways.
func chunkedResponses(t *testing.T) (rows []corpus.Response) {
	t.Helper()
	for _, request := range corpus.Requests(t) {
		body, ok := strings.CutPrefix(request.To("a").Sends, "POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
		if !ok || len(request.Answers) > 1 {
			continue
		}
		row := corpus.Response{Name: request.Name, Method: "POST", Sends: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body, Reused: true}
		if request.Tidied {
			row.Passed, row.Reused = withLength(""), false
		} else if request.Refused() {
			row.Answer, row.Reused = corpus.Answer{Status: 502, Reason: "1011"}, false
		} else {
			_, data, _ := strings.Cut(request.To("a").Passed, "\r\n\r\n")
			row.Passed = withLength(data)
		}
		rows = append(rows, row)
	}
	if len(rows) < 50 {
		t.Fatalf("got %d chunked bodies; want the corpus' many", len(rows))
	}
	return rows
}

const secondResponse = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond"

// runResponse has a row's response sent. Behind it the client asks the same destination for another: it must get that
// one's own answer, on the old connection or a new one as it is due.
func runResponse(t *testing.T, s *sentry, row corpus.Response, dribbled bool) {
	t.Helper()
	o := newOrigin(t, func(oc *originConn) {
		for {
			req, _, ok := oc.request()
			if !ok {
				return
			}
			if req.RequestURI == "/2" {
				io.WriteString(oc, withLength("second from "+req.Host))
				continue
			}
			if dribbled {
				(&rawConn{Conn: oc.Conn}).dribble(row.Sends)
			} else {
				io.WriteString(oc, row.Sends)
			}
			if row.HangsUp {
				return
			}
		}
	})
	c := s.dialFor(t)
	defer c.Close()
	c.send(row.Method + " http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\n\r\n")
	if row.Passed == "" {
		r := c.receive(row.Method)
		if r.code() != row.Answer.Status || r.reason() != row.Answer.Reason || r.closing {
			t.Fatalf("dribbled %v: got %s, %s, closing %v; want %+v", dribbled, r.status, r.reason(), r.closing, row.Answer)
		}
	} else if got, err := c.take(len(row.Passed)); got != row.Passed {
		t.Fatalf("dribbled %v: got %q, %v; want %q", dribbled, got, err, row.Passed)
	}
	if got := strings.Count(o.bytes(), " / HTTP/1.1\r\n"); got != 1 {
		t.Errorf("dribbled %v: got the request %d times at the destination; want once", dribbled, got)
	}
	c.send(get(o, "/2"))
	second := withLength("second from " + o.addr)
	if got, err := c.take(len(second)); got != second {
		t.Fatalf("dribbled %v: got %q, %v for the second request; want %q", dribbled, got, err, second)
	}
	if reused := o.connections() == 1; reused != row.Reused && !(dribbled && row.Reused) {
		t.Errorf("dribbled %v: got %d connections at the destination; want reuse to be %v (what is tidied ends its connection)", dribbled, o.connections(), row.Reused)
	}
}

// take returns the next n bytes, or as many as there are.
func (c *rawConn) take(n int) (string, error) {
	got := make([]byte, n)
	n, err := io.ReadFull(c.r, got)
	return string(got[:n]), err
}

// TestInterimForOldClients holds that a client of HTTP/1.0 gets no interim response.
func TestInterimForOldClients(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"+okResponse)
	c := s.dial()
	c.send("GET http://" + o.addr + "/ HTTP/1.0\r\n\r\n")
	got, _ := io.ReadAll(c.r)
	if want := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"; string(got) != want {
		t.Errorf("got %q; want %q", got, want)
	}
}

// TestOldClients is about what a client of HTTP/1.0 gets.
func TestOldClients(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	large := pattern(200_000)
	for _, tt := range []struct {
		name, fields, answer string
		hangsUp              bool
		want                 string // all that the client gets up to the end of the connection
	}{
		{"chunked becomes a length", "", chunked("ok", 1), false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"},
		{"until close becomes a length", "", untilClose("ok"), true, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"},
		{"large chunked ends with the connection", "", chunked(large, 1000), false, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + large},
		{"large until close ends with the connection", "", untilClose(large), true, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + large},
		{"large chunked ends with the connection that was to stay", "Connection: keep-alive\r\n", chunked(large, 1000), false, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + large},
		{"large length", "", withLength(large), false, "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\nConnection: close\r\n\r\n" + large},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := answering(t, tt.answer)
			if tt.hangsUp {
				o = answeringOnce(t, tt.answer)
			}
			c := s.dial()
			c.send("GET http://" + o.addr + "/ HTTP/1.0\r\n" + tt.fields + "\r\n")
			got, err := io.ReadAll(c.r)
			if err != nil || string(got) != tt.want {
				t.Errorf("got %d bytes %.80q, %v; want %d %.80q", len(got), got, err, len(tt.want), tt.want)
			}
		})
	}
}

// TestTheEndOverTLS holds that a client of an https listener is told by TLS, too, that the connection ends: without that
// a body that ends with it looks cut.
func TestTheEndOverTLS(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "root")
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
		httpsListener(t, cfg, root.Leaf(t, "proxy.test"))
	})
	large := pattern(200_000)
	for _, tt := range []struct{ name, answer, request, want string }{
		{"a body that ends with the connection", chunked(large, 1000), " HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + large},
		{"Connection: close", okResponse, " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := answering(t, tt.answer)
			plain := s.dial()
			var wire bytes.Buffer
			plain.r = bufio.NewReader(io.TeeReader(plain.Conn, &wire))
			c := plain.secure(only(clientConfig(root, "proxy.test"), tls.VersionTLS12))
			c.send("GET http://" + o.addr + "/" + tt.request)
			got, err := io.ReadAll(c.r)
			if err != nil || string(got) != tt.want {
				t.Errorf("got %d bytes %.80q, %v; want %d %.80q", len(got), got, err, len(tt.want), tt.want)
			}
			const alert = 21
			if types := records(wire.String()); types[len(types)-1] != alert {
				t.Errorf("got a record of type %d last; want an alert, the close_notify", types[len(types)-1])
			}
		})
	}
}

// TestCutRequests holds that a request that is not there in full reaches nobody.
func TestCutRequests(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	whole := []string{post(o, "/", "hello"), postChunked(o, "/", "hello", 2)}
	cuts := 0
	for _, raw := range whole {
		for cut := 1; cut < len(raw); cut += 5 {
			c := s.dial()
			c.send(raw[:cut])
			c.halfClose()
			if got, _ := io.ReadAll(c.r); len(got) != 0 {
				t.Errorf("%q: got %q; want nothing", raw[:cut], got)
			}
			c.Close()
			cuts++
		}
	}
	for _, line := range s.logLines(cuts) {
		if !strings.Contains(line, " 499 ") {
			t.Errorf("got %q; want a 499", line)
		}
	}
	if got := o.connections(); got != 0 {
		t.Errorf("got %d connections at the destination; want none", got)
	}
}

// TestIPv6Destination is about an address in brackets.
func TestIPv6Destination(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6: %v", err)
	}
	defer ln.Close()
	got := make(chan string, 1)
	go func() { // ends with the one connection, or with the listener
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		head := newRawConn(t, conn).readHead()
		io.WriteString(conn, okResponse)
		got <- head
	}()
	s := start(t, func(_ *proxy.Config, g *guard.Config) { g.AllowList = []netip.Prefix{netip.MustParsePrefix("::1/128")} })
	c := s.dial()
	c.send("GET http://" + ln.Addr().String() + "/ HTTP/1.1\r\nHost: a\r\n\r\n")
	if r := c.receive("GET"); r.code() != 200 {
		t.Fatalf("got %s, %s; want 200", r.status, r.body)
	}
	if head, want := <-got, "GET / HTTP/1.1\r\nHost: "+ln.Addr().String()+"\r\n"+ua+"\r\n"; head != want {
		t.Errorf("got %q at the destination; want %q", head, want)
	}
}

// TestBytesBehindARefusedConnect holds that what was meant for a tunnel is not taken for another request.
func TestBytesBehindARefusedConnect(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	c := s.dial()
	c.send("CONNECT 127.0.0.2:80 HTTP/1.1\r\nHost: a\r\n\r\n" + get(o, "/inside"))
	if r := c.receive("GET"); r.code() != 403 || r.reason() != "1000" || !r.closing {
		t.Errorf("got %s, %s, closing %v; want 403, 1000, true", r.status, r.reason(), r.closing)
	}
	if !c.ended() || o.connections() != 0 {
		t.Errorf("got the connection going on, %d to the destination; want it closed, and none", o.connections())
	}
}

// TestOldClientThatStays holds that an HTTP/1.0 client that asks for keep-alive is told that it has it, also by a
// refusal: without that it would wait for the connection's end.
func TestOldClientThatStays(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	c := s.dial()
	for range 2 {
		for _, to := range []string{o.addr, "127.0.0.2"} {
			c.send("GET http://" + to + "/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
			if r := c.receive("GET"); r.header.Get("Connection") != "keep-alive" {
				t.Errorf("%s: got %s with Connection %q; want keep-alive", to, r.status, r.header.Get("Connection"))
			}
		}
	}
}

// TestHeadsWithoutEnd holds that neither side can keep the proxy reading.
func TestHeadsWithoutEnd(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxHeaderSize = 8 << 10 })
	o := answering(t, okResponse)
	for _, tt := range []struct {
		name, begin, part string
		status            int
		reason            string
	}{
		{"a field", "GET http://" + o.addr + "/ HTTP/1.1\r\nA: ", "aaaaaaaa", 431, "1012"},
		{"fields", "GET http://" + o.addr + "/ HTTP/1.1\r\n", "A: b\r\n", 431, "1012"},
		{"a target", "GET http://" + o.addr + "/", "aaaaaaaa", 431, "1012"},
		{"a method", "GET", "TTTTTTTT", 431, "1012"},
		{"empty lines", "", "\r\n", 431, "1012"},
		{"a chunk's extension", "POST http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;", "aaaaaaaa", 400, "1002"},
		{"many chunks' extensions", "POST http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "1;aaaaaaaaaaaaa\r\na\r\n", 400, "1002"},
		{"a trailer", "POST http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ", "aaaaaaaa", 431, "1012"},
		{"trailers", "POST http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "A: b\r\n", 431, "1012"},
		{"a chunk's size", "POST http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "00000000", 400, "1002"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := s.dial()
			c.send(tt.begin + strings.Repeat(tt.part, 64<<10/len(tt.part)))
			r := c.receive("GET")
			if r.code() != tt.status || r.reason() != tt.reason || !r.closing {
				t.Errorf("got %s, %s, closing %v; want %d, %s and a close", r.status, r.reason(), r.closing, tt.status, tt.reason)
			}
			if !c.ended() {
				t.Error("got the connection open; want it closed")
			}
		})
	}
	if got := o.connections(); got != 0 {
		t.Errorf("got %d connections at the destination; want none", got)
	}
}

func TestResponsesWithoutEnd(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxHeaderSize = 8 << 10 })
	for _, tt := range []struct{ name, begin, part string }{
		{"a status line", "HTTP/1.1 200 ", "aaaaaaaa"},
		{"a field", "HTTP/1.1 200 OK\r\nA: ", "aaaaaaaa"},
		{"fields", "HTTP/1.1 200 OK\r\n", "A: b\r\n"},
		{"folds", "HTTP/1.1 200 OK\r\nA: b\r\n", " c\r\n"},
		{"blank folds", "HTTP/1.1 200 OK\r\nA: b\r\n", " \n"},
		{"100s", "", "HTTP/1.1 100 Continue\r\n\r\n"},
		{"103s", "", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"},
		{"an extension", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "aaaaaaaa"},
		{"extensions", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1;aaaaaaaaaaaaaaaaaaaaaaaaa\r\na\r\n"},
		{"a trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ", "aaaaaaaa"},
		{"trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "A: b\r\n"},
		{"a size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "00000000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := newOrigin(t, func(oc *originConn) {
				if _, _, ok := oc.request(); !ok {
					return
				}
				io.WriteString(oc, tt.begin)
				for part := []byte(strings.Repeat(tt.part, 64)); ; {
					if _, err := oc.Write(part); err != nil {
						return
					}
				}
			})
			c := s.dial()
			c.send(get(o, "/"))
			var all bytes.Buffer
			c.r.Reset(io.TeeReader(c.Conn, &all))
			r := c.receive("GET")
			for r.code() == 103 {
				r = c.receive("GET")
			}
			if r.code() != 502 || r.reason() != "1011" {
				t.Errorf("got %s, %s; want 502, 1011", r.status, r.reason())
			}
			if all.Len() > 16<<10 {
				t.Errorf("got %d bytes; want them bounded", all.Len())
			}
		})
	}
}

// TestInterimsCountApart holds that interim responses have a limit of their own, together, and the final head its own.
func TestInterimsCountApart(t *testing.T) {
	t.Parallel()
	const limit = 8 << 10
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxHeaderSize = limit })
	interim := "HTTP/1.1 103 Early Hints\r\nA: " + pattern(limit/2-64) + "\r\n\r\n"
	final := "HTTP/1.1 200 OK\r\nA: " + pattern(limit-128) + "\r\nContent-Length: 0\r\n\r\n"
	o := answering(t, interim+interim+final)
	c := s.dial()
	c.send(get(o, "/"))
	if got := c.readHead() + c.readHead() + c.readHead(); got != interim+interim+final {
		t.Errorf("got %d bytes; want both interim responses and the final one", len(got))
	}
	o = answering(t, interim+interim+interim+final)
	c = s.dial()
	c.send(get(o, "/"))
	if got := c.readHead() + c.readHead(); got != interim+interim {
		t.Errorf("got %d bytes; want two interim responses", len(got))
	}
	if r := c.receive("GET"); r.code() != 502 || r.reason() != "1011" {
		t.Errorf("got %s, %s for the third; want 502, 1011", r.status, r.reason())
	}
}

// TestLargeHeads holds that a limit of several megabytes is one that can be used.
func TestLargeHeads(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxHeaderSize = size })
	field := "A: " + pattern(size-1024) + "\r\n"
	o := answering(t, "HTTP/1.1 200 OK\r\n"+field+"Content-Length: 0\r\n\r\n")
	c := s.dial()
	c.send("GET http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\n" + field + "\r\n")
	if got, want := c.readHead(), "HTTP/1.1 200 OK\r\n"+field+"Content-Length: 0\r\n\r\n"; got != want {
		t.Errorf("got %d bytes; want %d", len(got), len(want))
	}
	if want := "GET / HTTP/1.1\r\nHost: " + o.addr + "\r\n" + field + ua + "\r\n"; o.bytes() != want {
		t.Errorf("got %d bytes at the destination; want %d", len(o.bytes()), len(want))
	}
}

// TestOwnUserAgent is about a proxy that has none.
func TestOwnUserAgent(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.UserAgent = "" })
	o := answering(t, okResponse)
	c := s.dial()
	var want string
	for _, fields := range []string{"", "User-Agent: curl/8\r\n", "user-AGENT: a b\r\nA: 1\r\n"} {
		c.send("GET http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n")
		c.receive("GET")
		want += "GET / HTTP/1.1\r\nHost: " + o.addr + "\r\n" + fields + "\r\n"
	}
	if got := o.bytes(); got != want {
		t.Errorf("got %q at the destination; want %q", got, want)
	}
}

// TestLateBytes holds that what a destination sends behind a response, when its connection rests already, reaches no
// other request.
func TestLateBytes(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	sent := make(chan struct{}, 1)
	o := newOrigin(t, func(oc *originConn) {
		for {
			req, _, ok := oc.request()
			if !ok {
				return
			}
			if req.RequestURI == "/2" {
				io.WriteString(oc, secondResponse)
				continue
			}
			io.WriteString(oc, okResponse)
			time.Sleep(20 * time.Millisecond) // until the connection rests; it may rest later, for nothing depends on it
			io.WriteString(oc, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
			waitArrived(oc.Conn)
			sent <- struct{}{}
		}
	})
	c := s.dial()
	for range 5 {
		c.send(get(o, "/"))
		if r := c.receive("GET"); r.body != "ok" {
			t.Fatalf("got %q; want ok", r.body)
		}
		<-sent
		c.send(get(o, "/2"))
		if r := c.receive("GET"); r.body != "second" {
			t.Fatalf("got %q; want second", r.body)
		}
	}
}

// TestReasonInTheStatusLine is about what most clients show of a CONNECT that was refused.
func TestReasonInTheStatusLine(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, tt := range []struct{ name, raw, want string }{
		{"refused address", "CONNECT 127.0.0.2:443 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 403 IP 127.0.0.2 is blocked (1000)\r\n"},
		{"refused port", "CONNECT 127.0.0.1:25 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 403 port 25 is blocked (1013)\r\n"},
		{"malformed target", "CONNECT 127.1:25 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 400 malformed request: "},
		{"malformed head", "CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", "HTTP/1.1 400 malformed request: "},
		{"no CONNECT", "GET http://127.0.0.2/ HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 403 Forbidden\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := s.dial()
			c.send(tt.raw)
			if got := c.readHead(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q; want it to begin with %q", got, tt.want)
			}
		})
	}
}

// insideRow is a request inside an intercepted tunnel, and what comes of it. In raw and sent, {o} stands for the
// tunnel's host and port.
type insideRow struct {
	name, raw string
	status    int
	reason    string // "" where the destination answers
	closed    bool   // the client's connection ends after the answer
	sent      string // what reaches the destination
}

// TestFramingInsideATunnel holds that a request inside an intercepted tunnel is judged as strictly as any, and that it
// goes to the tunnel's host and port or nowhere.
func TestFramingInsideATunnel(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "root"), catest.Root(t, "issuer")
	s := startTLS(t, root, func(cfg *ca.Config) {
		cfg.MITMIssuer.CertFile, cfg.MITMIssuer.KeyFile = issuer.Files(t)
	}, func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectMode = proxy.ConnectMITM })
	o := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	authority := o.to(hooksHost)
	const line = " HTTP/1.1\r\nHost: {o}\r\n\r\n"
	rows := []insideRow{
		{"origin form", "GET /a/../b?c" + line, 200, "", false, "GET /a/../b?c HTTP/1.1\r\nHost: {o}\r\n" + ua + "\r\n"},
		{"path of slashes", "GET //evil.test/" + line, 200, "", false, "GET //evil.test/ HTTP/1.1\r\nHost: {o}\r\n" + ua + "\r\n"},
		{"absolute form", "GET https://{o}/a" + line, 200, "", false, "GET /a HTTP/1.1\r\nHost: {o}\r\n" + ua + "\r\n"},
		{"of the server", "OPTIONS *" + line, 200, "", false, "OPTIONS * HTTP/1.1\r\nHost: {o}\r\n" + ua + "\r\n"},
		{"fragment", "GET /a#b" + line, 400, "1002", false, ""},
		{"fragment alone", "GET #" + line, 400, "1002", false, ""},
		{"another host", "GET https://other.test/" + line, 400, "1002", false, ""},
		{"another port", "GET https://" + hooksHost + ":1/" + line, 400, "1002", false, ""},
		{"another port by default", "GET https://" + hooksHost + "/" + line, 400, "1002", false, ""},
		{"http", "GET http://{o}/" + line, 400, "1002", false, ""},
		{"another Host", "GET / HTTP/1.1\r\nHost: other.test\r\n\r\n", 400, "1002", false, ""},
		{"an address for a Host", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400, "1002", false, ""},
		{"another port in Host", "GET / HTTP/1.1\r\nHost: " + hooksHost + ":1\r\n\r\n", 400, "1002", false, ""},
		{"no Host", "GET / HTTP/1.1\r\n\r\n", 400, "1002", false, ""},
		{"two Hosts", "GET / HTTP/1.1\r\nHost: {o}\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
		{"asterisk of a GET", "GET *" + line, 400, "1002", false, ""},
		{"CONNECT", "CONNECT {o}" + line, 405, "1015", false, ""},
	}
	for _, r := range corpus.Requests(t) {
		if inside, ok := r.Inside(authority); ok && r.Refused() {
			rows = append(rows, insideRow{r.Name, inside.Sends, 400, "1002", true, ""})
		}
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			before := len(o.decrypted())
			outer := s.dial()
			outer.t = t
			outer.send("CONNECT " + authority + " HTTP/1.1\r\nHost: a\r\n\r\n")
			if head := outer.readHead(); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
				t.Fatalf("got %q; want a 200", head)
			}
			c := outer.secure(clientConfig(issuer, hooksHost))
			c.send(strings.ReplaceAll(row.raw, "{o}", authority))
			r := c.receive("GET")
			if r.code() != row.status || r.reason() != row.reason || r.closing != row.closed {
				t.Fatalf("got %s, %s, closing %v (%s); want %d, %s, %v", r.status, r.reason(), r.closing, r.body, row.status, row.reason, row.closed)
			}
			if want := strings.ReplaceAll(row.sent, "{o}", authority); o.decrypted()[before:] != want {
				t.Errorf("got %q at the destination; want %q", o.decrypted()[before:], want)
			}
			if row.closed {
				if !c.ended() {
					t.Error("got the connection open; want it closed")
				}
				return
			}
			c.send("GET /next HTTP/1.1\r\nHost: " + authority + "\r\n\r\n")
			if r := c.receive("GET"); r.code() != 200 {
				t.Errorf("got %s behind it; want 200", r.status)
			}
		})
	}
}
