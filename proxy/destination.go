package proxy

import (
	"net"
	"strconv"

	"whsentry/proxy/http1"
	"whsentry/proxy/reason"
)

// Destination is where a request is to go: a host, as a lower-cased DNS name or an IP literal without brackets,
// and a port.
type Destination struct {
	Host string
	Port uint16
	TLS  bool // the proxy speaks TLS to it
}

// ParseURL judges a URL as the proxy judges a request's target; TLS is set for https. The error's text holds what
// the client would be told, with the reason code.
func ParseURL(raw string) (Destination, error) {
	t, err := http1.ParseTarget([]byte(raw))
	if f := reason.OfMessage(err); f != nil {
		return Destination{}, &TargetError{Code: int(f.Code), Status: f.Status, Text: f.Text}
	}
	var a address
	a.set(&t.Authority, t.HTTPS)
	return Destination{Host: a.name(), Port: a.port, TLS: t.HTTPS}, nil
}

// TargetError says that a URL is not one that the proxy would forward to.
type TargetError struct {
	Code   int // the reason code
	Status int // the HTTP status
	Text   string
}

func (e *TargetError) Error() string {
	return e.Text + " (reason " + strconv.Itoa(e.Code) + ", status " + strconv.Itoa(e.Status) + ")"
}

// address is a destination's host and port in the one form by which connections are pooled and counted.
type address struct {
	key     []byte // host:port, the host lower-cased or in RFC 5952 form, without a trailing dot
	hostLen int
	port    uint16
}

// set fills a in from an authority, with the scheme's port where that names none. It allocates nothing once key
// has its size.
func (a *address) set(from *http1.Authority, tls bool) {
	a.key = from.AppendHost(a.key[:0])
	a.hostLen = len(a.key)
	a.port = from.PortOr(defaultPort(tls))
	a.key = append(a.key, ':')
	a.key = strconv.AppendUint(a.key, uint64(a.port), 10)
}

// copy makes a the same as from.
func (a *address) copy(from *address) {
	a.key = append(a.key[:0], from.key...)
	a.hostLen, a.port = from.hostLen, from.port
}

// setPort changes the port.
func (a *address) setPort(port uint16) {
	a.port = port
	a.key = strconv.AppendUint(append(a.key[:a.hostLen], ':'), uint64(port), 10)
}

func defaultPort(tls bool) uint16 {
	if tls {
		return 443
	}
	return 80
}

// String returns host and port as they are shown: an IPv6 address in brackets.
func (a *address) String() string { return net.JoinHostPort(a.name(), strconv.Itoa(int(a.port))) }

// name returns the host as the guard takes it.
func (a *address) name() string { return string(a.key[:a.hostLen]) }
