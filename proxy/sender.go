package proxy

import (
	"time"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/policy"
	"whsentry/proxy/http1"
	"whsentry/proxy/reason"
)

// identify finds whose request it is, and whether its client may have one more now: 1016 and 1020. Inside a tunnel it
// is whose the CONNECT was, as long as that may still be somebody.
func (ex *exchange) identify() *reason.Failure {
	c, rules := ex.client, ex.run.policy
	rated := true
	switch {
	case !c.IsVerified():
		c.Known = false
		f := reason.Newf(reason.Unauthorized, "the CA that the client's certificate was verified by is no longer in use")
		f.Fatal = true
		return ex.turnDown(f)
	case c.within != nil:
		ex.sender = rules.Recheck(&c.within.identity)
		rated = c.within.begun
		c.within.begun = true
	default:
		ex.sender = rules.Identify(&c.peer, ex.credential())
	}
	c.Known = ex.sender != nil
	if ex.sender == nil {
		f := reason.Newf(reason.Unauthorized, "the client is not known, or its credential is wrong")
		f.Fatal = c.within != nil
		return ex.turnDown(f)
	}
	return ex.admit(rated)
}

// clientName is whose the request is, for the log and the metrics; "": of none of the clients of the settings. Inside a
// tunnel that is known before the request is read, and so of what is no request, too.
func (ex *exchange) clientName() string {
	sender := ex.sender
	if w := ex.client.within; w != nil && sender == nil && ex.client.IsVerified() {
		sender = ex.run.policy.Recheck(&w.identity)
	}
	if sender == nil {
		return ""
	}
	return sender.Name
}

// takeDenied reports whether the CONNECT that the request came by was against its client's rules, to the first that is
// logged: the CONNECT has no line of its own, and both count once.
func (ex *exchange) takeDenied() bool {
	w := ex.client.within
	if w == nil || !w.wouldDeny {
		return false
	}
	w.wouldDeny = false
	return true
}

// turnDown gives a refusal of who the client is the status that asks for a credential where there are any.
func (ex *exchange) turnDown(f *reason.Failure) *reason.Failure {
	switch {
	case !ex.run.policy.HasTokens():
		f.Status = 403
	case ex.isCheck():
		f.Status = 401
	}
	return f
}

func (ex *exchange) credential() policy.Credential {
	h := &ex.head
	shown := policy.Credential{Value: h.Authorization.Of(h.Raw), Fields: h.Authorizations}
	if shown.Fields > 0 || !ex.isCheck() {
		return shown
	}
	for _, f := range h.Fields() { // of a check, the proxy is the origin
		if http1.EqualFold(f.Name.Of(h.Raw), "authorization") {
			shown.Value = f.Value.Of(h.Raw)
			shown.Fields++
		}
	}
	return shown
}

// admit counts the request for its client. rated says that its rate counts it too.
func (ex *exchange) admit(rated bool) *reason.Failure {
	if ex.sender.Name == "" {
		return nil // everybody has no limits
	}
	if rated && !ex.sender.TakeRequest(time.Now()) {
		return reason.Newf(reason.OverLimit, "the client has sent too many requests a second").Over(reason.LimitClientsRequestsPerSecond)
	}
	if !ex.sender.Acquire() {
		return reason.Newf(reason.OverLimit, "the client has too many requests in flight").Over(reason.LimitClientsMaxConnections)
	}
	ex.client.place = place{of: ex.sender, taken: true}
	return nil
}

// place is a request's place among those of its client that are in flight: maxConnections. The zero place is none.
type place struct {
	of    *policy.Client
	taken bool
}

// offer gives the place up before the last of the answer is written, on which the client's next request may follow, on
// another connection. Where the client is slow to take it, stalls takes the place again.
func (p *place) offer() {
	if p.taken {
		p.taken = false
		p.of.Release()
	}
}

// stalls is called where writing to the client has to wait: the request is in flight for as long as it lasts.
func (p *place) stalls() {
	if p.of != nil && !p.taken {
		p.taken = true
		p.of.Retake()
	}
}

// leave gives the place up for good.
func (p *place) leave() {
	p.offer()
	p.of = nil
}

// obeyRules holds the request against its client's rules, and finds the terms on which its destination is connected to,
// and as whom: 1019 and 1010.
func (ex *exchange) obeyRules() *reason.Failure {
	host := ex.address.Host()
	switch ex.sender.Judge(host, ex.address.Port()) {
	case policy.Denied:
		return reason.Newf(reason.NotAllowed, "this client may not send to %s", ex.address.String())
	case policy.WouldDeny:
		ex.wouldDeny = true
	}
	ex.terms = ex.run.destinations.Terms(host, ex.address.Port())
	if !ex.tls && !(ex.connect && ex.run.cfg.ConnectMode == ConnectMITM) {
		return nil
	}
	return ex.chooseCertificate(host)
}

// chooseCertificate finds the client certificate that is presented: the one that the request names, or the CONNECT that
// it came by; that of the destination's entry; or the default.
func (ex *exchange) chooseCertificate(host policy.Host) *reason.Failure {
	h := &ex.head
	named := ""
	if ex.client.within != nil {
		named = ex.client.within.alias
	}
	if ex.run.cfg.ClientCertHeader && h.Aliases > 0 {
		named = string(h.Alias.Of(h.Raw))
		if h.Aliases > 1 {
			return reason.Newf(reason.UnknownAlias, "more than one X-WhSentry-ClientCert")
		}
		if named == "" {
			return reason.Newf(reason.UnknownAlias, "no client certificate has an empty alias")
		}
	}
	alias, verdict := ex.run.policy.Alias(ex.sender, ex.terms.Entry, host, named)
	switch verdict {
	case policy.AliasUnknown:
		return reason.Newf(reason.UnknownAlias, "no client certificate with the alias %q is configured", named)
	case policy.AliasNotHere:
		return reason.Newf(reason.UnknownAlias, "the client certificate is not for %s", ex.address.Name()).With(403, reason.SourcePolicy)
	}
	ex.alias, ex.named = alias, named
	if alias == "" {
		ex.alias = ca.NoClientCert
	}
	return nil
}

// exceptions are what the guard lets through for this request beside what it does for all.
func (ex *exchange) exceptions() guard.Exceptions {
	return ex.run.destinations.Exceptions(ex.sender, ex.terms)
}

// dialer connects for this request.
func (ex *exchange) dialer() *guard.Dialer {
	e := ex.exceptions()
	if e == (guard.Exceptions{}) {
		return ex.run.dialer
	}
	return ex.run.dialer.With(e)
}
