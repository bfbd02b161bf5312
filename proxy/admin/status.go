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
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"whsentry/ca"
	"whsentry/guard"
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
	refusals refusals
}

func newStatusPage(src Source) *statusPage {
	s := &statusPage{source: src, started: time.Now()}
	s.history.add(s.read())
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
			s.history.add(s.read())
		}
	}
}

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
	Uptime                     string
	Stopping                   bool
	Tiles                      []fact
	Charts                     []chart
	Minutes                    int // that the charts show
	Width, Height              int
	Answers                    []portion // by the class of their status
	Reasons                    []portion
	Rules                      []portion
	Latest, Earlier            []refusal
	Listeners                  []fact
	Pool                       []fact
	Trust                      []fact
	Rest                       []fact
	Changed, Defaults          []Setting
}

// fact is a value with its name, and what is to be known of it.
type fact struct {
	Name, Value, Note string
	Alarm             bool
}

// portion is a part of a whole.
type portion struct {
	Name, Note string
	Count      uint64
	Percent    float64 // of the largest of its like
}

func (s *statusPage) view() statusView {
	now, state, m := s.read(), s.source.State(), s.source.Metrics
	readings := s.history.all()
	v := statusView{
		Now: now.at.Format("2006-01-02 15:04:05 MST"), Version: m.Version, Commit: m.Commit, GoVersion: runtime.Version(),
		Uptime: showAge(now.at.Sub(s.started)), Stopping: s.source.Stopping(),
		Tiles: s.tiles(since(append(readings, now), recently), now, state), Charts: charts(readings, now.at),
		Minutes: int((sampleInterval * sampleCount).Minutes()), Width: chartWidth, Height: chartHeight,
		Rules: rules(m, state.Guard), Latest: s.refusals.latest(),
		Listeners: listenerFacts(state.Listeners), Pool: poolFacts(m, now), Trust: trustFacts(m, state.CA, now.at), Rest: restFacts(m),
	}
	v.Answers, v.Reasons = outcomes(m)
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
		drawChart("Request time", end, secondUnit, quantiles("median", readings, .5), quantiles("99th percentile", readings, .99)),
		drawChart("Connections", end, numberUnit,
			levels("clients", readings, func(r *reading) int64 { return r.clients }),
			levels("destinations, in use", readings, func(r *reading) int64 { return r.busy }),
			levels("destinations, idle", readings, func(r *reading) int64 { return r.idle })),
		drawChart("Body bytes a second", end, byteUnit,
			rates("requests", readings, func(r *reading) uint64 { return r.requestBytes }),
			rates("responses", readings, func(r *reading) uint64 { return r.responseBytes })),
	}
}

// outcomes are the requests since the start: those that destinations answered, and those that the proxy did.
func outcomes(m *metrics.Metrics) (answers, own []portion) {
	var classes [6]uint64
	var byReason [reason.Last - reason.First + 1]uint64
	gone := uint64(0)
	m.EachRequest(func(status int, why reason.Code, n uint64) {
		switch {
		case why != reason.None:
			byReason[why-reason.First] += n
		case status == reason.StatusClientGone:
			gone += n
		default:
			classes[status/100] += n
		}
	})
	for class, n := range classes {
		if n > 0 && class != metrics.OtherStatus {
			answers = append(answers, portion{Name: fmt.Sprintf("%dxx", class), Count: n})
		}
	}
	if n := classes[metrics.OtherStatus]; n > 0 {
		answers = append(answers, portion{Name: "600 to 999", Count: n})
	}
	if gone > 0 {
		answers = append(answers, portion{Name: "499", Note: "the client went away", Count: gone})
	}
	for i, n := range byReason {
		if n > 0 {
			own = append(own, portion{Name: fmt.Sprint(int(reason.First) + i), Note: (reason.First + reason.Code(i)).Summary(), Count: n})
		}
	}
	return scale(answers), scale(own)
}

// rules are the rules that have refused addresses, by how often they did.
func rules(m *metrics.Metrics, g *guard.Guard) []portion {
	var list []portion
	counted := make(map[string]bool)
	for _, r := range g.Rules() {
		if counted[r.Name] {
			continue
		}
		counted[r.Name] = true
		if n := m.RefusedBy(r).Get(); n > 0 {
			list = append(list, portion{Name: r.Name, Count: n})
		}
	}
	slices.SortStableFunc(list, func(a, b portion) int { return cmp.Compare(b.Count, a.Count) })
	return scale(list)
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

func poolFacts(m *metrics.Metrics, now reading) []fact {
	opened, reused := m.UpstreamsOpened.Get(), m.UpstreamsReused.Get()
	list := []fact{
		{Name: "in use", Value: showCount(now.busy)},
		{Name: "idle", Value: showCount(now.idle)},
		{Name: "opened", Value: showCount(opened)},
		{Name: "reused", Value: showCount(reused)},
	}
	if opened+reused > 0 {
		list[3].Note = fmt.Sprintf("%s%% of all requests for one", showNumber(100*float64(reused)/float64(opened+reused)))
	}
	m.EachClosed(func(why string, n uint64) {
		if n > 0 {
			list = append(list, fact{Name: "closed: " + why, Value: showCount(n)})
		}
	})
	return list
}

// staleBundle is when a bundle of roots is so old that it should be asked why. Mozilla's changes every other month.
const staleBundle = 180 * 24 * time.Hour

func trustFacts(m *metrics.Metrics, store *ca.Store, now time.Time) []fact {
	age := now.Sub(store.Timestamp())
	updated, unchanged, failed := m.Refreshes(ca.RefreshUpdated), m.Refreshes(ca.RefreshUnchanged), m.Refreshes(ca.RefreshFailed)
	return []fact{
		{Name: "roots trusted", Value: showCount(store.Roots())},
		{Name: "bundle of", Value: store.Timestamp().UTC().Format(time.DateOnly), Note: showAge(age) + " old", Alarm: age > staleBundle},
		{Name: "bundle from", Value: RedactURL(store.Origin())},
		{Name: "looked for a newer one", Value: showCount(updated + unchanged), Note: showCount(updated) + " found"},
		{Name: "could not look", Value: showCount(failed), Alarm: failed > 0},
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

func restFacts(m *metrics.Metrics) []fact {
	failed, lost := m.ReloadsFailed.Get(), m.LogErrors.Get()
	return []fact{
		{Name: "names looked up", Value: showCount(m.Lookups(guard.LookupOK))},
		{Name: "names found in the cache", Value: showCount(m.Lookups(guard.LookupCached))},
		{Name: "names that did not resolve", Value: showCount(m.Lookups(guard.LookupFailed))},
		{Name: "settings reloaded", Value: showCount(m.ReloadsOK.Get())},
		{Name: "reloads that failed", Value: showCount(failed), Alarm: failed > 0},
		{Name: "errors in writing logs", Value: showCount(lost), Alarm: lost > 0},
	}
}
