package accesslog

import (
	"net/netip"
	"time"

	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
)

// Config is where and how requests are logged.
type Config struct {
	Type string // (accessLog.type) Text or JSON
	File string // (accessLog.file) is appended to; "" is standard output
	URL  string // (accessLog.url) how much of a URL is logged: URLFull, URLPath or URLHost
}

// The values of Config.Type and Config.URL.
const (
	Text, JSON                = "text", "json"
	URLFull, URLPath, URLHost = "full", "path", "host" // URLPath is without the query
)

// Record is one request, as it is logged. Its parts may hold anything: they are escaped where they are written. It is
// filled and given to Log again and again, so that it costs no memory; what it holds need not outlive that call.
type Record struct {
	At         time.Time // when it ended
	Took       time.Duration
	ID         []byte // rq_id
	ClientAddr string
	Client     string // of the settings; "": none
	Method     []byte // empty: not known
	URL        []byte // as much of it as Config.URL lets through; empty: not known

	Status    int
	Code      reason.Code      // reason.None: the destination's own answer
	Text      string           // the reason's, in full
	Source    reason.Source    // of the failure
	Gone      bool             // the client went away
	Delivered reason.Delivered // where there is a code, or the client is gone
	Received  int              // the final status that the destination sent, where there is a code; 0: none
	WouldDeny reason.Code      // the code that the client's rules would have refused it with, were they enforced; reason.None: none
	Untidy    []string         // what of the response was tidied
	Closed    string           // why a tunnel ended, where that is no failure: idle or lifetime; "": one of its sides ended it

	Upstream   netip.AddrPort // what was connected to; not valid: nothing was
	Tried      netip.AddrPort // what could not be connected to, tried last; not valid: nothing was
	Reused     bool           // that connection had been used before
	TLSVersion string         // towards the destination; "" without TLS
	TraceID    []byte         // of TraceID; empty: none

	RequestBytes, ResponseBytes int64                         // of bodies; of a tunnel, all bytes
	Phases                      [metrics.Phases]time.Duration // below 0: did not happen

	line []byte
}

// maxKept is how large a record's own memory may have become to be kept for the next request, in bytes.
const maxKept = 64 << 10

// Forget lets go of everything that the record holds, but for the memory that its line was written in.
func (r *Record) Forget() {
	line := r.line
	if cap(line) > maxKept {
		line = nil
	}
	*r = Record{line: line[:0]}
}
