package admin

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page's parts
	"encoding/base64"
	"fmt"
	"html/template"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"whsentry/ca"
	"whsentry/proxy/metrics"
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

func (s *statusPage) count() counts { return s.source.count(s.source.State()) }

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
	Breakers                   []openBreaker
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
	Percent    float64 // of Recent, of the largest of its like
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
		Tiles: s.tiles(since(append(readings, now), recently), now, state, t), Charts: charts(readings, now.at),
		Minutes: int((sampleInterval * sampleCount).Minutes()), Width: chartWidth, Height: chartHeight,
		Sources: sources(t), Answers: answers(t), Reasons: reasons(t), Rules: rules(t), Clients: clients(t),
		Failing: s.failing.top(now.at), Breakers: openBreakers(state.Breakers, now.at), Latest: s.refusals.latest(),
		Listeners: listenerFacts(t, state.Listeners), Pool: poolFacts(t, now), Trust: trustFacts(t, m, state.CA, now.at), Rest: restFacts(t),
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
func (s *statusPage) tiles(from, now reading, state State, t tally) []fact {
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
		{Name: "requests a second", Value: showNumber(perSecond(from, now, all)), Note: sinceStart(t.sum(byAnswer, byReason))},
		{Name: "refused or failed", Value: own, Note: sinceStart(t.sum(byReason))},
		{Name: "median time", Value: latency(.5), Note: "99% below " + latency(.99)},
		{Name: "client connections", Value: showCount(now.clients), Note: "of " + showCount(state.MaxConnections) + " at most"},
		{Name: "request bodies in memory", Value: showBytes(float64(now.bufferedBytes)), Note: "of " + showBytes(float64(state.MaxBufferedBytes)) + " at most"},
		{Name: "tunnels", Value: showCount(now.tunnels), Note: sinceStart(t.of(byMiscellany, countTunnels))},
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

func listenerFacts(t tally, listeners []Listener) []fact {
	var list []fact
	for _, l := range listeners {
		list = append(list, fact{
			Name: l.Name, Value: showCount(l.Counts.Open.Load()), Note: sinceStart(t.of(byListener, l.Name)),
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
	looks, stale := t.fact(countRefreshes), t.fact(countStale)
	looks.Note += ", " + showCount(m.Refreshes(ca.RefreshUpdated)) + " found"
	stale.Alarm = m.Refreshes(ca.RefreshFailed) > 0
	return []fact{
		{Name: "roots trusted", Value: showCount(store.Roots())},
		{Name: "bundle of", Value: store.Timestamp().UTC().Format(time.DateOnly), Note: showAge(age) + " old", Alarm: age > staleBundle},
		{Name: "bundle from", Value: RedactURL(store.Origin())},
		looks, stale,
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
