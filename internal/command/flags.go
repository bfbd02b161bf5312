package command

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"whsentry/internal/settings"
)

// settingFlag is a setting as a flag of the command line. All commands share it, so that it may stand anywhere; what its
// texts mean is left to the settings.
type settingFlag struct {
	*settings.Setting
	texts []string // in order
	plain bool     // it is no setting, but a flag of one command: it has neither variable nor default
}

func settingFlags() []*settingFlag {
	var all []*settingFlag
	for _, st := range settings.Flags() {
		all = append(all, &settingFlag{Setting: st})
	}
	return all
}

// clientFlag returns the flag of explain that names a client.
func clientFlag() *settingFlag {
	return &settingFlag{plain: true, Setting: &settings.Setting{Key: "client", Placeholder: "NAME", Want: "the name of an entry of clients",
		Help: "judge as for this client; without it as if there were no clients"}}
}

// cliFlags returns the flags of a command.
func (a *app) cliFlags() []cli.Flag {
	all := make([]cli.Flag, 0, len(a.flags)+2)
	for _, f := range a.flags {
		all = append(all, f)
	}
	return append(all, cli.HelpFlag, cli.VersionFlag)
}

// What flag.Value is to have. String is below.

func (f *settingFlag) Set(text string) error { f.texts = append(f.texts, text); return nil }
func (f *settingFlag) IsBoolFlag() bool      { return f.Boolean() }

// What urfave/cli asks a flag for.

func (f *settingFlag) Apply(set *flag.FlagSet) error { set.Var(f, f.Names()[0], f.Help); return nil }
func (f *settingFlag) Names() []string               { return []string{strings.TrimPrefix(f.Flag(), "--")} }
func (f *settingFlag) IsSet() bool                   { return len(f.texts) > 0 }
func (f *settingFlag) IsVisible() bool               { return true }
func (f *settingFlag) TakesValue() bool              { return !f.Boolean() }
func (f *settingFlag) GetValue() string              { return "" }
func (f *settingFlag) GetDefaultText() string        { return f.DefaultText() }
func (f *settingFlag) GetEnvVars() []string          { return []string{f.Variable()} }

// GetUsage is what manual page and completion say of the flag.
func (f *settingFlag) GetUsage() string {
	if f.plain {
		return f.Help
	}
	return f.Help + "; " + f.Variable()
}

// String is what the help says of the flag: its name on a line of its own, lest sixty of them share one column.
func (f *settingFlag) String() string {
	name := strings.TrimSpace(f.Flag()+" "+f.Placeholder) + "\n"
	if f.plain {
		return name + f.Help
	}
	return name + fmt.Sprintf("%s (default: %s) [$%s]", f.Help, f.DefaultText(), f.Variable())
}

// checkFlags finds a flag that was taken for the value of the one before it.
func (a *app) checkFlags() error {
	known := flagNames()
	for _, f := range append([]*settingFlag{a.client}, a.flags...) {
		for _, text := range f.texts {
			if name, _, _ := strings.Cut(text, "="); slices.Contains(known, name) {
				return noValue(f.Flag(), f.Want)
			}
		}
	}
	return nil
}

// flagNames returns the flags as they are written.
func flagNames() []string {
	names := []string{"--help", "--version"}
	for _, st := range settings.Flags() {
		names = append(names, st.Flag())
	}
	return names
}

func noValue(name, want string) error { return fmt.Errorf("%s: no value; want %s", name, want) }

// words returns what stands beside the flags. urfave/cli takes flags up to the first of these words; those behind it are
// taken here. Where --help or --version is among them, it is obeyed, and the error is none to print.
func (a *app) words(c *cli.Context) (words []string, err error) {
	for rest := c.Args().Slice(); len(rest) > 0; {
		words = append(words, rest[0])
		set := flag.NewFlagSet("", flag.ContinueOnError)
		set.SetOutput(io.Discard)
		for _, f := range c.Command.Flags {
			if err := f.Apply(set); err != nil {
				return nil, err
			}
		}
		if err := set.Parse(rest[1:]); err != nil {
			return nil, a.usageError(c, err, true)
		}
		asked := func(name string) bool { return set.Lookup(name).Value.String() == "true" }
		if err := obey(c, asked("help") || asked("h"), asked("version") || asked("v")); err != nil {
			return nil, err
		}
		rest = set.Args()
	}
	return words, a.checkFlags()
}

// obey prints what was asked for in place of anything else. Then it returns an error that ends the program with code 0.
func obey(c *cli.Context, help, version bool) error {
	switch {
	case help:
		showHelp(c)
	case version:
		cli.ShowVersion(c)
	default:
		return nil
	}
	return cli.Exit("", exitOK)
}

// showHelp prints the help of a command, or of the program.
func showHelp(c *cli.Context) {
	if c.Command.Name == c.App.Name {
		cli.ShowAppHelp(c)
		return
	}
	cli.ShowSubcommandHelp(c)
}

// usageError says in one line what package flag finds wrong with the command line, which has no types for it. It obeys
// --help and --version all the same.
func (a *app) usageError(c *cli.Context, err error, _ bool) error {
	help, version := askedFor(a.args)
	if asked := obey(c, help, version); asked != nil {
		return asked
	}
	text := err.Error()
	if name, found := strings.CutPrefix(text, "flag provided but not defined: -"); found {
		return unknownFlag("--" + name)
	}
	if name, found := strings.CutPrefix(text, "flag needs an argument: -"); found {
		for _, known := range c.Command.Flags {
			if f, ok := known.(*settingFlag); ok && f.Flag() == "--"+name {
				return noValue(f.Flag(), f.Want)
			}
		}
	}
	if word, found := strings.CutPrefix(text, "bad flag syntax: "); found {
		return unknownFlag(word)
	}
	return errors.New(settings.Quote(text) + "; want what whsentry --help lists")
}

// askedFor reports whether --help and --version are among the words of a command line that cannot be taken apart.
func askedFor(args []string) (help, version bool) {
	for _, word := range args {
		switch word {
		case "--help", "-h":
			help = true
		case "--version", "-v":
			version = true
		case "--":
			return help, version
		}
	}
	return help, version
}

func unknownFlag(name string) error {
	for _, st := range settings.FileOnly() {
		if name == st.Flag() {
			return fmt.Errorf("%s: not a flag; want %s in a configuration file", name, st.Key)
		}
	}
	if near := settings.Nearest(name, flagNames()); near != "" {
		return fmt.Errorf("%s: unknown flag; did you mean %s?", settings.Quote(name), near)
	}
	return fmt.Errorf("%s: unknown flag; want one that whsentry --help lists", settings.Quote(name))
}

// fileOnly lists the keys that have no flag.
func fileOnly() string {
	var keys []string
	for _, st := range settings.FileOnly() {
		keys = append(keys, st.Key)
	}
	return strings.Join(keys, ", ")
}
