package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"whsentry/ca/catest"
)

// library publishes certificates, and is reached under whatever name. It counts who asks.
type library struct {
	*httptest.Server
	mu    sync.Mutex // guards the following fields
	pages map[string]http.HandlerFunc
	asked []string
	dials []string
}

func newLibrary(t *testing.T) *library {
	t.Helper()
	l := &library{pages: make(map[string]http.HandlerFunc)}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.asked = append(l.asked, r.Host+r.URL.String())
		page := l.pages[r.URL.Path]
		l.mu.Unlock()
		if page == nil {
			http.NotFound(w, r)
			return
		}
		page(w, r)
	}))
	t.Cleanup(l.Close)
	return l
}

// publish makes data what is found at path, and returns the URL that a certificate would name.
func (l *library) publish(path string, data []byte) string {
	return l.serve(path, func(w http.ResponseWriter, _ *http.Request) { w.Write(data) })
}

func (l *library) serve(path string, page http.HandlerFunc) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pages[path] = page
	return "http://pki.test" + path
}

func (l *library) hooks() Hooks {
	return Hooks{Dial: func(ctx context.Context, host string, port uint16) (net.Conn, error) {
		l.mu.Lock()
		l.dials = append(l.dials, fmt.Sprintf("%s:%d", host, port))
		l.mu.Unlock()
		return new(net.Dialer).DialContext(ctx, "tcp", l.Listener.Addr().String())
	}}
}

func (l *library) check(t *testing.T, want int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.asked) != want || len(l.dials) != want {
		t.Errorf("got asked for %q over connections to %q; want %d of them", l.asked, l.dials, want)
	}
	for _, d := range l.dials {
		if d != "pki.test:80" {
			t.Errorf("got a connection to %s; want pki.test:80", d)
		}
	}
}

func (l *library) store(t *testing.T, roots ...*catest.Authority) *Store {
	t.Helper()
	s, err := New(testConfig(t, roots...), l.hooks())
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return s
}

// alone is c by a server that sends no intermediate.
func alone(c tls.Certificate) tls.Certificate {
	c.Certificate = c.Certificate[:1]
	return c
}

func checkDial(t *testing.T, s *Store, port uint16) (Report, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn := connect(t, port)
	defer conn.Close()
	client, report, err := s.Check(ctx, conn, Destination{Host: testHost, Port: port}, nil)
	if err == nil {
		client.Close()
	}
	return report, err
}

// TestMissingIntermediates is which chains are completed, and which are not.
func TestMissingIntermediates(t *testing.T) {
	l := newLibrary(t)
	root := catest.Root(t, "Root", catest.RSA(t, 2048))
	stranger := catest.Root(t, "Stranger")
	// Each intermediate's own page has it, and what it issues names that page.
	above := func(issuer *catest.Authority, name string, changes ...catest.Change) (*catest.Authority, catest.Change) {
		i := issuer.Intermediate(t, name, changes...)
		return i, catest.FoundAt(l.publish("/"+strings.ReplaceAll(name, " ", "-"), i.Certificate.Raw))
	}
	one, atOne := above(root, "One")
	two, atTwo := above(one, "Two", atOne)
	three, atThree := above(two, "Three", atTwo)
	old, atOld := above(root, "Expired", catest.Expired())
	sha1, atSHA1 := above(root, "SHA-1", catest.Digest(crypto.SHA1))
	short, atShort := above(root, "Short", catest.RSA(t, 1024))
	constrained, atConstrained := above(root, "Constrained", catest.OnlyDomains("example.org"))
	foreign, atForeign := above(stranger, "Foreign")
	at := func(data []byte) catest.Change {
		return catest.FoundAt(l.publish(fmt.Sprintf("/%d", len(l.pages)), data))
	}
	page := func(p http.HandlerFunc) catest.Change {
		return catest.FoundAt(l.serve(fmt.Sprintf("/%d", len(l.pages)), p))
	}
	pemOne := catest.PEM(one.Certificate.Raw)
	padded := func(n int) []byte { return append(pemOne, bytes.Repeat([]byte("\n"), n-len(pemOne))...) }
	// Its issuer has its own name, and is found at itself.
	loop := func() *catest.Authority {
		key := catest.Root(t, "Loop")
		other := catest.Root(t, "Loop")
		url := "http://pki.test/loop"
		cert := key.CrossSign(t, other, catest.FoundAt(url))
		l.publish("/loop", cert.Raw)
		return &catest.Authority{Certificate: cert, Key: other.Key}
	}()
	tests := []struct {
		name  string
		cert  tls.Certificate
		added int
		asked int
		want  string // "" is accepted
	}{
		{"nothing missing", one.Leaf(t, testHost, atOne), 0, 0, ""},
		{"DER", alone(one.Leaf(t, testHost, atOne)), 1, 1, ""},
		{"PEM", alone(one.Leaf(t, testHost, at(pemOne))), 1, 1, ""},
		{"the largest", alone(one.Leaf(t, testHost, at(padded(maxFetched)))), 1, 1, ""},
		{"too large", alone(one.Leaf(t, testHost, at(padded(maxFetched+1)))), 0, 1, "did not send its intermediate certificate"},
		{"two", alone(two.Leaf(t, testHost, atTwo)), 2, 2, ""},
		{"the upper of two", withRoot(alone(two.Leaf(t, testHost)), two), 1, 1, ""},
		{"the upper of three", withRoot(withRoot(alone(three.Leaf(t, testHost)), three), two), 1, 1, ""},
		{"three", alone(three.Leaf(t, testHost, atThree)), 0, 2, "did not send its intermediate certificate"},
		{"the old one of an authority that has another key", withRoot(alone(one.Leaf(t, testHost, atOne)), root.Intermediate(t, "One")), 1, 1, ""},
		{"the old one of the upper of two", withRoot(withRoot(alone(two.Leaf(t, testHost)), two), root.Intermediate(t, "One")), 1, 1, ""},
		{"a second address", alone(one.Leaf(t, testHost, catest.FoundAt("ldap://pki.test/x", "https://pki.test/One", "http://pki.test/One"))), 1, 1, ""},
		{"port 80 written", alone(one.Leaf(t, testHost, catest.FoundAt("http://pki.test:80/One"))), 1, 1, ""},

		{"no address", alone(one.Leaf(t, testHost)), 0, 0, "unknown authority"},
		{"https", alone(one.Leaf(t, testHost, catest.FoundAt("https://pki.test/One"))), 0, 0, "unknown authority"},
		{"ftp", alone(one.Leaf(t, testHost, catest.FoundAt("ftp://pki.test/One"))), 0, 0, "unknown authority"},
		{"another port", alone(one.Leaf(t, testHost, catest.FoundAt("http://pki.test:8080/One"))), 0, 0, "unknown authority"},
		{"user information", alone(one.Leaf(t, testHost, catest.FoundAt("http://me:x@pki.test/One"))), 0, 0, "unknown authority"},
		{"no host", alone(one.Leaf(t, testHost, catest.FoundAt("http:///One"))), 0, 0, "unknown authority"},
		{"a long address", alone(one.Leaf(t, testHost, catest.FoundAt("http://pki.test/One?"+strings.Repeat("x", maxFetchURL)))), 0, 0, "unknown authority"},

		{"not found", alone(one.Leaf(t, testHost, catest.FoundAt("http://pki.test/nowhere"))), 0, 1, "unknown authority"},
		{"redirected", alone(one.Leaf(t, testHost, page(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/One", http.StatusFound) }))), 0, 1, "unknown authority"},
		{"no certificate", alone(one.Leaf(t, testHost, at([]byte("x")))), 0, 1, "unknown authority"},
		{"nothing", alone(one.Leaf(t, testHost, at(nil))), 0, 1, "unknown authority"},
		{"two certificates in DER", alone(one.Leaf(t, testHost, at(append(bytes.Clone(one.Certificate.Raw), root.Certificate.Raw...)))), 0, 1, "unknown authority"},
		{"a key", alone(one.Leaf(t, testHost, at(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})))), 0, 1, "unknown authority"},
		{"another's certificate", alone(one.Leaf(t, testHost, at(two.Certificate.Raw))), 0, 1, "unknown authority"},
		{"one of the same name", alone(one.Leaf(t, testHost, at(root.Intermediate(t, "One").Certificate.Raw))), 0, 1, "unknown authority"},

		{"a stranger's root", alone(stranger.Leaf(t, testHost, at(stranger.Certificate.Raw))), 0, 1, "unknown authority"},
		{"below a stranger's root", alone(foreign.Leaf(t, testHost, atForeign)), 0, 1, "unknown authority"},
		{"names itself as its issuer", alone(loop.Leaf(t, testHost, catest.FoundAt("http://pki.test/loop"))), 0, 1, "unknown authority"},
		{"expired", alone(old.Leaf(t, testHost, atOld)), 0, 1, `certificate of the authority "Expired" expired`},
		{"sha-1", alone(sha1.Leaf(t, testHost, atSHA1)), 0, 1, `certificate of the authority "SHA-1" is signed with SHA-1`},
		{"rsa 1024", alone(short.Leaf(t, testHost, atShort)), 0, 1, "RSA key of 1024 bits"},
		{"name constraints", alone(constrained.Leaf(t, testHost, atConstrained)), 0, 1, "may not issue it for " + testHost},
		{"another host's", alone(one.Leaf(t, "other.test", atOne)), 0, 0, "not for " + testHost},
		{"expired itself", alone(one.Leaf(t, testHost, atOne, catest.Expired())), 0, 0, "certificate expired"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				l.asked, l.dials = nil, nil
				s := l.store(t, root)
				port := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{tt.cert}, MinVersion: version, MaxVersion: version}, nil)
				for range 2 { // the second is a session, or what is remembered
					report, err := checkDial(t, s, port)
					checkError(t, err, testHost, true, tt.want)
					if len(report.Added) != tt.added || err == nil && len(report.Verified) == 0 {
						t.Errorf("got %d certificates added, %d chains; want %d", len(report.Added), len(report.Verified), tt.added)
					}
					l.check(t, tt.asked)
				}
				// What was fetched is no root: it helps nobody else.
				_, err := dial(t, s, "", testHost, serveCertificate(t, stranger.Leaf(t, testHost)))
				checkError(t, err, testHost, true, "unknown authority")
			}
		})
	}
}

// TestTopOfHostileChains shows that what a server sends is not gone through for ever: authorities that have signed each
// other, and many of one name.
func TestTopOfHostileChains(t *testing.T) {
	a, b := catest.Root(t, "A"), catest.Root(t, "B")
	leaf := a.Leaf(t, testHost).Leaf
	ring := []*x509.Certificate{leaf, b.CrossSign(t, a), a.CrossSign(t, b)}
	if top := topOf(ring); top == leaf {
		t.Errorf("got the leaf; want one of the two that have signed each other")
	}
	crowd := []*x509.Certificate{leaf}
	for range maxSigners {
		crowd = append(crowd, b.CrossSign(t, catest.Root(t, "A")))
	}
	if top := topOf(append(crowd, ring[1])); top != leaf {
		t.Errorf("got %s; want the leaf, for no more than %d signatures are looked at", top.Subject, maxSigners)
	}
}

// immense is an RSA key that is only ever shown: nobody has the other half.
type immense struct {
	crypto.Signer
	bits int
}

func (k immense) Public() crypto.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), uint(k.bits-1))
	return &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 1<<31 - 1}
}

// TestFetchedKeyIsBounded shows that no signature is checked with a key so long that this takes seconds.
func TestFetchedKeyIsBounded(t *testing.T) {
	l := newLibrary(t)
	root := catest.Root(t, "Root")
	one := root.Intermediate(t, "One")
	long := root.Intermediate(t, "One", catest.Key(immense{bits: maxFetchedRSABits + 1}))
	leaf := alone(one.Leaf(t, testHost, catest.FoundAt(l.publish("/one", long.Certificate.Raw))))
	report, err := checkDial(t, l.store(t, root), serveCertificate(t, leaf))
	checkError(t, err, testHost, true, "did not send its intermediate certificate")
	if report.FetchErr == nil || !strings.Contains(report.FetchErr.Error(), "an RSA key of 8193 bits; want at most 8192") {
		t.Errorf("got %v; want an error for the key's length", report.FetchErr)
	}
	if _, err := parseFetched(root.Intermediate(t, "One", catest.Key(immense{bits: maxFetchedRSABits})).Certificate.Raw); err != nil {
		t.Errorf("a key of %d bits: got %v; want it taken", maxFetchedRSABits, err)
	}
}

// TestFetchOff shows that nothing is asked for where that is not wanted, or no way is given.
func TestFetchOff(t *testing.T) {
	l := newLibrary(t)
	root := catest.Root(t, "Root")
	one := root.Intermediate(t, "One")
	port := serveCertificate(t, alone(one.Leaf(t, testHost, catest.FoundAt(l.publish("/One", one.Certificate.Raw)))))
	cfg := testConfig(t, root)
	cfg.Bundle.FetchIntermediates = false
	for name, open := range map[string]func() (*Store, error){
		"off":    func() (*Store, error) { return New(cfg, l.hooks()) },
		"no way": func() (*Store, error) { return New(testConfig(t, root), Hooks{}) },
	} {
		s, err := open()
		if err != nil {
			t.Fatal(err)
		}
		_, err = dial(t, s, "", testHost, port)
		checkError(t, err, testHost, true, "did not send its intermediate certificate")
		if l.check(t, 0); t.Failed() {
			t.Errorf("with fetching %s", name)
		}
	}
}

// TestFetchIsRemembered shows for how long an outcome is good, and that a reload does not forget it.
func TestFetchIsRemembered(t *testing.T) {
	long := catest.Valid(time.Now().Add(-time.Hour), time.Now().Add(1000*time.Hour))
	root := catest.Root(t, "Root", long)
	one := root.Intermediate(t, "One", long)
	for name, tt := range map[string]struct {
		works bool
		good  time.Duration
	}{"certificate": {true, fetchedFor}, "failure": {false, failedFor}} {
		t.Run(name, func(t *testing.T) {
			l := newLibrary(t)
			leaf := func() tls.Certificate {
				return alone(one.Leaf(t, testHost, long, catest.FoundAt("http://pki.test/One")))
			}
			if tt.works {
				l.publish("/One", one.Certificate.Raw)
			}
			s := l.store(t, root)
			began := time.Now()
			now := began
			s.now = func() time.Time { return now }
			server := &tls.Config{Certificates: []tls.Certificate{leaf()}, SessionTicketsDisabled: true}
			port := serveTLS(t, server, nil)
			for _, step := range []struct {
				after time.Duration
				asked int
			}{{0, 1}, {tt.good - 1, 1}, {tt.good, 2}, {2*tt.good - 1, 2}} {
				now = began.Add(step.after)
				if _, err := dial(t, s, "", testHost, port); (err == nil) != tt.works {
					t.Fatalf("after %s: got %v; want success: %v", step.after, err, tt.works)
				}
				l.check(t, step.asked)
			}
			again, err := s.Reload(s.cfg, l.hooks())
			if err != nil {
				t.Fatal(err)
			}
			again.now = s.now
			// Another certificate, the same address.
			if _, err := dial(t, again, "", testHost, serveCertificate(t, leaf())); (err == nil) != tt.works {
				t.Errorf("after a reload: got %v; want success: %v", err, tt.works)
			}
			l.check(t, 2)
		})
	}
}

// TestFetchIsBounded shows that neither a slow address nor a refused one takes more than its time, and what is known then.
func TestFetchIsBounded(t *testing.T) {
	root := catest.Root(t, "Root")
	one := root.Intermediate(t, "One")
	release := make(chan struct{})
	l := newLibrary(t)
	t.Cleanup(func() { close(release) }) // before the server is closed
	url := l.serve("/slow", func(w http.ResponseWriter, r *http.Request) {
		w.Write(one.Certificate.Raw[:10])
		w.(http.Flusher).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	server := &tls.Config{Certificates: []tls.Certificate{alone(one.Leaf(t, testHost, catest.FoundAt(url)))}}
	t.Run("its own time", func(t *testing.T) {
		s := l.store(t, root)
		s.fetcher.timeout = 50 * time.Millisecond
		port := serveTLS(t, server, nil)
		for range 2 { // the second from what is remembered
			report, err := checkDial(t, s, port)
			checkError(t, err, testHost, true, "did not send its intermediate certificate")
			if !errors.Is(report.FetchErr, context.DeadlineExceeded) {
				t.Errorf("got %v; want that its time was over", report.FetchErr)
			}
			l.check(t, 1)
		}
	})
	t.Run("the handshake's time", func(t *testing.T) {
		l.asked, l.dials = nil, nil
		s := l.store(t, root)
		port := serveTLS(t, server, nil)
		for n := range 2 { // nothing is known of an address that was not waited for
			_, err := dialTimeout(t, s, "", testHost, port, 100*time.Millisecond)
			if f := Explain(err, testHost); f.Cause != CauseTimeout {
				t.Errorf("got %v, %+v; want a timeout", err, f)
			}
			l.check(t, n+1)
		}
	})
	t.Run("refused", func(t *testing.T) {
		var dials atomic.Int32
		refused := errors.New("IP 10.0.0.1 is blocked")
		s, err := New(testConfig(t, root), Hooks{Dial: func(context.Context, string, uint16) (net.Conn, error) {
			dials.Add(1)
			return nil, refused
		}})
		if err != nil {
			t.Fatal(err)
		}
		port := serveTLS(t, server, nil)
		for range 2 {
			report, err := checkDial(t, s, port)
			checkError(t, err, testHost, true, "did not send its intermediate certificate")
			if !errors.Is(report.FetchErr, refused) || dials.Load() != 1 {
				t.Errorf("got %v after %d connections; want %v after 1", report.FetchErr, dials.Load(), refused)
			}
		}
	})
}

// TestFetchOnce shows that of several handshakes at once one asks, and that they are not held up by one that is ended.
func TestFetchOnce(t *testing.T) {
	root := catest.Root(t, "Root")
	one := root.Intermediate(t, "One")
	l := newLibrary(t)
	asked, release := make(chan struct{}, 10), make(chan struct{})
	url := l.serve("/slow", func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-release:
			w.Write(one.Certificate.Raw)
		case <-r.Context().Done():
		}
	})
	s := l.store(t, root)
	known := s.learned.fetched
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := s.fetcher.get(ctx, known, url, s.now)
		first <- err
	}()
	<-asked
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if cert, err := s.fetcher.get(t.Context(), known, url, s.now); err != nil || !cert.Equal(one.Certificate) {
				t.Errorf("got %v, %v; want the certificate", cert, err)
			}
		})
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first one got %v; want %v", err, context.Canceled)
	}
	<-asked // one of the others
	close(release)
	wg.Wait()
	l.check(t, 2)
}

func TestFetchesAreBounded(t *testing.T) {
	known := newLearned().fetched
	for i := range maxFetches + 1 {
		known.claim(fmt.Sprint("http://pki.test/", i), time.Now())
	}
	if n := known.known.len(); n != maxFetches {
		t.Errorf("got %d URLs; want %d", n, maxFetches)
	}
}

// FuzzFetched gives what an address answers, and what a certificate names as one, to their readers.
func FuzzFetched(f *testing.F) {
	root := catest.Root(f, "Root")
	f.Add(root.Certificate.Raw, "http://pki.test/One")
	f.Add(root.PEM(), "http://me@pki.test:80/One")
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"), "http://[::1]:80/")
	f.Add([]byte{}, "http://pki.test:8080/")
	f.Add(root.Intermediate(f, "One", catest.Key(immense{bits: maxFetchedRSABits + 1})).Certificate.Raw, "http://pki.test/One")
	f.Fuzz(func(t *testing.T, data []byte, raw string) {
		if cert, err := parseFetched(data); err == nil && !bytes.Contains(data, cert.Raw) && !bytes.Contains(data, []byte("-----BEGIN")) {
			t.Errorf("got a certificate that is not in %q", data)
		}
		got := issuerURL(&x509.Certificate{IssuingCertificateURL: []string{raw}})
		if got == "" {
			return
		}
		req, err := http.NewRequest(http.MethodGet, got, nil)
		if err != nil || got != raw || req.URL.Scheme != "http" || req.URL.User != nil {
			t.Errorf("got %q of %q, %v; want an http URL without user information", got, raw, err)
			return
		}
		if p := req.URL.Port(); p != "" && p != "80" {
			t.Errorf("got the port %q of %q; want 80", p, raw)
		}
	})
}
