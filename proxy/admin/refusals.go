package admin

import (
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"whsentry/guard"
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

// Refused is a request that the proxy has answered itself. Its parts may hold anything.
type Refused struct {
	Client string
	Method []byte // empty: not known
	URL    []byte // its scheme and host; empty: not known
	Status int
	Code   reason.Code
	Text   string     // the reason's
	Rule   guard.Rule // that refused an address
}

// add takes down r.
func (list *refusals) add(r *Refused) {
	entry := refusal{
		At: time.Now(), Client: r.Client, Status: r.Status, Reason: r.Code,
		Method: showRaw(r.Method, maxShownShort), URL: showRaw(r.URL, maxShown), Text: showText(r.Text),
	}
	if r.Rule.Name != "" {
		entry.Rule = r.Rule.String()
	}
	list.mu.Lock()
	defer list.mu.Unlock()
	list.ring[list.n%refusalCount] = entry
	list.n++
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
	if len(b) == 0 {
		return "-"
	}
	if len(b) > limit {
		return string(reason.AppendWord(nil, b[:limit])) + "…"
	}
	return string(reason.AppendWord(nil, b))
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
