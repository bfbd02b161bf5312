package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"whsentry/ca/catest"
)

func issuerStore(t *testing.T, authority *catest.Authority) *Store {
	t.Helper()
	certFile, keyFile := authority.Files(t)
	cfg := testConfig(t)
	cfg.MITMIssuer = KeyPairFiles{certFile, keyFile}
	return newStore(t, cfg)
}

func TestIssuer(t *testing.T) {
	root := catest.Root(t, "Root")
	rsaRoot := catest.Root(t, "RSA Root", catest.RSA(t, 2048))
	intermediate := root.Intermediate(t, "Issuer")
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + ".test"
	tests := []struct {
		name        string
		issuer      *catest.Authority
		host, asked string // the CONNECT host, and what the client expects
	}{
		{"name", root, "hooks.example.com", "hooks.example.com"},
		{"other letters and a dot", root, "Hooks.Example.COM.", "hooks.example.com"},
		{"underscore", root, "my_hooks.example.com", "my_hooks.example.com"},
		{"long name", root, long, long},
		{"ip", root, "192.0.2.1", "192.0.2.1"},
		{"ipv6", root, "2001:db8::1", "2001:db8::1"},
		{"rsa issuer", rsaRoot, "hooks.example.com", "hooks.example.com"},
		{"issuer with a chain", intermediate, "hooks.example.com", "hooks.example.com"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := issuerStore(t, tt.issuer).IssuerConfig(tt.host)
			if err != nil {
				t.Fatalf("IssuerConfig: %v", err)
			}
			anchor := root
			if tt.issuer == rsaRoot {
				anchor = rsaRoot
			}
			client := &tls.Config{RootCAs: anchor.Pool(), ServerName: tt.asked, NextProtos: []string{"h2", "http/1.1"}}
			if err := fetch(t, client, serveTLS(t, cfg, nil)); err != nil {
				t.Errorf("connect: %v", err)
			}
			leaf := cfg.Certificates[0].Leaf
			if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
				t.Errorf("got a key of type %T; want ECDSA P-256", leaf.PublicKey)
			}
			if got := leaf.NotAfter.Sub(leaf.NotBefore); got > leafLifetime+leafBackdate || leaf.NotAfter.After(tt.issuer.Certificate.NotAfter) {
				t.Errorf("valid for %v until %v; want at most %v, within the issuer's time", got, leaf.NotAfter, leafLifetime+leafBackdate)
			}
			if leaf.IsCA || len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
				t.Errorf("got CA %v, usage %v; want a server's", leaf.IsCA, leaf.ExtKeyUsage)
			}
			if got := fmt.Sprint(leaf.DNSNames, leaf.IPAddresses); strings.Count(got, " ") != 1 || !strings.Contains(got, tt.asked) {
				t.Errorf("got the names %v; want %s alone", got, tt.asked)
			}
		})
	}
}

// TestIssuerOtherName shows that the SNI changes nothing: the certificate is for the CONNECT host.
func TestIssuerOtherName(t *testing.T) {
	root := catest.Root(t, "Root")
	cfg, err := issuerStore(t, root).IssuerConfig("connect.test")
	if err != nil {
		t.Fatalf("IssuerConfig: %v", err)
	}
	err = fetch(t, &tls.Config{RootCAs: root.Pool(), ServerName: "other.test"}, serveTLS(t, cfg, nil))
	if err == nil || !strings.Contains(err.Error(), "connect.test, not other.test") {
		t.Errorf("got %v; want a certificate for connect.test", err)
	}
}

func TestIssuerCache(t *testing.T) {
	root := catest.Root(t, "Root", catest.Valid(time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)))
	i := issuerStore(t, root).issuer.Load()
	now := time.Now()
	get := func(host string, at time.Time) *tls.Config {
		t.Helper()
		cfg, err := i.config(host, at)
		if err != nil {
			t.Fatalf("config: %v", err)
		}
		return cfg
	}
	first := get("a.test", now)
	if get("a.test", now.Add(leafLifetime/2-time.Second)) != first {
		t.Error("a new certificate before half of its life; want the same")
	}
	if get("b.test", now) == first {
		t.Error("the same certificate for another host")
	}
	renewed := get("a.test", now.Add(leafLifetime/2))
	if renewed == first || !renewed.Certificates[0].Leaf.NotAfter.After(first.Certificates[0].Leaf.NotAfter) {
		t.Error("the same certificate after half of its life; want a new one")
	}
	for n := range maxIssued + 10 {
		get("a.test", now.Add(leafLifetime/2)) // in use all the time
		get(fmt.Sprint(n, ".test"), now)
	}
	if len(i.issued) != maxIssued || i.recent.Len() != maxIssued {
		t.Errorf("%d and %d certificates are kept; want %d", len(i.issued), i.recent.Len(), maxIssued)
	}
	if get("a.test", now.Add(leafLifetime/2)) != renewed {
		t.Error("the certificate in use was dropped; want the oldest to be")
	}
}

func TestIssuerMissing(t *testing.T) {
	if _, err := newStore(t, testConfig(t)).IssuerConfig("a.test"); err == nil || !strings.Contains(err.Error(), "mitmIssuerCertFile") {
		t.Errorf("got %v; want mitmIssuerCertFile named", err)
	}
}
