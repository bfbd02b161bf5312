package ca

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"whsentry/ca/catest"
)

// mirror is a server of bundles. Its fields may change between requests, not during them.
type mirror struct {
	*httptest.Server
	handle   http.HandlerFunc
	requests []http.Header
}

func newMirror(t *testing.T, handle http.HandlerFunc) *mirror {
	t.Helper()
	m := &mirror{handle: handle}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.requests = append(m.requests, r.Header.Clone())
		m.handle(w, r)
	}))
	t.Cleanup(m.Close)
	return m
}

// send answers with a bundle, or 304 where the request knows its ETag or date.
func send(data []byte, etag, lastModified string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if etag != "" {
			w.Header().Set("ETag", etag)
		}
		if lastModified != "" {
			w.Header().Set("Last-Modified", lastModified)
		}
		sameTag := etag != "" && r.Header.Get("If-None-Match") == etag
		sameDate := lastModified != "" && r.Header.Get("If-Modified-Since") == lastModified
		if sameTag || sameDate {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Write(data)
	}
}

// recorder is Hooks that remember.
type recorder struct {
	mu      sync.Mutex // guards the rest
	results []RefreshResult
	errs    []error
	changed int
}

func (r *recorder) hooks() Hooks {
	return Hooks{
		Refreshed: func(result RefreshResult, err error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.results, r.errs = append(r.results, result), append(r.errs, err)
		},
		Changed: func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.changed++
		},
	}
}

// updateStore returns a Store that downloads from url and keeps what it gets in a folder still to be made.
func updateStore(t *testing.T, url string, hooks Hooks, extra ...*catest.Authority) (*Store, string) {
	t.Helper()
	cfg := testConfig(t, extra...)
	cfg.Bundle.URL = url
	cfg.Bundle.File = filepath.Join(t.TempDir(), "cache", "cacert.pem")
	s, err := New(cfg, hooks)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(s.Close)
	return s, cfg.Bundle.File
}

func wantUpdate(t *testing.T, s *Store, want RefreshResult, wantErr string) {
	t.Helper()
	got, err := s.Update(t.Context())
	if got != want || (err == nil) != (wantErr == "") || err != nil && !strings.Contains(err.Error(), wantErr) {
		t.Fatalf("Update: got %v, %v; want %v, %q", got, err, want, wantErr)
	}
}

func TestUpdate(t *testing.T) {
	ours := catest.Root(t, "Ours")
	newer := builtInDate.Add(time.Hour)
	data := builtInPEM(newer, ours)
	validators := []struct{ name, etag, lastModified string }{
		{"etag", `"v1"`, ""},
		{"last-modified", "", "Mon, 02 Nov 2026 10:00:00 GMT"},
		{"both", `"v1"`, "Mon, 02 Nov 2026 10:00:00 GMT"},
		{"neither", "", ""},
	}
	for _, tt := range validators {
		t.Run(tt.name, func(t *testing.T) {
			m := newMirror(t, send(data, tt.etag, tt.lastModified))
			var r recorder
			s, file := updateStore(t, m.URL, r.hooks())
			port := serveCertificate(t, ours.Leaf(t, testHost))
			_, err := dial(t, s, "", testHost, port)
			checkError(t, err, testHost, true, "unknown authority")

			wantUpdate(t, s, RefreshUpdated, "")
			if _, err := dial(t, s, "", testHost, port); err != nil {
				t.Errorf("dial after the update: %v", err)
			}
			wantUpdate(t, s, RefreshUnchanged, "")
			checkStore(t, s, len(builtIn().roots)+1, file, newer)
			checkFile(t, file, data)
			if fmt.Sprint(r.results) != "[updated unchanged]" || r.changed != 1 {
				t.Errorf("hooks: got %v, changed %d times; want [updated unchanged], once", r.results, r.changed)
			}

			// After a restart it goes on where it was.
			cfg := s.cfg
			again := newStore(t, cfg)
			checkStore(t, again, len(builtIn().roots)+1, file, newer)
			wantUpdate(t, again, RefreshUnchanged, "")
			for i, h := range m.requests {
				wantTag, wantDate := tt.etag, tt.lastModified
				if i == 0 {
					wantTag, wantDate = "", ""
				}
				if h.Get("If-None-Match") != wantTag || h.Get("If-Modified-Since") != wantDate {
					t.Errorf("request %d: got the conditions %q, %q; want %q, %q", i, h.Get("If-None-Match"), h.Get("If-Modified-Since"), wantTag, wantDate)
				}
			}
		})
	}
}

func checkStore(t *testing.T, s *Store, roots int, origin string, timestamp time.Time) {
	t.Helper()
	if s.Roots() != roots || s.Origin() != origin || !s.Timestamp().Equal(timestamp) {
		t.Errorf("got %d roots from %q of %v; want %d from %q of %v", s.Roots(), s.Origin(), s.Timestamp(), roots, origin, timestamp)
	}
}

// checkFile expects want in file, nil for no file, and nothing else in its folder but the validators.
func checkFile(t *testing.T, file string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(file)
	if !bytes.Equal(got, want) || (err == nil) != (want != nil) {
		t.Errorf("%s: got %d bytes, %v; want %d", filepath.Base(file), len(got), err, len(want))
	}
	entries, _ := os.ReadDir(filepath.Dir(file))
	for _, e := range entries {
		if name := e.Name(); name != filepath.Base(file) && name != filepath.Base(validatorsFile(file)) {
			t.Errorf("%s was left behind", name)
		}
	}
}

// TestUpdateDates shows what newer means.
func TestUpdateDates(t *testing.T) {
	ours := catest.Root(t, "Ours")
	newer, older := builtInDate.Add(time.Hour), builtInDate.Add(-time.Hour)
	undated := bytes.TrimPrefix(builtInPEM(newer, ours), dated(newer))
	tests := []struct {
		name         string
		data         []byte
		lastModified string
		want         RefreshResult
		wantErr      string
	}{
		{"as of later", builtInPEM(newer, ours), "", RefreshUpdated, ""},
		{"as of later, modified earlier", builtInPEM(newer, ours), older.Format(http.TimeFormat), RefreshUpdated, ""},
		{"as of the same", builtInPEM(builtInDate, ours), newer.Format(http.TimeFormat), RefreshUnchanged, ""},
		{"as of earlier, modified later", builtInPEM(older, ours), newer.Format(http.TimeFormat), RefreshUnchanged, ""},
		{"modified later", undated, newer.Format(http.TimeFormat), RefreshUpdated, ""},
		{"modified earlier", undated, older.Format(http.TimeFormat), RefreshUnchanged, ""},
		{"no date", undated, "", RefreshFailed, "the bundle has no date"},
		{"senseless date", undated, "yesterday", RefreshFailed, "the bundle has no date"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMirror(t, send(tt.data, "", tt.lastModified))
			s, file := updateStore(t, m.URL, Hooks{})
			wantUpdate(t, s, tt.want, tt.wantErr)
			if tt.want != RefreshUpdated {
				checkStore(t, s, len(builtIn().roots), builtInOrigin, builtInDate)
				checkFile(t, file, nil)
				return
			}
			checkStore(t, s, len(builtIn().roots)+1, file, newer)
			checkStore(t, newStore(t, s.cfg), len(builtIn().roots)+1, file, newer)
		})
	}
}

// TestUpdateRefused shows that nothing but a whole, sensible bundle is taken, and that the one in use stays.
func TestUpdateRefused(t *testing.T) {
	newer := builtInDate.Add(time.Hour)
	data := builtInPEM(newer)
	raw := func(response string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprint(conn, response)
		}
	}
	body := func(data []byte) http.HandlerFunc { return send(data, "", "") }
	large := bytes.Repeat([]byte("#\n"), maxBundle/2+1)
	tests := []struct {
		name   string
		handle http.HandlerFunc
		want   string
	}{
		{"shorter than its length", raw(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(data)+1, data)), "unexpected EOF"},
		{"last chunk missing", raw(fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(data), data)), "unexpected EOF"},
		{"cut within a certificate", raw("HTTP/1.0 200 OK\r\n\r\n" + string(data[:len(data)-100])), "damaged or cut short"},
		{"cut between certificates", body(data[:bytes.LastIndex(data[:len(data)/2], []byte("-----BEGIN"))]), "of the " + fmt.Sprint(len(builtIn().roots)) + " roots in use"},
		{"all other roots", body(append(dated(newer), catest.Root(t, "Other").PEM()...)), "roots in use; a quarter is the most accepted"},
		{"a page", body([]byte("<html>Sign in to the network</html>")), "no PEM certificate"},
		{"nothing", body(nil), "no PEM certificate"},
		{"no certificate within", body(append(data, catest.PEM([]byte{1})...)), "malformed"},
		{"too large", raw(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", maxBundle+1)), "want at most 4194304"},
		{"too large, chunked", func(w http.ResponseWriter, r *http.Request) { w.(http.Flusher).Flush(); w.Write(large) }, "larger than 4194304 bytes"},
		{"not found", http.NotFound, "the server answered 404 Not Found"},
		{"no content", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }, "the server answered 204"},
		{"partial", raw("HTTP/1.1 206 Partial Content\r\nContent-Length: 0\r\n\r\n"), "the server answered 206"},
		{"not modified, unasked", raw("HTTP/1.1 304 Not Modified\r\n\r\n"), "the server answered 304"},
		{"no http", raw("SSH-2.0-OpenSSH\r\n"), "malformed HTTP"},
		{"closed", raw(""), "EOF"},
		{"redirected for ever", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x", http.StatusFound) }, "redirected more than 5 times"},
		{"redirected to another scheme", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/ssl/cert.pem", http.StatusFound)
		}, "unsupported protocol scheme"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMirror(t, send(data, `"v1"`, ""))
			var r recorder
			s, file := updateStore(t, m.URL, r.hooks())
			m.handle = tt.handle
			wantUpdate(t, s, RefreshFailed, tt.want)
			wantUpdate(t, s, RefreshFailed, "update the trust store from "+m.URL)
			checkStore(t, s, len(builtIn().roots), builtInOrigin, builtInDate)
			checkFile(t, file, nil)
			if fmt.Sprint(r.results) != "[failed failed]" || r.errs[0] == nil || r.changed != 0 {
				t.Errorf("hooks: got %v, %v, changed %d times; want failed with an error, never", r.results, r.errs, r.changed)
			}
			// A failure is not remembered.
			m.handle = send(data, `"v1"`, "")
			wantUpdate(t, s, RefreshUpdated, "")
			checkFile(t, file, data)
			m.handle = tt.handle
			if tt.name == "not modified, unasked" {
				return // by now it is asked
			}
			wantUpdate(t, s, RefreshFailed, tt.want)
			checkStore(t, s, len(builtIn().roots), file, newer)
			checkFile(t, file, data)
		})
	}
}

// TestUpdateLoss shows both edges of "more than a quarter".
func TestUpdateLoss(t *testing.T) {
	var roots []*catest.Authority
	var pems [][]byte
	for i := range 16 {
		roots = append(roots, catest.Root(t, fmt.Sprint("Root ", i)))
		pems = append(pems, roots[i].PEM())
	}
	first, second := builtInDate.Add(time.Hour), builtInDate.Add(2*time.Hour)
	bundleOf := func(date time.Time, pems ...[]byte) []byte { return append(dated(date), bytes.Join(pems, nil)...) }
	tests := []struct {
		name string
		next []byte
		want RefreshResult
		err  string
	}{
		{"none lost", bundleOf(second, pems[:8]...), RefreshUpdated, ""},
		{"a quarter lost", bundleOf(second, pems[2:8]...), RefreshUpdated, ""},
		{"more than a quarter lost", bundleOf(second, pems[3:8]...), RefreshFailed, "lacks 3 of the 8 roots in use"},
		{"as many, others", bundleOf(second, pems[8:]...), RefreshFailed, "lacks 8 of the 8 roots in use"},
		{"one in many copies", bundleOf(second, pems[0], pems[0], pems[0], pems[0], pems[0], pems[0], pems[0], pems[0]), RefreshFailed, "lacks 7 of the 8"},
		{"a quarter lost, others new", bundleOf(second, pems[2:]...), RefreshUpdated, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMirror(t, send(tt.next, "", ""))
			// Extra roots are the operator's and do not count.
			cfg := testConfig(t, roots[8:]...)
			cfg.Bundle.File = catest.File(t, "cacert.pem", bundleOf(first, pems[:8]...))
			cfg.Bundle.URL = m.URL
			s := newStore(t, cfg)
			wantUpdate(t, s, tt.want, tt.err)
		})
	}
}

func TestUpdateHTTPS(t *testing.T) {
	root := catest.Root(t, "Root")
	data := builtInPEM(builtInDate.Add(time.Hour))
	var plain *mirror
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", send(data, "", ""))
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusMovedPermanently) })
	mux.HandleFunc("/plain", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, plain.URL, http.StatusFound) })
	plain = newMirror(t, send(data, "", ""))
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = quiet
	server.TLS = &tls.Config{Certificates: []tls.Certificate{root.Leaf(t, "127.0.0.1")}}
	server.StartTLS()
	t.Cleanup(server.Close)
	tests := []struct {
		name    string
		path    string
		trusted bool
		want    RefreshResult
		err     string
	}{
		{"trusted", "/ok", true, RefreshUpdated, ""},
		{"redirected", "/moved", true, RefreshUpdated, ""},
		{"redirected to http", "/plain", true, RefreshFailed, "redirected from https to http://"},
		{"not trusted", "/ok", false, RefreshFailed, "certificate is signed by an unknown authority"},
	}
	for _, tt := range tests {
		for _, skip := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, destinations unverified %v", tt.name, skip), func(t *testing.T) {
				cfg := testConfig(t)
				if tt.trusted {
					cfg = testConfig(t, root)
				}
				cfg.Bundle.URL, cfg.InsecureSkipVerify = server.URL+tt.path, skip
				wantUpdate(t, newStore(t, cfg), tt.want, tt.err)
			})
		}
	}
}

// TestUpdateSameRoots shows that a new date alone retires no connections.
func TestUpdateSameRoots(t *testing.T) {
	m := newMirror(t, send(builtInPEM(builtInDate.Add(time.Hour)), "", ""))
	var r recorder
	s, _ := updateStore(t, m.URL, r.hooks())
	wantUpdate(t, s, RefreshUpdated, "")
	if r.changed != 0 {
		t.Errorf("changed %d times; want never", r.changed)
	}
}

func TestUpdateKeepsNone(t *testing.T) {
	data := builtInPEM(builtInDate.Add(time.Hour))
	m := newMirror(t, send(data, `"v1"`, ""))
	t.Run("no file", func(t *testing.T) {
		cfg := testConfig(t)
		cfg.Bundle.URL = m.URL
		s := newStore(t, cfg)
		wantUpdate(t, s, RefreshUpdated, "")
		wantUpdate(t, s, RefreshUnchanged, "")
		checkStore(t, s, len(builtIn().roots), m.URL, builtInDate.Add(time.Hour))
	})
	t.Run("file cannot be written", func(t *testing.T) {
		s, file := updateStore(t, m.URL, Hooks{})
		if err := os.WriteFile(filepath.Dir(file), nil, 0o600); err != nil { // where the folder should be
			t.Fatal(err)
		}
		wantUpdate(t, s, RefreshUpdated, "keep the bundle in caBundle.file")
		checkStore(t, s, len(builtIn().roots), m.URL, builtInDate.Add(time.Hour))
	})
	t.Run("no url", func(t *testing.T) {
		wantUpdate(t, newStore(t, testConfig(t)), RefreshFailed, `caBundle.url is ""`)
	})
}

// TestValidatorsForgotten shows when a request must not be conditional: the answer would be "unchanged", and the bundle
// that it means is not there.
func TestValidatorsForgotten(t *testing.T) {
	newer := builtInDate.Add(time.Hour)
	data := builtInPEM(newer)
	tests := []struct {
		name   string
		damage func(t *testing.T, cfg *Config)
	}{
		{"bundle removed", func(t *testing.T, cfg *Config) { remove(t, cfg.Bundle.File) }},
		{"bundle damaged", func(t *testing.T, cfg *Config) { write(t, cfg.Bundle.File, data[:len(data)-50]) }},
		{"bundle replaced", func(t *testing.T, cfg *Config) { write(t, cfg.Bundle.File, builtInPEM(builtInDate)) }},
		{"validators removed", func(t *testing.T, cfg *Config) { remove(t, validatorsFile(cfg.Bundle.File)) }},
		{"validators damaged", func(t *testing.T, cfg *Config) { write(t, validatorsFile(cfg.Bundle.File), []byte("{")) }},
		{"another url", func(t *testing.T, cfg *Config) { cfg.Bundle.URL += "/other.pem" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMirror(t, send(data, `"v1"`, "Mon, 02 Nov 2026 10:00:00 GMT"))
			s, file := updateStore(t, m.URL, Hooks{})
			wantUpdate(t, s, RefreshUpdated, "")
			cfg := s.cfg
			tt.damage(t, &cfg)
			again, err := New(cfg, Hooks{})
			if err != nil {
				t.Fatalf("New: %v", err)
			}
			if _, err := again.Update(t.Context()); err != nil {
				t.Fatalf("Update: %v", err)
			}
			if last := m.requests[len(m.requests)-1]; last.Get("If-None-Match") != "" || last.Get("If-Modified-Since") != "" {
				t.Errorf("got a conditional request %v; want an unconditional one", last)
			}
			checkStore(t, again, len(builtIn().roots), file, newer)
		})
	}
}

func remove(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestUpdateIsBounded(t *testing.T) {
	release := make(chan struct{})
	port := serve(t, func(net.Conn) { <-release })
	defer close(release)
	s, _ := updateStore(t, fmt.Sprintf("http://127.0.0.1:%d/", port), Hooks{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if result, err := s.Update(ctx); result != RefreshFailed || err == nil {
		t.Errorf("got %v, %v; want failed", result, err)
	}
}

func TestStart(t *testing.T) {
	var asked atomic.Int64
	third, gate := make(chan struct{}), make(chan struct{})
	m := newMirror(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 3 {
			close(third)
			<-gate // so that no fourth request is under way when the store is closed
		}
		http.NotFound(w, r)
	})
	cfg := testConfig(t)
	cfg.Bundle.URL, cfg.Bundle.RefreshInterval = m.URL, time.Millisecond
	s := newStore(t, cfg)
	s.Start(t.Context())
	s.Start(t.Context()) // changes nothing
	<-third
	s.Close()
	s.Close()
	before := asked.Load()
	close(gate)
	s.Start(t.Context()) // too late
	m.Close()            // waits for requests under way
	if after := asked.Load(); after != before {
		t.Errorf("asked %d times after Close; want none", after-before)
	}
}

func TestStartAsksAtOnce(t *testing.T) {
	results := make(chan RefreshResult, 1)
	m := newMirror(t, send(builtInPEM(builtInDate.Add(time.Hour)), "", ""))
	s, _ := updateStore(t, m.URL, Hooks{Refreshed: func(r RefreshResult, _ error) { results <- r }})
	s.Start(t.Context())
	if got := <-results; got != RefreshUpdated {
		t.Errorf("got %v; want updated", got)
	}
}

// TestCloseEndsDownload shows that neither Close nor the end of the context waits for a server that does not answer.
func TestCloseEndsDownload(t *testing.T) {
	for _, name := range []string{"close", "context"} {
		t.Run(name, func(t *testing.T) {
			connected, release := make(chan struct{}, 1), make(chan struct{})
			port := serve(t, func(net.Conn) { connected <- struct{}{}; <-release })
			defer close(release)
			var r recorder
			s, _ := updateStore(t, fmt.Sprintf("http://127.0.0.1:%d/", port), r.hooks())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s.Start(ctx)
			<-connected
			if name == "context" {
				cancel()
			}
			s.Close()
			if len(r.results) != 0 {
				t.Errorf("got %v; want no report of an abandoned look", r.results)
			}
		})
	}
}

func TestStartWithoutURL(t *testing.T) {
	s := newStore(t, testConfig(t))
	s.Start(t.Context())
	if s.stop != nil {
		t.Error("Start runs something; want nothing without a URL")
	}
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	ours := catest.Root(t, "Ours")
	port := serveCertificate(t, ours.Leaf(t, testHost))
	var mu sync.Mutex
	n := 0
	m := newMirror(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n++
		data := builtInPEM(builtInDate.Add(time.Duration(n)*time.Hour), ours)
		mu.Unlock()
		w.Write(data)
	})
	s, _ := updateStore(t, m.URL, Hooks{})
	wantUpdate(t, s, RefreshUpdated, "")
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 3 {
				if _, err := dial(t, s, "", testHost, port); err != nil {
					t.Errorf("dial: %v", err)
				}
				s.Certificates()
			}
		})
		wg.Go(func() {
			if result, err := s.Update(t.Context()); result != RefreshUpdated {
				t.Errorf("Update: got %v, %v; want updated", result, err)
			}
		})
	}
	wg.Wait()
}
