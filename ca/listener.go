package ca

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// ServerConfig returns the configuration of an https listener: TLS 1.2 and 1.3, HTTP/1.1. With clientCAFile it demands
// a client certificate from an authority in that file. The files are read now; the errors name the key and the file.
// Where the Store watches files, these are among them, and Hooks.ListenerChanged says what to use in place of the
// configuration once they have changed; call ServerConfig once for each listener.
func (s *Store) ServerConfig(certFile, keyFile, clientCAFile string) (*tls.Config, error) {
	cfg, err := s.newListener(certFile, keyFile, clientCAFile)
	if err != nil {
		return nil, err
	}
	s.hooks.warn(checkValidity("certFile", cfg.Certificates[0].Leaf))
	return cfg, nil
}

func loadListener(certFile, keyFile, clientCAFile string) (*tls.Config, error) {
	files := KeyPairFiles{CertFile: certFile, KeyFile: keyFile}
	if err := files.validate("certFile", "keyFile"); err != nil {
		return nil, err
	}
	pair, err := files.load("certFile", "keyFile")
	if err != nil {
		return nil, err
	}
	if pair == nil {
		return nil, errors.New("certFile: missing; an https listener wants certFile and keyFile")
	}
	cfg := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{*pair},
		// An answer is one write, and should be one record where it fits.
		DynamicRecordSizingDisabled: true,
	}
	if clientCAFile != "" {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
		if cfg.ClientCAs, err = loadPool("clientCAFile", clientCAFile); err != nil {
			return nil, err
		}
	}
	negotiateHTTP(cfg)
	return cfg, nil
}

// negotiateHTTP makes a server's configuration answer ALPN with HTTP/1.1. A client that offers none of what we know is
// served without: it may well speak HTTP/1.1 and call it by a name of its own, while one that offers HTTP/2 alone would
// begin with that.
func negotiateHTTP(cfg *tls.Config) {
	without := cfg.Clone()
	cfg.NextProtos = http11
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.ContainsFunc(hello.SupportedProtos, isKnownProtocol) {
			return nil, nil
		}
		return without, nil // with the session ticket keys of cfg, says crypto/tls
	}
}

// isKnownProtocol reports whether name is an ALPN protocol of which we know what it means for what follows.
func isKnownProtocol(name string) bool {
	return name == "http/1.1" || name == "h2" || name == "h3"
}

func loadPool(key, file string) (*x509.CertPool, error) {
	data, err := readFile(file, maxBundle)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	certs, err := parseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %q: %w", key, file, err)
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}
