package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"whsentry/ca"
	"whsentry/guard"
)

// reason is why the proxy itself answered: the number that clients, logs and metrics show.
type reason int

const (
	reasonNone           reason = 0 // the destination's own answer
	reasonBlockedAddress reason = 1000
	reasonUnresolved     reason = 1001
	reasonMalformed      reason = 1002
	reasonScheme         reason = 1003
	reasonTimeout        reason = 1004
	reasonHandshake      reason = 1005
	reasonUnreachable    reason = 1006
	reasonCertificate    reason = 1007
	reasonLargeResponse  reason = 1008
	reasonInternal       reason = 1009
	reasonUnknownAlias   reason = 1010
	reasonBadResponse    reason = 1011
	reasonLargeRequest   reason = 1012
	reasonBlockedPort    reason = 1013
	reasonTooMany        reason = 1014
	reasonConnect        reason = 1015
	reasonUnauthorized   reason = 1016 // reserved
	reasonSlowClient     reason = 1017

	firstReason, lastReason = reasonBlockedAddress, reasonSlowClient
)

// statusClientGone is what the log shows of a request whose client went away before it was answered.
const statusClientGone = 499

// reasonStatus is the status that goes with each reason, from firstReason on.
var reasonStatus = [lastReason - firstReason + 1]int{
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

// failure is the end of an exchange that the destination did not answer, or not to the end.
type failure struct {
	reason reason
	status int
	text   string // one line, whose outside parts may hold anything: it is escaped where it is written
	// fatal says that the client's connection cannot go on: where its next request begins is not known.
	fatal bool
	rule  guard.Rule // that refused an address
}

func (f *failure) Error() string { return f.text }

// failf makes a failure with the status that belongs to its reason.
func failf(r reason, format string, args ...any) *failure {
	return &failure{reason: r, status: reasonStatus[r-firstReason], text: fmt.Sprintf(format, args...)}
}

// malformedf is a request that breaks HTTP's framing: after it the connection is closed.
func malformedf(format string, args ...any) *failure {
	f := failf(reasonMalformed, "malformed request: "+format, args...)
	f.fatal = true
	return f
}

// badResponsef is an answer of the destination that cannot be passed on.
func badResponsef(format string, args ...any) *failure {
	return failf(reasonBadResponse, "malformed response: "+format, args...)
}

// largeHeadf is a request head, or a trailer section, over the limit: 431 where a body's would be 413.
func largeHeadf(format string, args ...any) *failure {
	f := failf(reasonLargeRequest, format, args...)
	f.status = http.StatusRequestHeaderFieldsTooLarge
	f.fatal = true
	return f
}

// clientGone is the end of an exchange whose client went away.
func clientGone() *failure {
	return &failure{status: statusClientGone, text: "the client went away", fatal: true}
}

// connectFailure turns an error on the way to a connection into what the client is told. It is the one place
// that knows the errors of guard, ca and the network.
func connectFailure(err error, host string, limit time.Duration) *failure {
	var (
		f       *failure
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
		return clientGone()
	case errors.As(err, &blocked):
		f = failf(reasonBlockedAddress, "%s", blocked.Error())
		f.rule = blocked.Rule
		return f
	case errors.As(err, &port):
		return failf(reasonBlockedPort, "%s", port.Error())
	case errors.As(err, &resolve) && outOfDescriptors(err):
		return failf(reasonTooMany, "too many connections: no file descriptor is left to look up %q", host)
	case errors.As(err, &resolve):
		return failf(reasonUnresolved, "%s", resolve.Error())
	case errors.As(err, &alias):
		return failf(reasonUnknownAlias, "%s", alias.Error())
	case errors.As(err, &connect) && outOfDescriptors(err):
		return failf(reasonTooMany, "too many connections: no file descriptor is left for one to %s", connect.Addr)
	case errors.As(err, &connect) && connect.Timeout():
		return failf(reasonTimeout, "timed out connecting to %s after %s", connect.Addr, limit)
	case errors.As(err, &connect):
		return failf(reasonUnreachable, "%s", connect.Error())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return failf(reasonTimeout, "timed out connecting to %s after %s", host, limit)
	}
	return failf(reasonInternal, "internal error: connect to %s: %v", host, err)
}

// handshakeFailure turns the error of a TLS handshake with host into what the client is told.
func handshakeFailure(err error, host string, limit time.Duration) *failure {
	if isConnectError(err) { // of the second attempt's connection
		return connectFailure(err, host, limit)
	}
	switch f := ca.Explain(err, host); f.Cause {
	case ca.CauseTimeout:
		return failf(reasonTimeout, "timed out in the TLS handshake with %s after %s", host, limit)
	case ca.CauseCertificate:
		return failf(reasonCertificate, "%s", f.Text)
	default:
		return failf(reasonHandshake, "TLS handshake with %s failed: %s", host, f.Text)
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

// outOfDescriptors reports whether err says that the process or the system has no file descriptor left.
func outOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// maxReasonText bounds the part of a reason that comes from outside, in bytes.
const maxReasonText = 512

// appendReasonText appends text so that it can stand in a header, a status line and a log: control characters
// and what is not UTF-8 as \xNN, and not more of it than maxReasonText.
func appendReasonText(dst []byte, text string) []byte {
	begin := len(dst)
	for len(text) > 0 {
		if len(dst)-begin >= maxReasonText {
			return append(dst, "..."...)
		}
		r, size := utf8.DecodeRuneInString(text)
		if unicode.IsControl(r) || (r == utf8.RuneError && size == 1) {
			for _, b := range []byte(text[:size]) {
				dst = appendHexByte(dst, b)
			}
		} else {
			dst = append(dst, text[:size]...)
		}
		text = text[size:]
	}
	return dst
}

func appendHexByte(dst []byte, b byte) []byte {
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'x', digits[b>>4], digits[b&15])
}

// retryAfter is how soon a client that was told 503 may try again, in seconds.
const retryAfter = 1

// appendAnswer appends the proxy's own answer to a request with that method, "" where it is not known: a head, and
// a body unless the request was a HEAD. To a CONNECT the reason stands in the status line too, which is what clients
// show of it. connection is the value of Connection, "" for none.
func appendAnswer(dst []byte, f *failure, at time.Time, method, connection string) (answer []byte, body int) {
	text := appendReasonText(nil, f.text)
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(f.status), 10)
	dst = append(dst, ' ')
	if method == "CONNECT" {
		dst = append(dst, text...)
	} else {
		dst = append(dst, http.StatusText(f.status)...)
	}
	dst = append(dst, "\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nX-Whsentry-Reason: "...)
	dst = append(dst, text...)
	dst = append(dst, "\r\nX-Whsentry-Reasoncode: "...)
	dst = strconv.AppendInt(dst, int64(f.reason), 10)
	dst = append(dst, "\r\nDate: "...)
	dst = at.UTC().AppendFormat(dst, http.TimeFormat)
	dst = append(dst, "\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(text)+1), 10)
	if f.reason == reasonTooMany {
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
