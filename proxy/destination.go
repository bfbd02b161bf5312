package proxy

import (
	"bytes"
	"net"
	"net/netip"
	"strconv"
	"unsafe"

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
	t, f := parseTarget([]byte(raw))
	if f != nil {
		return Destination{}, &TargetError{Code: int(f.Code), Status: f.Status, Text: f.Text}
	}
	var a address
	a.set(&t.authority, t.https)
	return Destination{Host: a.name(), Port: a.port, TLS: t.https}, nil
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

// target is a request target in absolute form, taken apart but not changed (RFC 9112 section 3.2.2).
type target struct {
	https     bool
	authority authority
	path      []byte // path and query as written; may be empty, or begin with the query
}

// authority is host and port, as written (RFC 3986 section 3.2).
type authority struct {
	raw     []byte
	host    []byte     // without brackets
	literal netip.Addr // of an IP literal; not valid for a name
	port    int        // -1: none
}

// parseTarget takes an absolute http or https URI apart. It is the only reader of a request's target, together
// with parseAuthority: what one part of the proxy judged, no other may read differently.
func parseTarget(raw []byte) (t target, f *reason.Failure) {
	colon := schemeEnd(raw)
	if colon < 0 {
		return t, reason.Newf(reason.Malformed, "malformed request: its target is not an absolute URI such as http://host/path")
	}
	scheme, rest := raw[:colon], raw[colon+1:]
	t.https = equalFold(scheme, "https")
	known := t.https || equalFold(scheme, "http")
	if !bytes.HasPrefix(rest, []byte("//")) {
		if known {
			return t, reason.Newf(reason.Malformed, "malformed request: its URI names no host")
		}
		return t, schemeFailure(scheme)
	}
	rest = rest[2:]
	if bytes.IndexByte(rest, '#') >= 0 {
		return t, reason.Newf(reason.Malformed, "malformed request: its URI has a fragment")
	}
	end := bytes.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	if end == 0 && !known { // only http and https URIs must name a host: file:///a need not
		return t, schemeFailure(scheme)
	}
	var reject string
	if t.authority, reject = parseAuthority(rest[:end]); reject != "" {
		return t, reason.Newf(reason.Malformed, "malformed request: its URI %s", reject)
	}
	t.path = rest[end:]
	for _, c := range t.path {
		if c <= ' ' || c == 0x7f {
			return t, reason.Newf(reason.Malformed, "malformed request: its URI holds white space or a control byte")
		}
	}
	if !known {
		return t, schemeFailure(scheme)
	}
	return t, nil
}

func schemeFailure(scheme []byte) *reason.Failure {
	return reason.Newf(reason.Scheme, "scheme %q is neither http nor https", scheme)
}

// schemeEnd returns where the colon after the scheme is, or -1 (RFC 3986 section 3.1).
func schemeEnd(raw []byte) int {
	for i, c := range raw {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		switch {
		case letter:
		case i > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'):
		case i > 0 && c == ':':
			return i
		default:
			return -1
		}
	}
	return -1
}

// parseAuthority takes host[:port] apart; reject completes a sentence that says what is wrong with it.
func parseAuthority(raw []byte) (a authority, reject string) {
	a = authority{raw: raw, port: -1}
	if bytes.IndexByte(raw, '@') >= 0 {
		return a, "has user information"
	}
	host, port := raw, []byte(nil)
	if len(raw) > 0 && raw[0] == '[' {
		closing := bytes.IndexByte(raw, ']')
		if closing < 0 {
			return a, "has an IPv6 address without its closing bracket"
		}
		host, port = raw[:closing+1], raw[closing+1:]
		if len(port) > 0 && port[0] != ':' {
			return a, "has a malformed port"
		}
	} else if colon := bytes.IndexByte(raw, ':'); colon >= 0 {
		host, port = raw[:colon], raw[colon:]
	}
	if len(port) > 1 { // an empty port is the default one (RFC 3986 section 3.2.3)
		if a.port = parsePort(port[1:]); a.port < 0 {
			return a, "has a port that is not a number from 1 to 65535"
		}
	}
	a.host, a.literal, reject = parseHost(host)
	return a, reject
}

// parsePort returns the port that b writes in decimal, or -1.
func parsePort(b []byte) int {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return -1
		}
		if n = n*10 + int(c-'0'); n > 65535 {
			return -1
		}
	}
	if n == 0 {
		return -1
	}
	return n
}

const (
	maxNameLen  = 253 // RFC 1035 section 3.1, in its dotted form
	maxLabelLen = 63
)

// parseHost accepts a DNS name, an IPv4 address in its one strict form, or an IPv6 address in brackets. What a
// resolver or a C library might still read as an address (2130706433, 0x7f.1, 127.1) ends in a number and is no
// name (WHATWG URL, "ends in a number").
func parseHost(raw []byte) (host []byte, literal netip.Addr, reject string) {
	if len(raw) == 0 {
		return nil, literal, "names no host"
	}
	if raw[0] == '[' {
		host = raw[1 : len(raw)-1]
		literal, err := netip.ParseAddr(view(host))
		if err != nil || !literal.Is6() || literal.Zone() != "" {
			return nil, literal, "has a malformed IPv6 address"
		}
		return host, literal, ""
	}
	if '0' <= raw[0] && raw[0] <= '9' {
		if literal, err := netip.ParseAddr(view(raw)); err == nil && literal.Is4() {
			return raw, literal, ""
		}
	}
	return raw, netip.Addr{}, rejectName(raw)
}

// rejectName says what is wrong with a DNS name, or "".
func rejectName(name []byte) string {
	if name[len(name)-1] == '.' {
		name = name[:len(name)-1]
	}
	if len(name) > maxNameLen {
		return "has a host longer than 253 bytes"
	}
	label := 0 // where the label begins
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '.' {
			if !isNameByte(name[i]) {
				return "has a host that is not a plain DNS name or IP address"
			}
			continue
		}
		if i == label || i-label > maxLabelLen {
			return "has a host with an empty label or one longer than 63 bytes"
		}
		if i < len(name) {
			label = i + 1
		}
	}
	if isNumber(name[label:]) {
		return "has a host that ends in a number but is not a strict IP address"
	}
	return ""
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// isNumber reports whether a label is one to a parser of IPv4 addresses: decimal, octal or hexadecimal digits.
func isNumber(label []byte) bool {
	decimal := true
	for _, c := range label {
		decimal = decimal && '0' <= c && c <= '9'
	}
	if decimal {
		return true
	}
	if !hasPrefixFold(label, "0x") {
		return false
	}
	for _, c := range label[2:] {
		if hexDigit(c) < 0 {
			return false
		}
	}
	return true
}

// address is a destination's host and port in the one form by which connections are pooled and counted.
type address struct {
	key     []byte // host:port, the host lower-cased or in RFC 5952 form, without a trailing dot
	hostLen int
	port    uint16
}

// set fills a in from an authority, with the scheme's port where that names none. It allocates nothing once key
// has its size.
func (a *address) set(from *authority, tls bool) {
	a.key = a.key[:0]
	if from.literal.IsValid() {
		a.key = from.literal.AppendTo(a.key)
	} else {
		for _, c := range from.host {
			a.key = append(a.key, toLower(c))
		}
		if a.key[len(a.key)-1] == '.' {
			a.key = a.key[:len(a.key)-1]
		}
	}
	a.hostLen = len(a.key)
	a.port = defaultPort(tls)
	if from.port > 0 {
		a.port = uint16(from.port)
	}
	a.key = append(a.key, ':')
	a.key = strconv.AppendUint(a.key, uint64(a.port), 10)
}

// copy makes a the same as from.
func (a *address) copy(from *address) {
	a.key = append(a.key[:0], from.key...)
	a.hostLen, a.port = from.hostLen, from.port
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

// connectAuthority parses the target of a CONNECT, host:port (RFC 9110 section 9.3.6).
func connectAuthority(raw []byte) (a authority, f *reason.Failure) {
	a, reject := parseAuthority(raw)
	if reject == "" && a.port < 0 {
		reject = "has no port"
	}
	if reject != "" {
		return a, reason.Newf(reason.Malformed, "malformed request: its CONNECT target %s", reject)
	}
	return a, nil
}

// checkHost refuses a Host that RFC 9112 section 3.2 does not allow. Its value is not used: where the request goes
// is said by its target alone.
func (h *requestHead) checkHost() *reason.Failure {
	value := h.host.of(h.raw)
	if len(value) == 0 {
		if h.http10 {
			return nil
		}
		return reason.Newf(reason.Malformed, "malformed request: it has no Host")
	}
	if _, reject := parseAuthority(value); reject != "" {
		return reason.Newf(reason.Malformed, "malformed request: its Host %s", reject)
	}
	return nil
}

// view is b as a string, without a copy. It is valid as long as b is not changed and must not be kept.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
