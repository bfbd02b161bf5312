package admin

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed" // the page's parts
	"encoding/base64"
	"fmt"
	"html/template"
	"math"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"whsentry/ca"
	"whsentry/policy"
	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
)

// Setting is one key of the configuration in force, as the status page shows it.
type Setting struct {
	Key    string
	Value  string // without what is secret
	Origin string // where it was set: config.yaml:12, WHSENTRY_CONNECT_TIMEOUT or --connect-timeout; "": nowhere, it is the default
}

// statusPage is what / shows. It reads the metrics that there are, now and then, and hears of a request only where the
// proxy answers it itself.
type statusPage struct {
	source   Source
	started  time.Time
	history  history
	marks    marks
	refusals refusals
	failing  failing
}

func newStatusPage(src Source) *statusPage {
	s := &statusPage{source: src, started: time.Now()}
	s.take()
	return s
}

// keepHistory takes a reading now and then, until stop is closed.
func (s *statusPage) keepHistory(stop <-chan struct{}) {
	ticker := time.NewTicker(sampleInterval)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			s.take()
		}
	}
}

// take takes a reading.
func (s *statusPage) take() {
	r := s.read()
	s.history.add(r)
	s.marks.add(r.at, s.count)
}

func (s *statusPage) count() counts { return s.source.count(s.source.State().Guard) }

func (s *statusPage) read() reading { return s.source.read(time.Now()) }

// The parts of the page. It loads nothing else, and the header that goes with it forbids it to.
var (
	//go:embed status.html
	statusHTML string
	//go:embed status.css
	statusCSS string
	//go:embed status.js
	statusJS string

	statusTemplate = template.Must(template.New("status").Funcs(template.FuncMap{
		"count": showCount[uint64], "style": func() template.CSS { return template.CSS(statusCSS) },
		"script": func() template.JS { return template.JS(statusJS) },
	}).Parse(statusHTML))

	statusPolicy = fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; img-src data:; connect-src 'self'; "+
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'", sourceHash(statusCSS), sourceHash(statusJS))
)

// sourceHash is what Content-Security-Policy knows an inline style or script by.
func sourceHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// serve answers with the page.
func (s *statusPage) serve(ctx *fasthttp.RequestCtx) {
	var page bytes.Buffer
	if err := statusTemplate.Execute(&page, s.view()); err != nil {
		s.source.Failed(err)
		ctx.SetStatusCode(fasthttp.StatusInternalServerError)
		ctx.SetBodyString("internal error\n")
		return
	}
	ctx.SetContentType("text/html; charset=utf-8")
	h := &ctx.Response.Header
	h.Set("Content-Security-Policy", statusPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	ctx.SetBody(page.Bytes())
}

// statusView is what the template is filled with.
type statusView struct {
	Now                        string
	Version, Commit, GoVersion string
	Instance                   []string // which of many it is
	Since, Uptime              string
	SettingsFile               string
	Stopping                   bool
	Tiles                      []fact
	Charts                     []chart
	Minutes                    int // that the charts show
	Width, Height              int
	Sources                    []portion
	Answers                    []portion // by the class of their status
	Reasons                    []portion
	Rules                      []portion
	Clients                    []clientPortion
	Failing                    []portion // destinations
	Breakers                   []fact
	Latest, Earlier            []refusal
	Listeners                  []fact
	Pool                       []fact
	Trust                      []fact
	Rest                       []fact
	Changed, Defaults          []Setting
	Legend                     []portion // every reason
}

// fact is a value with its name, and what is to be known of it.
type fact struct {
	Name, Value, Note string
	Alarm             bool
}

// portion is a part of a whole.
type portion struct {
	Name, Note string
	Class      string  // of its colour; "" is the usual one
	Count      uint64  // since the start
	Recent     uint64  // in the last ten minutes
	Percent    float64 // of the largest of its like
}

// clientPortion is a client's part of all requests.
type clientPortion struct {
	Name                     string
	Requests, RecentRequests uint64
	Own, RecentOwn           uint64 // refused or failed
}

func (s *statusPage) view() statusView {
	now, state, m := s.read(), s.source.State(), s.source.Metrics
	readings, t := s.history.all(), tally{s.count(), s.marks.oldest()}
	v := statusView{
		Now: now.at.Format("2006-01-02 15:04:05 MST"), Version: m.Version, Commit: m.Commit, GoVersion: runtime.Version(),
		Instance: instance(os.Hostname, os.Getenv), SettingsFile: state.SettingsFile,
		Since: s.started.Format("2006-01-02 15:04:05 MST"), Uptime: showAge(now.at.Sub(s.started)), Stopping: s.source.Stopping(),
		Tiles: s.tiles(since(append(readings, now), recently), now, state), Charts: charts(readings, now.at),
		Minutes: int((sampleInterval * sampleCount).Minutes()), Width: chartWidth, Height: chartHeight,
		Sources: sources(t), Answers: answers(t), Reasons: reasons(t), Rules: rules(t), Clients: clients(t),
		Failing: s.failing.top(now.at), Breakers: breakerFacts(state.Breakers, now.at), Latest: s.refusals.latest(),
		Listeners: listenerFacts(state.Listeners), Pool: poolFacts(t, now), Trust: trustFacts(t, m, state.CA, now.at), Rest: restFacts(t),
		Legend: legend(),
	}
	if n := min(len(v.Latest), refusalsUnfolded); n < len(v.Latest) {
		v.Latest, v.Earlier = v.Latest[:n], v.Latest[n:]
	}
	if state.Settings != nil {
		for _, setting := range state.Settings() {
			if setting.Origin == "" {
				v.Defaults = append(v.Defaults, setting)
			} else {
				v.Changed = append(v.Changed, setting)
			}
		}
	}
	return v
}

// instance names the process among many: by its host, and where that has another name, by its pod.
func instance(hostname func() (string, error), getenv func(string) string) []string {
	var names []string
	if name, err := hostname(); err == nil {
		names = append(names, "host "+name)
	}
	if pod := getenv("HOSTNAME"); pod != "" && !slices.Contains(names, "host "+pod) {
		names = append(names, "pod "+pod)
	}
	return names
}

// tiles are the figures at the top: what has happened from one reading to the other, and what there is now.
func (s *statusPage) tiles(from, now reading, state State) []fact {
	all := func(r *reading) uint64 { return r.delivered + r.own + r.gone }
	own := "0%"
	if n := all(&now) - all(&from); n > 0 {
		own = showNumber(100*float64(now.own-from.own)/float64(n)) + "%"
	}
	latency := func(q float64) string {
		if v, ok := quantile(from, now, q); ok {
			return showSeconds(v)
		}
		return "–"
	}
	return []fact{
		{Name: "requests a second", Value: showNumber(perSecond(from, now, all)), Note: showCount(all(&now)) + " since the start"},
		{Name: "refused or failed", Value: own, Note: showCount(now.own) + " since the start"},
		{Name: "median time", Value: latency(.5), Note: "99% below " + latency(.99)},
		{Name: "client connections", Value: showCount(now.clients), Note: "of " + showCount(state.MaxConnections) + " at most"},
		{Name: "request bodies in memory", Value: showBytes(float64(now.bufferedBytes)), Note: "of " + showBytes(float64(state.MaxBufferedBytes)) + " at most"},
		{Name: "tunnels", Value: showCount(now.tunnels), Note: showCount(s.source.Metrics.TunnelsTotal.Get()) + " since the start"},
	}
}

func charts(readings []reading, end time.Time) []chart {
	return []chart{
		drawChart("Requests a second", end, numberUnit,
			rates("answered by destinations", readings, func(r *reading) uint64 { return r.delivered }),
			rates("refused or failed", readings, func(r *reading) uint64 { return r.own })),
		drawChart("Request time, logarithmic", end, secondUnit, quantiles("median", readings, .5), quantiles("99th percentile", readings, .99)),
		drawChart("Connections", end, numberUnit,
			levels("clients", readings, func(r *reading) int64 { return r.clients }),
			levels("destinations, in use", readings, func(r *reading) int64 { return r.busy }),
			levels("destinations, idle", readings, func(r *reading) int64 { return r.idle })),
		drawChart("Body bytes a second", end, byteUnit,
			rates("requests", readings, func(r *reading) uint64 { return r.requestBytes }),
			rates("responses", readings, func(r *reading) uint64 { return r.responseBytes })),
	}
}

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

func listenerFacts(listeners []Listener) []fact {
	var list []fact
	for _, l := range listeners {
		list = append(list, fact{
			Name: l.Name, Value: showCount(l.Counts.Open.Load()), Note: showCount(l.Counts.Total.Get()) + " since the start",
		})
	}
	return list
}

func poolFacts(t tally, now reading) []fact {
	opened, reused := t.fact(countOpened), t.fact(countReused)
	list := []fact{{Name: "in use", Value: showCount(now.busy)}, {Name: "idle", Value: showCount(now.idle)}, opened, reused}
	for _, p := range t.portions(byClosing) {
		list = append(list, fact{Name: "closed: " + p.Name, Value: showCount(p.Count), Note: lately(p.Recent)})
	}
	return list
}

// staleBundle is when a bundle of roots is so old that it should be asked why. Mozilla's changes every other month.
const staleBundle = 180 * 24 * time.Hour

func trustFacts(t tally, m *metrics.Metrics, store *ca.Store, now time.Time) []fact {
	age := now.Sub(store.Timestamp())
	fresh, stale := t.fact(countFresh), t.fact(countStale)
	fresh.Note += ", " + showCount(m.Refreshes(ca.RefreshUpdated)) + " found"
	stale.Alarm = m.Refreshes(ca.RefreshFailed) > 0
	return []fact{
		{Name: "roots trusted", Value: showCount(store.Roots())},
		{Name: "bundle of", Value: store.Timestamp().UTC().Format(time.DateOnly), Note: showAge(age) + " old", Alarm: age > staleBundle},
		{Name: "bundle from", Value: RedactURL(store.Origin())},
		fresh, stale,
	}
}

// RedactURL returns a URL without what is, or may be, a secret in it: its user information and its query. What is no
// URL is returned as it is.
func RedactURL(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	u, err := url.Parse(text)
	if err != nil {
		return redacted
	}
	if u.User != nil {
		u.User = url.User(redacted)
	}
	if u.RawQuery != "" {
		u.RawQuery = redacted
	}
	return u.String()
}

const redacted = "xxxxx"

func restFacts(t tally) []fact {
	list := []fact{t.fact(countLookedUp), t.fact(countCached), t.fact(countUnresolved), t.fact(countReloads)}
	for _, name := range []string{countReloadsFailed, countLogErrors} {
		f := t.fact(name)
		f.Alarm = t.now[countKey{byMiscellany, name}] > 0
		list = append(list, f)
	}
	return list
}
