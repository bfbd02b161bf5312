package proxy

import (
	"math"
	"strconv"

	"whsentry/ca"
	"whsentry/proxy/http1"
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"
	"whsentry/proxy/upstream"
)

// wholeLimit is up to which size a response's body is read whole before any of it is passed on, in bytes: what goes
// wrong within it is then a clear error.
const wholeLimit = 64 * kiB

// passBody passes the response on and lays the connection to rest, or closes it.
func (ex *exchange) passBody() *reason.Failure {
	r := &ex.resp
	isHead := string(ex.method()) == "HEAD"
	if r.Bodiless(isHead) {
		return ex.passBodiless(isHead)
	}
	limit := ex.terms.MaxResponseBodySize
	var body upstream.Body
	body.Begin(&ex.call, r, limit, ex.run.cfg.MaxHeaderSize)
	if ex.run.cfg.IncompleteResponses == IncompletePass {
		return ex.passWhatCame(&body, limit)
	}
	if r.ContentLength > limit {
		ex.drop(upstream.CloseError)
		return ex.largeResponse()
	}
	if r.ContentLength <= wholeLimit {
		first, f := ex.takeFirst(&body)
		if f != nil {
			f = ex.upstreamFailure(f)
			ex.drop(upstream.CloseError)
			return f
		}
		if body.Ended() {
			ex.settle(body.Clean())
			return ex.answer(http1.ByLength, body.Total(), first)
		}
		return ex.stream(&body, first)
	}
	return ex.stream(&body, nil)
}

func (ex *exchange) largeResponse() *reason.Failure {
	return reason.Newf(reason.LargeResponse, "response body larger than %d bytes", ex.terms.MaxResponseBodySize).Over(ex.terms.Keys.MaxResponseBodySize)
}

// passBodiless passes on what has no body: the answer to a HEAD, a 204, a 304. A 204 that announces one may be followed
// by it, later.
func (ex *exchange) passBodiless(isHead bool) *reason.Failure {
	r := &ex.resp
	length, how := r.ContentLength, http1.NoBody
	if length >= 0 && length < math.MaxInt64 && (isHead || r.Status == 304) && r.Status != 204 {
		how = http1.ByLength
	}
	ex.settle(r.Status != 204 || length <= 0 && !r.Chunked)
	return ex.answer(how, length, nil)
}

// settle ends the use of the connection after a whole response: it rests, if it is fit for another request.
func (ex *exchange) settle(clean bool) {
	u := ex.held
	broken, _ := ex.call.Broken()
	fit := clean && ex.resp.Reusable() && ex.call.In.Len() == 0 && !ex.call.Unsent() && !broken
	ex.held = nil
	if fit {
		ex.client.proxy.pool.Put(u, ex.at, ex.until)
	} else {
		ex.client.proxy.pool.Discard(u, upstream.CloseDestination)
	}
}

// answer writes a response whose body is there in full.
func (ex *exchange) answer(how http1.Framing, length int64, body []byte) *reason.Failure {
	ex.beginAnswer(how, length)
	return ex.endAnswer(body)
}

// beginAnswer puts the head of a response in out.
func (ex *exchange) beginAnswer(how http1.Framing, length int64) {
	ex.keep = ex.keep && how != http1.ByClose && !ex.client.proxy.clients.Stopping()
	ex.status = ex.resp.Status
	ex.out = ex.appendResponseHead(ex.borrowOut(), &ex.resp, how, length)
	ex.resp.Fields = keepFields(ex.resp.Fields) // they have served their purpose, and the body may take its time
}

// endAnswer sends the head, and the body with it.
func (ex *exchange) endAnswer(body []byte) *reason.Failure {
	ex.client.place.offer()
	var err error
	if ex.out, err = ex.client.SendBoth(ex.out, body); err != nil {
		ex.begun = true
		return reason.ClientGone()
	}
	ex.responseBytes = int64(len(body))
	return nil
}

// takeFirst reads the body up to wholeLimit. Where it is longer, body has not ended and what was read is its
// beginning.
func (ex *exchange) takeFirst(body *upstream.Body) (whole []byte, f *reason.Failure) {
	ex.beginWait(ex.held, nil)
	defer ex.endWait()
	if ex.resp.ContentLength >= 0 {
		err := body.ReadAll()
		if f := ex.bodyRead(err); f != nil {
			return nil, f
		}
	}
	for {
		data, err := body.Next()
		f := ex.bodyRead(err)
		if f != nil {
			return nil, f
		}
		if body.Ended() && whole == nil {
			return data, nil // it came in one piece
		}
		whole = append(ex.stash[:len(whole)], data...)
		ex.stash = whole
		if body.Ended() || len(whole) > wholeLimit {
			return whole, nil
		}
	}
}

// bodyRead notes that more of the body has been read, or what the error of that means.
func (ex *exchange) bodyRead(err error) *reason.Failure {
	ex.at = max(ex.at, ex.call.At)
	switch {
	case err == nil:
		return nil
	case err == upstream.ErrBodyTooLarge:
		return ex.largeResponse()
	case ca.IsRenegotiation(err):
		return ex.handshakeFailure(err)
	}
	return reason.OfBody(err, ex.held.Remote())
}

// stream passes a body on as it comes, after what has been read of it already.
func (ex *exchange) stream(body *upstream.Body, first []byte) *reason.Failure {
	how := ex.chooseFraming()
	ex.beginAnswer(how, ex.resp.ContentLength)
	ex.begun = true
	f := ex.sendPiece(how, first, ex.out)
	for f == nil && !body.Ended() {
		ex.beginWait(ex.held, nil)
		data, err := body.Next()
		f = ex.bodyRead(err)
		ex.endWait()
		if f == nil {
			if body.Ended() && how != http1.ByChunks {
				ex.client.place.offer()
			}
			f = ex.sendPiece(how, data, nil)
		}
	}
	if f == nil && how == http1.ByChunks {
		ex.client.place.offer()
		f = ex.toClient([]byte("0\r\n\r\n"))
	}
	if f != nil {
		return ex.cut(how, f)
	}
	ex.at = socket.Now() // the client may have taken its time
	ex.settle(body.Clean())
	return nil
}

// chooseFraming says how the client is told where a body of yet unknown end ends.
func (ex *exchange) chooseFraming() http1.Framing {
	switch {
	case ex.resp.ContentLength >= 0:
		return http1.ByLength
	case ex.head.HTTP10:
		return http1.ByClose
	}
	return http1.ByChunks
}

// sendPiece sends data to the client, after head where that is given. While the client takes it, the destination is
// not idle by its own doing.
func (ex *exchange) sendPiece(how http1.Framing, data, head []byte) *reason.Failure {
	ex.held.Pause()
	if len(data) == 0 {
		if head == nil {
			return nil
		}
		return ex.toClient(head)
	}
	if how != http1.ByChunks {
		memory, err := ex.client.SendBoth(head, data)
		if head != nil {
			ex.out = memory
		}
		if err != nil {
			return reason.ClientGone()
		}
		ex.responseBytes += int64(len(data))
		return nil
	}
	out := head
	if out == nil {
		out = ex.borrowOut()
	}
	out = strconv.AppendInt(out, int64(len(data)), 16)
	out = append(append(out, '\r', '\n'), data...)
	ex.out = append(out, '\r', '\n')
	if f := ex.toClient(ex.out); f != nil {
		return f
	}
	ex.responseBytes += int64(len(data))
	return nil
}

func (ex *exchange) toClient(p []byte) *reason.Failure {
	if err := ex.client.Send(p); err != nil {
		return reason.ClientGone()
	}
	return nil
}

// cut ends an answer that has begun and cannot be finished, so that the client can tell: by the missing bytes, or,
// where it could not count them, by a reset.
func (ex *exchange) cut(how http1.Framing, f *reason.Failure) *reason.Failure {
	f = ex.upstreamFailure(f)
	why := upstream.CloseError
	if f.Status == reason.StatusClientGone {
		why = upstream.CloseClient
	}
	ex.drop(why)
	if ex.head.HTTP10 || how == http1.ByClose {
		ex.client.Reset()
	}
	return f
}
