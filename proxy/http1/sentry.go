package http1

// SentryFields are the X-WhSentry-… fields of a request: what it asks of the proxy, and no destination is told.
type SentryFields struct {
	TLS     bool // an X-WhSentry-TLS asks for TLS: by any value but 0, false, no and off, in any case
	Alias   Span // the value of the last X-WhSentry-ClientCert
	Timeout Span // the value of the last X-WhSentry-Timeout
	// TLSFields, Aliases and Timeouts are how many fields there are of each.
	TLSFields, Aliases, Timeouts int
	// Stray is the name of the first field that is none of these, or one of these once more; empty: none is.
	Stray Span
}

// scan notes one such field of head.
func (s *SentryFields) scan(head []byte, f Field) {
	var times *int
	switch name := f.Name.Of(head)[len("x-whsentry-"):]; {
	case EqualFold(name, "tls"):
		times = &s.TLSFields
		s.TLS = s.TLS || !meansPlain(f.Value.Of(head))
	case EqualFold(name, "clientcert"):
		times = &s.Aliases
		s.Alias = f.Value
	case EqualFold(name, "timeout"):
		times = &s.Timeouts
		s.Timeout = f.Value
	default:
		s.stray(f)
		return
	}
	if *times++; *times > 1 {
		s.stray(f)
	}
}

func (s *SentryFields) stray(f Field) {
	if s.Stray.Empty() {
		s.Stray = f.Name
	}
}

// meansPlain reports whether a value of X-WhSentry-TLS asks for no TLS.
func meansPlain(value []byte) bool {
	return EqualFold(value, "0") || EqualFold(value, "false") || EqualFold(value, "no") || EqualFold(value, "off")
}

// CheckSentryFields refuses a request with an X-WhSentry-… field that does not exist, or with one twice: a misspelt one
// must not mean plain text. An error is an *Error that is BadTarget.
func (h *Request) CheckSentryFields() error {
	stray := h.Stray.Of(h.Raw)
	if len(stray) == 0 {
		return nil
	}
	for _, known := range []string{"x-whsentry-tls", "x-whsentry-clientcert", "x-whsentry-timeout"} {
		if EqualFold(stray, known) {
			return requestErrorf(BadTarget, "it has more than one %s", stray)
		}
	}
	return requestErrorf(BadTarget, "it has the field %s, which does not exist", stray)
}
