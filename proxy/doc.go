// Package proxy carries one HTTP request after the other from a client to the destination that its URI names, and
// the answer back: a forward proxy for webhooks, whose destinations are strangers.
//
// # A request's way
//
// The files, in the order in which a request meets them:
//
//	proxy.go        Proxy: New, Serve; owns listeners, clients, pool, sweeper (reload.go: Reload, shutdown.go: Shutdown)
//	listen/         the sockets that clients connect to, however they came, and how they are left
//	greeting.go     what comes before a client's first request: PROXY protocol, TLS
//	client.go       a client's connection: reading and writing under time limits, lingering, vanishing
//	handler.go      one exchange: read the head, route it, read the body, forward it, finish: answer, count, log
//	exchange.go     the memory that an exchange needs
//	sender.go       whose request it is, what its client may, and as whom its destination sees it (terms.go: on which terms)
//	breaking.go     whether its destination could be reached, of late (deadline.go: the caller's own deadline)
//	request.go      a request's head, scanned strictly (fields.go: a field's name, value and kind)
//	destination.go  the request's target and Host; the only reader of either
//	body.go         a request's body, read in full within the limits (skip.go: read and dropped, of one that is refused)
//	connect.go      get a connection to the destination: one at rest, or a new one, through the guard
//	forward.go      send the request, read the answer's head
//	headers.go      what is dropped, replaced and rewritten, both ways
//	response.go     a response's head, scanned strictly, and tidied where it is merely untidy
//	relay.go        pass the answer's body on within the limits, or cut it so that the client can tell
//	upstream/       connections to destinations: reuse, lifetime, idleness, the limit per destination; a request over one
//	socket/         what lies under a connection: system calls made at once, and the waits for them
//	tunnel.go       CONNECT as a tunnel (intercept.go: CONNECT under mitm; rights.go: tunnels whose right is gone)
//	record.go       count and log an exchange that has ended
//	sweep.go        the goroutine that enforces limits in time, and looks after clients at rest
//	config.go       Config, its defaults, its validation
//
// The rooms below it, which know nothing of it:
//
//	reason/         the table of reasons, the one place that makes reasons of errors, and how an answer is written
//	metrics/        every metric's name
//	accesslog/      a record in, a line out
//	admin/          /metrics, /healthz, /readyz and the status page, with what it keeps
//
// A client's goroutine does all of it, from the first byte of a request to the last of its answer; there is no
// hand-over to another one, but for the second direction of a tunnel. open, in connect.go, is the only function that
// makes a connection to a destination, and guard.Dialer the only thing that it asks for one.
//
// # Why the parser is our own
//
// The framing of HTTP/1.1 is where proxies are attacked, and what is refused, and when, is this proxy's promise. A
// general parser accepts more (white space around a chunk's size, framing fields twice, line feeds alone), keeps less
// (the letters and the order of the fields), and reads a chunked body before anybody can say how much memory it may
// take over all clients. A second scan in front of it would be this parser. It reads each byte once, copies none and
// allocates nothing. fasthttp serves what needs none of that: metrics and health.
//
// # Time
//
// No read or write sets a deadline. A connection's owner stores the moment by which it must have got on, one atomic
// store; one goroutine, the sweeper, looks at all of them several times within the shortest limit. It wakes a client's
// goroutine by a deadline in the past, and closes a destination's socket.
//
// # Memory
//
// Buffers belong to exchanges, never to connections at rest: a client between two requests, a tunnel without traffic
// and a pooled connection hold none.
//
// # Words
//
//	client        sends requests to the proxy
//	destination   the host and port that a request is for
//	upstream      a connection of the proxy's to a destination
//	exchange      one request and its answer
//	tunnel        what CONNECT opens
//	hop-by-hop    what belongs to one connection and is not passed on (RFC 9110 section 7.6.1)
//	reason        why the proxy itself answered, as a number and a text
//	to cut        to end an answer that has begun so that the client can tell that it is not whole
//
// # What it does not do
//
// HTTP/2 and HTTP/3, caching, upgrades such as WebSocket, and requests in origin form: it is no reverse proxy.
package proxy
