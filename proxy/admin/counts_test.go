package admin

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
)

// What was before the oldest note is not of the last ten minutes, and notes are taken once a minute.
func TestMarks(t *testing.T) {
	begun := time.Now()
	var m marks
	taken := 0
	for second := 0; second <= 15*60; second += 5 {
		m.add(begun.Add(time.Duration(second)*time.Second), func() counts {
			taken++
			return counts{{byReason, "1000"}: uint64(second)}
		})
	}
	if got := m.oldest()[countKey{byReason, "1000"}]; taken != 16 || got != 5*60 {
		t.Errorf("got %d notes, the oldest of second %d; want 16, of second 300", taken, got)
	}
}

func TestTally(t *testing.T) {
	m := metrics.New("v", "c")
	src := sourceOf(m)
	m.NameClients([]string{"billing"})
	refuse := func() {
		m.CountRequest(403, reason.BlockedAddress, reason.SourcePolicy, time.Second)
		m.Client("billing").Count(reason.BlockedAddress)
	}
	refuse()
	before := src.count(State{})
	refuse()
	refuse()
	m.Client("billing").Count(reason.None)
	m.CountRequest(200, reason.None, reason.SourceNone, time.Second)
	m.CountRequest(reason.StatusClientGone, reason.None, reason.SourceNone, time.Second)
	tl := tally{src.count(State{}), before}
	for _, tt := range []struct {
		name          string
		kind          countKind
		key           string
		total, recent uint64
	}{
		{"policy", bySource, "policy", 3, 2}, {"ours", bySource, "proxy", 0, 0}, {"1000", byReason, "1000 policy", 3, 2}, {"2xx", byAnswer, "2xx", 1, 1},
		{"499", byAnswer, goneClass, 1, 1}, {"client", byClient, "billing", 4, 3}, {"its refusals", byRefusals, "billing", 3, 2},
	} {
		if total, recent := tl.of(tt.kind, tt.key); total != tt.total || recent != tt.recent {
			t.Errorf("%s: got %d, %d of late; want %d, %d", tt.name, total, recent, tt.total, tt.recent)
		}
	}
	if got := clients(tl); len(got) != 2 || got[0] != (clientPortion{"billing", 4, 3, 3, 2}) {
		t.Errorf("got the clients %+v; want billing first, and those of nobody", got)
	}
	nobody := sourceOf(metrics.New("v", "c"))
	if got := clients(tally{nobody.count(State{}), nil}); got != nil {
		t.Errorf("without clients in the settings: got %+v; want none", got)
	}
}

// Destinations that fail are counted by the minute, and there is a bound to how many are remembered.
func TestFailing(t *testing.T) {
	var l failing
	begun := time.Unix(1_600_000_000, 0)
	for i := range 2 * failingKept {
		l.add(fmt.Sprintf("d%d:443", i), begun)
		l.add("often:443", begun.Add(time.Duration(i)*time.Second))
	}
	if n := len(l.byName); n != failingKept {
		t.Errorf("got %d destinations; want %d", n, failingKept)
	}
	end := begun.Add((2*failingKept - 1) * time.Second)
	top := l.top(end)
	if len(top) != failingShown || top[0].Name != "often:443" || top[0].Count != 2*failingKept || top[0].Recent != 2*failingKept {
		t.Errorf("got %+v; want %d, often:443 first with %d", top, failingShown, 2*failingKept)
	}
	if later := l.top(end.Add(time.Hour)); later[0].Name != "often:443" || later[0].Count != 2*failingKept || later[0].Recent != 0 {
		t.Errorf("an hour later: got %+v; want none of late", later[0])
	}
}

// One noisy destination is one entry, with what the latest of its requests was; and so is one client that scans.
func TestRefusalsFold(t *testing.T) {
	var l refusals
	begun := time.Now()
	addFrom := func(client, id, url string, code reason.Code, second int) {
		l.add(&Refused{ID: []byte(id), Client: client, ClientName: "billing", Method: []byte("POST"), URL: []byte(url), Status: 403, Code: code},
			begun.Add(time.Duration(second)*time.Second))
	}
	add := func(id, url string, code reason.Code, second int) { addFrom("10.0.0.1:5", id, url, code, second) }
	add("other", "http://b", 1000, 0)
	for i := range 100 {
		add(fmt.Sprint(i), "http://a", 1000, i)
	}
	add("code", "http://a", 1013, 100)
	got := l.latest()
	if len(got) != 3 || got[0].ID != "code" || got[1].ID != "99" || got[1].Times != 100 || !got[1].First.Equal(begun) || got[2].ID != "other" {
		t.Errorf("got %+v; want code, 99 of 100 times, other", got)
	}
	if got[1].Client != "10.0.0.1:5 (billing)" {
		t.Errorf("got the client %q; want its address and name", got[1].Client)
	}
	for i := range 7 {
		addFrom(fmt.Sprintf("10.0.0.2:%d", i), fmt.Sprint(i), fmt.Sprintf("http://%d", i), 1000, 101+i)
	}
	scan := l.latest()
	if len(scan) != 4 || scan[0].ID != "6" || scan[0].Times != 7 || !scan[0].First.Equal(begun.Add(101*time.Second)) ||
		strings.Join(scan[0].Others, " ") != "POST http://5 POST http://4 POST http://3 POST http://2 POST http://1" {
		t.Errorf("got %+v; want one of 7 times, with the last five hosts before its own", scan)
	}
	addFrom("10.0.0.2:9", "again", "http://6", 1000, 200)
	addFrom("10.0.0.2:9", "other", "http://6", 1004, 201)
	addFrom("10.0.0.3:9", "third", "http://6", 1000, 202)
	if got := l.latest(); len(got) != 6 || got[2].ID != "again" || got[2].Times != 8 || len(got[2].Others) != hostsShown {
		t.Errorf("got %+v; want the same host in it once more, and another reason and another client by themselves", got)
	}
	for i := range 2 * refusalCount {
		addFrom(fmt.Sprintf("10.1.0.%d:5", i), "x", fmt.Sprintf("http://%d", i), 1000, i)
	}
	if n := len(l.latest()); n != refusalCount {
		t.Errorf("got %d entries; want %d", n, refusalCount)
	}
}
