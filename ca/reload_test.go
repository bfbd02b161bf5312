package ca

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"whsentry/ca/catest"
)

// TestReloadKeepsBundle shows that a Store is never followed by one that trusts older roots, wherever the newer ones were
// kept or were not.
func TestReloadKeepsBundle(t *testing.T) {
	newer := builtInDate.Add(time.Hour)
	ours := catest.Root(t, "Ours")
	want := len(builtIn().roots) + 1
	tests := []struct {
		name   string
		change func(t *testing.T, cfg *Config)
	}{
		{"kept nowhere", func(_ *testing.T, cfg *Config) { cfg.Bundle.File = "" }},
		{"could not be kept", func(t *testing.T, cfg *Config) { cfg.Bundle.File = catest.File(t, "file", nil) + "/cacert.pem" }},
		{"kept in a file", func(t *testing.T, cfg *Config) { cfg.Bundle.File = filepath.Join(t.TempDir(), "cacert.pem") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMirror(t, send(builtInPEM(newer, ours), `"v1"`, ""))
			cfg := testConfig(t)
			cfg.Bundle.URL = m.URL
			tt.change(t, &cfg)
			s, err := New(cfg, Hooks{})
			if err != nil {
				t.Fatal(err)
			}
			s.Update(t.Context())
			if cfg.Bundle.File != "" {
				os.Remove(cfg.Bundle.File)
			}
			for _, url := range []string{m.URL, "", "http://127.0.0.1:1/other.pem"} {
				cfg.Bundle.URL = url
				if s, err = s.Reload(cfg, Hooks{}); err != nil {
					t.Fatalf("Reload: %v", err)
				}
				if s.Roots() != want || !s.Timestamp().Equal(newer) {
					t.Errorf("after a reload with the URL %q: got %d roots as of %s; want %d, %s", url, s.Roots(), s.Timestamp(), want, newer)
				}
			}
			cfg.Bundle.URL = m.URL
			if s, err = s.Reload(cfg, Hooks{}); err != nil {
				t.Fatalf("Reload: %v", err)
			}
			wantUpdate(t, s, RefreshUnchanged, "")
			if last := m.requests[len(m.requests)-1]; last.Get("If-None-Match") != `"v1"` {
				t.Errorf("the request after the reload has If-None-Match %q; want that of the bundle in use", last.Get("If-None-Match"))
			}
		})
	}
}

// TestReloadNeverGoesBackToAFile starts with a kept bundle, whose file is older, damaged or gone by the time of a reload.
func TestReloadNeverGoesBackToAFile(t *testing.T) {
	newer := builtInDate.Add(48 * time.Hour)
	for name, data := range map[string][]byte{"older": builtInPEM(builtInDate.Add(time.Hour)), "damaged": []byte("x"), "gone": nil} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			cfg.Bundle.File = catest.File(t, "cacert.pem", builtInPEM(newer))
			s, err := New(cfg, Hooks{})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(cfg.Bundle.File); err != nil {
				t.Fatal(err)
			}
			if data != nil {
				if err := os.WriteFile(cfg.Bundle.File, data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if s, err = s.Reload(cfg, Hooks{}); err != nil {
					t.Fatalf("Reload: %v", err)
				}
				if !s.Timestamp().Equal(newer) {
					t.Errorf("got roots as of %s; want %s as before", s.Timestamp(), newer)
				}
			}
		})
	}
}

// TestReloadDuringUpdate is a bundle that comes to the old Store once the new one is made.
func TestReloadDuringUpdate(t *testing.T) {
	newer := builtInDate.Add(time.Hour)
	m := newMirror(t, send(builtInPEM(newer), "", ""))
	cfg := testConfig(t)
	cfg.Bundle.URL = m.URL
	old := newStore(t, cfg)
	cfg.Bundle.URL = ""
	next, err := old.Reload(cfg, Hooks{})
	if err != nil {
		t.Fatalf("Reload: %v", err)
	}
	wantUpdate(t, old, RefreshUpdated, "")
	next.Start(t.Context())
	defer next.Close()
	if !next.Timestamp().Equal(newer) {
		t.Errorf("got roots as of %s; want %s", next.Timestamp(), newer)
	}
}

// TestQueryIsSecret gives a token in the query of caBundle.url to everything that shows the URL.
func TestQueryIsSecret(t *testing.T) {
	const secret = "hunter2"
	newer := builtInDate.Add(time.Hour)
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
		}
	}
	answers := []struct {
		name   string
		handle http.HandlerFunc
		want   RefreshResult
	}{
		{"kept", send(builtInPEM(newer), `"v1"`, ""), RefreshUpdated},
		{"refused", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, RefreshFailed},
		{"no bundle", send([]byte("x"), "", ""), RefreshFailed},
		{"redirected for ever", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/x?"+r.URL.RawQuery, http.StatusFound)
		}, RefreshFailed},
		{"redirected to nonsense", redirect("http://%zz/?token=" + secret), RefreshFailed},
		{"redirected to another scheme", redirect("ftp://127.0.0.1/?token=" + secret), RefreshFailed},
		{"redirected to nobody", redirect("http://127.0.0.1:1/?token=" + secret), RefreshFailed},
		{"closed", func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, RefreshFailed},
	}
	for _, tt := range answers {
		t.Run(tt.name, func(t *testing.T) {
			m := newMirror(t, tt.handle)
			s, file := updateStore(t, m.URL+"/cacert.pem?token="+secret+"#"+secret, Hooks{})
			result, err := s.Update(t.Context())
			if result != tt.want {
				t.Errorf("got %v, %v; want %v", result, err, tt.want)
			}
			kept, _ := os.ReadFile(validatorsFile(file))
			if shown := fmt.Sprint(err, s.Origin(), string(kept)); strings.Contains(shown, secret) {
				t.Errorf("got the query in %q", shown)
			}
			if tt.want == RefreshUpdated && !strings.Contains(string(kept), m.URL+"/cacert.pem") {
				t.Errorf("got %q beside the bundle; want the URL without its query", kept)
			}
		})
	}
	for _, url := range []string{
		"https://h/?" + secret + "%zz", "https://h:port/?" + secret, "ftp://h/?" + secret, "https:///?" + secret,
		"https://me:" + secret + "?x@h:port/", "https://h:port/?x@" + secret, "https://me:" + secret + "@h:port/?" + secret,
	} {
		cfg := testConfig(t)
		cfg.Bundle.URL = url
		if err := cfg.Validate(); err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("Validate: got the secret in %v", err)
		}
	}
}

// TestQueryTellsBundlesApart shows that what was kept from a URL with a query is not taken for that of another query.
func TestQueryTellsBundlesApart(t *testing.T) {
	m := newMirror(t, send(builtInPEM(builtInDate.Add(time.Hour)), `"v1"`, ""))
	s, _ := updateStore(t, m.URL+"/?bundle=a", Hooks{})
	wantUpdate(t, s, RefreshUpdated, "")
	wantUpdate(t, s, RefreshUnchanged, "")
	cfg := s.cfg
	cfg.Bundle.URL = m.URL + "/?bundle=b"
	again := newStore(t, cfg)
	wantUpdate(t, again, RefreshUnchanged, "")
	for i, want := range []string{"", `"v1"`, ""} {
		if got := m.requests[i].Get("If-None-Match"); got != want {
			t.Errorf("request %d: got If-None-Match %q; want %q", i, got, want)
		}
	}
}
