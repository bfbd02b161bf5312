package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"
)

func deploymentFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "proxy", Usage: "its `URL`, http://host:port or https://host:port"},
		&cli.StringFlag{Name: "proxy-ca", Usage: "PEM `FILE` with the CA of an https proxy", DefaultText: "the system's"},
		&cli.StringSliceFlag{Name: "target", Usage: "`URL` to ask for; may be given several times, they are taken in turn"},
		&cli.BoolFlag{Name: "tls", DisableDefaultText: true, Usage: "have the proxy start TLS to the target (X-WhSentry-TLS: true)"},
		&cli.StringFlag{Name: "method", Usage: "`METHOD` of the requests", DefaultText: "GET, or POST with --body-size"},
		&cli.IntFlag{Name: "body-size", Usage: "`BYTES` of the requests' bodies", DefaultText: "no body"},
		&cli.StringSliceFlag{Name: "header", Usage: "further \"`NAME: VALUE`\" of the requests; may be given several times"},
		&cli.IntFlag{Name: "connections", Value: defaultConnections, Usage: "`N` connections to the proxy"},
		&cli.Float64Flag{Name: "rate", Usage: "open loop: `N` requests a second, each timed from when it was due", DefaultText: "closed loop: the next follows the answer"},
		&cli.Float64Flag{Name: "max-rate", Value: defaultMaxRate, Usage: "never over `N` requests a second"},
		&cli.Int64Flag{Name: "count", Value: defaultCount, Usage: "never over `N` requests"},
		&cli.DurationFlag{Name: "time", Value: defaultTime, Usage: "never longer than `TIME`"},
		&cli.DurationFlag{Name: "timeout", Value: defaultTimeout, Usage: "`TIME` for one answer"},
	}
}

// testDeployment sends load through the proxy that --proxy names and prints what came of it.
func testDeployment(c *cli.Context) error {
	l, address, err := deploymentLoad(c)
	if err != nil {
		return err
	}
	raiseOpenFiles()
	var done atomic.Int64
	l.done = &done
	show := newProgress(c.App.ErrWriter)
	show.step(describe(&l, address), l.duration, &done)
	o, err := l.run(c.Context, address)
	show.close()
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	fmt.Fprintln(c.App.Writer, describe(&l, address))
	printOutcome(c.App.Writer, o)
	if err == nil && o.requests == 0 {
		return fmt.Errorf("every request failed: %s", o.firstError)
	}
	return err
}

// deploymentLoad returns the load that the flags describe, and the proxy's host:port.
func deploymentLoad(c *cli.Context) (load, string, error) {
	l := load{
		targets: c.StringSlice("target"), header: c.StringSlice("header"), method: c.String("method"),
		connections: c.Int("connections"), rate: c.Float64("rate"), maxRate: c.Float64("max-rate"),
		count: c.Int64("count"), duration: c.Duration("time"), timeout: c.Duration("timeout"), anyStatus: true,
		cold: true, // what warms up would come on top of --count
	}
	if len(l.targets) == 0 {
		return l, "", errors.New("--target: none; want the URL to ask the proxy for")
	}
	if c.Bool("tls") {
		l.header = append(l.header, "X-WhSentry-TLS: true")
	}
	if size := c.Int("body-size"); size < 0 || size > maxBodySize {
		return l, "", fmt.Errorf("--body-size: %d; want from 0 to %d", size, maxBodySize)
	} else if c.IsSet("body-size") {
		l.body = make([]byte, size)
	}
	if err := checkCeilings(&l); err != nil {
		return l, "", err
	}
	if l.rate > 0 {
		l.maxRate = 0 // it is below, and needs no pacing of its own
	}
	address, secure, err := proxyAddress(c.String("proxy"))
	if err != nil {
		return l, "", err
	}
	l.proxyTLS, err = proxyTLS(address, secure, c.String("proxy-ca"))
	return l, address, err
}

// checkCeilings checks what bounds the load.
func checkCeilings(l *load) error {
	switch {
	case l.connections < 1 || l.connections > maxConnections:
		return fmt.Errorf("--connections: %d; want from 1 to %d", l.connections, maxConnections)
	case !(l.maxRate > 0) || l.maxRate > 1e9:
		return fmt.Errorf("--max-rate: %g; want one over 0", l.maxRate)
	case !(l.rate >= 0):
		return fmt.Errorf("--rate: %g; want one over 0", l.rate)
	case l.rate > l.maxRate:
		return fmt.Errorf("--rate: %g is over --max-rate, which is %g; want a lower rate, or a higher ceiling", l.rate, l.maxRate)
	case l.count < 1:
		return fmt.Errorf("--count: %d; want one over 0", l.count)
	case l.duration <= 0:
		return fmt.Errorf("--time: %s; want one over 0", l.duration)
	case l.timeout <= 0:
		return fmt.Errorf("--timeout: %s; want one over 0", l.timeout)
	}
	return nil
}

// proxyAddress takes a proxy's URL apart; secure says that it wants TLS.
func proxyAddress(text string) (address string, secure bool, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Path != "" && u.Path != "/" {
		return "", false, fmt.Errorf("--proxy: %q; want http://host:port or https://host:port", text)
	}
	port := u.Port()
	switch {
	case port != "":
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return "", false, fmt.Errorf("--proxy: port %q; want from 1 to 65535", port)
		}
	case u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port), u.Scheme == "https", nil
}

// proxyTLS returns how to speak TLS to a proxy; nil where it wants none.
func proxyTLS(address string, secure bool, caFile string) (*tls.Config, error) {
	if !secure {
		if caFile != "" {
			return nil, errors.New("--proxy-ca: the proxy speaks no TLS; want an https:// URL with it")
		}
		return nil, nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{ServerName: host, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return config, nil
	}
	text, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("--proxy-ca: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--proxy-ca: %s: no certificate in it; want PEM", caFile)
	}
	return config, nil
}

// describe says in a line what is sent.
func describe(l *load, address string) string {
	target := l.targets[0]
	if more := len(l.targets) - 1; more > 0 {
		target += fmt.Sprintf(" and %d more", more)
	}
	how := fmt.Sprintf("closed loop below %g/s", l.maxRate)
	if l.rate > 0 {
		how = fmt.Sprintf("open loop at %g/s", l.rate)
	}
	return fmt.Sprintf("%s %s through %s, %s, %d connections", l.verb(), target, address, how, l.connections)
}

// printOutcome prints what came of a load.
func printOutcome(w io.Writer, o outcome) {
	seconds := max(o.took, time.Millisecond).Seconds()
	fmt.Fprintf(w, "  succeeded  %d in %.1f s, %.1f/s\n", o.requests, seconds, float64(o.requests)/seconds)
	fmt.Fprintf(w, "  failed     %d", o.failed)
	if o.failed > 0 {
		fmt.Fprintf(w, ", the first: %s", o.firstError)
	}
	fmt.Fprintf(w, "\n  bodies     %.1f MiB\n", float64(o.bytes)/(1<<20))
	if o.requests == 0 {
		return
	}
	fmt.Fprint(w, "  latency  ")
	for _, at := range []float64{50, 90, 99, 99.9, 100} {
		name := fmt.Sprintf("p%g", at)
		if at == 100 {
			name = "max"
		}
		fmt.Fprintf(w, "  %s %.3f ms", name, float64(o.latency.ValueAtPercentile(at))/1e6)
	}
	fmt.Fprintln(w)
}
