//go:build linux

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority is a throw-away certificate authority whose files lie in a directory.
type authority struct {
	dir   string
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	chain [][]byte // DER: what servers send above their own certificate, nothing for a root
}

// change is something special about a certificate.
type change func(*x509.Certificate)

// forNames replaces the names that a certificate is for.
func forNames(names ...string) change {
	return func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = names, nil }
}

// validBetween sets when a certificate begins and ends.
func validBetween(from, to time.Time) change {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = from, to }
}

// newAuthority makes a root and writes NAME.pem and NAME.key.
func newAuthority(dir, name string) (*authority, error) {
	certs, key, err := sign(authorityTemplate(name), nil)
	if err != nil {
		return nil, err
	}
	return newIssuer(dir, name, certs, key, nil)
}

// intermediate makes an authority below a.
func (a *authority) intermediate(name string) (*authority, error) {
	certs, key, err := sign(authorityTemplate(name), a)
	if err != nil {
		return nil, err
	}
	return newIssuer(a.dir, name, certs, key, certs)
}

func newIssuer(dir, name string, certs [][]byte, key *ecdsa.PrivateKey, chain [][]byte) (*authority, error) {
	cert, err := x509.ParseCertificate(certs[0])
	if err != nil {
		return nil, err
	}
	return &authority{dir, cert, key, chain}, writePair(dir, name, certs, key)
}

// leaf signs a certificate, unless told otherwise for localhost and the loopback addresses, and writes NAME.pem with
// the chain and NAME.key.
func (a *authority) leaf(name string, changes ...change) (tls.Certificate, error) {
	return newLeaf(a.dir, name, a, changes)
}

// newLeaf makes a leaf; where issuer is nil nobody else signs it.
func newLeaf(dir, name string, issuer *authority, changes []change) (tls.Certificate, error) {
	template := certificate(name)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.DNSNames = []string{"localhost"}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, change := range changes {
		change(template)
	}
	certs, key, err := sign(template, issuer)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: certs, PrivateKey: key}, writePair(dir, name, certs, key)
}

// sign makes a key and a certificate for it, by itself where issuer is nil, and returns the chain in DER.
func sign(template *x509.Certificate, issuer *authority) ([][]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	parent, signer := template, key
	var chain [][]byte
	if issuer != nil {
		parent, signer, chain = issuer.cert, issuer.key, issuer.chain
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	return append([][]byte{der}, chain...), key, err
}

func authorityTemplate(name string) *x509.Certificate {
	c := certificate(name)
	c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	return c
}

func certificate(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

// pemOf is certificates as a PEM file has them.
func pemOf(certs ...[]byte) []byte {
	var text bytes.Buffer
	for _, der := range certs {
		pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return text.Bytes()
}

func writePair(dir, name string, certs [][]byte, key *ecdsa.PrivateKey) error {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, name+".pem"), pemOf(certs...), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600)
}
