package settings

import (
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
	_, err := policy.New(s.Policy, nil, time.Now())
	return err
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
