package proxy

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"whsentry/proxy/accesslog"
	"whsentry/proxy/admin"
	"whsentry/proxy/http1"
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"
	"whsentry/proxy/urlcheck"
)

// line is a record for the access log, with the memory that it is made in. An exchange has one only once it has ended:
// 4,000 that wait for their answers would hold 2 MB.
type line struct {
	accesslog.Record
	url []byte
	id  [36]byte
}

var lines = sync.Pool{New: func() any { return new(line) }}

func (l *line) release() {
	l.Forget()
	l.url = keepBuffer(l.url)
	lines.Put(l)
}

// record counts and logs the exchange, which has ended. The line that it returns is the caller's to release.
func (ex *exchange) record() *line {
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
	l := lines.Get().(*line)
	l.Client = ex.clientName()
	counts := m.Client(l.Client)
	counts.Count(ex.reason)
	if ex.takeDenied() || ex.wouldDeny {
		l.WouldDeny = reason.NotAllowed
		counts.CountWouldDeny()
	}
	m.CountPhases(&ex.phases)
	m.RequestBytes.AddInt64(ex.requestBytes)
	m.ResponseBytes.AddInt64(ex.responseBytes)
	l.fill(ex, at, took)
	ex.client.proxy.access.Load().Log(&l.Record)
	return l
}

// fill makes it the record of ex, whose parts are those of the exchange's own buffers.
func (l *line) fill(ex *exchange, at time.Time, took time.Duration) {
	l.url = ex.appendURL(l.url[:0], ex.run.cfg.AccessLog.URL)
	r := &l.Record
	r.At, r.Took = at, took
	r.ID, r.ClientAddr, r.Method, r.URL = l.requestID(ex), ex.client.Addr, ex.method(), l.url
	r.Status, r.Code = ex.status, ex.reason
	r.Upstream, r.Reused, r.TLSVersion = ex.remote, ex.reused, tlsVersionName(ex.tlsVersion)
	r.Closed = ex.closed.String()
	if f := ex.failed; f != nil {
		r.Tried = f.Tried
		r.Text, r.Source, r.Delivered, r.Received, r.Gone = f.Text, f.Source, f.Delivered, f.Received, ex.reason == reason.None
	}
	r.Untidy = ex.tidied()
	if ex.run.cfg.AccessLog.Type == accesslog.JSON {
		r.TraceID = ex.traceID()
	}
	r.RequestBytes, r.ResponseBytes, r.Phases = ex.requestBytes, ex.responseBytes, ex.phases
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

// traceID is that of the request's traceparent, where it has one and that is well-formed; nil otherwise.
func (ex *exchange) traceID() []byte {
	var value []byte
	for _, f := range ex.head.Fields() {
		if !bytes.EqualFold(f.Name.Of(ex.head.Raw), []byte("traceparent")) {
			continue
		}
		if value != nil {
			return nil
		}
		value = f.Value.Of(ex.head.Raw)
	}
	return accesslog.TraceID(value)
}

// noteRefusal shows an exchange that the proxy has answered itself, for f, on the status page.
func (p *Proxy) noteRefusal(ex *exchange, l *line, f *reason.Failure) {
	if ex.reason == reason.None || f == nil || p.admin == nil {
		return
	}
	// A path or a query may be a secret, as those of many webhooks are, and more people see this page than the log.
	l.url = ex.appendURL(l.url[:0], accesslog.URLHost)
	p.admin.NoteRefusal(&admin.Refused{
		ID: l.ID, Client: ex.client.Addr, ClientName: l.Client, Method: ex.method(), URL: l.url, Status: ex.status,
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

// requestID returns the id that the client gave, or a random one (a version 4 UUID, RFC 9562). It is no secret, so
// that a fast generator is good enough.
func (l *line) requestID(ex *exchange) []byte {
	if id := ex.head.ID.Of(ex.head.Raw); len(id) > 0 {
		return id
	}
	var u [16]byte
	binary.LittleEndian.PutUint64(u[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(u[8:], rand.Uint64())
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	b := l.id[:36]
	for i, j := 0, 0; i < len(u); i++ {
		if j == 8 || j == 13 || j == 18 || j == 23 {
			b[j] = '-'
			j++
		}
		hex.Encode(b[j:], u[i:i+1])
		j += 2
	}
	return b
}

// tlsVersionName names a version as the log does; 0 is none.
func tlsVersionName(version uint16) string {
	switch version {
	case 0:
		return ""
	case tls.VersionTLS10: // an entry of destinations may allow these two
		return "TLSv1.0"
	case tls.VersionTLS11:
		return "TLSv1.1"
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS13:
		return "TLSv1.3"
	}
	return tls.VersionName(version)
}
