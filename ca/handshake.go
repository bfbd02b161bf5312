package ca

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// minRSABits is the shortest RSA key accepted in a destination's chain.
const minRSABits = 2048

// UnknownAliasError is returned for an alias that has no client certificate.
type UnknownAliasError struct{ Alias string }

func (e *UnknownAliasError) Error() string {
	return fmt.Sprintf("no client certificate has the alias %q", e.Alias)
}

// HasAlias reports whether a client certificate is configured under alias. No certificate has the alias "".
func (s *Store) HasAlias(alias string) bool { return s.clientCerts[alias] != nil }

// ClientConfig returns the configuration for one connection to host and port: TLS 1.2 and 1.3, HTTP/1.1, verified
// against the trust store of the moment, presenting the client certificate of alias to a server that asks. The alias
// "" is DefaultAlias where that is configured, else none; one that is not configured is an *UnknownAliasError.
//
// Sessions are resumed only between connections of the same alias, host and port: a resumed session carries the
// identity it began with, and must not show one customer's certificate under another's name.
func (s *Store) ClientConfig(alias, host string, port uint16) (*tls.Config, error) {
	if alias == "" && s.HasAlias(DefaultAlias) {
		alias = DefaultAlias
	}
	if alias != "" && !s.HasAlias(alias) {
		return nil, &UnknownAliasError{Alias: alias}
	}
	t := s.trust.Load()
	name := serverName(host)
	// A space is in neither an alias nor a host name, so no two destinations share a key.
	key := alias + " " + net.JoinHostPort(name, strconv.Itoa(int(port)))
	cfg := t.verifyConfig()
	cfg.ServerName = name
	sessions := &keyedSessions{sessions: t.sessions, key: key}
	cfg.ClientSessionCache = sessions
	if _, known := sessions.Get(""); known {
		cfg.CurvePreferences = classicCurves
	}
	cfg.GetClientCertificate = presentCertificate(s.clientCerts[alias])
	if s.cfg.InsecureSkipVerify {
		cfg.InsecureSkipVerify = true
		cfg.VerifyConnection = nil
	}
	return cfg, nil
}

// Handshake starts TLS on conn as ClientConfig says and completes the handshake; the caller sets the deadline, and
// closes conn after an error. DescribeError knows more of its errors than of those of a bare tls.Conn: whether the server
// had asked for a client certificate, for a TLS 1.2 server that then refuses says no more than "handshake failure".
func (s *Store) Handshake(conn net.Conn, alias, host string, port uint16) (*tls.Conn, error) {
	cfg, err := s.ClientConfig(alias, host, port)
	if err != nil {
		return nil, err
	}
	var asked, presented bool
	present := cfg.GetClientCertificate
	cfg.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cert, err := present(info)
		asked, presented = true, len(cert.Certificate) > 0
		return cert, err
	}
	client := tls.Client(conn, cfg)
	if err := client.Handshake(); err != nil {
		if asked {
			err = &askedError{err, presented}
		}
		return nil, err
	}
	if cfg.CurvePreferences != nil && !client.ConnectionState().DidResume {
		cfg.ClientSessionCache.(*keyedSessions).forget()
	}
	return client, nil
}

// classicCurves are the key exchanges offered where a session is to be resumed: all but the hybrid ones with ML-KEM,
// which cost as much as all the rest of a resumed handshake. What they are for, that nobody can record the traffic now
// and decrypt it with a quantum computer later, comes from the session then: its secret, which was agreed on with one of
// them if the server knows any, goes into the new keys beside the exchange (RFC 8446 section 7.1).
var classicCurves = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}

// serverName returns host as it is verified and sent in SNI: lower case, without the dot of an absolute name
// (RFC 6066 section 3).
func serverName(host string) string {
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// verifyConfig returns a configuration that verifies a server against t; the name to verify is still to be set.
func (t *trust) verifyConfig() *tls.Config {
	return &tls.Config{
		MinVersion:       tls.VersionTLS12,
		NextProtos:       []string{"http/1.1"},
		RootCAs:          t.pool,
		VerifyConnection: refuseWeakChains,
		// A request is one write, and should be one record where it fits.
		DynamicRecordSizingDisabled: true,
	}
}

// presentCertificate returns the answer to a server's request for a certificate. It is pair whatever authorities the
// server names: a certificate that the server then refuses gives a clearer error than one that was never sent.
func presentCertificate(pair *tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if pair == nil {
		pair = new(tls.Certificate) // crypto/tls wants "none" as an empty one
	}
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
}

// keyedSessions is a session cache of one alias, host and port, for one connection. crypto/tls would use the server name
// alone as the key.
type keyedSessions struct {
	sessions tls.ClientSessionCache
	key      string
	closed   bool
}

func (k *keyedSessions) Get(string) (*tls.ClientSessionState, bool) { return k.sessions.Get(k.key) }

func (k *keyedSessions) Put(_ string, state *tls.ClientSessionState) {
	if !k.closed {
		k.sessions.Put(k.key, state)
	}
}

// forget drops the session that the server did not resume, and what it offers in its place: that was agreed on with
// classicCurves, and the next connection is to have better.
func (k *keyedSessions) forget() {
	k.sessions.Put(k.key, nil)
	k.closed = true
}

// refuseWeakChains is a tls.Config.VerifyConnection: one of the verified chains has to be strong.
func refuseWeakChains(state tls.ConnectionState) error {
	var first error
	for _, chain := range state.VerifiedChains {
		err := checkStrength(chain)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		return nil // nothing was verified: not ours to refuse
	}
	return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: first}
}

// checkStrength returns a *weakError for the first certificate of a chain that has a short RSA key or a broken
// signature. The signature of a root on itself proves nothing and does not matter, unless it is the server's own.
func checkStrength(chain []*x509.Certificate) error {
	for i, c := range chain {
		if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < minRSABits {
			return &weakError{i, c, fmt.Sprintf("has an RSA key of %d bits; want at least %d", key.N.BitLen(), minRSABits)}
		}
		if isRoot := i > 0 && i == len(chain)-1; isRoot {
			continue
		}
		if digest := brokenDigest(c.SignatureAlgorithm); digest != "" {
			return &weakError{i, c, "is signed with " + digest + ", which is broken"}
		}
	}
	return nil
}

func brokenDigest(a x509.SignatureAlgorithm) string {
	switch a {
	case x509.MD2WithRSA, x509.MD5WithRSA:
		return "MD5"
	case x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return "SHA-1"
	}
	return ""
}

// weakError is a certificate that is valid but too easily forged.
type weakError struct {
	depth int // 0 is the server's own certificate
	cert  *x509.Certificate
	what  string
}

func (e *weakError) Error() string {
	if e.depth == 0 {
		return "certificate " + e.what
	}
	return fmt.Sprintf("certificate of the authority %s %s", subjectName(e.cert), e.what)
}

// ServerConfig returns the configuration of an https listener: TLS 1.2 and 1.3, HTTP/1.1. With clientCAFile it demands
// a client certificate from an authority in that file. The files are read now; the errors name the key and the file.
func (s *Store) ServerConfig(certFile, keyFile, clientCAFile string) (*tls.Config, error) {
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
	s.hooks.warn(checkValidity("certFile", pair.Leaf))
	cfg := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"},
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
	return cfg, nil
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
