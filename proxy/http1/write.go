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
			if framing == ByLength {
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

func AppendField(dst, name, value []byte) []byte {
	dst = append(append(dst, name...), ':')
	if len(value) > 0 {
		dst = append(append(dst, ' '), value...)
	}
	return append(dst, '\r', '\n')
}

func AppendLength(dst, name []byte, n int) []byte {
	dst = append(append(dst, name...), ": "...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, '\r', '\n')
}
