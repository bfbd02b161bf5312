package reason

import "net/http"

// Code is why the proxy itself answered: the number that clients, logs and metrics show.
type Code int

// The codes. Clients, dashboards and tests depend on the numbers.
const (
	None           Code = 0 // the destination's own answer
	BlockedAddress Code = 1000
	Unresolved     Code = 1001
	Malformed      Code = 1002
	Scheme         Code = 1003
	Timeout        Code = 1004
	Handshake      Code = 1005
	Unreachable    Code = 1006
	Certificate    Code = 1007
	LargeResponse  Code = 1008
	Internal       Code = 1009
	UnknownAlias   Code = 1010
	BadResponse    Code = 1011
	LargeRequest   Code = 1012
	BlockedPort    Code = 1013
	TooMany        Code = 1014
	Connect        Code = 1015
	Unauthorized   Code = 1016
	SlowClient     Code = 1017
	BreakerOpen    Code = 1018
	NotAllowed     Code = 1019
	OverLimit      Code = 1020

	First, Last = BlockedAddress, OverLimit
)

// StatusClientGone is what the log shows of a request whose client went away before it was answered.
const StatusClientGone = 499

// Source says whose a failure is.
type Source uint8

// The sources. SourceNone is that of the destination's own answer.
const (
	SourceNone        Source = iota
	SourceClient             // the request
	SourcePolicy             // the operator's rules
	SourceProxy              // the proxy, its limits, its resolver
	SourceDestination        // the customer's side

	Sources // how many there are
)

// String is the source as answers, logs and metrics show it; "" of SourceNone.
func (s Source) String() string {
	return [Sources]string{"", "client", "policy", "proxy", "destination"}[s]
}

// Delivered says whether the destination has had the request.
type Delivered uint8

// What a sender can know. DeliveredMaybe is some byte of the request and no final status line, after which nobody can know.
const (
	DeliveredNo Delivered = iota
	DeliveredMaybe
	DeliveredYes
)

// String is no, maybe or yes.
func (d Delivered) String() string { return [...]string{"no", "maybe", "yes"}[d] }

// Retry says whether sending the request again makes sense.
type Retry uint8

// When to send again. RetryLater is with the sender's own back-off.
const (
	RetryNo Retry = iota
	RetryLater
	RetryNow
)

// String is no, later or now.
func (r Retry) String() string { return [...]string{"no", "later", "now"}[r] }

// retryOf is what an answer of the destination's with that final status calls for. What was answered with a 2xx must
// never be sent again.
func retryOf(received int) Retry {
	switch received {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return RetryLater
	}
	if received >= 500 {
		return RetryLater
	}
	return RetryNo
}

// Limit is the key of the configuration whose limit was reached; "": none was. Those of an entry of clients or
// destinations have its list's name before them.
type Limit string

// The limits that end requests.
const (
	LimitConnectTimeout                  Limit = "connectTimeout"
	LimitReadTimeout                     Limit = "readTimeout"
	LimitConnectionLifetime              Limit = "connectionLifetime"
	LimitMaxResponseBodySize             Limit = "maxResponseBodySize"
	LimitMaxRequestBodySize              Limit = "maxRequestBodySize"
	LimitMaxHeaderSize                   Limit = "maxHeaderSize"
	LimitMaxBufferedBytes                Limit = "maxBufferedBytes"
	LimitMaxConnections                  Limit = "maxConnections"
	LimitMaxConnectionsPerDestination    Limit = "maxConnectionsPerDestination"
	LimitClientTimeout                   Limit = "clientTimeout"
	LimitClientsMaxConnections           Limit = "clients.maxConnections"
	LimitClientsRequestsPerSecond        Limit = "clients.requestsPerSecond"
	LimitDestinationsMaxConnections      Limit = "destinations.maxConnections"
	LimitDestinationsConnectTimeout      Limit = "destinations.connectTimeout"
	LimitDestinationsReadTimeout         Limit = "destinations.readTimeout"
	LimitDestinationsLifetime            Limit = "destinations.connectionLifetime"
	LimitDestinationsMaxResponseBodySize Limit = "destinations.maxResponseBodySize"
)

// Limits are all of them.
var Limits = []Limit{
	LimitConnectTimeout, LimitReadTimeout, LimitConnectionLifetime, LimitMaxResponseBodySize, LimitMaxRequestBodySize,
	LimitMaxHeaderSize, LimitMaxBufferedBytes, LimitMaxConnections, LimitMaxConnectionsPerDestination, LimitClientTimeout,
	LimitClientsMaxConnections, LimitClientsRequestsPerSecond, LimitDestinationsMaxConnections,
	LimitDestinationsConnectTimeout, LimitDestinationsReadTimeout, LimitDestinationsLifetime, LimitDestinationsMaxResponseBodySize,
}
