package settings

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/goccy/go-yaml/ast"

	"whsentry/ca"
	"whsentry/policy"
)

// clientCerts reads each alias' files, and the hosts that it is for.
func (r *yamlReader) clientCerts(s *Settings, e entry) error {
	s.CA.ClientCerts = make(map[string]ca.KeyPairFiles)
	s.CA.ClientCertHosts = nil
	return r.eachKey(e, "aliases, each with certFile and keyFile", func(alias string, at entry) error {
		var pair ca.KeyPairFiles
		var hosts []string
		err := r.structure(at, members{
			"certFile": single(r, s, files, &pair.CertFile),
			"keyFile":  single(r, s, files, &pair.KeyFile),
			"hosts":    several(r, s, hostRules, &hosts),
		})
		s.CA.ClientCerts[alias] = pair
		if hosts != nil {
			if s.CA.ClientCertHosts == nil {
				s.CA.ClientCertHosts = make(map[string][]string)
			}
			s.CA.ClientCertHosts[alias] = hosts
		}
		return err
	})
}

// The formats of what policy.New reads itself.
var (
	hostRules  = texts("HOST", `a host name, "*." and a domain, or a prefix, as text`)
	words      = texts("TEXT", "text")
	identities = texts("TEXT", `a URI, "dns:" and a name, or "cn:" and a common name, as text`)
	versions   = format[string]{placeholder: "VERSION", want: `a version of TLS such as "1.2"`,
		forms: anyForm &^ booleanForm, parse: words.parse, print: words.print}
)

// clients reads who may send. What its rules may be is policy.New's to say.
func (r *yamlReader) clients(s *Settings, e entry) error {
	s.Policy.Clients = []policy.ClientConfig{}
	return r.eachItem(e, "a list of mappings, each with the name of a client", func(at entry) error {
		var c policy.ClientConfig
		err := r.structure(at, members{
			"name":              single(r, s, words, &c.Name),
			"tokens":            {func(e entry) error { return r.tokens(e, &c.Tokens) }, true},
			"certificates":      several(r, s, identities, &c.Certificates),
			"addresses":         several(r, s, prefixes, &c.Addresses),
			"mode":              single(r, s, words, &c.Mode),
			"allowHosts":        several(r, s, hostRules, &c.AllowHosts),
			"denyHosts":         several(r, s, hostRules, &c.DenyHosts),
			"allowPorts":        several(r, s, counts, &c.AllowPorts),
			"cidrAllowList":     several(r, s, prefixes, &c.AllowList),
			"clientCerts":       several(r, s, words, &c.ClientCerts),
			"maxConnections":    optional(r, s, counts, &c.MaxConnections),
			"requestsPerSecond": optional(r, s, counts, &c.RequestsPerSecond),
			"checkAddresses":    single(r, s, booleans, &c.CheckAddresses),
		})
		s.Policy.Clients = append(s.Policy.Clients, c)
		return err
	})
}

// tokens reads the hashes of a client's tokens. What is there is in no error: it may be a token itself.
func (r *yamlReader) tokens(e entry, into *[]string) error {
	const want = `a list, in it "sha256:" and 64 hexadecimal digits, as of "whsentry clients token NAME"`
	*into = []string{}
	list, ok := e.value.(*ast.SequenceNode)
	if !ok && !isNull(e.value) {
		return fmt.Errorf("%s: %s: %s, not a list; want %s", e.origin, e.path, describe(e.value), want)
	}
	if ok {
		for i, item := range list.Values {
			node, err := r.resolve(item)
			text, form, isText := scalarText(node)
			path, origin := fmt.Sprintf("%s[%d]", e.path, i), r.at(item, e.origin)
			switch {
			case err != nil:
				return fmt.Errorf("%s: %s: an alias or a tag that is not taken; want %s", origin, path, want)
			case !isText || form&(textForm|quotedForm) == 0:
				return fmt.Errorf("%s: %s: %s; want %s", origin, path, describe(node), want)
			}
			r.origin[path] = origin
			*into = append(*into, text)
		}
	}
	return nil
}

// destinations reads the rules for some destinations.
func (r *yamlReader) destinations(s *Settings, e entry) error {
	s.Policy.Destinations = []policy.DestinationConfig{}
	return r.eachItem(e, "a list of mappings, each with hosts", func(at entry) error {
		var d policy.DestinationConfig
		tls := members{
			"minVersion":    single(r, s, versions, &d.TLS.MinVersion),
			"legacyCiphers": single(r, s, booleans, &d.TLS.LegacyCiphers),
			"renegotiation": single(r, s, booleans, &d.TLS.Renegotiation),
		}
		err := r.structure(at, members{
			"hosts":               several(r, s, hostRules, &d.Hosts),
			"ports":               several(r, s, counts, &d.Ports),
			"cidrAllowList":       several(r, s, prefixes, &d.AllowList),
			"caFile":              single(r, s, files, &d.CAFile),
			"pins":                several(r, s, words, &d.Pins),
			"clientCert":          single(r, s, words, &d.ClientCert),
			"tls":                 {read: func(e entry) error { return r.mapping(e, tls) }},
			"egress":              several(r, s, addresses, &d.Egress),
			"maxConnections":      optional(r, s, counts, &d.MaxConnections),
			"connectTimeout":      optional(r, s, durationsAboveZero, &d.ConnectTimeout),
			"readTimeout":         optional(r, s, durationsAboveZero, &d.ReadTimeout),
			"connectionLifetime":  optional(r, s, durationsAboveZero, &d.ConnectionLifetime),
			"maxResponseBodySize": optional(r, s, sizesAboveZero, &d.MaxResponseBodySize),
		})
		s.Policy.Destinations = append(s.Policy.Destinations, d)
		return err
	})
}

// eachItem calls visit for every item of the list e, with its path and line.
func (r *yamlReader) eachItem(e entry, want string, visit func(entry) error) error {
	if isNull(e.value) {
		return nil
	}
	list, ok := e.value.(*ast.SequenceNode)
	if !ok {
		return e.wrong("...", describe(e.value), want)
	}
	for i, item := range list.Values {
		if err := visit(entry{fmt.Sprintf("%s[%d]", e.path, i), r.at(item, e.origin), item}); err != nil {
			return err
		}
	}
	return nil
}

// single reads a key with one value, of a structure.
func single[T any](r *yamlReader, s *Settings, f format[T], into *T) member {
	row := one("", f, func(*Settings) *T { return into }, "")
	return r.setter(s, &row)
}

// optional is single for a key whose absence is nil.
func optional[T any](r *yamlReader, s *Settings, f format[T], into **T) member {
	value := new(T)
	m := single(r, s, f, value)
	return member{read: func(e entry) error {
		*into = value
		return m.read(e)
	}}
}

// several reads a list of a structure. Where it has no value, or nothing in it, it is empty and not nil.
func several[T string | int | netip.Prefix | netip.Addr | time.Duration](r *yamlReader, s *Settings, f format[T], into *[]T) member {
	row := many("", f, func(*Settings) *[]T { return into }, "")
	return member{takesNull: true, read: func(e entry) error {
		*into = []T{}
		if isNull(e.value) {
			return nil
		}
		values, err := r.scalars(&row, e)
		if err != nil || len(values) == 0 {
			return err
		}
		for i, v := range values {
			r.origin[fmt.Sprintf("%s[%d]", e.path, i)] = v.origin
		}
		return row.set(s, e.path, values)
	}}
}
