package http1

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Gate finds where the head of a request ends, in bytes that come piece by piece, before any parser sees them. It lets
// a head pass whose every line ends with CRLF and which holds no other control byte than HTAB, so that no two parsers
// can see different lines in it; and it keeps to itself what follows on the head, so that none can take a request out
// of what is a body. What a line says is not looked at, but for the version that ends the first one: who sends a line
// without it does not speak HTTP and perhaps waits for an answer.
//
// The zero value is not of use; Reset makes it ready for a head.
type Gate struct {
	limit   int
	first   int // where the request line begins: behind the empty lines that may stand before it (RFC 9112 section 2.2)
	stop    int // where the request line's CRLF is; 0: not there yet
	line    int // where the line begins whose end is being looked for
	scanned int // up to where no control byte is
}

// Reset makes the gate ready for another head, of at most limit bytes from the request line to the empty line. Of
// empty lines before it there may be as many bytes again.
func (g *Gate) Reset(limit int) { *g = Gate{limit: limit} }

// Scan looks at what is there of a head in buf, which grows from call to call. It returns the head's length with the
// empty lines in front of it once all of it is there, and 0 while it is not. An error is an *Error that is Malformed or
// TooLarge, and what follows in buf is of no use.
func (g *Gate) Scan(buf []byte) (n int, err error) {
	for i := g.scanned; ; {
		i += plainLen(buf[i:])
		switch {
		case i == len(buf), buf[i] == '\r' && i+1 == len(buf):
			g.scanned = i
			return 0, g.checkSize(len(buf), false)
		case buf[i] == '\r' && buf[i+1] == '\n':
			if n, err = g.endLine(buf, i); n > 0 || err != nil {
				return n, err
			}
			i += 2
		case buf[i] == '\t':
			i++
		default:
			return 0, g.controlError(buf, i)
		}
	}
}

// endLine takes note of the line whose CRLF is at stop; n is the head's length where that ends it.
func (g *Gate) endLine(buf []byte, stop int) (n int, err error) {
	start := g.line
	g.line = stop + 2
	switch {
	case g.stop == 0 && start == stop:
		g.first = g.line
		return 0, g.checkSize(g.line, false)
	case g.stop == 0:
		g.stop = stop
		if line := buf[start:stop]; !endsInVersion(line) {
			return 0, new(Request).ScanRequestLine(line)
		}
	case start == stop:
		return g.line, g.checkSize(g.line, true)
	}
	return 0, nil
}

// checkSize refuses a head of which n bytes are there, or, while it has not ended, as soon as one more is too many.
func (g *Gate) checkSize(n int, ended bool) error {
	if size := n - g.first; size > g.limit || !ended && size >= g.limit || g.first > g.limit {
		return &Error{TooLarge, fmt.Sprintf("request head larger than %d bytes", g.limit)}
	}
	return nil
}

// controlError is the error of a control byte at at. Where its line is there, what is wrong with that says more.
func (g *Gate) controlError(buf []byte, at int) error {
	if buf[at] == '\n' {
		return errBareLF
	}
	if line, ok := cutLine(buf[g.line:]); ok {
		err := error(nil)
		if g.stop == 0 {
			err = new(Request).ScanRequestLine(line)
		} else if _, reject := parseField(line, 0, len(line)); reject != "" {
			err = requestErrorf(Malformed, "%s", reject)
		}
		if err != nil {
			return err
		}
	}
	return requestErrorf(Malformed, "its head holds the control byte 0x%02x", buf[at])
}

// RequestLine returns the request line without its CRLF, a part of buf, which Scan has looked at; nil while it is not
// there. It is there, too, where Scan refused what follows on it.
func (g *Gate) RequestLine(buf []byte) []byte {
	if g.stop == 0 {
		return nil
	}
	return buf[g.first:g.stop]
}

// Blank returns how many bytes of empty lines stand before the request line.
func (g *Gate) Blank() int { return g.first }

// IsAtStart reports whether nothing but whole empty lines has been seen of the buf that Scan looked at last.
func (g *Gate) IsAtStart(buf []byte) bool { return g.first == len(buf) }

// endsInVersion reports whether line ends as a request line must.
func endsInVersion(line []byte) bool {
	const version = " HTTP/1."
	at := len(line) - len(version) - 1
	return at >= 0 && string(line[at:len(line)-1]) == version && (line[len(line)-1] == '1' || line[len(line)-1] == '0')
}

// cutLine returns the line, without its CRLF, that b begins with; ok says that it is there.
func cutLine(b []byte) (line []byte, ok bool) {
	lf := bytes.IndexByte(b, '\n')
	if lf < 1 || b[lf-1] != '\r' {
		return nil, false
	}
	return b[:lf-1], true
}

// plainLen returns how many bytes b begins with that are no control characters, looked at eight at a time.
func plainLen(b []byte) int {
	n := 0
	for ; len(b)-n >= 8; n += 8 {
		if found := controls(binary.LittleEndian.Uint64(b[n:])); found != 0 {
			return n + bits.TrailingZeros64(found)/8
		}
	}
	for ; n < len(b); n++ {
		if b[n] < ' ' || b[n] == 0x7f {
			break
		}
	}
	return n
}
