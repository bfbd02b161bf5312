package proxy

import (
	"errors"
	"sync"
	"sync/atomic"

	"whsentry/proxy/reason"
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

// reserveBody refuses a body that is too large by its own Content-Length, before any of it is read.
func (ex *exchange) reserveBody() *reason.Failure {
	if ex.head.chunked {
		return nil
	}
	if ex.head.contentLength > ex.run.cfg.MaxRequestBodySize {
		return ex.largeBody()
	}
	return ex.reserve(ex.head.contentLength)
}

func (ex *exchange) largeBody() *reason.Failure {
	f := reason.Newf(reason.LargeRequest, "request body larger than %d bytes", ex.run.cfg.MaxRequestBodySize)
	f.Fatal = true
	return f
}

func (ex *exchange) reserve(n int64) *reason.Failure {
	if ex.client.proxy.buffered.take(&ex.reserved, n) {
		return nil
	}
	f := reason.Newf(reason.TooMany, "too many request bodies at once: %d bytes are buffered at most", ex.client.proxy.buffered.limit.Load()).Over(reason.LimitMaxBufferedBytes)
	f.Fatal = true
	return f
}

// takeBody reads the body into memory. Each byte that comes gives the client another clientTimeout.
func (ex *exchange) takeBody() *reason.Failure {
	switch length := ex.head.contentLength; {
	case ex.head.chunked:
		return ex.takeChunked()
	case length <= bufferKept:
		return ex.takeSmall(int(length))
	default:
		return ex.takeLarge(int(length))
	}
}

// takeSmall reads a body behind its head, where it is not copied again.
func (ex *exchange) takeSmall(length int) *reason.Failure {
	ex.in.grow(length)
	for ex.in.len() < length {
		ex.requestBytes = int64(ex.in.len())
		if f := ex.more(); f != nil {
			return f
		}
	}
	ex.body = ex.in.unused()[:length]
	ex.requestBytes = int64(length)
	ex.in.skip(length)
	return nil
}

// takeLarge reads a body into memory of its own, which grows with what has come: a client that only announces much
// costs little.
func (ex *exchange) takeLarge(length int) *reason.Failure {
	first := min(length, ex.in.len())
	ex.large = append(growBody(ex.large[:0], smallestBody), ex.in.unused()[:first]...)
	ex.in.skip(first)
	for len(ex.large) < length {
		ex.large = growBody(ex.large, 1)
		ex.client.limitFrom(ex.at, ex.run.cfg.ClientTimeout)
		n, err := ex.client.conn.Read(ex.large[len(ex.large):min(length, cap(ex.large))])
		ex.at = now()
		ex.large = ex.large[:len(ex.large)+n]
		ex.requestBytes = int64(len(ex.large))
		if err != nil && n == 0 {
			return reason.Of(ex.client.readFailure(err))
		}
	}
	ex.body = ex.large
	return nil
}

// takeChunked reads a chunked body and takes its coding off.
func (ex *exchange) takeChunked() *reason.Failure {
	ex.chunks.reset(ex.run.cfg.MaxHeaderSize)
	ex.large = ex.large[:0]
	start := ex.in.from
	for {
		for ex.in.len() > 0 && !ex.chunks.done() {
			data, n, err := ex.chunks.next(ex.in.unused())
			ex.in.skip(n)
			if err != nil {
				return ex.chunkFailure(err)
			}
			if int64(len(ex.large)+len(data)) > ex.run.cfg.MaxRequestBodySize {
				return ex.largeBody()
			}
			if f := ex.reserve(int64(len(data))); f != nil {
				return f
			}
			ex.large = append(growBody(ex.large, len(data)), data...)
			ex.requestBytes = int64(len(ex.large))
		}
		ex.body = ex.large
		if ex.chunks.done() {
			return nil
		}
		ex.in.from, ex.in.to = start, start // all of it has been used
		if len(ex.in.free()) < bufferSize/2 {
			ex.in.grow(bufferSize)
			start = ex.in.from
		}
		if f := ex.more(); f != nil {
			return f
		}
	}
}

func (ex *exchange) chunkFailure(err error) *reason.Failure {
	if errors.Is(err, errTrailerLarge) {
		return reason.LargeHeadf("trailer section larger than %d bytes", ex.run.cfg.MaxHeaderSize)
	}
	return reason.Malformedf("%s", err)
}

// more reads more of the body.
func (ex *exchange) more() *reason.Failure {
	ex.client.limitFrom(ex.at, ex.run.cfg.ClientTimeout)
	return reason.Of(ex.client.fill(ex))
}

// Large bodies' memory is kept for other requests by size: powers of two from smallestBody on.
const (
	smallestBody = 2 * bufferKept
	bodyClasses  = 8 // up to 16 MiB; what is larger is left to the garbage collector
)

var bodies [bodyClasses]sync.Pool

// bodyClass returns the smallest class that holds size bytes, or -1 where none does.
func bodyClass(size int) int {
	for class := range bodyClasses {
		if size <= smallestBody<<class {
			return class
		}
	}
	return -1
}

// growBody returns body with room for n bytes more.
func growBody(body []byte, n int) []byte {
	if cap(body)-len(body) >= n {
		return body
	}
	size := max(len(body)+n, bufferSize, min(2*cap(body), smallestBody<<(bodyClasses-1)))
	if size <= bufferKept {
		return append(make([]byte, 0, size), body...)
	}
	var grown []byte
	if class := bodyClass(size); class < 0 {
		grown = make([]byte, 0, size+size/4)
	} else if pooled, ok := bodies[class].Get().(*[]byte); ok {
		grown = (*pooled)[:0]
	} else {
		grown = make([]byte, 0, smallestBody<<class)
	}
	grown = append(grown, body...)
	releaseBody(body)
	return grown
}

// releaseBody keeps body's memory for another request, where it is worth that.
func releaseBody(body []byte) {
	if class := bodyClass(cap(body)); cap(body) >= smallestBody && class >= 0 && cap(body) == smallestBody<<class {
		bodies[class].Put(&body)
	}
}
