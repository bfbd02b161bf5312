package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// readAliases compiles the hosts of clientCerts.
func (p *Policy) readAliases(aliases map[string][]string) error {
	p.aliases = make(map[string]*hostIndex, len(aliases))
	for _, alias := range slices.Sorted(maps.Keys(aliases)) {
		key := "clientCerts." + alias
		if alias == noAlias {
			return &ConfigError{Key: key, Problem: "means no certificate in clientCerts of a client", Want: "another alias"}
		}
		hosts, err := readHostIndex(key+".hosts", aliases[alias])
		if err != nil {
			return err
		}
		p.aliases[alias] = hosts
	}
	return nil
}

// readHostIndex compiles one list of host rules; nil is nil.
func readHostIndex(key string, texts []string) (*hostIndex, error) {
	rules, err := parseHostRules(key, texts)
	if err != nil || texts == nil {
		return nil, err
	}
	x := new(hostIndex)
	x.add(rules, nil)
	return x, nil
}

func (p *Policy) readClients(cfg *Config) error {
	if cfg.Clients == nil {
		p.everybody = Anybody()
		return nil
	}
	if err := notEmpty("clients", cfg.Clients, "at least one client, or no such key"); err != nil {
		return err
	}
	seen := make(map[string]int)
	for i := range cfg.Clients {
		from, key := &cfg.Clients[i], at("clients", i)
		if err := checkName(key+".name", from.Name, seen); err != nil {
			return err
		}
		seen[from.Name] = i
		c, err := p.readClient(key, from, cfg)
		if err != nil {
			return err
		}
		if c.isEverybody() && i < len(cfg.Clients)-1 {
			return lastAlone(cfg.Clients, i)
		}
		p.clients = append(p.clients, c)
	}
	return nil
}

// lastAlone is the error of clients[i], which has all requests and yet is followed by others.
func lastAlone(clients []ClientConfig, i int) error {
	const want = "one such entry, the last, or tokens, certificates or addresses"
	for j := i + 1; j < len(clients); j++ {
		if c := &clients[j]; c.Tokens == nil && c.Certificates == nil && c.Addresses == nil {
			return &ConfigError{at("clients", j), c.Name,
				fmt.Sprintf("is a second entry for everybody, after clients[%d]", i), want}
		}
	}
	return &ConfigError{at("clients", i), clients[i].Name,
		"has neither tokens, certificates nor addresses, so that those after it have no requests", want}
}

func checkName(key, name string, seen map[string]int) error {
	const want = `letters, digits, "-" and "_"`
	if name == "" {
		return &ConfigError{Key: key, Problem: "is missing", Want: want}
	}
	other := func(r rune) bool { return r != '-' && notInName(toLower(r)) }
	if strings.ContainsFunc(name, other) {
		return &ConfigError{key, name, "is no name of a client", want}
	}
	if i, twice := seen[name]; twice {
		return &ConfigError{key, name, fmt.Sprintf("is the name of clients[%d] too", i), "another"}
	}
	return nil
}

// toLower is for ASCII alone: others are in no name.
func toLower(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

func (c *Client) isEverybody() bool {
	return len(c.tokens) == 0 && c.certificates.empty() && len(c.addresses) == 0
}

// readClient compiles one entry of clients.
func (p *Policy) readClient(key string, from *ClientConfig, cfg *Config) (*Client, error) {
	c := &Client{Name: from.Name, CheckAddresses: from.CheckAddresses, mode: enforce}
	for _, err := range []error{
		p.readTokens(key+".tokens", from.Tokens, c),
		c.readCertificates(key+".certificates", from.Certificates, cfg.ClientCertificates),
		c.readAddresses(key, from),
		c.readRules(key, from),
		p.readClientCerts(key+".clientCerts", from.ClientCerts, c),
		c.readLimits(key, from),
	} {
		if err != nil {
			return nil, err
		}
	}
	c.newCounters(from.RequestsPerSecond)
	return c, nil
}

func (p *Policy) readTokens(key string, tokens []string, c *Client) error {
	const want = `"sha256:" and 64 hexadecimal digits, as of "whsentry clients token NAME"`
	if err := notEmpty(key, tokens, want+", or no such key"); err != nil {
		return err
	}
	for i, text := range tokens {
		hash, problem := parseToken(text)
		if problem != "" {
			return &ConfigError{Key: at(key, i), Problem: problem, Want: want}
		}
		if other := p.byToken[hash]; other != nil && other != c {
			return &ConfigError{Key: at(key, i), Problem: fmt.Sprintf("is a token of the client %q too", other.Name),
				Want: "a token of its own for each client"}
		}
		p.byToken[hash], p.hasTokens = c, true
		c.tokens = append(c.tokens, hash)
	}
	return nil
}

func (c *Client) readCertificates(key string, certificates []string, possible bool) error {
	if err := notEmpty(key, certificates, wantCertificate+", or no such key"); err != nil {
		return err
	}
	if certificates != nil && !possible {
		return &ConfigError{key, certificates[0], "no listener asks for a certificate", "clientCAFile at a listener"}
	}
	for i, text := range certificates {
		if problem := c.certificates.add(text); problem != "" {
			return &ConfigError{at(key, i), text, problem, wantCertificate}
		}
	}
	return nil
}

func (c *Client) readAddresses(key string, from *ClientConfig) (err error) {
	if c.addresses, err = readPrefixes(key+".addresses", from.Addresses); err != nil {
		return err
	}
	if c.AllowList, err = readPrefixes(key+".cidrAllowList", from.AllowList); err != nil {
		return err
	}
	if c.AllowList != nil {
		c.AllowListID = contentID(c.AllowList)
	}
	return nil
}

func readPrefixes(key string, prefixes []netip.Prefix) ([]netip.Prefix, error) {
	const want = "prefixes such as 10.1.0.0/16, or addresses"
	if err := notEmpty(key, prefixes, "at least one prefix, or no such key"); err != nil {
		return nil, err
	}
	for i, prefix := range prefixes {
		if problem := prefixProblem(prefix); problem != "" {
			return nil, &ConfigError{at(key, i), prefix.String(), problem, want}
		}
	}
	return slices.Clone(prefixes), nil
}

// readRules reads what c may reach.
func (c *Client) readRules(key string, from *ClientConfig) (err error) {
	switch m := mode(from.Mode); m {
	case enforce, report, open:
		c.mode = m
	case "":
	default:
		return &ConfigError{key + ".mode", from.Mode, "is no mode", "enforce, report or open"}
	}
	if c.allow, err = readHostIndex(key+".allowHosts", from.AllowHosts); err != nil {
		return err
	}
	if c.deny, err = readHostIndex(key+".denyHosts", from.DenyHosts); err != nil {
		return err
	}
	if c.ports, err = readPorts(key+".allowPorts", from.AllowPorts); err != nil {
		return err
	}
	if c.mode != open {
		return nil
	}
	for _, list := range []struct {
		key string
		is  bool
	}{{"allowHosts", c.allow != nil}, {"denyHosts", c.deny != nil}, {"allowPorts", c.ports != nil}} {
		if list.is {
			return &ConfigError{Key: key + "." + list.key, Problem: "is beside mode: open, which has no rules for hosts and ports",
				Want: "another mode, or no such key"}
		}
	}
	return nil
}

func readPorts(key string, ports []int) (portSet, error) {
	if err := notEmpty(key, ports, "at least one port, or no such key"); err != nil {
		return nil, err
	}
	var set portSet
	for i, port := range ports {
		if port < 1 || port > 65535 {
			return nil, &ConfigError{at(key, i), fmt.Sprint(port), "is no port", "1 to 65535"}
		}
		set = append(set, uint16(port))
	}
	slices.Sort(set)
	return slices.Compact(set), nil
}

// readClientCerts reads the aliases that may be presented for c.
func (p *Policy) readClientCerts(key string, aliases []string, c *Client) error {
	if err := notEmpty(key, aliases, "at least one alias, [none], or no such key"); err != nil {
		return err
	}
	if aliases == nil {
		return nil
	}
	c.aliases = make(map[string]bool, len(aliases))
	if len(aliases) == 1 && aliases[0] == noAlias {
		return nil
	}
	for i, alias := range aliases {
		if err := p.checkAlias(at(key, i), alias); err != nil {
			return err
		}
		c.aliases[alias] = true
	}
	return nil
}

// checkAlias refuses an alias that does not exist.
func (p *Policy) checkAlias(key, alias string) error {
	if _, exists := p.aliases[alias]; exists {
		return nil
	}
	if alias == noAlias {
		return &ConfigError{key, alias, "is no alias, and means none only where it stands alone", "[none], or aliases"}
	}
	return &ConfigError{key, alias, "there is no client certificate with this alias", "one of clientCerts"}
}

func (c *Client) readLimits(key string, from *ClientConfig) error {
	if err := above0(key+".maxConnections", from.MaxConnections, "no such key for no limit"); err != nil {
		return err
	}
	if from.MaxConnections != nil {
		c.maxConnections = int64(*from.MaxConnections)
	}
	return above0(key+".requestsPerSecond", from.RequestsPerSecond, "no such key for no limit")
}

// above0 refuses a limit that lets nothing through; nil is none.
func above0[T ~int | ~int64](key string, limit *T, orElse string) error {
	if limit == nil || *limit > 0 {
		return nil
	}
	return &ConfigError{key, fmt.Sprint(*limit), "is not above 0", "more, or " + orElse}
}
