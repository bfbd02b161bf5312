package http1

import (
	"bytes"
	"fmt"
	"net/netip"
	"unsafe"
)

// Target is a request target in absolute form, taken apart but not changed (RFC 9112 section 3.2.2).
type Target struct {
	HTTPS     bool
	Authority Authority
	Path      []byte // path and query as written; may be empty, or begin with the query
}

// Authority is host and port, as written (RFC 3986 section 3.2).
type Authority struct {
	Raw     []byte
	Host    []byte     // without brackets
	Literal netip.Addr // of an IP literal; not valid for a name
	Port    int        // -1: none
}

// AppendHost appends the host in the one form by which hosts are compared: a name in small letters and without a final
// dot, a literal as RFC 5952 writes it, without brackets.
func (a *Authority) AppendHost(dst []byte) []byte {
	if a.Literal.IsValid() {
		return a.Literal.AppendTo(dst)
	}
	for _, c := range a.Host {
		dst = append(dst, toLower(c))
	}
	if dst[len(dst)-1] == '.' { // a host is not empty
		dst = dst[:len(dst)-1]
	}
	return dst
}

// PortOr returns the port, or that of the scheme where the authority names none.
func (a *Authority) PortOr(scheme uint16) uint16 {
	if a.Port > 0 {
		return uint16(a.Port)
	}
	return scheme
}

// ParseTarget takes an absolute http or https URI apart. It is the only reader of a request's target, together
// with ParseAuthority: what one part of the proxy judged, no other may read differently.
func ParseTarget(raw []byte) (t Target, err error) {
	err = t.parse(raw)
	return t, err
}

func (t *Target) parse(raw []byte) error {
	colon := SchemeEnd(raw)
	if colon < 0 {
		return requestErrorf(BadTarget, "its target is not an absolute URI such as http://host/path")
	}
	scheme, rest := raw[:colon], raw[colon+1:]
	t.HTTPS = EqualFold(scheme, "https")
	known := t.HTTPS || EqualFold(scheme, "http")
	if !bytes.HasPrefix(rest, []byte("//")) {
		if known {
			return requestErrorf(BadTarget, "its URI names no host")
		}
		return schemeError(scheme)
	}
	rest = rest[2:]
	if bytes.IndexByte(rest, '#') >= 0 {
		return requestErrorf(BadTarget, "its URI has a fragment")
	}
	end := bytes.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	if end == 0 && !known { // only http and https URIs must name a host: file:///a need not
		return schemeError(scheme)
	}
	if reject := t.Authority.parse(rest[:end]); reject != "" {
		return requestErrorf(BadTarget, "its URI %s", reject)
	}
	t.Path = rest[end:]
	for _, c := range t.Path {
		if c <= ' ' || c == 0x7f {
			return requestErrorf(BadTarget, "its URI holds white space or a control byte")
		}
	}
	if !known {
		return schemeError(scheme)
	}
	return nil
}

func schemeError(scheme []byte) error {
	return &Error{BadScheme, fmt.Sprintf("scheme %q is neither http nor https", scheme)}
}

// SchemeEnd returns where the colon after the scheme is, or -1 (RFC 3986 section 3.1).
func SchemeEnd(raw []byte) int {
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

// ParseAuthority takes host[:port] apart; reject completes a sentence that says what is wrong with it.
func ParseAuthority(raw []byte) (a Authority, reject string) {
	reject = a.parse(raw)
	return a, reject
}

func (a *Authority) parse(raw []byte) (reject string) {
	*a = Authority{Raw: raw, Port: -1}
	if bytes.IndexByte(raw, '@') >= 0 {
		return "has user information"
	}
	host, port := raw, []byte(nil)
	if len(raw) > 0 && raw[0] == '[' {
		closing := bytes.IndexByte(raw, ']')
		if closing < 0 {
			return "has an IPv6 address without its closing bracket"
		}
		host, port = raw[:closing+1], raw[closing+1:]
		if len(port) > 0 && port[0] != ':' {
			return "has a malformed port"
		}
	} else if colon := bytes.IndexByte(raw, ':'); colon >= 0 {
		host, port = raw[:colon], raw[colon:]
	}
	if len(port) > 1 { // an empty port is the default one (RFC 3986 section 3.2.3)
		if a.Port = parsePort(port[1:]); a.Port < 0 {
			return "has a port that is not a number from 1 to 65535"
		}
	}
	a.Host, a.Literal, reject = parseHost(host)
	return reject
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
	return raw, netip.Addr{}, RejectName(raw)
}

// RejectName says what is wrong with a DNS name, or "".
func RejectName(name []byte) string {
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

// ParseConnectTarget parses the target of a CONNECT, host:port (RFC 9110 section 9.3.6).
func ParseConnectTarget(raw []byte) (a Authority, err error) {
	reject := a.parse(raw)
	if reject == "" && a.Port < 0 {
		reject = "has no port"
	}
	if reject != "" {
		return a, requestErrorf(BadTarget, "its CONNECT target %s", reject)
	}
	return a, nil
}

// CheckHost refuses a Host that RFC 9112 section 3.2 does not allow. Its value is not used: where the request goes
// is said by its target alone.
func (h *Request) CheckHost() error {
	value := h.Host.Of(h.Raw)
	if len(value) == 0 {
		if h.HTTP10 {
			return nil
		}
		return requestErrorf(BadTarget, "it has no Host")
	}
	if _, reject := ParseAuthority(value); reject != "" {
		return requestErrorf(BadTarget, "its Host %s", reject)
	}
	return nil
}

// view is b as a string, without a copy. It is valid as long as b is not changed and must not be kept.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
