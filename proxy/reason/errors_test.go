package reason

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"whsentry/ca"
	"whsentry/guard"
)

// What this host has run out of is not the destination's fault, nor the resolver's.
func TestReasonOutOfDescriptors(t *testing.T) {
	addr := netip.MustParseAddrPort("192.0.2.1:80")
	for _, tt := range []struct {
		name string
		err  error
		want Code
	}{
		{"connecting", &guard.ConnectError{Addr: addr, Err: os.NewSyscallError("socket", syscall.EMFILE)}, TooMany},
		{"connecting, the system's", &guard.ConnectError{Addr: addr, Err: os.NewSyscallError("socket", syscall.ENFILE)}, TooMany},
		{"connecting, refused", &guard.ConnectError{Addr: addr, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, Unreachable},
		{"looking up", &guard.ResolveError{Host: "x.example", Err: fmt.Errorf("no resolver answers: %w", syscall.EMFILE)}, TooMany},
		{"looking up, refused", &guard.ResolveError{Host: "x.example", Err: fmt.Errorf("no resolver answers: %w", syscall.ECONNREFUSED)}, Unresolved},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := OfConnect(tt.err, "x.example", time.Second)
			if f.Code != tt.want {
				t.Errorf("got %d (%s); want %d", f.Code, f.Text, tt.want)
			}
		})
	}
}

// Whose fault it is that there is no connection, and how RFC 9209 calls it.
func TestOfConnect(t *testing.T) {
	addr := netip.MustParseAddrPort("192.0.2.1:80")
	connect := func(err error) error { return fmt.Errorf("dial: %w", &guard.ConnectError{Addr: addr, Err: err}) }
	errno := func(e syscall.Errno) error { return connect(os.NewSyscallError("connect", e)) }
	for _, tt := range []struct {
		name string
		err  error
		want string // code, source, error, limit
	}{
		{"refused address", &guard.BlockedError{Addr: addr.Addr()}, "1000 policy destination_ip_prohibited "},
		{"refused port", &guard.PortError{Port: 25}, "1013 policy http_request_denied "},
		{"no such name", &guard.ResolveError{Host: "x", NotFound: true, Err: errors.New("NXDOMAIN")}, "1001 destination dns_error "},
		{"resolver fails", &guard.ResolveError{Host: "x", Err: errors.New("SERVFAIL")}, "1001 proxy dns_error "},
		{"resolver silent", &guard.ResolveError{Host: "x", Timeout: true, Err: errors.New("timeout")}, "1001 proxy dns_timeout "},
		{"refused", errno(syscall.ECONNREFUSED), "1006 destination connection_refused "},
		{"reset", errno(syscall.ECONNRESET), "1006 destination connection_refused "},
		{"no route to the host", errno(syscall.EHOSTUNREACH), "1006 destination destination_ip_unroutable "},
		{"no route to the network", errno(syscall.ENETUNREACH), "1006 proxy destination_ip_unroutable "},
		{"network down", errno(syscall.ENETDOWN), "1006 proxy destination_ip_unroutable "},
		{"no port left", errno(syscall.EADDRNOTAVAIL), "1006 proxy destination_ip_unroutable "},
		{"slow", connect(os.ErrDeadlineExceeded), "1004 destination connection_timeout connectTimeout"},
		{"time is up", context.DeadlineExceeded, "1004 destination connection_timeout connectTimeout"},
		{"no such alias", &ca.UnknownAliasError{Alias: "x"}, "1010 client http_request_denied "},
		{"the client left", context.Canceled, "0   "},
		{"a failure", fmt.Errorf("x: %w", LargeHeadf("y")), "1012 client http_request_error maxHeaderSize"},
		{"whatever else", errors.New("x"), "1009 proxy proxy_internal_error "},
	} {
		f := OfConnect(tt.err, "x.example", time.Second)
		if got := fmt.Sprint(int(f.Code), " ", f.Source, " ", f.error, " ", f.Limit); got != tt.want {
			t.Errorf("%s: got %q; want %q", tt.name, got, tt.want)
		}
		if tried := errors.As(tt.err, new(*guard.ConnectError)); f.Tried.IsValid() != tried {
			t.Errorf("%s: got the address tried %v; want one: %v", tt.name, f.Tried, tried)
		}
	}
}

func TestOfHandshake(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"slow", os.ErrDeadlineExceeded, "1004 connection_timeout connectTimeout"},
		{"alert", &net.OpError{Op: "remote error", Err: tls.AlertError(40)}, "1005 tls_alert_received "},
		{"our own alert", &net.OpError{Op: "local error", Err: errors.New("tls: protocol version not supported")}, "1005 tls_protocol_error "},
		{"closed", io.EOF, "1005 tls_protocol_error "},
		{"certificate", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, "1007 tls_certificate_error "},
	} {
		f := OfHandshake(tt.err, "x.example", time.Second)
		if got := fmt.Sprint(int(f.Code), " ", f.error, " ", f.Limit); got != tt.want {
			t.Errorf("%s: got %q (%s); want %q", tt.name, got, f.Text, tt.want)
		}
	}
}

// Limits in time are told apart by what RFC 9209 calls them.
func TestOver(t *testing.T) {
	for _, tt := range []struct {
		f    *Failure
		want string
	}{
		{Newf(Timeout, "").Over(LimitConnectTimeout), "connection_timeout"},
		{Newf(Timeout, "").Over(LimitReadTimeout), "connection_read_timeout"},
		{Newf(Timeout, "").Over(LimitConnectionLifetime), "http_response_timeout"},
		{Newf(Timeout, "").Over(LimitDestinationsReadTimeout), "connection_read_timeout"},
		{Newf(TooMany, "").Over(LimitMaxConnections), "connection_limit_reached"},
		{CallerDeadline(time.Second), "http_response_timeout"},
	} {
		if tt.f.error != tt.want {
			t.Errorf("%q: got %s; want %s", tt.f.Limit, tt.f.error, tt.want)
		}
	}
}
