package settings

import (
	"fmt"
	"slices"
	"time"

	"whsentry/ca"
	"whsentry/policy"
	"whsentry/proxy/listen"
)

// settlePolicy tells the policy, and the trust store, what the keys of the other have for them.
func (s *Settings) settlePolicy() {
	p := &s.Policy
	p.Aliases = make(map[string][]string)
	for alias := range s.CA.ClientCerts {
		p.Aliases[alias] = s.CA.ClientCertHosts[alias]
	}
	if s.CA.ClientCert.CertFile != "" {
		p.Aliases[policy.DefaultAlias] = nil
	}
	p.EgressAddresses = s.Guard.EgressAddresses
	p.ClientCertificates = slices.ContainsFunc(s.Proxy.Listeners, func(l listen.Config) bool { return l.ClientCAFile != "" })
	s.CA.Destinations = nil
	for _, d := range p.Destinations {
		s.CA.Destinations = append(s.CA.Destinations, ca.RulesConfig{CAFile: d.CAFile, Pins: d.Pins,
			MinVersion: d.TLS.MinVersion, LegacyCiphers: d.TLS.LegacyCiphers, Renegotiation: d.TLS.Renegotiation})
	}
}

// validatePolicy compiles the rules, which finds what is wrong with them.
func (s *Settings) validatePolicy() error {
	if d := s.Policy.Breaker.OpenFor; d <= 0 || d > longestOpen {
		return wrongSetting("breaker.openFor", printDuration(d), "not above 0 and at most 10m", durations.want)
	}
	_, err := policy.New(s.Policy, nil, time.Now())
	return err
}

// wrongSetting is a package's error, for Locate.
func wrongSetting(key, text, problem, want string) error {
	return fmt.Errorf("%s: %s: %s; want %s", key, Quote(text), problem, want)
}

// Warnings are what is wrong but stops nothing: rules that can never apply.
func (s *Settings) Warnings() []error {
	p, err := policy.New(s.Policy, nil, time.Now())
	if err != nil {
		return []error{s.Locate(err)}
	}
	var warnings []error
	for _, w := range p.Warnings() {
		warnings = append(warnings, s.Locate(w))
	}
	return warnings
}
