package http1

import "bytes"

// Response is the head of a destination's response as it was scanned. What leaves its status, its extent or its
// Fields in doubt is refused. What is merely untidy, a bare LF as a line's end or a folded line (RFC 9112 sections
// 2.2 and 5.2), is tidied, for the webhook has been delivered and an error would have it sent again.
type Response struct {
	Raw    []byte
	Status int
	Reason Span
	HTTP10 bool
	Fields []Field

	BodyFraming
	ConnectionOptions
	Untidy bool

	line    int // where the first line that is not yet parsed begins
	scanned int // up to where a line's end has been looked for
}

func (r *Response) Reset() {
	*r = Response{Fields: r.Fields[:0], BodyFraming: BodyFraming{ContentLength: -1}}
}

// Scan parses what is there of a head in buf, which grows from call to call, and tidies it in place. It returns the
// head's length once its empty line is there, and 0 while it is not.
func (r *Response) Scan(buf []byte) (n int, err error) {
	r.Raw = buf
	for {
		end := bytes.IndexByte(buf[r.scanned:], '\n')
		if end < 0 {
			r.scanned = len(buf)
			return 0, r.checkBeginning(buf)
		}
		end += r.scanned
		start, stop := r.line, end
		if stop > start && buf[stop-1] == '\r' {
			stop--
		} else {
			r.Untidy = true
		}
		r.line, r.scanned = end+1, end+1
		switch {
		case r.Status == 0:
			err = r.scanStatusLine(start, stop)
		case start == stop:
			r.Raw = buf[:r.line]
			return r.line, r.checkFraming()
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
func (r *Response) checkBeginning(buf []byte) error {
	const beginning = "HTTP/1."
	if r.Status == 0 && !bytes.HasPrefix(buf, []byte(beginning[:min(len(beginning), len(buf))])) {
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
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return responseErrorf("its status is not a number of three digits")
		}
		r.Status = r.Status*10 + int(c-'0')
	}
	if r.Status < 100 || r.Status > 599 {
		return responseErrorf("its status is %03d", r.Status)
	}
	if len(line) > 12 && line[12] != ' ' {
		return responseErrorf("its status is not a number of three digits")
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

// unfold joins a folded line to the field before it by making spaces of what parts them (RFC 9112 section 5.2).
func (r *Response) unfold(start, stop int) error {
	if len(r.Fields) == 0 {
		return responseErrorf("its first field begins with white space")
	}
	last := &r.Fields[len(r.Fields)-1]
	if last.Kind == KindContentLength || last.Kind == KindTransferEncoding {
		return responseErrorf("its Content-Length or Transfer-Encoding is folded")
	}
	if !IsValue(r.Raw[start:stop]) {
		return responseErrorf("a field of its head holds a control byte")
	}
	r.Untidy = true
	for i := start - 1; r.Raw[i] == '\n' || r.Raw[i] == '\r'; i-- {
		r.Raw[i] = ' '
	}
	// A line of nothing but white space adds nothing; thousands of them are not gone through again and again.
	if !trimSpan(r.Raw, start, stop).Empty() {
		last.Value = trimSpan(r.Raw, int(last.Value.From), stop)
	}
	return nil
}

func (r *Response) scanField(start, stop int) error {
	f, reject := parseField(r.Raw, start, stop)
	if reject != "" {
		return responseErrorf("%s", reject)
	}
	r.Fields = append(r.Fields, f)
	if reject := r.BodyFraming.scan(f.Kind, f.Value.Of(r.Raw)); reject != "" {
		return responseErrorf("%s", reject)
	}
	return nil
}

// checkFraming refuses a head that leaves open where the body ends. It also reads the Connection fields, which are
// whole only now that the last folded line has been joined.
func (r *Response) checkFraming() error {
	for _, f := range r.Fields {
		if f.Kind == KindConnection {
			r.ConnectionOptions.scan(f.Value.Of(r.Raw))
		}
	}
	if r.names {
		dropNamed(r.Raw, r.Fields)
	}
	if reject := r.BodyFraming.check(r.HTTP10); reject != "" {
		return responseErrorf("%s", reject)
	}
	if r.Status == 101 {
		return responseErrorf("it switches protocols, which nobody asked for")
	}
	return nil
}

// Interim reports whether another response follows on this one (RFC 9110 section 15.2).
func (r *Response) Interim() bool { return r.Status < 200 }

// Bodiless reports whether no body follows, whatever the fields say (RFC 9112 section 6.3).
func (r *Response) Bodiless(headRequest bool) bool {
	return headRequest || r.Interim() || r.Status == 204 || r.Status == 304
}

// Reusable reports whether the connection may carry another request once the response has ended.
func (r *Response) Reusable() bool {
	return !r.Untidy && !r.Close && (!r.HTTP10 || r.KeepAlive)
}
