package proxy

import (
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"whsentry/proxy/reason"
)

const (
	refusalCount     = 50  // how many refusals the status page has
	refusalsUnfolded = 10  // how many of them are seen at once
	maxShown         = 300 // bytes of a URL, or of a reason's text, that it shows
	maxShownShort    = 32  // bytes of a method
)

// refusal is a request that the proxy answered itself, as the status page shows it. All of it can be printed, which
// says nothing of HTML.
type refusal struct {
	At     time.Time
	Client string
	Method string
	URL    string // its scheme and host
	Status int
	Reason reason.Code
	Text   string
	Rule   string // that refused an address; "" where it was something else
}

// refusals are the most recent ones.
type refusals struct {
	mu   sync.Mutex // guards the following
	ring [refusalCount]refusal
	n    int // how many there have been
}

// add takes down an exchange that the proxy has answered itself, for f.
func (r *refusals) add(ex *exchange, f *reason.Failure) {
	// A path or a query may be a secret, as those of many webhooks are, and more people see this page than the log.
	ex.url = ex.appendURL(ex.url[:0], URLHost)
	entry := refusal{
		At: time.Now(), Client: ex.client.addr, Status: ex.status, Reason: ex.reason,
		Method: showRaw(orDash(ex.method()), maxShownShort), URL: showRaw(orDash(ex.url), maxShown),
		Text: showText(ex.reasonText),
	}
	if f.Rule.Name != "" {
		entry.Rule = f.Rule.String()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring[r.n%refusalCount] = entry
	r.n++
}

// latest returns them, the latest first.
func (r *refusals) latest() []refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []refusal
	for i := r.n - 1; i >= 0 && i >= r.n-refusalCount; i-- {
		list = append(list, r.ring[i%refusalCount])
	}
	return list
}

// showRaw returns b as the text log has it, up to limit bytes of it.
func showRaw(b []byte, limit int) string {
	if len(b) > limit {
		return string(appendEscaped(nil, b[:limit])) + "…"
	}
	return string(appendEscaped(nil, b))
}

// showText returns a reason's text on one line, without what would turn the direction of writing or hide.
func showText(text string) string {
	cut := len(text) > maxShown
	if cut {
		text = text[:maxShown]
	}
	text = strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return utf8.RuneError
	}, text)
	if cut {
		text += "…"
	}
	return text
}
