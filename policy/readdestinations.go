package policy

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
)

func (p *Policy) readDestinations(cfg *Config) error {
	if err := notEmpty("destinations", cfg.Destinations, "at least one entry, or no such key"); err != nil {
		return err
	}
	for i := range cfg.Destinations {
		from, key := &cfg.Destinations[i], at("destinations", i)
		d, err := p.readDestination(key, from, cfg.EgressAddresses)
		if err != nil {
			return err
		}
		d.Index, d.ID = i, contentID(from)
		if err := p.addDestination(key, from, d); err != nil {
			return err
		}
	}
	return nil
}

// addDestination enters d under its hosts and ports.
func (p *Policy) addDestination(key string, from *DestinationConfig, d *Destination) error {
	if from.Hosts == nil {
		return &ConfigError{Key: key + ".hosts", Problem: "is missing", Want: wantHostRule}
	}
	rules, err := parseHostRules(key+".hosts", from.Hosts)
	if err != nil {
		return err
	}
	ports, err := readPorts(key+".ports", from.Ports)
	if err != nil {
		return err
	}
	uncovered := func(r hostRule) bool { return !p.destinationHosts.covered(r, ports) }
	if !slices.ContainsFunc(rules, uncovered) {
		p.warnings = append(p.warnings, &ConfigError{Key: key,
			Problem: "never applies: earlier entries have all of its hosts and ports", Want: "it before them, or not at all"})
	}
	p.destinationHosts.add(rules, ports)
	p.destinations = append(p.destinations, d)
	return nil
}

// readDestination compiles one entry of destinations, but for where it applies.
func (p *Policy) readDestination(key string, from *DestinationConfig, egress []netip.Addr) (d *Destination, err error) {
	d = &Destination{
		CAFile:        from.CAFile,
		ClientCert:    from.ClientCert,
		LegacyCiphers: from.TLS.LegacyCiphers,
		Renegotiation: from.TLS.Renegotiation,
	}
	if d.AllowList, err = readPrefixes(key+".cidrAllowList", from.AllowList); err != nil {
		return nil, err
	}
	if d.Pins, err = readPins(key+".pins", from); err != nil {
		return nil, err
	}
	if d.ClientCert != "" {
		if err := p.checkAlias(key+".clientCert", d.ClientCert); err != nil {
			return nil, err
		}
	}
	if d.MinVersion, err = readVersion(key+".tls.minVersion", from.TLS.MinVersion); err != nil {
		return nil, err
	}
	if d.Egress, err = readEgress(key+".egress", from.Egress, egress); err != nil {
		return nil, err
	}
	return d, d.readLimits(key, from)
}

// readPins reads the hashes of public keys. They and further roots exclude each other: a pinned key needs no signer.
func readPins(key string, from *DestinationConfig) ([][32]byte, error) {
	const want = `"sha256/" and the base64 of 32 bytes`
	if err := notEmpty(key, from.Pins, want+", or no such key"); err != nil {
		return nil, err
	}
	if from.Pins != nil && from.CAFile != "" {
		return nil, &ConfigError{key, from.Pins[0], "there is caFile too, and where a key is pinned its signer does not count",
			"one of them"}
	}
	var pins [][32]byte
	for i, text := range from.Pins {
		digits, found := strings.CutPrefix(text, "sha256/")
		sum, err := base64.StdEncoding.Strict().DecodeString(digits)
		if !found || err != nil || len(sum) != sha256.Size {
			return nil, &ConfigError{at(key, i), text, "is no pin", want}
		}
		pins = append(pins, [32]byte(sum))
	}
	return pins, nil
}

// readVersion returns the number of a TLS version (RFC 8446 section 4.2.1); 0 for "".
func readVersion(key, text string) (uint16, error) {
	switch text {
	case "":
		return 0, nil
	case "1.0":
		return 0x0301, nil
	case "1.1":
		return 0x0302, nil
	case "1.2":
		return 0x0303, nil
	case "1.3":
		return 0x0304, nil
	}
	return 0, &ConfigError{key, text, "is no version of TLS", "1.0, 1.1, 1.2 or 1.3"}
}

func readEgress(key string, addresses, possible []netip.Addr) ([]netip.Addr, error) {
	if err := notEmpty(key, addresses, "at least one of egress.addresses, or no such key"); err != nil {
		return nil, err
	}
	for i, a := range addresses {
		if !slices.Contains(possible, a) {
			return nil, &ConfigError{at(key, i), a.String(), "is not in egress.addresses", "one that is"}
		}
	}
	return slices.Clone(addresses), nil
}

func (d *Destination) readLimits(key string, from *DestinationConfig) error {
	const orElse = "no such key for the global one"
	for _, err := range []error{
		above0(key+".maxConnections", from.MaxConnections, orElse),
		above0(key+".connectTimeout", from.ConnectTimeout, orElse),
		above0(key+".readTimeout", from.ReadTimeout, orElse),
		above0(key+".connectionLifetime", from.ConnectionLifetime, orElse),
		above0(key+".maxResponseBodySize", from.MaxResponseBodySize, orElse),
	} {
		if err != nil {
			return err
		}
	}
	d.MaxConnections = orZero(from.MaxConnections)
	d.ConnectTimeout = orZero(from.ConnectTimeout)
	d.ReadTimeout = orZero(from.ReadTimeout)
	d.ConnectionLifetime = orZero(from.ConnectionLifetime)
	d.MaxResponseBodySize = orZero(from.MaxResponseBodySize)
	return nil
}

func orZero[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

// contentID returns a number for what v says, the same in every process and never 0.
func contentID(v any) uint64 {
	text, err := json.Marshal(v)
	if err != nil {
		panic("BUG: settings that are no JSON: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return binary.BigEndian.Uint64(sum[:]) | 1
}
