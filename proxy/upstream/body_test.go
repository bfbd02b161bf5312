package upstream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"whsentry/proxy/http1"
)

// answered asks over a new connection, has the destination say what is given, and reads the head of that.
func answered(t *testing.T, p *poolPeers, c *Call, r *http1.Response, say string) (u *Conn, far *net.TCPConn) {
	t.Helper()
	u = p.add("h:80", Route{})
	far = p.far[u].(*net.TCPConn)
	if err := ask(c, u, false, ""); err != nil {
		t.Fatal(err)
	}
	io.WriteString(far, say)
	r.Reset()
	for {
		n, err := r.Scan(c.In.Unused())
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			c.In.Skip(n)
			return u, far
		}
		if err := c.More(); err != nil {
			t.Fatal(err)
		}
	}
}

// readBody reads b to its end, or as far as it comes.
func readBody(b *Body) (string, error) {
	var whole []byte
	for {
		data, err := b.Next()
		whole = append(whole, data...)
		if err != nil || b.Ended() {
			return string(whole), err
		}
	}
}

// TestBody reads bodies of all framings, of a destination that closes after them.
func TestBody(t *testing.T) {
	const limit, overhead = 100_000, 256
	large := strings.Repeat("x", 99_999)
	const length, chunked, close = "Content-Length: 5\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n", "Connection: close\r\n\r\n"
	var malformed *http1.Error
	for _, tt := range []struct {
		name, fields, body string
		want               string
		clean              bool
		err                any // an error, or what errors.As takes; nil: none
		untidy             http1.Untidy
	}{
		{"a length", length, "hello", "hello", true, nil, 0},
		{"no length left", "Content-Length: 0\r\n\r\n", "", "", true, nil, 0},
		{"more than its length", length, "hello!", "hello", true, nil, 0},
		{"less than its length", length, "hell", "hell", false, io.EOF, 0},
		{"large, by length", "Content-Length: 99999\r\n\r\n", large, large, true, nil, 0},
		{"chunks", chunked, "3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\nA: b\r\n\r\n", "hello", true, nil, 0},
		{"a large chunk", chunked, "1869f\r\n" + large + "\r\n0\r\n\r\n", large, true, nil, 0},
		{"an odd trailer", chunked, "1\r\nx\r\n0\r\nodd\r\n\r\n", "x", true, nil, http1.OddTrailers},
		{"malformed chunks", chunked, "5\r\nhello\r\nx\r\n", "hello", false, &malformed, 0},
		{"cut chunks", chunked, "5\r\nhel", "hel", false, io.EOF, 0},
		{"trailers over the limit", chunked, "0\r\nA: " + strings.Repeat("x", overhead) + "\r\n\r\n", "", false, &malformed, 0},
		{"until it closes", close, "hello", "hello", false, nil, 0},
		{"nothing until it closes", close, "", "", false, nil, 0},
		{"as large as it may be", close, large + "x", large + "x", false, nil, 0},
		{"larger", close, large + "xy", large + "xy", false, ErrBodyTooLarge, 0},
		{"larger, chunked", chunked, "186a1\r\n" + large + "xy", large + "xy", false, ErrBodyTooLarge, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, c, r, b := newPoolPeers(t), new(Call), new(http1.Response), new(Body)
			_, far := answered(t, p, c, r, "HTTP/1.1 200 OK\r\n"+tt.fields+tt.body)
			far.CloseWrite()
			b.Begin(c, r, limit, overhead)
			got, err := readBody(b)
			if got != tt.want || b.Total() != int64(len(tt.want)) {
				t.Errorf("got %d bytes, %.20q, and in total %d; want %d", len(got), got, b.Total(), len(tt.want))
			}
			switch want := tt.err.(type) {
			case nil:
				if err != nil {
					t.Errorf("got %v; want no error", err)
				}
			case error:
				if !errors.Is(err, want) {
					t.Errorf("got %v; want %v", err, want)
				}
			default:
				if !errors.As(err, want) {
					t.Errorf("got %v; want one of http1", err)
				}
			}
			if b.Clean() != tt.clean || b.Ended() != (err == nil) || r.Untidy != tt.untidy {
				t.Errorf("got clean %v, ended %v, untidy %v; want clean %v, untidy %v", b.Clean(), b.Ended(), r.Untidy, tt.clean, tt.untidy)
			}
			c.End()
		})
	}
}

// TestBodyReadAll: a body with a length comes in one piece, and its head stays where it is.
func TestBodyReadAll(t *testing.T) {
	p, c, r, b := newPoolPeers(t), new(Call), new(http1.Response), new(Body)
	body := strings.Repeat("x", 20_000)
	answered(t, p, c, r, "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 20000\r\n\r\n"+body)
	b.Begin(c, r, 1<<20, 256)
	if err := b.ReadAll(); err != nil {
		t.Fatal(err)
	}
	data, err := b.Next()
	if string(data) != body || err != nil || !b.Clean() {
		t.Errorf("got %d bytes, %v, clean %v; want all of it at once", len(data), err, b.Clean())
	}
	if head := http1.AppendResponseHead(nil, r, http1.ByLength, r.ContentLength, ""); !bytes.Contains(head, []byte("A: b\r\n")) {
		t.Errorf("got %q; want the head as it came", head)
	}
	c.End()
}

// TestBodyEndsEarly: where no more than its beginning is wanted, nothing is waited for behind that.
func TestBodyEndsEarly(t *testing.T) {
	p, c, r, b := newPoolPeers(t), new(Call), new(http1.Response), new(Body)
	answered(t, p, c, r, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello") // and no more
	b.Begin(c, r, 5, 256)
	b.EndAfter(5)
	if got, err := readBody(b); got != "hello" || err != nil {
		t.Errorf("got %q, %v; want its beginning", got, err)
	}
	c.End()
}

// TestBodyOfAClosedConnection: what the proxy itself has closed is no end of a body without a length.
func TestBodyOfAClosedConnection(t *testing.T) {
	p, c, r, b := newPoolPeers(t), new(Call), new(http1.Response), new(Body)
	u, _ := answered(t, p, c, r, "HTTP/1.1 200 OK\r\n\r\nhello")
	b.Begin(c, r, 100, 256)
	data, err := b.Next()
	for err == nil && b.Total() < 5 {
		data, err = b.Next()
	}
	u.Kill(CloseIdle)
	if _, err := b.Next(); err == nil || b.Ended() {
		t.Errorf("after %q: got %v, ended %v; want an error", data, err, b.Ended())
	}
	c.End()
}
