package urlcheck

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"whsentry/guard"
	"whsentry/proxy/reason"
)

func TestIsTarget(t *testing.T) {
	for target, want := range map[string]bool{
		"/check": true, "/check?": true, "/check?url=a": true,
		"": false, "/": false, "/checks": false, "/check/": false, "/Check": false, "http://h/check": false,
	} {
		if got := IsTarget([]byte(target)); got != want {
			t.Errorf("%q: got %v; want %v", target, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		target string
		want   Question
		wrong  string // what the refusal ends with; "": there is none
	}{
		{"/check?url=http://a/", Question{URL: "http://a/"}, ""},
		{"/check?url=http%3A%2F%2Fa%2F%2525+b", Question{URL: "http://a/%25+b"}, ""},
		{"/check?url=http://a/?b=c?d", Question{URL: "http://a/?b=c?d"}, ""},
		{"/check?connect=true&url=a", Question{URL: "a", Connect: true}, ""},
		{"/check?url=a&connect=false", Question{URL: "a"}, ""},
		{"/check?%75rl=a&other=%zz&&", Question{URL: "a"}, ""},
		{"/check", Question{}, "has no url; want /check?url= and an encoded URL"},
		{"/check?url=", Question{}, "has no url; want /check?url= and an encoded URL"},
		{"/check?url=a&url=a", Question{}, "has more than one url"},
		{"/check?url=&%75rl=a", Question{}, "has more than one url"},
		{"/check?url=a&connect=true&connect=true", Question{}, "has more than one connect"},
		{"/check?url=a&connect=1", Question{}, "connect of /check is neither true nor false"},
		{"/check?url=%4", Question{}, "the query of /check cannot be decoded"},
		{"/check?%zz=a&url=a", Question{}, "the query of /check cannot be decoded"},
	} {
		q, f := Parse(tt.target)
		switch {
		case tt.wrong == "" && (f != nil || q != tt.want):
			t.Errorf("%s: got %+v, %v; want %+v", tt.target, q, f, tt.want)
		case tt.wrong != "" && (f == nil || f.Code != reason.Malformed || f.Fatal || !strings.HasSuffix(f.Text, tt.wrong)):
			t.Errorf("%s: got %v; want %s", tt.target, f, tt.wrong)
		}
	}
}

// FuzzParse holds that a URL which is escaped in either way comes out as it was, and that nothing else does.
func FuzzParse(f *testing.F) {
	for _, u := range []string{"http://a/?b=c&d=%25+e", "", "&url=", "\x00\xff", "?#"} {
		f.Add(u)
	}
	f.Fuzz(func(t *testing.T, u string) {
		q, refusal := Parse(Path + "?url=" + url.PathEscape(u))
		if strings.ContainsAny(u, "&") { // which this leaves as it is, and which ends the parameter
			q, refusal = Parse(Path + "?url=" + strings.ReplaceAll(url.PathEscape(u), "&", "%26"))
		}
		if (refusal == nil) != (u != "") || refusal == nil && q.URL != u {
			t.Errorf("%q: got %q, %v", u, q.URL, refusal)
		}
		if q, refusal := Parse(u); refusal == nil && q.URL == "" {
			t.Errorf("%q: got a question without a URL", u)
		}
	})
}

func TestAnswer(t *testing.T) {
	blocked := reason.Newf(reason.BlockedAddress, "10.1.2.3 is not for customers")
	for _, tt := range []struct {
		name string
		a    *Answer
		want string
	}{
		{"allowed", NewAnswer("http://a/<&", nil, ""), `{"url":"http://a/<&","verdict":"allowed","reason_code":0,"reason":"","source":"","retry":""}`},
		{"refused", NewAnswer("http://a/", blocked, "blocked"),
			`{"url":"http://a/","verdict":"refused","reason_code":1000,"reason":"blocked","source":"policy","retry":"no"}`},
	} {
		body, err := tt.a.Body()
		if got := strings.TrimSpace(string(body)); err != nil || got != tt.want {
			t.Errorf("%s: got %s, %v\nwant %s", tt.name, got, err, tt.want)
		}
	}
	a := NewAnswer("http://a/", nil, "")
	a.WouldDeny = reason.NotAllowed
	a.Show([]guard.Judged{{Addr: netip.MustParseAddr("192.0.2.1")}})
	body, err := a.Body()
	if want := `"would_deny":1019,"addresses":[{"address":"192.0.2.1","verdict":"refused","rule":"`; err != nil || !strings.Contains(string(body), want) {
		t.Errorf("got %s, %v; want %s", body, err, want)
	}
	a.Show(nil)
	if body, _ := a.Body(); !strings.Contains(string(body), `"addresses":[]`) {
		t.Errorf("got %s; want that there are no addresses", body)
	}
}

// TestVerdicts: each code has a word, but for those that say nothing of the URL.
func TestVerdicts(t *testing.T) {
	words := map[reason.Code]string{
		reason.Unresolved: "unresolved", reason.Timeout: "unreachable", reason.Handshake: "unreachable",
		reason.Unreachable: "unreachable", reason.BadResponse: "unreachable", reason.Certificate: "untrusted",
		reason.Internal: "", reason.Unauthorized: "", reason.OverLimit: "", reason.TooMany: "",
	}
	for code := reason.First; code <= reason.Last; code++ {
		want, special := words[code]
		if !special {
			want = "refused"
		}
		f := reason.Newf(code, "something")
		if got := IsNoVerdict(f); got != (want == "") {
			t.Errorf("%d: got %v for whether it is no verdict", code, got)
		}
		if got := NewAnswer("u", f, "").Verdict; want != "" && got != want {
			t.Errorf("%d: got %s; want %s", code, got, want)
		}
	}
	if !IsNoVerdict(reason.ClientGone()) {
		t.Error("got a verdict of a client that is gone")
	}
	for _, limit := range []reason.Limit{reason.LimitMaxConnectionsPerDestination, reason.LimitDestinationsMaxConnections} {
		f := reason.Newf(reason.TooMany, "too many").Over(limit)
		if got := NewAnswer("u", f, "").Verdict; IsNoVerdict(f) || got != "unreachable" {
			t.Errorf("%s: got %s; want unreachable", limit, got)
		}
	}
	if f := reason.Newf(reason.TooMany, "too many").Over(reason.LimitMaxConnections); !IsNoVerdict(f) {
		t.Error("got a verdict of the proxy's own limit")
	}
}

func TestAppendHead(t *testing.T) {
	at := time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)
	got := string(AppendHead(nil, 12, at, "close"))
	if want := "\r\nDate: " + at.Format(http.TimeFormat) + "\r\nContent-Length: 12\r\nConnection: close\r\n\r\n"; !strings.HasSuffix(got, want) {
		t.Errorf("got %q; want it to end with %q", got, want)
	}
	if got := string(AppendHead(nil, 0, at, "")); strings.Contains(got, "Connection") {
		t.Errorf("got %q; want no Connection", got)
	}
}
