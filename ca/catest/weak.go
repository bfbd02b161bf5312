package catest

import (
	"crypto"
	_ "crypto/md5" // for Digest
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // for Digest
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"sync"
	"testing"
)

// They are shared by all tests of a process, for they take long to make.
var (
	rsa1024 = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 1024) })
	rsa2048 = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })
)

// RSA gives a certificate an RSA key of 1024 or 2048 bits. All certificates of one size share it, for making one is slow.
func RSA(t testing.TB, bits int) Change {
	t.Helper()
	generate, ok := map[int]func() (*rsa.PrivateKey, error){1024: rsa1024, 2048: rsa2048}[bits]
	if !ok {
		t.Fatalf("an RSA key of %d bits; want 1024 or 2048", bits)
	}
	key, err := generate()
	if err != nil {
		t.Fatalf("make an RSA key of %d bits: %v", bits, err)
	}
	return Key(key)
}

// Digest signs a certificate with RSA and SHA-1 or MD5, which CreateCertificate refuses to. The issuer has to have an RSA
// key.
func Digest(digest crypto.Hash) Change {
	return func(c *Template) { c.Digest = digest }
}

// certificate is RFC 5280 section 4.1, as far as needed to exchange the signature.
type certificate struct {
	TBS       tbsCertificate
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

type tbsCertificate struct {
	Version    int `asn1:"explicit,tag:0"`
	Serial     asn1.RawValue
	Algorithm  pkix.AlgorithmIdentifier
	Issuer     asn1.RawValue
	Validity   asn1.RawValue
	Subject    asn1.RawValue
	PublicKey  asn1.RawValue
	Extensions asn1.RawValue
}

// The object identifiers of RFC 8017 appendix A.2.4.
var rsaWith = map[crypto.Hash]asn1.ObjectIdentifier{
	crypto.MD5:  {1, 2, 840, 113549, 1, 1, 4},
	crypto.SHA1: {1, 2, 840, 113549, 1, 1, 5},
}

// resign replaces the signature of a certificate, and what it says about its algorithm.
func resign(der []byte, key crypto.Signer, digest crypto.Hash) ([]byte, error) {
	rsaKey, isRSA := key.(*rsa.PrivateKey)
	oid, isKnown := rsaWith[digest]
	if !isRSA || !isKnown {
		return nil, fmt.Errorf("sign with %v and a %T; want MD5 or SHA-1 and an RSA key", digest, key)
	}
	var c certificate
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		return nil, fmt.Errorf("decode the certificate: %w", err)
	}
	c.Algorithm = pkix.AlgorithmIdentifier{Algorithm: oid, Parameters: asn1.NullRawValue}
	c.TBS.Algorithm = c.Algorithm
	tbs, err := asn1.Marshal(c.TBS)
	if err != nil {
		return nil, fmt.Errorf("encode the certificate: %w", err)
	}
	h := digest.New()
	h.Write(tbs)
	signature, err := rsa.SignPKCS1v15(rand.Reader, rsaKey, digest, h.Sum(nil))
	if err != nil {
		return nil, fmt.Errorf("sign the certificate: %w", err)
	}
	c.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	return asn1.Marshal(c)
}
