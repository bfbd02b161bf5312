package admin

import (
	"bufio"
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"whsentry/proxy/http1"
)

// notForStrangers are the domains under which nobody but the network's own people can have a name.
var notForStrangers = [][]byte{[]byte(".internal"), []byte(".svc"), []byte(".cluster.local"), []byte(".lan"), []byte(".home.arpa")}

// isOurs reports whether a Host field is one that the status page answers to: hosts, and what a stranger cannot own. A
// stranger's name may lead here all the same (DNS rebinding), and then the browser of an operator would let the
// stranger's pages read this one. hosts are lower-cased, without a final dot.
func isOurs(field []byte, hosts []string) bool {
	a, reject := http1.ParseAuthority(field)
	if reject != "" {
		return false
	}
	if a.Literal.IsValid() {
		return true
	}
	name := a.AppendHost(nil)
	if bytes.IndexByte(name, '.') < 0 || slices.Contains(hosts, string(name)) {
		return true
	}
	return slices.ContainsFunc(notForStrangers, func(domain []byte) bool { return bytes.HasSuffix(name, domain) })
}

// errNoHost is what fasthttp refuses a request of HTTP/1.1 with that has no Host. It has no name of its own.
var errNoHost = func() error {
	var h fasthttp.RequestHeader
	return errors.Unwrap(h.Read(bufio.NewReader(strings.NewReader("GET / HTTP/1.1\r\n\r\n"))))
}()

// handleRefused answers what fasthttp refuses. A request of HTTP/1.1 without a Host is one of them, but what does not
// depend on the host answers it all the same.
func (a *Server) handleRefused(ctx *fasthttp.RequestCtx, err error) {
	ctx.SetContentType("text/plain; charset=utf-8") // not by ctx.Error, which would have fasthttp add a date
	large := new(fasthttp.ErrSmallBuffer)
	switch {
	case errors.Is(err, errNoHost):
		method, path := refusedLine(err)
		ctx.Request.Header.SetMethod(method)
		a.answer(ctx, []byte(path))
		ctx.Response.SkipBody = ctx.IsHead() // which fasthttp sees to for requests that it takes
	case errors.As(err, &large):
		ctx.SetStatusCode(fasthttp.StatusRequestHeaderFieldsTooLarge)
		ctx.SetBodyString("request head too large\n")
	default:
		ctx.SetStatusCode(fasthttp.StatusBadRequest)
		ctx.SetBodyString("malformed request\n")
	}
}

// refusedLine returns what a request line asks for of which fasthttp has kept nothing but what its error says: the
// beginning of the head, quoted. A path that is longer than what it shows is none of ours.
func refusedLine(err error) (method, path string) {
	_, shown, _ := strings.Cut(err.Error(), "contents: ")
	quoted, _ := strconv.QuotedPrefix(shown)
	head, _ := strconv.Unquote(quoted)
	head = strings.TrimLeft(head, "\r\n")
	line, _, _ := strings.Cut(head, "\n")
	method, line, _ = strings.Cut(line, " ")
	target, _, _ := strings.Cut(line, " ")
	path, _, _ = strings.Cut(target, "?")
	return method, path
}

func misdirected(ctx *fasthttp.RequestCtx) {
	ctx.SetStatusCode(fasthttp.StatusMisdirectedRequest)
	ctx.SetBodyString("this page does not answer to that host; metrics.hosts says to which it does\n")
}
