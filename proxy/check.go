package proxy

import (
	"net/http"
	"time"

	"whsentry/guard"
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"
	"whsentry/proxy/upstream"
	"whsentry/proxy/urlcheck"
)

// The URL check: what would become of a request to a URL, for the page where customers type theirs in. It is asked of a
// listener, and goes as far as a request does before its first byte leaves: the same rules, resolver, guard and limits. What
// it asks and is answered is in urlcheck.

// isCheck reports whether the request asks the proxy itself for a URL check. Inside an intercepted CONNECT a path is the
// destination's.
func (ex *exchange) isCheck() bool {
	return urlcheck.IsTarget(ex.head.Target) && ex.client.within == nil && string(ex.method()) != http.MethodConnect
}

// check answers a URL check, which has been refused already where f is not nil.
func (ex *exchange) check(f *reason.Failure) *reason.Failure {
	var q urlcheck.Question
	if f == nil {
		q, f = ex.readCheck()
	}
	if f == nil && ex.awaitsContinue() {
		f = ex.bidContinue()
	}
	if f = ex.readBody(f); f != nil {
		return f
	}
	ex.body.Drop()
	ex.beginDeadline()
	addresses, f := ex.try(&q)
	if f != nil && urlcheck.IsNoVerdict(f) {
		return f
	}
	return ex.answerCheck(&q, addresses, f)
}

// readCheck reads what is asked.
func (ex *exchange) readCheck() (urlcheck.Question, *reason.Failure) {
	h := &ex.head
	if !ex.sender.TakeCheck(time.Now()) {
		return urlcheck.Question{}, reason.Newf(reason.OverLimit, "more than 20 URL checks a second")
	}
	if m := string(h.Method); m != http.MethodGet && m != http.MethodHead {
		f := reason.Newf(reason.Malformed, "malformed request: %s answers GET and HEAD alone", urlcheck.Path)
		f.Status, f.Allow = http.StatusMethodNotAllowed, urlcheck.Methods
		return urlcheck.Question{}, f
	}
	if err := h.CheckHost(); err != nil {
		return urlcheck.Question{}, reason.OfMessage(err)
	}
	if err := h.CheckSentryFields(); err != nil {
		return urlcheck.Question{}, reason.OfMessage(err)
	}
	if f := ex.noteDeadline(); f != nil {
		return urlcheck.Question{}, f
	}
	return urlcheck.Parse(string(h.Target))
}

// try goes as far with the URL as is asked.
func (ex *exchange) try(q *urlcheck.Question) ([]guard.Judged, *reason.Failure) {
	if f := ex.aimAt([]byte(q.URL)); f != nil {
		return nil, f
	}
	if !q.Connect {
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

// answerCheck tells the client the verdict.
func (ex *exchange) answerCheck(q *urlcheck.Question, addresses []guard.Judged, f *reason.Failure) *reason.Failure {
	tellAll, text := ex.run.cfg.Answers.Text == reason.TextFull && ex.mayKnowAddresses(), ""
	if f != nil {
		ex.remote, text = ex.triedUpstream(f), f.Code.Generic()
		if tellAll {
			text = ex.run.cfg.Answers.ClientText(f)
		}
	}
	a := urlcheck.NewAnswer(q.URL, f, text)
	if ex.wouldDeny {
		a.WouldDeny = reason.NotAllowed
	}
	if tellAll {
		a.Show(addresses)
	}
	body, err := a.Body()
	if err != nil {
		return reason.Newf(reason.Internal, "internal error: %v", err)
	}
	ex.keep = ex.keep && !ex.client.proxy.clients.Stopping()
	out := urlcheck.AppendHead(ex.borrowOut(), len(body), time.Now(), ex.connectionOption())
	if string(ex.method()) != http.MethodHead {
		out = append(out, body...)
		ex.responseBytes = int64(len(body))
	}
	ex.out, ex.status, ex.begun = out, http.StatusOK, true
	ex.client.place.offer()
	return ex.toClient(out)
}

// mayKnowAddresses reports whether the client may be told addresses, where reasonText lets anybody be.
func (ex *exchange) mayKnowAddresses() bool {
	return !ex.run.policy.HasClients() || ex.sender.CheckAddresses
}
