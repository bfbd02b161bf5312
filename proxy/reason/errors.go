package reason

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"syscall"
	"time"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/proxy/http1"
)

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
		f = ClientGone()
		if errors.As(err, &connect) {
			f.Tried = connect.Addr
		}
		return f
	case errors.As(err, &blocked):
		f = Newf(BlockedAddress, "%s", blocked.Error())
		f.Rule = blocked.Rule
		return f
	case errors.As(err, &port):
		return Newf(BlockedPort, "%s", port.Error())
	case errors.As(err, &resolve) && outOfDescriptors(err):
		return Newf(TooMany, "too many connections: no file descriptor is left to look up %q", host)
	case errors.As(err, &resolve):
		return ofResolve(resolve)
	case errors.As(err, &alias):
		return Newf(UnknownAlias, "%s", alias.Error())
	case errors.As(err, &connect) && outOfDescriptors(err):
		return Newf(TooMany, "too many connections: no file descriptor is left for one to %s", connect.Addr)
	case errors.As(err, &connect) && connect.Timeout():
		f = Newf(Timeout, "timed out connecting to %s after %s", connect.Addr, limit).Over(LimitConnectTimeout)
		f.Tried = connect.Addr
		return f
	case errors.As(err, &connect):
		return ofUnreachable(connect)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return Newf(Timeout, "timed out connecting to %s after %s", host, limit).Over(LimitConnectTimeout)
	}
	return Newf(Internal, "internal error: connect to %s: %v", host, err)
}

// ofResolve is a name without an address: that is its owner's fault where there is an answer that says so.
func ofResolve(err *guard.ResolveError) *Failure {
	f := Newf(Unresolved, "%s", err.Error())
	if !err.NotFound {
		f.Source = SourceProxy
	}
	if err.Timeout {
		f.error = "dns_timeout"
	}
	return f
}

// ofUnreachable is a connection that could not be established, for which this host may be to blame.
func ofUnreachable(err *guard.ConnectError) *Failure {
	f := Newf(Unreachable, "%s", err.Error())
	f.Tried = err.Addr
	if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) {
		f.error = "destination_ip_unroutable"
	}
	if err.Local() {
		f.Source = SourceProxy
	}
	return f
}

// OfHandshake turns the error of a TLS handshake with host into what the client is told.
func OfHandshake(err error, host string, limit time.Duration) *Failure {
	if isConnectError(err) { // of the second attempt's connection
		return OfConnect(err, host, limit)
	}
	switch e := ca.Explain(err, host); e.Cause {
	case ca.CauseTimeout:
		return Newf(Timeout, "timed out in the TLS handshake with %s after %s", host, limit).Over(LimitConnectTimeout)
	case ca.CauseCertificate:
		return Newf(Certificate, "%s", e.Text)
	default:
		f := Newf(Handshake, "TLS handshake with %s failed: %s", host, e.Text)
		if ca.IsAlert(err) {
			f.error = "tls_alert_received"
		}
		return f
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

// OfBody is what the client is told of an error within the body of a response from that address: http1's, about the
// chunks, or else that of the connection, which has ended.
func OfBody(err error, from netip.AddrPort) *Failure {
	var e *http1.Error
	if errors.As(err, &e) {
		return BadResponsef("%s", e.Text)
	}
	return Incompletef("%s closed the connection within the body", from)
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
