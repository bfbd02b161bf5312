// Package catest is a throw-away certificate authority for tests: roots, intermediates and leaves with any fault that a
// server out there may have. Nothing made here outlives the test.
//
//	root := catest.Root(t, "Test Root")
//	server := root.Intermediate(t, "Test Intermediate").Leaf(t, "hooks.example.com", catest.Expired())
package catest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Template is a certificate to be made: what x509.CreateCertificate takes, and what it does not do.
type Template struct {
	x509.Certificate
	// Key is the certificate's own key.
	Key crypto.Signer
	// Digest, if not 0, signs with RSA and this digest, however broken: crypto.SHA1 or crypto.MD5. The issuer has to
	// have an RSA key.
	Digest crypto.Hash
}

// Change is something special about a certificate.
type Change func(*Template)

// Authority is a certificate with its key, to sign others.
type Authority struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
	// Chain is what servers send above their own certificate, DER: the intermediates, this one first, without the root.
	Chain [][]byte
}

// Root makes a self-signed authority.
func Root(t testing.TB, name string, changes ...Change) *Authority {
	t.Helper()
	template := newAuthority(t, name, changes)
	return &Authority{Certificate: sign(t, template, &template.Certificate, template.Key), Key: template.Key}
}

// Intermediate makes an authority that a signs.
func (a *Authority) Intermediate(t testing.TB, name string, changes ...Change) *Authority {
	t.Helper()
	template := newAuthority(t, name, changes)
	cert := sign(t, template, a.Certificate, a.Key)
	return &Authority{Certificate: cert, Key: template.Key, Chain: slices.Concat([][]byte{cert.Raw}, a.Chain)}
}

// CrossSign makes a certificate by a for the name and key of other, as for a new root that is not yet known everywhere.
func (a *Authority) CrossSign(t testing.TB, other *Authority, changes ...Change) *x509.Certificate {
	t.Helper()
	template := newAuthority(t, "", append([]Change{Key(other.Key)}, changes...))
	template.RawSubject = other.Certificate.RawSubject
	template.SubjectKeyId = other.Certificate.SubjectKeyId
	return sign(t, template, a.Certificate, a.Key)
}

// Leaf makes a server's or client's certificate for host, a DNS name or an IP address ("" is no name), signed by a, with
// the chain of intermediates behind it.
func (a *Authority) Leaf(t testing.TB, host string, changes ...Change) tls.Certificate {
	t.Helper()
	template := newLeaf(t, host, changes)
	cert := sign(t, template, a.Certificate, a.Key)
	return pair(cert, template.Key, a.Chain)
}

// SelfSigned makes a server's certificate for host that nobody else signed.
func SelfSigned(t testing.TB, host string, changes ...Change) tls.Certificate {
	t.Helper()
	template := newLeaf(t, host, changes)
	return pair(sign(t, template, &template.Certificate, template.Key), template.Key, nil)
}

func pair(leaf *x509.Certificate, key crypto.Signer, chain [][]byte) tls.Certificate {
	return tls.Certificate{Certificate: slices.Concat([][]byte{leaf.Raw}, chain), PrivateKey: key, Leaf: leaf}
}

// Pool returns a pool of this one certificate.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Certificate)
	return pool
}

// PEM returns the certificate.
func (a *Authority) PEM() []byte { return PEM(a.Certificate.Raw) }

// Files writes the certificate with its chain, and the key, into the test's folder.
func (a *Authority) Files(t testing.TB) (certFile, keyFile string) {
	t.Helper()
	return Files(t, pair(a.Certificate, a.Key, a.Chain[min(1, len(a.Chain)):]))
}

// Files writes a certificate with its chain, and its key, into the test's folder.
func Files(t testing.TB, c tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatalf("encode a key: %v", err)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	return File(t, "cert.pem", PEM(c.Certificate...)), File(t, "key.pem", keyPEM)
}

// File writes data into a folder of its own that ends with the test.
func File(t testing.TB, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatalf("write a test's file: %v", err)
	}
	return file
}

// PEM encodes certificates given as DER.
func PEM(certs ...[]byte) []byte {
	var out []byte
	for _, der := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

func newAuthority(t testing.TB, name string, changes []Change) *Template {
	t.Helper()
	return newTemplate(t, changes, x509.Certificate{
		Subject:               pkix.Name{CommonName: name, Organization: []string{"catest"}},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	})
}

func newLeaf(t testing.TB, host string, changes []Change) *Template {
	t.Helper()
	return newTemplate(t, slices.Concat([]Change{Names(host)}, changes), x509.Certificate{
		Subject:               pkix.Name{CommonName: host[:min(len(host), 64)], Organization: []string{"catest"}},
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	})
}

func newTemplate(t testing.TB, changes []Change, c x509.Certificate) *Template {
	t.Helper()
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	template := &Template{Certificate: c}
	for _, change := range changes {
		change(template)
	}
	if template.Key == nil {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatalf("make a key: %v", err)
		}
		template.Key = key
	}
	return template
}

func sign(t testing.TB, template *Template, issuer *x509.Certificate, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, &template.Certificate, issuer, template.Key.Public(), key)
	if err == nil && template.Digest != 0 {
		der, err = resign(der, key, template.Digest)
	}
	if err != nil {
		t.Fatalf("make the certificate %v: %v", template.Subject, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("parse the certificate %v: %v", template.Subject, err)
	}
	return cert
}

// Expired makes a certificate that ended on 2020-03-01 12:00 UTC.
func Expired() Change {
	end := time.Date(2020, 3, 1, 12, 0, 0, 0, time.UTC)
	return Valid(end.AddDate(-1, 0, 0), end)
}

// NotYetValid makes a certificate that begins on 2090-03-01 12:00 UTC.
func NotYetValid() Change {
	begin := time.Date(2090, 3, 1, 12, 0, 0, 0, time.UTC)
	return Valid(begin, begin.AddDate(1, 0, 0))
}

// Valid sets the time within which a certificate is valid.
func Valid(from, to time.Time) Change {
	return func(c *Template) { c.NotBefore, c.NotAfter = from, to }
}

// Names sets the Subject Alternative Names, DNS names and IP addresses; "" is none.
func Names(names ...string) Change {
	return func(c *Template) {
		c.DNSNames, c.IPAddresses = nil, nil
		for _, name := range names {
			if addr, err := netip.ParseAddr(name); err == nil {
				c.IPAddresses = append(c.IPAddresses, net.IP(addr.AsSlice()))
			} else if name != "" {
				c.DNSNames = append(c.DNSNames, name)
			}
		}
	}
}

// Key sets the certificate's own key; without it that is a new ECDSA P-256 key.
func Key(key crypto.Signer) Change {
	return func(c *Template) { c.Key = key }
}

// NotCA makes what should be an authority none.
func NotCA() Change {
	return func(c *Template) { c.IsCA, c.MaxPathLen, c.KeyUsage = false, 0, x509.KeyUsageDigitalSignature }
}

// Usage sets the extended key usages.
func Usage(usages ...x509.ExtKeyUsage) Change {
	return func(c *Template) { c.ExtKeyUsage = usages }
}

// OnlyDomains makes an authority that may issue for these domains and what is below them alone.
func OnlyDomains(domains ...string) Change {
	return func(c *Template) { c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = domains, true }
}

// FoundAt makes a certificate say where its issuer's is found (authority information access).
func FoundAt(urls ...string) Change {
	return func(c *Template) { c.IssuingCertificateURL = urls }
}
