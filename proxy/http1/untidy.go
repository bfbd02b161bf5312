package http1

import "math/bits"

// Untidy is what a response had wrong that leaves its status, its extent and its fields clear all the same: a set. Such
// a response is tidied and passed on, and its connection carries no other.
type Untidy uint16

const (
	BareLF              Untidy = 1 << iota // a line of the head ends without CR
	Folded                                 // a field goes on in another line (RFC 9112 section 5.2)
	ChunkedTwice                           // Transfer-Encoding names chunked more than once
	LengthBesideChunked                    // Content-Length beside Transfer-Encoding: the chunks count
	LengthRepeated                         // Content-Length more than once, with one value
	ChunkedInHTTP10                        // HTTP/1.0 knows no Transfer-Encoding: the chunks count
	Identity                               // Transfer-Encoding names identity, which is no coding
	BadLine                                // a line that is no field: dropped
	BlankLines                             // empty lines before the status line
	OddStatus                              // a status from 600 to 999
	NoCloseNotify                          // over TLS, a FIN without a close_notify ends the body; for the reader to find
	OddTrailers                            // a line of the trailer section that is no trailer

	AnyUntidy = 1<<iota - 1
)

var untidyNames = [...]string{
	"bare_lf", "folded", "chunked_twice", "length_beside_chunked", "length_repeated", "chunked_in_http10",
	"identity", "bad_line", "blank_lines", "status", "no_close_notify", "trailers",
}

// Names yields the names of what is in the set, as logs and metrics show them, in the order of the constants.
func (u Untidy) Names(yield func(what string) bool) {
	for ; u != 0; u &= u - 1 {
		if !yield(untidyNames[bits.TrailingZeros16(uint16(u))]) {
			return
		}
	}
}
