package admin

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"whsentry/proxy/reason"
)

const (
	failingKept  = 256 // destinations whose failures are counted
	failingShown = 10
	// failingMinutes is how many minutes "of late" are.
	failingMinutes = 10
)

// failing counts the failures of destinations, of those that fail most: where there are too many, the one with the
// fewest of late, and among such the one that has not failed for longest, gives way.
type failing struct {
	mu     sync.Mutex // guards the following
	byName map[string]*failures
}

// failures are those of one destination.
type failures struct {
	total   uint64
	minutes [failingMinutes]uint32 // a ring, by the minute
	last    time.Time
}

// age forgets what is more than ten minutes old at at.
func (f *failures) age(at time.Time) {
	from, to := f.last.Unix()/60, at.Unix()/60
	for m := max(from+1, to-failingMinutes+1); m <= to; m++ {
		f.minutes[m%failingMinutes] = 0
	}
	f.last = at
}

func (f *failures) recent() (n uint64) {
	for _, minute := range f.minutes {
		n += uint64(minute)
	}
	return n
}

// add counts a failure of the destination with that name.
func (l *failing) add(name string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.byName[name]
	if f == nil {
		if l.byName == nil {
			l.byName = make(map[string]*failures)
		}
		if len(l.byName) >= failingKept {
			l.giveWay()
		}
		f = &failures{last: at}
		l.byName[name] = f
	}
	f.age(at)
	f.total++
	f.minutes[at.Unix()/60%failingMinutes]++
}

func (l *failing) giveWay() {
	var least string
	var of *failures
	for name, f := range l.byName {
		if of == nil || cmp.Or(cmp.Compare(f.recent(), of.recent()), f.last.Compare(of.last)) < 0 {
			least, of = name, f
		}
	}
	delete(l.byName, least)
}

// top returns those with the most failures in the last ten minutes.
func (l *failing) top(at time.Time) []portion {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []portion
	for name, f := range l.byName {
		seen := *f
		seen.age(at)
		list = append(list, portion{Name: name, Class: reason.SourceDestination.String(), Count: seen.total, Recent: seen.recent()})
	}
	slices.SortFunc(list, func(a, b portion) int {
		return cmp.Or(cmp.Compare(b.Recent, a.Recent), cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name))
	})
	return scale(list[:min(len(list), failingShown)])
}
