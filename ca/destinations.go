package ca

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// RulesConfig is what an entry of destinations says about TLS. Its keys are those of the configuration file.
type RulesConfig struct {
	// CAFile (caFile) names a PEM file of further roots, for the entry's hosts alone; "" for none.
	CAFile string
	// Pins (pins) are "sha256/" and the base64 of the SHA-256 of a public key (SPKI). With them the server's own
	// certificate is to have one of these keys, and nothing else about it matters, but that RSA has 2048 bits.
	Pins []string
	// MinVersion (tls.minVersion) is "1.0" to "1.3"; "" is 1.2.
	MinVersion string
	// LegacyCiphers (tls.legacyCiphers) offers RSA key exchange, and CBC with SHA-256 and AES-128, too.
	LegacyCiphers bool
	// Renegotiation (tls.renegotiation) allows one that the server asks for, within TLS 1.2.
	Renegotiation bool
}

// Rules are those of one entry of destinations, read and checked. They change as a whole where CAFile's content does.
type Rules struct {
	key     string // of the entry, for errors
	cfg     RulesConfig
	current atomic.Pointer[ruleSet]
}

// ruleSet is what Rules say at a moment. It never changes.
type ruleSet struct {
	id            string // tells its sessions from those of others; "" of no rules
	minVersion    uint16
	suites        []uint16 // nil: those of crypto/tls
	renegotiation bool
	pins          [][sha256.Size]byte
	extra         []root
	anchors       atomic.Pointer[anchorsOf] // those of extra, beside the trust store's
}

// anchorsOf are the anchors that a ruleSet and a trust store make together.
type anchorsOf struct {
	trust   *trust
	anchors *anchors
}

// Rules returns those of entry i of Config.Destinations, counted from 0.
func (s *Store) Rules(i int) *Rules { return s.rules[i] }

func entryKey(i int) string { return "destinations[" + strconv.Itoa(i) + "]" }

// validate reports the first setting of the entry key that cannot be used.
func (c *RulesConfig) validate(key string) error {
	if _, err := parseMinVersion(c.MinVersion); err != nil {
		return fmt.Errorf("%s.tls.minVersion: %w", key, err)
	}
	if len(c.Pins) > 0 && c.CAFile != "" {
		return fmt.Errorf("%s.pins: set beside caFile %q; want one of them, for with pins the signer is not looked at", key, c.CAFile)
	}
	for i, pin := range c.Pins {
		if _, err := parsePin(pin); err != nil {
			return fmt.Errorf("%s.pins[%d]: %w", key, i, err)
		}
	}
	return nil
}

func parseMinVersion(text string) (uint16, error) {
	switch text {
	case "1.0":
		return tls.VersionTLS10, nil
	case "1.1":
		return tls.VersionTLS11, nil
	case "", "1.2":
		return tls.VersionTLS12, nil
	case "1.3":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf(`%q is no version of TLS; want "1.0", "1.1", "1.2" or "1.3"`, text)
}

func parsePin(text string) (pin [sha256.Size]byte, err error) {
	encoded, ok := strings.CutPrefix(text, "sha256/")
	sum, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || len(sum) != len(pin) || strings.ContainsAny(encoded, "\r\n") { // which package base64 skips
		return pin, fmt.Errorf(`%q is not a pin; want "sha256/" and the base64 of the SHA-256 of a public key, 44 characters`, text)
	}
	return [sha256.Size]byte(sum), nil
}

func showPin(pin [sha256.Size]byte) string {
	return "sha256/" + base64.StdEncoding.EncodeToString(pin[:])
}

// newRules reads what a validated cfg names. number tells entries apart, "" is that of none.
func newRules(key, number string, cfg RulesConfig) (*Rules, error) {
	r := &Rules{key: key, cfg: cfg}
	set := &ruleSet{id: number, renegotiation: cfg.Renegotiation}
	set.minVersion, _ = parseMinVersion(cfg.MinVersion)
	if cfg.LegacyCiphers {
		set.suites = legacySuites()
	}
	for _, text := range cfg.Pins {
		pin, _ := parsePin(text)
		set.pins = append(set.pins, pin)
	}
	var err error
	if set.extra, err = loadRoots(key+".caFile", cfg.CAFile); err != nil {
		return nil, err
	}
	r.current.Store(set)
	return r, nil
}

// legacySuites returns what crypto/tls offers by default and what it has for old servers, but for RC4 and 3DES. TLS 1.3
// has suites of its own.
func legacySuites() []uint16 {
	ids := []uint16{
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA, tls.TLS_RSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
	}
	for _, suite := range tls.CipherSuites() {
		if !slices.Contains(ids, suite.ID) {
			ids = append(ids, suite.ID)
		}
	}
	return ids
}

// configure sets what a connection offers.
func (r *ruleSet) configure(cfg *tls.Config) {
	cfg.MinVersion = r.minVersion
	cfg.CipherSuites = r.suites
	cfg.NextProtos = http11
	if r.renegotiation {
		cfg.Renegotiation = tls.RenegotiateOnceAsClient
	}
	// A request is one write, and should be one record where it fits.
	cfg.DynamicRecordSizingDisabled = true
}

// http11 is shared by configurations, which do not change it.
var http11 = []string{"http/1.1"}

// anchorsIn returns the roots for a destination: those of t and the entry's own.
func (r *ruleSet) anchorsIn(t *trust) *anchors {
	if len(r.extra) == 0 {
		return t.anchors
	}
	if have := r.anchors.Load(); have != nil && have.trust == t {
		return have.anchors
	}
	made := &anchorsOf{trust: t, anchors: newAnchors(t.anchors.pool.Clone(), r.extra)}
	r.anchors.Store(made)
	return made.anchors
}

// checkPins accepts a server whose own certificate has a pinned key.
func (r *ruleSet) checkPins(cert *x509.Certificate) error {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	if !slices.Contains(r.pins, sum) {
		return &pinError{sum}
	}
	if key, ok := cert.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < minRSABits {
		return newShortKeyError(0, cert, key)
	}
	return nil
}

// pinError is a server whose key is not pinned.
type pinError struct{ got [sha256.Size]byte }

func (e *pinError) Error() string {
	return "certificate has the key " + showPin(e.got) + ", which is none of the pins of its entry of destinations"
}
