package proxy

import "whsentry/proxy/http1"

// appendRequestHead appends the head that goes to the destination. bodyLen is the length of the body as it will be sent.
func (ex *exchange) appendRequestHead(dst []byte, bodyLen int) []byte {
	to := http1.RequestTarget{Authority: ex.authority, Path: ex.path}
	return http1.AppendRequestHead(dst, &ex.head, to, ex.run.cfg.UserAgent, bodyLen)
}

// appendResponseHead appends the head that goes to the client, with what that has to know of its connection's future.
func (ex *exchange) appendResponseHead(dst []byte, r *http1.Response, framing http1.Framing, length int64) []byte {
	return http1.AppendResponseHead(dst, r, framing, length, ex.connectionOption())
}
