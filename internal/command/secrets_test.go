package command

import (
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"whsentry/ca/catest"

	"whsentry/internal/settings"
)

// TestKeysStayOutOfErrors gives a private key, or its certificate, in every place where the name of its file should
// stand, and wrong files in theirs. What is wrong is said in one line, without any of the key.
func TestKeysStayOutOfErrors(t *testing.T) {
	leaf := catest.Root(t, "Root").Leaf(t, "a.example")
	certFile, keyFile := catest.Files(t, leaf)
	_, otherKey := catest.Files(t, catest.Root(t, "Root").Leaf(t, "b.example"))
	key := read(t, keyFile)
	cert := read(t, certFile)
	large := read(t, secondOf(catest.Files(t, catest.Root(t, "Root", catest.RSA(t, 2048)).Leaf(t, "c.example", catest.RSA(t, 2048)))))
	block := func(name, text string) string {
		return name + ": |\n  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") + "\n"
	}
	lines := strings.Split(strings.TrimSpace(large), "\n")
	for _, tt := range []struct {
		name string
		yaml string
		env  map[string]string
		args []string
		want string
	}{
		{"flag", "", nil, []string{"--client-cert-file", certFile, "--client-key-file=" + key}, `--client-key-file: clientKeyFile: "(a private key)": PEM itself; want the name of a`},
		{"flag of a larger key", "", nil, []string{"--client-cert-file", certFile, "--client-key-file=" + large}, `--client-key-file: clientKeyFile: "(a private key)": PEM itself`},
		{"both in one", "", nil, []string{"--client-cert-file=" + cert + key}, `--client-cert-file: clientCertFile: "(a private key)": PEM itself`},
		{"variable", "", map[string]string{"WHSENTRY_MITM_ISSUER_KEY_FILE": key}, nil, `WHSENTRY_MITM_ISSUER_KEY_FILE: mitmIssuerKeyFile: "(a private key)": PEM itself`},
		{"listener", "", map[string]string{"WHSENTRY_LISTENER_KEY_FILE": key}, nil, `listener.keyFile: "(a private key)": PEM itself`},
		{"log file", "", map[string]string{"WHSENTRY_ACCESS_LOG_FILE": key}, nil, `accessLog.file: "(a private key)": PEM itself`},
		{"duration", "", nil, []string{"--connect-timeout=" + large}, `connectTimeout: "(a private key)": not a duration`},
		{"list", "", nil, []string{"--cidr-deny-list=" + large}, `cidrDenyList: "(a private key)": neither`},
		{"flag apart from its value", "", nil, []string{"--client-key-file", key}, `--client-key-file: clientKeyFile: "(a private key)": PEM itself; want the name of a`},
		{"argument", "", nil, []string{large}, `"(a private key)": unknown flag`},
		{"stray argument", "", nil, []string{"a " + large}, `stray argument "(a private key)"`},
		{"flag of its own", "", nil, []string{"--" + large}, `unknown flag`},
		{"block in the file", block("clientKeyFile", large), nil, nil, `config.yaml:1: clientKeyFile: "(a private key)": PEM itself`},
		{"quoted in the file", "clientKeyFile: \"" + strings.ReplaceAll(large, "\n", `\n`) + "\"\n", nil, nil, `clientKeyFile: "(a private key)": PEM itself`},
		{"not indented", "clientKeyFile: " + large, nil, nil, "config.yaml:"},
		{"not indented, block", "clientKeyFile: |\n" + large, nil, nil, "config.yaml:"},
		{"list in the file", "clientKeyFile:\n  - \"" + lines[1] + "\"\n", nil, nil, `clientKeyFile: "(a private key)": a list`},
		{"unknown key", block("clientKey", large), nil, nil, `clientKey: "(a private key)": unknown key`},
		{"a key's line for a key", lines[1] + ": x\n", nil, nil, `"(a private key)"`},
		{"repeated key", "clientKeyFile: a\n" + block("clientKeyFile", large), nil, nil, `clientKeyFile: "(a private key)": repeated key`},
		{"alias", "clientCerts:\n  acme:\n    certFile: x\n    keyFile: \"" + strings.ReplaceAll(large, "\n", `\n`) + "\"\n", nil, nil, `clientCerts.acme.keyFile: "(a private key)": PEM itself`},
		{"number", "maxConnections: \"" + lines[2] + "\"\n", nil, nil, `maxConnections: "(a private key)"`},
		{"key for the configuration", "", nil, []string{"--config", keyFile}, keyFile + ":1: "},
		{"larger key for the configuration", "", nil, []string{"--config", writeFile(t, large)}, ": "},
		{"key and certificate exchanged", "", nil, []string{"--client-cert-file", keyFile, "--client-key-file", certFile}, "no PEM certificate in it"},
		{"certificate for a key", "", nil, []string{"--client-cert-file", certFile, "--client-key-file", certFile}, "clientKeyFile: "},
		{"another's key", "", nil, []string{"--client-cert-file", certFile, "--client-key-file", otherKey}, "clientKeyFile: "},
		{"cut key", "", nil, []string{"--client-cert-file", certFile, "--client-key-file", writeFile(t, key[:len(key)/2])}, "clientKeyFile: "},
		{"damaged key", "", nil, []string{"--client-cert-file", certFile, "--client-key-file", writeFile(t, strings.Replace(large, lines[3], "A"+lines[3][1:], 1))}, "clientKeyFile: "},
		{"encrypted key", "", nil, []string{"--client-cert-file", certFile, "--client-key-file", writeFile(t, strings.ReplaceAll(large, "PRIVATE", "ENCRYPTED PRIVATE"))}, "is encrypted"},
		{"key for roots", "", nil, []string{"--ca-bundle-extra-file", keyFile}, "no PEM certificate in it"},
		{"key for an issuer", "", nil, []string{"--mitm-issuer-cert-file", keyFile, "--mitm-issuer-key-file", keyFile}, "no PEM certificate in it"},
		{"key for a listener", "", nil, []string{"--listener-type", "https", "--listener-cert-file", keyFile, "--listener-key-file", keyFile}, "no PEM certificate in it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := tt.args
			if tt.yaml != "" {
				file := filepath.Join(t.TempDir(), "config.yaml")
				if err := os.WriteFile(file, []byte(tt.yaml), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append(args, "--config", file)
			}
			r := runApp(t, tt.env, append([]string{"check", "--ca-bundle-file", ""}, args...)...)
			if r.code != exitFailed || !strings.Contains(r.stderr, tt.want) || strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("got exit code %d and %q; want 1 and one line with %s", r.code, r.stderr, tt.want)
			}
			for _, secret := range []string{key, large} {
				for _, line := range strings.Split(secret, "\n") {
					if len(line) >= 40 && !strings.Contains(line, "-----") && strings.Contains(r.stdout+r.stderr, line[8:32]) {
						t.Fatalf("got a line of the key in %q", r.stdout+r.stderr)
					}
				}
			}
		})
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(b); block == nil {
		t.Fatalf("no PEM in %s", file)
	}
	return string(b)
}

func secondOf(_, second string) string { return second }

// TestPasswordsStayOutOfOutput gives a URL with a password to everything that takes a URL.
func TestPasswordsStayOutOfOutput(t *testing.T) {
	const password = "hunter2"
	newer := bundle(t, time.Date(2090, 1, 2, 3, 4, 5, 0, time.UTC))
	var authorized string
	url := serveBundle(t, func(w http.ResponseWriter, r *http.Request) {
		authorized = r.Header.Get("Authorization")
		w.Header().Set("ETag", `"1"`)
		w.Write(newer)
	})
	withPassword := strings.Replace(url, "http://", "http://me:"+password+"@", 1)
	nowhere := "http://me:" + password + "@127.0.0.1:1/cacert.pem"
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"explain", []string{"explain", "http://me:" + password + "@1.1.1.1/"}, exitRefused, "user information"},
		{"explain another scheme", []string{"explain", "ftp://me:" + password + "@1.1.1.1/"}, exitRefused, "reason 100"},
		{"explain, without slashes", []string{"explain", "me:" + password + "@1.1.1.1"}, exitRefused, "reason 100"},
		{"explain two", []string{"explain", "http://1.1.1.1/", "http://me:" + password + "@1.1.1.1/"}, exitFailed, `stray argument "http://...@1.1.1.1/"`},
		{"ca check", []string{"ca", "check", "https://me:" + password + "@1.1.1.1/"}, exitRefused, "user information"},
		{"ca check over http", []string{"ca", "check", "http://me:" + password + "@1.1.1.1/"}, exitFailed, `"http://...@1.1.1.1/": http is without TLS`},
		{"ca check without a scheme", []string{"ca", "check", "me:" + password + "@1.1.1.1"}, exitRefused, "user information"},
		{"no command", []string{"http://me:" + password + "@1.1.1.1/"}, exitFailed, "is not a command"},
		{"bundle of another scheme", []string{"check", "--ca-bundle-url", "ftp://me:" + password + "@1.1.1.1/"}, exitFailed, `caBundle.url: "...@1.1.1.1/" has the scheme "ftp"`},
		{"bundle of no URL", []string{"check", "--ca-bundle-url", "https://me:%zz" + password + "@1.1.1.1/"}, exitFailed, `caBundle.url: "...@1.1.1.1/" is not a URL`},
		{"bundle with a slash in it", []string{"check", "--ca-bundle-url", "https://me:" + password + "/@1.1.1.1/"}, exitFailed, `caBundle.url: "...@1.1.1.1/" is not a URL`},
		{"bundle without slashes", []string{"check", "--ca-bundle-url", "me:" + password + "@1.1.1.1"}, exitFailed, `caBundle.url: "...@1.1.1.1" has the scheme`},
		{"bundle of no host", []string{"check", "--ca-bundle-url", "https://me:" + password + "@/"}, exitFailed, `caBundle.url: "...@/" has no host`},
		{"bundle from nobody", []string{"ca", "update", "--ca-bundle-url", nowhere, "--ca-bundle-file", ""}, exitFailed, "update the trust store from http://me:xxxxx@127.0.0.1:1/cacert.pem: "},
		{"bundle that is not kept", []string{"ca", "update", "--ca-bundle-url", withPassword, "--ca-bundle-file", ""}, exitFailed, "nowhere to keep it"},
		{"bundle", []string{"ca", "update", "--ca-bundle-url", withPassword, "--ca-bundle-file", "kept.pem"}, exitOK, "updated: "},
		{"list", []string{"ca", "list", "--ca-bundle-url", withPassword}, exitOK, "built-in"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := runApp(t, nil, tt.args...)
			if got := r.stdout + r.stderr; r.code != tt.code || !strings.Contains(got, tt.want) {
				t.Errorf("got exit code %d and %q; want %d and %q", r.code, got, tt.code, tt.want)
			}
			if strings.Contains(r.stdout+r.stderr, password) {
				t.Errorf("got the password in %q", r.stdout+r.stderr)
			}
			kept, err := filepath.Glob("kept.pem*")
			if err != nil || tt.name == "bundle" && len(kept) != 2 {
				t.Errorf("got the files %v, %v; want the bundle and its validators", kept, err)
			}
			for _, file := range kept {
				if b, _ := os.ReadFile(file); strings.Contains(string(b), password) {
					t.Errorf("got the password in %s", file)
				}
			}
		})
	}
	if authorized == "" {
		t.Errorf("got no Authorization at the server; want the password of the URL")
	}
}

// TestSecretsCannotBeTheRequestID refuses to log credentials as the ids of requests.
func TestSecretsCannotBeTheRequestID(t *testing.T) {
	for _, name := range []string{"Authorization", "proxy-authorization", "COOKIE"} {
		r := runApp(t, nil, "check", "--request-id-header", name)
		if want := `requestIDHeader: "` + name + `": a header of secrets`; r.code != exitFailed || !strings.Contains(r.stderr, want) {
			t.Errorf("got exit code %d and %q; want 1 and %s", r.code, r.stderr, want)
		}
	}
}

// TestTextLogLines writes what may come from outside into the application log, as text.
func TestTextLogLines(t *testing.T) {
	const hostile = "x\n2026-01-01T00:00:00Z ERR forged\x1b[31m\u0085\u202e"
	var b strings.Builder

	log := newLogger(settings.Default().Log, &b)
	log.Error().Str("client", hostile).Err(errorText(hostile)).Msg("not reloaded")
	log.Warn().Msg(settings.Printable(hostile))
	if got := b.String(); strings.Count(got, "\n") != 2 || strings.ContainsAny(got, "\x1b\u0085\u202e") {
		t.Errorf("got %q; want two lines without control characters", got)
	}
}

type errorText string

func (e errorText) Error() string { return string(e) }
