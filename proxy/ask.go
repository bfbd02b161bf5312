package proxy

import (
	"whsentry/proxy/reason"
)

// checkAsks refuses a request with an X-WhSentry-… field that asks for nothing, or for what the request cannot have: a
// sender that believes it has asked for TLS must not be served in plain text.
func (ex *exchange) checkAsks() *reason.Failure {
	h := &ex.head
	if err := h.CheckSentryFields(); err != nil {
		return reason.OfMessage(err)
	}
	opaque := ex.connect && ex.run.cfg.ConnectMode != ConnectMITM
	switch {
	case opaque && h.TLS:
		return misplaced("X-WhSentry-TLS on a CONNECT that is not intercepted")
	case opaque && h.Aliases > 0:
		return misplaced("X-WhSentry-ClientCert on a CONNECT that is not intercepted")
	case !ex.connect && !ex.tls && h.Aliases > 0 && ex.run.cfg.ClientCertHeader:
		return misplaced("X-WhSentry-ClientCert without TLS")
	}
	return nil
}

func misplaced(what string) *reason.Failure {
	return reason.Newf(reason.Malformed, "malformed request: it has %s", what)
}
