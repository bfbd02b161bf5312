package upstream

import (
	"errors"
	"io"

	"whsentry/proxy/http1"
	"whsentry/proxy/socket"
)

// ErrBodyTooLarge is what is wrong with a body that is larger than it may be.
var ErrBodyTooLarge = errors.New("the response's body is too large")

// Body reads a response's body over the Call that its head has come by, and takes its framing off. Begin makes it ready.
type Body struct {
	call     *Call
	response *http1.Response // in which is noted what was untidy about the body
	start    int             // where in the call's buffer it begins
	limit    int64           // of total
	left     int64           // of a body with a Content-Length; -1: none is known
	chunked  bool
	chunks   http1.Chunks // of one that is
	total    int64        // read so far
	wrong    error        // with the chunks, after the data that has been returned
	ended    bool
	clean    bool
}

// Begin makes b the body that comes over call, from the first unused byte of its buffer on, and that r announces: one whose
// response has none is not to be read. It may have limit bytes, and where it is chunked overhead bytes of extensions, and as
// many of trailers.
func (b *Body) Begin(call *Call, r *http1.Response, limit, overhead int64) {
	*b = Body{} // as one value it would stand on the stack twice, which has to be small
	b.call, b.response, b.start = call, r, call.In.Mark()
	b.limit, b.left, b.chunked = limit, r.ContentLength, r.Chunked
	b.chunks.Reset(overhead, true)
}

// EndAfter has a body with a Content-Length end after so many bytes, which are fewer than it has.
func (b *Body) EndAfter(size int64) { b.left = size }

// Ended reports whether the body has been read to its end.
func (b *Body) Ended() bool { return b.ended }

// Clean reports whether the body has ended by its own framing, so that the connection can carry another request.
func (b *Body) Clean() bool { return b.clean }

// Total is how many bytes of it have been read, without their framing.
func (b *Body) Total() int64 { return b.total }

// Next returns more of the body, a part of the call's buffer that is valid until the next call. With the last of it the body
// has ended. The error is ErrBodyTooLarge, which data may come with, an *http1.Error about the chunks, or that of the
// connection, which has ended within the body.
func (b *Body) Next() (data []byte, err error) {
	for {
		if b.call.In.Len() > 0 || b.left == 0 {
			data, err = b.decode()
			b.total += int64(len(data))
			if err == nil && b.total > b.limit {
				err = ErrBodyTooLarge
			}
			if err != nil || b.ended || len(data) > 0 {
				return data, err
			}
			continue
		}
		if err = b.read(); err != nil || b.ended {
			return nil, err
		}
	}
}

// ReadAll reads all of a body with a Content-Length into the buffer, behind its head, and returns an error as Next does. So
// it is in one piece, and the next answer of this size comes with a single read, for the buffer stays as large.
func (b *Body) ReadAll() error {
	in := &b.call.In
	in.Grow(int(b.left))
	b.start = in.Mark()
	for int64(in.Len()) < b.left {
		if err := b.fill(); err != nil {
			return err
		}
	}
	return nil
}

// decode takes what is in the buffer.
func (b *Body) decode() ([]byte, error) {
	in := &b.call.In
	switch {
	case b.chunked:
		data, err := b.dechunk()
		if err != nil {
			return nil, err
		}
		b.ended = b.chunks.Done()
		b.clean = b.ended
		if b.chunks.OddTrailers() {
			b.response.Untidy |= http1.OddTrailers
		}
		return data, nil
	case b.left < 0:
		data := in.Unused()
		in.Skip(len(data))
		return data, nil
	}
	data := in.Unused()[:min(b.left, int64(in.Len()))]
	in.Skip(len(data))
	b.left -= int64(len(data))
	b.ended = b.left == 0
	b.clean = b.ended
	return data, nil
}

// dechunk takes the coding off all that is in the buffer. The data of its chunks moves together, over what has been
// used, so that a destination that sends them a byte at a time does not make each a write to the client.
func (b *Body) dechunk() ([]byte, error) {
	var data []byte
	in := &b.call.In
	for b.wrong == nil && in.Len() > 0 && !b.chunks.Done() {
		piece, n, err := b.chunks.Next(in.Unused())
		in.Skip(n)
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

// read reads more into the buffer, all of which has been used. A body without a length ends here.
func (b *Body) read() error {
	b.makeRoom()
	return b.fill()
}

func (b *Body) fill() error {
	n, err := b.call.Read(b.call.In.Free())
	b.call.In.Added(n)
	if err == nil {
		return nil
	}
	untilClose := b.left < 0 && !b.chunked && !b.call.torn && b.call.conn.Killed() == CloseNone
	switch {
	case untilClose && errors.Is(err, ErrNoCloseNotify):
		b.response.Untidy |= http1.NoCloseNotify
		b.ended = true
		return nil
	case untilClose && errors.Is(err, io.EOF):
		b.ended = true
		return nil
	}
	return err
}

// makeRoom makes room for what comes next, in place of what has been used. The head stays where it is, for it has
// not been passed on yet.
func (b *Body) makeRoom() {
	in, want := &b.call.In, int64(socket.BufferSize)
	in.Rewind(b.start)
	switch {
	case b.left >= 0:
		want = min(b.left, socket.BufferKept)
	case b.total >= socket.BufferSize:
		want = socket.BufferKept
	}
	if int64(len(in.Free())) < want {
		in.Grow(int(want))
		b.start = in.Mark()
	}
}
