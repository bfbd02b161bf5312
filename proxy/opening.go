package proxy

import "whsentry/proxy/http1"

// opening looks at the first bytes of a tunnel's client, which come piece by piece, for whether they begin an HTTP/1
// request: METHOD SP target SP HTTP/1.x and a line end (RFC 9112 section 3). The zero opening has seen nothing.
type opening struct {
	at    int // up to where it has looked
	start int // where the part begins that it is in
	part  openingPart
}

type openingPart uint8

const (
	openingMethod openingPart = iota
	openingTarget
	openingVersion
)

// verdict is what a tunnel's client speaks.
type verdict uint8

const (
	undecided verdict = iota
	foreign           // not HTTP/1
	request
)

// judge looks at what has come, b, which grows from call to call. It decides at the first byte that no request line can
// have, or else at the line's end. A line that ends with LF alone is one too, for HTTP to refuse.
func (o *opening) judge(b []byte) verdict {
	for ; o.at < len(b); o.at++ {
		if v := o.next(b[o.at]); v != undecided {
			return v
		}
	}
	return undecided
}

func (o *opening) next(c byte) verdict {
	const version = "HTTP/1."
	length := o.at - o.start
	switch o.part {
	case openingMethod, openingTarget:
		if c == ' ' && length > 0 {
			o.part, o.start = o.part+1, o.at+1
			return undecided
		}
		if o.part == openingMethod && http1.IsToken([]byte{c}) || o.part == openingTarget && c > ' ' && c != 0x7f {
			return undecided
		}
		return foreign
	}
	switch {
	case length < len(version) && c == version[length],
		length == len(version) && '0' <= c && c <= '9',
		length == len(version)+1 && c == '\r':
		return undecided
	case length > len(version) && c == '\n':
		return request
	}
	return foreign
}

// tooLong is the verdict on a line that is longer than a head may be.
func (o *opening) tooLong() verdict {
	if o.part == openingMethod {
		return foreign
	}
	return request // which HTTP refuses
}
