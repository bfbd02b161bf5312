package proxy

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"
	"whsentry/proxy/upstream"

	"github.com/rs/zerolog"
)

// accessLog writes one line an exchange.
type accessLog struct {
	writer *logWriter
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

func newAccessLog(cfg AccessLogConfig, report func(error), again func(lost int)) (*accessLog, error) {
	w, err := openLog(cfg.File, report, again)
	if err != nil {
		return nil, err
	}
	return &accessLog{writer: w, json: cfg.Type == LogJSON, logger: zerolog.New(w)}, nil
}

// log writes the line of an exchange that has ended at that time.
func (l *accessLog) log(ex *exchange, at time.Time, took time.Duration) {
	if l.json {
		l.logJSON(ex, at, took)
		return
	}
	ex.line = l.appendText(ex.line[:0], ex, at, took)
	l.writer.Write(ex.line)
}

// appendText appends [time] rq_id client_addr METHOD url status 12ms.
func (l *accessLog) appendText(dst []byte, ex *exchange, at time.Time, took time.Duration) []byte {
	dst = append(dst, '[')
	dst = append(dst, l.formatSecond(at)...)
	dst = append(dst, "] "...)
	dst = appendEscaped(dst, ex.requestID())
	dst = append(dst, ' ')
	dst = append(dst, ex.client.addr...)
	dst = append(dst, ' ')
	dst = appendEscaped(dst, orDash(ex.method()))
	dst = append(dst, ' ')
	ex.url = ex.appendURL(ex.url[:0], ex.run.cfg.AccessLog.URL)
	dst = appendEscaped(dst, orDash(ex.url))
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(ex.status), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, took.Milliseconds(), 10)
	return append(dst, "ms\n"...)
}

func (l *accessLog) formatSecond(at time.Time) []byte {
	if s := l.second.Load(); s != nil && s.unix == at.Unix() && s.zone == at.Location() {
		return s.text
	}
	s := &formattedSecond{unix: at.Unix(), zone: at.Location(), text: at.AppendFormat(nil, time.RFC3339)}
	l.second.Store(s)
	return s.text
}

// appendMillis appends at in RFC 3339's form with milliseconds, which go before the zone.
func (l *accessLog) appendMillis(dst []byte, at time.Time) []byte {
	const zone = len("2006-01-02T15:04:05")
	second, millis := l.formatSecond(at), at.Nanosecond()/int(time.Millisecond)
	dst = append(append(dst, second[:zone]...), '.', '0'+byte(millis/100), '0'+byte(millis/10%10), '0'+byte(millis%10))
	return append(dst, second[zone:]...)
}

func (l *accessLog) logJSON(ex *exchange, at time.Time, took time.Duration) {
	ex.line = l.appendMillis(ex.line[:0], at)
	ex.url = ex.appendURL(ex.url[:0], ex.run.cfg.AccessLog.URL)
	e := l.logger.Log().Bytes("time", ex.line).Bytes("rq_id", ex.requestID()).Str("client_addr", ex.client.addr).
		Bytes("method", orDash(ex.method())).Bytes("url", orDash(ex.url)).
		Int("response_code", ex.status).Int64("response_time_ms", took.Milliseconds())
	if ex.reason != reasonNone {
		e.Int("reason_code", int(ex.reason)).Bytes("reason", appendReasonText(nil, ex.reasonText))
	}
	if ex.remote.IsValid() {
		ex.line = ex.remote.AppendTo(ex.line[:0])
		e.Bytes("upstream_addr", ex.line).Bool("conn_reused", ex.reused)
	}
	if ex.tlsVersion != "" {
		e.Str("tls_version", ex.tlsVersion)
	}
	if ex.closed != upstream.CloseNone {
		e.Str("closed", ex.closed.String())
	}
	e.Int64("request_bytes", ex.requestBytes).Int64("response_bytes", ex.responseBytes)
	for i, key := range [phases]string{"dns_ms", "connect_ms", "tls_ms", "first_byte_ms"} {
		if ex.phases[i] >= 0 {
			e.Int64(key, ex.phases[i].Milliseconds())
		}
	}
	e.Send()
}

// appendURL appends as much of the request's URL as mode, a value of accessLog.url, lets through. User information is a
// password, so it is left out of what was refused for having it.
func (ex *exchange) appendURL(dst []byte, mode string) []byte {
	authority, path, https := ex.authority, ex.path, ex.tls
	if authority == nil {
		raw := ex.head.target.of(ex.head.raw)
		t, f := parseTarget(raw)
		if f != nil {
			return appendRawTarget(dst, raw, mode)
		}
		authority, path, https = t.authority.raw, t.path, t.https
	}
	if ex.connect {
		return append(dst, authority...)
	}
	dst = append(dst, "http"...)
	if https {
		dst = append(dst, 's')
	}
	dst = append(append(dst, "://"...), authority...)
	return append(dst, visiblePath(path, mode)...)
}

// appendRawTarget appends a target that could not be taken apart, without what is, or was meant to be, user
// information: a password may hold a slash or a question mark that was not escaped.
func appendRawTarget(dst, target []byte, mode string) []byte {
	rest, scheme := target, schemeEnd(target)+1
	absolute := bytes.HasPrefix(target[scheme:], []byte("//"))
	if mode == URLHost {
		return appendRawHost(dst, target, scheme, absolute && scheme > 0)
	}
	if absolute {
		dst, rest = append(dst, target[:scheme+2]...), target[scheme+2:]
	} else if bytes.HasPrefix(target, []byte("/")) {
		return append(dst, visiblePath(target, mode)...)
	}
	end := bytes.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	_, reject := parseAuthority(rest[:end])
	at := bytes.LastIndexByte(rest[:end], '@')
	if at < 0 && (!absolute || reject != "") {
		at = bytes.LastIndexByte(rest, '@')
	}
	return append(dst, visiblePath(rest[at+1:], mode)...)
}

// appendRawHost appends scheme and host of a target that was refused for something else, where it has them.
func appendRawHost(dst, target []byte, scheme int, absolute bool) []byte {
	if !absolute {
		return dst
	}
	host := target[scheme+2:]
	if end := bytes.IndexAny(host, "/?#"); end >= 0 {
		host = host[:end]
	}
	host = host[bytes.LastIndexByte(host, '@')+1:]
	if _, reject := parseAuthority(host); reject != "" {
		return dst
	}
	return append(append(dst, target[:scheme+2]...), host...)
}

// visiblePath cuts off what mode keeps out of the log.
func visiblePath(path []byte, mode string) []byte {
	switch mode {
	case URLHost:
		return nil
	case URLPath:
		if i := bytes.IndexAny(path, "?#"); i >= 0 {
			return path[:i]
		}
	}
	return path
}

func orDash(b []byte) []byte {
	if len(b) == 0 {
		return []byte("-")
	}
	return b
}

// appendEscaped appends b so that it is one word of a line: what is not in ! to ~, and the backslash, as \xNN.
func appendEscaped(dst, b []byte) []byte {
	written := 0
	for i, c := range b {
		if byteClass[c]&wordByte == 0 {
			dst = appendHexByte(append(dst, b[written:i]...), c)
			written = i + 1
		}
	}
	return append(dst, b[written:]...)
}

// requestID returns the id that the client gave, or a random one (a version 4 UUID, RFC 9562). It is no secret, so
// that a fast generator is good enough.
func (ex *exchange) requestID() []byte {
	if id := ex.head.id.of(ex.head.raw); len(id) > 0 {
		return id
	}
	var u [16]byte
	binary.LittleEndian.PutUint64(u[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(u[8:], rand.Uint64())
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	b := ex.id[:36]
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
