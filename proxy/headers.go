package proxy

import (
	"bytes"

	"whsentry/proxy/http1"
)

// appendRequestHead appends the head that goes to the destination: what the client sent, in its order and with its
// letters, but for what SPEC calls for. bodyLen is the length of the body as it will be sent.
func (ex *exchange) appendRequestHead(dst []byte, bodyLen int) []byte {
	h := &ex.head
	dst = append(dst, h.Method...)
	dst = append(dst, ' ')
	dst = ex.appendOriginForm(dst)
	dst = append(dst, " HTTP/1.1\r\n"...)
	if h.Hosts == 0 {
		dst = append(dst, "Host: "...)
		dst = append(dst, ex.authority...)
		dst = append(dst, '\r', '\n')
	}
	agent := ex.run.cfg.UserAgent
	fields := h.Fields()
	for i := range fields {
		f := &fields[i]
		name := f.Name.Of(h.Raw)
		switch f.Kind {
		case http1.KindHost:
			dst = http1.AppendField(dst, name, ex.authority)
		case http1.KindContentLength:
			dst = http1.AppendLength(dst, name, bodyLen)
		case http1.KindTransferEncoding:
			// The body is there in full, so its length is known.
			dst = http1.AppendLength(dst, []byte("Content-Length"), bodyLen)
		case http1.KindUserAgent:
			if agent != "" {
				dst = append(append(append(append(dst, name...), ": "...), agent...), "\r\n"...)
				agent = ""
			} else if ex.run.cfg.UserAgent == "" {
				dst = http1.AppendField(dst, name, f.Value.Of(h.Raw))
			}
		case http1.KindExpect:
			if !http1.EqualFold(f.Value.Of(h.Raw), "100-continue") {
				dst = http1.AppendField(dst, name, f.Value.Of(h.Raw))
			}
		case http1.KindOther:
			dst = http1.AppendField(dst, name, f.Value.Of(h.Raw))
		}
	}
	if agent != "" {
		dst = append(dst, "User-Agent: "...)
		dst = append(append(dst, agent...), "\r\n"...)
	}
	return append(dst, '\r', '\n')
}

// appendOriginForm appends path and query as the client wrote them (RFC 9112 section 3.2.1), or the asterisk form
// of an OPTIONS that is for the whole server (section 3.2.4).
func (ex *exchange) appendOriginForm(dst []byte) []byte {
	switch {
	case len(ex.path) == 0 && bytes.Equal(ex.method(), []byte("OPTIONS")):
		return append(dst, '*')
	case len(ex.path) == 0:
		return append(dst, '/')
	case ex.path[0] == '?':
		dst = append(dst, '/')
	}
	return append(dst, ex.path...)
}

// appendResponseHead appends the head that goes to the client, with what that has to know of its connection's future.
func (ex *exchange) appendResponseHead(dst []byte, r *http1.Response, framing http1.Framing, length int64) []byte {
	connection := ""
	switch {
	case !ex.keep:
		connection = "close"
	case ex.head.HTTP10:
		connection = "keep-alive"
	}
	return http1.AppendResponseHead(dst, r, framing, length, connection)
}
