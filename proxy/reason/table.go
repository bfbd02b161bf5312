package reason

import "net/http"

// Variant is a status with which a code is answered, and whose the failure then is.
type Variant struct {
	Status int
	Source Source
}

// row is what goes with a code.
type row struct {
	variants  []Variant // the first is the one that a failure has unless its maker says another
	errors    []string  // of RFC 9209 section 2.3, likewise
	delivered string    // as documentation has it; what happened is told by whoever made it happen
	retry     Retry     // unless Delivered is yes
	again     string    // the same, as documentation has it
	limit     Limit     // whose it usually is
	wait      int       // seconds of Retry-After; 0: the answer has none
	when      string    // as documentation has it
	summary   string    // the same in short
	generic   string    // what a customer may be shown: it names no address
}

const (
	byPhase  = "by the phase"
	byStatus = "by the status"
)

// table is the one place that says what goes with each code, from First on.
var table = [Last - First + 1]row{
	{ // 1000
		variants: []Variant{{http.StatusForbidden, SourcePolicy}}, errors: []string{"destination_ip_prohibited"},
		delivered: "no", again: "no",
		when: "the address is refused", summary: "address refused", generic: "the address is blocked",
	},
	{ // 1001
		variants: []Variant{{http.StatusBadGateway, SourceDestination}, {http.StatusBadGateway, SourceProxy}},
		errors:   []string{"dns_error", "dns_timeout"}, delivered: "no", retry: RetryLater, again: "later",
		when: "the name does not resolve, or no resolver answers", summary: "name does not resolve", generic: "the name does not resolve",
	},
	{ // 1002
		variants: []Variant{{http.StatusBadRequest, SourceClient}}, errors: []string{"http_request_error"},
		delivered: "no", again: "no",
		when: "the request or its URL is malformed", summary: "malformed request", generic: "malformed request",
	},
	{ // 1003
		variants: []Variant{{http.StatusBadRequest, SourceClient}}, errors: []string{"http_request_error"},
		delivered: "no", again: "no",
		when: "the URL's scheme is neither http nor https", summary: "scheme neither http nor https", generic: "the URL's scheme is neither http nor https",
	},
	{ // 1004
		variants: []Variant{{http.StatusBadGateway, SourceDestination}, {http.StatusBadGateway, SourceClient}},
		errors:   []string{"connection_timeout", "connection_read_timeout", "http_response_timeout"}, delivered: byPhase, retry: RetryLater, again: "later",
		when: "timed out; the text says in what", summary: "timed out", generic: "timed out",
	},
	{ // 1005
		variants: []Variant{{http.StatusBadGateway, SourceDestination}}, errors: []string{"tls_protocol_error", "tls_alert_received"},
		delivered: "no; maybe after the request", retry: RetryLater, again: "later",
		when: "the TLS handshake failed, or a renegotiation", summary: "TLS handshake failed", generic: "the TLS handshake failed",
	},
	{ // 1006
		variants: []Variant{{http.StatusBadGateway, SourceDestination}, {http.StatusBadGateway, SourceProxy}},
		errors:   []string{"connection_refused", "destination_ip_unroutable"}, delivered: "no", retry: RetryLater, again: "later",
		when: "no TCP connection", summary: "no TCP connection", generic: "the connection could not be established",
	},
	{ // 1007
		variants: []Variant{{http.StatusBadGateway, SourceDestination}}, errors: []string{"tls_certificate_error"},
		delivered: "no", retry: RetryLater, again: "later",
		when: "the certificate is not valid; the text says why", summary: "certificate not valid", generic: "the destination's certificate is not valid",
	},
	{ // 1008
		variants: []Variant{{http.StatusBadGateway, SourceDestination}}, errors: []string{"http_response_body_size"},
		delivered: "yes", retry: RetryLater, again: byStatus, limit: LimitMaxResponseBodySize,
		when: "the response is too large", summary: "response too large", generic: "the response is too large",
	},
	{ // 1009
		variants: []Variant{{http.StatusInternalServerError, SourceProxy}}, errors: []string{"proxy_internal_error"},
		delivered: byPhase, retry: RetryLater, again: "later",
		when: "internal error", summary: "internal error", generic: "internal error",
	},
	{ // 1010
		variants: []Variant{{http.StatusBadRequest, SourceClient}, {http.StatusForbidden, SourcePolicy}}, errors: []string{"http_request_denied"},
		delivered: "no", again: "no",
		when: "no client certificate has that alias (403: it is not for this host)", summary: "unknown client certificate", generic: "there is no such client certificate",
	},
	{ // 1011
		variants:  []Variant{{http.StatusBadGateway, SourceDestination}},
		errors:    []string{"http_protocol_error", "http_response_incomplete", "connection_terminated", "http_response_header_section_size"},
		delivered: "maybe, or yes", retry: RetryLater, again: "later; by the status",
		when: "the response is malformed, or the connection was closed before there was one", summary: "malformed response", generic: "the destination's response is malformed or incomplete",
	},
	{ // 1012
		variants: []Variant{{http.StatusRequestEntityTooLarge, SourceClient}, {http.StatusRequestHeaderFieldsTooLarge, SourceClient}}, errors: []string{"http_request_error"},
		delivered: "no", again: "no", limit: LimitMaxRequestBodySize,
		when: "the request is too large (431: its head)", summary: "request too large", generic: "the request is too large",
	},
	{ // 1013
		variants: []Variant{{http.StatusForbidden, SourcePolicy}}, errors: []string{"http_request_denied"},
		delivered: "no", again: "no",
		when: "the port is refused", summary: "port refused", generic: "the port is blocked",
	},
	{ // 1014
		variants: []Variant{{http.StatusServiceUnavailable, SourceProxy}}, errors: []string{"connection_limit_reached"},
		delivered: "no", retry: RetryLater, again: "later", wait: 1,
		when:    "too many connections to this destination or to the proxy, or too much memory for bodies; the text says which",
		summary: "too many connections", generic: "too many connections",
	},
	{ // 1015
		variants: []Variant{{http.StatusMethodNotAllowed, SourcePolicy}, {http.StatusForbidden, SourcePolicy}}, errors: []string{"http_request_denied"},
		delivered: "no", again: "no",
		when: "CONNECT is not allowed (403: not to this port)", summary: "CONNECT not allowed", generic: "CONNECT is not allowed",
	},
	{ // 1016
		variants: []Variant{{http.StatusProxyAuthRequired, SourceClient}, {http.StatusUnauthorized, SourceClient}, {http.StatusForbidden, SourceClient}},
		errors:   []string{"http_request_denied"}, delivered: "no", again: "no",
		when:    "the client is not known, or its token is wrong (401: for `/check`; 403: where no client has tokens)",
		summary: "client not known", generic: "the client is not known",
	},
	{ // 1017
		variants: []Variant{{http.StatusRequestTimeout, SourceClient}}, errors: []string{"http_request_error"},
		delivered: "no", retry: RetryNow, again: "now", limit: LimitClientTimeout,
		when: "the client was too slow with its request", summary: "client too slow", generic: "the client was too slow",
	},
	{ // 1018
		variants: []Variant{{http.StatusServiceUnavailable, SourceDestination}}, errors: []string{"destination_unavailable"},
		delivered: "no", retry: RetryLater, again: "later", wait: 1,
		when: "the breaker of this destination is open", summary: "breaker open", generic: "the destination could not be reached and is not tried for now",
	},
	{ // 1019
		variants: []Variant{{http.StatusForbidden, SourcePolicy}}, errors: []string{"http_request_denied"},
		delivered: "no", again: "no",
		when: "this client may not send to this host or port", summary: "host or port not allowed", generic: "the client may not send to this destination",
	},
	{ // 1020
		variants: []Variant{{http.StatusTooManyRequests, SourceClient}}, errors: []string{"http_request_denied"},
		delivered: "no", retry: RetryLater, again: "later", wait: 1,
		when: "this client is over its own limit", summary: "client over its limit", generic: "the client is over its limit",
	},
}

func (c Code) row() *row { return &table[c-First] }

// Variants are the statuses with which the code is answered, with whose the failure then is. There is at least one; None
// has none.
func (c Code) Variants() []Variant {
	if c == None {
		return nil
	}
	return c.row().variants
}

// Summary says in short what the code means; "" of None.
func (c Code) Summary() string {
	if c == None {
		return ""
	}
	return c.row().summary
}

// Generic is what a customer may be shown: it names no address, host or port; "" of None.
func (c Code) Generic() string {
	if c == None {
		return ""
	}
	return c.row().generic
}
