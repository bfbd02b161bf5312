package http1

import "bytes"

// Request is a request's head as it was scanned: strict, in one pass, nothing copied. RFC 9112 leaves a server
// some freedoms (bare LF, folded lines); none is taken, for each is how two parsers come to see two different
// requests in the same bytes.
//
// Method, Target and HTTP10 are what ScanRequestLine found, or what another parser did; the rest is ScanFields'.
type Request struct {
	Method, Target []byte // parts of the request line; nil: not known
	HTTP10         bool   // else HTTP/1.1

	Raw     []byte // the lines of the fields, which the spans are parts of
	fields  []Field
	spilled bool // there are more than are kept

	Host  Span // the value of the last
	Hosts int
	BodyFraming
	Expect bool // 100-continue
	ID     Span // the value of the field that carries an id
	ConnectionOptions
	Credential
	SentryFields
}

// keptFields is how many fields are kept. A field takes the memory of 20 bytes, and a line of a head need be no longer
// than four: of a head that is made of such lines, they are found again when they are asked for.
const keptFields = 256

// Reset makes the request ready for another head. It keeps the memory of the fields.
func (h *Request) Reset() {
	*h = Request{fields: h.fields[:0], BodyFraming: BodyFraming{ContentLength: -1}}
}

// Fields returns the fields in their order; of a head that ScanFields has refused perhaps not all. It is valid until Reset.
func (h *Request) Fields() []Field {
	if !h.spilled {
		return h.fields
	}
	all := make([]Field, 0, bytes.Count(h.Raw, []byte{'\n'}))
	for start := 0; start < len(h.Raw); {
		stop := start + bytes.IndexByte(h.Raw[start:], '\r')
		if stop > start {
			f, _ := parseField(h.Raw, start, stop)
			all = append(all, f)
		}
		start = stop + 2
	}
	if h.names {
		dropNamed(h.Raw, all)
	}
	return all
}

// Scan scans a whole head, from the request line to the empty line, as a Gate lets it pass. Errors are those of
// ScanRequestLine and ScanFields.
func (h *Request) Scan(head []byte, idHeader string) error {
	line, ok := cutLine(head)
	if !ok {
		return errBareLF
	}
	if err := h.ScanRequestLine(line); err != nil {
		return err
	}
	return h.ScanFields(head[len(line)+2:], idHeader)
}

// ScanRequestLine parses METHOD SP target SP HTTP/1.x (RFC 9112 section 3), without its CRLF. An error is an *Error that
// is Malformed; what is known of the request all the same is noted.
func (h *Request) ScanRequestLine(line []byte) error {
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
		h.Method = line[:first]
	}
	for _, c := range target {
		if c <= ' ' || c == 0x7f {
			return requestErrorf(Malformed, "its request line holds white space or a control byte within the target")
		}
	}
	if len(target) == 0 {
		return requestErrorf(Malformed, "its request line has no target")
	}
	h.Target = target
	switch string(version) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		h.HTTP10 = true
	default:
		return requestErrorf(Malformed, "its HTTP version is neither 1.0 nor 1.1")
	}
	return nil
}

// ScanFields makes one pass over the lines of the fields, each with its CRLF, and the empty line behind them; raw may
// be empty where there is no field. idHeader is the lower-cased name of the field that carries an id, "": none. HTTP10
// has to be set before. An error is an *Error that is Malformed.
func (h *Request) ScanFields(raw []byte, idHeader string) error {
	h.Raw = raw
	for start := 0; start < len(raw); {
		end := start + bytes.IndexByte(raw[start:], '\n')
		if end <= start || raw[end-1] != '\r' {
			return errBareLF
		}
		if end-1 == start && end+1 == len(raw) {
			return h.checkFraming()
		}
		if end-1 == start {
			return requestErrorf(Malformed, "its head goes on behind its empty line")
		}
		if err := h.scanField(start, end-1, idHeader); err != nil {
			return err
		}
		start = end + 1
	}
	if len(raw) > 0 {
		return requestErrorf(Malformed, "its head does not end with an empty line")
	}
	return h.checkFraming()
}

// scanField parses name ":" OWS value OWS (RFC 9112 section 5) and notes what the field means to the proxy.
func (h *Request) scanField(start, stop int, idHeader string) error {
	f, reject := parseField(h.Raw, start, stop)
	if reject != "" {
		return requestErrorf(Malformed, "%s", reject)
	}
	if len(h.fields) < keptFields {
		h.fields = append(h.fields, f)
	} else {
		h.spilled = true
	}
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
		h.SentryFields.scan(h.Raw, f)
	case KindHopByHop:
		h.Credential.scan(h.Raw, f)
	}
	if idHeader != "" && h.ID.Empty() && EqualFold(f.Name.Of(h.Raw), idHeader) {
		h.ID = f.Value
	}
	return nil
}

// checkFraming refuses a head that leaves open where its body ends, or for whom it is.
func (h *Request) checkFraming() error {
	if reject := h.BodyFraming.check(h.HTTP10); reject != "" {
		return requestErrorf(Malformed, "%s", reject)
	}
	if h.Hosts > 1 {
		return requestErrorf(Malformed, "it has more than one Host")
	}
	if h.names && !h.spilled {
		dropNamed(h.Raw, h.fields)
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
