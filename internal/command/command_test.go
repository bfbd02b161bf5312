package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
	"go.uber.org/goleak"

	"whsentry/internal/settings"
)

// asWhsentry has the test's program be whsentry: what a shell runs at a Tab.
const asWhsentry = "TEST_AS_WHSENTRY"

func TestMain(m *testing.M) {
	if os.Getenv(asWhsentry) != "" {
		os.Exit(Run(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// environment makes one of a map.
func environment(m map[string]string) (e settings.Environ) {
	for name, value := range m {
		e = append(e, name+"="+value)
	}
	return e
}

// writeFile writes text to a new file and returns its name.
func writeFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// result is what a run of the program gave.
type result struct {
	code           int
	stdout, stderr string
}

// runApp runs the program with args in an empty working directory.
func runApp(t *testing.T, env map[string]string, args ...string) result {
	t.Helper()
	t.Chdir(t.TempDir())
	var stdout, stderr bytes.Buffer
	a := &app{environ: environment(env), stdout: &stdout, stderr: &stderr, notify: func(chan<- os.Signal) {}}
	code := a.run(args)
	return result{code, stdout.String(), stderr.String()}
}

func TestHelp(t *testing.T) {
	program := []string{"whsentry [flags] ", "COMMANDS:", "explain ", "Only in the file: listeners, clientCerts"}
	explain := []string{"whsentry explain [flags] URL"}
	ca := []string{"whsentry ca [flags]", "COMMANDS:", "list ", "update ", "check "}
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"--help"}, program}, {[]string{"-h"}, program}, {[]string{"--connect-timeout", "5s", "--help"}, program},
		{[]string{"-h", "--help"}, program}, {[]string{"--help", "--version"}, program}, {[]string{"chekc", "--help"}, program},
		{[]string{"--no-flag", "--help"}, program}, {[]string{"--help", "--no-flag=1"}, program}, {[]string{"explain", "--no-flag", "-h"}, explain},
		{[]string{"explain", "http://a/", "--no-flag", "--help"}, explain}, {[]string{"ca", "--no-flag", "--help"}, ca},
		{[]string{"--help", "chekc"}, program}, {[]string{"check", "--help"}, []string{"whsentry check [flags]"}},
		{[]string{"explain", "-h"}, explain}, {[]string{"--help", "explain"}, explain}, {[]string{"explain", "--help", "http://a/"}, explain},
		{[]string{"explain", "http://a/", "b", "--help"}, explain}, {[]string{"explain", "http://a/", "--read-timeout=1s", "-h"}, explain},
		{[]string{"ca", "--help"}, ca}, {[]string{"ca", "lst", "--help"}, ca}, {[]string{"ca", "check", "-h"}, []string{"whsentry ca check [flags] URL"}},
	} {
		r := runApp(t, nil, tt.args...)
		if r.code != exitOK || r.stderr != "" {
			t.Errorf("%v: got exit code %d and %q; want 0 and nothing", tt.args, r.code, r.stderr)
		}
		for _, part := range append(tt.want, "--config FILE", "WHSENTRY_CONFIG", "--help", "--version") {
			if !strings.Contains(r.stdout, part) {
				t.Errorf("%v: got no %q in it", tt.args, part)
			}
		}
	}
}

// TestHelpListsEverySetting looks for every flag with its environment variable and default, on every command.
func TestHelpListsEverySetting(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"check", "--help"}, {"ca", "--help"}, {"ca", "list", "--help"}} {
		text := runApp(t, nil, args...).stdout
		help := strings.Join(strings.Fields(text), " ")
		for _, st := range settings.Flags() {
			want := strings.TrimSpace(st.Flag()+" "+st.Placeholder) + " " + st.Help + " (default: " + st.DefaultText() + ") [$" + st.Variable() + "]"
			if !strings.Contains(help, want) {
				t.Errorf("%v: got no %q in the help", args, want)
			}
		}
		for line := range strings.Lines(text) {
			if len(line) > 120 {
				t.Errorf("%v: got a line of %d characters: %s", args, len(line), line)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"--version"}, {"-v"}, {"check", "--version"}, {"ca", "--version"}, {"ca", "lst", "--version"}, {"explain", "http://a/", "--version"}, {"--no-flag", "--version"}, {"check", "--no-flag", "-v"}, {"--version", "--connect-timeout", "no duration"}} {
		testVersion(t, runApp(t, nil, args...))
	}
}

func testVersion(t *testing.T, r result) {
	t.Helper()
	if r.code != exitOK || !strings.HasPrefix(r.stdout, "whsentry "+version+" (commit ") || !strings.Contains(r.stdout, "go1.") {
		t.Errorf("got %+v; want version, commit and Go version", r)
	}
}

// TestCommandLineErrors checks that a command line that cannot be understood is one message, and exit code 1.
func TestCommandLineErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"unknown flag", []string{"--conect-timeout", "5s"}, `"--conect-timeout": unknown flag; did you mean --connect-timeout?`},
		{"unknown flag like no other", []string{"--zzz"}, `"--zzz": unknown flag; want one that whsentry --help lists`},
		{"unknown flag of a command", []string{"check", "--confg=x"}, `"--confg": unknown flag; did you mean --config?`},
		{"one hyphen", []string{"-confg", "x"}, `"--confg": unknown flag; did you mean --config?`},
		{"one letter", []string{"-x"}, `"--x": unknown flag; want one that whsentry --help lists`},
		{"three hyphens", []string{"---config", "x"}, `"---config": unknown flag; did you mean --config?`},
		{"flag of line breaks", []string{"--\n\x00=\n"}, `unknown flag; want one`},
		{"no value", []string{"--connect-timeout"}, `--connect-timeout: no value; want a duration such as 10s`},
		{"flag for a value", []string{"--connect-timeout", "--read-timeout", "1s"}, `--connect-timeout: no value; want a duration`},
		{"no file", []string{"--config"}, `--config: no value; want the name of a file`},
		{"empty file", []string{"--config="}, `--config: "": no name; want the name of a file`},
		{"value for help", []string{"--help=yes"}, `"invalid boolean value \"yes\" for -help: parse error"; want what whsentry --help lists`},
		{"value for the short help", []string{"check", "-h=yes"}, `"invalid boolean value \"yes\" for -h: parse error"; want what`},
		{"unknown flag behind a word", []string{"explain", "http://a/", "--confg=x"}, `"--confg": unknown flag; did you mean --config?`},
		{"no value behind a word", []string{"explain", "http://a/", "--connect-timeout"}, `--connect-timeout: no value; want a duration`},
		{"flag for a value behind a word", []string{"explain", "http://a/", "--connect-timeout", "--read-timeout"}, `--connect-timeout: no value; want a duration`},
		{"command like another", []string{"chekc"}, `"chekc" is not a command; did you mean check?`},
		{"command of ca like another", []string{"ca", "chek"}, `"chek" is not a command of ca; did you mean check?`},
		{"long word", []string{strings.Repeat("x", 1000)}, `xxx"... is not a command; want one of check, explain`},
		{"no name", []string{"--=x"}, `"--=x": unknown flag; want one that whsentry --help lists`},
		{"structure", []string{"--listeners", "x"}, `--listeners: not a flag; want listeners in a configuration file`},
		{"bad value", []string{"--connect-timeout", "5"}, `--connect-timeout: connectTimeout: "5": a number without a unit; want a duration`},
		{"negative value", []string{"--connect-timeout", "-5s"}, `--connect-timeout: connectTimeout: "-5s": not above 0; want a duration`},
		{"value of a boolean", []string{"--insecure-skip-cidr-deny-list=perhaps"}, `insecureSkipCidrDenyList: "perhaps": not a boolean; want true or false`},
		{"stray argument", []string{"now"}, `"now" is not a command; want one of check, explain, clients, ca, `},
		{"--help after --", []string{"--no-flag", "--", "--help"}, `"--no-flag": unknown flag`},
		{"stray argument after --", []string{"--", "--help"}, `"--help" is not a command; want one of`},
		{"stray argument of check", []string{"check", "now"}, `stray argument "now"; want whsentry check [flags]`},
		{"value beside a boolean", []string{"check", "--listener-reuse-port", "true"}, `stray argument "true"; want whsentry check [flags]`},
		{"help for a command", []string{"help"}, `"help" is not a command; want one of check, explain`},
		{"help for an argument", []string{"check", "help"}, `stray argument "help"; want whsentry check [flags]`},
		{"empty word", []string{""}, `"" is not a command; want one of`},
		{"command after --", []string{"--", "--", "check"}, `"--" is not a command; want one of`},
		{"flag after --", []string{"check", "--", "--connect-timeout"}, `stray argument "--connect-timeout"; want whsentry check [flags]`},
		{"last of two", []string{"--connect-timeout", "x", "check", "--connect-timeout=y"}, `connectTimeout: "y": not a duration`},
		{"name of a flag for a command", []string{"read-timeout", "--read-timeout", "1s"}, `"read-timeout" is not a command`},
		{"explain nothing", []string{"explain"}, `URL is missing; want whsentry explain [flags] URL`},
		{"explain too much", []string{"explain", "http://a/", "http://b/"}, `stray argument "http://b/"; want whsentry explain [flags] URL`},
		{"explain with bad settings", []string{"explain", "http://127.0.0.1/", "--read-timeout", "x"}, `--read-timeout: readTimeout: "x": not a duration`},
		{"ca alone", []string{"ca"}, `the command of ca is missing; want one of list, update, check`},
		{"ca with flags alone", []string{"--read-timeout", "1s", "ca", "--connect-timeout=1s"}, `the command of ca is missing`},
		{"unknown command of ca", []string{"ca", "zzz"}, `"zzz" is not a command of ca; want one of list, update, check`},
		{"empty command of ca", []string{"ca", ""}, `"" is not a command of ca`},
		{"help of ca for a command", []string{"ca", "help"}, `"help" is not a command of ca`},
		{"name of a flag for a command of ca", []string{"ca", "read-timeout", "--read-timeout", "1s"}, `"read-timeout" is not a command of ca`},
		{"ca list with an argument", []string{"ca", "list", "x"}, `stray argument "x"; want whsentry ca list [flags]`},
		{"ca check nothing", []string{"ca", "check"}, `URL is missing; want whsentry ca check [flags] URL`},
		{"ca check too much", []string{"ca", "check", "a", "b"}, `stray argument "b"; want whsentry ca check [flags] URL`},
		{"ca check over http", []string{"ca", "check", "HTTP://a/"}, `"HTTP://a/": http is without TLS, so there is no certificate; want an https URL, a host or host:port`},
		{"ca check with bad settings", []string{"ca", "check", "127.0.0.1", "--connect-timeout", "x"}, `--connect-timeout: connectTimeout: "x": not a duration`},
		{"ca list without its file", []string{"ca", "--ca-bundle-extra-file", "none.pem", "list"}, `--ca-bundle-extra-file: caBundle.extraFile: open none.pem`},
		{"ca update from nowhere", []string{"ca", "update", "--ca-bundle-url="}, `--ca-bundle-url: caBundle.url: "": newer bundles are never downloaded; want an http or https URL`},
		{"missing file", []string{"--config", "no.yaml"}, `--config: "no.yaml": no such file or directory; want`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := runApp(t, nil, tt.args...)
			if r.code != exitFailed || r.stdout != "" {
				t.Errorf("got exit code %d and %q; want 1 and nothing", r.code, r.stdout)
			}
			if !strings.HasPrefix(r.stderr, "whsentry: error: ") || !strings.Contains(r.stderr, tt.want) || strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("got  %swant %s", r.stderr, tt.want)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	noServer := []string{"--dns-servers", "127.0.0.1:9", "--connect-timeout", "2s"} // nothing listens there
	for _, tt := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"public address", []string{"https://1.1.1.1/hook"}, exitOK, []string{"1.1.1.1  allowed  global unicast", "let through: 1 of 1 addresses, port 443, over TLS"}},
		{"own port", []string{"http://1.1.1.1:8080/hook"}, exitOK, []string{"port 8080, over TCP"}},
		{"loopback", []string{"http://127.0.0.1/"}, exitRefused, []string{"127.0.0.1  refused  127.0.0.0/8 Loopback", "refused: IP 127.0.0.1 is blocked (reason 1000"}},
		{"flag behind the URL", []string{"http://127.0.0.1/", "--cidr-allow-list", "127.0.0.0/8"}, exitOK, []string{"127.0.0.1  allowed  127.0.0.0/8 cidrAllowList"}},
		{"flag before the command", []string{"--config", os.DevNull, "explain", "http://1.1.1.1/"}, exitOK, []string{"let through"}},
		{"flags on all sides", []string{"--cidr-allow-list", "127.0.0.1", "explain", "--listener-reuse-port", "http://127.0.0.2/", "--cidr-allow-list=127.0.0.2"},
			exitOK, []string{"127.0.0.2  allowed  127.0.0.2/32 cidrAllowList"}},
		{"boolean before the URL", []string{"--insecure-skip-cidr-deny-list", "http://127.0.0.1/"}, exitOK, []string{"127.0.0.1  allowed"}},
		{"boolean that is false", []string{"--insecure-skip-cidr-deny-list", "--insecure-skip-cidr-deny-list=false", "http://127.0.0.1/"}, exitRefused, []string{"refused: IP 127.0.0.1"}},
		{"URL after --", []string{"--", "-http://1.1.1.1/"}, exitRefused, []string{"refused: ", "reason 100"}},
		{"own deny list", []string{"http://1.1.1.1/", "--cidr-deny-list", "1.0.0.0/8"}, exitRefused, []string{"1.0.0.0/8 cidrDenyList"}},
		{"mapped address", []string{"http://[::ffff:127.0.0.1]/"}, exitRefused, []string{"refused: IP ::ffff:127.0.0.1 is blocked"}},
		{"port", []string{"http://1.1.1.1:25/"}, exitRefused, []string{"refused: port 25 is blocked by portDenyList (reason 1013"}},
		{"port that is allowed", []string{"http://1.1.1.1:25/", "--port-deny-list", ""}, exitOK, []string{"let through"}},
		{"scheme", []string{"ftp://1.1.1.1/"}, exitRefused, []string{"refused: ", "reason 1003"}},
		{"no URL", []string{"example.com"}, exitRefused, []string{"refused: ", "reason 1002"}},
		{"number for a host", []string{"http://2130706433/"}, exitRefused, []string{"refused: ", "reason 1002"}},
		{"user information", []string{"http://a@1.1.1.1/"}, exitRefused, []string{"refused: ", "reason 1002"}},
		{"control characters", []string{"http://1.1.1.1/\x1b[31m\n"}, exitRefused, []string{"refused: ", "reason 1002"}},
		{"empty", []string{""}, exitRefused, []string{"refused: ", "reason 1002"}},
		{"no such name", append([]string{"http://whsentry.invalid/"}, noServer...), exitUnresolved, []string{"unresolved: ", "whsentry.invalid", "reason 1001"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := tt.args
			if !slices.Contains(args, "explain") {
				args = append([]string{"explain"}, args...)
			}
			r := runApp(t, nil, args...)
			if r.code != tt.code || r.stderr != "" {
				t.Errorf("got exit code %d and %q; want %d and nothing", r.code, r.stderr, tt.code)
			}
			for _, part := range tt.want {
				if !strings.Contains(r.stdout, part) {
					t.Errorf("got  %q\nwant %q in it", r.stdout, part)
				}
			}
			if strings.ContainsRune(r.stdout, 0x1b) {
				t.Errorf("got a control character: %q", r.stdout)
			}
		})
	}
}

// FuzzCommandLine checks that every command line ends in one of an error, something printed, or one thing being done.
// Its words have NUL between them, the one byte that no word can have.
func FuzzCommandLine(f *testing.F) {
	for _, words := range []string{
		"", "--help", "-h\x00--help", "--version\x00check", "check\x00--config=x", "explain\x00http://a/\x00--read-timeout\x001s", "explain\x00--\x00-x",
		"--\x00--", "-", "--=", "---", "-=-", "--help=", "--config", "help\x00help", "--insecure-skip-cidr-deny-list\x00true", "--port-deny-list\x00\x00check",
		"--cidr-deny-list=10.0.0.0/8,,\x00--cidr-deny-list\x00\x00", "--user-agent\x00-\x00\n", "--listeners", "--generate-bash-completion", "chekc\x00--help",
		"ca", "ca\x00--help", "ca\x00list\x00--\x00", "--\x00ca\x00check\x00--", "ca\x00help", "ca\x00--user-agent\x00x\x00update", "ca\x00ca\x00list",
	} {
		f.Add(words)
	}
	f.Fuzz(func(t *testing.T, line string) {
		var stdout, stderr bytes.Buffer
		a := &app{stdout: &stdout, stderr: &stderr}
		words := strings.Split(line, "\x00")
		if words[len(words)-1] == "--generate-bash-completion" {
			return // which may print anything, or nothing
		}
		done := 0
		parser := a.parser()
		load := func(*cli.Context) error {
			done++
			if a.flags[0].IsSet() { // --config
				return nil // what may lie anywhere
			}
			_, err := a.load()
			return err
		}
		parser.Action = func(c *cli.Context) error {
			if c.Args().Present() {
				return a.runProxy(c) // which refuses them
			}
			return load(c)
		}
		for _, command := range commandTree(parser.Commands) {
			command.Action = load
		}
		err := parser.Run(append([]string{"whsentry"}, words...))
		if exit := cli.ExitCoder(nil); errors.As(err, &exit) && exit.ExitCode() == exitOK {
			err = nil // what was printed in place of anything else
		}
		printed := stdout.Len() > 0
		if stderr.Len() > 0 || done > 1 || done == 0 && printed == (err != nil) || done == 1 && printed {
			t.Errorf("%q: got done %d times, error %v, printed %q and %q", line, done, err, &stdout, &stderr)
		}
		if err != nil && err.Error() == "" {
			t.Errorf("%q: got an error without a text", line)
		}
	})
}

// quiet are the flags by which a test's proxy opens no fixed port, asks nobody for roots and writes to no cache.
func quiet(args ...string) []string {
	return append([]string{"--listener-address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0",
		"--ca-bundle-url", "", "--ca-bundle-file", "", "--proxy-log-type", "json"}, args...)
}

func TestCheck(t *testing.T) {
	garbage := writeFile(t, "no certificate")
	aliases := writeFile(t, "clientCerts:\n  acme: {certFile: none.pem, keyFile: none.key}\n")
	directory := t.TempDir()
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"defaults", nil, exitOK, "configuration is valid\n"},
		{"example", []string{"--config", absolute(t, top+"config.example.yaml")}, exitOK, "configuration is valid\n"},
		{"missing certificate", []string{"--client-cert-file", "none.pem", "--client-key-file", "none.key"}, exitFailed,
			"--client-cert-file: clientCertFile: open none.pem: no such file or directory; want the name of a file that can be read"},
		{"missing certificate of an alias", []string{"--config", aliases}, exitFailed, ":2: clientCerts.acme.certFile: open none.pem: no such file or directory; want the name of a file that can be read"},
		{"missing roots", []string{"--ca-bundle-extra-file", "none.pem"}, exitFailed, "--ca-bundle-extra-file: caBundle.extraFile: "},
		{"line break in a name", []string{"--ca-bundle-extra-file", "no\nne"}, exitFailed, `open no\nne: no such file or directory; want`},
		{"garbage for roots", []string{"--ca-bundle-extra-file", garbage}, exitFailed, "--ca-bundle-extra-file: caBundle.extraFile: "},
		{"missing issuer", []string{"--mitm-issuer-cert-file", "none.pem", "--mitm-issuer-key-file", "none.key"}, exitFailed, "mitmIssuerCertFile: "},
		{"missing listener's certificate", []string{"--listener-type", "https", "--listener-cert-file", "none.pem", "--listener-key-file", "none.key"},
			exitFailed, "--listener-cert-file: listener.certFile: "},
		{"garbage for a listener's certificate", []string{"--listener-type", "https", "--listener-cert-file", garbage, "--listener-key-file", garbage},
			exitFailed, "--listener-cert-file: listener.certFile: "},
		{"access log in no folder", []string{"--access-log-file", "none/access.log"}, exitFailed,
			`--access-log-file: accessLog.file: "none/access.log": no such file or directory; want a file that can be appended to`},
		{"folder for a log", []string{"--proxy-log-file", directory}, exitFailed, "is a directory; want a file that can be appended to"},
		{"new log", []string{"--proxy-log-file", "new.log", "--access-log-file", filepath.Join(directory, "access.log")}, exitOK, "configuration is valid\n"},
		{"log that is there", []string{"--access-log-file", garbage}, exitOK, "configuration is valid\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := runApp(t, nil, append([]string{"check"}, tt.args...)...)
			if got := r.stdout + r.stderr; r.code != tt.code || !strings.Contains(got, tt.want) || strings.Count(got, "\n") != 1 {
				t.Errorf("got exit code %d and %q; want %d and %q", r.code, got, tt.code, tt.want)
			}
			if entries, err := os.ReadDir("."); err != nil || len(entries) > 0 {
				t.Errorf("got %v (%v) in the working directory; want nothing left behind", entries, err)
			}
		})
	}
}

// TestCheckWarns checks that a downloaded bundle that cannot be read stops nothing, for the built-in one is there.
func TestCheckWarns(t *testing.T) {
	r := runApp(t, nil, "check", "--ca-bundle-file", writeFile(t, "no certificate"))
	if r.code != exitOK || r.stdout != "configuration is valid\n" || !strings.HasPrefix(r.stderr, "whsentry: warning: caBundle.file: ") {
		t.Errorf("got %+v; want a valid configuration with a warning", r)
	}
}

// absolute returns the name of a file of this package for use in another working directory.
func absolute(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// logLines collects the lines of a JSON log and lets a test wait for one.
type logLines struct {
	mu    sync.Mutex // guards the following
	lines []map[string]any
	news  chan struct{} // closed and replaced at each line
}

func newLogLines() *logLines { return &logLines{news: make(chan struct{})} }

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var line map[string]any
	if err := json.Unmarshal(p, &line); err != nil {
		line = map[string]any{"message": string(p)}
	}
	l.lines = append(l.lines, line)
	close(l.news)
	l.news = make(chan struct{})
	return len(p), nil
}

// wait returns the first line with the message after the first skip lines, and how many lines there are up to it.
func (l *logLines) wait(t *testing.T, skip int, message string) (map[string]any, int) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		l.mu.Lock()
		lines, news := l.lines, l.news
		l.mu.Unlock()
		for i := skip; i < len(lines); i++ {
			if lines[i]["message"] == message {
				return lines[i], i + 1
			}
		}
		select {
		case <-news:
		case <-deadline:
			t.Fatalf("got %v; want a line with %q", lines, message)
		}
	}
}

// daemon is a proxy that runs within the test.
type daemon struct {
	log     *logLines
	signals chan<- os.Signal
	done    chan result
}

// startDaemon runs the program until its end, which the test brings about.
func startDaemon(t *testing.T, args ...string) *daemon {
	t.Helper()
	return startDaemonIn(t, func(*app) {}, args...)
}

// startDaemonIn is startDaemon in surroundings that change has changed.
func startDaemonIn(t *testing.T, change func(*app), args ...string) *daemon {
	t.Helper()
	d := &daemon{log: newLogLines(), done: make(chan result, 1)}
	notified := make(chan chan<- os.Signal, 1)
	var stderr bytes.Buffer
	a := &app{stdout: d.log, stderr: &stderr, notify: func(c chan<- os.Signal) { notified <- c }}
	change(a)
	go func() { // ends with the program; stop waits for it
		code := a.run(args)
		d.done <- result{code: code, stderr: stderr.String()}
	}()
	d.signals = <-notified
	return d
}

func (d *daemon) stop(t *testing.T, sig os.Signal) result {
	t.Helper()
	d.signals <- sig
	select {
	case r := <-d.done:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("the proxy did not stop")
		return result{}
	}
}

func TestRunAndStop(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		d := startDaemon(t, quiet("--insecure-skip-cidr-deny-list", "--insecure-skip-cert-verification")...)
		started, n := d.log.wait(t, 0, "started")
		if listening, _ := started["listening"].([]any); len(listening) != 1 || !strings.HasPrefix(listening[0].(string), "127.0.0.1:") {
			t.Errorf("got %v; want the address that is listened on", started)
		}
		_, n = d.log.wait(t, n, "insecureSkipCidrDenyList is set: every address is let through, those of this network included")
		d.log.wait(t, n, "insecureSkipCertVerification is set: any certificate of a destination is accepted")
		if r := d.stop(t, sig); r.code != exitOK || r.stderr != "" {
			t.Errorf("%v: got %+v; want exit code 0 and nothing printed", sig, r)
		}
		d.log.wait(t, 0, "stopped")
	}
}

// TestSecondSignal stops a proxy that has a request under way, which would take ten minutes.
func TestSecondSignal(t *testing.T) {
	t.Chdir(t.TempDir())
	destination, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer destination.Close()
	d := startDaemon(t, quiet("--cidr-allow-list", "127.0.0.1", "--shutdown-timeout", "10m", "--read-timeout", "10m", "--connection-lifetime", "10m")...)
	line, n := d.log.wait(t, 0, "started")
	client, err := net.Dial("tcp", line["listening"].([]any)[0].(string))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	address := destination.Addr().String()
	if _, err := fmt.Fprintf(client, "GET http://%s/ HTTP/1.1\r\nHost: %s\r\n\r\n", address, address); err != nil {
		t.Fatal(err)
	}
	silent, err := destination.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	d.signals <- syscall.SIGTERM
	_, n = d.log.wait(t, n, "stopping")
	if r := d.stop(t, syscall.SIGTERM); r.code != exitOK {
		t.Errorf("got %+v; want exit code 0", r)
	}
	d.log.wait(t, n, "stopping at once")
}

func TestReload(t *testing.T) {
	t.Chdir(t.TempDir())
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile("config.yaml", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const base = "listener: {address: \"127.0.0.1:0\"}\nmetrics: {address: \"\"}\ncaBundle: {url: \"\", file: \"\"}\n"
	write(base + "proxyLog: {type: json}\n")
	d := startDaemon(t)
	_, n := d.log.wait(t, 0, "started")

	d.signals <- syscall.SIGHUP
	_, n = d.log.wait(t, n, "reloaded")

	write(base + "conectTimeout: 1s\n")
	d.signals <- syscall.SIGHUP
	line, n := d.log.wait(t, n, "not reloaded; the settings stay as they were")
	if got, want := line["error"], `config.yaml:4: conectTimeout: "1s": unknown key; did you mean connectTimeout?`; got != want {
		t.Errorf("got %v; want %s", got, want)
	}

	if err := os.Remove("config.yaml"); err != nil {
		t.Fatal(err)
	}
	d.signals <- syscall.SIGHUP
	line, n = d.log.wait(t, n, "not reloaded; the settings stay as they were")
	if got, want := fmt.Sprint(line["error"]), "config.yaml: no such file, of which the settings in use are; want it, or a restart without it"; !strings.HasSuffix(got, want) {
		t.Errorf("got %s; want %s", got, want)
	}

	write("listener: {address: \"127.0.0.1:1\"}\nmetrics: {address: \":0\"}\ncaBundle: {url: \"\", file: \"\"}\naccessLog: {type: json}\n" +
		"proxyLog: {type: text, level: warn}\n")
	d.signals <- syscall.SIGHUP
	for _, key := range []string{"listeners", "metrics.address", "accessLog.type", "proxyLog.type"} {
		line, n = d.log.wait(t, n, "cannot change without a restart; it stays as it was")
		if line["key"] != key {
			t.Errorf("got %v; want a line about %s", line, key)
		}
	}

	// The new level keeps "reloaded" out of the log, so the next thing to be seen is the next warning.
	write(base + "proxyLog: {type: json, file: new.log}\ninsecureSkipCidrDenyList: true\n")
	d.signals <- syscall.SIGHUP
	if r := d.stop(t, syscall.SIGTERM); r.code != exitOK {
		t.Errorf("got %+v; want exit code 0", r)
	}
	data, err := os.ReadFile("new.log")
	if err != nil || !bytes.Contains(data, []byte(`"message":"stopped"`)) || !bytes.Contains(data, []byte("insecureSkipCidrDenyList is set")) {
		t.Errorf("got %s (%v); want the log to go on in new.log", data, err)
	}
}

// TestStartErrors checks that what keeps the proxy from starting is one message too.
func TestStartErrors(t *testing.T) {
	d := startDaemon(t, quiet("--proxy-log-file", t.TempDir())...)
	if r := <-d.done; r.code != exitFailed || !strings.Contains(r.stderr, "--proxy-log-file: proxyLog.file: ") || !strings.Contains(r.stderr, "is a directory") {
		t.Errorf("got %+v; want the log file's error", r)
	}

	running := startDaemon(t, quiet()...)
	line, _ := running.log.wait(t, 0, "started")
	taken := line["listening"].([]any)[0].(string)
	d = startDaemon(t, append(quiet(), "--listener-address", taken)...)
	r := <-d.done
	if r.code != exitFailed || !strings.Contains(r.stderr, "--listener-address: listener.address: ") || !strings.Contains(r.stderr, taken) ||
		!strings.Contains(r.stderr, "address already in use; want ") || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("got %+v; want one message about the address in use", r)
	}
	running.stop(t, syscall.SIGTERM)
}
