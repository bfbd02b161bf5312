package proxy

import (
	"fmt"
	"net"
	"sync/atomic"
	"time"
	"whsentry/proxy/listen"

	"github.com/valyala/fasthttp"
)

// admin serves metrics, health and the status page, on an address of its own.
type admin struct {
	server   *fasthttp.Server
	listener net.Listener
	status   *statusPage
	stop     chan struct{} // closed to end the status page's readings
	done     chan struct{}
}

// newAdmin listens on address, unless a socket for it has been passed.
func newAdmin(address string, passed *net.TCPListener, p *Proxy) (*admin, error) {
	a := &admin{listener: passed, status: newStatusPage(p), stop: make(chan struct{}), done: make(chan struct{})}
	if passed == nil {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("%s: %q: listen: %w; want an address of this host that is free", metricsKey, address, listen.BareError(err))
		}
		a.listener = ln
	}
	a.server = &fasthttp.Server{
		Handler:      adminHandler(p.metrics, a.status, &p.stopping),
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
	return a, nil
}

// serve ends when shutdown is called. shortage is told of connections that cannot be accepted.
func (a *admin) serve(shortage func(err error, failed int)) {
	defer close(a.done)
	kept := make(chan struct{})
	go func() { // ended by shutdown, and awaited below
		defer close(kept)
		a.status.keepHistory(a.stop)
	}()
	a.server.Serve(listen.Patient(a.listener, shortage))
	<-kept
}

func (a *admin) shutdown() {
	close(a.stop)
	a.listener.Close()
	a.server.Shutdown()
	<-a.done
}

func adminHandler(m *Metrics, status *statusPage, stopping *atomic.Bool) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		ctx.SetContentType("text/plain; charset=utf-8")
		if !ctx.IsGet() && !ctx.IsHead() {
			ctx.Response.Header.Set("Allow", "GET, HEAD")
			ctx.SetStatusCode(fasthttp.StatusMethodNotAllowed)
			ctx.SetBodyString("method not allowed\n")
			return
		}
		switch string(ctx.Path()) {
		case "/":
			status.serve(ctx)
		case "/metrics":
			ctx.SetContentType("text/plain; version=0.0.4; charset=utf-8")
			m.write(ctx)
		case "/healthz":
			ctx.SetBodyString("ok\n")
		case "/readyz":
			if stopping.Load() {
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
}

// silent takes fasthttp's messages about single connections, which are of no use to anybody.
type silent struct{}

func (silent) Printf(string, ...any) {}
