package http1

import "math"

// ErrTrailersTooLarge is what is wrong with a body whose trailer section is over the limit.
var ErrTrailersTooLarge = &Error{TooLarge, "trailer section too large"}

// What else can be wrong with a chunked body.
var (
	errChunk      = &Error{BadChunks, "malformed chunked body"}
	errTrailer    = &Error{BadChunks, "malformed trailer section"}
	errExtensions = &Error{BadChunks, "chunk extensions too large"}
)

// Chunks takes the chunked transfer coding off (RFC 9112 section 7.1), strictly: CRLF alone ends a line, a
// size is hexadecimal digits and nothing else, white space is not skipped. Chunk extensions and trailers are
// checked and dropped, and are bounded by limit, each over the whole body, so that nobody can keep the proxy
// reading without sending a body. Of a response's trailers a line that is none is noted and dropped.
type Chunks struct {
	limit      int64 // of the extensions' bytes, and of the trailers', over the whole body
	tidies     bool  // a line that is no trailer is no error
	odd        bool  // there was one
	state      chunkState
	left       int64 // of the chunk's data
	digits     int   // of the chunk's size so far
	extensions int64
	trailers   int64
	name       [17]byte // the beginning of a trailer's name, lower-cased
	nameLen    int
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkExtension
	chunkSizeLF // the CR of a size line has been read
	chunkData
	chunkDataCR // the data has been read
	chunkDataLF
	trailerStart
	trailerName
	trailerValue
	trailerLF // the CR of a trailer has been read
	trailerEnd
	chunkDone
)

// Reset makes the decoder ready for another body, with at most limit bytes of extensions, and as many of trailers. That
// of a response tidies its trailers.
func (d *Chunks) Reset(limit int64, response bool) { *d = Chunks{limit: limit, tidies: response} }

// Left returns how much is still to come of the chunk whose size has been read; 0 where none has.
func (d *Chunks) Left() int64 {
	if d.state == chunkSize {
		return 0
	}
	return d.left
}

// OddTrailers reports whether there was a line among a response's trailers that is none.
func (d *Chunks) OddTrailers() bool { return d.odd }

// Done reports whether the body has ended, its trailer section included.
func (d *Chunks) Done() bool { return d.state == chunkDone }

// Next consumes the first n bytes of src and returns the data in them, a part of src. It is called until it has
// consumed all of src or done; data may be empty.
func (d *Chunks) Next(src []byte) (data []byte, n int, err error) {
	for n < len(src) && d.state != chunkDone {
		if d.state == chunkData {
			take := int(min(d.left, int64(len(src)-n)))
			d.left -= int64(take)
			if d.left == 0 {
				d.state = chunkDataCR
			}
			return src[n : n+take], n + take, nil
		}
		if err := d.step(src[n]); err != nil {
			return nil, n, err
		}
		n++
	}
	return nil, n, nil
}

// step takes one byte of what is around the data.
func (d *Chunks) step(c byte) error {
	switch d.state {
	case chunkSize:
		return d.stepSize(c)
	case chunkExtension:
		return d.stepExtension(c)
	case chunkSizeLF:
		if c != '\n' {
			return errChunk
		}
		d.state, d.digits = chunkData, 0
		if d.left == 0 {
			d.state = trailerStart
		}
	case chunkDataCR:
		if c != '\r' {
			return errChunk
		}
		d.state = chunkDataLF
	case chunkDataLF:
		if c != '\n' {
			return errChunk
		}
		d.state = chunkSize
	default:
		return d.stepTrailer(c)
	}
	return nil
}

func (d *Chunks) stepSize(c byte) error {
	if digit := hexDigit(c); digit >= 0 {
		if d.digits++; d.digits > 16 || d.left > math.MaxInt64>>4 {
			return errChunk
		}
		d.left = d.left<<4 | int64(digit)
		return nil
	}
	if d.digits == 0 {
		return errChunk
	}
	switch c {
	case '\r':
		d.state = chunkSizeLF
	case ';':
		d.state = chunkExtension
	default:
		return errChunk
	}
	return nil
}

func (d *Chunks) stepExtension(c byte) error {
	if d.extensions++; d.extensions > d.limit {
		return errExtensions
	}
	switch {
	case c == '\r':
		d.state = chunkSizeLF
	case byteClass[c]&valueByte == 0:
		return errChunk
	}
	return nil
}

// stepTrailer takes a byte of the trailer section, which is held to the rules of a head.
func (d *Chunks) stepTrailer(c byte) error {
	if d.trailers++; d.trailers > d.limit {
		return ErrTrailersTooLarge
	}
	switch d.state {
	case trailerStart:
		d.nameLen = 0
		if c == '\r' {
			d.state = trailerEnd
			return nil
		}
		d.state = trailerName
		return d.stepTrailerName(c)
	case trailerName:
		return d.stepTrailerName(c)
	case trailerValue:
		if c == '\r' {
			d.state = trailerLF
		} else if byteClass[c]&valueByte == 0 {
			return d.oddTrailer(c)
		}
	case trailerLF:
		if c != '\n' {
			return errTrailer
		}
		d.state = trailerStart
	case trailerEnd:
		if c != '\n' {
			return errTrailer
		}
		d.state = chunkDone
	}
	return nil
}

// stepTrailerName refuses, too, a trailer that would change the message's framing (RFC 9110 section 6.5.1).
func (d *Chunks) stepTrailerName(c byte) error {
	if c == ':' {
		d.state = trailerValue
		if d.nameLen == 0 {
			return d.oddTrailer(c)
		}
		if d.nameLen > len(d.name) {
			return nil
		}
		switch classify(d.name[:d.nameLen]) {
		case KindContentLength, KindTransferEncoding, KindHost:
			return d.oddTrailer(c)
		}
		return nil
	}
	if byteClass[c]&tokenByte == 0 {
		return d.oddTrailer(c)
	}
	if d.nameLen < len(d.name) {
		d.name[d.nameLen] = toLower(c)
	}
	d.nameLen++
	return nil
}

// oddTrailer refuses a line that is no trailer because of c, or has the rest of it passed over. What a bare LF or a bare
// CR ends is in doubt, and refused.
func (d *Chunks) oddTrailer(c byte) error {
	if !d.tidies || c == '\n' {
		return errTrailer
	}
	d.odd, d.state = true, trailerValue
	if c == '\r' {
		d.state = trailerLF
	}
	return nil
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
