package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"whsentry/proxy/e2e/corpus"
)

// FuzzAnswers holds, from outside, that whatever bytes a destination sends, the client sees one well-formed answer or one
// of the proxy's own, that nobody forges the latter, and that its next request gets its own answer, and only that.
func FuzzAnswers(f *testing.F) {
	for _, row := range corpus.Responses(f) {
		f.Add([]byte(row.Sends), false, false)
		f.Add([]byte(row.Sends), true, true)
	}
	large := bytes.Repeat([]byte("a"), wholeLimit+1)
	f.Add(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\nx", len(large), large), false, false)
	f.Add(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\n\r\n%s", large), false, true)
	f.Add([]byte("\nHTTP/1.0 900 No\nX y\nX: a\n b\nTransfer-Encoding: identity, chunked\nContent-Length: 7\n\n2\r\nok\r\n0\r\nodd\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), false, false)
	f.Add([]byte("HTTP/1.1 103 a\nX-WhSentry-Reason: b\n c\n\nHTTP/1.1 200 OK\nX-WhSentry-ReasonCode: 1000\nProxy-Status: x\nContent-Length: 9\n\nhalf"), true, false)
	addrs := make(map[bool]string)
	for pass, incomplete := range map[bool]string{false: IncompleteError, true: IncompletePass} {
		p := startForBench(f, func(cfg *Config) { cfg.IncompleteResponses, cfg.Metrics.Address = incomplete, "" })
		addrs[pass] = p.Addrs()[0].String()
	}
	o := newSayingOrigin(f)
	f.Fuzz(func(t *testing.T, sends []byte, pass, old bool) {
		conn, err := net.Dial("tcp", addrs[pass])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(8 * time.Second)) // less than readTimeout
		client := &strictClient{t: t, r: bufio.NewReader(promptly{t, conn})}
		version := "HTTP/1.1"
		if old {
			version = "HTTP/1.0\r\nConnection: keep-alive"
		}
		path := o.say(sends)
		fmt.Fprintf(conn, "POST http://%s%s %s\r\nHost: h\r\nContent-Length: 4\r\n\r\nhook", o.addr, path, version)
		if goesOn := client.answer(); !goesOn {
			if rest, _ := io.ReadAll(client.r); len(rest) > 0 {
				t.Fatalf("got %q behind the answer to %q", rest, sends)
			}
		} else {
			fmt.Fprintf(conn, "GET http://%s/next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", o.addr)
			const want = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnext"
			if next, err := io.ReadAll(client.r); string(next) != want {
				t.Fatalf("got %q, %v for the next request, after the answer %q", next, err, sends)
			}
		}
		if n := o.asked(path); n != 1 {
			t.Fatalf("got the webhook %d times at the destination; want once", n)
		}
	})
}

// promptly reads what must come before anybody times out, for no destination here keeps the proxy waiting.
type promptly struct {
	t *testing.T
	net.Conn
}

func (p promptly) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Error("the proxy keeps its client waiting")
	}
	return n, err
}

// strictClient reads answers as a client does that believes nothing.
type strictClient struct {
	t *testing.T
	r *bufio.Reader
}

var (
	answerStatus = regexp.MustCompile(`^HTTP/1\.1 [1-9][0-9]{2} [^\x00-\x08\x0a-\x1f\x7f]*$`)
	answerField  = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+:( [^\\x00-\\x08\\x0a-\\x1f\\x7f]*)?$")
)

// answer reads interim answers and a final one. It reports whether that is whole and the connection goes on. A connection
// that ends without an answer is one that a cut one has reset.
func (c *strictClient) answer() (goesOn bool) {
	for {
		head, err := c.head()
		if err != nil {
			return false
		}
		r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(head)), &http.Request{Method: "POST"})
		if err != nil {
			c.t.Fatalf("%q is no head: %v", head, err)
		}
		if r.StatusCode >= 200 {
			return c.final(head, r.Header)
		}
		if r.StatusCode == 100 || r.StatusCode == 101 {
			c.t.Fatalf("got %q", head)
		}
	}
}

// head reads up to an empty line and checks each line before it.
func (c *strictClient) head() (string, error) {
	var head strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		head.WriteString(line)
		if err != nil {
			return "", err
		}
		text, ok := strings.CutSuffix(line, "\r\n")
		form := answerField
		if head.Len() == len(line) {
			form = answerStatus
		} else if text == "" {
			return head.String(), nil
		}
		if !ok || !form.MatchString(text) {
			c.t.Fatalf("got the line %q", line)
		}
	}
}

// final reads the body of a final answer, whose fields are h.
func (c *strictClient) final(head string, h http.Header) (goesOn bool) {
	lengths, codings, connections := h["Content-Length"], strings.Count(strings.ToLower(head), "\r\ntransfer-encoding:"), h["Connection"]
	if len(lengths) > 1 || codings > 1 || len(lengths)+codings > 1 || len(connections) > 1 {
		c.t.Fatalf("got %q; want one framing", head)
	}
	own := h.Get("X-Whsentry-Reasoncode") != ""
	for name := range h {
		if ours := strings.HasPrefix(name, "Proxy-") || strings.HasPrefix(name, "X-Whsentry-") && name != "X-Whsentry-Incomplete"; ours && !own {
			c.t.Fatalf("got %q; want no %s of a destination's", head, name)
		}
	}
	if own && (!strings.HasPrefix(head, "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain") || len(h["Proxy-Status"]) != 1) {
		c.t.Fatalf("got %q; want the proxy's own", head)
	}
	var status int
	fmt.Sscanf(head, "HTTP/1.1 %d", &status)
	var err error
	switch {
	case status == 204 || status == 304:
	case codings > 0:
		err = c.chunks()
	case len(lengths) > 0:
		var n int64
		if n, err = strconv.ParseInt(lengths[0], 10, 64); err != nil {
			c.t.Fatalf("got %q; want a length", head)
		}
		_, err = io.CopyN(io.Discard, c.r, n)
	default: // until the end
		io.Copy(io.Discard, c.r)
		return false
	}
	if err != nil && own {
		c.t.Fatalf("got %v within the proxy's own answer", err)
	}
	return err == nil && h.Get("Connection") != "close"
}

// chunks reads a body as strictly as the proxy writes it: without extensions and without trailers.
func (c *strictClient) chunks() error {
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(line, "\r\n"), 16, 64)
		if err != nil {
			c.t.Fatalf("got the chunk's size %q", line)
		}
		data := make([]byte, n+2)
		if _, err := io.ReadFull(c.r, data); err != nil {
			return err
		}
		if string(data[n:]) != "\r\n" {
			c.t.Fatalf("got %q behind a chunk", data[n:])
		}
		if n == 0 {
			return nil
		}
	}
}

// sayingOrigin answers a request for a path with what it has been told to say, and then closes its side.
type sayingOrigin struct {
	addr  string
	paths atomic.Int64
	mu    sync.Mutex
	says  map[string][]byte
	times map[string]int
}

func newSayingOrigin(t testing.TB) *sayingOrigin {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	o := &sayingOrigin{addr: ln.Addr().String(), says: make(map[string][]byte), times: make(map[string]int)}
	go func() { // ends with the listener
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go o.serve(conn.(*net.TCPConn)) // ends with the connection, which the proxy closes
		}
	}()
	return o
}

func (o *sayingOrigin) serve(conn *net.TCPConn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		io.Copy(io.Discard, req.Body)
		o.mu.Lock()
		sends, told := o.says[req.URL.Path]
		o.times[req.URL.Path]++
		o.mu.Unlock()
		if !told {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
			continue
		}
		conn.Write(sends)
		conn.CloseWrite()
		io.Copy(io.Discard, r)
		return
	}
}

// say returns the path of a request that is answered with sends.
func (o *sayingOrigin) say(sends []byte) (path string) {
	path = fmt.Sprintf("/%d", o.paths.Add(1))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.says[path] = bytes.Clone(sends)
	return path
}

// asked returns how many requests there were for path, and forgets it.
func (o *sayingOrigin) asked(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer delete(o.says, path)
	defer delete(o.times, path)
	return o.times[path]
}
