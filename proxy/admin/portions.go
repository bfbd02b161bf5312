package admin

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"whsentry/ca"
	"whsentry/policy"
	"whsentry/proxy/reason"
)

// sources are the failures, by whose they were.
func sources(t tally) []portion {
	list := []portion{
		{Name: reason.SourceProxy.String(), Note: "ours: limits, resolver, network"},
		{Name: reason.SourcePolicy.String(), Note: "our rules refused it"},
		{Name: reason.SourceDestination.String(), Note: "the customers' side failed"},
		{Name: reason.SourceClient.String(), Note: "the sender's request"},
	}
	for i := range list {
		list[i].Class = list[i].Name
		list[i].Count, list[i].Recent = t.of(bySource, list[i].Name)
	}
	return scale(list)
}

// answers are the requests that destinations answered, and those whose clients went away.
func answers(t tally) []portion {
	list := t.portions(byAnswer)
	for i := range list {
		if list[i].Name == goneClass {
			list[i].Note = "the client went away"
		}
	}
	return scale(list)
}

// reasons are the requests that the proxy answered itself. A reason with two sources has two rows.
func reasons(t tally) []portion {
	list := t.portions(byReason)
	for i := range list {
		list[i].Name, list[i].Class, _ = strings.Cut(list[i].Name, " ")
		code, _ := strconv.Atoi(list[i].Name)
		list[i].Note = reason.Code(code).Summary()
	}
	return scale(list)
}

// legend is every reason there is.
func legend() []portion {
	var list []portion
	for code := reason.First; code <= reason.Last; code++ {
		list = append(list, portion{Name: strconv.Itoa(int(code)), Note: code.Summary()})
	}
	return list
}

// rules are the rules that have refused addresses, by how often they did, of late before since the start.
func rules(t tally) []portion {
	list := t.portions(byRule)
	slices.SortStableFunc(list, func(a, b portion) int {
		return cmp.Or(cmp.Compare(b.Recent, a.Recent), cmp.Compare(b.Count, a.Count))
	})
	return scale(list)
}

// clientsShown is how many clients are listed, those with the most refusals of late first.
const clientsShown = 20

// clients are those of the settings, with the requests that were nobody's; none where there are none.
func clients(t tally) []clientPortion {
	var list []clientPortion
	named := false
	for key := range t.now {
		if key.kind != byClient {
			continue
		}
		c := clientPortion{Name: key.name}
		c.Requests, c.RecentRequests = t.of(byClient, key.name)
		c.Own, c.RecentOwn = t.of(byRefusals, key.name)
		if key.name == "" {
			c.Name = "(no client)"
		}
		named = named || key.name != ""
		list = append(list, c)
	}
	if !named {
		return nil
	}
	slices.SortFunc(list, func(a, b clientPortion) int {
		return cmp.Or(cmp.Compare(b.RecentOwn, a.RecentOwn), cmp.Compare(b.RecentRequests, a.RecentRequests), cmp.Compare(a.Name, b.Name))
	})
	return list[:min(len(list), clientsShown)]
}

// breakersShown is how many open breakers are listed.
const breakersShown = 10

// openBreaker is a destination whose breaker is open.
type openBreaker struct {
	Name     string
	As       string // the client certificate that is presented, and the entry of destinations
	Failures string // in a row
	Open     string // for how long it has been
	Again    string // how soon a request is let through
}

// openBreakers are those with the most failures; open may be nil.
func openBreakers(open func(int) []policy.OpenDestination, now time.Time) []openBreaker {
	if open == nil {
		return nil
	}
	var list []openBreaker
	for _, d := range open(breakersShown) {
		name, as, _ := strings.Cut(d.Key, " ")
		list = append(list, openBreaker{
			Name: showRaw([]byte(name), maxShown), As: showText(strings.TrimPrefix(as, ca.NoClientCert)), Failures: showCount(d.Failures),
			Open: showAge(now.Sub(d.Opened)), Again: showAge(d.Until.Sub(now)),
		})
	}
	return list
}

// scale fills in the percentages: what is drawn is what has happened of late, for a bar of weeks does not move.
func scale(list []portion) []portion {
	most := uint64(1)
	for _, s := range list {
		most = max(most, s.Recent)
	}
	for i := range list {
		list[i].Percent = math.Round(1000*float64(list[i].Recent)/float64(most)) / 10
	}
	return list
}
