package http1

// Opening looks at the first bytes of a tunnel's client, which come piece by piece, for whether they begin an HTTP/1
// request: METHOD SP target SP HTTP/1.x and a line end (RFC 9112 section 3). The zero Opening has seen nothing.
type Opening struct {
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

// Protocol is what a tunnel's client speaks.
type Protocol uint8

const (
	Undecided Protocol = iota
	Foreign            // not HTTP/1
	HTTP
)

// Judge looks at what has come, b, which grows from call to call. It decides at the first byte that no request line can
// have, or else at the line's end. A line that ends with LF alone is one too, for HTTP to refuse.
func (o *Opening) Judge(b []byte) Protocol {
	for ; o.at < len(b); o.at++ {
		if v := o.next(b[o.at]); v != Undecided {
			return v
		}
	}
	return Undecided
}

func (o *Opening) next(c byte) Protocol {
	const version = "HTTP/1."
	length := o.at - o.start
	switch o.part {
	case openingMethod, openingTarget:
		if c == ' ' && length > 0 {
			o.part, o.start = o.part+1, o.at+1
			return Undecided
		}
		if o.part == openingMethod && IsToken([]byte{c}) || o.part == openingTarget && c > ' ' && c != 0x7f {
			return Undecided
		}
		return Foreign
	}
	switch {
	case length < len(version) && c == version[length],
		length == len(version) && '0' <= c && c <= '9',
		length == len(version)+1 && c == '\r':
		return Undecided
	case length > len(version) && c == '\n':
		return HTTP
	}
	return Foreign
}

// TooLong is the verdict on a line that is longer than a head may be.
func (o *Opening) TooLong() Protocol {
	if o.part == openingMethod {
		return Foreign
	}
	return HTTP // which HTTP refuses
}
