package ca

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	both := KeyPairFiles{"c.pem", "k.pem"}
	alias := func(name string, files KeyPairFiles) func(*Config) {
		return func(c *Config) { c.ClientCerts = map[string]KeyPairFiles{name: files} }
	}
	url := func(url string) func(*Config) { return func(c *Config) { c.Bundle.URL = url } }
	tests := []struct {
		name   string
		change func(*Config)
		want   string // "" is valid
	}{
		{"defaults", func(*Config) {}, ""},
		{"client certificate", func(c *Config) { c.ClientCert = both }, ""},
		{"client certificate without key", func(c *Config) { c.ClientCert.CertFile = "c.pem" }, `clientKeyFile: missing beside clientCertFile "c.pem"`},
		{"client key without certificate", func(c *Config) { c.ClientCert.KeyFile = "k.pem" }, `clientCertFile: missing beside clientKeyFile "k.pem"`},
		{"issuer", func(c *Config) { c.MITMIssuer = both }, ""},
		{"issuer without key", func(c *Config) { c.MITMIssuer.CertFile = "c.pem" }, `mitmIssuerKeyFile: missing beside mitmIssuerCertFile "c.pem"`},
		{"issuer's key without certificate", func(c *Config) { c.MITMIssuer.KeyFile = "k.pem" }, `mitmIssuerCertFile: missing beside mitmIssuerKeyFile "k.pem"`},
		{"alias", alias("acme-1.test_~", both), ""},
		{"alias without key", alias("acme", KeyPairFiles{CertFile: "c.pem"}), `clientCerts.acme.keyFile: missing beside clientCerts.acme.certFile "c.pem"`},
		{"alias without certificate", alias("acme", KeyPairFiles{KeyFile: "k.pem"}), "clientCerts.acme.certFile: missing"},
		{"alias without files", alias("acme", KeyPairFiles{}), "clientCerts.acme.certFile: missing"},
		{"empty alias", alias("", both), `clientCerts: "" is not an alias`},
		{"alias with a space", alias("a b", both), `clientCerts: "a b" is not an alias`},
		{"alias with a colon", alias("a:b", both), `clientCerts: "a:b" is not an alias`},
		{"alias beyond ASCII", alias("é", both), `clientCerts: "é" is not an alias`},
		{"alias with a line end", alias("a\r\n", both), `clientCerts: "a\r\n" is not an alias`},
		{"none as an alias", alias("none", both), `clientCerts.none: the alias "none" means no certificate`},
		{"default as an alias", alias("default", both), `clientCerts.default: the alias "default" is set with clientCertFile`},
		{"no url", url(""), ""},
		{"http url", url("http://mirror.test/cacert.pem"), ""},
		{"ftp url", url("ftp://mirror.test/cacert.pem"), `caBundle.url: "ftp://mirror.test/cacert.pem" has the scheme "ftp"`},
		{"path as url", url("/etc/cacert.pem"), `caBundle.url: "/etc/cacert.pem" has the scheme ""`},
		{"url without host", url("https:///cacert.pem"), `caBundle.url: "https:///cacert.pem" has no host`},
		{"url with a bad port", url("https://a:b/"), `caBundle.url: "https://a:b/" is not a URL`},
		{"no interval", func(c *Config) { c.Bundle.RefreshInterval = 0 }, "caBundle.refreshInterval: 0s is not above 0"},
		{"negative watch", func(c *Config) { c.WatchFiles = -time.Second }, "watchFiles: -1s is below 0"},
		{"no watch", func(c *Config) { c.WatchFiles = 0 }, ""},
		{"negative interval", func(c *Config) { c.Bundle.RefreshInterval = -time.Second }, "caBundle.refreshInterval: -1s is not above 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			tt.change(&cfg)
			err := cfg.Validate()
			if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v; want %q", err, tt.want)
			}
		})
	}
}

func TestDefaultConfig(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/cache")
	t.Setenv("HOME", "/home/me")
	c := DefaultConfig()
	if want := "whsentry/cacert.pem"; !strings.HasSuffix(c.Bundle.File, want) {
		t.Errorf("caBundle.file: got %q; want …/%s", c.Bundle.File, want)
	}
	if c.Bundle.URL != "https://curl.se/ca/cacert.pem" || c.Bundle.RefreshInterval != 24*time.Hour {
		t.Errorf("got %q every %v; want https://curl.se/ca/cacert.pem every 24h", c.Bundle.URL, c.Bundle.RefreshInterval)
	}
}

func TestDefaultConfigWithoutHome(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the cache folder has another origin")
	}
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	c := DefaultConfig()
	if c.Bundle.File != "" {
		t.Errorf("caBundle.file: got %q; want none", c.Bundle.File)
	}
	if err := c.Validate(); err != nil {
		t.Errorf("Validate: %v", err)
	}
}
