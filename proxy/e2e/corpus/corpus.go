// Package corpus is what clients and destinations send, by malice or by mistake, to make two readers of HTTP/1.1 see
// different messages in the same bytes; and, row by row, what the proxy makes of it. Tests of the whole proxy send the
// rows; tests of its parsers begin with them.
//
// The rows are in requests.txt and responses.txt. A row is a line with its name and, each behind a tab, lines of a
// word and what it says. Empty lines and those that begin with a # are for people. Bytes are written as in a Go
// string, without the quotes; a word may be repeated, and what it says is then joined, so that a long message can
// have a line for each of its own. In them stand
//
//	{o}       the destination's address
//	{POST}    (or any method in capitals) request line and Host of a request for the destination's root
//	{ua}      the User-Agent that the proxy puts in
//	{hidden}  a whole request, 53 bytes long, that is nobody's: at most a part of a body
//
// The words of a request:
//
//	sends   what the client sends
//	passed  what reaches the destination; nothing where it is missing
//	answer  what the client is told: the status; the reason, unless the destination answers; and "closed" where the
//	        connection ends behind it. Once for each request that is found in what the client sends.
//
// The words of a response:
//
//	to      the request's method, POST where it is missing
//	sends   what the destination sends
//	hangs   "up", where the destination closes its connection behind it
//	passed  what the client gets
//	answer  status and reason that the client gets from the proxy instead
//	then    "reused", where the destination's connection carries another request
package corpus

import (
	_ "embed"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	//go:embed requests.txt
	requests string
	//go:embed responses.txt
	responses string
)

const (
	userAgent = "User-Agent: Webhook Sentry/0.1\r\n"
	hidden    = "GET http://127.0.0.1:1/hidden HTTP/1.1\r\nHost: abc\r\n\r\n"
)

// Answer is what a client is told of one of its requests.
type Answer struct {
	Status int
	Reason string // the code; "" where the destination answers
	Closed bool   // the connection ends behind it
}

// Request is what a client sends, which may be more than one request, with all that comes of it.
type Request struct {
	Name    string
	Sends   string
	Passed  string // what reaches the destination; "" for no connection
	Answers []Answer
}

// Refused reports whether the row is about one request, and that is malformed.
func (r *Request) Refused() bool {
	return len(r.Answers) == 1 && r.Answers[0] == Answer{Status: 400, Reason: "1002", Closed: true}
}

// Response is what a destination answers to a request, with all that comes of it.
type Response struct {
	Name    string
	Method  string // of the request
	Sends   string
	HangsUp bool   // the destination closes its connection behind it
	Passed  string // what the client gets; "" where Answer is what it gets
	Answer  Answer
	Reused  bool // the destination's connection carries another request
}

// Requests returns the rows of requests.txt, for To or Inside to complete.
func Requests(t testing.TB) (rows []Request) {
	t.Helper()
	for _, row := range parse(t, "requests.txt", requests) {
		r := Request{Name: row.name}
		for _, l := range row.lines {
			switch l.word {
			case "sends":
				r.Sends += l.bytes(t)
			case "passed":
				r.Passed += l.bytes(t)
			case "answer":
				r.Answers = append(r.Answers, l.answer(t))
			default:
				t.Fatalf("requests.txt:%d: no word of a request is %q", l.number, l.word)
			}
		}
		if r.Sends == "" || len(r.Answers) == 0 {
			t.Fatalf("requests.txt: %q lacks what the client sends, or is told", r.Name)
		}
		rows = append(rows, r)
	}
	return rows
}

var beginning = regexp.MustCompile(`\{([A-Z]+)\}`)

// To completes the row for a destination with that address.
func (r Request) To(address string) Request {
	r.Sends = beginning.ReplaceAllString(r.Sends, "$1 http://{o}/ HTTP/1.1\r\nHost: {o}\r\n")
	return r.replace(address)
}

// Inside completes the row for an intercepted tunnel to that address, in which a request's target is its path. ok says
// that the row makes sense there.
func (r Request) Inside(address string) (row Request, ok bool) {
	if !beginning.MatchString(r.Sends) {
		return r, false
	}
	r.Sends = beginning.ReplaceAllString(r.Sends, "$1 / HTTP/1.1\r\nHost: {o}\r\n")
	return r.replace(address), true
}

func (r Request) replace(address string) Request {
	r.Passed = beginning.ReplaceAllString(r.Passed, "$1 / HTTP/1.1\r\nHost: {o}\r\n")
	replacer := strings.NewReplacer("{o}", address, "{ua}", userAgent, "{hidden}", hidden)
	r.Sends, r.Passed = replacer.Replace(r.Sends), replacer.Replace(r.Passed)
	return r
}

// Responses returns the rows of responses.txt.
func Responses(t testing.TB) (rows []Response) {
	t.Helper()
	for _, row := range parse(t, "responses.txt", responses) {
		r := Response{Name: row.name, Method: "POST"}
		for _, l := range row.lines {
			switch l.word {
			case "to":
				r.Method = l.says
			case "sends":
				r.Sends += l.bytes(t)
			case "hangs":
				r.HangsUp = true
			case "passed":
				r.Passed += l.bytes(t)
			case "answer":
				r.Answer = l.answer(t)
			case "then":
				r.Reused = true
			default:
				t.Fatalf("responses.txt:%d: no word of a response is %q", l.number, l.word)
			}
		}
		if (r.Passed == "") == (r.Answer.Status == 0) {
			t.Fatalf("responses.txt: %q lacks what the client gets, or says it twice", r.Name)
		}
		rows = append(rows, r)
	}
	return rows
}

type row struct {
	name  string
	lines []line
}

type line struct {
	file       string
	number     int
	word, says string
}

func parse(t testing.TB, file, text string) (rows []row) {
	t.Helper()
	seen := make(map[string]bool)
	number := 0
	for raw := range strings.Lines(text) {
		number++
		raw = strings.TrimSuffix(raw, "\n")
		said, indented := strings.CutPrefix(raw, "\t")
		switch {
		case strings.HasPrefix(raw, "#") || raw == "":
		case !indented:
			if seen[raw] {
				t.Fatalf("%s:%d: %q is there twice", file, number, raw)
			}
			seen[raw] = true
			rows = append(rows, row{name: raw})
		case len(rows) == 0:
			t.Fatalf("%s:%d: it belongs to no row", file, number)
		default:
			word, says, _ := strings.Cut(said, " ")
			last := &rows[len(rows)-1]
			last.lines = append(last.lines, line{file, number, word, strings.TrimLeft(says, " ")})
		}
	}
	return rows
}

// bytes is what the line says as a part of a message.
func (l *line) bytes(t testing.TB) string {
	t.Helper()
	b, err := strconv.Unquote(`"` + strings.ReplaceAll(l.says, `"`, `\"`) + `"`)
	if err != nil {
		t.Fatalf("%s:%d: %q is not written as in a Go string", l.file, l.number, l.says)
	}
	return b
}

func (l *line) answer(t testing.TB) (a Answer) {
	t.Helper()
	words := strings.Fields(l.says)
	if n := len(words); n > 0 && words[n-1] == "closed" {
		a.Closed, words = true, words[:n-1]
	}
	if len(words) == 2 {
		a.Reason, words = words[1], words[:1]
	}
	status, err := strconv.Atoi(strings.Join(words, " "))
	if err != nil {
		t.Fatalf("%s:%d: %q is no status, with or without a reason and closed", l.file, l.number, l.says)
	}
	a.Status = status
	return a
}

// oddBytes are those that parsers have been seen to disagree about, and a few that mean something in a head.
var oddBytes = []byte("\x00\x01\x08\t\n\x0b\x0c\r\x1b\x1c\x1f !\"#%'()*+,-./09:;<=?@A[\\]_x{|}~\x7f\x80\x85\xa0\xad\xb3\xc2\xe2\xff")

// Disguises calls try with s in which one odd byte has been put somewhere, or in place of another.
func Disguises(s string, try func(disguised string)) {
	for i := range len(s) + 1 {
		for _, c := range oddBytes {
			try(s[:i] + string([]byte{c}) + s[i:])
			if i < len(s) {
				try(s[:i] + string([]byte{c}) + s[i+1:])
			}
		}
	}
}
