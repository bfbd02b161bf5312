// Package proxy carries one HTTP request after the other from a client to the destination that its URI names, and
// the answer back: a forward proxy for webhooks, whose destinations are strangers.
//
// # The house
//
//	main.go              hands the command line to internal/command, and nothing else
//	internal/command     what the command line can ask for; start, reload, stop
//	internal/settings    every key of the configuration, once
//	proxy                this package: one request, from the client to the destination and back
//	  proxy/listen       the sockets that clients connect to, however they came, and how they are left
//	  proxy/http1        the bytes of HTTP/1: the gate's scan, fields, chunked coding, heads both ways
//	  proxy/downstream   connections of clients: accepted, greeted, read and written in time, at rest, left
//	  proxy/destination  the host and port that a request is for, and the terms on which that is connected to
//	  proxy/upstream     connections to destinations: pool, lifetime, idleness, a request over one, its answer's body
//	  proxy/urlcheck     what a URL check asks, and is answered
//	  proxy/socket       what lies under a connection: system calls made at once, the waits for them, the clock
//	  proxy/reason       the table of reasons; errors become reasons there and nowhere else
//	  proxy/metrics      every metric's name
//	  proxy/accesslog    a record in, a line out
//	  proxy/admin        /metrics, /healthz, /readyz and the status page
//	guard                which addresses may be connected to; connects to exactly those
//	ca                   whom we trust and who we are; the only maker of a *tls.Config
//	policy               who may send where: clients, rules for destinations, the breaker
//
// Arrows go down only: the rooms below this package never import it, and guard, ca and policy know neither each other
// nor HTTP's engine, a logger or metrics. A test over the imports (internal/rooms_test.go) keeps it so.
//
// # A request's way
//
// The files, in the order in which a request meets them:
//
//	proxy.go        Proxy: New, Serve; owns clients, pool, sweeper (reload.go: Reload, shutdown.go: Shutdown)
//	downstream      accepts the client's connection, and hands on the heads of its requests (go doc has its files)
//	client.go       a client, as its connection sees it: each of its requests begins here
//	handler.go      one exchange: the strict pass, route, readBody, forward, finish: the single exit
//	exchange.go     the memory that an exchange needs
//	sender.go       whose request it is, what its client may, and as whom its destination sees it
//	breaking.go     whether its destination could be reached, of late (deadline.go: the caller's own deadline)
//	ask.go          what a request asks of the proxy itself, in its own fields
//	wait.go         waiting for the destination, which the client's going away ends
//	connect.go      get a connection to the destination: one at rest, or a new one, through the guard
//	forward.go      send the request, read the answer's head
//	headers.go      the heads that are sent, both ways (http1: what is dropped, replaced and rewritten in them)
//	relay.go        pass the answer's body on within the limits, or cut it so that the client can tell
//	incomplete.go   the same where an answer that is cut is passed on all the same (incompleteResponses: pass)
//	tunnel.go       CONNECT as a tunnel (intercept.go: CONNECT under mitm; rights.go: tunnels whose right is gone)
//	inspect.go      a tunnel whose client begins with HTTP is left for requests (http1.Opening: whether it does)
//	check.go        /check: what would become of a request to a URL
//	record.go       count and log an exchange that has ended
//	sweep.go        the goroutine that enforces limits in time, on both sides
//	config.go       Config, its defaults, its validation
//
// And the same as it is called:
//
//	fasthttp.Server.Serve(listener)               accepts; a goroutine for each connection
//	  gate.Read          downstream               greets once, rests, then delivers one complete head
//	  fasthttp           parses the head          (what it refuses goes to handleRefused)
//	  Server.handle      downstream
//	    client.Serve
//	      exchange.carryOut
//	        scan         the strict pass over the fields
//	        route        target, Host, port, certificate; CONNECT leaves for tunnel or intercept
//	        readBody     in full, within the limits
//	        forward
//	          acquire    from the pool, or open: guard.Dialer, then ca's handshake
//	          ask        head and body, in one write
//	          passBody   the answer's body, within the limits; the connection is put back or discarded
//	        finish       what the client is still to be told, then the metrics, then the log
//	  gate.Read          the next head, when fasthttp's loop asks for it
//	  gate.Close         the end of the loop; the client goes on where only fasthttp has ended it (goOn)
//
// A client's goroutine does all of it, from the first byte of a request to the last of its answer. Two things have a
// goroutine of their own, which is awaited: the making of a new connection, for the sake of its stack, and the second
// direction of a tunnel. open, in connect.go, is the only function that makes a connection to a destination, and
// guard.Dialer the only thing that it asks for one.
//
// # What fasthttp does, and what we add
//
// fasthttp accepts connections, keeps the goroutines that serve them, runs the loop of a kept connection, and parses
// each head without an allocation. It sees nothing but heads that have passed the gate; what it makes of the request
// line is used as it is.
//
// The framing of HTTP/1.1 is where proxies are attacked, and what this proxy refuses, and when, is its promise. A
// server for the web is more lenient than that, with good reason. Three things stand around its parser:
//
// The gate, downstream's Read for fasthttp, hands on one complete head, whose every line ends with CRLF and which holds
// no other control byte than HTAB, and nothing of what follows it. Without it a bare LF ends a line or the whole head
// for fasthttp, so that two parsers see different requests in the same bytes. And since no byte of a body ever lies in
// its buffer, it can take no request out of one, and a CONNECT's early bytes are ours without a hijacking.
//
// The strict pass, exchange.scan, reads the fields once more as they were sent (RawHeaders), and looks at nothing that
// fasthttp has made of them. Without it there pass: folded lines, white space within a name, a length beside chunked,
// a coding that is not chunked, and whatever else has one reading here and another at the destination. It also keeps
// what a parser into a map loses: the letters and the order of the fields, and which of them the proxy drops. What
// fasthttp refuses by itself is scanned in the same way, so that the client is told the reason and not the engine's; and
// so is a head of very many lines, which it is not given, for it would copy each into memory of its own.
//
// Bodies, answers and time are ours. fasthttp allocates a body by its announced size before any of it has come, and
// knows no limit over all clients; so HeaderReceived tells it that there is none, and the exchange reads it, by
// downstream.Body. Answers are written raw by the exchange (order of fields, interim responses, an answer that is cut),
// and what fasthttp writes is swallowed by gate.Write. Its deadlines are not used: the sweeper's are.
//
// A connection holds its server's read buffer for as long as that serves it, also while a request waits for its answer, so
// that the first server has one of 512 bytes, and a larger head is served by another with the size that it needs
// (engine.of). fasthttp recovers no panic: Read, Close and carryOut do.
//
// Towards destinations fasthttp's client is not used: it cannot say whether a byte of a request has left, which is what
// sending a POST at most once hangs on. guard.Dialer fits it all the same, as a fasthttp.DialFuncWithTimeout.
//
// # Time
//
// No read or write sets a deadline. A connection's owner stores the moment by which it must have got on, one atomic
// store; one goroutine, the sweeper, looks at all of them several times within the shortest limit. It wakes a client's
// goroutine by a deadline in the past, and closes a destination's socket. The making of a connection has a context
// (socket.Context), which the sweeper ends as well.
//
// # Memory
//
// Buffers belong to exchanges, never to connections at rest: a client between two requests holds fasthttp's small
// buffer and no other, and after a second leaves fasthttp's loop, so that it gives that one and its stack back too
// (downstream.Conn.park); a tunnel without traffic and a pooled connection hold none. While the destination is waited
// for, an exchange holds a few facts, and the request's body only where that may be sent again; the memory that its head
// was written from has been given back, a read buffer is taken once there is something to read, and a line of the log
// once there is something to tell. What a request does until then fits a stack of 4 KiB: before, stacks were half of
// what 4,000 requests in flight took.
//
// # Words
//
//	client        sends requests to the proxy
//	destination   the host and port that a request is for
//	upstream      a connection of the proxy's to a destination
//	exchange      one request and its answer
//	gate          what fasthttp reads requests through
//	tunnel        what CONNECT opens
//	hop-by-hop    what belongs to one connection and is not passed on (RFC 9110 section 7.6.1)
//	reason        why the proxy itself answered, as a number and a text
//	outcome       whose a failure is, whether the request was delivered, and whether to send it again
//	to cut        to end an answer that has begun so that the client can tell that it is not whole
//
// # What it does not do
//
// HTTP/2 and HTTP/3, caching, retries, upgrades such as WebSocket, and requests in origin form: it is no reverse proxy.
package proxy
