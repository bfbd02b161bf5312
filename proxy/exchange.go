package proxy

import (
	"net/netip"
	"sync"
	"time"

	"whsentry/proxy/accesslog"
	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
)

const (
	bufferSize = 4 * kiB  // a buffer at first
	bufferKept = 64 * kiB // a buffer larger than this is not kept for the next request
	// copyLimit is up to where copying a body behind its head costs less than handing both to the system.
	copyLimit = 16 * kiB
	// copyBufferSize is how much of a tunnel or of a large body is moved at once.
	copyBufferSize = 32 * kiB
)

// exchange is one request and its answer, with the memory that they need. It is reused, and belongs to a request in
// flight, never to a connection at rest.
type exchange struct {
	client *client
	run    *run
	start  tick
	// at is when the exchange last looked at the clock, which it does after each wait: close enough to now for limits
	// of seconds, and a call to the clock less at each of them.
	at tick

	in   buffer // from the client: head, and body where it fits
	out  []byte // what is being sent, either way
	up   buffer // from the destination
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
	headFailure *reason.Failure

	body     []byte // the request's, in full: a part of in, or large
	large    []byte
	reserved int64 // of maxBufferedBytes
	chunks   chunkDecoder
	stash    []byte // a response's body while it is read whole

	rest      []byte // of the request's body: not yet sent
	written   bool   // a byte of it has left
	broken    bool   // the destination did not take all of the request
	torn      bool   // because it broke the connection off
	sentAt    tick
	interims  int // bytes of interim responses
	bodyStart int // where in up the response's body begins

	held *upstream // the connection that carries the request

	// What askStep, which is stepAsk, has come to.
	askStep     func(fd uintptr) (done bool)
	asked       bool
	stale       bool // the connection had ended, or something came on it unasked, while it was at rest
	sent        int
	sendFailure *reason.Failure

	keep  bool // the client's connection goes on
	begun bool // the head of the final answer has been sent

	// For the log and the metrics.
	status        int
	reason        reason.Code
	failed        *reason.Failure // nil: the destination has answered, to the end
	remote        netip.AddrPort
	reused        bool
	tlsVersion    string
	requestBytes  int64
	responseBytes int64
	phases        [metrics.Phases]time.Duration // -1: did not happen

	logged accesslog.Record
	url    []byte
	id     [36]byte
}

var exchanges = sync.Pool{New: func() any {
	ex := &exchange{in: newBuffer(), up: newBuffer(), out: make([]byte, 0, bufferSize), address: address{key: make([]byte, 0, 64)}}
	ex.askStep = ex.stepAsk
	return ex
}}

func acquireExchange() *exchange { return exchanges.Get().(*exchange) }

// release gives the exchange back. Nothing of it may be used from here on.
func (ex *exchange) release() {
	ex.clear()
	ex.in.clear()
	exchanges.Put(ex)
}

// begin prepares the exchange for the request whose first bytes are in its buffer.
func (ex *exchange) begin(c *client) {
	ex.client, ex.run, ex.start = c, c.proxy.run.Load(), now()
	ex.at = ex.start
	ex.head.reset()
	for i := range ex.phases {
		ex.phases[i] = -1
	}
}

// clear forgets everything of a request but the bytes in the client's buffer that follow on it.
func (ex *exchange) clear() {
	ex.client, ex.run = nil, nil
	ex.up.clear()
	ex.out, ex.url = keepBuffer(ex.out), keepBuffer(ex.url)
	if cap(ex.large) > bufferKept {
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
	ex.status, ex.reason, ex.failed, ex.written = 0, reason.None, nil, false
	ex.remote, ex.reused, ex.tlsVersion = netip.AddrPort{}, false, ""
	ex.requestBytes, ex.responseBytes = 0, 0
}

func keepBuffer(b []byte) []byte {
	if cap(b) > bufferKept {
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

// buffer holds bytes that were read and not yet used.
type buffer struct {
	bytes    []byte
	from, to int // what is unused
}

func newBuffer() buffer { return buffer{bytes: make([]byte, bufferSize)} }

func (b *buffer) len() int       { return b.to - b.from }
func (b *buffer) unused() []byte { return b.bytes[b.from:b.to] }
func (b *buffer) free() []byte   { return b.bytes[b.to:] }
func (b *buffer) added(n int)    { b.to += n }

// skip marks n bytes as used. They stay where they are until room, grow or clear is called.
func (b *buffer) skip(n int) { b.from += n }

// grow makes the buffer hold at least size bytes from the first unused one on; what has been used may go. Slices
// taken before keep what they held, for memory that is left is not written to again.
func (b *buffer) grow(size int) {
	if len(b.bytes)-b.from >= size {
		return
	}
	bytes := make([]byte, max(size, min(2*len(b.bytes), bufferKept)))
	b.to = copy(bytes, b.unused())
	b.from, b.bytes = 0, bytes
}

// restart moves what is unused to the beginning, over what has been used.
func (b *buffer) restart() {
	if b.from > 0 {
		b.to = copy(b.bytes, b.unused())
		b.from = 0
	}
}

func (b *buffer) clear() {
	b.from, b.to = 0, 0
	if len(b.bytes) > bufferKept {
		b.bytes = make([]byte, bufferSize)
	}
}

var copyBuffers = sync.Pool{New: func() any {
	b := make([]byte, copyBufferSize)
	return &b
}}

func acquireCopyBuffer() *[]byte  { return copyBuffers.Get().(*[]byte) }
func releaseCopyBuffer(b *[]byte) { copyBuffers.Put(b) }
