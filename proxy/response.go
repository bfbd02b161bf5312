package proxy

import (
	"bytes"

	"whsentry/proxy/reason"
)

// responseHead is the head of a destination's response as it was scanned. What leaves its status, its extent or its
// fields in doubt is refused. What is merely untidy, a bare LF as a line's end or a folded line (RFC 9112 sections
// 2.2 and 5.2), is tidied, for the webhook has been delivered and an error would have it sent again.
type responseHead struct {
	raw    []byte
	status int
	reason span
	http10 bool
	fields []field

	bodyFraming
	connectionOptions
	untidy bool

	line    int // where the first line that is not yet parsed begins
	scanned int // up to where a line's end has been looked for
}

func (r *responseHead) reset() {
	*r = responseHead{fields: r.fields[:0], bodyFraming: bodyFraming{contentLength: -1}}
}

// scan parses what is there of a head in buf, which grows from call to call, and tidies it in place. It returns the
// head's length once its empty line is there, and 0 while it is not.
func (r *responseHead) scan(buf []byte) (n int, f *reason.Failure) {
	r.raw = buf
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
			r.untidy = true
		}
		r.line, r.scanned = end+1, end+1
		switch {
		case r.status == 0:
			f = r.scanStatusLine(start, stop)
		case start == stop:
			r.raw = buf[:r.line]
			return r.line, r.checkFraming()
		case isSpace(buf[start]):
			f = r.unfold(start, stop)
		default:
			f = r.scanField(start, stop)
		}
		if f != nil {
			return 0, f
		}
	}
}

// checkBeginning refuses at once what does not begin like HTTP, such as the banner of a mail server that then waits.
func (r *responseHead) checkBeginning(buf []byte) *reason.Failure {
	const beginning = "HTTP/1."
	if r.status == 0 && !bytes.HasPrefix(buf, []byte(beginning[:min(len(beginning), len(buf))])) {
		return reason.BadResponsef("it does not begin with HTTP/1.")
	}
	return nil
}

// scanStatusLine parses HTTP/1.x SP 3DIGIT SP [reason-phrase] (RFC 9112 section 4); servers that leave out the
// second space together with the phrase are many.
func (r *responseHead) scanStatusLine(start, stop int) *reason.Failure {
	line := r.raw[start:stop]
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.")) ||
		line[7] != '0' && line[7] != '1' || line[8] != ' ' {
		return reason.BadResponsef("its first line is not an HTTP/1.1 status line")
	}
	r.http10 = line[7] == '0'
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return reason.BadResponsef("its status is not a number of three digits")
		}
		r.status = r.status*10 + int(c-'0')
	}
	if r.status < 100 || r.status > 599 {
		return reason.BadResponsef("its status is %03d", r.status)
	}
	if len(line) > 12 && line[12] != ' ' {
		return reason.BadResponsef("its status is not a number of three digits")
	}
	r.reason = span{int32(start + 12), int32(stop)}
	if len(line) > 12 {
		r.reason.from++
	}
	if !isValue(r.reason.of(r.raw)) {
		return reason.BadResponsef("its reason phrase holds a control byte")
	}
	return nil
}

// unfold joins a folded line to the field before it by making spaces of what parts them (RFC 9112 section 5.2).
func (r *responseHead) unfold(start, stop int) *reason.Failure {
	if len(r.fields) == 0 {
		return reason.BadResponsef("its first field begins with white space")
	}
	last := &r.fields[len(r.fields)-1]
	if last.kind == kindContentLength || last.kind == kindTransferEncoding {
		return reason.BadResponsef("its Content-Length or Transfer-Encoding is folded")
	}
	if !isValue(r.raw[start:stop]) {
		return reason.BadResponsef("a field of its head holds a control byte")
	}
	r.untidy = true
	for i := start - 1; r.raw[i] == '\n' || r.raw[i] == '\r'; i-- {
		r.raw[i] = ' '
	}
	// A line of nothing but white space adds nothing; thousands of them are not gone through again and again.
	if !trimSpan(r.raw, start, stop).empty() {
		last.value = trimSpan(r.raw, int(last.value.from), stop)
	}
	return nil
}

func (r *responseHead) scanField(start, stop int) *reason.Failure {
	f, reject := parseField(r.raw, start, stop)
	if reject != "" {
		return reason.BadResponsef("%s", reject)
	}
	r.fields = append(r.fields, f)
	if reject := r.bodyFraming.scan(f.kind, f.value.of(r.raw)); reject != "" {
		return reason.BadResponsef("%s", reject)
	}
	return nil
}

// checkFraming refuses a head that leaves open where the body ends. It also reads the Connection fields, which are
// whole only now that the last folded line has been joined.
func (r *responseHead) checkFraming() *reason.Failure {
	for _, f := range r.fields {
		if f.kind == kindConnection {
			r.connectionOptions.scan(f.value.of(r.raw))
		}
	}
	if r.names {
		dropNamed(r.raw, r.fields)
	}
	if reject := r.bodyFraming.check(r.http10); reject != "" {
		return reason.BadResponsef("%s", reject)
	}
	if r.status == 101 {
		return reason.Upgradef("it switches protocols, which nobody asked for")
	}
	return nil
}

// interim reports whether another response follows on this one (RFC 9110 section 15.2).
func (r *responseHead) interim() bool { return r.status < 200 }

// bodiless reports whether no body follows, whatever the fields say (RFC 9112 section 6.3).
func (r *responseHead) bodiless(headRequest bool) bool {
	return headRequest || r.interim() || r.status == 204 || r.status == 304
}

// reusable reports whether the connection may carry another request once the response has ended.
func (r *responseHead) reusable() bool {
	return !r.untidy && !r.close && (!r.http10 || r.keepAlive)
}
