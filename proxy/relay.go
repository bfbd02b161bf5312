package proxy

import (
	"errors"
	"io"
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

// responseBody reads a response's body and takes its framing off.
type responseBody struct {
	ex      *exchange
	left    int64 // of a body with a Content-Length; -1: none is known
	chunked bool
	chunks  http1.Chunks // of one that is
	total   int64        // read so far
	ended   bool
	wrong   error // with the chunks, after the data that has been returned
	// clean says that the body ended by its own framing, so that the connection can carry another request.
	clean bool
}

// passBody passes the response on and lays the connection to rest, or closes it.
func (ex *exchange) passBody() *reason.Failure {
	r := &ex.resp
	isHead := string(ex.method()) == "HEAD"
	if r.Bodiless(isHead) {
		return ex.passBodiless(isHead)
	}
	body := responseBody{ex: ex, left: r.ContentLength, chunked: r.Chunked}
	body.chunks.Reset(ex.run.cfg.MaxHeaderSize, true)
	limit := ex.terms.maxResponseBodySize
	if ex.run.cfg.IncompleteResponses == IncompletePass {
		return ex.passWhatCame(&body, limit)
	}
	if body.left > limit {
		ex.drop(upstream.CloseError)
		return ex.largeResponse()
	}
	if body.left <= wholeLimit {
		first, f := ex.takeFirst(&body)
		if f != nil {
			f = ex.upstreamFailure(f)
			ex.drop(upstream.CloseError)
			return f
		}
		if body.ended {
			ex.settle(body.clean)
			return ex.answer(http1.ByLength, body.total, first)
		}
		return ex.stream(&body, first)
	}
	return ex.stream(&body, nil)
}

func (ex *exchange) largeResponse() *reason.Failure {
	return reason.Newf(reason.LargeResponse, "response body larger than %d bytes", ex.terms.maxResponseBodySize).Over(ex.terms.keys.maxResponseBodySize)
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
func (ex *exchange) takeFirst(body *responseBody) (whole []byte, f *reason.Failure) {
	ex.beginWait(ex.held, nil)
	defer ex.endWait()
	if body.left >= 0 {
		if f := body.readAll(); f != nil {
			return nil, f
		}
	}
	for {
		data, f := body.next()
		if f != nil {
			return nil, f
		}
		if body.ended && whole == nil {
			return data, nil // it came in one piece
		}
		whole = append(ex.stash[:len(whole)], data...)
		ex.stash = whole
		if body.ended || len(whole) > wholeLimit {
			return whole, nil
		}
	}
}

// stream passes a body on as it comes, after what has been read of it already.
func (ex *exchange) stream(body *responseBody, first []byte) *reason.Failure {
	how := ex.chooseFraming(body)
	ex.beginAnswer(how, ex.resp.ContentLength)
	ex.begun = true
	f := ex.sendPiece(how, first, ex.out)
	for f == nil && !body.ended {
		var data []byte
		ex.beginWait(ex.held, nil)
		data, f = body.next()
		ex.endWait()
		if f == nil {
			if body.ended && how != http1.ByChunks {
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
	ex.settle(body.clean)
	return nil
}

// chooseFraming says how the client is told where a body of yet unknown end ends.
func (ex *exchange) chooseFraming(body *responseBody) http1.Framing {
	switch {
	case body.left >= 0:
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

// next returns more of the body, a part of the exchange's buffer. With the last of it, ended is set.
func (b *responseBody) next() (data []byte, f *reason.Failure) {
	ex := b.ex
	for {
		if ex.call.In.Len() > 0 || b.left == 0 {
			data, f = b.decode()
			b.total += int64(len(data))
			if f == nil && b.total > ex.terms.maxResponseBodySize {
				f = ex.largeResponse()
			}
			if f != nil || b.ended || len(data) > 0 {
				return data, f
			}
			continue
		}
		if f = b.read(); f != nil || b.ended {
			return nil, f
		}
	}
}

// decode takes what is in the buffer.
func (b *responseBody) decode() ([]byte, *reason.Failure) {
	up := &b.ex.call.In
	switch {
	case b.chunked:
		data, err := b.dechunk()
		if err != nil {
			return nil, reason.BadResponsef("%s", err)
		}
		b.ended = b.chunks.Done()
		b.clean = b.ended
		if b.chunks.OddTrailers() {
			b.ex.resp.Untidy |= http1.OddTrailers
		}
		return data, nil
	case b.left < 0:
		data := up.Unused()
		up.Skip(len(data))
		return data, nil
	}
	data := up.Unused()[:min(b.left, int64(up.Len()))]
	up.Skip(len(data))
	b.left -= int64(len(data))
	b.ended = b.left == 0
	b.clean = b.ended
	return data, nil
}

// dechunk takes the coding off all that is in the buffer. The data of its chunks moves together, over what has been
// used, so that a destination that sends them a byte at a time does not make each a write to the client.
func (b *responseBody) dechunk() ([]byte, error) {
	var data []byte
	up := &b.ex.call.In
	for b.wrong == nil && up.Len() > 0 && !b.chunks.Done() {
		piece, n, err := b.chunks.Next(up.Unused())
		up.Skip(n)
		if err != nil {
			b.wrong = err
			break
		}
		if data == nil {
			data = piece
		} else {
			data = append(data, piece...)
		}
	}
	if len(data) > 0 {
		return data, nil
	}
	return nil, b.wrong
}

// readAll reads what is left of a body with a Content-Length into the buffer, behind its head. So it is in one piece, and
// the next answer of this size comes with a single read, for the buffer stays as large.
func (b *responseBody) readAll() *reason.Failure {
	in := &b.ex.call.In
	in.Grow(int(b.left))
	b.ex.bodyStart = in.Mark()
	for int64(in.Len()) < b.left {
		if f := b.fill(); f != nil {
			return f
		}
	}
	return nil
}

// read reads more into the buffer, all of which has been used. A body without a length ends here.
func (b *responseBody) read() *reason.Failure {
	b.makeRoom()
	return b.fill()
}

func (b *responseBody) fill() *reason.Failure {
	ex := b.ex
	n, err := ex.call.Read(ex.call.In.Free())
	ex.call.In.Added(n)
	ex.at = ex.call.At
	_, torn := ex.call.Broken()
	if err == nil {
		return nil
	}
	untilClose := b.left < 0 && !b.chunked && !torn && ex.held.Killed() == upstream.CloseNone
	switch {
	case untilClose && errors.Is(err, upstream.ErrNoCloseNotify):
		ex.resp.Untidy |= http1.NoCloseNotify
		b.ended = true
		return nil
	case untilClose && errors.Is(err, io.EOF):
		b.ended = true
		return nil
	}
	if ca.IsRenegotiation(err) {
		return ex.handshakeFailure(err)
	}
	return reason.Incompletef("%s closed the connection within the body", ex.held.Remote())
}

// makeRoom makes room for what comes next, in place of what has been used. The head stays where it is, for it has
// not been passed on yet.
func (b *responseBody) makeRoom() {
	ex, want := b.ex, int64(socket.BufferSize)
	ex.call.In.Rewind(ex.bodyStart)
	switch {
	case b.left >= 0:
		want = min(b.left, socket.BufferKept)
	case b.total >= socket.BufferSize:
		want = socket.BufferKept
	}
	if int64(len(ex.call.In.Free())) < want {
		ex.call.In.Grow(int(want))
		ex.bodyStart = ex.call.In.Mark()
	}
}
