package accesslog

import (
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"sync"
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

// DefaultConfig returns the defaults: text with whole URLs, on standard output.
func DefaultConfig() Config { return Config{Type: Text, URL: URLFull} }

// Record is one request, as it is logged. Its parts may hold anything: they are escaped where they are written. What it
// holds need not outlive the call of Log. AcquireRecord and Release let it cost no memory.
type Record struct {
	At         time.Time // when it ended
	Took       time.Duration
	ID         []byte // rq_id
	ClientAddr string
	Client     string // of the settings; "": none
	Method     []byte // empty: not known
	// URL is as much of it as Config.URL lets through; empty: not known. Its memory is the record's, which keeps it: a URL is
	// appended to what is there, from its beginning on.
	URL []byte

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
	id   [36]byte // where ID lies, where that is random
}

// records are those that no request has. One that waits for its answer needs none: 4,000 would hold 2 MB.
var records = sync.Pool{New: func() any { return new(Record) }}

// AcquireRecord returns a record of a request of which nothing is known.
func AcquireRecord() *Record { return records.Get().(*Record) }

// Release gives the record back. Nothing of it may be used from here on.
func (r *Record) Release() {
	r.Forget()
	records.Put(r)
}

// maxKept is how large a record's own memory may have become to be kept for the next request, in bytes.
const maxKept = 64 << 10

// Forget lets go of everything that the record holds, but for the memory of its own.
func (r *Record) Forget() { *r = Record{line: keep(r.line), URL: keep(r.URL)} }

func keep(memory []byte) []byte {
	if cap(memory) > maxKept {
		return nil
	}
	return memory[:0]
}

// MakeID gives the request a random id, a version 4 UUID (RFC 9562). It is no secret, so that a fast generator is good enough.
func (r *Record) MakeID() {
	var u [16]byte
	binary.LittleEndian.PutUint64(u[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(u[8:], rand.Uint64())
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	r.ID = r.id[:]
	for i, j := 0, 0; i < len(u); i++ {
		if j == 8 || j == 13 || j == 18 || j == 23 {
			r.ID[j] = '-'
			j++
		}
		hex.Encode(r.ID[j:], u[i:i+1])
		j += 2
	}
}

// TLSVersionName names a version, as in tls.VersionTLS13, for Record.TLSVersion; 0 is none.
func TLSVersionName(version uint16) string {
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
