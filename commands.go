package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"iter"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"whsentry/guard"
	"whsentry/proxy"
)

// commands returns what whsentry can be told to do beside running the proxy, in the order of the help.
func (a *app) commands() []*cli.Command {
	all := []*cli.Command{
		{Name: "check", Action: a.check,
			Usage: "load the configuration and every file that it names, and say what is wrong"},
		{Name: "explain", ArgsUsage: "URL", Action: a.explain,
			Usage: "say whether the proxy would forward to URL, and why; connects to nothing"},
		{Name: "ca", Subcommands: a.caCommands()},
		{Name: "health", ArgsUsage: "[healthz]", Action: a.health,
			Usage: "ask a proxy that runs here whether it takes work, or whether it is alive"},
		{Name: "completion", ArgsUsage: shellArgument, Action: a.completion,
			Usage: "print what makes a shell (bash, fish or zsh) complete all this"},
		{Name: "man", Action: a.man, Usage: "print the manual page"},
	}
	for name, c := range commandTree(all) {
		c.SkipFlagParsing = true // the flags are the parser's
		c.HideHelp = true
		c.Before = checkArguments(name)
		if len(c.Subcommands) > 0 {
			c.Before = checkSubcommand
		}
	}
	return all
}

// commandTree goes through commands and what is below them, with their names as they are typed: ca list.
func commandTree(commands []*cli.Command) iter.Seq2[string, *cli.Command] {
	return func(yield func(string, *cli.Command) bool) {
		for _, c := range commands {
			if !yield(c.Name, c) {
				return
			}
			for name, below := range commandTree(c.Subcommands) {
				if !yield(c.Name+" "+name, below) {
					return
				}
			}
		}
	}
}

// names lists commands as they are typed after what is above them.
func names(commands []*cli.Command) string {
	var list []string
	for _, c := range commands {
		list = append(list, c.Name)
	}
	return strings.Join(list, ", ")
}

// usage returns a command as it is typed.
func usage(name, arguments string) string {
	return strings.Join(strings.Fields("whsentry "+name+" [flags] "+arguments), " ")
}

// checkArguments returns what holds the words after a command to those that it wants. One in brackets may be left out.
func checkArguments(name string) cli.BeforeFunc {
	return func(c *cli.Context) error {
		arguments := c.Command.ArgsUsage
		wanted, got := strings.Fields(arguments), c.Args().Slice()
		switch {
		case len(got) > len(wanted):
			return fmt.Errorf("stray argument %s; want %s", quote(got[len(wanted)]), usage(name, arguments))
		case len(got) < len(wanted) && !strings.HasPrefix(wanted[len(got)], "["):
			return fmt.Errorf("%s is missing; want %s", wanted[len(got)], usage(name, arguments))
		}
		return nil
	}
}

// checkSubcommand holds the word after a command of commands to their names.
func checkSubcommand(c *cli.Context) error {
	known := c.Command.Subcommands
	switch word := c.Args().First(); {
	case !c.Args().Present():
		return fmt.Errorf("the command of %s is missing; want one of %s", c.Command.Name, names(known))
	case c.Command.Command(word) == nil:
		return fmt.Errorf("%s is not a command of %s; want one of %s", quote(word), c.Command.Name, names(known))
	}
	return nil
}

// runProxy runs the proxy until a signal ends it. Words that name no command end up here too.
func (a *app) runProxy(c *cli.Context) error {
	if c.Args().Present() {
		return fmt.Errorf("%s is not a command; want one of %s, or none to run the proxy",
			quote(c.Args().First()), names(c.App.Commands))
	}
	return a.serve(func() (*settings, error) { return a.load(c) })
}

// check loads what runProxy would, and opens no port.
func (a *app) check(c *cli.Context) error {
	s, store, err := a.loadStore(c)
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := guard.New(s.guard, guard.Hooks{}); err != nil {
		return s.locate(err)
	}
	for i, l := range s.proxy.Listeners {
		if l.Type != proxy.ListenerHTTPS {
			continue
		}
		if _, err := store.ServerConfig(l.CertFile, l.KeyFile, l.ClientCAFile); err != nil {
			return s.locate(fmt.Errorf("listeners[%d].%w", i, err))
		}
	}
	for _, log := range []struct{ key, file string }{
		{"accessLog.file", s.proxy.AccessLog.File},
		{"proxyLog.file", s.log.File},
	} {
		if err := checkAppendable(log.file); err != nil {
			return s.locate(fmt.Errorf("%s: %s: %w; want a file that can be appended to", log.key, quote(log.file), err))
		}
	}
	fmt.Fprintln(a.stdout, "configuration is valid")
	return nil
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

// explain judges a URL in the order of the proxy's refusals: the URL itself, its port, its name, its addresses.
func (a *app) explain(c *cli.Context) error {
	s, err := a.load(c)
	if err != nil {
		return err
	}
	g, err := guard.New(s.guard, guard.Hooks{})
	if err != nil {
		return s.locate(err)
	}
	dest, err := proxy.ParseURL(c.Args().First())
	if err != nil {
		return a.conclude(err, exitUnresolved)
	}
	if err := g.CheckPort(dest.Port); err != nil {
		return a.conclude(err, exitUnresolved)
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.proxy.ConnectTimeout)
	defer cancel()
	addrs, err := guard.NewDialer(g).Resolve(ctx, dest.Host)
	if err != nil {
		return a.conclude(err, exitUnresolved)
	}
	allowed := 0
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, addr := range addrs {
		verdict, word := g.Verdict(netip.AddrPortFrom(addr, dest.Port), guard.Exceptions{}), "refused"
		if verdict.Allowed {
			word = "allowed"
			allowed++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", addr, word, verdict.Rule)
	}
	w.Flush()
	if allowed == 0 {
		return a.conclude(&guard.BlockedError{Addr: addrs[0].WithZone("")}, exitUnresolved)
	}
	over := "TCP"
	if dest.TLS {
		over = "TLS"
	}
	fmt.Fprintf(a.stdout, "let through: %d of %d addresses, port %d, over %s\n", allowed, len(addrs), dest.Port, over)
	return nil
}

// conclude prints why the proxy would have no connection to a destination, and returns the exit code: exitRefused,
// unresolved where its name does not resolve, else exitFailed. An error that is no such reason is returned as it is.
func (a *app) conclude(err error, unresolved int) error {
	var (
		target  *proxy.TargetError
		port    *guard.PortError
		blocked *guard.BlockedError
		resolve *guard.ResolveError
		connect *guard.ConnectError
	)
	verdict, code := "", exitRefused
	switch {
	case errors.As(err, &target):
		verdict = "refused: " + target.Error()
	case errors.As(err, &port):
		verdict = fmt.Sprintf("refused: %v by portDenyList (reason 1013, status 403)", port)
	case errors.As(err, &blocked):
		verdict = fmt.Sprintf("refused: %v (reason 1000, status 403)", blocked)
	case errors.As(err, &resolve):
		verdict, code = fmt.Sprintf("unresolved: %v (reason 1001, status 502)", resolve), unresolved
	case errors.As(err, &connect) && connect.Timeout():
		verdict, code = fmt.Sprintf("unreachable: %v (reason 1004, status 502)", connect), exitFailed
	case errors.As(err, &connect):
		verdict, code = fmt.Sprintf("unreachable: %v (reason 1006, status 502)", connect), exitFailed
	default:
		return err
	}
	fmt.Fprintln(a.stdout, printable(verdict))
	return cli.Exit("", code)
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

// printable makes one line of text that came from outside. What cannot be printed is written as in Go: \n, \x1b, \u202e.
func printable(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		c, size := utf8.DecodeRuneInString(text)
		char := text[:size]
		if text = text[size:]; !unicode.IsPrint(c) || c == utf8.RuneError && size == 1 {
			quoted := strconv.Quote(char)
			char = quoted[1 : len(quoted)-1]
		}
		b.WriteString(char)
	}
	return b.String()
}

const helpIntroduction = `whsentry forwards webhooks to servers that nobody vouches for, and to nothing inside your network.

Examples:
  whsentry                                  # proxy on :9090, metrics and health on :2112
  curl -x http://127.0.0.1:9090 -H 'X-WhSentry-TLS: true' http://example.com/hook -d '{}'
  whsentry explain https://example.com/hook
  whsentry ca check example.com
  whsentry check --config config.yaml
  whsentry --cidr-allow-list 10.8.0.0/16 --connect-timeout 5s

Commands:
`

const helpFlags = `
Settings come from flags, then the environment, then the file, then defaults: the first that has one counts.
A list has commas between its items, and a flag for one that is given twice adds to it. Flags may stand on either
side of a command and its argument.

Flags:
`

// printHelp lists the commands, and every flag with its default and environment variable.
func printHelp(w io.Writer, commands []*cli.Command) {
	fmt.Fprint(w, helpIntroduction)
	printUsage := func(line, help string) { fmt.Fprintf(w, "  %-33s  %s\n", line, help) }
	printUsage(usage("", ""), "run the proxy until SIGTERM or SIGINT")
	for name, c := range commandTree(commands) {
		if len(c.Subcommands) == 0 {
			printUsage(usage(name, c.ArgsUsage), c.Usage)
		}
	}
	fmt.Fprint(w, helpFlags)
	defaults := defaultSettings()
	for _, st := range flags() {
		fmt.Fprintln(w, "  "+strings.TrimSpace(st.flag()+" "+st.placeholder))
		printWrapped(w, st.help)
		if st.get != nil {
			printWrapped(w, "default "+st.show(defaults)+"; "+st.variable())
		}
	}
	var fileOnly []string
	for i := range table {
		if table[i].structure {
			fileOnly = append(fileOnly, table[i].key)
		}
	}
	fmt.Fprintf(w, "\nOnly in the file: %s\n", strings.Join(fileOnly, ", "))
}

// show returns a setting's value for people: the items of a list, and "none" where there is none.
func (st *setting) show(s *settings) string {
	values := st.get(s)
	if text := strings.Join(values, ", "); text != "" {
		return text
	}
	return "none"
}

// printWrapped prints text below a flag, in lines that fit a terminal.
func printWrapped(w io.Writer, text string) {
	const indent, width = "        ", 100
	line := indent
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > width && line != indent {
			fmt.Fprintln(w, line)
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	fmt.Fprintln(w, line)
}
