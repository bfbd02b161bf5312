package admin

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
)

const (
	// markInterval is how often all counts are noted, for what has happened of late beside what has since the start.
	markInterval = time.Minute
	// markCount is how many notes are kept: from the first to the last there are ten minutes.
	markCount = 11
)

// countKind is what a count is of.
type countKind uint8

const (
	byAnswer     countKind = iota // by the class of the destination's status
	bySource                      // by whose failure it was
	byReason                      // by reason and by whose failure it was, with a space between them
	byRule                        // refused addresses, by rule
	byClient                      // requests, by client of the settings
	byRefusals                    // refused or failed requests, by client of the settings
	byClosing                     // connections to destinations, by why they were closed
	byListener                    // clients' connections
	byMiscellany                  // what has one count
)

// countKey names a count. Names come from the settings and from closed sets, so that there is an end to them.
type countKey struct {
	kind countKind
	name string
}

// counts is how much there was of everything since the start, at a moment.
type counts map[countKey]uint64

// count reads the counts.
func (src *Source) count(state State) counts {
	all, m, g := make(counts), src.Metrics, state.Guard
	for _, l := range state.Listeners {
		all[countKey{byListener, l.Name}] = l.Counts.Total.Get()
	}
	m.EachRequest(func(status int, why reason.Code, source reason.Source, n uint64) {
		switch {
		case why != reason.None:
			all[countKey{byReason, fmt.Sprintf("%d %s", int(why), source)}] += n
			all[countKey{bySource, source.String()}] += n
		case status == reason.StatusClientGone:
			all[countKey{byAnswer, goneClass}] += n
		default:
			all[countKey{byAnswer, classOf(status)}] += n
		}
	})
	if g != nil {
		for _, r := range g.Rules() {
			all[countKey{byRule, r.Name}] = m.RefusedBy(r).Get()
		}
	}
	m.EachClient(func(name string, requests, own uint64) {
		all[countKey{byClient, name}], all[countKey{byRefusals, name}] = requests, own
	})
	m.EachClosed(func(why string, n uint64) { all[countKey{byClosing, why}] = n })
	for name, n := range map[string]uint64{
		countOpened: m.UpstreamsOpened.Get(), countReused: m.UpstreamsReused.Get(), countTunnels: m.TunnelsTotal.Get(),
		countLookedUp: m.Lookups(guard.LookupOK), countCached: m.Lookups(guard.LookupCached), countUnresolved: m.Lookups(guard.LookupFailed),
		countRefreshes: m.Refreshes(ca.RefreshUpdated) + m.Refreshes(ca.RefreshUnchanged) + m.Refreshes(ca.RefreshFailed),
		countStale:     m.Refreshes(ca.RefreshFailed),
		countReloads:   m.ReloadsOK.Get(), countReloadsFailed: m.ReloadsFailed.Get(), countLogErrors: m.LogErrors.Get(),
	} {
		all[countKey{byMiscellany, name}] = n
	}
	return all
}

const (
	goneClass  = "499"
	otherClass = "600 to 999"

	countOpened, countReused, countTunnels      = "opened", "reused", "tunnels"
	countLookedUp, countCached, countUnresolved = "names looked up", "names found in the cache", "names that did not resolve"
	countReloads, countReloadsFailed            = "settings reloaded", "reloads that failed"
	countRefreshes, countStale                  = "looks for a newer bundle", "looks that failed"
	countLogErrors                              = "errors in writing logs"
)

func classOf(status int) string {
	if status == metrics.OtherStatus {
		return otherClass
	}
	return fmt.Sprintf("%dxx", status/100)
}

// marks are the counts of the last minutes.
type marks struct {
	mu   sync.Mutex // guards the following
	ring [markCount]counts
	n    int // how many there have been
	last time.Time
}

// add notes all, unless the last note is not old yet.
func (m *marks) add(at time.Time, all func() counts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n > 0 && at.Sub(m.last) < markInterval {
		return
	}
	m.ring[m.n%markCount] = all()
	m.n++
	m.last = at
}

// oldest returns the counts of ten minutes ago, or else the first; they do not change any more.
func (m *marks) oldest() counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ring[max(m.n-markCount, 0)%markCount]
}

// tally is the counts as they are shown: since the start, and of late.
type tally struct{ now, before counts }

func (t tally) of(kind countKind, name string) (total, recent uint64) {
	key := countKey{kind, name}
	total = t.now[key]
	return total, total - min(t.before[key], total)
}

// sum is of everything of some kinds.
func (t tally) sum(kinds ...countKind) (total, recent uint64) {
	for key := range t.now {
		if slices.Contains(kinds, key.kind) {
			n, late := t.of(key.kind, key.name)
			total, recent = total+n, recent+late
		}
	}
	return total, recent
}

// portions returns what there was any of, by kind, in the order of name.
func (t tally) portions(kind countKind) []portion {
	var list []portion
	for key, n := range t.now {
		if key.kind == kind && n > 0 {
			_, recent := t.of(kind, key.name)
			list = append(list, portion{Name: key.name, Count: n, Recent: recent})
		}
	}
	slices.SortFunc(list, func(a, b portion) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// fact is one count with what there was of it of late.
func (t tally) fact(name string) fact {
	total, recent := t.of(byMiscellany, name)
	return fact{Name: name, Value: showCount(total), Note: lately(recent)}
}

// sinceStart is how a count is written beside what there is now.
func sinceStart(total, recent uint64) string {
	return showCount(total) + " since the start, " + lately(recent)
}

// lately is how a count of the last minutes is written beside that since the start.
func lately(n uint64) string { return "+" + showCount(n) + " in 10 min" }
