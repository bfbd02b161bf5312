// Command whsentry is an HTTP forward proxy for webhooks: it connects to what its clients name, but never to what
// lies inside the network that it runs in.
//
// This package is the command line and the settings. main.go takes the words of the command line apart; commands.go and
// ca.go have what they can ask for. service.go starts, reloads and stops the parts: the guard (which addresses may be
// connected to), ca (whom we trust and who we are) and the proxy itself, each of which has a package comment that is its
// manual; logfile.go is where the application log goes, and notify.go what a service manager is told. settings.go has the
// table of all settings and values.go how they are written; load.go fills them in, the configuration file's by way of
// configfile.go. completion.go, man.go and inforce.go write the same table for shells, man and the status page.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"whsentry/proxy"
)

// The exit codes.
const (
	exitOK         = 0
	exitFailed     = 1 // bad settings, a bad command line, or what was asked for could not be done; ca check: not trusted
	exitRefused    = 3 // explain, ca check: the proxy would refuse the URL
	exitUnresolved = 4 // explain: the URL's name does not resolve
)

func main() {
	a := &app{
		getenv: os.Getenv,
		stdout: os.Stdout,
		stderr: os.Stderr,
		notify: func(c chan<- os.Signal) {
			// A reader of our output that goes away must not take the proxy with it.
			signal.Ignore(syscall.SIGPIPE)
			signal.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		},
		sockets: proxy.TakeSockets,
	}
	os.Exit(a.run(os.Args[1:]))
}

// app is what the program has of the process that it runs in. Tests have their own.
type app struct {
	getenv         func(string) string
	stdout, stderr io.Writer
	notify         func(chan<- os.Signal)         // sends on the signals that the proxy obeys
	sockets        func() (*proxy.Sockets, error) // what the process was started with; nil: none
}

// run does what the command line says and returns the exit code. It is the one place where an error is printed.
func (a *app) run(args []string) int {
	words, err := flagsFirst(args)
	if err == nil {
		err = a.parser().Run(words)
	}
	var verdict cli.ExitCoder
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &verdict):
		return verdict.ExitCode() // which was no error, and has been printed
	}
	fmt.Fprintf(a.stderr, "whsentry: error: %s\n", printable(err.Error()))
	return exitFailed
}

// warn prints what is wrong but stops nothing.
func (a *app) warn(err error) {
	fmt.Fprintf(a.stderr, "whsentry: warning: %s\n", printable(err.Error()))
}

// parser returns what dispatches the words that flagsFirst has put in order. Flags belong to no command: all are the
// parser's own, from the table. It prints no errors, for run does, ends no process, and reads no environment: to it an
// empty variable is a setting. What prints the help and the version it has once for the whole process.
func (a *app) parser() *cli.App {
	parser := &cli.App{
		Name:            "whsentry",
		Version:         version,
		Commands:        a.commands(),
		Action:          a.runProxy,
		HideHelpCommand: true,
		Writer:          a.stdout,
		ErrWriter:       a.stderr,
		OnUsageError:    func(_ *cli.Context, err error, _ bool) error { return err },
		ExitErrHandler:  func(*cli.Context, error) {},
		CommandNotFound: func(c *cli.Context, _ string) { cli.ShowAppHelp(c) }, // --help beside what is no command
	}
	for _, st := range flags() {
		if !slices.Contains(parserFlags, st.flag()) {
			parser.Flags = append(parser.Flags, &cli.GenericFlag{Name: kebab(st.key), Value: &given{boolean: st.boolean()}})
		}
	}
	cli.HelpPrinter = func(w io.Writer, _ string, _ any) { printHelp(w, parser.Commands) }
	cli.VersionPrinter = func(c *cli.Context) {
		fmt.Fprintf(c.App.Writer, "%s %s (commit %s, %s)\n", c.App.Name, c.App.Version, buildCommit(), runtime.Version())
	}
	return parser
}

// given is a flag.Value: what the command line gives for one flag, in order. What the texts mean is left to load.
type given struct {
	texts   []string
	boolean bool
}

func (g *given) Set(text string) error { g.texts = append(g.texts, text); return nil }
func (g *given) String() string        { return strings.Join(g.texts, ",") }

// IsBoolFlag reports whether the flag needs no value, which is "true" then.
func (g *given) IsBoolFlag() bool { return g.boolean }

// load returns the settings that the command line, the environment and the file make. A reload calls it again.
func (a *app) load(c *cli.Context) (*settings, error) {
	src := sources{flags: make(map[string][]string), getenv: a.getenv}
	for _, st := range flags() {
		if value, ok := c.Generic(kebab(st.key)).(*given); ok {
			src.flags[st.flag()] = value.texts
		}
	}
	if files := src.flags[configFlag]; len(files) > 0 {
		if src.configFile = files[len(files)-1]; src.configFile == "" {
			return nil, errors.New(configFlag + `: "": no name; want the name of a file`)
		}
	}
	return src.load()
}

// configFlag names the configuration file.
const configFlag = "--config"

// parserFlags are the flags that the parser brings itself, and that take no value.
var parserFlags = []string{"--version", "--help"}

// flags returns all flags, in the order of the help. The first are of no setting.
func flags() []*setting {
	all := []*setting{
		{key: "config", placeholder: "FILE", want: "the name of a file",
			help: "YAML file with settings; default config.yaml in the working directory where there is one; " + configVariable},
		{key: "version", help: "print version, commit and Go version"},
		{key: "help", help: "print this; -h does too"},
	}
	for i := range table {
		if !table[i].structure {
			all = append(all, &table[i])
		}
	}
	return all
}

// findFlag returns the flag of that name, nil for none.
func findFlag(name string) *setting {
	if name == "-h" {
		name = "--help"
	}
	all := flags()
	i := slices.IndexFunc(all, func(st *setting) bool { return st.flag() == name })
	if i < 0 {
		return nil
	}
	return all[i]
}

// flagsFirst puts the program's name, the flags with their values, a -- and all other words in this order, so that
// flags may stand anywhere. The parser itself takes them only before the first other word, knows a flag by one hyphen
// too, and takes the next flag for the value of one that lacks its own.
func flagsFirst(args []string) ([]string, error) {
	first := []string{"whsentry"}
	var words []string
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		if word == "--" {
			words = append(words, args...)
			break
		}
		if !strings.HasPrefix(word, "-") || word == "-" {
			words = append(words, word)
			continue
		}
		name, value, hasValue := strings.Cut(word, "=")
		st := findFlag(name)
		switch {
		case st == nil:
			return nil, unknownFlag(name)
		case hasValue && slices.Contains(parserFlags, st.flag()):
			return nil, fmt.Errorf("%s: %s: a value; want none", name, quote(value))
		case hasValue:
			first = append(first, word)
		case st.boolean():
			first = append(first, st.flag())
		case len(args) == 0 || strings.HasPrefix(args[0], "--"):
			return nil, fmt.Errorf("%s: no value; want %s", name, st.want)
		default:
			first = append(first, name+"="+args[0])
			args = args[1:]
		}
	}
	return slices.Concat(first, []string{"--"}, words), nil
}

func unknownFlag(name string) error {
	var known []string
	for _, st := range flags() {
		known = append(known, st.flag())
	}
	for i := range table {
		if st := &table[i]; st.structure && name == st.flag() {
			return fmt.Errorf("%s: not a flag; want %s in a configuration file", name, st.key)
		}
	}
	if near := nearest(name, known); near != "" {
		return fmt.Errorf("%s: unknown flag; did you mean %s?", quote(name), near)
	}
	return fmt.Errorf("%s: unknown flag; want one that whsentry --help lists", quote(name))
}
