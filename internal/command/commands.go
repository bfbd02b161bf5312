package command

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"whsentry/guard"
	"whsentry/internal/settings"
	"whsentry/policy"
	"whsentry/proxy/listen"
)

// commands returns what whsentry can be told to do beside running the proxy, in the order of the help.
func (a *app) commands() []*cli.Command {
	all := []*cli.Command{
		{Name: "check", Action: a.check,
			Usage: "load the configuration and every file that it names, and say what is wrong"},
		{Name: "explain", ArgsUsage: "URL", Action: a.explain, Flags: []cli.Flag{a.client},
			Usage: "say whether the proxy would forward to URL, and why; connects to nothing"},
		{Name: "clients", Usage: "make what clients show", Subcommands: []*cli.Command{
			{Name: "token", ArgsUsage: "NAME", Action: a.clientsToken,
				Usage: "print a new random token for a client, and its line for the client's tokens"},
		}},
		{Name: "ca", Usage: "look at the trust store, and into what it says of a destination", Subcommands: a.caCommands()},
		{Name: "health", ArgsUsage: "[healthz]", Action: a.health,
			Usage: "ask a proxy that runs here whether it takes work, or whether it is alive"},
		{Name: "completion", ArgsUsage: "SHELL", Action: a.completion,
			Usage: "print what makes a shell (bash, fish, powershell or zsh) complete all this"},
		{Name: "man", Action: a.man, Usage: "print the manual page"},
	}
	for name, c := range commandTree(all) {
		c.Flags = append(a.cliFlags(), c.Flags...)
		c.UsageText = usage(name, c.ArgsUsage)
		c.HideHelpCommand = true
		c.OnUsageError = a.usageError
		c.BashComplete = a.complete
		c.Before = a.checkArguments
		if len(c.Subcommands) > 0 {
			c.Before = a.checkSubcommand
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

// checkArguments holds the words after a command to those that it wants. One in brackets may be left out.
func (a *app) checkArguments(c *cli.Context) error {
	if err := obey(c, false, c.Bool("version")); err != nil {
		return err
	}
	got, err := a.words(c)
	if err != nil {
		return err
	}
	wanted := strings.Fields(c.Command.ArgsUsage)
	switch {
	case len(got) > len(wanted):
		return fmt.Errorf("stray argument %s; want %s", settings.Quote(got[len(wanted)]), c.Command.UsageText)
	case len(got) < len(wanted) && !strings.HasPrefix(wanted[len(got)], "["):
		return fmt.Errorf("%s is missing; want %s", wanted[len(got)], c.Command.UsageText)
	}
	return a.checkFlags()
}

// checkSubcommand holds the word after a command of commands to their names.
func (a *app) checkSubcommand(c *cli.Context) error {
	known := c.Command.Subcommands
	if c.Command.Command(c.Args().First()) != nil {
		return nil
	}
	if err := obey(c, false, c.Bool("version")); err != nil {
		return err
	}
	if !c.Args().Present() {
		return fmt.Errorf("the command of %s is missing; want one of %s", c.Command.Name, names(known))
	}
	words, err := a.words(c)
	if err != nil {
		return err
	}
	return fmt.Errorf("%s is not a command of %s; %s", settings.Quote(words[0]), c.Command.Name, wanted(words[0], known))
}

// wanted says which of known commands a word that is none of them was meant to be.
func wanted(word string, known []*cli.Command) string {
	if near := settings.Nearest(word, strings.Split(names(known), ", ")); near != "" {
		return "did you mean " + near + "?"
	}
	return "want one of " + names(known)
}

// runProxy runs the proxy until a signal ends it. Words that name no command end up here too.
func (a *app) runProxy(c *cli.Context) error {
	words, err := a.words(c)
	if err != nil {
		return err
	}
	if len(words) > 0 {
		return fmt.Errorf("%s is not a command; %s", settings.Quote(words[0]), wanted(words[0], c.App.Commands))
	}
	return a.serve(a.load)
}

// check loads what runProxy would, and opens no port.
func (a *app) check(c *cli.Context) error {
	s, store, err := a.loadStore()
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := guard.New(s.Guard, guard.Hooks{}); err != nil {
		return s.Locate(err)
	}
	for i, l := range s.Proxy.Listeners {
		if l.Type != listen.HTTPS {
			continue
		}
		if _, err := store.ServerConfig(l.CertFile, l.KeyFile, l.ClientCAFile); err != nil {
			return s.Locate(fmt.Errorf("listeners[%d].%w", i, err))
		}
	}
	for _, log := range []struct{ key, file string }{
		{"accessLog.file", s.Proxy.AccessLog.File},
		{"proxyLog.file", s.Log.File},
	} {
		if err := checkAppendable(log.file); err != nil {
			return s.Locate(fmt.Errorf("%s: %s: %w; want a file that can be appended to", log.key, settings.Quote(log.file), err))
		}
	}
	for _, warning := range s.Warnings() {
		a.warn(warning)
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

// clientsToken prints what a client shows, and what clients.tokens has of it. It needs no configuration.
func (a *app) clientsToken(c *cli.Context) error {
	name := c.Args().First()
	token, hash := policy.NewToken()
	_, err := policy.New(policy.Config{Clients: []policy.ClientConfig{{Name: name, Tokens: []string{hash}}}}, nil, time.Now())
	if wrong := (*policy.ConfigError)(nil); errors.As(err, &wrong) {
		return fmt.Errorf("NAME: %s: %s; want %s", settings.Quote(name), wrong.Problem, wrong.Want)
	}
	fmt.Fprintf(a.stdout, "%s\n%s\n", token, hash)
	return nil
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
