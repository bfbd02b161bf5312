package main

import (
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
	"time"
)

// certificateLife is how long the certificates of a run are valid, from an hour before it.
const certificateLife = 48 * time.Hour

// signer makes the origins' certificates, all with one key.
type signer struct {
	ca      *x509.Certificate
	caKey   *ecdsa.PrivateKey
	key     *ecdsa.PrivateKey
	address net.IP           // that pair is for
	pair    *tls.Certificate // made in advance
}

// makeCertificates makes a CA and a certificate for localhost, bench.test and 127.0.0.1 that it signs, and writes both and
// the certificate's key to files (PEM).
func makeCertificates(caFile, certFile, keyFile string) (*signer, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	s := &signer{caKey: caKey, key: key, address: net.IPv4(127, 0, 0, 1), ca: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(certificateLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}}
	caDER, err := x509.CreateCertificate(rand.Reader, s.ca, s.ca, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	if s.pair, err = s.sign(s.address); err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	for _, file := range []struct {
		name, kind string
		der        []byte
		mode       os.FileMode
	}{
		{caFile, "CERTIFICATE", caDER, 0o644}, {certFile, "CERTIFICATE", s.pair.Certificate[0], 0o644},
		{keyFile, "PRIVATE KEY", keyDER, 0o600},
	} {
		if err := os.WriteFile(file.name, pem.EncodeToMemory(&pem.Block{Type: file.kind, Bytes: file.der}), file.mode); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// sign makes a certificate for localhost, bench.test and an address.
func (s *signer) sign(address net.IP) (*tls.Certificate, error) {
	leaf := &x509.Certificate{
		// Squid looks for an address in the common name, and not among the certificate's addresses.
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: address.String()},
		NotBefore: s.ca.NotBefore, NotAfter: s.ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", "bench.test"}, IPAddresses: []net.IP{address},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, s.ca, &s.key.PublicKey, s.caKey)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: s.key}, nil
}

// forConnection is a tls.Config's GetCertificate: destinations differ in their addresses, and a certificate has to name its own.
func (s *signer) forConnection(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if local, ok := hello.Conn.LocalAddr().(*net.TCPAddr); ok && !local.IP.Equal(s.address) {
		return s.sign(local.IP)
	}
	return s.pair, nil
}
