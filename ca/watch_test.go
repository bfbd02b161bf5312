package ca

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"whsentry/ca/catest"
)

// events are what a Store reports.
type events struct {
	mu        sync.Mutex // guards the following fields
	warnings  []string
	changed   int
	issuers   int
	listeners [][2]*tls.Config
}

func (e *events) hooks() Hooks {
	note := func(f func()) {
		e.mu.Lock()
		defer e.mu.Unlock()
		f()
	}
	return Hooks{
		Warn:          func(err error) { note(func() { e.warnings = append(e.warnings, err.Error()) }) },
		Changed:       func() { note(func() { e.changed++ }) },
		IssuerChanged: func() { note(func() { e.issuers++ }) },
		ListenerChanged: func(old, now *tls.Config) {
			note(func() { e.listeners = append(e.listeners, [2]*tls.Config{old, now}) })
		},
	}
}

// check compares what was reported since the last time, warnings by how they begin.
func (e *events) check(t *testing.T, when string, changed, issuers, listeners int, warnings ...string) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.changed != changed || e.issuers != issuers || len(e.listeners) != listeners {
		t.Errorf("%s: got %d changes, %d of the issuer, %d of listeners; want %d, %d, %d", when, e.changed, e.issuers, len(e.listeners), changed, issuers, listeners)
	}
	if len(e.warnings) != len(warnings) {
		t.Errorf("%s: got the warnings %q; want %q", when, e.warnings, warnings)
	} else {
		for i, want := range warnings {
			if !strings.HasPrefix(e.warnings[i], want) {
				t.Errorf("%s: got the warning %q; want %q", when, e.warnings[i], want)
			}
		}
	}
	e.warnings, e.changed, e.issuers, e.listeners = nil, 0, 0, nil
}

// watchingStore looks at files only when told to.
func watchingStore(t *testing.T, cfg Config) (*Store, *events) {
	t.Helper()
	cfg.WatchFiles = time.Hour
	e := new(events)
	s, err := New(cfg, e.hooks())
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(s.Close)
	s.lookAtFiles()
	e.check(t, "nothing changed", 0, 0, 0)
	return s, e
}

// mounted are the files of a key pair as Kubernetes mounts them: links to a link to a folder, which is swapped.
type mounted struct {
	dir   string
	files KeyPairFiles
}

func mount(t *testing.T, c tls.Certificate) *mounted {
	t.Helper()
	m := &mounted{dir: t.TempDir()}
	m.files = KeyPairFiles{CertFile: filepath.Join(m.dir, "tls.crt"), KeyFile: filepath.Join(m.dir, "tls.key")}
	m.swap(t, c)
	for _, name := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(m.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *mounted) swap(t *testing.T, c tls.Certificate) {
	t.Helper()
	certFile, keyFile := catest.Files(t, c)
	folder, err := os.MkdirTemp(m.dir, "..data_")
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(m.dir, "..next")
	for _, step := range []error{
		os.Rename(certFile, filepath.Join(folder, "tls.crt")), os.Rename(keyFile, filepath.Join(folder, "tls.key")),
		os.Symlink(filepath.Base(folder), link), os.Rename(link, filepath.Join(m.dir, "..data")),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
}

// seenBy returns the name in the client certificate that a server sees.
func seenBy(t *testing.T, s *Store, alias string, port uint16, seen <-chan tls.ConnectionState) (name string, resumed bool) {
	t.Helper()
	state, err := dial(t, s, alias, testHost, port)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	if c := (<-seen).PeerCertificates; len(c) > 0 {
		name = c[0].DNSNames[0]
	}
	return name, state.DidResume
}

// TestWatchClientCert swaps, breaks, removes and mends a client certificate.
func TestWatchClientCert(t *testing.T) {
	root := catest.Root(t, "Root")
	pair := func(name string) tls.Certificate { return root.Leaf(t, name) }
	m, own := mount(t, pair("first")), keyPairFiles(t, pair("default"))
	cfg := testConfig(t, root)
	cfg.ClientCert, cfg.ClientCerts = own, map[string]KeyPairFiles{"acme": m.files}
	s, e := watchingStore(t, cfg)
	seen := make(chan tls.ConnectionState, 1)
	port := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{root.Leaf(t, testHost)}, ClientAuth: tls.RequireAnyClientCert},
		func(c tls.ConnectionState) { seen <- c })
	check := func(when, alias, want string, wantResumed bool) {
		t.Helper()
		if got, resumed := seenBy(t, s, alias, port, seen); got != want || resumed != wantResumed {
			t.Errorf("%s: the server saw %q, resumed %v; want %q, %v", when, got, resumed, want, wantResumed)
		}
	}
	check("at first", "acme", "first", false)
	check("at first", "acme", "first", true)
	check("at first", "", "default", false)

	m.swap(t, pair("second"))
	check("before a look", "acme", "first", true)
	s.lookAtFiles()
	e.check(t, "swapped", 1, 0, 0)
	check("swapped", "acme", "second", false) // and no session of the old one
	check("swapped", "", "default", true)

	// One file after the other, as a careless person copies them.
	third := pair("third")
	certFile, keyFile := catest.Files(t, third)
	replace(t, certFile, filepath.Join(m.dir, "..data", "tls.crt"))
	const unfit = "clientCerts.acme.keyFile: "
	s.lookAtFiles()
	s.lookAtFiles()
	e.check(t, "a certificate without its key", 0, 0, 0, unfit)
	check("a certificate without its key", "acme", "second", true)
	replace(t, keyFile, filepath.Join(m.dir, "..data", "tls.key"))
	s.lookAtFiles()
	e.check(t, "the key follows", 1, 0, 0)
	check("the key follows", "acme", "third", false)

	write(t, m.files.CertFile, []byte("-----BEGIN CERTIFICATE-----\nAA"))
	s.lookAtFiles()
	s.lookAtFiles()
	e.check(t, "damaged", 0, 0, 0, "clientCerts.acme.certFile: ")
	remove(t, m.files.CertFile)
	s.lookAtFiles()
	s.lookAtFiles()
	e.check(t, "gone", 0, 0, 0, "clientCerts.acme.certFile: open ")
	check("gone", "acme", "third", true)
	write(t, m.files.CertFile, catest.PEM(third.Certificate...))
	s.lookAtFiles()
	remove(t, m.files.CertFile)
	s.lookAtFiles()
	e.check(t, "there, and gone again", 0, 0, 0, "clientCerts.acme.certFile: open ")
	write(t, m.files.CertFile, append([]byte("# a comment\n"), catest.PEM(third.Certificate...)...))
	s.lookAtFiles()
	e.check(t, "the same with a comment", 0, 0, 0)

	expired := root.Leaf(t, "expired", catest.Expired())
	m.files = own
	certFile, keyFile = catest.Files(t, expired)
	replace(t, certFile, own.CertFile)
	replace(t, keyFile, own.KeyFile)
	s.lookAtFiles()
	e.check(t, "an expired one", 1, 0, 0, "clientCertFile: certificate \"expired\" expired")
}

func replace(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// TestWatchRoots changes the files of roots.
func TestWatchRoots(t *testing.T) {
	first, second, corp := catest.Root(t, "First"), catest.Root(t, "Second"), catest.Root(t, "Corp")
	cfg := testConfig(t, first)
	caFile := catest.File(t, "corp.pem", first.PEM())
	cfg.Destinations = []RulesConfig{{CAFile: caFile}}
	s, e := watchingStore(t, cfg)
	ports := map[*catest.Authority]uint16{}
	for _, a := range []*catest.Authority{first, second, corp} {
		ports[a] = serveCertificate(t, a.Leaf(t, testHost))
	}
	trusts := func(when string, a *catest.Authority, rules *Rules, want bool) {
		t.Helper()
		if _, err := dialAs(t, s, Destination{Host: testHost, Port: ports[a], Rules: rules}, patience); (err == nil) != want {
			t.Errorf("%s: trust in %s: got %v; want %v", when, a.Certificate.Subject.CommonName, err, want)
		}
	}
	trusts("at first", first, nil, true)
	write(t, cfg.Bundle.ExtraFile, second.PEM())
	s.lookAtFiles()
	e.check(t, "another root", 1, 0, 0)
	trusts("another root", first, nil, false) // its session included
	trusts("another root", second, nil, true)
	trusts("another root", first, s.Rules(0), true)

	write(t, caFile, corp.PEM())
	s.lookAtFiles()
	e.check(t, "another root of the entry", 1, 0, 0)
	trusts("another root of the entry", first, s.Rules(0), false)
	trusts("another root of the entry", corp, s.Rules(0), true)
	trusts("another root of the entry", second, s.Rules(0), true)

	write(t, caFile, []byte("x"))
	remove(t, cfg.Bundle.ExtraFile)
	s.lookAtFiles()
	s.lookAtFiles()
	e.check(t, "damaged and gone", 0, 0, 0, "caBundle.extraFile: open ", "destinations[0].caFile: ")
	trusts("damaged and gone", corp, s.Rules(0), true)
	trusts("damaged and gone", second, nil, true)
}

// TestWatchBundle is a bundle that another process downloads.
func TestWatchBundle(t *testing.T) {
	ours := catest.Root(t, "Ours")
	cfg := testConfig(t)
	cfg.Bundle.File = filepath.Join(t.TempDir(), "cacert.pem")
	s, e := watchingStore(t, cfg)
	builtInRoots, newer := len(builtIn().roots), builtInDate.Add(time.Hour)

	write(t, cfg.Bundle.File, builtInPEM(newer, ours))
	s.lookAtFiles()
	e.check(t, "newer", 1, 0, 0)
	checkStore(t, s, builtInRoots+1, cfg.Bundle.File, newer)
	write(t, cfg.Bundle.File, builtInPEM(newer.Add(-time.Minute)))
	s.lookAtFiles()
	e.check(t, "older", 0, 0, 0)
	write(t, cfg.Bundle.File, ours.PEM())
	s.lookAtFiles()
	s.lookAtFiles()
	e.check(t, "most of it lost", 0, 0, 0, "caBundle.file: the bundle lacks")
	write(t, cfg.Bundle.File, builtInPEM(newer.Add(time.Hour))[:1000])
	s.lookAtFiles()
	e.check(t, "cut", 0, 0, 0, "caBundle.file: ")
	remove(t, cfg.Bundle.File)
	s.lookAtFiles()
	s.lookAtFiles()
	e.check(t, "gone", 0, 0, 0, "caBundle.file: ")
	checkStore(t, s, builtInRoots+1, cfg.Bundle.File, newer)
}

func TestWatchIssuer(t *testing.T) {
	first, second := catest.Root(t, "First"), catest.Root(t, "Second")
	certFile, keyFile := first.Files(t)
	cfg := testConfig(t)
	cfg.MITMIssuer = KeyPairFiles{certFile, keyFile}
	s, e := watchingStore(t, cfg)
	signedBy := func(want *catest.Authority) {
		t.Helper()
		c, err := s.IssuerConfig(testHost)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Certificates[0].Leaf.CheckSignatureFrom(want.Certificate); err != nil {
			t.Errorf("the certificate of a tunnel is not signed by %s: %v", want.Certificate.Subject.CommonName, err)
		}
	}
	signedBy(first)
	nextCert, nextKey := second.Files(t)
	replace(t, nextCert, certFile)
	replace(t, nextKey, keyFile)
	s.lookAtFiles()
	e.check(t, "another issuer", 0, 1, 0)
	signedBy(second)
	leafCert, leafKey := catest.Files(t, first.Leaf(t, "no.ca"))
	replace(t, leafCert, certFile)
	replace(t, leafKey, keyFile)
	s.lookAtFiles()
	s.lookAtFiles()
	e.check(t, "no authority", 0, 0, 0, "mitmIssuerCertFile: ")
	signedBy(second)
}

func TestWatchListener(t *testing.T) {
	root, other := catest.Root(t, "Root"), catest.Root(t, "Other")
	m := mount(t, root.Leaf(t, "old.test"))
	clients := catest.File(t, "clients.pem", root.PEM())
	s, e := watchingStore(t, testConfig(t))
	first, err := s.ServerConfig(m.files.CertFile, m.files.KeyFile, clients)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ServerConfig(m.files.CertFile, m.files.KeyFile, ""); err != nil {
		t.Fatal(err)
	}
	s.lookAtFiles()
	e.check(t, "nothing changed", 0, 0, 0)

	m.swap(t, root.Leaf(t, "new.test"))
	s.lookAtFiles()
	now := e.listeners[0]
	e.check(t, "another certificate", 0, 0, 2)
	if now[0] != first || now[1].Certificates[0].Leaf.DNSNames[0] != "new.test" {
		t.Errorf("got %v in place of %v; want the new certificate's", now[1], now[0])
	}
	write(t, clients, other.PEM())
	s.lookAtFiles()
	next := e.listeners[0]
	e.check(t, "other clients", 0, 0, 1) // of the one listener that has the file
	if next[0] != now[1] || !next[1].ClientCAs.Equal(other.Pool()) || next[1].ClientAuth != tls.RequireAndVerifyClientCert {
		t.Errorf("got %v in place of %v; want it to demand certificates of the other authority", next[1], next[0])
	}
	m.swap(t, tls.Certificate{Certificate: root.Leaf(t, "x.test").Certificate, PrivateKey: other.Key})
	write(t, clients, nil)
	s.lookAtFiles()
	s.lookAtFiles()
	e.check(t, "a key of another", 0, 0, 0, "listeners: keyFile: ", "listeners: keyFile: ")
}

// TestWatchRuns shows that the goroutine looks, and ends.
func TestWatchRuns(t *testing.T) {
	root := catest.Root(t, "Root")
	cfg := testConfig(t)
	cfg.WatchFiles = time.Millisecond
	cfg.ClientCert = keyPairFiles(t, root.Leaf(t, "first"))
	changed := make(chan struct{}, 100)
	for _, name := range []string{"close", "context"} {
		t.Run(name, func(t *testing.T) {
			s, err := New(cfg, Hooks{Changed: func() { changed <- struct{}{} }})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s.Start(ctx)
			certFile, keyFile := catest.Files(t, root.Leaf(t, "second"))
			replace(t, certFile, cfg.ClientCert.CertFile)
			replace(t, keyFile, cfg.ClientCert.KeyFile)
			<-changed
			if name == "context" {
				cancel()
				s.running.Wait()
			}
			s.Close()
			write(t, cfg.ClientCert.CertFile, []byte("x"))
			if _, err := s.clientCert(""); err != nil {
				t.Errorf("after the end: %v", err)
			}
			certFile, keyFile = catest.Files(t, root.Leaf(t, "third"))
			replace(t, certFile, cfg.ClientCert.CertFile)
			replace(t, keyFile, cfg.ClientCert.KeyFile)
		})
	}
	if len(changed) != 0 {
		t.Error("a file is used after the end")
	}
}

func TestWatchOff(t *testing.T) {
	cfg := testConfig(t)
	cfg.ClientCert = keyPairFiles(t, catest.Root(t, "Root").Leaf(t, "first"))
	s := newStore(t, cfg)
	s.Start(t.Context())
	if len(s.watched) != 0 || s.stop != nil {
		t.Errorf("got %d files watched; want none at 0s", len(s.watched))
	}
}
