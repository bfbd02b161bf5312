// Command whsentry is an HTTP forward proxy for webhooks: it connects to what its clients name, but never to what
// lies inside the network that it runs in.
//
// This package is the command line and the settings. main.go starts and stops the parts: the guard (which addresses
// may be connected to), ca (whom we trust and who we are) and the proxy itself, each of which has a package comment
// that is its manual. settings.go has the table of all settings; load.go fills them in.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
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
	}
	os.Exit(a.run(os.Args[1:]))
}

// app is what the program has of the process that it runs in. Tests have their own.
type app struct {
	getenv         func(string) string
	stdout, stderr io.Writer
	notify         func(chan<- os.Signal) // sends on the signals that the proxy obeys
}

// run does what the command line says and returns the exit code. It is the one place where an error is printed.
func (a *app) run(args []string) int {
	c, err := parseCommandLine(args)
	code := exitFailed
	switch {
	case err != nil:
	case c.help:
		printHelp(a.stdout)
		return exitOK
	case c.version:
		printVersion(a.stdout, runtime.Version())
		return exitOK
	default:
		code, err = c.command.run(a, c)
	}
	if err != nil {
		fmt.Fprintf(a.stderr, "whsentry: error: %s\n", printable(err.Error()))
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		fmt.Fprintln(a.stderr, "whsentry: hint: --listener-address and --metrics-address choose other addresses")
	}
	return code
}

// warn prints what is wrong but stops nothing.
func (a *app) warn(err error) {
	fmt.Fprintf(a.stderr, "whsentry: warning: %s\n", printable(err.Error()))
}
