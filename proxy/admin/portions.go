package admin

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	"whsentry/policy"
	"whsentry/proxy/reason"
)

// sources are the failures, by whose they were.
func sources(t tally) []portion {
	list := []portion{
		{Name: "ours", Note: "the proxy, its limits, its resolver", Class: reason.SourceProxy.String()},
		{Name: "policy", Note: "the operator's rules", Class: reason.SourcePolicy.String()},
		{Name: "the customers'", Note: "destinations", Class: reason.SourceDestination.String()},
		{Name: "the senders'", Note: "requests that are wrong or over a limit", Class: reason.SourceClient.String()},
	}
	for i := range list {
		list[i].Count, list[i].Recent = t.of(bySource, list[i].Class)
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

// reasons are the requests that the proxy answered itself.
func reasons(t tally) []portion {
	list := t.portions(byReason)
	for i := range list {
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

// rules are the rules that have refused addresses, by how often they did.
func rules(t tally) []portion {
	list := t.portions(byRule)
	slices.SortStableFunc(list, func(a, b portion) int { return cmp.Compare(b.Count, a.Count) })
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

func breakerFacts(open func(int) []policy.OpenDestination, now time.Time) []fact {
	if open == nil {
		return nil
	}
	var list []fact
	for _, d := range open(breakersShown) {
		list = append(list, fact{
			Name: showRaw([]byte(d.Key), maxShown), Value: showCount(d.Failures) + " failures", Alarm: true,
			Note: "open for " + showAge(now.Sub(d.Opened)) + ", tried again in " + showAge(d.Until.Sub(now)),
		})
	}
	return list
}

// scale fills in the percentages.
func scale(list []portion) []portion {
	most := uint64(1)
	for _, s := range list {
		most = max(most, s.Count)
	}
	for i := range list {
		list[i].Percent = math.Round(1000*float64(list[i].Count)/float64(most)) / 10
	}
	return list
}
