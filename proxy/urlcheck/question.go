// Package urlcheck is what a URL check asks and what it is answered: what would become of a request to a URL, for the page
// where customers type theirs in. How far a URL gets is for its caller to find out, and for reason to name; this package has
// the query that asks for it, the words for what came of it, and the answer in which a client reads them.
package urlcheck

import (
	"bytes"
	"net/url"
	"strings"

	"whsentry/proxy/reason"
)

const (
	// Path is what a check is asked at, of a listener.
	Path = "/check"
	// Methods are those that it answers.
	Methods = "GET, HEAD"
)

// Question is what is asked.
type Question struct {
	URL     string // decoded
	Connect bool   // whether to connect, too
}

// IsTarget reports whether the target of a request asks for a check.
func IsTarget(target []byte) bool {
	rest, found := bytes.CutPrefix(target, []byte(Path))
	return found && (len(rest) == 0 || rest[0] == '?')
}

// Parse reads the question in a target. It decodes once, and a plus is a plus: form encoding would make http://a/?b+c
// another URL.
func Parse(target string) (q Question, f *reason.Failure) {
	_, query, _ := strings.Cut(target, "?")
	seen := make(map[string]bool)
	for parameter := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(parameter, "=")
		name, err := url.PathUnescape(name)
		if err == nil && (name == "url" || name == "connect") {
			value, err = url.PathUnescape(value)
		}
		if err != nil {
			return q, malformedf("the query of %s cannot be decoded", Path)
		}
		switch name {
		case "url":
			q.URL = value
		case "connect":
			if value != "true" && value != "false" {
				return q, malformedf("connect of %s is neither true nor false", Path)
			}
			q.Connect = value == "true"
		default:
			continue
		}
		if seen[name] {
			return q, malformedf("%s has more than one %s", Path, name)
		}
		seen[name] = true
	}
	if q.URL == "" {
		return q, malformedf("%s has no url; want %[1]s?url= and an encoded URL", Path)
	}
	return q, nil
}

// malformedf is a question that is none. Its connection goes on, for where the request ends is clear.
func malformedf(format string, args ...any) *reason.Failure {
	return reason.Newf(reason.Malformed, "malformed request: "+format, args...)
}
