package urlcheck

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"whsentry/guard"
	"whsentry/proxy/reason"
)

// The verdicts.
const (
	allowed     = "allowed"
	refused     = "refused"
	unresolved  = "unresolved"
	unreachable = "unreachable"
	untrusted   = "untrusted"
)

// Answer is what the client is told.
type Answer struct {
	URL       string      `json:"url"`
	Verdict   string      `json:"verdict"`
	Code      reason.Code `json:"reason_code"`
	Reason    string      `json:"reason"`
	Source    string      `json:"source"`
	Retry     string      `json:"retry"`
	WouldDeny reason.Code `json:"would_deny,omitzero"`
	Addresses []Address   `json:"addresses,omitzero"` // nil: the client is told none
}

// Address is one of the addresses of the URL's host.
type Address struct {
	Address string `json:"address"`
	Verdict string `json:"verdict"`
	Rule    string `json:"rule"`
}

// NewAnswer is the answer about a URL with which there is f, as text says; nil: nothing is.
func NewAnswer(url string, f *reason.Failure, text string) *Answer {
	a := &Answer{URL: url, Verdict: verdictOf(f)}
	if f != nil {
		a.Code, a.Reason, a.Source, a.Retry = f.Code, text, f.Source.String(), f.Retry().String()
	}
	return a
}

// Show has the client told the addresses.
func (a *Answer) Show(addresses []guard.Judged) {
	a.Addresses = make([]Address, 0, len(addresses))
	for _, judged := range addresses {
		shown := Address{Address: judged.Addr.String(), Verdict: refused, Rule: judged.Rule.String()}
		if judged.Allowed {
			shown.Verdict = allowed
		}
		a.Addresses = append(a.Addresses, shown)
	}
}

// Body returns the answer as JSON.
func (a *Answer) Body() ([]byte, error) {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false) // it is not HTML, and says so
	err := e.Encode(a)
	return body.Bytes(), err
}

// AppendHead appends the head of an answer whose body has that size, given at that time. connection is the value of its
// Connection field; "": it needs none.
func AppendHead(dst []byte, size int, at time.Time, connection string) []byte {
	dst = append(dst, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"+
		"Cache-Control: no-store\r\nDate: "...)
	dst = at.UTC().AppendFormat(dst, http.TimeFormat)
	dst = strconv.AppendInt(append(dst, "\r\nContent-Length: "...), int64(size), 10)
	if connection != "" {
		dst = append(append(dst, "\r\nConnection: "...), connection...)
	}
	return append(dst, "\r\n\r\n"...)
}

// IsNoVerdict reports whether f says nothing of the URL but something of the check, so that it is answered as everywhere.
func IsNoVerdict(f *reason.Failure) bool {
	switch f.Code {
	case reason.None, reason.Internal, reason.Unauthorized, reason.OverLimit:
		return true
	case reason.TooMany:
		return !overDestinationLimit(f)
	}
	return false
}

// overDestinationLimit tells 1014 of the destination from that of the proxy.
func overDestinationLimit(f *reason.Failure) bool {
	return f.Limit == reason.LimitMaxConnectionsPerDestination || f.Limit == reason.LimitDestinationsMaxConnections
}

// verdictOf is the word for a URL with which there is f; nil is nothing.
func verdictOf(f *reason.Failure) string {
	if f == nil {
		return allowed
	}
	switch f.Code {
	case reason.Unresolved:
		return unresolved
	case reason.Timeout, reason.Handshake, reason.Unreachable, reason.BadResponse, reason.TooMany:
		return unreachable
	case reason.Certificate:
		return untrusted
	}
	return refused
}
