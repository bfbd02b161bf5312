package admin

import (
	"net/netip"
	"slices"
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
	maxShownID       = 64  // bytes of a request's id
)

// refusal is a request that the proxy answered itself, as the status page shows it, with how many were like it. All of it
// can be printed, which says nothing of HTML.
type refusal struct {
	At       time.Time
	ID       string
	Client   string // its address, and its name in the settings
	Method   string
	URL      string // its scheme and host
	Status   int
	Reason   reason.Code
	Text     string
	Rule     string // that refused an address; "" where it was something else
	Upstream string // that was connected to, or was to be; "": none
	Times    uint64 // since the first of them
	First    time.Time
}

// refusals are the most recent ones, the latest last. Those with the same method, URL and reason are one, so that one
// noisy destination does not fill the list.
type refusals struct {
	mu   sync.Mutex // guards the following
	list []refusal
}

// Refused is a request that the proxy has answered itself. Its parts may hold anything.
type Refused struct {
	ID         []byte
	Client     string // its address
	ClientName string // in the settings; "": none
	Method     []byte // empty: not known
	URL        []byte // its scheme and host; empty: not known
	Status     int
	Code       reason.Code
	Source     reason.Source
	Text       string         // the reason's
	Rule       guard.Rule     // that refused an address
	Upstream   netip.AddrPort // that was connected to, or was to be; not valid: none
	// Destination is host and port asked for; "": not known.
	Destination string
}

// add takes down r.
func (l *refusals) add(r *Refused, at time.Time) {
	entry := refusal{
		At: at, First: at, Times: 1, ID: showRaw(r.ID, maxShownID), Client: r.Client, Status: r.Status, Reason: r.Code,
		Method: showRaw(r.Method, maxShownShort), URL: showRaw(r.URL, maxShown), Text: showText(r.Text),
	}
	if r.ClientName != "" {
		entry.Client += " (" + r.ClientName + ")"
	}
	if r.Rule.Name != "" {
		entry.Rule = r.Rule.String()
	}
	if r.Upstream.IsValid() {
		entry.Upstream = r.Upstream.String()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.list, entry.isLike)
	switch {
	case i >= 0:
		entry.Times, entry.First = l.list[i].Times+1, l.list[i].First
		l.list = slices.Delete(l.list, i, i+1)
	case len(l.list) >= refusalCount:
		l.list = slices.Delete(l.list, 0, 1)
	}
	l.list = append(l.list, entry)
}

func (r *refusal) isLike(other refusal) bool {
	return r.Reason == other.Reason && r.Status == other.Status && r.URL == other.URL && r.Method == other.Method
}

// latest returns them, the latest first.
func (l *refusals) latest() []refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := slices.Clone(l.list)
	slices.Reverse(list)
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
