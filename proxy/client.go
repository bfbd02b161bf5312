package proxy

import (
	"bytes"
	"crypto/x509"
	"net/netip"
	"sync"
	"time"

	"whsentry/policy"
	"whsentry/proxy/downstream"
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"
	"whsentry/proxy/upstream"

	"github.com/valyala/fasthttp"
)

// client is who sends requests over a connection, one after the other.
type client struct {
	downstream.Conn
	proxy *Proxy

	within *interception // set once what is inside a CONNECT of this client are requests
	peer   policy.Peer   // what it shows of who it is
	place  place         // that its request has among those of its client that are in flight

	mu      sync.Mutex      // guards the following
	gone    bool            // the client went away while its request was being served
	overdue bool            // the deadline that the client gave its request has passed
	dropped bool            // the proxy is stopping, and has waited for the request for as long as it may
	request uint32          // counts the requests with such a deadline
	up      *upstream.Conn  // the connection that serves this client now
	pending *socket.Context // a connection that is being made for it
	rights  *rights         // what its opaque tunnel rests on; nil: there is none
}

var _ downstream.Handler = (*client)(nil)

// Greeted notes who the client is as far as its connection tells.
func (c *client) Greeted(from netip.Addr, shown *x509.Certificate) {
	c.peer.Addr = from
	if shown != nil {
		c.peer.Certificate = policy.NewCertificate(shown)
	}
}

// Serve carries out the request whose head has come, as fasthttp has parsed it, or whole where it has not.
// Whatever happens, it ends in finish.
func (c *client) Serve(h *fasthttp.RequestHeader, unparsed []byte) (goesOn bool) {
	ex := acquireExchange()
	defer ex.release()
	ex.begin(c)
	if h != nil {
		ex.head.Method, ex.head.Target, ex.head.HTTP10 = h.Method(), h.RequestURI(), string(h.Protocol()) == "HTTP/1.0"
		ex.head.Raw = h.RawHeaders()
	}
	return ex.carryOut(unparsed)
}

// Refuse ends a connection that did not get as far as a whole head: it counts and logs what there is of one, and tells
// the client where that can read it.
func (c *client) Refuse(f *reason.Failure, readable bool) {
	ex := acquireExchange()
	defer ex.release()
	ex.begin(c)
	if whole := bytes.LastIndexByte(c.In.Unused(), '\n') + 1; whole > 0 {
		ex.head.Scan(bytes.TrimLeft(c.In.Unused()[:whole], "\r\n"), ex.run.idHeader)
	}
	if !readable {
		ex.begun, ex.status = true, f.Status
	}
	ex.finish(f)
	c.In.Release()
}

// TurnAway tells a client that there is no place for it.
func (c *client) TurnAway(readable bool) {
	f, ex := overloaded(), acquireExchange()
	defer ex.release()
	ex.begin(c)
	ex.start = ex.at
	ex.failed, ex.reason, ex.status = f, f.Code, f.Status
	if readable {
		answer, body := ex.run.cfg.Answers.AppendAnswer(nil, f, time.Now(), "", "close")
		c.SendAtOnce(answer)
		ex.responseBytes = int64(body)
	}
	ex.record().Release()
}

// overloaded is what the clients above maxConnections are told.
func overloaded() *reason.Failure {
	f := reason.Newf(reason.TooMany, "too many connections to the proxy").Over(reason.LimitMaxConnections)
	f.Fatal = true
	return f
}

// AwaitsBody lays a destination's connection to rest that no slow client is to hold.
func (c *client) AwaitsBody() { c.restOpened() }

// Stalled says that the client is slow to take its answer.
func (c *client) Stalled() { c.place.stalls() }

// Left closes what the client has left unused.
func (c *client) Left() { c.dropOpened() }
