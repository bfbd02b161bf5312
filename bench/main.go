// Command bench load-tests HTTP forward proxies as whole programs.
//
// Without --proxy it is a suite: it builds whsentry, starts origins of its own, drives load through whsentry and through
// the other proxies that are installed, one after another in interleaved rounds, and reports what each cost. With --proxy
// it sends load through one that runs already, and starts nothing.
//
// The suite is suite.go, with scenario.go (what is measured), peer.go (who is measured, from peers.yaml) and result.go
// (what came of it, and what had to). It stands on four parts that know nothing of it. process.go starts, pins and stops
// a program, and says what it has used. origin.go is what requests end at. load.go drives requests in a closed loop,
// openloop.go at a fixed rate, tunnelload.go tunnels, idle.go connections that rest; all of them speak through client.go
// and wire.go. deployment.go is --proxy, compare.go is --compare.
//
// counts.go, with strace.go, is what CI holds changes to: what one request takes that a busy machine does not change.
//
// It measures and does not judge right from wrong: an answer has to be whole and a success, but is not compared.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
)

// The exit codes.
const (
	exitOK          = 0
	exitFailed      = 1   // a bad command line, something could not be done, or every request failed
	exitInterrupted = 130 // by SIGINT or SIGTERM; what was measured up to then has been printed
)

// What a load on a running deployment is limited to unless other limits are given.
const (
	defaultTime        = 10 * time.Second
	defaultCount       = 1_000_000
	defaultMaxRate     = 20_000
	defaultConnections = 64
	maxConnections     = 60_000
	maxBodySize        = 1 << 30
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends things in order, a second one at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
}

// run does what the command line says and returns the exit code. It is the one place where an error is printed.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := parser(stdout, stderr).RunContext(ctx, args)
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil:
		if errors.Is(err, context.Canceled) {
			err = errors.New("interrupted")
		}
		fmt.Fprintf(stderr, "bench: %s\n", err)
		return exitInterrupted
	}
	fmt.Fprintf(stderr, "bench: error: %s\n", err)
	return exitFailed
}

// examples stand first in the help.
const examples = `Examples:
  go run ./bench                                  the whole suite, ten minutes; report.html and report.json in the working directory
  go run ./bench --short --peers none             whsentry alone, in less than a minute
  go run ./bench --scenarios post,close --rounds 5
  go run ./bench --compare old.json               and how it differs from that report
  go run ./bench --counts bench/counts.yaml       what does not depend on the machine's speed, against the figures in that file
  go run ./bench --list                           scenarios, peers, and which of them are installed
  go run ./bench --proxy http://127.0.0.1:9090 --target http://example.test/hook --body-size 1024
  go run ./bench --proxy http://127.0.0.1:9090 --target http://example.test/hook --rate 500 --time 1m
`

// helpTemplate is for a parser with flagGroups in its Metadata.
const helpTemplate = `{{.Usage}}

` + examples + `{{range .Metadata.groups}}
{{.Title}}:
{{range .Flags}}  {{.}}
{{end}}{{end}}
With --proxy an answer has failed where its status is 500 or more, or where the proxy made it itself (X-WhSentry-Reason).
The exit code is 1 where every request failed or something else went wrong, and 130 after Ctrl-C.
`

// flagGroup is flags that belong together, with a title for the help.
type flagGroup struct {
	Title string
	Flags []cli.Flag
}

// parser returns what takes the command line apart. It prints no errors, for run does, and ends no process.
func parser(stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:                      "bench",
		Usage:                     "Load-tests whsentry and other HTTP forward proxies side by side, or one proxy that runs already (--proxy).",
		CustomAppHelpTemplate:     helpTemplate,
		HideHelpCommand:           true,
		HideVersion:               true,
		DisableSliceFlagSeparator: true, // URLs and header values have commas
		Flags:                     append(suiteFlags(), deploymentFlags()...),
		Metadata: map[string]any{"groups": []flagGroup{
			{"The suite", suiteFlags()},
			{"A proxy that runs already: how much a closed loop gets through, or how long it takes at a fixed rate", deploymentFlags()},
		}},
		Writer:         stdout,
		ErrWriter:      stderr,
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return err },
		ExitErrHandler: func(*cli.Context, error) {},
		Action:         dispatch,
	}
}

func suiteFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "short", DisableDefaultText: true, Usage: "whsentry and haproxy, one round of small counts; too short to judge times by"},
		&cli.IntFlag{Name: "rounds", Usage: "measure everything `N` times, interleaved", DefaultText: "3; 1 with --short"},
		&cli.DurationFlag{Name: "duration", Usage: "`TIME` of each measurement", DefaultText: "what suits the scenario"},
		&cli.StringFlag{Name: "scenarios", Usage: "only those with these `IDS`, comma-separated", DefaultText: "all"},
		&cli.StringFlag{Name: "peers", Usage: "beside whsentry only those with these `NAMES`, comma-separated, or none", DefaultText: "all that are installed"},
		&cli.StringFlag{Name: "peers-file", Usage: "YAML `FILE` with more proxies: name, command, extra header"},
		&cli.StringFlag{Name: "binary", Usage: "a whsentry that is built already, the program `FILE`", DefaultText: "built from the checkout"},
		&cli.StringFlag{Name: "out", Value: ".", Usage: "`FOLDER` for report.html and report.json"},
		&cli.StringFlag{Name: "compare", Usage: "print how the run differs from that of another report.json, `FILE`"},
		&cli.StringFlag{Name: "report", Usage: "with --compare: compare the report.json `FILE`, and run nothing"},
		&cli.StringFlag{Name: "counts", Usage: "no suite: count allocations, system calls and bytes held a request, and fail where they are over those in `FILE`; it is written where there is none"},
		&cli.BoolFlag{Name: "list", DisableDefaultText: true, Usage: "print scenarios and peers, run nothing"},
	}
}

// dispatch runs the suite, or the load on a deployment.
func dispatch(c *cli.Context) error {
	if c.Args().Present() {
		return fmt.Errorf("%q: want flags only (--help lists them)", c.Args().First())
	}
	if c.IsSet("proxy") {
		if err := refuse(c, suiteFlags(), "is of the suite; want it without --proxy"); err != nil {
			return err
		}
		return testDeployment(c)
	}
	if err := refuse(c, deploymentFlags(), "is for a proxy that runs already; want --proxy with it"); err != nil {
		return err
	}
	o := suiteOptions{
		scenarios: commaList(c.String("scenarios")), peers: commaList(c.String("peers")), peersFile: c.String("peers-file"),
		out: c.String("out"), binary: c.String("binary"), short: c.Bool("short"), rounds: c.Int("rounds"),
		compare: c.String("compare"), report: c.String("report"), counts: c.String("counts"), duration: c.Duration("duration"), list: c.Bool("list"), stdout: c.App.Writer, stderr: c.App.ErrWriter,
	}
	if o.rounds < 0 || o.rounds > maxRounds {
		return fmt.Errorf("--rounds: %d; want from 1 to %d", o.rounds, maxRounds)
	}
	if o.duration < 0 {
		return fmt.Errorf("--duration: %s; want one over 0", o.duration)
	}
	if o.counts != "" {
		return runCounts(c.Context, o)
	}
	return runSuite(c.Context, o)
}

// maxRounds is how often a run of the suite may repeat itself.
const maxRounds = 100

// refuse returns an error for the first of flags that is set: what it says of that.
func refuse(c *cli.Context, flags []cli.Flag, says string) error {
	for _, flag := range flags {
		if name := flag.Names()[0]; c.IsSet(name) {
			return fmt.Errorf("--%s %s", name, says)
		}
	}
	return nil
}

// commaList takes a comma-separated list apart. Empty items are none.
func commaList(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}
