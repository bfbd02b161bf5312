package ca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"whsentry/ca/catest"
)

// TestBuiltInDate keeps builtInDate in step with the version of the module that the bundle comes from.
func TestBuiltInDate(t *testing.T) {
	data, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`golang\.org/x/crypto/x509roots/fallback v\S*-(\d{14})-`).FindSubmatch(data)
	if m == nil {
		t.Fatal("go.mod does not require golang.org/x/crypto/x509roots/fallback by date")
	}
	want, err := time.Parse("20060102150405", string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	if !builtInDate.Equal(want) {
		t.Errorf("builtInDate: got %v; want %v, as in go.mod", builtInDate, want)
	}
}

func TestBuiltIn(t *testing.T) {
	s := newStore(t, testConfig(t))
	if s.Roots() < 100 || s.Roots() != len(s.Certificates()) {
		t.Errorf("got %d roots, %d certificates; want the same, over 100", s.Roots(), len(s.Certificates()))
	}
	if s.Origin() != "built-in" || !s.Timestamp().Equal(builtInDate) {
		t.Errorf("got %q of %v; want built-in of %v", s.Origin(), s.Timestamp(), builtInDate)
	}
	constrained := 0
	for _, r := range builtIn().roots {
		if r.constraint != nil {
			constrained++
		}
	}
	if constrained == 0 {
		t.Error("no built-in root has a constraint; the tests of constraints need one")
	}
}

func TestExtraRoots(t *testing.T) {
	ours := catest.Root(t, "Ours")
	known := builtIn().roots[0].cert
	cfg := testConfig(t)
	cfg.Bundle.ExtraFile = catest.File(t, "extra.pem", catest.PEM(ours.Certificate.Raw, known.Raw, ours.Certificate.Raw))
	s := newStore(t, cfg)
	if want := len(builtIn().roots) + 1; s.Roots() != want {
		t.Errorf("got %d roots; want %d, each once", s.Roots(), want)
	}
}

// TestConstraints shows that Mozilla's constraint of a root holds unless the operator trusts that root without.
func TestConstraints(t *testing.T) {
	ours := catest.Root(t, "Ours")
	refuse := func([]*x509.Certificate) error { return errors.New("no longer trusted for new certificates") }
	constrained := bundle{roots: []root{{ours.Certificate, refuse}}}
	port := serveCertificate(t, ours.Leaf(t, testHost))
	s := newStore(t, testConfig(t))
	s.trust.Store(newTrust(constrained, nil))
	_, err := dial(t, s, "", testHost, port)
	checkError(t, err, testHost, true, "no longer trusted for new certificates")
	s.trust.Store(newTrust(constrained, asRoots(ours)))
	_, err = dial(t, s, "", testHost, port)
	checkError(t, err, testHost, true, "")
}

// TestParseBundleConstraints shows that a downloaded bundle does not lose what PEM cannot say.
func TestParseBundleConstraints(t *testing.T) {
	b, err := parseBundle(builtInPEM(time.Now()))
	if err != nil {
		t.Fatalf("parseBundle: %v", err)
	}
	for i, want := range builtIn().roots {
		if got := b.roots[i]; (got.constraint == nil) != (want.constraint == nil) || !got.cert.Equal(want.cert) {
			t.Errorf("root %v: got a constraint: %v; want: %v", got.cert.Subject, got.constraint != nil, want.constraint != nil)
		}
	}
}

// builtInPEM is the built-in bundle as curl would publish it, with more roots behind it.
func builtInPEM(asOf time.Time, more ...*catest.Authority) []byte {
	data := dated(asOf)
	for _, r := range builtIn().roots {
		data = append(data, catest.PEM(r.cert.Raw)...)
	}
	for _, a := range more {
		data = append(data, a.PEM()...)
	}
	return data
}

// dated is the head of curl's bundles.
func dated(asOf time.Time) []byte {
	return fmt.Appendf(nil, "##\n## Bundle of CA Root Certificates\n##\n## Certificate data from Mozilla as of: %s\n##\n\n",
		asOf.UTC().Format("Mon Jan _2 15:04:05 2006 GMT"))
}

func TestParseAsOf(t *testing.T) {
	want := time.Date(2025, 9, 9, 3, 12, 1, 0, time.UTC)
	tests := []struct {
		name, data string
		want       time.Time
	}{
		{"curl", "##\n## Certificate data from Mozilla as of: Tue Sep  9 03:12:01 2025 GMT\n##\n", want},
		{"two digits", "## Certificate data from Mozilla as of: Tue Nov 11 04:12:01 2025 GMT\n", time.Date(2025, 11, 11, 4, 12, 1, 0, time.UTC)},
		{"CRLF", "##\r\n## Certificate data from Mozilla as of: Tue Sep  9 03:12:01 2025 GMT\r\n", want},
		{"no zone", "## Certificate data from Mozilla as of: Tue Sep  9 03:12:01 2025", want},
		{"other words", "## Certificate data from Mozilla last updated on: Tue Sep  9 03:12:01 2025 GMT\n", want},
		{"none", "## Bundle of CA Root Certificates\n", time.Time{}},
		{"nothing", "", time.Time{}},
		{"no date", "## Certificate data from Mozilla as of: yesterday\n", time.Time{}},
		{"no comment", "Certificate data from Mozilla as of: Tue Sep  9 03:12:01 2025 GMT\n", time.Time{}},
		{"below a certificate", "-----BEGIN CERTIFICATE-----\n## Certificate data from Mozilla as of: Tue Sep  9 03:12:01 2025 GMT\n", time.Time{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := parseAsOf([]byte(tt.data)); !got.Equal(tt.want) {
				t.Errorf("got %v; want %v", got, tt.want)
			}
		})
	}
}

func TestParseCertificates(t *testing.T) {
	a, b := catest.Root(t, "A").PEM(), catest.Root(t, "B").PEM()
	_, keyFile := catest.Files(t, catest.SelfSigned(t, "a.test"))
	key, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, []byte("\n")) }
	bad := catest.PEM([]byte("not a certificate"))
	tests := []struct {
		name string
		data []byte
		want int
		err  string
	}{
		{"one", a, 1, ""},
		{"two", join(a, b), 2, ""},
		{"comments", join([]byte("A\n=="), a, []byte("# B"), b, []byte("end")), 2, ""},
		{"CRLF", bytes.ReplaceAll(a, []byte("\n"), []byte("\r\n")), 1, ""},
		{"key beside it", join(key, a), 1, ""},
		{"nothing", nil, 0, "no PEM certificate"},
		{"only a key", key, 0, "no PEM certificate"},
		{"html", []byte("<html>404</html>"), 0, "no PEM certificate"},
		{"DER", mustDecode(t, a), 0, "no PEM certificate"},
		{"cut within a block", join(a, b[:len(b)/2]), 0, "2 PEM certificates begin, but only 1 can be read"},
		{"cut within the last line", join(a, b[:len(b)-10]), 0, "2 PEM certificates begin, but only 1 can be read"},
		{"cut within the first line", join(a, b[:7]), 0, "2 PEM certificates begin, but only 1 can be read"},
		{"cut after the first line", join(a, b[:len(pemBegin)]), 0, "2 PEM certificates begin, but only 1 can be read"},
		{"damaged", join(bytes.Replace(a, []byte("M"), []byte("*"), 1), b), 0, "2 PEM certificates begin, but only 1 can be read"},
		{"no certificate within", join(a, bad), 0, "certificate 2: malformed"},
		{"trailing bytes within", catest.PEM(append(mustDecode(t, a), 0)), 0, "certificate 1: trailing data"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			certs, err := parseCertificates(tt.data)
			if len(certs) != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %d, %v; want %d, %q", len(certs), err, tt.want, tt.err)
			}
		})
	}
}

func mustDecode(t *testing.T, pem []byte) []byte {
	t.Helper()
	certs, err := parseCertificates(pem)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(certs[0].Raw)
}

// TestKeptBundle shows which of the built-in and the kept bundle is used.
func TestKeptBundle(t *testing.T) {
	ours := catest.Root(t, "Ours")
	newer, older := builtInDate.Add(time.Hour), builtInDate.Add(-time.Hour)
	tests := []struct {
		name     string
		data     []byte
		modified time.Time // zero: now
		want     int       // roots; 0: the built-in ones
		warning  string
	}{
		{"newer", append(dated(newer), ours.PEM()...), time.Time{}, 1, ""},
		{"newer, old file", append(dated(newer), ours.PEM()...), older, 1, ""},
		{"older", append(dated(older), ours.PEM()...), time.Time{}, 0, ""},
		{"as old", append(dated(builtInDate), ours.PEM()...), time.Time{}, 0, ""},
		{"no date, new file", ours.PEM(), newer, 1, ""},
		{"no date, old file", ours.PEM(), older, 0, ""},
		{"cut", append(dated(newer), ours.PEM()[:100]...), time.Time{}, 0, "1 PEM certificates begin, but only 0 can be read"},
		{"empty", nil, time.Time{}, 0, "no PEM certificate"},
		{"too large", make([]byte, maxBundle+1), time.Time{}, 0, "it is larger than 4194304 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig(t)
			cfg.Bundle.File = catest.File(t, "cacert.pem", tt.data)
			if !tt.modified.IsZero() {
				if err := os.Chtimes(cfg.Bundle.File, tt.modified, tt.modified); err != nil {
					t.Fatal(err)
				}
			}
			var warning error
			s, err := New(cfg, Hooks{Warn: func(err error) { warning = err }})
			if err != nil {
				t.Fatalf("New: %v", err)
			}
			wantRoots, wantOrigin := tt.want, cfg.Bundle.File
			if tt.want == 0 {
				wantRoots, wantOrigin = len(builtIn().roots), builtInOrigin
			}
			if s.Roots() != wantRoots || s.Origin() != wantOrigin {
				t.Errorf("got %d roots from %q; want %d from %q", s.Roots(), s.Origin(), wantRoots, wantOrigin)
			}
			checkWarning(t, warning, tt.warning, "caBundle.file: ")
		})
	}
}

func checkWarning(t *testing.T, warning error, want, key string) {
	t.Helper()
	if want == "" {
		if warning != nil {
			t.Errorf("got the warning %v; want none", warning)
		}
		return
	}
	if warning == nil || !strings.Contains(warning.Error(), want) || !strings.HasPrefix(warning.Error(), key) {
		t.Errorf("got the warning %v; want %s…%s", warning, key, want)
	}
}

func TestNoKeptBundle(t *testing.T) {
	cfg := testConfig(t)
	cfg.Bundle.File = filepath.Join(t.TempDir(), "no", "such", "folder", "cacert.pem")
	if s := newStore(t, cfg); s.Origin() != builtInOrigin {
		t.Errorf("got %q; want built-in", s.Origin())
	}
}

func TestNewErrors(t *testing.T) {
	root := catest.Root(t, "Root")
	good := keyPairFiles(t, root.Leaf(t, "client"))
	otherKey := keyPairFiles(t, root.Leaf(t, "client")).KeyFile
	missing := filepath.Join(t.TempDir(), "missing.pem")
	text := catest.File(t, "text.pem", []byte("hello"))
	large := catest.File(t, "large.pem", make([]byte, maxKeyPairFile+1))
	encrypted := catest.File(t, "key.pem", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	client := func(certFile, keyFile string) func(*Config) {
		return func(c *Config) { c.ClientCert = KeyPairFiles{certFile, keyFile} }
	}
	tests := []struct {
		name   string
		change func(*Config)
		want   []string // in the error, the first at its start
	}{
		{"invalid", func(c *Config) { c.Bundle.RefreshInterval = 0 }, []string{"caBundle.refreshInterval: "}},
		{"no certificate file", client(missing, good.KeyFile), []string{"clientCertFile: ", missing, "no such file"}},
		{"no key file", client(good.CertFile, missing), []string{"clientKeyFile: ", missing, "no such file"}},
		{"certificate file is a folder", client(filepath.Dir(missing), good.KeyFile), []string{"clientCertFile: ", "is a directory"}},
		{"certificate file is text", client(text, good.KeyFile), []string{"clientCertFile: ", text, "no PEM certificate"}},
		{"certificate file is large", client(large, good.KeyFile), []string{"clientCertFile: ", large, "larger than 1048576 bytes"}},
		{"key as certificate", client(good.KeyFile, good.KeyFile), []string{"clientCertFile: ", "no PEM certificate"}},
		{"certificate as key", client(good.CertFile, good.CertFile), []string{"clientKeyFile: ", good.CertFile, "want the PEM private key"}},
		{"key is text", client(good.CertFile, text), []string{"clientKeyFile: ", text, "want the PEM private key"}},
		{"another's key", client(good.CertFile, otherKey), []string{"clientKeyFile: ", otherKey, "does not match"}},
		{"encrypted key", client(good.CertFile, encrypted), []string{"clientKeyFile: ", encrypted, "without a passphrase"}},
		{"alias", func(c *Config) { c.ClientCerts = map[string]KeyPairFiles{"acme": {missing, good.KeyFile}} }, []string{"clientCerts.acme.certFile: ", missing}},
		{"issuer", func(c *Config) { c.MITMIssuer = KeyPairFiles{good.CertFile, otherKey} }, []string{"mitmIssuerKeyFile: ", "does not match"}},
		{"issuer is no CA", func(c *Config) { c.MITMIssuer = good }, []string{"mitmIssuerCertFile: ", good.CertFile, "may not sign others"}},
		{"no extra file", func(c *Config) { c.Bundle.ExtraFile = missing }, []string{"caBundle.extraFile: ", missing, "no such file"}},
		{"extra file is text", func(c *Config) { c.Bundle.ExtraFile = text }, []string{"caBundle.extraFile: ", text, "no PEM certificate"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig(t)
			tt.change(&cfg)
			_, err := New(cfg, Hooks{})
			if err == nil || !strings.HasPrefix(err.Error(), tt.want[0]) {
				t.Fatalf("got %v; want %q", err, tt.want)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %v; want %q in it", err, part)
				}
			}
		})
	}
}

func TestNewWarnings(t *testing.T) {
	root := catest.Root(t, "Root")
	tests := []struct {
		name      string
		change    func(*Config)
		key, want string
	}{
		{"expired", func(c *Config) { c.ClientCert = keyPairFiles(t, root.Leaf(t, "a", catest.Expired())) },
			"clientCertFile: ", `certificate "a" expired on 2020-03-01 12:00 UTC`},
		{"not yet valid", func(c *Config) {
			c.ClientCerts = map[string]KeyPairFiles{"acme": keyPairFiles(t, root.Leaf(t, "a", catest.NotYetValid()))}
		}, "clientCerts.acme.certFile: ", "not valid before 2090-03-01"},
		{"expired issuer", func(c *Config) {
			certFile, keyFile := catest.Root(t, "Issuer", catest.Expired()).Files(t)
			c.MITMIssuer = KeyPairFiles{certFile, keyFile}
		}, "mitmIssuerCertFile: ", `certificate "Issuer" expired`},
		{"valid", func(c *Config) { c.ClientCert = keyPairFiles(t, root.Leaf(t, "a")) }, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig(t)
			tt.change(&cfg)
			var warning error
			if _, err := New(cfg, Hooks{Warn: func(err error) { warning = err }}); err != nil {
				t.Fatalf("New: %v", err)
			}
			checkWarning(t, warning, tt.want, tt.key)
			if _, err := New(cfg, Hooks{}); err != nil {
				t.Fatalf("New without hooks: %v", err)
			}
		})
	}
}

func FuzzParseBundle(f *testing.F) {
	root := catest.Root(f, "Root")
	f.Add(append(dated(time.Now()), root.PEM()...))
	f.Add(root.PEM()[:200])
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nproc-type: 4,ENCRYPTED\n\n-----END CERTIFICATE-----"))
	f.Add([]byte("-----BEGIN -----BEGIN CERTIFICATE-----"))
	f.Add([]byte("## Certificate data from Mozilla as of: Tue Sep  9 03:12:01 2025 GMT"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := parseBundle(data)
		if (err == nil) != (len(b.roots) > 0) {
			t.Fatalf("got %d roots, %v; want one or the other", len(b.roots), err)
		}
		if err != nil {
			return
		}
		if begun := bytes.Count(data, []byte("BEGIN CERTIFICATE")); len(b.roots) > begun {
			t.Errorf("got %d roots from %d blocks", len(b.roots), begun)
		}
		newTrust(b, nil)
	})
}
