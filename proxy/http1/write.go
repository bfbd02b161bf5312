package http1

import "strconv"

// Framing says how the client finds the end of the body that it is sent.
type Framing uint8

const (
	NoBody   Framing = iota // there is no body
	ByLength                // Content-Length
	ByChunks                // Transfer-Encoding: chunked
	ByClose                 // the end of the connection; for HTTP/1.0 only
)

// RequestTarget is where a request goes, as the head that is sent there says it.
type RequestTarget struct {
	Authority []byte // of Host
	Path      []byte // and query, as the client wrote them; empty: it wrote none
}

// AppendRequestHead appends the head that goes to the destination: what the client sent, in its order and with its
// letters, but without what belongs to the hop between client and proxy. agent is what takes the place of User-Agent;
// "": the client's own stays. bodyLen is the length of the body, which is there in full, whatever its framing was.
func AppendRequestHead(dst []byte, h *Request, to RequestTarget, agent string, bodyLen int) []byte {
	dst = append(append(dst, h.Method...), ' ')
	dst = AppendOriginForm(dst, h.Method, to.Path)
	dst = append(dst, " HTTP/1.1\r\n"...)
	if h.Hosts == 0 {
		dst = AppendField(dst, []byte("Host"), to.Authority)
	}
	added := agent == ""
	fields := h.Fields()
	for i := range fields {
		f := &fields[i]
		name := f.Name.Of(h.Raw)
		switch f.Kind {
		case KindHost:
			dst = AppendField(dst, name, to.Authority)
		case KindContentLength:
			dst = AppendLength(dst, name, bodyLen)
		case KindTransferEncoding:
			dst = AppendLength(dst, []byte("Content-Length"), bodyLen)
		case KindUserAgent:
			if agent == "" {
				dst = AppendField(dst, name, f.Value.Of(h.Raw))
			} else if !added {
				dst = append(append(append(append(dst, name...), ": "...), agent...), "\r\n"...)
				added = true
			}
		case KindExpect:
			if !EqualFold(f.Value.Of(h.Raw), "100-continue") {
				dst = AppendField(dst, name, f.Value.Of(h.Raw))
			}
		case KindOther:
			dst = AppendField(dst, name, f.Value.Of(h.Raw))
		}
	}
	if !added {
		dst = append(append(append(dst, "User-Agent: "...), agent...), "\r\n"...)
	}
	return append(dst, '\r', '\n')
}

// AppendOriginForm appends path and query as the client wrote them (RFC 9112 section 3.2.1), or the asterisk form
// of an OPTIONS that is for the whole server (section 3.2.4).
func AppendOriginForm(dst, method, path []byte) []byte {
	switch {
	case len(path) == 0 && string(method) == "OPTIONS":
		return append(dst, '*')
	case len(path) == 0:
		return append(dst, '/')
	case path[0] == '?':
		dst = append(dst, '/')
	}
	return append(dst, path...)
}

// AppendResponseHead appends the head that goes to the client: the destination's, in its order and with its
// letters, but without what belongs to the hop between proxy and destination. framing says how the body follows;
// length is its length where that is ByLength. connection is the final answer's Connection; "": none.
func AppendResponseHead(dst []byte, r *Response, framing Framing, length int64, connection string) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, r.Reason.Of(r.Raw)...)
	dst = append(dst, '\r', '\n')
	wrote := false
	for i := range r.Fields {
		f := &r.Fields[i]
		name := f.Name.Of(r.Raw)
		switch f.Kind {
		case KindHopByHop, KindConnection, KindSentry, KindTransferEncoding:
		case KindContentLength:
			if framing == ByLength && !wrote {
				dst = append(append(dst, name...), ": "...)
				dst = strconv.AppendInt(dst, length, 10)
				dst = append(dst, '\r', '\n')
				wrote = true
			}
		default:
			dst = AppendField(dst, name, f.Value.Of(r.Raw))
		}
	}
	if framing == ByLength && !wrote {
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, length, 10)
		dst = append(dst, '\r', '\n')
	}
	if framing == ByChunks {
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	if r.Status >= 200 && connection != "" {
		dst = append(append(append(dst, "Connection: "...), connection...), '\r', '\n')
	}
	return append(dst, '\r', '\n')
}

// AppendField appends a field, which has no space behind the colon where its value is empty, and its CRLF.
func AppendField(dst, name, value []byte) []byte {
	dst = append(append(dst, name...), ':')
	if len(value) > 0 {
		dst = append(append(dst, ' '), value...)
	}
	return append(dst, '\r', '\n')
}

// AppendLength appends a Content-Length with that name, in whatever letters, and its CRLF.
func AppendLength(dst, name []byte, n int) []byte {
	dst = append(append(dst, name...), ": "...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, '\r', '\n')
}
