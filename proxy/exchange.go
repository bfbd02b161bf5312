package proxy

import (
	"net/netip"
	"sync"
	"time"

	"whsentry/proxy/socket"
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

	in   socket.Buffer // from the client: head, and body where it fits
	out  []byte        // what is being sent, either way
	up   socket.Buffer // from the destination
	head requestHead
	resp responseHead

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

	rest      []byte // of the request's body: not yet sent
	broken    bool   // the destination did not take all of the request
	torn      bool   // because it broke the connection off
	sentAt    socket.Tick
	interims  int // bytes of interim responses
	bodyStart int // where in up the response's body begins

	held *upstream // the connection that carries the request

	// What askStep, which is stepAsk, has come to.
	askStep     func(fd uintptr) (done bool)
	asked       bool
	stale       bool // the connection had ended, or something came on it unasked, while it was at rest
	sent        int
	sendFailure *failure

	keep  bool // the client's connection goes on
	begun bool // the head of the final answer has been sent

	// For the log and the metrics.
	status        int
	reason        reason
	reasonText    string
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
	ex := &exchange{out: make([]byte, 0, socket.BufferSize), address: address{key: make([]byte, 0, 64)}}
	ex.askStep = ex.stepAsk
	return ex
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
	ex.up.Release()
	ex.out, ex.line, ex.url = keepBuffer(ex.out), keepBuffer(ex.line), keepBuffer(ex.url)
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
	ex.sendFailure = nil
	ex.rest, ex.broken, ex.torn, ex.interims, ex.bodyStart = nil, false, false, 0, 0
	ex.keep, ex.begun = false, false
	ex.status, ex.reason, ex.reasonText = 0, reasonNone, ""
	ex.remote, ex.reused, ex.tlsVersion = netip.AddrPort{}, false, ""
	ex.requestBytes, ex.responseBytes = 0, 0
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
