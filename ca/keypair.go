package ca

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// maxKeyPairFile bounds a certificate or key file, in bytes.
const maxKeyPairFile = 1 << 20

// load reads a key pair. The errors name the configuration key and the file that is at fault. A pair of which
// neither file is set is nil.
func (f KeyPairFiles) load(certKey, keyKey string) (*tls.Certificate, error) {
	if f == (KeyPairFiles{}) {
		return nil, nil
	}
	certPEM, err := readFile(f.CertFile, maxKeyPairFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certKey, err)
	}
	if _, err := parseCertificates(certPEM); err != nil {
		return nil, fmt.Errorf("%s: %q: %w", certKey, f.CertFile, err)
	}
	keyPEM, err := readFile(f.KeyFile, maxKeyPairFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyKey, err)
	}
	if bytes.Contains(keyPEM, []byte("ENCRYPTED")) {
		return nil, fmt.Errorf("%s: %q is encrypted; want a PEM private key without a passphrase", keyKey, f.KeyFile)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s: %q: %s; want the PEM private key of %q", keyKey, f.KeyFile, trimPackage(err), f.CertFile)
	}
	return &pair, nil
}

// clientCert is a client certificate as it is presented.
type clientCert struct {
	pair tls.Certificate // without certificates: crypto/tls' way to say "none"
	id   string          // tells the sessions that began with it from others
}

// identity is the client certificate of an alias.
type identity struct{ current atomic.Pointer[clientCert] }

func newClientCert(alias string, pair *tls.Certificate) *clientCert {
	sum := sha256.Sum256(pair.Certificate[0])
	return &clientCert{pair: *pair, id: alias + " " + hex.EncodeToString(sum[:8])}
}

// clientCert returns what is presented under alias.
func (s *Store) clientCert(alias string) (*clientCert, error) {
	if alias == "" && s.HasAlias(DefaultAlias) {
		alias = DefaultAlias
	}
	if alias == "" || alias == NoClientCert {
		return s.noCert, nil
	}
	who := s.clientCerts[alias]
	if who == nil {
		return nil, &UnknownAliasError{Alias: alias}
	}
	return who.current.Load(), nil
}

// loadClientCerts reads every client certificate, by alias.
func (c *Config) loadClientCerts() (map[string]*identity, error) {
	all := make(map[string]*identity, len(c.ClientCerts)+1)
	for alias, files := range c.clientCertFiles() {
		pair, err := files.load(aliasKeys(alias))
		if err != nil {
			return nil, err
		}
		all[alias] = new(identity)
		all[alias].current.Store(newClientCert(alias, pair))
	}
	return all, nil
}

// clientCertFiles returns the files of every client certificate, by alias.
func (c *Config) clientCertFiles() map[string]KeyPairFiles {
	all := make(map[string]KeyPairFiles, len(c.ClientCerts)+1)
	maps.Copy(all, c.ClientCerts)
	if c.ClientCert != (KeyPairFiles{}) {
		all[DefaultAlias] = c.ClientCert
	}
	return all
}

// checkValidity reports a certificate that is not valid now. It is not fatal at the start: the other
// destinations are still served, and the file may be about to be renewed.
func checkValidity(key string, c *x509.Certificate) error {
	switch now := time.Now(); {
	case now.After(c.NotAfter):
		return fmt.Errorf("%s: certificate %s expired on %s", key, subjectName(c), showTime(c.NotAfter))
	case now.Before(c.NotBefore):
		return fmt.Errorf("%s: certificate %s is not valid before %s", key, subjectName(c), showTime(c.NotBefore))
	}
	return nil
}

// parseCertificates returns the certificates of a PEM file, at least one, in order. Everything outside of PEM
// blocks is ignored, as are blocks of other types (a key in the same file); a block that does not end or decode
// is an error, where package pem would skip it, and so is one of which there is no more than a part of its first line.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != pemCertificate {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %s", len(certs)+1, trimPackage(err))
		}
		certs = append(certs, cert)
	}
	begun := bytes.Count(data, []byte(pemBegin))
	if last := data[bytes.LastIndexByte(data, '\n')+1:]; len(last) > 0 && len(last) < len(pemBegin) && strings.HasPrefix(pemBegin, string(last)) {
		begun++
	}
	if begun != len(certs) {
		return nil, fmt.Errorf("%d PEM certificates begin, but only %d can be read: damaged or cut short", begun, len(certs))
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM certificate in it; want at least one")
	}
	return certs, nil
}

const (
	pemCertificate = "CERTIFICATE"
	pemBegin       = "-----BEGIN " + pemCertificate + "-----"
)

// readFile reads a file of at most limit bytes.
func readFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f, limit, fmt.Sprintf("%q", name))
}

// readBounded reads r to its end and fails where that is more than limit bytes.
func readBounded(r io.Reader, limit int64, what string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: it is larger than %d bytes", what, limit)
	}
	return data, nil
}

// trimPackage returns the text of a standard library error without the package's name in front.
func trimPackage(err error) string {
	s := err.Error()
	for _, prefix := range []string{"tls: ", "x509: "} {
		s = strings.TrimPrefix(s, prefix)
	}
	return s
}
