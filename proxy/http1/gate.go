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
	lines   int // that have ended, behind the request line
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
	for i := g.scanned; i < len(buf); i += 8 {
		for found := controls(word(buf[i:])); found != 0; found &= found - 1 {
			at := i + bits.TrailingZeros64(found)/8
			switch c := buf[at]; {
			case c == '\t', c == '\n' && at > 0 && buf[at-1] == '\r':
			case c == '\r' && at+1 == len(buf):
				g.scanned = at
				return 0, g.checkSize(len(buf), false)
			case c == '\r' && buf[at+1] == '\n':
				if n, err = g.endLine(buf, at); n > 0 || err != nil {
					return n, err
				}
			default:
				return 0, g.controlError(buf, at)
			}
		}
	}
	g.scanned = len(buf)
	return 0, g.checkSize(len(buf), false)
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
	default:
		g.lines++
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

// Lines returns how many lines stand between the request line and the empty one, as far as Scan has come.
func (g *Gate) Lines() int { return g.lines }

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

// word returns the first eight bytes of b, and spaces for those that it does not have.
func word(b []byte) uint64 {
	if len(b) < 8 {
		return lastWord(b)
	}
	return binary.LittleEndian.Uint64(b)
}

func lastWord(b []byte) uint64 {
	padded := [8]byte{' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '}
	copy(padded[:], b)
	return binary.LittleEndian.Uint64(padded[:])
}

// controls sets the highest bit of each of w's eight bytes that is a control character: below 0x20, or 0x7f.
func controls(w uint64) uint64 {
	const each, high = 0x0101010101010101, 0x8080808080808080 // the lowest and the highest bit of each byte
	low := w &^ high                                          // without the highest bits no sum carries over
	printable, del := low+0x60*each, low+each                 // the highest bit says: 0x20 or more; 0x7f
	return (^printable | del) &^ w & high
}
