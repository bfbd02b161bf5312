package http1

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Kind says what the proxy does with a header field; it is found once, when the field is scanned.
type Kind uint8

const (
	KindOther            Kind = iota // passed on as it came
	KindHopByHop                     // dropped, both ways (RFC 9110 section 7.6.1)
	KindConnection                   // dropped, and so is what it names
	KindSentry                       // X-WhSentry-*: for the proxy or from it, never passed on
	KindHost                         // rewritten
	KindContentLength                // written anew
	KindTransferEncoding             // written anew
	KindUserAgent                    // replaced
	KindExpect                       // 100-continue is answered by the proxy
)

// Span is a part of a head: offsets from its first byte.
type Span struct{ From, To int32 }

// Of returns the part of head, which is the head that the span is of.
func (s Span) Of(head []byte) []byte { return head[s.From:s.To] }

// Empty reports whether there is nothing in it.
func (s Span) Empty() bool { return s.From == s.To }

// Field is one header field: where its name and its value, without the white space around it, are in the head.
type Field struct {
	Name, Value Span
	Kind        Kind
}

// classify returns what the proxy does with a field of that name, which holds token characters only.
func classify(name []byte) Kind {
	switch len(name) {
	case 2:
		if EqualFold(name, "te") {
			return KindHopByHop
		}
	case 4:
		if EqualFold(name, "host") {
			return KindHost
		}
	case 6:
		if EqualFold(name, "expect") {
			return KindExpect
		}
	case 7:
		// Trailer announces what the proxy drops.
		if EqualFold(name, "upgrade") || EqualFold(name, "trailer") {
			return KindHopByHop
		}
	case 10:
		if EqualFold(name, "connection") {
			return KindConnection
		}
		if EqualFold(name, "keep-alive") {
			return KindHopByHop
		}
		if EqualFold(name, "user-agent") {
			return KindUserAgent
		}
	case 14:
		if EqualFold(name, "content-length") {
			return KindContentLength
		}
	case 17:
		if EqualFold(name, "transfer-encoding") {
			return KindTransferEncoding
		}
	}
	if hasPrefixFold(name, "proxy-") {
		return KindHopByHop
	}
	if hasPrefixFold(name, "x-whsentry-") {
		return KindSentry
	}
	return KindOther
}

// EqualFold reports whether b is lower, whatever the case of b's ASCII letters.
func EqualFold(b []byte, lower string) bool {
	return len(b) == len(lower) && hasPrefixFold(b, lower)
}

// hasPrefixFold reports whether b begins with lower, whatever the case of b's ASCII letters.
func hasPrefixFold(b []byte, lower string) bool {
	if len(b) < len(lower) {
		return false
	}
	for i := range len(lower) {
		if toLower(b[i]) != lower[i] {
			return false
		}
	}
	return true
}

func toLower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// The classes of bytes: what a head is made of, RFC 9110 section 5.6.2 and RFC 9112 section 2.2.
const (
	tokenByte = 1 << iota // may stand in a method or a field name
	valueByte             // may stand in a field value: anything but a control character other than HTAB
)

var byteClass = func() (class [256]uint8) {
	for c := range class {
		if c >= ' ' && c != 0x7f || c == '\t' {
			class[c] |= valueByte
		}
		if '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			class[c] |= tokenByte
		}
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~") {
		class[c] |= tokenByte
	}
	return class
}()

// IsToken reports whether b is a token (RFC 9110 section 5.6.2).
func IsToken(b []byte) bool { return len(b) > 0 && tokenLen(b) == len(b) }

// tokenLen returns how many token characters b begins with.
func tokenLen(b []byte) int {
	for i, c := range b {
		if byteClass[c]&tokenByte == 0 {
			return i
		}
	}
	return len(b)
}

// IsValue reports whether b holds no byte that a field value may not hold. Most of a head's bytes are values, so they
// are looked at eight at a time up to where a HTAB, which is allowed, or an end makes that impossible.
func IsValue(b []byte) bool {
	for len(b) >= 8 && controls(binary.LittleEndian.Uint64(b)) == 0 {
		b = b[8:]
	}
	for _, c := range b {
		if byteClass[c]&valueByte == 0 {
			return false
		}
	}
	return true
}

// trimSpan returns line[from:to] without the white space (SP, HTAB) at its ends.
func trimSpan(head []byte, from, to int) Span {
	for from < to && isSpace(head[from]) {
		from++
	}
	for from < to && isSpace(head[to-1]) {
		to--
	}
	return Span{int32(from), int32(to)}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// nextElement cuts the first element off a comma-separated list (RFC 9110 section 5.6.1); empty ones, which the
// section allows, come back as such.
func nextElement(list []byte) (element, rest []byte) {
	end := len(list)
	for i, c := range list {
		if c == ',' {
			end, rest = i, list[i+1:]
			break
		}
	}
	return trimSpan(list, 0, end).Of(list), rest
}

// ConnectionOptions is what the Connection fields of a head say (RFC 9110 section 7.6.1).
type ConnectionOptions struct {
	Close     bool
	KeepAlive bool
	names     bool // they may name other fields
}

// Scan notes the options of one Connection field.
func (o *ConnectionOptions) scan(value []byte) {
	for len(value) > 0 {
		var option []byte
		option, value = nextElement(value)
		switch {
		case EqualFold(option, "close"):
			o.Close, o.names = true, true // a field called Close goes no further either
		case EqualFold(option, "keep-alive"):
			o.KeepAlive = true
		case len(option) > 0:
			o.names = true
		}
	}
}

// BodyFraming is what the fields of a head say of where its body ends (RFC 9112 section 6).
type BodyFraming struct {
	ContentLength int64 // -1: none
	Chunked       bool
}

// Scan notes a Content-Length or a Transfer-Encoding; reject says what is wrong with it, or with there being two.
func (b *BodyFraming) scan(k Kind, value []byte) (reject string) {
	switch k {
	case KindContentLength:
		n, ok := parseLength(value)
		if !ok {
			return "its Content-Length is not a number"
		}
		if b.ContentLength >= 0 {
			return "it has more than one Content-Length"
		}
		b.ContentLength = n
	case KindTransferEncoding:
		if b.Chunked || !EqualFold(value, "chunked") {
			return "its Transfer-Encoding is not chunked and nothing else"
		}
		b.Chunked = true
	}
	return ""
}

// check says what is wrong with the fields together; reject is "" where nothing is.
func (b *BodyFraming) check(http10 bool) (reject string) {
	switch {
	case b.Chunked && b.ContentLength >= 0:
		return "it has both Transfer-Encoding and Content-Length"
	case b.Chunked && http10:
		return "it has a Transfer-Encoding, which HTTP/1.0 does not know"
	}
	return ""
}

// dropNamed makes hop-by-hop fields of those that the Connection fields name (RFC 9110 section 7.6.1). What is
// written anew stays.
func dropNamed(head []byte, fields []Field) {
	var few [4][]byte // as many as there usually are, which are found without memory of their own
	names := few[:0]
	for _, f := range fields {
		if f.Kind != KindConnection {
			continue
		}
		for list := f.Value.Of(head); len(list) > 0; {
			var option []byte
			option, list = nextElement(list)
			if IsToken(option) {
				names = append(names, option)
			}
		}
	}
	var many map[string]bool
	if len(names) > len(few) { // a hostile head may hold tens of thousands of names and of fields
		many = make(map[string]bool, len(names))
		for _, name := range names {
			many[string(bytes.ToLower(name))] = true
		}
	}
	for i := range fields {
		f := &fields[i]
		switch f.Kind {
		case KindOther, KindUserAgent, KindExpect:
			if isNamed(f.Name.Of(head), names, many) {
				f.Kind = KindHopByHop
			}
		}
	}
}

// isNamed reports whether name is one of names, which many holds in small letters where they are many; else it is nil.
func isNamed(name []byte, names [][]byte, many map[string]bool) bool {
	if many != nil {
		return many[string(bytes.ToLower(name))]
	}
	return slices.ContainsFunc(names, func(n []byte) bool { return bytes.EqualFold(n, name) })
}

// parseLength reads a Content-Length, which is digits and nothing else (RFC 9110 section 8.6). What is too large
// for an int64 comes back as the largest, for it is over every limit.
func parseLength(b []byte) (n int64, ok bool) {
	const largest = 1<<63 - 1
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n > (largest-9)/10 {
			n = largest
			continue
		}
		n = n*10 + int64(c-'0')
	}
	return n, len(b) > 0
}
