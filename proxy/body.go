package proxy

import (
	"errors"
	"sync/atomic"

	"whsentry/proxy/http1"
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"
)

// budget is the memory that request bodies may take over all clients.
type budget struct {
	used  *atomic.Int64 // whsentry_buffered_bytes
	limit atomic.Int64  // maxBufferedBytes
}

// take adds n bytes to what *held says is held, unless that would pass the limit.
func (b *budget) take(held *int64, n int64) bool {
	if sum := b.used.Add(n); sum > b.limit.Load() || sum < 0 { // a limit next to the largest number makes it overflow
		b.used.Add(-n)
		return false
	}
	*held += n
	return true
}

// give returns all that is held.
func (b *budget) give(held *int64) {
	if *held != 0 {
		b.used.Add(-*held)
		*held = 0
	}
}

// checkLength refuses a body that is too large by its own Content-Length, before any of it is read.
func (ex *exchange) checkLength() *reason.Failure {
	switch length := ex.head.ContentLength; {
	case ex.head.Chunked:
		return nil
	case length > ex.run.cfg.MaxRequestBodySize:
		return ex.largeBody()
	case length > ex.client.proxy.buffered.limit.Load():
		return ex.manyBodies()
	}
	return nil
}

func (ex *exchange) largeBody() *reason.Failure {
	f := reason.Newf(reason.LargeRequest, "request body larger than %d bytes", ex.run.cfg.MaxRequestBodySize)
	f.Fatal = true
	return f
}

// reserve counts n bytes that have come, not what has been announced: a client that only announces much costs nothing.
func (ex *exchange) reserve(n int) *reason.Failure {
	if ex.client.proxy.buffered.take(&ex.reserved, int64(n)) {
		return nil
	}
	return ex.manyBodies()
}

func (ex *exchange) manyBodies() *reason.Failure {
	f := reason.Newf(reason.TooMany, "too many request bodies at once: %d bytes are buffered at most", ex.client.proxy.buffered.limit.Load()).
		Over(reason.LimitMaxBufferedBytes)
	f.Fatal = true
	return f
}

// takeBody reads the body into memory of its own, which grows with what has come, so that nothing else is held while
// the destination is waited for. Each byte that comes gives the client another clientTimeout.
func (ex *exchange) takeBody() (f *reason.Failure) {
	if ex.head.Chunked {
		f = ex.takeChunked()
	} else {
		f = ex.takeLength(int(ex.head.ContentLength))
	}
	ex.client.SettleInput()
	return f
}

// takeLength reads a body of a known length.
func (ex *exchange) takeLength(length int) *reason.Failure {
	c := ex.client
	first := c.In.Unused()[:min(length, c.In.Len())]
	if f := ex.keepBody(first); f != nil {
		return f
	}
	c.In.Skip(len(first))
	for len(ex.body) < length {
		c.restOpened() // no slow client holds a destination's connection
		ex.growBody(1)
		c.LimitFrom(ex.at, ex.run.cfg.ClientTimeout)
		n, err := c.Receive(ex.body[len(ex.body):min(length, cap(ex.body))])
		ex.at = socket.Now()
		if err != nil {
			return reason.Of(err)
		}
		if f := ex.reserve(n); f != nil {
			return f
		}
		ex.body = ex.body[:len(ex.body)+n]
		ex.requestBytes = int64(len(ex.body))
	}
	return nil
}

// keepBody adds what has come of the body.
func (ex *exchange) keepBody(data []byte) *reason.Failure {
	if f := ex.reserve(len(data)); f != nil {
		return f
	}
	ex.growBody(len(data))
	ex.body = append(ex.body, data...)
	ex.requestBytes = int64(len(ex.body))
	return nil
}

// takeChunked reads a chunked body and takes its coding off.
func (ex *exchange) takeChunked() *reason.Failure {
	c := ex.client
	var chunks http1.Chunks
	chunks.Reset(ex.run.cfg.MaxHeaderSize, false)
	for {
		for c.In.Len() > 0 && !chunks.Done() {
			data, n, err := chunks.Next(c.In.Unused())
			c.In.Skip(n)
			if err != nil {
				return ex.chunkFailure(err)
			}
			if chunks.Left() > ex.run.cfg.MaxRequestBodySize-ex.requestBytes-int64(len(data)) { // a sum could overflow
				return ex.largeBody()
			}
			if ex.skipping {
				ex.requestBytes += int64(len(data))
				continue
			}
			if f := ex.keepBody(data); f != nil {
				return f
			}
		}
		if chunks.Done() {
			return nil
		}
		c.restOpened()
		c.In.Clear()
		c.In.Grow(min(max(len(ex.body), socket.BufferSize), socket.BufferKept))
		c.LimitFrom(ex.bodyPause(), ex.run.cfg.ClientTimeout)
		err := c.Fill()
		ex.at = socket.Now()
		if err != nil {
			return reason.Of(err)
		}
	}
}

func (ex *exchange) chunkFailure(err error) *reason.Failure {
	if errors.Is(err, http1.ErrTrailersTooLarge) {
		return reason.LargeHeadf("trailer section larger than %d bytes", ex.run.cfg.MaxHeaderSize)
	}
	return reason.Malformedf("%s", err)
}

// growBody makes room for n bytes more.
func (ex *exchange) growBody(n int) {
	if cap(ex.body)-len(ex.body) >= n {
		return
	}
	old := ex.memory
	ex.memory = socket.AcquireMemory(max(len(ex.body)+n, min(2*cap(ex.body), socket.MemoryKept)))
	ex.body = append(ex.memory.Bytes(), ex.body...)
	if old != nil {
		old.Release()
	}
}

// forgetBody gives the body's memory back where the request, which has been sent, cannot be sent again: a webhook spends
// its life waiting for an answer. It counts until the request ends all the same, so that destinations which do not answer
// have no more taken in for them than maxBufferedBytes.
func (ex *exchange) forgetBody() {
	if !ex.reused || !ex.isIdempotent() {
		ex.dropBody()
	}
}

// dropBody gives the body's memory back.
func (ex *exchange) dropBody() {
	if ex.memory != nil {
		ex.memory.Release()
		ex.memory = nil
	}
	ex.body = nil
}
