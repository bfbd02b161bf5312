// Package command is what the command line can ask for. command.go hands its words to urfave/cli, commands.go and ca.go
// have the commands, flags.go makes flags of the table of settings. service.go starts, reloads and stops the parts: the
// guard (which addresses may be connected to), ca (whom we trust and who we are) and the proxy itself, each of which has
// a package comment that is its manual; logfile.go is where the application log goes, and notify.go what a service
// manager is told.
package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/urfave/cli/v2"

	"whsentry/internal/settings"
	"whsentry/proxy/listen"
)

// The exit codes.
const (
	exitOK         = 0
	exitFailed     = 1 // bad settings, a bad command line, or what was asked for could not be done; ca check: not trusted
	exitRefused    = 3 // explain, ca check: the proxy would refuse the URL
	exitUnresolved = 4 // explain: the URL's name does not resolve
)

// Run does what the words after the program's name say, and returns the exit code. Without a command it runs the proxy
// until a signal ends it.
func Run(args []string) int {
	a := &app{
		environ: os.Environ(),
		memory:  availableMemory(),
		stdout:  os.Stdout,
		stderr:  os.Stderr,
		notify: func(c chan<- os.Signal) {
			// A reader of our output that goes away must not take the proxy with it.
			signal.Ignore(syscall.SIGPIPE)
			signal.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		},
		sockets: listen.TakeSockets,
	}
	defer startProfile()()
	return a.run(args)
}

// startProfile is replaced where the program is built to be profiled.
var startProfile = func() (stop func()) { return func() {} }

// app is what the program has of the process that it runs in. Tests have their own.
type app struct {
	environ        settings.Environ
	memory         uint64 // what the process may use, in bytes; 0: not known
	stdout, stderr io.Writer
	notify         func(chan<- os.Signal)          // sends on the signals that the proxy obeys
	sockets        func() (*listen.Sockets, error) // what the process was started with; nil: none

	args   []string       // the command line
	flags  []*settingFlag // of every command, and what was given for them
	client *settingFlag   // of explain alone
}

// run does what the command line says and returns the exit code. It is the one place where an error is printed.
func (a *app) run(args []string) int {
	a.args = args
	err := a.parser().Run(append([]string{"whsentry"}, args...))
	var verdict cli.ExitCoder
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &verdict):
		return verdict.ExitCode() // which was no error, and has been printed
	}
	fmt.Fprintf(a.stderr, "whsentry: error: %s\n", settings.Printable(err.Error()))
	return exitFailed
}

// warn prints what is wrong but stops nothing.
func (a *app) warn(err error) {
	fmt.Fprintf(a.stderr, "whsentry: warning: %s\n", settings.Printable(err.Error()))
}

const helpExamples = `whsentry [flags]                          run the proxy until SIGTERM or SIGINT
whsentry [flags] command [flags] [word]   do what a command says

Examples:
  whsentry                                  # proxy on :9090, metrics and health on :2112
  curl -x http://127.0.0.1:9090 -H 'X-WhSentry-TLS: true' http://example.com/hook -d '{}'
  whsentry explain https://example.com/hook
  whsentry ca check example.com
  whsentry check --config config.yaml
  whsentry --cidr-allow-list 10.8.0.0/16 --connect-timeout 5s`

const helpDescription = `Settings come from flags, then the environment, then the file, then defaults: the first that has one counts. A list has commas between its items, and a flag for one that is given twice adds to it. Flags may stand on either side of a command and its argument; --help and --version may stand there too.

SIGTERM and SIGINT stop the proxy: running requests finish, for up to the shutdown timeout; a second one stops at once. SIGHUP has settings, certificates and the trust store read again and the log files opened anew; what is wrong is logged, and all stays as it was.

Exit codes: 0 stopped as told, or what was asked for is so; 1 bad settings, a bad command line, or what was asked for could not be done (ca check: not trusted); 3 the proxy would refuse the URL (explain, ca check); 4 its name does not resolve (explain).

Only in the file: `

// parser returns what takes the command line apart. It prints no errors, for run does, and ends no process.
// What prints the help and the version it has once for the whole process.
func (a *app) parser() *cli.App {
	a.flags, a.client = settingFlags(), clientFlag()
	parser := &cli.App{
		Name:                 "whsentry",
		Usage:                "forwards webhooks to servers that nobody vouches for, and to nothing inside your network",
		UsageText:            helpExamples,
		Description:          helpDescription + fileOnly(),
		Version:              version,
		Commands:             a.commands(),
		Flags:                a.cliFlags(),
		Before:               func(*cli.Context) error { return a.checkFlags() },
		Action:               a.runProxy,
		HideHelpCommand:      true,
		EnableBashCompletion: true,
		BashComplete:         a.complete,
		Writer:               a.stdout,
		ErrWriter:            a.stderr,
		OnUsageError:         a.usageError,
		ExitErrHandler:       func(*cli.Context, error) {},
		CommandNotFound:      func(c *cli.Context, _ string) { showHelp(c) }, // --help beside what is no command
	}
	cli.HelpPrinter = func(w io.Writer, text string, data any) {
		cli.HelpPrinterCustom(w, text, data, map[string]any{"wrapAt": func() int { return helpWidth }})
	}
	cli.VersionPrinter = func(c *cli.Context) {
		fmt.Fprintf(c.App.Writer, "%s %s (commit %s, %s)\n", c.App.Name, c.App.Version, buildCommit(), runtime.Version())
	}
	return parser
}

// helpWidth is where lines of the help are broken, in characters.
const helpWidth = 110

// load returns the settings that the command line, the environment and the file make. A reload calls it again.
func (a *app) load() (*settings.Settings, error) {
	src := settings.Sources{Flags: make(map[string][]string), Environ: a.environ, Memory: a.memory}
	for _, f := range a.flags {
		src.Flags[f.Flag()] = f.texts
	}
	if files := src.Flags["--config"]; len(files) > 0 {
		if src.ConfigFile = files[len(files)-1]; src.ConfigFile == "" {
			return nil, errors.New(`--config: "": no name; want the name of a file`)
		}
	}
	return src.Load()
}
