package proxy

import (
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// admin serves metrics and health, on an address of its own.
type admin struct {
	server   *fasthttp.Server
	listener net.Listener
	done     chan struct{}
}

// newAdmin listens on address.
func newAdmin(address string, m *Metrics, stopping *atomic.Bool) (*admin, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("metrics.address: %q: listen: %w; want an address of this host that is free", address, bareListenError(err))
	}
	a := &admin{listener: ln, done: make(chan struct{})}
	a.server = &fasthttp.Server{
		Handler:      adminHandler(m, stopping),
		Name:         "whsentry",
		ReadTimeout:  10 * time.Second,
		WriteTimeout: 30 * time.Second,
		IdleTimeout:  2 * time.Minute,
		// What asks for metrics is a handful of clients; more are a mistake or an attack.
		Concurrency: 256,
		// The server's clean-up goroutine outlives Shutdown by this long.
		MaxIdleWorkerDuration: 100 * time.Millisecond,
		MaxRequestBodySize:    1,
		NoDefaultDate:         true, // it would start a goroutine that nobody can end
		CloseOnShutdown:       true,
		Logger:                silent{},
	}
	return a, nil
}

// serve ends when shutdown is called.
func (a *admin) serve() {
	defer close(a.done)
	a.server.Serve(&patientListener{Listener: a.listener})
}

func (a *admin) shutdown() {
	a.listener.Close()
	a.server.Shutdown()
	<-a.done
}

func adminHandler(m *Metrics, stopping *atomic.Bool) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		ctx.SetContentType("text/plain; charset=utf-8")
		if !ctx.IsGet() && !ctx.IsHead() {
			ctx.Response.Header.Set("Allow", "GET, HEAD")
			ctx.SetStatusCode(fasthttp.StatusMethodNotAllowed)
			ctx.SetBodyString("method not allowed\n")
			return
		}
		switch string(ctx.Path()) {
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
			ctx.SetBodyString("not found: there are /metrics, /healthz and /readyz\n")
		}
	}
}

// silent takes fasthttp's messages about single connections, which are of no use to anybody.
type silent struct{}

func (silent) Printf(string, ...any) {}
