package ca

import (
	"bytes"
	"container/list"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// maxIssued bounds the certificates that are kept for the next tunnel to the same host.
	maxIssued = 1024
	// leafLifetime is how long a certificate for a tunnel is valid; it is replaced after half of it.
	leafLifetime = 24 * time.Hour
	// leafBackdate allows for clients whose clocks are slow.
	leafBackdate = time.Hour
)

// issuer makes the certificates that clients see inside intercepted tunnels.
type issuer struct {
	cert  *x509.Certificate
	chain [][]byte // DER, cert first
	key   crypto.PrivateKey

	// leafKey is the key of every certificate issued, made anew with each Store. They never leave the process, and
	// all stand for the same proxy, so one key is as good as many.
	leafKey *ecdsa.PrivateKey

	mu     sync.Mutex // guards issued and recent
	issued map[string]*list.Element
	recent *list.List // of *issuedConfig, the most recently used in front
}

type issuedConfig struct {
	host    string
	config  *tls.Config
	renewAt time.Time
}

// newIssuer reads the CA that signs certificates for intercepted tunnels; it is nil where none is configured.
func newIssuer(files KeyPairFiles) (*issuer, error) {
	pair, err := files.load("mitmIssuerCertFile", "mitmIssuerKeyFile")
	if pair == nil || err != nil {
		return nil, err
	}
	c := pair.Leaf
	if !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, fmt.Errorf("mitmIssuerCertFile: %q holds the certificate %s, which may not sign others; want one of a CA",
			files.CertFile, subjectName(c))
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for intercepted tunnels: %w", err)
	}
	return &issuer{
		cert: c, chain: pair.Certificate, key: pair.PrivateKey, leafKey: leafKey,
		issued: make(map[string]*list.Element), recent: list.New(),
	}, nil
}

// SharesIssuer reports whether both Stores sign certificates for intercepted tunnels as the same CA, or neither does.
func (s *Store) SharesIssuer(other *Store) bool {
	a, b := s.issuer.Load(), other.issuer.Load()
	if a == nil || b == nil {
		return a == b
	}
	return slices.EqualFunc(a.chain, b.chain, bytes.Equal)
}

// IssuerConfig returns the configuration that answers TLS in place of host, a DNS name or IP address, with a
// certificate signed by MITMIssuer. Tunnels to the same host may share it; the caller must not change it.
func (s *Store) IssuerConfig(host string) (*tls.Config, error) {
	i := s.issuer.Load()
	if i == nil {
		return nil, errors.New("issue a certificate for a tunnel: no mitmIssuerCertFile is configured")
	}
	return i.config(serverName(host), time.Now())
}

func (i *issuer) config(host string, now time.Time) (*tls.Config, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if e, ok := i.issued[host]; ok {
		if c := e.Value.(*issuedConfig); now.Before(c.renewAt) {
			i.recent.MoveToFront(e)
			return c.config, nil
		}
		i.remove(e)
	}
	leaf, err := i.issue(host, now)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for %q: %w", host, err)
	}
	c := &issuedConfig{host: host, renewAt: now.Add(leafLifetime / 2), config: &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{leaf},
		// As in ServerConfig.
		DynamicRecordSizingDisabled: true,
	}}
	negotiateHTTP(c.config)
	i.issued[host] = i.recent.PushFront(c)
	if i.recent.Len() > maxIssued {
		i.remove(i.recent.Back())
	}
	return c.config, nil
}

func (i *issuer) remove(e *list.Element) {
	delete(i.issued, i.recent.Remove(e).(*issuedConfig).host)
}

// issue signs a certificate for host that is valid now.
func (i *issuer) issue(host string, now time.Time) (tls.Certificate, error) {
	template := &x509.Certificate{
		NotBefore:   latest(now.Add(-leafBackdate), i.cert.NotBefore),
		NotAfter:    earliest(now.Add(leafLifetime), i.cert.NotAfter),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		// The name is in the SAN; the subject is for those who look at it. 64 bytes is the most of RFC 5280.
		Subject: pkix.Name{CommonName: host[:min(len(host), 64)]},
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		template.IPAddresses = append(template.IPAddresses, addr.AsSlice())
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, i.leafKey.Public(), i.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	chain := append([][]byte{der}, i.chain...)
	return tls.Certificate{Certificate: chain, PrivateKey: i.leafKey, Leaf: leaf}, nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
