package downstream

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"whsentry/proxy/socket"

	"github.com/valyala/fasthttp"
)

// TestBody holds that a body comes whole, whatever its framing and its pace, or is refused for the limit that it is over;
// that none of it is kept where it is skipped; and that the next request begins behind it.
func TestBody(t *testing.T) {
	var used atomic.Int64
	var budget Budget
	budget.CountIn(&used)
	budget.SetLimit(100)
	limits := BodyLimits{Budget: &budget, Size: 200, TrailerSize: 64, Pause: 10 * time.Second}
	s := startServer(t, io.Discard, func(*Config) {}, func(c *stub, h *fasthttp.RequestHeader, _ []byte) bool {
		how, framing, _ := strings.Cut(string(h.RequestURI())[1:], "/")
		var length int64
		chunked := framing == "chunked"
		if !chunked {
			fmt.Sscan(framing, &length)
		}
		b := Body{At: socket.Now()}
		f := limits.Check(length)
		switch {
		case f != nil:
		case how == "take":
			f = b.Take(&c.Conn, chunked, length, &limits)
		default:
			f = b.Skip(&c.Conn, chunked, length, &limits, how == "known")
		}
		told := fmt.Sprintf("%d bytes, %d held: %s", b.Came, used.Load(), b.Bytes)
		if f != nil {
			told = fmt.Sprintf("%d: %s", f.Code, f.Text)
		}
		b.Drop()
		budget.Give(&b.Held)
		return c.answer(told) && f == nil
	})
	chunks := "5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer-Of: it\r\n\r\n"
	for _, tt := range []struct{ name, target, body, want string }{
		{"by length", "/take/11", "hello world", "11 bytes, 11 held: hello world"},
		{"in chunks", "/take/chunked", chunks, "11 bytes, 11 held: hello world"},
		{"skipped, by length", "/known/11", "hello world", "11 bytes, 0 held: "},
		{"skipped, in chunks", "/known/chunked", chunks, "11 bytes, 0 held: "},
		{"of nobody who is known, by length", "/unknown/11", "hello world", "11 bytes, 0 held: "},
		{"of nobody who is known, in chunks", "/unknown/chunked", chunks, "11 bytes, 0 held: "},
		{"skipped, over the budget", "/known/chunked", "96\r\n" + strings.Repeat("x", 150) + "\r\n0\r\n\r\n", "150 bytes, 0 held: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			request, next := "POST "+tt.target+" HTTP/1.1\r\n"+host+"\r\n"+tt.body, "POST /take/1 HTTP/1.1\r\n"+host+"\r\n!"
			conn := dial(t, s)
			io.WriteString(conn, request+next)
			expect(t, conn, answerTo(tt.want)+answerTo("1 bytes, 1 held: !"))
			for i := range request { // as it comes from far away
				conn.Write([]byte(request[i : i+1]))
			}
			io.WriteString(conn, next)
			expect(t, conn, answerTo(tt.want)+answerTo("1 bytes, 1 held: !"))
		})
	}
	for _, tt := range []struct{ name, target, body, want string }{
		{"too large, by length", "/take/201", "", "1012: request body larger than 200 bytes"},
		{"too large, by a chunk's", "/take/chunked", "C9\r\n", "1012: request body larger than 200 bytes"},
		{"too large, by the sum of chunks", "/known/chunked", "1\r\nx\r\nC8\r\n", "1012: request body larger than 200 bytes"},
		{"over the budget, by length", "/take/101", "", "1014: too many request bodies at once: 100 bytes are buffered at most"},
		{"over the budget, in chunks", "/take/chunked", "65\r\n" + strings.Repeat("x", 101), "1014: too many request bodies at once: 100 bytes are buffered at most"},
		{"with trailers that are too large", "/take/chunked", "0\r\n" + padded(64) + "\r\n", "1012: trailer section larger than 64 bytes"},
		{"no chunks", "/take/chunked", "hello\r\n", "1002: malformed request: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := dial(t, s)
			io.WriteString(conn, "POST "+tt.target+" HTTP/1.1\r\n"+host+"\r\n"+tt.body)
			want := answerTo(tt.want)
			expect(t, conn, want[:len(want)-1])
		})
	}
	if n := used.Load(); n != 0 {
		t.Errorf("%d bytes are held after all has been given back", n)
	}
}
