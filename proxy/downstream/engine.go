package downstream

import (
	"math"
	"math/bits"
	"time"

	"github.com/valyala/fasthttp"
)

// engine is the fasthttp servers that clients are served by: they accept, run a goroutine for each connection and its
// keep-alive loop, and parse the head that the gate delivers.
//
// A server holds its read buffer for as long as it serves a connection, also while a request waits for its answer, so that
// the first has a small one; a larger head is served by a server whose buffer it fits, from within the end of the other's
// loop. The client stays there where that buffer is not large.
type engine [engineSizes]*fasthttp.Server

const (
	smallHead   = 512     // the smallest read buffer, in bytes
	engineSizes = 16      // powers of two from there on, up to the largest maxHeaderSize
	restingHead = 4 << 10 // up to which read buffer a client may rest in a server, for parkAfter
	// workerRest is how long a goroutine of the engine waits for another connection, and so how long one may outlive the
	// last of them.
	workerRest = 200 * time.Millisecond
)

func newEngine(s *Server) *engine {
	e := new(engine)
	for i := range e {
		e[i] = &fasthttp.Server{
			Handler:      s.handle,
			ErrorHandler: s.handleRefused,
			// The body is the Handler's to read, within limits that fasthttp does not know.
			HeaderReceived: func(h *fasthttp.RequestHeader) (none fasthttp.RequestConfig) {
				h.SetContentLength(0)
				return none
			},
			DisableHeaderNamesNormalizing: true, // nobody reads them but the strict pass, which takes the lines as they came
			ReadBufferSize:                smallHead << i,
			WriteBufferSize:               16, // Write swallows it
			Concurrency:                   math.MaxInt32,
			MaxIdleWorkerDuration:         workerRest,
			NoDefaultServerHeader:         true,
			NoDefaultDate:                 true, // it would start a goroutine that nobody can end
			NoDefaultContentType:          true,
			DisablePreParseMultipartForm:  true,
			SecureErrorLogMessage:         true,
			Logger:                        silent{},
		}
	}
	return e
}

// of returns the server whose buffer holds a head of n bytes.
func (e *engine) of(n int) *fasthttp.Server {
	if n <= smallHead {
		return e[0]
	}
	return e[bits.Len(uint((n-1)/smallHead))]
}

// handle has the request carried out whose head fasthttp has parsed.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	c := (*Conn)(ctx.Conn().(*gate))
	defer c.recoverBug() // of the request's end, for fasthttp's goroutines recover nothing
	c.serve(&ctx.Request.Header, nil)
	if c.over {
		ctx.SetConnectionClose()
	}
}

// handleRefused is told of what fasthttp does not take. Why is for the Handler to say, which looks at the same head
// more strictly, but for a few things that it forwards: a Trailer field that announces what will be dropped, say.
func (s *Server) handleRefused(ctx *fasthttp.RequestCtx, _ error) {
	if c := (*Conn)(ctx.Conn().(*gate)); c.delivered {
		c.serveUnparsed()
	}
}

// silent takes fasthttp's messages about single connections, which the access log tells better.
type silent struct{}

func (silent) Printf(string, ...any) {}
