package ca

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Config is what an operator may change about trust and identity. Its keys are those of the configuration file.
type Config struct {
	// InsecureSkipVerify (insecureSkipCertVerification) accepts any certificate of a destination. For tests only.
	InsecureSkipVerify bool
	// ClientCert (clientCertFile, clientKeyFile) is presented to destinations that ask for a certificate; it has
	// the alias DefaultAlias. Both files or none.
	ClientCert KeyPairFiles
	// ClientCerts (clientCerts) are more of them, by alias.
	ClientCerts map[string]KeyPairFiles
	// ClientCertHosts (clientCerts.*.hosts) are the hosts that an alias is for; one that is not in it is for every host.
	// The Store only keeps them, for whoever knows how a host is held against them.
	ClientCertHosts map[string][]string
	// Destinations (destinations) is what its entries say about TLS, in their order.
	Destinations []RulesConfig
	// MITMIssuer (mitmIssuerCertFile, mitmIssuerKeyFile) signs certificates for intercepted tunnels. Both or none.
	MITMIssuer KeyPairFiles
	// Bundle (caBundle) is where newer Mozilla bundles come from and are kept.
	Bundle BundleConfig
	// WatchFiles (watchFiles) is how often the contents of all these files are looked at, and used where they have
	// changed; 0: never.
	WatchFiles time.Duration
}

// KeyPairFiles names a certificate chain and its private key, both PEM.
type KeyPairFiles struct {
	CertFile string
	KeyFile  string
}

// BundleConfig is where newer Mozilla bundles come from and are kept.
type BundleConfig struct {
	File            string        // caBundle.file: where the newest downloaded bundle is kept; "" keeps none
	URL             string        // caBundle.url: http or https; "" never downloads
	RefreshInterval time.Duration // caBundle.refreshInterval: how often to look again; above 0
	ExtraFile       string        // caBundle.extraFile: PEM file of further roots to trust
	// FetchIntermediates (caBundle.fetchIntermediates) completes the chains of servers that send them in part.
	FetchIntermediates bool
}

// DefaultAlias is the alias of Config.ClientCert.
const DefaultAlias = "default"

// DefaultConfig returns the defaults of every key. Bundle.File is "" where the user has no cache folder.
func DefaultConfig() Config {
	c := Config{WatchFiles: 10 * time.Second, Bundle: BundleConfig{
		URL:                "https://curl.se/ca/cacert.pem",
		RefreshInterval:    24 * time.Hour,
		FetchIntermediates: true,
	}}
	if dir, err := os.UserCacheDir(); err == nil {
		c.Bundle.File = filepath.Join(dir, "whsentry", "cacert.pem")
	}
	return c
}

// Validate reports the first setting that cannot be used, naming its key and value. It opens no file: New does.
func (c *Config) Validate() error {
	if err := c.ClientCert.validate("clientCertFile", "clientKeyFile"); err != nil {
		return err
	}
	for _, alias := range slices.Sorted(maps.Keys(c.ClientCerts)) {
		if err := validateAlias(alias, c.ClientCerts[alias]); err != nil {
			return err
		}
	}
	if err := c.MITMIssuer.validate("mitmIssuerCertFile", "mitmIssuerKeyFile"); err != nil {
		return err
	}
	for i := range c.Destinations {
		if err := c.Destinations[i].validate(entryKey(i)); err != nil {
			return err
		}
	}
	if c.WatchFiles < 0 {
		return fmt.Errorf("watchFiles: %s is below 0; want a duration such as 10s, or 0s to look at SIGHUP only", c.WatchFiles)
	}
	return c.Bundle.validate()
}

func (f KeyPairFiles) validate(certKey, keyKey string) error {
	switch {
	case f.CertFile != "" && f.KeyFile == "":
		return fmt.Errorf("%s: missing beside %s %q; want both or neither", keyKey, certKey, f.CertFile)
	case f.CertFile == "" && f.KeyFile != "":
		return fmt.Errorf("%s: missing beside %s %q; want both or neither", certKey, keyKey, f.KeyFile)
	}
	return nil
}

func validateAlias(alias string, files KeyPairFiles) error {
	if alias == DefaultAlias {
		return fmt.Errorf("clientCerts.%s: the alias %q is set with clientCertFile and clientKeyFile; want another", alias, alias)
	}
	if alias == NoClientCert {
		return fmt.Errorf("clientCerts.%s: the alias %q means no certificate; want another", alias, alias)
	}
	if !isToken(alias) {
		return fmt.Errorf("clientCerts: %q is not an alias; want letters, digits and !#$%%&'*+-.^_`|~, as it is sent in a header", alias)
	}
	certKey, keyKey := aliasKeys(alias)
	if files == (KeyPairFiles{}) {
		return fmt.Errorf("%s: missing; want a PEM file, and another in %s", certKey, keyKey)
	}
	return files.validate(certKey, keyKey)
}

// aliasKeys returns the configuration keys of an alias' two files.
func aliasKeys(alias string) (certKey, keyKey string) {
	if alias == DefaultAlias {
		return "clientCertFile", "clientKeyFile"
	}
	return "clientCerts." + alias + ".certFile", "clientCerts." + alias + ".keyFile"
}

// isToken reports whether s is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		isAlnum := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !isAlnum && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

func (b *BundleConfig) validate() error {
	if err := validateURL(b.URL); err != nil {
		return fmt.Errorf("caBundle.url: %w; want an http or https URL, or \"\" to download none", err)
	}
	if b.RefreshInterval <= 0 {
		return fmt.Errorf("caBundle.refreshInterval: %s is not above 0; want a duration such as 24h", b.RefreshInterval)
	}
	return nil
}

func validateURL(raw string) error {
	if raw == "" {
		return nil
	}
	shown := hideSecrets(raw)
	u, err := url.Parse(raw)
	if err != nil && shown != raw {
		return fmt.Errorf("%q is not a URL", shown) // the cause may have a part of the password or the query
	}
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err // which does not repeat the URL
		}
		return fmt.Errorf("%q is not a URL: %w", shown, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%q has the scheme %q", shown, u.Scheme)
	}
	if u.Hostname() == "" {
		return fmt.Errorf("%q has no host", shown)
	}
	return nil
}

// hideSecrets returns a URL, which may be none, without what may be a secret: a password before "@" and the query.
func hideSecrets(raw string) string {
	at, query := strings.LastIndexByte(raw, '@'), strings.IndexByte(raw, '?')
	switch {
	case query >= 0 && at > query:
		return "..." // the one may be a part of the password, or the other of the query
	case query >= 0:
		raw = raw[:query] + "?..."
	}
	if at >= 0 {
		raw = "..." + raw[at:]
	}
	return raw
}
