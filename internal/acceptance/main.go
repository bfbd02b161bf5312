//go:build linux

// Command acceptance tries a built whsentry from the outside, with real clients, destinations, name servers and
// signals, and holds what it sees against what users are promised. It is run by the scripts in .ci, which say
// what each subcommand covers. Everything stays on loopback, or inside the network namespaces of the script.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// options are what the scripts pass to every subcommand.
type options struct {
	whsentry string        // path of the binary to try
	scratch  string        // an existing directory that the script removes afterwards
	node     string        // a directory with node_modules of the Node clients; "": leave them out
	control  string        // path of the far side's control socket
	requests int           // how many requests the load sends
	duration time.Duration // how long the soak lasts

	near, far, device string        // the network namespaces at the ends of the wire, and its devices' name
	delay             time.Duration // how long a packet takes over it
}

func main() {
	subcommands := map[string]func(context.Context, options) *report{
		"clients": clients, "crowd": crowd, "deliveries": deliveries, "far": far, "isolation": isolation, "near": near, "load": load, "resources": resources, "scaling": scaling, "signals": signals, "soak": soak, "tls": tlsChecks,
		"upgrade": upgrade, "wire": wire,
	}
	name := ""
	if len(os.Args) > 1 {
		name = os.Args[1]
	}
	run, known := subcommands[name]
	if !known {
		fmt.Fprintf(os.Stderr, "accept: %q is no subcommand; want clients, crowd, deliveries, far, isolation, near, load, resources, scaling, signals, soak, tls, upgrade or wire\n", name)
		os.Exit(2)
	}
	var o options
	flags := flag.NewFlagSet(name, flag.ExitOnError)
	flags.StringVar(&o.whsentry, "whsentry", "", "path of the binary to try")
	flags.StringVar(&o.scratch, "scratch", "", "directory for files")
	flags.StringVar(&o.node, "node", "", "directory with node_modules")
	flags.StringVar(&o.control, "control", "", "path of the control socket")
	flags.IntVar(&o.requests, "requests", 100_000, "requests of the load")
	flags.DurationVar(&o.duration, "duration", 10*time.Minute, "how long the soak lasts")
	flags.StringVar(&o.near, "near", "", "network namespace at one end of the wire")
	flags.StringVar(&o.far, "far", "", "network namespace at its other end")
	flags.StringVar(&o.device, "device", "", "name of the wire's devices")
	flags.DurationVar(&o.delay, "delay", time.Millisecond, "how long a packet takes over the wire")
	limit := flags.Duration("limit", 5*time.Minute, "how long the whole may take")
	flags.Parse(os.Args[2:])

	ctx, cancel := context.WithTimeout(context.Background(), *limit)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	time.AfterFunc(*limit+10*time.Second, func() {
		fmt.Printf("FAIL %s: it did not end within %v\n", name, *limit)
		os.Exit(1)
	})
	if r := run(ctx, o); r != nil {
		os.Exit(r.finish())
	}
}
