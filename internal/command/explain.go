package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"whsentry/guard"
	"whsentry/internal/settings"
	"whsentry/policy"
	"whsentry/proxy/destination"
)

// explain judges a URL in the order of the proxy's refusals: the URL itself, its port, its name, its addresses.
func (a *app) explain(c *cli.Context) error {
	s, err := a.load()
	if err != nil {
		return err
	}
	j, err := newJudging(s)
	if err != nil {
		return err
	}
	if j.client, err = a.explainedClient(j.policy); err != nil {
		return err
	}
	dest, err := destination.ParseURL(c.Args().First())
	if err != nil {
		return a.conclude(err, exitUnresolved)
	}
	if err := j.guard.CheckPort(dest.Port); err != nil {
		return a.conclude(err, exitUnresolved)
	}
	if err := a.explainRules(j, dest); err != nil {
		return err
	}
	return a.explainAddresses(j, dest)
}

// explainAddresses resolves the destination and judges each of its addresses.
func (a *app) explainAddresses(j *judging, dest destination.URL) error {
	ctx, cancel := context.WithTimeout(context.Background(), j.connectTimeout())
	defer cancel()
	dialer := j.dialer()
	addrs, err := dialer.Resolve(ctx, dest.Host)
	if err != nil {
		return a.conclude(err, exitUnresolved)
	}
	allowed := 0
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, addr := range addrs {
		verdict, word := dialer.Verdict(addr, dest.Port), "refused"
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

// explainedClient returns whom a URL is judged for: the client that --client names, else somebody without rules.
func (a *app) explainedClient(rules *policy.Policy) (*policy.Client, error) {
	if !a.client.IsSet() {
		if rules.HasClients() {
			fmt.Fprintln(a.stdout, "no --client: judged as if there were no clients")
		}
		return policy.Anybody(), nil
	}
	name := settings.Quote(a.client.texts[len(a.client.texts)-1])
	if !rules.HasClients() {
		return nil, fmt.Errorf("--client: %s: clients is not set; want the settings that have it, or no --client", name)
	}
	client := rules.Client(a.client.texts[len(a.client.texts)-1])
	if client == nil {
		return nil, fmt.Errorf("--client: %s: no such client; want one of %s", name, strings.Join(rules.Clients(), ", "))
	}
	return client, nil
}

// explainRules says which entry of destinations applies, and where the client may not send to the destination.
func (a *app) explainRules(j *judging, dest destination.URL) error {
	if err := j.apply(dest); err != nil {
		return err
	}
	if j.entry != nil {
		fmt.Fprintf(a.stdout, "%s applies\n", j.entryName())
	}
	host := ruleHost(dest)
	verdict := j.client.Judge(host, dest.Port)
	text := settings.Printable(fmt.Sprintf("client %s may not send to %s, port %d (reason 1019, status 403)", j.client.Name, dest.Host, dest.Port))
	switch verdict {
	case policy.WouldDeny:
		fmt.Fprintln(a.stdout, "would be refused but for mode: report: "+text)
	case policy.Denied:
		fmt.Fprintln(a.stdout, "refused: "+text)
		return cli.Exit("", exitRefused)
	}
	if _, verdict := j.policy.Alias(j.client, j.entry, host, ""); dest.TLS && verdict == policy.AliasNotHere {
		fmt.Fprintf(a.stdout, "refused: the client certificate of %s is not for this host (reason 1010, status 403)\n", j.entryName())
		return cli.Exit("", exitRefused)
	}
	return nil
}

// conclude prints why the proxy would have no connection to a destination, and returns the exit code: exitRefused,
// unresolved where its name does not resolve, else exitFailed. An error that is no such reason is returned as it is.
func (a *app) conclude(err error, unresolved int) error {
	var (
		target  *destination.URLError
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
	fmt.Fprintln(a.stdout, settings.Printable(verdict))
	return cli.Exit("", code)
}
