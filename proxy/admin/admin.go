// Package admin serves what an operator looks at, on metrics.address: /metrics, /healthz, /readyz and the status page,
// with what that keeps, which is readings of the metrics over ten minutes and the latest refusals. It knows the proxy only
// by the Source that it is given.
package admin

import (
	"net"
	"time"

	"github.com/valyala/fasthttp"

	"whsentry/proxy/reason"
)

// Server serves metrics, health and the status page, on an address of its own.
type Server struct {
	server *fasthttp.Server
	status *statusPage
	stop   chan struct{} // closed to end the status page's readings
	done   chan struct{}
}

// New makes a server that shows src. It takes its first reading at once.
func New(src Source) *Server {
	a := &Server{status: newStatusPage(src), stop: make(chan struct{}), done: make(chan struct{})}
	a.server = &fasthttp.Server{
		Handler:      a.handle,
		ErrorHandler: a.handleRefused,
		Name:         "whsentry",
		ReadTimeout:  10 * time.Second,
		WriteTimeout: 30 * time.Second,
		// Longer than what asks for metrics or health pauses, and short enough that connections which nobody uses do
		// not keep those out.
		IdleTimeout: 30 * time.Second,
		// What asks for metrics is a handful of clients; more are a mistake or an attack.
		Concurrency:   1024,
		MaxConnsPerIP: 256,
		// The server's clean-up goroutine outlives Shutdown by this long.
		MaxIdleWorkerDuration: 100 * time.Millisecond,
		MaxRequestBodySize:    1,
		NoDefaultDate:         true, // it would start a goroutine that nobody can end
		CloseOnShutdown:       true,
		Logger:                silent{},
	}
	return a
}

// Serve serves on ln, and returns once Shutdown has been called. It may be called once.
func (a *Server) Serve(ln net.Listener) {
	defer close(a.done)
	kept := make(chan struct{})
	go func() { // ended by Shutdown, and awaited below
		defer close(kept)
		a.status.keepHistory(a.stop)
	}()
	a.server.Serve(ln)
	<-kept
}

// Shutdown ends Serve, which must have been called and whose listener must have been closed, and waits for it.
func (a *Server) Shutdown() {
	close(a.stop)
	a.server.Shutdown()
	<-a.done
}

// NoteRefusal shows a request that the proxy has answered itself on the status page, until newer ones are.
func (a *Server) NoteRefusal(r *Refused) {
	at := time.Now()
	a.status.refusals.add(r, at)
	if r.Source == reason.SourceDestination && r.Destination != "" {
		a.status.failing.add(showRaw([]byte(r.Destination), maxShown), at)
	}
}

func (a *Server) handle(ctx *fasthttp.RequestCtx) { a.answer(ctx, ctx.Path()) }

// answer answers a request for path.
func (a *Server) answer(ctx *fasthttp.RequestCtx, path []byte) {
	ctx.SetContentType("text/plain; charset=utf-8")
	if !ctx.IsGet() && !ctx.IsHead() {
		ctx.Response.Header.Set("Allow", "GET, HEAD")
		ctx.SetStatusCode(fasthttp.StatusMethodNotAllowed)
		ctx.SetBodyString("method not allowed\n")
		return
	}
	switch string(path) {
	case "/":
		if !isOurs(ctx.Request.Header.Host(), a.status.source.State().Hosts) {
			misdirected(ctx)
			return
		}
		a.status.serve(ctx)
	case "/metrics":
		ctx.SetContentType("text/plain; version=0.0.4; charset=utf-8")
		a.status.source.Metrics.Write(ctx)
	case "/healthz":
		ctx.SetBodyString("ok\n")
	case "/readyz":
		if a.status.source.Stopping() {
			ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
			ctx.SetBodyString("stopping\n")
			return
		}
		ctx.SetBodyString("ok\n")
	default:
		ctx.SetStatusCode(fasthttp.StatusNotFound)
		ctx.SetBodyString("not found: there are /, /metrics, /healthz and /readyz\n")
	}
}

// silent takes fasthttp's messages about single connections, which are of no use to anybody.
type silent struct{}

func (silent) Printf(string, ...any) {}
