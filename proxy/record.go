package proxy

import (
	"bytes"
	"net/http"
	"net/netip"
	"time"

	"whsentry/proxy/accesslog"
	"whsentry/proxy/admin"
	"whsentry/proxy/http1"
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"
	"whsentry/proxy/urlcheck"
)

// record counts and logs the exchange, which has ended. The record that it returns is the caller's to release.
func (ex *exchange) record() *accesslog.Record {
	at := time.Now()
	ex.at = socket.At(at)
	took := time.Duration(ex.at - ex.start)
	m := ex.client.proxy.metrics
	source := reason.SourceNone
	if ex.reason != reason.None {
		source = ex.failed.Source
		m.CountLimit(ex.failed.Limit)
	}
	m.CountRequest(ex.status, ex.reason, source, took)
	r := accesslog.AcquireRecord()
	r.Client = ex.clientName()
	counts := m.Client(r.Client)
	counts.Count(ex.reason)
	if ex.takeDenied() || ex.wouldDeny {
		r.WouldDeny = reason.NotAllowed
		counts.CountWouldDeny()
	}
	m.CountPhases(&ex.phases)
	m.RequestBytes.AddInt64(ex.body.Came)
	m.ResponseBytes.AddInt64(ex.responseBytes)
	ex.fillRecord(r, at, took)
	ex.client.proxy.access.Load().Log(r)
	return r
}

// fillRecord makes r the record of the exchange, whose parts are those of the exchange's own buffers.
func (ex *exchange) fillRecord(r *accesslog.Record, at time.Time, took time.Duration) {
	r.At, r.Took = at, took
	r.ClientAddr, r.Method, r.URL = ex.client.Addr, ex.method(), ex.appendURL(r.URL[:0], ex.run.cfg.AccessLog.URL)
	if r.ID = ex.head.ID.Of(ex.head.Raw); len(r.ID) == 0 {
		r.MakeID() // the client gave none
	}
	r.Status, r.Code = ex.status, ex.reason
	r.Upstream, r.Reused, r.TLSVersion = ex.remote, ex.reused, accesslog.TLSVersionName(ex.tlsVersion)
	r.Closed = ex.closed.String()
	if f := ex.failed; f != nil {
		r.Tried = f.Tried
		r.Text, r.Source, r.Delivered, r.Received, r.Gone = f.Text, f.Source, f.Delivered, f.Received, ex.reason == reason.None
	}
	r.Untidy = ex.tidied()
	if ex.run.cfg.AccessLog.Type == accesslog.JSON {
		r.TraceID = accesslog.TraceIDOf(&ex.head)
	}
	r.RequestBytes, r.ResponseBytes, r.Phases = ex.body.Came, ex.responseBytes, ex.phases
}

// tidied names what was untidy about the destination's response, where that was passed on, and counts it.
func (ex *exchange) tidied() (names []string) {
	if ex.resp.Untidy == 0 || ex.failed != nil && !ex.begun {
		return nil
	}
	for what := range ex.resp.Untidy.Names {
		ex.client.proxy.metrics.CountUntidy(what)
		names = append(names, what)
	}
	return names
}

// noteRefusal shows an exchange that the proxy has answered itself, for f, on the status page.
func (p *Proxy) noteRefusal(ex *exchange, r *accesslog.Record, f *reason.Failure) {
	if ex.reason == reason.None || f == nil || p.admin == nil {
		return
	}
	// A path or a query may be a secret, as those of many webhooks are, and more people see this page than the log.
	r.URL = ex.appendURL(r.URL[:0], accesslog.URLHost)
	p.admin.NoteRefusal(&admin.Refused{
		ID: r.ID, Client: ex.client.Addr, ClientName: r.Client, Method: ex.method(), URL: r.URL, Status: ex.status,
		Code: ex.reason, Source: f.Source, Text: f.Text, Rule: f.Rule, Upstream: ex.triedUpstream(f), Destination: ex.destination(),
	})
}

// triedUpstream is what was connected to, or was to be; not valid: nothing was.
func (ex *exchange) triedUpstream(f *reason.Failure) netip.AddrPort {
	if ex.remote.IsValid() {
		return ex.remote
	}
	return f.Tried
}

// destination is the host and port asked for; "": not known.
func (ex *exchange) destination() string {
	if ex.authority == nil {
		return ""
	}
	return ex.address.String()
}

// appendURL appends as much of the request's URL as mode, a value of accessLog.url, lets through. User information is a
// password, so it is left out of what was refused for having it.
func (ex *exchange) appendURL(dst []byte, mode string) []byte {
	if ex.isCheck() {
		return append(dst, urlcheck.Path...)
	}
	authority, path, https := ex.authority, ex.path, ex.tls
	if authority == nil {
		var known bool
		if authority, path, https, known = ex.unrouted(); !known {
			return accesslog.AppendTarget(dst, ex.head.Target, mode)
		}
	}
	if string(ex.method()) == http.MethodConnect {
		return append(dst, authority...)
	}
	return accesslog.AppendURL(dst, https, authority, path, mode)
}

// unrouted takes apart the target of a request that was refused before it was known where it goes. It reports whether it
// could.
func (ex *exchange) unrouted() (authority, path []byte, https, known bool) {
	raw, within := ex.head.Target, ex.client.within
	if string(ex.method()) == http.MethodConnect {
		if a, err := http1.ParseConnectTarget(raw); err == nil {
			return a.Raw, nil, false, true
		}
	} else if within != nil && bytes.HasPrefix(raw, []byte("/")) {
		return within.authority, raw, !within.plain, true
	}
	t, err := http1.ParseTarget(raw)
	return t.Authority.Raw, t.Path, t.HTTPS, err == nil
}
