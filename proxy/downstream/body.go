package downstream

import (
	"errors"
	"sync/atomic"
	"time"

	"whsentry/proxy/http1"
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"
)

// Budget is the memory that bodies may take over all clients.
type Budget struct {
	used  *atomic.Int64 // whsentry_buffered_bytes
	limit atomic.Int64  // maxBufferedBytes
}

// CountIn has the Budget count in used, which is 0, what is taken of it. It comes before everything else.
func (b *Budget) CountIn(used *atomic.Int64) { b.used = used }

// SetLimit sets how much may be taken, in bytes.
func (b *Budget) SetLimit(n int64) { b.limit.Store(n) }

// Take adds n bytes to what *held says is held, unless that would pass the limit.
func (b *Budget) Take(held *int64, n int64) bool {
	if sum := b.used.Add(n); sum > b.limit.Load() || sum < 0 { // a limit next to the largest number makes it overflow
		b.used.Add(-n)
		return false
	}
	*held += n
	return true
}

// Give returns all that is held.
func (b *Budget) Give(held *int64) {
	if *held != 0 {
		b.used.Add(-*held)
		*held = 0
	}
}

// Exceeded is what a client is told whose body, of that kind, Take has refused: 1014.
func (b *Budget) Exceeded(kind string) *reason.Failure {
	return reason.Newf(reason.TooMany, "too many %s at once: %d bytes are buffered at most", kind, b.limit.Load()).
		Over(reason.LimitMaxBufferedBytes)
}

// BodyLimits are those that a request's body is read within.
type BodyLimits struct {
	Budget      *Budget
	Size        int64         // of the body, in bytes
	TrailerSize int64         // of the trailers behind it
	Pause       time.Duration // without a byte
}

// Body is a request's body. The zero Body is empty; its memory is its own, so that nothing else is held while the
// destination is waited for.
type Body struct {
	Bytes []byte // what has come and was kept: a part of memory
	Came  int64  // how many bytes have come, without their coding
	Held  int64  // of the Budget, until its Give
	// At is when the clock was last looked at. The caller sets it before Take and Skip.
	At     socket.Tick
	memory *socket.Memory
}

// Check refuses a body that is too large by its own length, before any of it is read.
func (l *BodyLimits) Check(length int64) *reason.Failure {
	switch {
	case length > l.Size:
		return l.tooLarge()
	case length > l.Budget.limit.Load():
		return l.tooMany()
	}
	return nil
}

func (l *BodyLimits) tooLarge() *reason.Failure {
	f := reason.Newf(reason.LargeRequest, "request body larger than %d bytes", l.Size)
	f.Fatal = true
	return f
}

func (l *BodyLimits) tooMany() *reason.Failure {
	f := l.Budget.Exceeded("request bodies")
	f.Fatal = true
	return f
}

// Take reads a body of length bytes, or one in chunks whose coding it takes off. Its memory grows with what has come. Each
// byte that comes gives the client another Pause.
func (b *Body) Take(c *Conn, chunked bool, length int64, l *BodyLimits) (f *reason.Failure) {
	r := bodyReader{Body: b, conn: c, limits: l, keeps: true}
	if chunked {
		f = r.readChunks()
	} else {
		f = r.takeLength(int(length))
	}
	c.SettleInput()
	return f
}

// Skip reads a body as Take does, and keeps none of it: only behind it does the next request begin. Where the client is not
// known all of it has one Pause.
func (b *Body) Skip(c *Conn, chunked bool, length int64, l *BodyLimits, known bool) (f *reason.Failure) {
	r := bodyReader{Body: b, conn: c, limits: l}
	if !known {
		r.began = b.At
	}
	if chunked {
		f = r.readChunks()
	} else {
		f = r.skipLength(length)
	}
	c.SettleInput()
	return f
}

// bodyReader is a Body that is being read.
type bodyReader struct {
	*Body
	conn   *Conn
	limits *BodyLimits
	keeps  bool
	began  socket.Tick // since when there is one Pause for all of it; 0: there is one for each byte
}

func (r *bodyReader) takeLength(length int) *reason.Failure {
	c := r.conn
	first := c.In.Unused()[:min(length, c.In.Len())]
	if f := r.keep(first); f != nil {
		return f
	}
	c.In.Skip(len(first))
	for len(r.Bytes) < length {
		c.handler.AwaitsBody()
		r.grow(1)
		c.LimitFrom(r.At, r.limits.Pause)
		n, err := c.Receive(r.Bytes[len(r.Bytes):min(length, cap(r.Bytes))])
		r.At = socket.Now()
		if err != nil {
			return reason.Of(err)
		}
		if !r.limits.Budget.Take(&r.Held, int64(n)) {
			return r.limits.tooMany()
		}
		r.Bytes = r.Bytes[:len(r.Bytes)+n]
		r.Came = int64(len(r.Bytes))
	}
	return nil
}

func (r *bodyReader) skipLength(length int64) *reason.Failure {
	in := &r.conn.In
	for {
		n := min(length-r.Came, int64(in.Len()))
		in.Skip(int(n))
		r.Came += n
		if r.Came == length {
			return nil
		}
		in.Clear()
		if f := r.fill(); f != nil {
			return f
		}
	}
}

// keep adds what has come of the body. What has come counts, not what has been announced: a client that only announces much
// costs nothing.
func (r *bodyReader) keep(data []byte) *reason.Failure {
	if !r.limits.Budget.Take(&r.Held, int64(len(data))) {
		return r.limits.tooMany()
	}
	r.grow(len(data))
	r.Bytes = append(r.Bytes, data...)
	r.Came = int64(len(r.Bytes))
	return nil
}

// readChunks reads a chunked body, and takes its coding off.
func (r *bodyReader) readChunks() *reason.Failure {
	in := &r.conn.In
	var chunks http1.Chunks
	chunks.Reset(r.limits.TrailerSize, false)
	for {
		for in.Len() > 0 && !chunks.Done() {
			data, n, err := chunks.Next(in.Unused())
			in.Skip(n)
			if err != nil {
				return r.limits.chunkFailure(err)
			}
			if chunks.Left() > r.limits.Size-r.Came-int64(len(data)) { // a sum could overflow
				return r.limits.tooLarge()
			}
			if !r.keeps {
				r.Came += int64(len(data))
				continue
			}
			if f := r.keep(data); f != nil {
				return f
			}
		}
		if chunks.Done() {
			return nil
		}
		r.conn.handler.AwaitsBody()
		in.Clear()
		in.Grow(min(max(len(r.Bytes), socket.BufferSize), socket.BufferKept))
		if f := r.fill(); f != nil {
			return f
		}
	}
}

// fill reads more into the client's buffer.
func (r *bodyReader) fill() *reason.Failure {
	since := r.At
	if r.began != 0 {
		since = r.began
	}
	r.conn.LimitFrom(since, r.limits.Pause)
	err := r.conn.Fill()
	r.At = socket.Now()
	if err != nil {
		return reason.Of(err)
	}
	return nil
}

func (l *BodyLimits) chunkFailure(err error) *reason.Failure {
	if errors.Is(err, http1.ErrTrailersTooLarge) {
		return reason.LargeHeadf("trailer section larger than %d bytes", l.TrailerSize)
	}
	return reason.Malformedf("%s", err)
}

// grow makes room for n bytes more.
func (b *Body) grow(n int) {
	if cap(b.Bytes)-len(b.Bytes) >= n {
		return
	}
	old := b.memory
	b.memory = socket.AcquireMemory(max(len(b.Bytes)+n, min(2*cap(b.Bytes), socket.MemoryKept)))
	b.Bytes = append(b.memory.Bytes(), b.Bytes...)
	if old != nil {
		old.Release()
	}
}

// Drop gives the memory back. What the body holds of the Budget it goes on holding, so that destinations which do not answer
// have no more taken in for them than that allows.
func (b *Body) Drop() {
	if b.memory != nil {
		b.memory.Release()
		b.memory = nil
	}
	b.Bytes = nil
}
