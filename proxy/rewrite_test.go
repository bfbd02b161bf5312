package proxy

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"whsentry/proxy/e2e/corpus"
	"whsentry/proxy/http1"
)

// The rewriting of heads, once more and as plainly as it can be said: what appendRequestHead and appendResponseHead
// are held to. It knows no spans and no kinds, and takes a head for granted that has been scanned.

// plainField is a field as it was written, and its name in small letters.
type plainField struct{ name, lower, value string }

// plainFields takes the lines behind the first one apart, and joins those that are folded.
func plainFields(head string) (first string, fields []plainField) {
	head = folds.ReplaceAllStringFunc(head, func(fold string) string { return strings.Repeat(" ", len(fold)-1) + fold[len(fold)-1:] })
	lines := strings.Split(strings.ReplaceAll(head, "\r\n", "\n"), "\n")
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if ok {
			fields = append(fields, plainField{name, asciiLower(name), strings.Trim(value, " \t")})
		}
	}
	return lines[0], fields
}

var folds = regexp.MustCompile(`\r?\n[ \t]`)

func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// hopByHop reports whether a field with that name goes no further than the proxy.
func hopByHop(lower string, fields []plainField) bool {
	switch lower {
	case "connection", "keep-alive", "te", "trailer", "upgrade", "transfer-encoding":
		return true
	case "host", "content-length": // written anew, whatever Connection says
		return false
	}
	if strings.HasPrefix(lower, "proxy-") || strings.HasPrefix(lower, "x-whsentry-") {
		return true
	}
	return slices.ContainsFunc(fields, func(f plainField) bool {
		return f.lower == "connection" && slices.ContainsFunc(strings.Split(f.value, ","), func(option string) bool {
			return asciiLower(strings.Trim(option, " \t")) == lower
		})
	})
}

func plainLine(name, value string) string {
	if value == "" {
		return name + ":\r\n"
	}
	return name + ": " + value + "\r\n"
}

// rewrittenRequest is what appendRequestHead makes of a head with that authority and path.
func rewrittenRequest(head, authority, path, agent string, bodyLen int) string {
	line, fields := plainFields(strings.TrimLeft(head, "\r\n"))
	method, _, _ := strings.Cut(line, " ")
	switch {
	case path == "" && method == "OPTIONS":
		path = "*"
	case !strings.HasPrefix(path, "/"):
		path = "/" + path
	}
	out := method + " " + path + " HTTP/1.1\r\n"
	if !slices.ContainsFunc(fields, func(f plainField) bool { return f.lower == "host" }) {
		out += plainLine("Host", authority)
	}
	length, replaced := strconv.Itoa(bodyLen), false
	for _, f := range fields {
		switch {
		case f.lower == "host":
			out += plainLine(f.name, authority)
		case f.lower == "content-length":
			out += plainLine(f.name, length)
		case f.lower == "transfer-encoding":
			out += plainLine("Content-Length", length)
		case hopByHop(f.lower, fields):
		case f.lower == "expect" && asciiLower(f.value) == "100-continue":
		case f.lower == "user-agent" && agent != "":
			if !replaced {
				out += plainLine(f.name, agent)
			}
			replaced = true
		default:
			out += plainLine(f.name, f.value)
		}
	}
	if agent != "" && !replaced {
		out += plainLine("User-Agent", agent)
	}
	return out + "\r\n"
}

// rewrittenResponse is what appendResponseHead makes of a head.
func rewrittenResponse(head string, how http1.Framing, length int64, keep bool) string {
	line, fields := plainFields(head)
	out := "HTTP/1.1 " + line[len("HTTP/1.1 "):]
	if len(line) == len("HTTP/1.1 200") {
		out += " "
	}
	out += "\r\n"
	written := how != http1.ByLength
	for _, f := range fields {
		switch {
		case f.lower == "content-length":
			if !written {
				out += plainLine(f.name, strconv.FormatInt(length, 10))
			}
			written = true
		case !hopByHop(f.lower, fields):
			out += plainLine(f.name, f.value)
		}
	}
	if !written {
		out += plainLine("Content-Length", strconv.FormatInt(length, 10))
	}
	if how == http1.ByChunks {
		out += "Transfer-Encoding: chunked\r\n"
	}
	if !keep && line[len("HTTP/1.1 ")] != '1' {
		out += "Connection: close\r\n"
	}
	return out + "\r\n"
}

// FuzzRequestRewrite holds the rewriting of every head that is taken to the plain one.
func FuzzRequestRewrite(f *testing.F) {
	for _, row := range corpus.Requests(f) {
		f.Add([]byte(row.To("h.test:8080").Sends), 3, "Webhook Sentry/0.1")
	}
	f.Add([]byte("POST http://h?a HTTP/1.1\r\nuser-agent: a\r\nConnection: User-Agent,X-A\r\nx-a: b\r\nUSER-AGENT: c\r\nHost: i\r\n\r\n"), 0, "")
	f.Fuzz(func(t *testing.T, raw []byte, bodyLen int, agent string) {
		h, got := scanWhole(string(raw))
		target, failed := http1.ParseTarget(h.Target)
		if got.length == 0 || failed != nil || bodyLen < 0 || !http1.IsValue([]byte(agent)) || strings.Trim(agent, " \t") != agent {
			return
		}
		ex := exchangeFor(t, string(raw[:got.length]))
		defer ex.release()
		cfg := *ex.run.cfg
		cfg.UserAgent = agent
		ex.run.cfg = &cfg
		want := rewrittenRequest(string(raw[:got.length]), string(target.Authority.Raw), string(target.Path), agent, bodyLen)
		if sent := string(ex.appendRequestHead(nil, bodyLen)); sent != want {
			t.Fatalf("%q: got %q at the destination; want %q", raw[:got.length], sent, want)
		}
	})
}

// FuzzResponseRewrite holds the rewriting of every head that is taken to the plain one.
func FuzzResponseRewrite(f *testing.F) {
	for _, row := range corpus.Responses(f) {
		f.Add([]byte(row.Sends), int64(2), true)
	}
	f.Add([]byte("HTTP/1.0 200\nA:\n\t \n b\nConnection: B,\n\tC\nb: 1\nC: 2\n\n"), int64(0), false)
	f.Fuzz(func(t *testing.T, raw []byte, length int64, keep bool) {
		r, got := scanResponse(string(raw))
		if got.length == 0 || length < 0 {
			return
		}
		ex := acquireExchange()
		defer ex.release()
		ex.keep = keep
		for _, how := range []http1.Framing{http1.NoBody, http1.ByLength, http1.ByChunks, http1.ByClose} {
			want := rewrittenResponse(string(raw[:got.length]), how, length, keep)
			if passed := string(ex.appendResponseHead(nil, r, how, length)); passed != want {
				t.Fatalf("%q: got %q at the client; want %q", raw[:got.length], passed, want)
			}
		}
	})
}
