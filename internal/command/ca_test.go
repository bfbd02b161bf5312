package command

import (
	"crypto"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"whsentry/ca"
	"whsentry/ca/catest"
)

// builtInStore is what every trust store begins with.
func builtInStore(t *testing.T) *ca.Store {
	t.Helper()
	cfg := ca.DefaultConfig()
	cfg.Bundle.File, cfg.Bundle.URL = "", ""
	store, err := ca.New(cfg, ca.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// bundle returns the built-in roots, and more, as a bundle of that date.
func bundle(t *testing.T, asOf time.Time, more ...*catest.Authority) []byte {
	t.Helper()
	text := "##\n## Certificate data from Mozilla as of: " + asOf.UTC().Format("Mon Jan _2 15:04:05 2006 GMT") + "\n##\n"
	for _, root := range builtInStore(t).Certificates() {
		text += string(catest.PEM(root.Raw))
	}
	for _, root := range more {
		text += string(root.PEM())
	}
	return []byte(text)
}

// serveBundle answers every request with handle, until the test ends.
func serveBundle(t *testing.T, handle http.HandlerFunc) (url string) {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return server.URL + "/cacert.pem"
}

func TestCAList(t *testing.T) {
	root := catest.Root(t, "Evil\nRoot\x1b[31m \u202e\u0085", catest.Valid(time.Now(), time.Date(2091, 5, 6, 7, 8, 9, 0, time.UTC)))
	extra := catest.File(t, "extra.pem", root.PEM())
	store := builtInStore(t)
	wide := catest.Root(t, "RSA Root", catest.RSA(t, 2048))
	newer := catest.File(t, "cacert.pem", bundle(t, time.Date(2090, 1, 2, 3, 4, 5, 0, time.UTC), wide))
	for _, tt := range []struct {
		name    string
		args    []string
		roots   int
		want    []string // lines, or parts of them
		warning string
	}{
		{"built-in", nil, store.Roots(),
			[]string{fmt.Sprintf("\n%d roots, as of %s (", store.Roots(), showTime(store.Timestamp())), " old), built-in\n"}, ""},
		{"extra root", []string{"--ca-bundle-extra-file", extra}, store.Roots() + 1,
			[]string{"\n2091-05-06  ECDSA P-256  " + fingerprint(root.Certificate) + `  CN=Evil\nRoot\x1b[31m \u202e\u0085,O=catest` + "\n",
				" old), built-in; with the roots of caBundle.extraFile \"" + extra + "\"\n"}, ""},
		{"kept bundle", []string{"--ca-bundle-file", newer}, store.Roots() + 1,
			[]string{"  RSA 2048     " + fingerprint(wide.Certificate) + "  CN=RSA Root,O=catest\n", "as of 2090-01-02 03:04:05 UTC (0 days old), " + newer + "\n"}, ""},
		{"damaged kept bundle", []string{"--ca-bundle-file", catest.File(t, "cacert.pem", []byte("nothing"))}, store.Roots(),
			[]string{"built-in\n"}, "whsentry: warning: caBundle.file: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// No URL of the settings is asked: there is nobody at this one.
			r := runApp(t, nil, append([]string{"ca", "list", "--ca-bundle-url", "http://127.0.0.1:1/", "--ca-bundle-file", ""}, tt.args...)...)
			if r.code != exitOK || !strings.HasPrefix(r.stderr, tt.warning) || (tt.warning == "") != (r.stderr == "") {
				t.Errorf("got exit code %d and %q; want 0 and %q", r.code, r.stderr, tt.warning)
			}
			if lines := strings.Count(r.stdout, "\n"); lines != tt.roots+1 {
				t.Errorf("got %d lines; want one for each of %d roots and one more", lines, tt.roots)
			}
			for _, part := range tt.want {
				if !strings.Contains(r.stdout, part) {
					t.Errorf("got\n%s\nwant %q in it", r.stdout, part)
				}
			}
		})
	}
}

func TestCAUpdate(t *testing.T) {
	store := builtInStore(t)
	now := fmt.Sprintf("%d roots, as of %s (", store.Roots(), showTime(store.Timestamp()))
	more := catest.Root(t, "New Root")
	newer := bundle(t, time.Date(2090, 1, 2, 3, 4, 5, 0, time.UTC), more)
	answer := func(body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.Write(body) }
	}
	for _, tt := range []struct {
		name   string
		handle http.HandlerFunc
		file   string // in a folder of its own
		code   int
		stdout string // how it begins
		stderr string // a part of it
	}{
		{"newer", answer(newer), "new/cacert.pem", exitOK,
			fmt.Sprintf("updated: %d roots, as of 2090-01-02 03:04:05 UTC (0 days old), FILE\nbefore: %s", store.Roots()+1, now), ""},
		{"older", answer(bundle(t, time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), more)), "cacert.pem", exitOK, "unchanged: " + now, ""},
		{"error", http.NotFound, "cacert.pem", exitFailed, "", "error: update the trust store from URL: the server answered 404 Not Found; want 200\n"},
		{"cut short", answer(newer[:len(newer)-100]), "cacert.pem", exitFailed, "", "damaged or cut short"},
		{"hostile", answer([]byte("\x1b[31m\n")), "cacert.pem", exitFailed, "", "no PEM certificate in it; want at least one"},
		{"too few", answer([]byte("# Certificate data from Mozilla as of: Mon Jan  2 03:04:05 2090 GMT\n" + string(more.PEM()))), "cacert.pem", exitFailed, "", "a quarter is the most accepted"},
		{"not to be kept", answer(newer), "link/cacert.pem", exitFailed, "", "error: update the trust store from URL: keep the bundle in caBundle.file: "},
		{"nowhere to keep it", answer(newer), "", exitFailed, "", `--ca-bundle-file: caBundle.file: "": there is a newer bundle (`},
		{"nowhere to keep nothing", answer(bundle(t, store.Timestamp())), "", exitOK, "unchanged: " + now, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			folder := t.TempDir()
			if err := os.Symlink("none", filepath.Join(folder, "link")); err != nil { // which root cannot write to either
				t.Fatal(err)
			}
			file := tt.file
			if file != "" {
				file = filepath.Join(folder, file)
			}
			url := serveBundle(t, tt.handle)
			r := runApp(t, nil, "ca", "update", "--ca-bundle-url", url, "--ca-bundle-file", file)
			want := strings.ReplaceAll(tt.stdout, "FILE", file)
			if r.code != tt.code || !strings.HasPrefix(r.stdout, want) || (want == "") != (r.stdout == "") {
				t.Errorf("got exit code %d and %q; want %d and %q", r.code, r.stdout, tt.code, want)
			}
			problem := strings.ReplaceAll(tt.stderr, "URL", url)
			if !strings.Contains(r.stderr, problem) || (problem == "") != (r.stderr == "") || problem != "" && strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("got %q; want one line with %q", r.stderr, problem)
			}
		})
	}
}

// TestCAUpdateIsKept checks that what one run keeps, others use, and that it is fetched only once.
func TestCAUpdateIsKept(t *testing.T) {
	newer := bundle(t, time.Date(2090, 1, 2, 3, 4, 5, 0, time.UTC))
	var statuses []string
	url := serveBundle(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			statuses = append(statuses, "304")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		statuses = append(statuses, "200")
		w.Write(newer)
	})
	file := filepath.Join(t.TempDir(), "cacert.pem")
	for _, want := range []string{"updated: ", "unchanged: "} {
		r := runApp(t, nil, "--ca-bundle-url", url, "ca", "--ca-bundle-file", file, "update")
		if r.code != exitOK || !strings.HasPrefix(r.stdout, want) || !strings.Contains(r.stdout, "as of 2090-01-02 03:04:05 UTC (0 days old), "+file+"\n") {
			t.Errorf("got %+v; want %s", r, want)
		}
	}
	if got := strings.Join(statuses, " "); got != "200 304" {
		t.Errorf("got answers %s; want 200 304", got)
	}
	if kept, err := os.ReadFile(file); err != nil || string(kept) != string(newer) {
		t.Errorf("got %d bytes (%v) in the file; want the bundle", len(kept), err)
	}
	if r := runApp(t, nil, "ca", "list", "--ca-bundle-file", file); !strings.HasSuffix(r.stdout, "(0 days old), "+file+"\n") {
		t.Errorf("got %s; want the kept bundle listed", r.stdout)
	}
}

// serve answers the connections to a new listener with handle until the test ends, and returns host:port. handle's
// connection lives for 10 seconds at most, and is closed behind it.
func serve(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { // ends with the listener; the cleanup waits for it
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			handle(conn)
			conn.Close()
		}
	})
	t.Cleanup(func() {
		listener.Close()
		running.Wait()
	})
	return listener.Addr().String()
}

// serveTLS is a destination that presents chain.
func serveTLS(t *testing.T, chain tls.Certificate, changes ...func(*tls.Config)) string {
	t.Helper()
	cfg := &tls.Config{Certificates: []tls.Certificate{chain}}
	for _, change := range changes {
		change(cfg)
	}
	return serve(t, func(conn net.Conn) { io.Copy(io.Discard, tls.Server(conn, cfg)) })
}

func askForClientCert(cfg *tls.Config) { cfg.ClientAuth = tls.RequestClientCert }

func demandClientCert(cfg *tls.Config) { cfg.ClientAuth = tls.RequireAnyClientCert }

func onlyTLS12(cfg *tls.Config) { cfg.MaxVersion = tls.VersionTLS12 }

// nobody returns an address that refuses connections while the test runs: the near end of one that is open.
func nobody(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}
	conn, err := dialer.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().String()
}

// runCACheck runs ca check against a destination on loopback, which the guard lets through, with roots to trust.
func runCACheck(t *testing.T, roots *catest.Authority, args ...string) result {
	t.Helper()
	args = append([]string{"ca", "check", "--cidr-allow-list", "127.0.0.1/32", "--ca-bundle-url", "", "--ca-bundle-file", ""}, args...)
	if roots != nil {
		args = append(args, "--ca-bundle-extra-file", catest.File(t, "extra.pem", roots.PEM()))
	}
	return runApp(t, nil, args...)
}

// TestCACheckPrints holds everything that is printed of a chain to its form.
func TestCACheckPrints(t *testing.T) {
	from, to := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), time.Date(2090, 1, 2, 3, 4, 5, 0, time.UTC)
	root := catest.Root(t, "Test Root", catest.RSA(t, 2048))
	middle := root.Intermediate(t, "Test, \"Middle\"", catest.Valid(from, to))
	leaf := middle.Leaf(t, "127.0.0.1", catest.Valid(from, to.AddDate(-1, 0, 0)),
		catest.Names("127.0.0.1", "*.example.com", "two, names", "new\nline\x1b[31m", "hooks.example.com"),
		func(c *catest.Template) { c.Subject.CommonName = "127.0.0.1\n trusted: \u202e" })
	addr := serveTLS(t, leaf)
	r := runCACheck(t, root, addr)
	store := builtInStore(t)
	want := addr + " at " + addr + ` presents 2 certificates
  1. subject      CN=127.0.0.1\n trusted: \u202e,O=catest
     issuer       CN=Test\, \"Middle\",O=catest
     names        *.example.com, "two, names", "new\nline\x1b[31m", hooks.example.com, 127.0.0.1
     validity     2026-01-02 03:04:05 UTC to 2089-01-02 03:04:05 UTC
     key          ECDSA P-256
     signature    ECDSA-SHA256
     fingerprint  ` + fingerprint(leaf.Leaf) + `
  2. subject      CN=Test\, \"Middle\",O=catest
     issuer       CN=Test Root,O=catest
     names        none
     validity     2026-01-02 03:04:05 UTC to 2090-01-02 03:04:05 UTC
     key          ECDSA P-256
     signature    SHA256-RSA
     fingerprint  ` + fingerprint(middle.Certificate) + `
trust store: ` + strings.Replace(describeStore(store), fmt.Sprint(store.Roots()), fmt.Sprint(store.Roots()+1), 1) + `
trusted: valid for 127.0.0.1, issued under the root CN=Test Root,O=catest
`
	if r.code != exitOK || r.stderr != "" || r.stdout != want {
		t.Errorf("got exit code %d, %q and\n%s\nwant 0, nothing and\n%s", r.code, r.stderr, r.stdout, want)
	}
}

// TestCACheckVerdict checks the last line and the exit code.
func TestCACheckVerdict(t *testing.T) {
	root := catest.Root(t, "Test Root")
	weakRoot := catest.Root(t, "RSA Root", catest.RSA(t, 2048))
	good := root.Leaf(t, "127.0.0.1")
	incomplete := root.Intermediate(t, "Test Middle").Leaf(t, "127.0.0.1")
	incomplete.Certificate = incomplete.Certificate[:1]
	long := root.Leaf(t, "127.0.0.1")
	for range 20 {
		long.Certificate = append(long.Certificate, root.Certificate.Raw)
	}
	certFile, keyFile := catest.Files(t, root.Leaf(t, "client"))
	withClientCert := []string{"--client-cert-file", certFile, "--client-key-file", keyFile}
	const trusted = "trusted: valid for 127.0.0.1, issued under the root CN=Test Root,O=catest"
	for _, tt := range []struct {
		name    string
		roots   *catest.Authority
		addr    string
		args    []string
		code    int
		verdict string   // how the last line begins
		want    []string // more that is printed
	}{
		{"trusted", root, serveTLS(t, good), nil, exitOK, trusted, nil},
		{"TLS 1.2", root, serveTLS(t, good, onlyTLS12), nil, exitOK, trusted, nil},
		{"unknown root", nil, serveTLS(t, good), nil, exitFailed, `not trusted: certificate is signed by an unknown authority, "Test Root"`, []string{"presents 1 certificate\n"}},
		{"incomplete", root, serveTLS(t, incomplete), nil, exitFailed, `not trusted: certificate is signed by an unknown authority, "Test Middle"`, nil},
		{"self-signed", root, serveTLS(t, catest.SelfSigned(t, "127.0.0.1")), nil, exitFailed, "not trusted: certificate is self-signed (reason 1007, status 502)", nil},
		{"expired", root, serveTLS(t, root.Leaf(t, "127.0.0.1", catest.Expired())), nil, exitFailed,
			"not trusted: certificate expired on 2020-03-01 12:00 UTC (reason 1007, status 502)", []string{"to 2020-03-01 12:00:00 UTC\n"}},
		{"other name", root, serveTLS(t, root.Leaf(t, "hooks.example.com")), nil, exitFailed,
			"not trusted: certificate is for hooks.example.com, not for 127.0.0.1 (reason 1007", []string{"names        hooks.example.com\n"}},
		{"hostile name", root, serveTLS(t, root.Leaf(t, "a\ntrusted: \x1b[31m")), nil, exitFailed,
			`not trusted: certificate is for "a\ntrusted: \x1b[31m", not for 127.0.0.1`, nil},
		{"weak key", root, serveTLS(t, root.Leaf(t, "127.0.0.1", catest.RSA(t, 1024))), nil, exitFailed,
			"not trusted: certificate has an RSA key of 1024 bits; want at least 2048", []string{"presents 1 certificate\n", "key          RSA 1024\n"}},
		{"weak signature", weakRoot, serveTLS(t, weakRoot.Leaf(t, "127.0.0.1", catest.Digest(crypto.SHA1))), nil, exitFailed,
			"not trusted: certificate is signed with SHA-1, which is broken", []string{"signature    SHA1-RSA\n"}},
		{"long chain", root, serveTLS(t, long), nil, exitOK, trusted, []string{"presents 21 certificates\n", "  10. subject", "\n  and 11 more\n"}},
		{"anything goes", nil, serveTLS(t, good), []string{"--insecure-skip-cert-verification"}, exitOK,
			"trusted: only because insecureSkipCertVerification is set; else not: certificate is signed by an unknown authority", nil},
		{"anything goes, and is right", root, serveTLS(t, good), []string{"--insecure-skip-cert-verification"}, exitOK, trusted, nil},
		{"asks for a client certificate", root, serveTLS(t, good, askForClientCert), nil, exitOK, trusted,
			[]string{"client certificate: the server asks for one; none is configured (clientCertFile)\n"}},
		{"gets a client certificate", root, serveTLS(t, good, demandClientCert), withClientCert, exitOK, trusted,
			[]string{"client certificate: the server asks for one; that of clientCertFile is presented\n"}},
		{"gets a client certificate by TLS 1.2", root, serveTLS(t, good, demandClientCert, onlyTLS12), withClientCert, exitOK, trusted, nil},
		{"demands a client certificate by TLS 1.2", root, serveTLS(t, good, demandClientCert, onlyTLS12), nil, exitFailed,
			"failed: TLS handshake with 127.0.0.1 failed: the server demands a client certificate and none is configured; its own certificate is trusted (reason 1005",
			[]string{"presents 1 certificate\n", "none is configured (clientCertFile)\n"}},
		{"plain HTTP", root, serve(t, func(conn net.Conn) {
			conn.Read(make([]byte, 1))
			io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			io.Copy(io.Discard, conn)
		}), nil, exitFailed, "failed: TLS handshake with 127.0.0.1 failed: the server answered with plain HTTP instead of TLS (reason 1005", []string{"presents 0 certificates\n"}},
		{"silent", root, serve(t, func(conn net.Conn) { io.Copy(io.Discard, conn) }), []string{"--connect-timeout", "2s"}, exitFailed,
			"failed: timed out in the TLS handshake with 127.0.0.1 after 2s (reason 1004, status 502)", nil},
		{"nobody there", root, nobody(t), nil, exitFailed, "unreachable: connect to 127.0.0.1:", []string{"connection refused (reason 1006, status 502)\n"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := runCACheck(t, tt.roots, append([]string{tt.addr}, tt.args...)...)
			lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
			last := lines[len(lines)-1]
			if r.code != tt.code || r.stderr != "" || !strings.HasPrefix(last, tt.verdict) {
				t.Errorf("got exit code %d, %q and\n%s\nwant %d, nothing and %s", r.code, r.stderr, r.stdout, tt.code, tt.verdict)
			}
			for _, part := range tt.want {
				if !strings.Contains(r.stdout, part) {
					t.Errorf("got\n%s\nwant %q in it", r.stdout, part)
				}
			}
		})
	}
}

// TestCACheckPaths checks that each root to which a chain leads is named, once.
func TestCACheckPaths(t *testing.T) {
	oldRoot, newRoot := catest.Root(t, "Old Root"), catest.Root(t, "New Root")
	leaf := newRoot.Leaf(t, "127.0.0.1")
	leaf.Certificate = append(leaf.Certificate, oldRoot.CrossSign(t, newRoot).Raw)
	both := &catest.Authority{Certificate: newRoot.Certificate}
	r := runApp(t, nil, "ca", "check", serveTLS(t, leaf), "--cidr-allow-list", "127.0.0.1", "--ca-bundle-extra-file",
		catest.File(t, "extra.pem", append(both.PEM(), oldRoot.PEM()...)))
	if r.code != exitOK || !strings.Contains(r.stdout, "issued under the root CN=New Root,O=catest") || strings.Count(r.stdout, "CN=New Root,O=catest or ")+
		strings.Count(r.stdout, " or CN=New Root,O=catest") != 1 {
		t.Errorf("got %+v; want both roots", r)
	}
}

// TestCACheckRefusals checks what the proxy would not connect to either, and the forms in which it can be named.
func TestCACheckRefusals(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"address", []string{"127.0.0.1"}, exitRefused, "refused: IP 127.0.0.1 is blocked (reason 1000, status 403)\n"},
		{"address with a port", []string{"10.1.2.3:8443"}, exitRefused, "refused: IP 10.1.2.3 is blocked"},
		{"URL", []string{"HTTPS://169.254.169.254:8443/a?u=http://b"}, exitRefused, "refused: IP 169.254.169.254 is blocked"},
		{"metadata within an allowed network", []string{"169.254.169.254", "--cidr-allow-list", "169.254.0.0/16"}, exitRefused, "refused: IP 169.254.169.254 is blocked"},
		{"host with a path", []string{"127.0.0.1/?u=http://b"}, exitRefused, "refused: IP 127.0.0.1 is blocked"},
		{"IPv6", []string{"::1"}, exitRefused, "refused: IP ::1 is blocked"},
		{"IPv6 in brackets", []string{"[::1]"}, exitRefused, "refused: IP ::1 is blocked"},
		{"IPv6 with a port", []string{"https://[::ffff:127.0.0.1]:8443"}, exitRefused, "refused: IP ::ffff:127.0.0.1 is blocked"},
		{"port", []string{"127.0.0.1:25", "--cidr-allow-list", "127.0.0.1"}, exitRefused, "refused: port 25 is blocked by portDenyList (reason 1013, status 403)\n"},
		{"number for a host", []string{"2130706433"}, exitRefused, "(reason 1002, status 400)\n"},
		{"user information", []string{"https://a@127.0.0.1/"}, exitRefused, "(reason 1002, status 400)\n"},
		{"malformed port", []string{"127.0.0.1:70000"}, exitRefused, "(reason 1002, status 400)\n"},
		{"one slash", []string{"https:/127.0.0.1"}, exitRefused, "(reason 1002, status 400)\n"},
		{"zone", []string{"fe80::1%lo"}, exitRefused, "(reason 1002, status 400)\n"},
		{"nothing", []string{""}, exitRefused, "(reason 1002, status 400)\n"},
		{"control characters", []string{"127.0.0.1\x1b[31m\n"}, exitRefused, "(reason 1002, status 400)\n"},
		{"scheme", []string{"ftp://127.0.0.1/"}, exitRefused, "refused: scheme \"ftp\" is neither http nor https (reason 1003, status 400)\n"},
		{"no such name", []string{"https://whsentry.invalid/", "--dns-servers", "127.0.0.1:9"}, exitFailed, "unresolved: \"whsentry.invalid\" does not resolve: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := runApp(t, nil, append([]string{"ca", "check"}, tt.args...)...)
			if r.code != tt.code || r.stderr != "" || !strings.Contains(r.stdout, tt.want) || strings.Count(r.stdout, "\n") != 1 {
				t.Errorf("got exit code %d, %q and %q; want %d and one line with %q", r.code, r.stderr, r.stdout, tt.code, tt.want)
			}
		})
	}
}

func TestShown(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "none"},
		{"plain", `O=A\, "B" & Föö 日本`, `O=A\, "B" & Föö 日本`},
		{"control characters", "a\r\n\x00\x7f\u0085", `a\r\n\x00\x7f\u0085`},
		{"other direction", "a\u202eb\u2066", `a\u202eb\u2066`},
		{"other spaces", "a\u00a0b\u2028", `a\u00a0b\u2028`},
		{"not UTF-8", "a\xffb", `a\xffb`},
		{"replacement character", "\ufffd", "\ufffd"},
		{"long", strings.Repeat("é", 1000), strings.Repeat("é", 150) + "..."},
		{"cut within a character", "x" + strings.Repeat("é", 1000), "x" + strings.Repeat("é", 149) + "..."},
	} {
		if got := shown(tt.text); got != tt.want {
			t.Errorf("%s: got %s; want %s", tt.name, got, tt.want)
		}
	}
}
