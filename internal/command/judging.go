package command

import (
	"net"
	"net/netip"
	"strconv"
	"time"

	"whsentry/guard"
	"whsentry/internal/settings"
	"whsentry/policy"
	"whsentry/proxy/destination"
)

// judging is what a destination is judged by, as the proxy would: for one client, under the entry that applies.
type judging struct {
	settings *settings.Settings
	guard    *guard.Guard
	policy   *policy.Policy
	client   *policy.Client
	entry    *policy.Destination // nil: none applies
	except   guard.Exceptions
}

// newJudging makes the guard and the policy that settings describe.
func newJudging(s *settings.Settings) (*judging, error) {
	g, err := guard.New(s.Guard, guard.Hooks{})
	if err != nil {
		return nil, s.Locate(err)
	}
	g.Protect(configuredAddresses(s))
	rules, err := policy.New(s.Policy, nil, time.Now())
	if err != nil {
		return nil, s.Locate(err)
	}
	return &judging{settings: s, guard: g, policy: rules, client: policy.Anybody()}, nil
}

// apply finds the entry of destinations that dest has, and what it and the client lift of the guard's rules.
func (j *judging) apply(dest destination.URL) (err error) {
	j.entry = j.policy.Destination(ruleHost(dest), dest.Port)
	if j.except.Client, err = guard.NewAllowList("cidrAllowList of client "+j.client.Name, j.client.AllowList); err != nil {
		return j.settings.Locate(err)
	}
	if j.entry == nil {
		return nil
	}
	if j.except.Entry, err = guard.NewAllowList(j.entryName()+".cidrAllowList", j.entry.AllowList); err != nil {
		return j.settings.Locate(err)
	}
	if j.except.Egress, err = j.guard.Egress(j.entry.Egress); err != nil {
		return j.settings.Locate(err)
	}
	return nil
}

func (j *judging) entryName() string { return "destinations[" + strconv.Itoa(j.entry.Index) + "]" }

func (j *judging) dialer() *guard.Dialer { return guard.NewDialer(j.guard).With(j.except) }

func (j *judging) connectTimeout() time.Duration {
	if j.entry != nil && j.entry.ConnectTimeout > 0 {
		return j.entry.ConnectTimeout
	}
	return j.settings.Proxy.ConnectTimeout
}

// ruleHost is the host of dest as rules are held against it.
func ruleHost(dest destination.URL) policy.Host {
	literal, _ := netip.ParseAddr(dest.Host)
	return policy.NewHost(dest.Host, literal)
}

// configuredAddresses are where a proxy with these settings listens; a port of the system's choice is not known.
func configuredAddresses(s *settings.Settings) []netip.AddrPort {
	texts := []string{s.Proxy.Metrics.Address}
	for _, l := range s.Proxy.Listeners {
		texts = append(texts, l.Address)
	}
	var addrs []netip.AddrPort
	for _, text := range texts {
		host, port, err := net.SplitHostPort(text)
		if err != nil {
			continue // metrics are off
		}
		number, _ := strconv.ParseUint(port, 10, 16)
		addr := netip.IPv6Unspecified()
		if host != "" {
			addr, err = netip.ParseAddr(host)
		}
		if err == nil && number > 0 {
			addrs = append(addrs, netip.AddrPortFrom(addr, uint16(number)))
		}
	}
	return addrs
}
