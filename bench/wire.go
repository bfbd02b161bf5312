package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// maxHead is the largest head of a message that is read, bytes.
const maxHead = 64 << 10

// wire reads HTTP/1.1 messages (RFC 9112) from a connection: strictly enough to know where each ends, not more. It keeps
// no body. The generators and the origins both read with it.
type wire struct {
	conn       io.Reader
	buf        []byte
	start, end int // what has been read but not used: buf[start:end]
}

// newWire returns a wire with a buffer of size bytes, which grows for a head that needs more, up to maxHead.
func newWire(conn io.Reader, size int) *wire {
	return &wire{conn: conn, buf: make([]byte, size)}
}

// fill reads once more, behind what is there. It makes room by moving what is there to the front.
func (w *wire) fill() error {
	if w.start == w.end {
		w.start, w.end = 0, 0
	}
	if w.end == len(w.buf) {
		if w.start == 0 {
			if len(w.buf) >= maxHead {
				return fmt.Errorf("a line or a head of over %d bytes", maxHead)
			}
			w.buf = append(w.buf, make([]byte, len(w.buf))...)
		}
		w.end = copy(w.buf, w.buf[w.start:w.end])
		w.start = 0
	}
	n, err := w.conn.Read(w.buf[w.end:])
	w.end += n
	if n > 0 {
		return nil
	}
	return err
}

// upTo returns what comes up to and including mark, valid until the next read. The error is io.EOF only where the
// connection ended before the first byte.
func (w *wire) upTo(mark string) ([]byte, error) {
	seen := 0
	for {
		if i := bytes.Index(w.buf[w.start+seen:w.end], []byte(mark)); i >= 0 {
			found := w.buf[w.start : w.start+seen+i+len(mark)]
			w.start += len(found)
			return found, nil
		}
		seen = max(w.end-w.start-len(mark)+1, 0)
		if err := w.fill(); err != nil {
			if err == io.EOF && w.end > w.start {
				return nil, io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// skip drops the next n bytes.
func (w *wire) skip(n int64) error {
	for {
		have := min(int64(w.end-w.start), n)
		w.start += int(have)
		if n -= have; n == 0 {
			return nil
		}
		if err := w.fill(); err != nil {
			return unexpected(err)
		}
	}
}

// skipRest drops everything up to the end of the connection and returns how much that was.
func (w *wire) skipRest() (int64, error) {
	var n int64
	for {
		n += int64(w.end - w.start)
		w.start = w.end
		if err := w.fill(); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}

// skipChunked drops a chunked body with its trailers (RFC 9112 section 7.1) and returns how large it was.
func (w *wire) skipChunked() (int64, error) {
	var n int64
	for {
		line, err := w.upTo("\r\n")
		if err != nil {
			return n, unexpected(err)
		}
		digits, _, _ := bytes.Cut(line[:len(line)-2], []byte(";"))
		size, err := strconv.ParseUint(string(bytes.TrimRight(digits, " \t")), 16, 62)
		if err != nil {
			return n, fmt.Errorf("chunk size %.20q is no hexadecimal number", digits)
		}
		if size == 0 {
			return n, w.skipTrailers()
		}
		n += int64(size)
		if err := w.skip(int64(size)); err != nil {
			return n, err
		}
		if end, err := w.upTo("\r\n"); err != nil {
			return n, unexpected(err)
		} else if len(end) != 2 {
			return n, errors.New("a chunk is longer than its size says")
		}
	}
}

// skipTrailers drops the lines after the last chunk up to the empty one.
func (w *wire) skipTrailers() error {
	for range maxHead / 4 {
		line, err := w.upTo("\r\n")
		if err != nil {
			return unexpected(err)
		}
		if len(line) == 2 {
			return nil
		}
	}
	return fmt.Errorf("trailers of over %d lines", maxHead/4)
}

// unexpected returns err, and io.ErrUnexpectedEOF for io.EOF.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// head is what matters of a message's head.
type head struct {
	first   []byte // the first line, without its end; valid until the wire's next read
	length  int64  // Content-Length; -1: none
	chunked bool
	close   bool   // Connection: close, or HTTP/1.0 without keep-alive
	reason  string // X-WhSentry-Reason; "": not an answer of the proxy's own
}

// head reads a head.
func (w *wire) head() (head, error) {
	text, err := w.upTo("\r\n\r\n")
	if err != nil {
		return head{}, err
	}
	line, rest, _ := bytes.Cut(text, []byte("\r\n"))
	h := head{first: line, length: -1, close: bytes.Contains(line, []byte("HTTP/1.0"))}
	for {
		if line, rest, _ = bytes.Cut(rest, []byte("\r\n")); len(line) == 0 {
			return h, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if err := h.field(name, bytes.TrimSpace(value)); err != nil {
			return head{}, err
		}
	}
}

// field takes in one header field.
func (h *head) field(name, value []byte) error {
	switch {
	case is(name, "Content-Length"):
		n, err := strconv.ParseUint(string(value), 10, 63)
		if err != nil || h.length >= 0 && h.length != int64(n) {
			return fmt.Errorf("Content-Length %.30q is no length, or one of two", value)
		}
		h.length = int64(n)
	case is(name, "Transfer-Encoding"):
		if h.chunked = is(value, "chunked"); !h.chunked {
			return fmt.Errorf("Transfer-Encoding %.30q; want chunked", value)
		}
	case is(name, "Connection"):
		if is(value, "close") {
			h.close = true
		} else if is(value, "keep-alive") {
			h.close = false
		}
	case is(name, "X-WhSentry-Reason"):
		h.reason = string(value)
	}
	return nil
}

// is reports whether text is word, in letters of either case.
func is(text []byte, word string) bool {
	return len(text) == len(word) && bytes.EqualFold(text, []byte(word))
}

// status returns the status code of a response's first line.
func (h *head) status() (int, error) {
	line := h.first
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return 0, fmt.Errorf("status line %.60q; want HTTP/1.1 and a status", line)
	}
	n, err := strconv.ParseUint(string(line[9:12]), 10, 16)
	if err != nil || n < 100 || n > 599 {
		return 0, fmt.Errorf("status line %.60q; want a status from 100 to 599", line)
	}
	return int(n), nil
}

// skipBody drops the body that belongs to h, where there is one, and returns how large it was. toEnd says that a body
// without a length is one that ends with the connection (a response's), not one that is not there (a request's).
func (w *wire) skipBody(h *head, toEnd bool) (int64, error) {
	switch {
	case h.chunked:
		return w.skipChunked()
	case h.length >= 0:
		return h.length, w.skip(h.length)
	case toEnd:
		h.close = true
		return w.skipRest()
	}
	return 0, nil
}
