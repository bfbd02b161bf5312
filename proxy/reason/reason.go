// Package reason is why the proxy itself answers: the table of codes, what goes with each, and how an answer is
// written. Errors of the guard, of certificates and of the network become a Failure here and nowhere else.
package reason

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/proxy/http1"
)

// Code is why the proxy itself answered: the number that clients, logs and metrics show.
type Code int

// The codes, as the contract has them: clients, dashboards and tests depend on the numbers.
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
	Unauthorized   Code = 1016 // reserved
	SlowClient     Code = 1017

	First, Last = BlockedAddress, SlowClient
)

// StatusClientGone is what the log shows of a request whose client went away before it was answered.
const StatusClientGone = 499

// statusOf is the status that goes with each reason, from First on.
var statusOf = [Last - First + 1]int{
	http.StatusForbidden,             // 1000
	http.StatusBadGateway,            // 1001
	http.StatusBadRequest,            // 1002
	http.StatusBadRequest,            // 1003
	http.StatusBadGateway,            // 1004
	http.StatusBadGateway,            // 1005
	http.StatusBadGateway,            // 1006
	http.StatusBadGateway,            // 1007
	http.StatusBadGateway,            // 1008
	http.StatusInternalServerError,   // 1009
	http.StatusBadRequest,            // 1010
	http.StatusBadGateway,            // 1011
	http.StatusRequestEntityTooLarge, // 1012
	http.StatusForbidden,             // 1013
	http.StatusServiceUnavailable,    // 1014
	http.StatusMethodNotAllowed,      // 1015
	http.StatusProxyAuthRequired,     // 1016
	http.StatusRequestTimeout,        // 1017
}

// Summary says in short what the reason is; "" of None.
func (c Code) Summary() string {
	if c < First || c > Last {
		return ""
	}
	return summaries[c-First]
}

// summaries says in short what each reason is, from First on.
var summaries = [Last - First + 1]string{
	"address refused", "name does not resolve", "malformed request", "scheme neither http nor https", "timed out",
	"TLS handshake failed", "no TCP connection", "certificate not valid", "response too large", "internal error",
	"unknown client certificate", "malformed response", "request too large", "port refused", "too many connections",
	"CONNECT not allowed", "client not authenticated", "client too slow",
}

// Failure is the end of an exchange that the destination did not answer, or not to the end.
type Failure struct {
	Code   Code
	Status int
	Text   string // one line, whose outside parts may hold anything: it is escaped where it is written
	// Fatal says that the client's connection cannot go on: where its next request begins is not known.
	Fatal bool
	Rule  guard.Rule // that refused an address
}

func (f *Failure) Error() string { return f.Text }

// Newf makes a failure with the status that belongs to its reason.
func Newf(r Code, format string, args ...any) *Failure {
	return &Failure{Code: r, Status: statusOf[r-First], Text: fmt.Sprintf(format, args...)}
}

// Malformedf is a request that breaks HTTP's framing: after it the connection is closed.
func Malformedf(format string, args ...any) *Failure {
	f := Newf(Malformed, "malformed request: "+format, args...)
	f.Fatal = true
	return f
}

// BadResponsef is an answer of the destination that cannot be passed on.
func BadResponsef(format string, args ...any) *Failure {
	return Newf(BadResponse, "malformed response: "+format, args...)
}

// OfMessage is what the client is told of an error of http1, about a request or a response; nil where err is nil.
func OfMessage(err error) *Failure {
	if err == nil {
		return nil
	}
	var e *http1.Error // on the heap, so only where it is needed
	if !errors.As(err, &e) {
		return Newf(Internal, "internal error: %v", err)
	}
	f := Newf(Malformed, "%s", e.Text)
	switch e.Kind {
	case http1.BadScheme:
		f = Newf(Scheme, "%s", e.Text)
	case http1.BadResponse:
		f = Newf(BadResponse, "%s", e.Text)
	case http1.TooLarge:
		f = LargeHeadf("%s", e.Text)
	}
	f.Fatal = e.Kind == http1.Malformed || e.Kind == http1.TooLarge
	return f
}

// LargeHeadf is a request head, or a trailer section, over the limit: 431 where a body's would be 413.
func LargeHeadf(format string, args ...any) *Failure {
	f := Newf(LargeRequest, format, args...)
	f.Status = http.StatusRequestHeaderFieldsTooLarge
	f.Fatal = true
	return f
}

// clientGone is the end of an exchange whose client went away.
func ClientGone() *Failure {
	return &Failure{Status: StatusClientGone, Text: "the client went away", Fatal: true}
}

// OfConnect turns an error on the way to a connection into what the client is told. It is the one place
// that knows the errors of guard, ca and the network.
func OfConnect(err error, host string, limit time.Duration) *Failure {
	var (
		f       *Failure
		blocked *guard.BlockedError
		port    *guard.PortError
		resolve *guard.ResolveError
		connect *guard.ConnectError
		alias   *ca.UnknownAliasError
	)
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, context.Canceled):
		return ClientGone()
	case errors.As(err, &blocked):
		f = Newf(BlockedAddress, "%s", blocked.Error())
		f.Rule = blocked.Rule
		return f
	case errors.As(err, &port):
		return Newf(BlockedPort, "%s", port.Error())
	case errors.As(err, &resolve) && outOfDescriptors(err):
		return Newf(TooMany, "too many connections: no file descriptor is left to look up %q", host)
	case errors.As(err, &resolve):
		return Newf(Unresolved, "%s", resolve.Error())
	case errors.As(err, &alias):
		return Newf(UnknownAlias, "%s", alias.Error())
	case errors.As(err, &connect) && outOfDescriptors(err):
		return Newf(TooMany, "too many connections: no file descriptor is left for one to %s", connect.Addr)
	case errors.As(err, &connect) && connect.Timeout():
		return Newf(Timeout, "timed out connecting to %s after %s", connect.Addr, limit)
	case errors.As(err, &connect):
		return Newf(Unreachable, "%s", connect.Error())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return Newf(Timeout, "timed out connecting to %s after %s", host, limit)
	}
	return Newf(Internal, "internal error: connect to %s: %v", host, err)
}

// OfHandshake turns the error of a TLS handshake with host into what the client is told.
func OfHandshake(err error, host string, limit time.Duration) *Failure {
	if isConnectError(err) { // of the second attempt's connection
		return OfConnect(err, host, limit)
	}
	switch f := ca.Explain(err, host); f.Cause {
	case ca.CauseTimeout:
		return Newf(Timeout, "timed out in the TLS handshake with %s after %s", host, limit)
	case ca.CauseCertificate:
		return Newf(Certificate, "%s", f.Text)
	default:
		return Newf(Handshake, "TLS handshake with %s failed: %s", host, f.Text)
	}
}

// isConnectError reports whether err came from the guard.
func isConnectError(err error) bool {
	var (
		blocked *guard.BlockedError
		port    *guard.PortError
		resolve *guard.ResolveError
		connect *guard.ConnectError
	)
	return errors.As(err, &blocked) || errors.As(err, &port) || errors.As(err, &resolve) || errors.As(err, &connect)
}

// Of returns the failure that err is, or holds; nil of nil. Any other error is the client's connection's, which failed.
func Of(err error) *Failure {
	if err == nil {
		return nil
	}
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	return ClientGone()
}

// outOfDescriptors reports whether err says that the process or the system has no file descriptor left.
func outOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// retryAfter is how soon a client that was told 503 may try again, in seconds.
const retryAfter = 1

// AppendAnswer appends the proxy's own answer to a request with that method, "" where it is not known: a head, and
// a body unless the request was a HEAD. To a CONNECT the reason stands in the status line too, which is what clients
// show of it. connection is the value of Connection, "" for none.
func AppendAnswer(dst []byte, f *Failure, at time.Time, method, connection string) (answer []byte, body int) {
	text := AppendText(nil, f.Text)
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(f.Status), 10)
	dst = append(dst, ' ')
	if method == "CONNECT" {
		dst = append(dst, text...)
	} else {
		dst = append(dst, http.StatusText(f.Status)...)
	}
	dst = append(dst, "\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nX-Whsentry-Reason: "...)
	dst = append(dst, text...)
	dst = append(dst, "\r\nX-Whsentry-Reasoncode: "...)
	dst = strconv.AppendInt(dst, int64(f.Code), 10)
	dst = append(dst, "\r\nDate: "...)
	dst = at.UTC().AppendFormat(dst, http.TimeFormat)
	dst = append(dst, "\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(text)+1), 10)
	if f.Code == TooMany {
		dst = append(dst, "\r\nRetry-After: "...)
		dst = strconv.AppendInt(dst, retryAfter, 10)
	}
	if connection != "" {
		dst = append(append(dst, "\r\nConnection: "...), connection...)
	}
	dst = append(dst, "\r\n\r\n"...)
	if method == "HEAD" {
		return dst, 0
	}
	dst = append(dst, text...)
	return append(dst, '\n'), len(text) + 1
}
