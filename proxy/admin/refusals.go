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
	hostsUnfolded    = 3   // how many hosts one client is shown to have asked for in vain, for one reason, one by one
	hostsShown       = 5   // how many of the last hosts are named where these are one entry
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
	Source   string
	Text     string
	Rule     string // that refused an address; "" where it was something else
	Upstream string // that was connected to, or was to be; "": none
	Times    uint64 // since the first of them
	First    time.Time
	// Others are method and URL of the last ones before this, the latest first, where many hosts are one entry.
	Others []string

	who string // the client, without its port
}

// Since is when the first of them was, with its day where that was another.
func (r *refusal) Since() string {
	if day := r.First.Format(time.DateOnly); day != r.At.Format(time.DateOnly) {
		return day + " " + r.First.Format(time.TimeOnly)
	}
	return r.First.Format(time.TimeOnly)
}

// Asked is what was asked for.
func (r *refusal) Asked() string { return r.Method + " " + r.URL }

// refusals are the most recent ones, the latest last. Two things are one entry, lest they fill the list: those with the
// same method, URL and reason, which are one noisy destination; and where there are many URLs, those of one client with
// one reason, which are somebody who scans.
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
		Source: r.Source.String(), Method: showRaw(r.Method, maxShownShort), URL: showRaw(r.URL, maxShown), Text: showText(r.Text),
	}
	entry.who = r.ClientName + " " + r.Client[:max(strings.LastIndexByte(r.Client, ':'), 0)]
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
	l.fold(&entry)
	if len(l.list) >= refusalCount {
		l.list = slices.Delete(l.list, 0, 1)
	}
	l.list = append(l.list, entry)
}

// fold takes out of the list what becomes one entry with r.
func (l *refusals) fold(r *refusal) {
	if i := slices.IndexFunc(l.list, r.isLike); i >= 0 {
		r.take(&l.list[i])
		l.list = slices.Delete(l.list, i, i+1)
		return
	}
	n, many := 0, false
	for i := range l.list {
		if l.list[i].isBy(r) {
			n, many = n+1, many || l.list[i].Others != nil
		}
	}
	if n < hostsUnfolded && !many {
		return
	}
	for i := len(l.list) - 1; i >= 0; i-- { // the latest first
		if l.list[i].isBy(r) {
			r.name(l.list[i].Asked())
			r.take(&l.list[i])
			l.list = slices.Delete(l.list, i, i+1)
		}
	}
}

// take adds what other stands for, which is older.
func (r *refusal) take(other *refusal) {
	r.Times += other.Times
	if other.First.Before(r.First) {
		r.First = other.First
	}
	for _, asked := range other.Others {
		r.name(asked)
	}
}

// name adds what was asked for before r to what its entry names.
func (r *refusal) name(asked string) {
	if asked != r.Asked() && len(r.Others) < hostsShown && !slices.Contains(r.Others, asked) {
		r.Others = append(r.Others, asked)
	}
}

// isLike reports whether both are about the same request. The latest of many hosts is not that one alone.
func (r *refusal) isLike(other refusal) bool {
	return r.Reason == other.Reason && r.Status == other.Status && r.URL == other.URL && r.Method == other.Method && other.Others == nil
}

// isBy reports whether both are of one client, and for one reason.
func (r *refusal) isBy(other *refusal) bool {
	return r.Reason == other.Reason && r.Status == other.Status && r.who == other.who
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
