package reason

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"
)

// Config is how the proxy's own answers look.
type Config struct {
	// Text (reasonText) is TextFull; or TextGeneric: what clients see names no address. "" is TextFull.
	Text string
	// ErrorHeaders (errorHeaders) are the fields that follow on those that are always there: any of HeadersWhsentry,
	// HeadersProxyStatus and HeadersEnvoy, in whatever order.
	ErrorHeaders []string
}

// The values of Config.Text and Config.ErrorHeaders.
const (
	TextFull, TextGeneric                             = "full", "generic"
	HeadersWhsentry, HeadersProxyStatus, HeadersEnvoy = "whsentry", "proxy-status", "envoy"
)

// The fields of HeadersEnvoy, in lower case.
const EnvoyFlags, EnvoyDetails = "x-envoy-response-flags", "x-envoy-response-code-details"

// Envoy reports whether the proxy's own answers carry the fields of HeadersEnvoy, which no destination may then forge.
func (c *Config) Envoy() bool { return slices.Contains(c.ErrorHeaders, HeadersEnvoy) }

// DefaultConfig returns the defaults of every key.
func DefaultConfig() Config {
	return Config{Text: TextFull, ErrorHeaders: []string{HeadersWhsentry, HeadersProxyStatus}}
}

// ClientText is what clients are told of f: one line, printable and not too long.
func (c *Config) ClientText(f *Failure) string {
	if c.Text == TextGeneric && f.Code != None {
		return f.Code.Generic()
	}
	return string(AppendText(nil, f.Text))
}

// AppendAnswer appends the proxy's own answer to a request with that method, "" where it is not known: a head, and
// a body unless the request was a HEAD. To a CONNECT the reason stands in the status line too, which is what clients
// show of it. connection is the value of Connection, "" for none.
func (c *Config) AppendAnswer(dst []byte, f *Failure, at time.Time, method, connection string) (answer []byte, body int) {
	text := c.ClientText(f)
	dst = appendStatusLine(dst, f, method, text)
	dst = append(dst, "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"...)
	dst = appendField(dst, "X-Whsentry-Reason", text)
	dst = appendField(dst, "X-Whsentry-Reasoncode", strconv.Itoa(int(f.Code)))
	dst = appendField(dst, "Date", at.UTC().Format(http.TimeFormat))
	dst = appendField(dst, "Content-Length", strconv.Itoa(len(text)+1))
	dst = f.appendAdvice(dst)
	if connection != "" {
		dst = appendField(dst, "Connection", connection)
	}
	dst = append(c.appendOutcome(dst, f, text), "\r\n"...)
	if method == http.MethodHead {
		return dst, 0
	}
	dst = append(dst, text...)
	return append(dst, '\n'), len(text) + 1
}

func appendStatusLine(dst []byte, f *Failure, method, text string) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(f.Status), 10)
	dst = append(dst, ' ')
	if method != http.MethodConnect {
		return append(append(dst, http.StatusText(f.Status)...), "\r\n"...)
	}
	dst = append(append(dst, text...), " ("...)
	dst = strconv.AppendInt(dst, int64(f.Code), 10)
	return append(dst, ")\r\n"...)
}

func appendField(dst []byte, name, value string) []byte {
	dst = append(append(dst, name...), ": "...)
	return append(append(dst, value...), "\r\n"...)
}

// challenge is what a client without a credential is asked for.
const challenge = `Basic realm="whsentry"`

// appendAdvice appends the fields that say what would help.
func (f *Failure) appendAdvice(dst []byte) []byte {
	if wait := f.wait(); wait > 0 {
		dst = appendField(dst, "Retry-After", strconv.Itoa(wait))
	}
	if f.Allow != "" {
		dst = appendField(dst, "Allow", f.Allow)
	}
	switch f.Status {
	case http.StatusProxyAuthRequired:
		dst = appendField(dst, "Proxy-Authenticate", challenge)
	case http.StatusUnauthorized:
		dst = appendField(dst, "WWW-Authenticate", challenge)
	}
	return dst
}

// wait is how soon the client may try again, in seconds; 0: it is not told.
func (f *Failure) wait() int {
	if f.RetryAfter > 0 || f.Code == None {
		return f.RetryAfter
	}
	return f.Code.row().wait
}

// appendOutcome appends whose the failure is, and what it means for the sender.
func (c *Config) appendOutcome(dst []byte, f *Failure, text string) []byte {
	if slices.Contains(c.ErrorHeaders, HeadersProxyStatus) {
		dst = appendField(dst, "Proxy-Status", f.proxyStatus(text))
	}
	if slices.Contains(c.ErrorHeaders, HeadersWhsentry) {
		dst = appendField(dst, "X-Whsentry-Source", f.Source.String())
		dst = appendField(dst, "X-Whsentry-Delivered", f.Delivered.String())
		dst = appendField(dst, "X-Whsentry-Retry", f.Retry().String())
	}
	if c.Envoy() {
		flags, details := f.envoy()
		dst = appendField(dst, EnvoyFlags, flags)
		dst = appendField(dst, EnvoyDetails, details)
	}
	return dst
}

// proxyStatus is the value of Proxy-Status, RFC 9209. Its parts are written one by one, for the library leaves out the
// spaces between them.
func (f *Failure) proxyStatus(text string) string {
	var b strings.Builder
	b.WriteString(serialize(httpsfv.Token("whsentry")))
	b.WriteString("; error=")
	b.WriteString(serialize(httpsfv.Token(f.error)))
	if f.Received > 0 {
		b.WriteString("; received-status=")
		b.WriteString(serialize(f.Received))
	}
	b.WriteString("; details=")
	b.WriteString(serialize(string(appendASCII(nil, text))))
	return b.String()
}

// serialize writes a bare item, RFC 8941 section 4.1.3.1. Every part has been made such that it can be one.
func serialize(item any) string {
	s, err := httpsfv.Marshal(httpsfv.NewItem(item))
	if err != nil {
		panic("BUG: Proxy-Status: " + err.Error())
	}
	return s
}

// envoy is what Envoy would say: its response flags and its response code details.
func (f *Failure) envoy() (flags, details string) {
	const reset = "upstream_reset_before_response_started"
	switch f.Code {
	case BlockedAddress, BlockedPort, NotAllowed:
		return "UAEX", "rbac_access_denied_matched_policy[whsentry]"
	case Unresolved:
		return "DF", "dns_resolution_failure"
	case Timeout:
		if f.Delivered == DeliveredNo {
			return "UF", reset + "{connection_timeout}"
		}
		return "UT", "upstream_response_timeout"
	case Handshake, Unreachable, Certificate:
		return "UF", reset + "{connection_failure}"
	case BadResponse:
		if f.error == "connection_terminated" || f.error == "http_response_incomplete" {
			return "UC", reset + "{connection_termination}"
		}
		return "UPE", reset + "{protocol_error}"
	case TooMany, BreakerOpen, OverLimit:
		return "UO", "overflow"
	}
	return "-", "direct_response"
}
