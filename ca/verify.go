package ca

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

const (
	// minRSABits is the shortest RSA key accepted in a destination's chain.
	minRSABits = 2048
	// maxVerified bounds the chains that are remembered as valid, for each set of roots.
	maxVerified = 4096
	// maxVerifiedBytes bounds one of them, as the server sends it; longer ones are verified each time.
	maxVerifiedBytes = 16 << 10
	// maxSent and maxSentBytes bound what a server sends of its chain, with all that goes with it. crypto/tls takes 256 KiB,
	// which can be a thousand certificates and 3 MiB of memory for as long as a connection lives. OpenSSL takes 100 KiB, too.
	maxSent      = 100
	maxSentBytes = 100 << 10
)

// anchors are the roots of a moment, with the chains that were found to lead to one of them. They never change, so what
// was valid stays valid until it expires.
type anchors struct {
	pool     *x509.CertPool
	verified *lru[chainSum, *verifiedChain]
}

// chainSum stands for the bytes of the certificates that a server sends.
type chainSum [sha256.Size]byte

// verifiedChain is what a server sends and where it leads. It has the certificates, so that crypto/tls, which remembers
// those that somebody holds, does not parse them again.
type verifiedChain struct {
	chains      [][]*x509.Certificate // each with a root, all strong
	added       []Added
	from, until time.Time
}

func newAnchors(pool *x509.CertPool, roots []root) *anchors {
	for _, r := range roots {
		pool.AddCertWithConstraint(r.cert, r.constraint)
	}
	return &anchors{pool: pool, verified: newLRU[chainSum, *verifiedChain](maxVerified)}
}

// verify is a tls.Config.VerifyConnection, which crypto/tls calls for resumed sessions too. The certificates are the
// server's own, even then.
func (a *attempt) verify(state tls.ConnectionState) error {
	certs := state.PeerCertificates
	if a.report != nil {
		a.report.Chain = certs
	}
	rules := a.rules.current.Load()
	size := sentBytes(&state)
	a.sessions.tooLarge = len(certs) > maxSessionCerts || size > maxSessionBytes
	err := checkSent(len(certs), size)
	switch {
	case err != nil:
	case a.store.cfg.InsecureSkipVerify:
		a.sessions.until = certs[0].NotAfter
	case len(rules.pins) > 0:
		a.sessions.until = certs[0].NotAfter
		if err = rules.checkPins(certs[0]); err == nil && a.report != nil {
			a.report.Pinned = true
		}
	default:
		err = a.verifyChain(rules.anchorsIn(a.trust), certs)
	}
	if err != nil {
		a.sessions.forget()
		return &tls.CertificateVerificationError{UnverifiedCertificates: certs, Err: err}
	}
	return nil
}

// sentBytes is the size of what a server has sent about itself, which its connection and its session keep.
func sentBytes(state *tls.ConnectionState) (size int) {
	for _, c := range state.PeerCertificates {
		size += len(c.Raw)
	}
	for _, sct := range state.SignedCertificateTimestamps {
		size += len(sct)
	}
	return size + len(state.OCSPResponse)
}

// checkSent refuses what is more than any client needs.
func checkSent(certs, size int) error {
	switch {
	case certs > maxSent:
		return fmt.Errorf("the server sends %d certificates; want at most %d", certs, maxSent)
	case size > maxSentBytes:
		return fmt.Errorf("the server sends %d bytes of certificates; want at most %d", size, maxSentBytes)
	}
	return nil
}

// verifyChain finds a way from the server's certificate to a root, and holds the certificate against the host.
func (a *attempt) verifyChain(roots *anchors, certs []*x509.Certificate) error {
	now := a.store.now()
	sum, short := sumChain(certs)
	if v, ok := roots.verified.get(sum); ok && !now.Before(v.from) && now.Before(v.until) {
		if err := certs[0].VerifyHostname(a.host); err != nil {
			return err
		}
		a.trusted(v)
		return nil
	}
	opts := x509.VerifyOptions{Roots: roots.pool, Intermediates: x509.NewCertPool(), DNSName: a.host, CurrentTime: now}
	for _, c := range certs[1:] {
		opts.Intermediates.AddCert(c)
	}
	chains, err := certs[0].Verify(opts)
	var added []Added
	if err != nil {
		if chains, added, err = a.complete(certs, opts, err); err != nil {
			return err
		}
	}
	v, err := newVerifiedChain(chains, added, now)
	if err != nil {
		return err
	}
	if short {
		roots.verified.put(sum, v)
	}
	a.trusted(v)
	return nil
}

// trusted notes what the server's chain was found to be.
func (a *attempt) trusted(v *verifiedChain) {
	a.sessions.until = v.until
	if a.report != nil {
		a.report.Verified, a.report.Added = v.chains, v.added
	}
}

// sumChain returns what certs are remembered by, and whether they are short enough for it.
func sumChain(certs []*x509.Certificate) (sum chainSum, short bool) {
	h := sha256.New()
	total := 0
	for _, c := range certs {
		total += len(c.Raw)
		h.Write(c.Raw) // DER says where it ends, so no two lists of certificates have the same bytes
	}
	h.Sum(sum[:0])
	return sum, total <= maxVerifiedBytes
}

// newVerifiedChain keeps the strong ones of chains; where there is none it returns what is wrong with the first.
func newVerifiedChain(chains [][]*x509.Certificate, added []Added, now time.Time) (*verifiedChain, error) {
	v := &verifiedChain{added: added}
	var first error
	for _, chain := range chains {
		if err := checkStrength(chain); err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		v.chains = append(v.chains, chain)
		from, until := validity(chain)
		// They are all valid now. Remembered is only for how long one of them is.
		if len(v.chains) == 1 || until.After(v.until) {
			v.from, v.until = from, until
		}
	}
	if len(v.chains) == 0 && first == nil {
		first = errors.New("no chain leads to a root")
	}
	if first != nil && len(v.chains) == 0 {
		return nil, first
	}
	if limit := now.Add(fetchedFor); len(added) > 0 && limit.Before(v.until) {
		v.until = limit
	}
	return v, nil
}

// validity returns the time within which all of a chain are valid.
func validity(chain []*x509.Certificate) (from, until time.Time) {
	from, until = chain[0].NotBefore, chain[0].NotAfter
	for _, c := range chain[1:] {
		from, until = latest(from, c.NotBefore), earliest(until, c.NotAfter)
	}
	return from, until
}

// checkStrength returns a *weakError for the first certificate of a chain that has a short RSA key or a broken
// signature. The signature of a root on itself proves nothing and does not matter, unless it is the server's own.
func checkStrength(chain []*x509.Certificate) error {
	for i, c := range chain {
		if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < minRSABits {
			return newShortKeyError(i, c, key)
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

func newShortKeyError(depth int, c *x509.Certificate, key *rsa.PublicKey) error {
	return &weakError{depth, c, fmt.Sprintf("has an RSA key of %d bits; want at least %d", key.N.BitLen(), minRSABits)}
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

// verifyConfig returns a configuration that verifies a server against t as crypto/tls does, for downloads of bundles.
func (t *trust) verifyConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: http11,
		RootCAs:    t.anchors.pool,
		VerifyConnection: func(state tls.ConnectionState) error {
			if _, err := newVerifiedChain(state.VerifiedChains, nil, time.Now()); err != nil {
				return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
			}
			return nil
		},
	}
}

// isUnknownAuthority reports whether a chain led to no root.
func isUnknownAuthority(err error) bool {
	var unknown x509.UnknownAuthorityError
	return errors.As(err, &unknown)
}
