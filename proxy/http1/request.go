package http1

import "bytes"

// Request is a request's head as it was scanned: strict, in one pass, nothing copied. RFC 9112 leaves a server
// some freedoms (bare LF, folded lines); none is taken, for each is how two parsers come to see two different
// requests in the same bytes.
type Request struct {
	Raw            []byte // from the request line to the empty line
	Method, Target Span
	HTTP10         bool
	Fields         []Field

	Host  Span
	Hosts int
	BodyFraming
	Expect  bool // 100-continue
	TLS     bool // X-WhSentry-TLS
	Alias   Span // X-WhSentry-ClientCert
	Aliases int
	ID      Span // the value of requestIDHeader
	ConnectionOptions

	Blank   int // bytes of empty lines before the request line
	Line    int // where the first line that is not yet parsed begins
	scanned int // up to where a line's end has been looked for
}

func (h *Request) Reset() {
	*h = Request{Fields: h.Fields[:0], BodyFraming: BodyFraming{ContentLength: -1}}
}

func (h *Request) HasRequestLine() bool { return !h.Method.Empty() }

// Scan parses what is there of a head in buf, which grows from call to call. It returns the head's length once its
// Empty line is there, and 0 while it is not. idHeader is the lower-cased name of the field that carries an id.
func (h *Request) Scan(buf []byte, idHeader string) (n int, err error) {
	h.Raw = buf
	for {
		end := bytes.IndexByte(buf[h.scanned:], '\n')
		if end < 0 {
			return 0, h.scanPartial(buf)
		}
		end += h.scanned
		if end == h.Line || buf[end-1] != '\r' {
			return 0, requestErrorf(Malformed, "a line of its head ends with a bare LF")
		}
		start, stop := h.Line, end-1
		h.Line, h.scanned = end+1, end+1
		switch {
		case !h.HasRequestLine() && start == stop:
			h.Blank = h.Line // RFC 9112 section 2.2: an empty line before the request line is ignored
		case !h.HasRequestLine():
			err = h.scanRequestLine(start, stop)
		case start == stop:
			h.Raw = buf[:h.Line]
			return h.Line, h.checkFraming()
		default:
			err = h.scanField(start, stop, idHeader)
		}
		if err != nil {
			return 0, err
		}
	}
}

// scanPartial refuses at once what can never become a line, such as a TLS handshake on a plain listener.
func (h *Request) scanPartial(buf []byte) error {
	for i := h.scanned; i < len(buf); i++ {
		if byteClass[buf[i]]&valueByte == 0 && (buf[i] != '\r' || i < len(buf)-1) {
			return requestErrorf(Malformed, "its head holds the control byte 0x%02x", buf[i])
		}
	}
	h.scanned = len(buf)
	if h.scanned > h.Line && buf[h.scanned-1] == '\r' {
		h.scanned--
	}
	return nil
}

// scanRequestLine parses METHOD SP target SP HTTP/1.x (RFC 9112 section 3).
func (h *Request) scanRequestLine(start, stop int) error {
	line := h.Raw[start:stop]
	first, last := bytes.IndexByte(line, ' '), bytes.LastIndexByte(line, ' ')
	if first < 0 || !IsToken(line[:first]) {
		return requestErrorf(Malformed, "its first line is not a request line")
	}
	if first == last {
		return requestErrorf(Malformed, "its request line has no HTTP version")
	}
	target, version := line[first+1:last], line[last+1:]
	// What is known of a request that is refused is of use to the answer and to the log. But a line that does not even
	// end in a version may be what is left of a body, which is nobody's business.
	if hasPrefixFold(version, "http/") {
		h.Method = Span{int32(start), int32(start + first)}
	}
	for _, c := range target {
		if c <= ' ' || c == 0x7f {
			return requestErrorf(Malformed, "its request line holds white space or a control byte within the target")
		}
	}
	if len(target) == 0 {
		return requestErrorf(Malformed, "its request line has no target")
	}
	h.Target = Span{int32(start + first + 1), int32(start + last)}
	switch string(version) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		h.HTTP10 = true
	default:
		return requestErrorf(Malformed, "its HTTP version is neither 1.0 nor 1.1")
	}
	return nil
}

// scanField parses name ":" OWS value OWS (RFC 9112 section 5) and notes what the field means to the proxy.
func (h *Request) scanField(start, stop int, idHeader string) error {
	f, reject := parseField(h.Raw, start, stop)
	if reject != "" {
		return requestErrorf(Malformed, "%s", reject)
	}
	h.Fields = append(h.Fields, f)
	value := f.Value.Of(h.Raw)
	switch f.Kind {
	case KindHost:
		h.Hosts++
		h.Host = f.Value
	case KindContentLength, KindTransferEncoding:
		if reject := h.BodyFraming.scan(f.Kind, value); reject != "" {
			return requestErrorf(Malformed, "%s", reject)
		}
	case KindConnection:
		h.ConnectionOptions.scan(value)
	case KindExpect:
		h.Expect = h.Expect || EqualFold(value, "100-continue")
	case KindSentry:
		h.scanSentry(f)
	}
	if idHeader != "" && h.ID.Empty() && EqualFold(f.Name.Of(h.Raw), idHeader) {
		h.ID = f.Value
	}
	return nil
}

// scanSentry reads the fields that are meant for the proxy.
func (h *Request) scanSentry(f Field) {
	name, value := f.Name.Of(h.Raw), f.Value.Of(h.Raw)
	switch {
	case EqualFold(name, "x-whsentry-tls"):
		h.TLS = h.TLS || (!EqualFold(value, "0") && !EqualFold(value, "false"))
	case EqualFold(name, "x-whsentry-clientcert"):
		h.Aliases++
		h.Alias = f.Value
	}
}

// checkFraming refuses a head that leaves open where its body ends, or for whom it is.
func (h *Request) checkFraming() error {
	if reject := h.BodyFraming.check(h.HTTP10); reject != "" {
		return requestErrorf(Malformed, "%s", reject)
	}
	if h.Hosts > 1 {
		return requestErrorf(Malformed, "it has more than one Host")
	}
	if h.names {
		dropNamed(h.Raw, h.Fields)
	}
	return nil
}

// KeepsAlive reports whether the client wants to send another request on the connection (RFC 9112 section 9.3).
func (h *Request) KeepsAlive() bool {
	return !h.Close && (!h.HTTP10 || h.KeepAlive)
}

// parseField parses the line head[start:stop]; reject says what is wrong with it.
func parseField(head []byte, start, stop int) (f Field, reject string) {
	line := head[start:stop]
	colon := tokenLen(line)
	if colon == 0 || colon == len(line) || line[colon] != ':' {
		return f, noFieldName(line)
	}
	if !IsValue(line[colon+1:]) {
		return f, "a field of its head holds a control byte"
	}
	f.Name = Span{int32(start), int32(start + colon)}
	f.Value = trimSpan(head, start+colon+1, stop)
	f.Kind = classify(line[:colon])
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
