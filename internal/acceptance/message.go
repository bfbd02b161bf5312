//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"
)

// maxHead and maxBody bound what is read from the proxy and from its clients.
const (
	maxHead = 1 << 20
	maxBody = 16 << 20
)

var errCut = errors.New("the message is cut short")

// field is one header line, as it was on the wire.
type field struct{ Name, Value string }

// message is an HTTP/1.x request or response, with its fields in the order and letters of the wire.
type message struct {
	Start   string // request line or status line, without CRLF
	Fields  []field
	Body    []byte
	Chunked bool
}

// readHead reads a start line and fields. io.EOF is a connection that ended between messages.
func readHead(br *bufio.Reader) (*message, error) {
	m := &message{}
	size := 0
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			if m.Start == "" && line == "" {
				return nil, err
			}
			return nil, fmt.Errorf("in the head, after %q: %w", line, errCut)
		}
		if size += len(line); size > maxHead {
			return nil, fmt.Errorf("head over %d bytes", maxHead)
		}
		line, ok := strings.CutSuffix(line, "\r\n")
		if !ok {
			return nil, fmt.Errorf("line %q does not end in CRLF", line)
		}
		switch {
		case m.Start == "":
			m.Start = line
		case line == "":
			m.Chunked = strings.EqualFold(m.get("Transfer-Encoding"), "chunked")
			return m, nil
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				return nil, fmt.Errorf("header line %q has no colon", line)
			}
			m.Fields = append(m.Fields, field{name, strings.Trim(value, " \t")})
		}
	}
}

// readBody reads what follows the head. A body that is neither chunked nor has a length is empty, or with
// untilEnd goes on until the connection ends. errCut is wrapped where the body is shorter than it says.
func (m *message) readBody(br *bufio.Reader, untilEnd bool) error {
	length := m.get("Content-Length")
	var err error
	switch {
	case m.Chunked:
		if m.Body, err = io.ReadAll(io.LimitReader(httputil.NewChunkedReader(br), maxBody)); err == nil {
			err = skipTrailers(br)
		}
	case length != "":
		n, bad := strconv.ParseInt(length, 10, 64)
		if bad != nil || n < 0 || n > maxBody {
			return fmt.Errorf("Content-Length %q", length)
		}
		m.Body, err = io.ReadAll(io.LimitReader(br, n))
		if err == nil && int64(len(m.Body)) < n {
			err = io.ErrUnexpectedEOF
		}
	case untilEnd:
		m.Body, err = io.ReadAll(io.LimitReader(br, maxBody))
	}
	if err != nil {
		return fmt.Errorf("%w: after %d body bytes: %v", errCut, len(m.Body), err)
	}
	return nil
}

func skipTrailers(br *bufio.Reader) error {
	for range 100 {
		line, err := br.ReadString('\n')
		if err != nil || line == "\r\n" {
			return err
		}
	}
	return errors.New("over 100 trailers")
}

// get returns the first value of a field; names are compared without regard to letters.
func (m *message) get(name string) string {
	for _, f := range m.Fields {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// status returns the number in a status line, 0 where there is none.
func (m *message) status() int {
	_, rest, _ := strings.Cut(m.Start, " ")
	code, _, _ := strings.Cut(rest, " ")
	n, _ := strconv.Atoi(code)
	return n
}

// reason returns X-WhSentry-ReasonCode, "0" where the destination answered.
func (m *message) reason() string {
	if code := m.get("X-WhSentry-ReasonCode"); code != "" {
		return code
	}
	return "0"
}

// verdict is the pair that an answer is told by: "200/0", "403/1000".
func (m *message) verdict() string { return fmt.Sprintf("%d/%s", m.status(), m.reason()) }

// readAnswer reads a response to a request of the given method, interim ones skipped.
func readAnswer(br *bufio.Reader, method string) (*message, error) {
	for {
		m, err := readHead(br)
		if err != nil {
			return nil, err
		}
		status := m.status()
		if status >= 100 && status < 200 {
			continue
		}
		if method == "HEAD" || status == 204 || status == 304 || method == "CONNECT" && status == 200 {
			return m, nil
		}
		return m, m.readBody(br, true)
	}
}

// ask sends raw bytes over a new connection and reads one answer.
func ask(address, raw string) (*message, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(conn, raw); err != nil {
		return nil, err
	}
	method, _, _ := strings.Cut(raw, " ")
	return readAnswer(bufio.NewReader(conn), method)
}
