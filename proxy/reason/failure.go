package reason

import (
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"whsentry/guard"
)

// Failure is the end of an exchange that the destination did not answer, or not to the end.
type Failure struct {
	Code   Code
	Status int
	Source Source
	Text   string // one line, whose outside parts may hold anything: it is escaped where it is written
	// Fatal says that the client's connection cannot go on: where its next request begins is not known.
	Fatal bool

	// What has become of the request; Happened sets both.
	Delivered Delivered
	Received  int // the final status that the destination's status line had; 0: none was read

	Limit      Limit          // that was reached; "": none was
	Rule       guard.Rule     // that refused an address
	Tried      netip.AddrPort // the address that could not be connected to; not valid: none was tried
	RetryAfter int            // in seconds; 0: what the code says
	Allow      string         // the methods that there are, for a 405; "": the answer names none

	error string // of RFC 9209 section 2.3; "": the client went away
}

func (f *Failure) Error() string { return f.Text }

// Newf makes a failure with what usually goes with its code.
func Newf(c Code, format string, args ...any) *Failure {
	r := c.row()
	return &Failure{
		Code: c, Status: r.variants[0].Status, Source: r.variants[0].Source, Limit: r.limit, error: r.errors[0],
		Text: fmt.Sprintf(format, args...),
	}
}

// With gives the failure another status and source than its code usually has.
func (f *Failure) With(status int, source Source) *Failure {
	f.Status, f.Source = status, source
	return f
}

// Over says which limit was reached; for a timeout that is also in what.
func (f *Failure) Over(limit Limit) *Failure {
	f.Limit = limit
	switch limit {
	case LimitReadTimeout, LimitDestinationsReadTimeout:
		f.error = "connection_read_timeout"
	case LimitConnectionLifetime, LimitDestinationsLifetime:
		f.error = "http_response_timeout"
	}
	return f
}

// Happened says what has become of the request: whether a byte of it was written to the destination, and which final
// status line came; 0: none.
func (f *Failure) Happened(written bool, received int) {
	f.Received = received
	switch {
	case received > 0:
		f.Delivered = DeliveredYes
	case written:
		f.Delivered = DeliveredMaybe
	default:
		f.Delivered = DeliveredNo
	}
}

// Retry says whether sending the request again makes sense. Once the destination has answered, its status decides.
func (f *Failure) Retry() Retry {
	if f.Delivered == DeliveredYes {
		return retryOf(f.Received)
	}
	if f.Code == None {
		return RetryNo
	}
	return f.Code.row().retry
}

// Unreached reports whether the destination is to blame that it was not reached: what a breaker counts.
func (f *Failure) Unreached() bool {
	switch f.Code {
	case Unresolved, Timeout, Handshake, Unreachable, Certificate:
		return f.Source == SourceDestination && f.Delivered == DeliveredNo
	}
	return false
}

// Malformedf is a request that breaks HTTP's framing: after it the connection is closed.
func Malformedf(format string, args ...any) *Failure {
	f := Newf(Malformed, "malformed request: "+format, args...)
	f.Fatal = true
	return f
}

// LargeHeadf is a request head, or a trailer section, over the limit: 431 where a body's would be 413.
func LargeHeadf(format string, args ...any) *Failure {
	f := Newf(LargeRequest, format, args...).Over(LimitMaxHeaderSize)
	f.Status, f.Fatal = http.StatusRequestHeaderFieldsTooLarge, true
	return f
}

// BadResponsef is an answer of the destination that cannot be passed on.
func BadResponsef(format string, args ...any) *Failure {
	return Newf(BadResponse, "malformed response: "+format, args...)
}

// LargeResponseHeadf is an answer whose head is over the limit.
func LargeResponseHeadf(format string, args ...any) *Failure {
	f := Newf(BadResponse, format, args...)
	f.error = "http_response_header_section_size"
	return f
}

// Terminatedf is a connection that ended before there was an answer.
func Terminatedf(format string, args ...any) *Failure {
	f := BadResponsef(format, args...)
	f.error = "connection_terminated"
	return f
}

// Incompletef is a connection that ended within the answer.
func Incompletef(format string, args ...any) *Failure {
	f := BadResponsef(format, args...)
	f.error = "http_response_incomplete"
	return f
}

// CallerDeadline is the end of the time that the caller gave for its request, which is nobody's fault but its own.
func CallerDeadline(after time.Duration) *Failure {
	f := Newf(Timeout, "timed out: the caller's deadline of %s has passed", after)
	f.Source, f.error = SourceClient, "http_response_timeout"
	return f
}

// Stopping is a request that the stopping proxy waits for no longer.
func Stopping() *Failure {
	f := Newf(Timeout, "timed out: the proxy is stopping")
	f.Source, f.error = SourceProxy, "http_response_timeout"
	return f
}

// ClientGone is the end of an exchange whose client went away. Its code is None.
func ClientGone() *Failure {
	return &Failure{Status: StatusClientGone, Text: "the client went away", Fatal: true}
}
