package proxy

import (
	"bytes"

	"whsentry/policy"
	"whsentry/proxy/destination"
	"whsentry/proxy/http1"
	"whsentry/proxy/reason"
	"whsentry/proxy/upstream"
)

// interception is what a CONNECT that is intercepted, or inspected, has fixed for the requests inside.
type interception struct {
	authority []byte // host:port as the client wrote it
	address   destination.Address
	alias     string          // X-WhSentry-ClientCert of the CONNECT: for the requests that name none
	identity  policy.Identity // whose the CONNECT was
	wouldDeny bool            // the CONNECT was against its client's rules, and that is not yet in the log
	begun     bool            // there has been a request inside: the first counts as one with the CONNECT
	issuer    uint32          // of its certificate, where it has one: as Proxy.issuers counts
	plain     bool            // the client does not speak TLS
	opened    opened          // the connection made at CONNECT, until it is used
}

// intercept answers a CONNECT by speaking TLS with the client in the destination's place. From here on the client's
// connection carries requests to that destination alone, and each is handled like one with X-WhSentry-TLS. The
// CONNECT itself leaves no line in the log. A client that does not begin with TLS is served as in a tunnel that is not
// intercepted: its requests are inspected, or passed on as bytes.
func (ex *exchange) intercept(refused *reason.Failure) *reason.Failure {
	if refused == nil {
		refused = ex.judge()
	}
	if refused != nil {
		return refused
	}
	c := ex.client
	issuer := c.proxy.issuers.Load()
	if c.proxy.run.Load() != ex.run {
		issuer-- // the CA that is counted by now may not be the one that signs below
	}
	cfg, err := ex.run.ca.IssuerConfig(ex.address.Name())
	if err != nil {
		return reason.Newf(reason.Internal, "internal error: make a certificate for %s: %v", ex.address.Name(), err)
	}
	if c.Send([]byte(connectionEstablished)) != nil {
		return reason.ClientGone()
	}
	ex.endDeadline()
	c.Limit(ex.run.cfg.ClientTimeout)
	plain, err := c.AwaitOpening(openingPatience, func() {})
	if err != nil {
		ex.keep = false
		return nil
	}
	if plain && ex.run.cfg.ConnectPlain == PlainOpaque {
		return ex.passPlain()
	}
	ex.enclose(&interception{plain: plain, alias: ex.named, issuer: issuer})
	switch {
	case !plain:
		ex.keep = c.StartTLS(cfg, c.TakeEarly()) == nil // whatever the CONNECT said of the connection is about the tunnel
	case !c.AwaitHead(): // the client has been told why
		ex.keep = false
	case isOpaqueUpgrade(c.Head()):
		c.within = nil
		return ex.passPlain()
	default:
		ex.keep = true // likewise
	}
	return nil
}

// enclose makes what the client sends from here on requests inside the tunnel that it has asked for.
func (ex *exchange) enclose(within *interception) {
	within.authority, within.identity, within.wouldDeny = bytes.Clone(ex.authority), ex.identity(), ex.wouldDeny
	within.address.Copy(&ex.address)
	ex.client.within = within
}

// passPlain carries what a client has begun without TLS as bytes, after a CONNECT that was to be intercepted.
func (ex *exchange) passPlain() *reason.Failure {
	c := ex.client
	ex.status, ex.begun = 200, true // it has been answered, whatever comes
	if f := ex.acquire(nil, true); f != nil {
		return f
	}
	return ex.join(func(t *upstream.Tunnel) (opaque bool) {
		c.Untimed = true
		t.Begin()
		t.Carry(c.TakeEarly(), nil)
		return true
	})
}

// routeWithin is route for a request inside an intercepted or inspected tunnel, which is for the CONNECT's host and port
// and for no other: a different one in Host or in an absolute URI would be a way around what was judged and certified.
func (ex *exchange) routeWithin(within *interception) *reason.Failure {
	h := &ex.head
	raw, absolute := h.Target, false
	ex.tls = !within.plain || h.TLS
	ex.authority = within.authority
	if bytes.HasPrefix(raw, []byte("/")) {
		ex.path = raw // of the log too, where the request is refused
	}
	if err := h.CheckHost(); err != nil {
		return reason.OfMessage(err)
	}
	if f := ex.checkAsks(); f != nil {
		return f
	}
	switch {
	case string(ex.method()) == "CONNECT":
		ex.authority = nil // of the log, which shows what it asks for
		return refuseNested(raw)
	case bytes.IndexByte(raw, '#') >= 0:
		return reason.Newf(reason.Malformed, "malformed request: its URI has a fragment")
	case len(ex.path) > 0, string(raw) == "*" && string(ex.method()) == "OPTIONS":
	default:
		t, err := http1.ParseTarget(raw)
		if err != nil {
			return reason.OfMessage(err)
		}
		if t.HTTPS == within.plain || !within.matches(&t.Authority) {
			return reason.Newf(reason.Malformed, "malformed request: its URI is not for %s", within.authority)
		}
		ex.authority, ex.path = t.Authority.Raw, t.Path
		absolute = true
	}
	if host := h.Host.Of(h.Raw); len(host) > 0 {
		a, _ := http1.ParseAuthority(host)
		if !within.matches(&a) {
			return reason.Newf(reason.Malformed, "malformed request: its Host is not %s", within.authority)
		}
		if !absolute { // where there is a URI, the Host comes from it
			ex.authority = host
		}
	}
	ex.address.Copy(&within.address)
	if within.plain {
		if f := ex.routePlain(); f != nil {
			return f
		}
	}
	if err := ex.run.guard.CheckPort(ex.address.Port()); err != nil {
		return reason.OfConnect(err, "", 0)
	}
	return ex.obeyRules()
}

// refuseNested refuses a CONNECT inside a tunnel.
func refuseNested(target []byte) *reason.Failure {
	if _, err := http1.ParseConnectTarget(target); err != nil {
		return reason.OfMessage(err)
	}
	f := reason.Newf(reason.Connect, "CONNECT is not allowed inside a tunnel")
	f.Allow = methodsServed
	return f
}

// matches reports whether a is the CONNECT's host and port, whose default is that of https; without TLS, the CONNECT's.
func (w *interception) matches(a *http1.Authority) bool {
	if w.plain {
		return w.matchesPlain(a)
	}
	var other destination.Address
	other.Set(a, true)
	return bytes.Equal(other.Key(), w.address.Key())
}
