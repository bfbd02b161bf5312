package admin

import (
	"bufio"
	"bytes"
	"errors"
	"slices"
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

// nobodysHost is a name that nobody can have (RFC 2606).
const nobodysHost = "host.invalid"

// handleRefused answers what fasthttp refuses. What lacks a Host alone is answered as if it had one that is nobody's, for
// what asks for health by hand often sends none.
func (a *Server) handleRefused(ctx *fasthttp.RequestCtx, err error) {
	if errors.Is(err, errNoHost) {
		ctx.Request.Header.SetHost(nobodysHost) // without one fasthttp finds no path either
		ctx.Request.SetRequestURIBytes(ctx.Request.Header.RequestURI())
		a.handle(ctx)
		return
	}
	ctx.SetContentType("text/plain; charset=utf-8") // not by ctx.Error, which would have fasthttp add a date
	if large := new(fasthttp.ErrSmallBuffer); errors.As(err, &large) {
		ctx.SetStatusCode(fasthttp.StatusRequestHeaderFieldsTooLarge)
		ctx.SetBodyString("request head too large\n")
		return
	}
	ctx.SetStatusCode(fasthttp.StatusBadRequest)
	ctx.SetBodyString("malformed request\n")
}
