package reason

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"whsentry/ca"
	"whsentry/guard"
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
	for _, own := range []syscall.Errno{syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, own) {
			f.Source = SourceProxy
		}
	}
	return f
}

// OfHandshake turns the error of a TLS handshake with host into what the client is told.
func OfHandshake(err error, host string, limit time.Duration) *Failure {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return Newf(Timeout, "timed out in the TLS handshake with %s after %s", host, limit).Over(LimitConnectTimeout)
	}
	certificate, text := ca.DescribeError(err, host)
	if certificate {
		return Newf(Certificate, "%s", text)
	}
	f := Newf(Handshake, "TLS handshake with %s failed: %s", host, text)
	if isAlert(err) {
		f.error = "tls_alert_received"
	}
	return f
}

// isAlert reports whether the handshake was ended by an alert of the destination's, which crypto/tls reports so.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
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
