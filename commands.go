package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/proxy"
)

// The exit codes.
const (
	exitOK         = 0
	exitFailed     = 1 // bad settings, a bad command line, or the proxy could not run
	exitRefused    = 3 // explain: the proxy would refuse the URL
	exitUnresolved = 4 // explain: the URL's name does not resolve
)

// command is one thing that whsentry can be told to do.
type command struct {
	name      string // one or more words; "" runs the proxy
	arguments string // for the help, one word each
	help      string
	run       func(a *app, c *commandLine) (exitCode int, err error)
}

// commands returns all of them, in the order of the help.
func commands() []command {
	return []command{
		{"", "", "run the proxy until SIGTERM or SIGINT", runProxy},
		{"check", "", "load the configuration and every file that it names, and say what is wrong", runCheck},
		{"explain", "URL", "say whether the proxy would forward to URL, and why; connects to nothing", runExplain},
	}
}

// usage returns the command as it is typed.
func (c *command) usage() string {
	return strings.Join(strings.Fields("whsentry "+c.name+" [flags] "+c.arguments), " ")
}

// findCommand returns the command that words begin with, and the words that are left for it.
func findCommand(words []string) (*command, []string, error) {
	var found *command
	var names []string
	all := commands()
	for i := range all {
		c := &all[i]
		name := strings.Fields(c.name)
		if len(name) <= len(words) && strings.Join(words[:len(name)], " ") == c.name {
			found = c
		}
		if c.name != "" {
			names = append(names, c.name)
		}
	}
	arguments := words[len(strings.Fields(found.name)):]
	if found.name == "" && len(words) > 0 {
		return nil, nil, fmt.Errorf("%s is not a command; want one of %s, or none to run the proxy",
			quote(words[0]), strings.Join(names, ", "))
	}
	wanted := strings.Fields(found.arguments)
	if len(arguments) > len(wanted) {
		return nil, nil, fmt.Errorf("stray argument %s; want %s", quote(arguments[len(wanted)]), found.usage())
	}
	if len(arguments) < len(wanted) {
		return nil, nil, fmt.Errorf("%s is missing; want %s", wanted[len(arguments)], found.usage())
	}
	return found, arguments, nil
}

// runCheck loads what runProxy would, and opens no port.
func runCheck(a *app, c *commandLine) (int, error) {
	s, err := c.load(a.getenv)
	if err != nil {
		return exitFailed, err
	}
	store, err := ca.New(s.ca, ca.Hooks{Warn: a.warn})
	if err != nil {
		return exitFailed, s.locate(err)
	}
	defer store.Close()
	if _, err := guard.New(s.guard, guard.Hooks{}); err != nil {
		return exitFailed, s.locate(err)
	}
	for i, l := range s.proxy.Listeners {
		if l.Type != proxy.ListenerHTTPS {
			continue
		}
		if _, err := store.ServerConfig(l.CertFile, l.KeyFile, l.ClientCAFile); err != nil {
			return exitFailed, s.locate(fmt.Errorf("listeners[%d].%w", i, err))
		}
	}
	for _, log := range []struct{ key, file string }{
		{"accessLog.file", s.proxy.AccessLog.File},
		{"proxyLog.file", s.log.File},
	} {
		if err := checkAppendable(log.file); err != nil {
			return exitFailed, s.locate(fmt.Errorf("%s: %s: %w; want a file that can be appended to", log.key, quote(log.file), err))
		}
	}
	fmt.Fprintln(a.stdout, "configuration is valid")
	return exitOK, nil
}

// checkAppendable reports why a log file could not be appended to. It asks and does not try: a check must leave no
// empty files behind, nor wait for the reader of a named pipe.
func checkAppendable(file string) error {
	if file == "" {
		return nil // standard output
	}
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return unix.Access(filepath.Dir(file), unix.W_OK|unix.X_OK)
	case err != nil:
		return errors.Unwrap(err)
	case info.IsDir():
		return unix.EISDIR
	}
	return unix.Access(file, unix.W_OK)
}

// runExplain judges a URL in the order of the proxy's refusals: the URL itself, its port, its name, its addresses.
func runExplain(a *app, c *commandLine) (int, error) {
	s, err := c.load(a.getenv)
	if err != nil {
		return exitFailed, err
	}
	g, err := guard.New(s.guard, guard.Hooks{})
	if err != nil {
		return exitFailed, s.locate(err)
	}
	dest, err := proxy.ParseURL(c.arguments[0])
	if err != nil {
		fmt.Fprintf(a.stdout, "refused: %s\n", printable(err.Error()))
		return exitRefused, nil
	}
	if err := g.CheckPort(dest.Port); err != nil {
		fmt.Fprintf(a.stdout, "refused: %v by portDenyList (reason 1013, status 403)\n", err)
		return exitRefused, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.proxy.ConnectTimeout)
	defer cancel()
	addrs, err := guard.NewDialer(g).Resolve(ctx, dest.Host)
	if err != nil {
		fmt.Fprintf(a.stdout, "unresolved: %s (reason 1001, status 502)\n", printable(err.Error()))
		return exitUnresolved, nil
	}
	allowed := 0
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, addr := range addrs {
		verdict, word := g.Verdict(addr), "refused"
		if verdict.Allowed {
			word = "allowed"
			allowed++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", addr, word, verdict.Rule)
	}
	w.Flush()
	if allowed == 0 {
		fmt.Fprintf(a.stdout, "refused: %v (reason 1000, status 403)\n", &guard.BlockedError{Addr: addrs[0].WithZone("")})
		return exitRefused, nil
	}
	over := "TCP"
	if dest.TLS {
		over = "TLS"
	}
	fmt.Fprintf(a.stdout, "let through: %d of %d addresses, port %d, over %s\n", allowed, len(addrs), dest.Port, over)
	return exitOK, nil
}

// version and commit are set by the linker where the build has them; else the commit is what the go command noted.
var version, commit = "0.1.0", ""

// buildCommit returns the commit that the program was built from, with a + where the checkout had changes.
func buildCommit() string {
	if commit != "" {
		return commit
	}
	const short = 12
	revision, modified := "unknown", ""
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return revision
	}
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision" && setting.Value != "":
			revision = setting.Value[:min(short, len(setting.Value))]
		case setting.Key == "vcs.modified" && setting.Value == "true":
			modified = "+"
		}
	}
	return revision + modified
}

// printable makes one line of text that came from outside.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return '?'
		}
		return c
	}, text)
}

func printVersion(w io.Writer, goVersion string) {
	fmt.Fprintf(w, "whsentry %s (commit %s, %s)\n", version, buildCommit(), goVersion)
}
