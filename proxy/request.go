package proxy

import (
	"bytes"

	"whsentry/proxy/reason"
)

// requestHead is a request's head as it was scanned: strict, in one pass, nothing copied. RFC 9112 leaves a server
// some freedoms (bare LF, folded lines); none is taken, for each is how two parsers come to see two different
// requests in the same bytes.
type requestHead struct {
	raw            []byte // from the request line to the empty line
	method, target span
	http10         bool
	fields         []field

	host  span
	hosts int
	bodyFraming
	expect  bool // 100-continue
	tls     bool // X-WhSentry-TLS
	alias   span // X-WhSentry-ClientCert
	aliases int
	id      span // the value of requestIDHeader
	connectionOptions

	blank   int // bytes of empty lines before the request line
	line    int // where the first line that is not yet parsed begins
	scanned int // up to where a line's end has been looked for
}

func (h *requestHead) reset() {
	*h = requestHead{fields: h.fields[:0], bodyFraming: bodyFraming{contentLength: -1}}
}

func (h *requestHead) hasRequestLine() bool { return !h.method.empty() }

// scan parses what is there of a head in buf, which grows from call to call. It returns the head's length once its
// empty line is there, and 0 while it is not. idHeader is the lower-cased name of the field that carries an id.
func (h *requestHead) scan(buf []byte, idHeader string) (n int, f *reason.Failure) {
	h.raw = buf
	for {
		end := bytes.IndexByte(buf[h.scanned:], '\n')
		if end < 0 {
			return 0, h.scanPartial(buf)
		}
		end += h.scanned
		if end == h.line || buf[end-1] != '\r' {
			return 0, reason.Malformedf("a line of its head ends with a bare LF")
		}
		start, stop := h.line, end-1
		h.line, h.scanned = end+1, end+1
		switch {
		case !h.hasRequestLine() && start == stop:
			h.blank = h.line // RFC 9112 section 2.2: an empty line before the request line is ignored
		case !h.hasRequestLine():
			f = h.scanRequestLine(start, stop)
		case start == stop:
			h.raw = buf[:h.line]
			return h.line, h.checkFraming()
		default:
			f = h.scanField(start, stop, idHeader)
		}
		if f != nil {
			return 0, f
		}
	}
}

// scanPartial refuses at once what can never become a line, such as a TLS handshake on a plain listener.
func (h *requestHead) scanPartial(buf []byte) *reason.Failure {
	for i := h.scanned; i < len(buf); i++ {
		if byteClass[buf[i]]&valueByte == 0 && (buf[i] != '\r' || i < len(buf)-1) {
			return reason.Malformedf("its head holds the control byte 0x%02x", buf[i])
		}
	}
	h.scanned = len(buf)
	if h.scanned > h.line && buf[h.scanned-1] == '\r' {
		h.scanned--
	}
	return nil
}

// scanRequestLine parses METHOD SP target SP HTTP/1.x (RFC 9112 section 3).
func (h *requestHead) scanRequestLine(start, stop int) *reason.Failure {
	line := h.raw[start:stop]
	first, last := bytes.IndexByte(line, ' '), bytes.LastIndexByte(line, ' ')
	if first < 0 || !isToken(line[:first]) {
		return reason.Malformedf("its first line is not a request line")
	}
	if first == last {
		return reason.Malformedf("its request line has no HTTP version")
	}
	target, version := line[first+1:last], line[last+1:]
	// What is known of a request that is refused is of use to the answer and to the log. But a line that does not even
	// end in a version may be what is left of a body, which is nobody's business.
	if hasPrefixFold(version, "http/") {
		h.method = span{int32(start), int32(start + first)}
	}
	for _, c := range target {
		if c <= ' ' || c == 0x7f {
			return reason.Malformedf("its request line holds white space or a control byte within the target")
		}
	}
	if len(target) == 0 {
		return reason.Malformedf("its request line has no target")
	}
	h.target = span{int32(start + first + 1), int32(start + last)}
	switch string(version) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		h.http10 = true
	default:
		return reason.Malformedf("its HTTP version is neither 1.0 nor 1.1")
	}
	return nil
}

// scanField parses name ":" OWS value OWS (RFC 9112 section 5) and notes what the field means to the proxy.
func (h *requestHead) scanField(start, stop int, idHeader string) *reason.Failure {
	f, reject := parseField(h.raw, start, stop)
	if reject != "" {
		return reason.Malformedf("%s", reject)
	}
	h.fields = append(h.fields, f)
	value := f.value.of(h.raw)
	switch f.kind {
	case kindHost:
		h.hosts++
		h.host = f.value
	case kindContentLength, kindTransferEncoding:
		if reject := h.bodyFraming.scan(f.kind, value); reject != "" {
			return reason.Malformedf("%s", reject)
		}
	case kindConnection:
		h.connectionOptions.scan(value)
	case kindExpect:
		h.expect = h.expect || equalFold(value, "100-continue")
	case kindSentry:
		h.scanSentry(f)
	}
	if idHeader != "" && h.id.empty() && equalFold(f.name.of(h.raw), idHeader) {
		h.id = f.value
	}
	return nil
}

// scanSentry reads the fields that are meant for the proxy.
func (h *requestHead) scanSentry(f field) {
	name, value := f.name.of(h.raw), f.value.of(h.raw)
	switch {
	case equalFold(name, "x-whsentry-tls"):
		h.tls = h.tls || (!equalFold(value, "0") && !equalFold(value, "false"))
	case equalFold(name, "x-whsentry-clientcert"):
		h.aliases++
		h.alias = f.value
	}
}

// checkFraming refuses a head that leaves open where its body ends, or for whom it is.
func (h *requestHead) checkFraming() *reason.Failure {
	if reject := h.bodyFraming.check(h.http10); reject != "" {
		return reason.Malformedf("%s", reject)
	}
	if h.hosts > 1 {
		return reason.Malformedf("it has more than one Host")
	}
	if h.names {
		dropNamed(h.raw, h.fields)
	}
	return nil
}

// keepsAlive reports whether the client wants to send another request on the connection (RFC 9112 section 9.3).
func (h *requestHead) keepsAlive() bool {
	return !h.close && (!h.http10 || h.keepAlive)
}

// parseField parses the line head[start:stop]; reject says what is wrong with it.
func parseField(head []byte, start, stop int) (f field, reject string) {
	line := head[start:stop]
	colon := tokenLen(line)
	if colon == 0 || colon == len(line) || line[colon] != ':' {
		return f, noFieldName(line)
	}
	if !isValue(line[colon+1:]) {
		return f, "a field of its head holds a control byte"
	}
	f.name = span{int32(start), int32(start + colon)}
	f.value = trimSpan(head, start+colon+1, stop)
	f.kind = classify(line[:colon])
	return f, ""
}

// noFieldName says why a line does not begin with a field's name and a colon.
func noFieldName(line []byte) string {
	colon := bytes.IndexByte(line, ':')
	switch {
	case isSpace(line[0]):
		return "a line of its head is folded"
	case colon < 0:
		return "a line of its head has no colon"
	case colon > 0 && isSpace(line[colon-1]):
		return "a field of its head has white space before the colon"
	}
	return "a field of its head has a name that is not a token"
}
