package http1

import "fmt"

// Error says what is wrong with a message that was read.
type Error struct {
	Kind ErrorKind
	Text string // one line, whose outside parts may hold anything: it is escaped where it is written
}

func (e *Error) Error() string { return e.Text }

// ErrorKind says what an Error means to whoever answers for the message.
type ErrorKind uint8

const (
	Malformed   ErrorKind = iota // a request that breaks HTTP's framing: where the next one begins is not known
	TooLarge                     // a request's head, or a trailer section, over its limit
	BadTarget                    // a request whose extent is clear, but not for whom it is
	BadScheme                    // the same: its URI is neither http nor https
	BadChunks                    // a chunked body, of a request or of a response
	BadResponse                  // a response that cannot be passed on
)

func requestErrorf(kind ErrorKind, format string, args ...any) error {
	return &Error{kind, fmt.Sprintf("malformed request: "+format, args...)}
}

func responseErrorf(format string, args ...any) error {
	return &Error{BadResponse, fmt.Sprintf("malformed response: "+format, args...)}
}

var errBareLF = requestErrorf(Malformed, "a line of its head ends with a bare LF")
