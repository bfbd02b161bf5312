package http1

import "bytes"

// Response is the head of a destination's response as it was scanned. What leaves its status, its extent or its
// fields in doubt is refused. What is merely untidy is tidied, for the webhook has been delivered and an error would
// have it sent again.
type Response struct {
	Raw    []byte // what the spans are parts of, tidied in place
	Status int    // 100 to 999; 0: not there yet
	Reason Span
	HTTP10 bool // else HTTP/1.1
	Fields []Field

	BodyFraming
	ConnectionOptions
	// KeepAliveTimeout is after how many seconds the destination closes the connection, by Keep-Alive; -1: it does not say.
	KeepAliveTimeout int
	Untidy           Untidy
	// Received is the status of a final status line that was read whole, even where the head is refused for what follows
	// on it; 0: there was none.
	Received int

	dropping bool // the last line was no field: dropped, and so is what is folded to it
	line     int  // where the first line that is not yet parsed begins
	scanned  int  // up to where a line's end has been looked for
}

// Reset makes the response ready for another head. It keeps the memory of Fields.
func (r *Response) Reset() {
	*r = Response{Fields: r.Fields[:0], BodyFraming: BodyFraming{ContentLength: -1}, KeepAliveTimeout: -1}
}

// Scan parses what is there of a head in buf, which grows from call to call, and tidies it in place. It returns the
// head's length, with empty lines in front of it, once its last line is there, and 0 while it is not. An error is an
// *Error that is BadResponse.
func (r *Response) Scan(buf []byte) (n int, err error) {
	r.Raw = buf
	for {
		end := bytes.IndexByte(buf[r.scanned:], '\n')
		if end < 0 {
			r.scanned = len(buf)
			return 0, r.checkBeginning(buf[r.line:])
		}
		end += r.scanned
		start, stop := r.line, end
		if stop > start && buf[stop-1] == '\r' {
			stop--
		} else {
			r.Untidy |= BareLF
		}
		r.line, r.scanned = end+1, end+1
		switch {
		case r.Status == 0 && start == stop:
			r.Untidy |= BlankLines
		case r.Status == 0:
			err = r.scanStatusLine(start, stop)
		case start == stop:
			r.Raw = buf[:r.line]
			return r.line, r.finish()
		case isSpace(buf[start]):
			err = r.unfold(start, stop)
		default:
			err = r.scanField(start, stop)
		}
		if err != nil {
			return 0, err
		}
	}
}

// checkBeginning refuses at once what does not begin like HTTP, such as the banner of a mail server that then waits.
func (r *Response) checkBeginning(line []byte) error {
	const beginning = "HTTP/1."
	if r.Status == 0 && string(line) != "\r" && !bytes.HasPrefix(line, []byte(beginning[:min(len(beginning), len(line))])) {
		return responseErrorf("it does not begin with HTTP/1.")
	}
	return nil
}

// scanStatusLine parses HTTP/1.x SP 3DIGIT SP [reason-phrase] (RFC 9112 section 4); servers that leave out the
// second space together with the phrase are many.
func (r *Response) scanStatusLine(start, stop int) error {
	line := r.Raw[start:stop]
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.")) ||
		line[7] != '0' && line[7] != '1' || line[8] != ' ' {
		return responseErrorf("its first line is not an HTTP/1.1 status line")
	}
	r.HTTP10 = line[7] == '0'
	status := 0
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return responseErrorf("its status is not a number of three digits")
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 {
		return responseErrorf("its status is %03d", status)
	}
	if len(line) > 12 && line[12] != ' ' {
		return responseErrorf("its status is not a number of three digits")
	}
	r.Status = status
	if status >= 200 {
		r.Received = status
	}
	if status >= 600 {
		r.Untidy |= OddStatus
	}
	r.Reason = Span{int32(start + 12), int32(stop)}
	if len(line) > 12 {
		r.Reason.From++
	}
	if !IsValue(r.Reason.Of(r.Raw)) {
		return responseErrorf("its reason phrase holds a control byte")
	}
	return nil
}

// scanField parses a line that begins a field.
func (r *Response) scanField(start, stop int) error {
	f, reject := parseField(r.Raw, start, stop)
	r.dropping = reject != ""
	if r.dropping {
		return r.dropLine(r.Raw[start:stop], reject)
	}
	r.Fields = append(r.Fields, f)
	switch f.Kind {
	case KindContentLength:
		return r.scanLength(f.Value.Of(r.Raw))
	case KindTransferEncoding:
		return r.scanCoding(f.Value.Of(r.Raw))
	}
	return nil
}

// dropLine drops a line that is no field, as reject says, unless it might be one to somebody that says where the message
// ends, or might be more than one.
func (r *Response) dropLine(line []byte, reject string) error {
	name := line
	if colon := bytes.IndexByte(line, ':'); colon >= 0 {
		name = line[:colon]
	}
	switch classify(trimToToken(name)) {
	case KindContentLength, KindTransferEncoding, KindConnection:
		return responseErrorf("%s", reject)
	}
	if mayEndLine(line) {
		return responseErrorf("%s", reject)
	}
	r.Untidy |= BadLine
	return nil
}

// trimToToken returns name without the bytes at its ends that no token has.
func trimToToken(name []byte) []byte {
	for len(name) > 0 && byteClass[name[0]]&tokenByte == 0 {
		name = name[1:]
	}
	for len(name) > 0 && byteClass[name[len(name)-1]]&tokenByte == 0 {
		name = name[:len(name)-1]
	}
	return name
}

// mayEndLine reports whether somebody may see the end of a line, or of all there is, within line: by a CR or a NUL.
func mayEndLine(line []byte) bool {
	return bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, 0) >= 0
}

// unfold joins a folded line to the field before it, by one space in place of what parts them (RFC 9112 section 5.2). A
// field that a control byte in it spoils is dropped as a whole.
func (r *Response) unfold(start, stop int) error {
	if len(r.Fields) == 0 && !r.dropping {
		return responseErrorf("its first field begins with white space")
	}
	line := r.Raw[start:stop]
	if mayEndLine(line) {
		return responseErrorf("a field of its head holds a control byte")
	}
	if r.dropping {
		return nil
	}
	last := &r.Fields[len(r.Fields)-1]
	switch {
	case last.Kind == KindContentLength, last.Kind == KindTransferEncoding:
		return responseErrorf("its Content-Length or Transfer-Encoding is folded")
	case IsValue(line):
		r.Untidy |= Folded
		r.join(last, trimSpan(r.Raw, start, stop))
	case last.Kind == KindConnection:
		return responseErrorf("a field of its head holds a control byte")
	default:
		r.Fields, r.dropping = r.Fields[:len(r.Fields)-1], true
		r.Untidy |= BadLine
	}
	return nil
}

// join appends text, which stands behind it, to a field's value.
func (r *Response) join(f *Field, text Span) {
	switch {
	case text.Empty():
	case f.Value.Empty():
		f.Value = text
	default: // there is room, for at least a line's end and a space part them
		r.Raw[f.Value.To] = ' '
		n := copy(r.Raw[f.Value.To+1:], text.Of(r.Raw))
		f.Value.To += int32(1 + n)
	}
}

// scanLength notes a Content-Length, whose value may be there again, in a list or in another field.
func (r *Response) scanLength(value []byte) error {
	for more := true; more; {
		var element []byte
		element, value, more = bytes.Cut(value, []byte{','})
		n, ok := parseLength(bytes.Trim(element, " \t"))
		switch {
		case !ok:
			return responseErrorf("its Content-Length is not a number")
		case r.ContentLength < 0:
			r.ContentLength = n
		case r.ContentLength != n:
			return responseErrorf("it has more than one Content-Length")
		default:
			r.Untidy |= LengthRepeated
		}
	}
	return nil
}

// scanCoding notes a Transfer-Encoding: chunked, once or more, or identity, which says nothing.
func (r *Response) scanCoding(value []byte) error {
	for more := true; more; {
		var element []byte
		element, value, more = bytes.Cut(value, []byte{','})
		element = bytes.Trim(element, " \t")
		switch {
		case EqualFold(element, "identity"):
			r.Untidy |= Identity
		case !EqualFold(element, "chunked"):
			return responseErrorf("its Transfer-Encoding is not chunked and nothing else")
		case r.Chunked:
			r.Untidy |= ChunkedTwice
		default:
			r.Chunked = true
		}
	}
	return nil
}

// finish settles what only the whole head says: the framing, and what the Connection and Keep-Alive fields mean, which
// are whole only now that the last folded line has been joined.
func (r *Response) finish() error {
	for _, f := range r.Fields {
		switch {
		case f.Kind == KindConnection:
			r.ConnectionOptions.scan(f.Value.Of(r.Raw))
		case f.Kind == KindHopByHop && EqualFold(f.Name.Of(r.Raw), "keep-alive"):
			r.scanKeepAlive(f.Value.Of(r.Raw))
		}
	}
	if r.names {
		dropNamed(r.Raw, r.Fields)
	}
	if r.Chunked && r.ContentLength >= 0 {
		r.Untidy |= LengthBesideChunked
		r.ContentLength = -1
	}
	if r.Chunked && r.HTTP10 {
		r.Untidy |= ChunkedInHTTP10
	}
	if r.Status == 101 {
		return responseErrorf("it switches protocols, which nobody asked for")
	}
	return nil
}

// scanKeepAlive reads timeout=N (RFC 2068 section 19.7.1.1). The least counts; a number below 0 is 0, and what is no
// number says nothing.
func (r *Response) scanKeepAlive(value []byte) {
	for len(value) > 0 {
		var element []byte
		element, value = nextElement(value)
		name, number, ok := bytes.Cut(element, []byte{'='})
		if !ok || !EqualFold(bytes.TrimRight(name, " \t"), "timeout") {
			continue
		}
		number = bytes.Trim(number, " \t\"")
		negative := bytes.HasPrefix(number, []byte{'-'})
		if negative {
			number = number[1:]
		}
		seconds, ok := parseLength(number)
		if negative {
			seconds = 0
		}
		const most = 1 << 30 // over every lifetime
		if n := int(min(seconds, most)); ok && (r.KeepAliveTimeout < 0 || n < r.KeepAliveTimeout) {
			r.KeepAliveTimeout = n
		}
	}
}

// Drop has the fields with these names, which are in lower case, not passed on.
func (r *Response) Drop(names ...string) {
	for i := range r.Fields {
		f := &r.Fields[i]
		for _, name := range names {
			if f.Kind == KindOther && EqualFold(f.Name.Of(r.Raw), name) {
				f.Kind = KindHopByHop
			}
		}
	}
}

// Interim reports whether another response follows on this one (RFC 9110 section 15.2).
func (r *Response) Interim() bool { return r.Status < 200 }

// Bodiless reports whether no body follows, whatever the fields say (RFC 9112 section 6.3).
func (r *Response) Bodiless(headRequest bool) bool {
	return headRequest || r.Interim() || r.Status == 204 || r.Status == 304
}

// Reusable reports whether the connection may carry another request once the response has ended. Where the destination
// says when it will close it, that is not to be within the second that a request may take to reach it.
func (r *Response) Reusable() bool {
	return r.Untidy == 0 && !r.Close && (!r.HTTP10 || r.KeepAlive) && (r.KeepAliveTimeout < 0 || r.KeepAliveTimeout > 1)
}
