package proxy

import (
	"net/netip"
	"sync"
	"time"

	"whsentry/policy"
	"whsentry/proxy/destination"
	"whsentry/proxy/downstream"
	"whsentry/proxy/http1"
	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"
	"whsentry/proxy/upstream"
)

// exchange is one request and its answer, with the memory that they need. It is reused, and belongs to a request in
// flight, never to a connection at rest.
type exchange struct {
	client *client
	run    *run
	start  socket.Tick
	// at is when the exchange last looked at the clock, which it does after each wait: close enough to now for limits
	// of seconds, and a call to the clock less at each of them.
	at socket.Tick

	out    []byte        // what is being sent to the client: memory that is borrowed for as long as something is
	outBox *[]byte       // what out goes back in
	call   upstream.Call // the request to the destination, and the bytes of its answer
	head   http1.Request
	resp   http1.Response

	// Where the request goes; authority and path are parts of the head.
	authority []byte
	path      []byte
	address   destination.Address
	tls       bool
	connect   bool
	alias     string // of the client certificate that is presented
	named     string // the alias that the request, or the CONNECT that it came by, names

	sender   *policy.Client     // whose request it is; nil: nobody's
	terms    *destination.Terms // on which the destination is connected to; nil: not known yet
	breaking breaking
	timeout  time.Duration // the caller's own deadline; 0: none
	timer    *time.Timer   // of it, while it runs

	body  downstream.Body // the request's, in full; of a tunnel, what it has carried
	stash []byte          // a response's body while it is read whole

	interims int         // bytes of interim responses
	until    socket.Tick // when the connection is not to be used any more, as the destination has announced

	held *upstream.Conn // the connection that carries the request

	wouldDeny bool // the rules of the request's client are against it, and not enforced
	written   bool // a byte of the request has left, on whichever connection
	begun     bool // the head of the final answer has been sent
	keep      bool // the client's connection goes on

	// For the log and the metrics.
	status        int
	reason        reason.Code
	failed        *reason.Failure // nil: the destination has answered, to the end
	remote        netip.AddrPort
	closed        upstream.CloseReason // a tunnel: for its idleness or its age
	tlsVersion    uint16               // as in tls.VersionTLS13; 0: none
	reused        bool
	responseBytes int64
	phases        [metrics.Phases]time.Duration // -1: did not happen
}

var exchanges = sync.Pool{New: func() any {
	ex := &exchange{address: destination.New()}
	ex.call.OnSent = ex.forgetBody
	return ex
}}

var outs = sync.Pool{New: func() any {
	b := make([]byte, 0, socket.BufferSize)
	return &b
}}

func acquireExchange() *exchange { return exchanges.Get().(*exchange) }

// release gives the exchange back. Nothing of it may be used from here on.
func (ex *exchange) release() {
	ex.clear()
	exchanges.Put(ex)
}

// begin prepares the exchange for the request that c has sent.
func (ex *exchange) begin(c *client) {
	ex.client, ex.run, ex.start, ex.at = c, c.proxy.run.Load(), c.Start, socket.Now()
	ex.head.Reset()
	for i := range ex.phases {
		ex.phases[i] = -1
	}
}

// clear forgets everything of a request.
func (ex *exchange) clear() {
	ex.client, ex.run = nil, nil
	ex.call.End()
	ex.lendOut()
	ex.body.Drop()
	ex.body.Came = 0
	ex.stash = keepBuffer(ex.stash)
	ex.resp.Fields = keepFields(ex.resp.Fields)
	ex.head.Reset()
	ex.resp.Reset()
	ex.authority, ex.path = nil, nil
	ex.tls, ex.connect, ex.alias, ex.named = false, false, "", ""
	ex.sender, ex.wouldDeny, ex.terms, ex.timeout = nil, false, nil, 0
	ex.breaking = breaking{}
	ex.written, ex.interims = false, 0
	ex.keep, ex.begun = false, false
	ex.status, ex.reason, ex.failed = 0, reason.None, nil
	ex.remote, ex.reused, ex.tlsVersion = netip.AddrPort{}, false, 0
	ex.responseBytes = 0
	ex.closed = upstream.CloseNone
}

func keepBuffer(b []byte) []byte {
	if cap(b) > socket.BufferKept {
		return nil
	}
	return b[:0]
}

func keepFields(f []http1.Field) []http1.Field {
	if cap(f) > 1024 {
		return nil
	}
	return f[:0]
}

func (ex *exchange) method() []byte { return ex.head.Method }
