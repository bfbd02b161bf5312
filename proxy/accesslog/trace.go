package accesslog

import "whsentry/proxy/http1"

// The form of a traceparent (W3C Trace Context, section 3.2): version, trace-id, parent-id and flags, in small
// hexadecimal digits, with a hyphen between them.
const (
	traceBegins, traceEnds   = len("00-"), len("00-") + 32
	parentBegins, parentEnds = traceEnds + 1, traceEnds + 1 + 16
	traceparentLength        = parentEnds + len("-00")
)

// TraceID returns the trace-id of a traceparent's value, as a part of it, or nil where that is not well-formed. A version
// that is not known yet may have more behind what the first one has.
func TraceID(traceparent []byte) []byte {
	t := traceparent
	if len(t) < traceparentLength || t[traceBegins-1] != '-' || t[traceEnds] != '-' || t[parentEnds] != '-' ||
		!isHex(t[:traceBegins-1]) || !isHex(t[traceBegins:traceEnds]) || !isHex(t[parentBegins:parentEnds]) || !isHex(t[parentEnds+1:traceparentLength]) {
		return nil
	}
	version, rest := string(t[:traceBegins-1]), t[traceparentLength:]
	if version == "ff" || len(rest) > 0 && (version == "00" || rest[0] != '-') ||
		isZero(t[traceBegins:traceEnds]) || isZero(t[parentBegins:parentEnds]) {
		return nil
	}
	return t[traceBegins:traceEnds]
}

// TraceIDOf returns the trace-id of a request's traceparent, as a part of its head, or nil where it has none, or more than one,
// or one that is not well-formed.
func TraceIDOf(h *http1.Request) []byte {
	var value []byte
	for _, f := range h.Fields() {
		if !http1.EqualFold(f.Name.Of(h.Raw), "traceparent") {
			continue
		}
		if value != nil {
			return nil
		}
		value = f.Value.Of(h.Raw)
	}
	return TraceID(value)
}

func isHex(digits []byte) bool {
	for _, c := range digits {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func isZero(digits []byte) bool {
	for _, c := range digits {
		if c != '0' {
			return false
		}
	}
	return true
}
