package proxy

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"whsentry/guard"
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"
	"whsentry/proxy/upstream"
)

// The URL check: what would become of a request to a URL, for the page where customers type theirs in. It is asked of a
// listener, and goes as far as a request does before its first byte leaves: the same rules, resolver, guard and limits.
const (
	checkPath    = "/check"
	checkMethods = "GET, HEAD"
)

// isCheck reports whether the request asks the proxy itself for a URL check. Inside an intercepted CONNECT a path is the
// destination's.
func (ex *exchange) isCheck() bool {
	rest, found := bytes.CutPrefix(ex.head.Target, []byte(checkPath))
	return found && (len(rest) == 0 || rest[0] == '?') && ex.client.within == nil && string(ex.method()) != http.MethodConnect
}

// The verdicts.
const (
	checkAllowed     = "allowed"
	checkRefused     = "refused"
	checkUnresolved  = "unresolved"
	checkUnreachable = "unreachable"
	checkUntrusted   = "untrusted"
)

// checkVerdict is the answer.
type checkVerdict struct {
	URL       string         `json:"url"`
	Verdict   string         `json:"verdict"`
	Code      reason.Code    `json:"reason_code"`
	Reason    string         `json:"reason"`
	Source    string         `json:"source"`
	Retry     string         `json:"retry"`
	WouldDeny reason.Code    `json:"would_deny,omitzero"`
	Addresses []checkAddress `json:"addresses,omitzero"` // nil: the client is told none
}

// checkAddress is one of the addresses of the URL's host.
type checkAddress struct {
	Address string `json:"address"`
	Verdict string `json:"verdict"`
	Rule    string `json:"rule"`
}

// check answers a URL check, which has been refused already where f is not nil.
func (ex *exchange) check(f *reason.Failure) *reason.Failure {
	var q checkQuestion
	if f == nil {
		q, f = ex.readCheck()
	}
	if f == nil && ex.awaitsContinue() {
		f = reason.Of(ex.client.Send([]byte("HTTP/1.1 100 Continue\r\n\r\n")))
		ex.head.Expect = false
	}
	if f = ex.readBody(f); f != nil {
		return f
	}
	ex.body.Drop()
	ex.beginDeadline()
	addresses, f := ex.try(&q)
	if f != nil && concernsCheckItself(f) {
		return f
	}
	return ex.answerCheck(&q, addresses, f)
}

// checkQuestion is what is asked.
type checkQuestion struct {
	url     string // decoded
	connect bool   // whether to connect, too
}

// readCheck reads what is asked.
func (ex *exchange) readCheck() (checkQuestion, *reason.Failure) {
	h := &ex.head
	if !ex.takeCheck(time.Now()) {
		return checkQuestion{}, reason.Newf(reason.OverLimit, "more than 20 URL checks a second")
	}
	if m := string(h.Method); m != http.MethodGet && m != http.MethodHead {
		f := reason.Newf(reason.Malformed, "malformed request: %s answers GET and HEAD alone", checkPath)
		f.Status, f.Allow = http.StatusMethodNotAllowed, checkMethods
		return checkQuestion{}, f
	}
	if err := h.CheckHost(); err != nil {
		return checkQuestion{}, reason.OfMessage(err)
	}
	if err := h.CheckSentryFields(); err != nil {
		return checkQuestion{}, reason.OfMessage(err)
	}
	if f := ex.noteDeadline(); f != nil {
		return checkQuestion{}, f
	}
	_, query, _ := strings.Cut(string(h.Target), "?")
	return parseCheck(query)
}

// takeCheck counts one check more of the client's, or returns false where it has had its share.
func (ex *exchange) takeCheck(now time.Time) bool { return ex.sender.TakeCheck(now) }

// parseCheck reads a query. It decodes once, and a plus is a plus: form encoding would make http://a/?b+c another URL.
func parseCheck(query string) (q checkQuestion, f *reason.Failure) {
	seen := make(map[string]bool)
	for parameter := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(parameter, "=")
		name, err := url.PathUnescape(name)
		if err == nil && (name == "url" || name == "connect") {
			value, err = url.PathUnescape(value)
		}
		if err != nil {
			return q, reason.Newf(reason.Malformed, "malformed request: the query of %s cannot be decoded", checkPath)
		}
		switch name {
		case "url":
			q.url = value
		case "connect":
			if value != "true" && value != "false" {
				return q, reason.Newf(reason.Malformed, "malformed request: connect of %s is neither true nor false", checkPath)
			}
			q.connect = value == "true"
		default:
			continue
		}
		if seen[name] {
			return q, reason.Newf(reason.Malformed, "malformed request: %s has more than one %s", checkPath, name)
		}
		seen[name] = true
	}
	if q.url == "" {
		return q, reason.Newf(reason.Malformed, "malformed request: %s has no url; want %[1]s?url= and an encoded URL", checkPath)
	}
	return q, nil
}

// try goes as far with the URL as is asked.
func (ex *exchange) try(q *checkQuestion) ([]guard.Judged, *reason.Failure) {
	if f := ex.aimAt([]byte(q.url)); f != nil {
		return nil, f
	}
	if !q.connect {
		return ex.judgeEach()
	}
	place, f := ex.reservePlace() // before the name is looked up, as for a request
	if f != nil {
		return nil, f
	}
	addresses, f := ex.judgeEach()
	if f != nil {
		ex.client.proxy.pool.Release(place)
		return addresses, f
	}
	ex.breaking.asked = true // it neither counts for the breaker nor is refused by it
	if f = ex.acquire(place, true); f == nil {
		ex.drop(upstream.CloseClient)
	}
	return addresses, f
}

// judgeEach is judge, with the addresses.
func (ex *exchange) judgeEach() ([]guard.Judged, *reason.Failure) {
	ctx := ex.beginMaking(nil)
	defer ex.endMaking(ctx)
	addresses, err := ex.dialer().JudgeEach(ctx, ex.address.Name(), ex.address.Port())
	ex.at = socket.Now()
	if err != nil {
		return addresses, ex.connectFailure(err)
	}
	return addresses, nil
}

// concernsCheckItself reports whether f says nothing of the URL, so that it is answered as everywhere.
func concernsCheckItself(f *reason.Failure) bool {
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
		return checkAllowed
	}
	switch f.Code {
	case reason.Unresolved:
		return checkUnresolved
	case reason.Timeout, reason.Handshake, reason.Unreachable, reason.BadResponse, reason.TooMany:
		return checkUnreachable
	case reason.Certificate:
		return checkUntrusted
	}
	return checkRefused
}

// answerCheck tells the client the verdict.
func (ex *exchange) answerCheck(q *checkQuestion, addresses []guard.Judged, f *reason.Failure) *reason.Failure {
	v := checkVerdict{URL: q.url, Verdict: verdictOf(f)}
	if ex.wouldDeny {
		v.WouldDeny = reason.NotAllowed
	}
	tellAll := ex.run.cfg.Answers.Text == reason.TextFull && ex.mayKnowAddresses()
	if f != nil {
		ex.remote = ex.triedUpstream(f)
		v.Code, v.Source, v.Retry, v.Reason = f.Code, f.Source.String(), f.Retry().String(), f.Code.Generic()
		if tellAll {
			v.Reason = ex.run.cfg.Answers.ClientText(f)
		}
	}
	if tellAll {
		v.Addresses = make([]checkAddress, 0, len(addresses))
		for _, a := range addresses {
			v.Addresses = append(v.Addresses, showJudged(a))
		}
	}
	return ex.answerJSON(&v)
}

// mayKnowAddresses reports whether the client may be told addresses, where reasonText lets anybody be.
func (ex *exchange) mayKnowAddresses() bool {
	return !ex.run.policy.HasClients() || ex.sender.CheckAddresses
}

func showJudged(a guard.Judged) checkAddress {
	shown := checkAddress{Address: a.Addr.String(), Verdict: checkRefused, Rule: a.Rule.String()}
	if a.Allowed {
		shown.Verdict = checkAllowed
	}
	return shown
}

// answerJSON answers the client with 200 and v.
func (ex *exchange) answerJSON(v any) *reason.Failure {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false) // it is not HTML, and says so
	if err := e.Encode(v); err != nil {
		return reason.Newf(reason.Internal, "internal error: %v", err)
	}
	ex.keep = ex.keep && !ex.client.proxy.clients.Stopping()
	out := append(ex.borrowOut(), "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"+
		"Cache-Control: no-store\r\nDate: "...)
	out = time.Now().UTC().AppendFormat(out, http.TimeFormat)
	out = strconv.AppendInt(append(out, "\r\nContent-Length: "...), int64(body.Len()), 10)
	if option := ex.connectionOption(); option != "" {
		out = append(append(out, "\r\nConnection: "...), option...)
	}
	out = append(out, "\r\n\r\n"...)
	if string(ex.method()) != http.MethodHead {
		out = append(out, body.Bytes()...)
		ex.responseBytes = int64(body.Len())
	}
	ex.out, ex.status, ex.begun = out, http.StatusOK, true
	ex.client.place.offer()
	if ex.client.Send(out) != nil {
		return reason.ClientGone()
	}
	return nil
}
