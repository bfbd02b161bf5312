package proxy

import (
	"time"

	"whsentry/proxy/http1"
	"whsentry/proxy/reason"
)

// checkAsks refuses a request with an X-WhSentry-… field that asks for nothing, or for what the request cannot have: a
// sender that believes it has asked for TLS must not be served in plain text.
func (ex *exchange) checkAsks() *reason.Failure {
	h := &ex.head
	if err := h.CheckSentryFields(); err != nil {
		return reason.OfMessage(err)
	}
	if _, f := callerTimeout(h); f != nil {
		return f
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

// callerTimeout is how long the sender has left the request, by X-WhSentry-Timeout; 0: it does not say.
func callerTimeout(h *http1.Request) (time.Duration, *reason.Failure) {
	if h.Timeouts == 0 {
		return 0, nil
	}
	value := string(h.Timeout.Of(h.Raw))
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		return 0, reason.Newf(reason.Malformed, "malformed request: its X-WhSentry-Timeout is %q; want a duration above 0 such as 2500ms", value)
	}
	return d, nil
}
