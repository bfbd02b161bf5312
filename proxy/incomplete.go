package proxy

import (
	"strconv"

	"whsentry/proxy/http1"
	"whsentry/proxy/reason"
	"whsentry/proxy/upstream"
)

// passWhatCame is passBody under incompleteResponses: pass. The body is read to its end before any of it is passed on,
// and where it does not get there, what came of it is a whole message for the client: its webhook has been answered, and an
// error would have it sent again. limit is maxResponseBodySize.
func (ex *exchange) passWhatCame(body *upstream.Body, limit int64) *reason.Failure {
	large := ex.resp.ContentLength > limit
	if large {
		body.EndAfter(limit)
	}
	data, f := ex.takeAll(body, limit)
	if f != nil {
		f = ex.upstreamFailure(f)
	}
	switch {
	case f != nil && f.Status == reason.StatusClientGone:
		ex.drop(upstream.CloseClient)
		return f
	case large:
		f = ex.largeResponse()
	case f == nil:
		ex.settle(body.Clean())
		return ex.answer(http1.ByLength, body.Total(), data)
	}
	ex.drop(upstream.CloseError)
	f.Happened(ex.written, ex.resp.Received)
	ex.failed, ex.reason, ex.begun = f, f.Code, true
	ex.beginAnswer(http1.ByLength, int64(len(data)))
	ex.out = appendIncomplete(ex.out, f.Code)
	return ex.endAnswer(data)
}

// appendIncomplete adds to a head why the body is not all that the destination meant to send.
func appendIncomplete(head []byte, code reason.Code) []byte {
	head = append(head[:len(head)-len("\r\n")], "X-Whsentry-Incomplete: "...)
	return append(strconv.AppendInt(head, int64(code), 10), "\r\n\r\n"...)
}

// takeAll reads the body to its end, or as far as it comes, but not over limit; f says what the end was.
func (ex *exchange) takeAll(body *upstream.Body, limit int64) (whole []byte, f *reason.Failure) {
	ex.beginWait(ex.held, nil)
	defer ex.endWait()
	for {
		data, err := body.Next()
		f := ex.bodyRead(err)
		data = data[:min(int64(len(data)), limit-int64(len(whole)))]
		if budget := &ex.client.proxy.buffered; !budget.Take(&ex.body.Held, int64(len(data))) {
			return whole, budget.Exceeded("bodies")
		}
		ended := body.Ended() || f != nil
		if ended && whole == nil {
			return data, f // it came in one piece
		}
		whole = append(ex.stash[:len(whole)], data...)
		ex.stash = whole
		if ended {
			return whole, f
		}
	}
}
