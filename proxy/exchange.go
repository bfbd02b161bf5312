package proxy

import (
	"net/netip"
	"sync"
	"time"

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

	in     socket.Buffer // from the client: head, and body where it fits
	out    []byte        // what is being sent to the client: memory that is borrowed for as long as something is
	outBox *[]byte       // what out goes back in
	call   upstream.Call // the request to the destination, and the bytes of its answer
	head   requestHead
	resp   responseHead

	// Where the request goes; authority and path are parts of in.
	authority []byte
	path      []byte
	address   address
	tls       bool
	connect   bool
	alias     string

	headDone    bool // the head is there in full, or refused
	headFailure *failure

	body     []byte // the request's, in full: a part of in, or large
	large    []byte
	reserved int64 // of maxBufferedBytes
	chunks   chunkDecoder
	stash    []byte // a response's body while it is read whole

	written   bool        // a byte of the request has left, on whichever connection
	interims  int         // bytes of interim responses
	until     socket.Tick // when the connection is not to be used any more, as the destination has announced
	bodyStart int         // where in call.In the response's body begins

	held *upstream.Conn // the connection that carries the request

	keep  bool // the client's connection goes on
	begun bool // the head of the final answer has been sent

	// For the log and the metrics.
	status        int
	reason        reason
	reasonText    string
	closed        upstream.CloseReason // a tunnel: for its idleness or its age
	remote        netip.AddrPort
	reused        bool
	tlsVersion    string
	requestBytes  int64
	responseBytes int64
	phases        [phases]time.Duration // -1: did not happen

	line, url []byte
	id        [36]byte
}

var exchanges = sync.Pool{New: func() any {
	return &exchange{address: address{key: make([]byte, 0, 64)}}
}}

var outs = sync.Pool{New: func() any {
	b := make([]byte, 0, socket.BufferSize)
	return &b
}}

func acquireExchange() *exchange { return exchanges.Get().(*exchange) }

// release gives the exchange back. Nothing of it may be used from here on.
func (ex *exchange) release() {
	ex.clear()
	ex.in.Release()
	exchanges.Put(ex)
}

// begin prepares the exchange for the request whose first bytes are in its buffer.
func (ex *exchange) begin(c *client) {
	ex.client, ex.run, ex.start = c, c.proxy.run.Load(), socket.Now()
	ex.at = ex.start
	ex.head.reset()
	for i := range ex.phases {
		ex.phases[i] = -1
	}
}

// clear forgets everything of a request but the bytes in the client's buffer that follow on it.
func (ex *exchange) clear() {
	ex.client, ex.run = nil, nil
	ex.call.End()
	ex.lendOut()
	ex.line, ex.url = keepBuffer(ex.line), keepBuffer(ex.url)
	if cap(ex.large) > socket.BufferKept {
		releaseBody(ex.large)
	}
	ex.large, ex.stash = keepBuffer(ex.large), keepBuffer(ex.stash)
	ex.head.fields, ex.resp.fields = keepFields(ex.head.fields), keepFields(ex.resp.fields)
	ex.head.reset()
	ex.resp.reset()
	ex.headDone, ex.headFailure = false, nil
	ex.authority, ex.path, ex.body = nil, nil, nil
	ex.tls, ex.connect, ex.alias = false, false, ""
	ex.written, ex.interims, ex.bodyStart = false, 0, 0
	ex.keep, ex.begun = false, false
	ex.status, ex.reason, ex.reasonText = 0, reasonNone, ""
	ex.remote, ex.reused, ex.tlsVersion = netip.AddrPort{}, false, ""
	ex.requestBytes, ex.responseBytes = 0, 0
	ex.closed = upstream.CloseNone
}

func keepBuffer(b []byte) []byte {
	if cap(b) > socket.BufferKept {
		return nil
	}
	return b[:0]
}

func keepFields(f []field) []field {
	if cap(f) > 1024 {
		return nil
	}
	return f[:0]
}

func (ex *exchange) method() []byte { return ex.head.method.of(ex.head.raw) }
