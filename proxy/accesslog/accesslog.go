// Package accesslog writes a line for each request: a Record in, a line out, nothing lost. It knows what a line looks
// like, as text and as JSON, and that no line can be forged; where the record's parts come from is its caller's business.
//
// Lines are gathered and written many at once, a fifth of a second later at most. Where the file cannot be written, as on
// a full disk, they wait within bounds; where the reader of a pipe is slow, the proxy waits for it.
package accesslog

import (
	"fmt"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
)

// Log writes one line a record. Its methods may be called by many at once.
type Log struct {
	writer *writer
	json   bool
	logger zerolog.Logger
	second atomic.Pointer[formattedSecond]
}

// formattedSecond is a second in RFC 3339's form, as the text log shows it. It is formatted once, for all of that
// second's lines.
type formattedSecond struct {
	unix int64
	zone *time.Location
	text []byte
}

// Open opens the log that cfg names. report is told of every write that fails, with a *WriteError; again of the first that
// does not after some that did, and how many lines were given up in between. Close ends it.
func Open(cfg Config, report func(error), again func(lost int)) (*Log, error) {
	w, err := openWriter(cfg.File, report, again)
	if err != nil {
		return nil, fmt.Errorf("accessLog.file: open the access log: %w", err)
	}
	return &Log{writer: w, json: cfg.Type == JSON, logger: zerolog.New(w)}, nil
}

// Reopen goes on in file, which may be the old one or a new one. Where it cannot be opened the old one stays in use.
func (l *Log) Reopen(file string) error {
	if err := l.writer.reopen(file); err != nil {
		return fmt.Errorf("accessLog.file: open the access log: %w", err)
	}
	return nil
}

// Close writes what is pending and ends the log. It returns how many lines are lost, because the file cannot be written.
func (l *Log) Close() (lost int) { return l.writer.close() }

// Log writes the line of r.
func (l *Log) Log(r *Record) {
	if l.json {
		l.logJSON(r)
		return
	}
	r.line = l.appendText(r.line[:0], r)
	l.writer.Write(r.line)
}

// appendText appends [time] rq_id client_addr METHOD url status 12ms code upstream.
func (l *Log) appendText(dst []byte, r *Record) []byte {
	dst = append(dst, '[')
	dst = append(dst, l.formatSecond(r.At)...)
	dst = append(dst, "] "...)
	dst = reason.AppendWord(dst, orDash(r.ID))
	dst = append(dst, ' ')
	dst = append(dst, r.ClientAddr...)
	dst = append(dst, ' ')
	dst = reason.AppendWord(dst, orDash(r.Method))
	dst = append(dst, ' ')
	dst = reason.AppendWord(dst, orDash(r.URL))
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, r.Took.Milliseconds(), 10)
	dst = append(dst, "ms "...)
	dst = strconv.AppendInt(dst, int64(r.Code), 10)
	dst = append(dst, ' ')
	if addr := r.lastTried(); addr.IsValid() {
		return append(addr.AppendTo(dst), '\n')
	}
	return append(dst, "-\n"...)
}

func (l *Log) formatSecond(at time.Time) []byte {
	if s := l.second.Load(); s != nil && s.unix == at.Unix() && s.zone == at.Location() {
		return s.text
	}
	s := &formattedSecond{unix: at.Unix(), zone: at.Location(), text: at.AppendFormat(nil, time.RFC3339)}
	l.second.Store(s)
	return s.text
}

// appendMillis appends at in RFC 3339's form with milliseconds, which go before the zone.
func (l *Log) appendMillis(dst []byte, at time.Time) []byte {
	const zone = len("2006-01-02T15:04:05")
	second, millis := l.formatSecond(at), at.Nanosecond()/int(time.Millisecond)
	dst = append(append(dst, second[:zone]...), '.', '0'+byte(millis/100), '0'+byte(millis/10%10), '0'+byte(millis%10))
	return append(dst, second[zone:]...)
}

// logJSON writes the keys in their order; those that do not apply are left out.
func (l *Log) logJSON(r *Record) {
	r.line = l.appendMillis(r.line[:0], r.At)
	e := l.logger.Log().Bytes("time", r.line).Bytes("rq_id", r.ID).Str("client_addr", r.ClientAddr)
	if r.Client != "" {
		e.Str("client", r.Client)
	}
	e.Bytes("method", orDash(r.Method)).Bytes("url", orDash(r.URL)).
		Int("response_code", r.Status).Int64("response_time_ms", r.Took.Milliseconds())
	r.addOutcome(e)
	r.addUpstream(e)
	if len(r.TraceID) > 0 {
		e.Bytes("trace_id", r.TraceID)
	}
	e.Int64("request_bytes", r.RequestBytes).Int64("response_bytes", r.ResponseBytes)
	for i, key := range [metrics.Phases]string{"dns_ms", "connect_ms", "tls_ms", "first_byte_ms"} {
		if r.Phases[i] >= 0 {
			e.Int64(key, r.Phases[i].Milliseconds())
		}
	}
	e.Send()
}

// addOutcome adds why the proxy answered itself, and what else came of the request.
func (r *Record) addOutcome(e *zerolog.Event) {
	if r.Code != reason.None {
		r.line = reason.AppendText(r.line[:0], r.Text)
		e.Int("reason_code", int(r.Code)).Bytes("reason", r.line).Str("source", r.Source.String())
	}
	if r.Code != reason.None || r.Gone {
		e.Str("delivered", r.Delivered.String())
	}
	if r.Code != reason.None && r.Received > 0 {
		e.Int("received_status", r.Received)
	}
	if len(r.Untidy) > 0 {
		e.Strs("untidy", r.Untidy)
	}
	if r.Closed != "" {
		e.Str("closed", r.Closed)
	}
	if r.WouldDeny != reason.None {
		e.Int("would_deny", int(r.WouldDeny))
	}
}

// addUpstream adds what is known of the connection to the destination.
func (r *Record) addUpstream(e *zerolog.Event) {
	if addr := r.lastTried(); addr.IsValid() {
		r.line = addr.AppendTo(r.line[:0])
		e.Bytes("upstream_addr", r.line)
	}
	if r.Upstream.IsValid() {
		e.Bool("conn_reused", r.Reused)
	}
	if r.TLSVersion != "" {
		e.Str("tls_version", r.TLSVersion)
	}
}

// lastTried is the address connected to, or else the one tried last.
func (r *Record) lastTried() netip.AddrPort {
	if r.Upstream.IsValid() {
		return r.Upstream
	}
	return r.Tried
}

func orDash(b []byte) []byte {
	if len(b) == 0 {
		return []byte("-")
	}
	return b
}
