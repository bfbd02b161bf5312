package ca

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

const (
	// maxAdded bounds the certificates that a chain is completed with, remembered ones included: one that names itself as
	// its issuer would be added for ever.
	maxAdded = 2
	// maxSigners bounds the signatures that are checked to find out which certificate is missing: a server may send hundreds
	// of one name.
	maxSigners = 32
	// maxFetched bounds what is fetched, in bytes, and fetchTimeout how long it may take.
	maxFetched   = 64 << 10
	fetchTimeout = 3 * time.Second
	// maxFetchedRSABits is the longest RSA key of what is fetched, as crypto/tls has it of what a server sends: maxFetched has
	// room for one of 480,000 bits, and to check a signature with that takes 15 seconds, which nothing ends.
	maxFetchedRSABits = 8192
	// maxFetchURL bounds the URL that a certificate names, in bytes.
	maxFetchURL = 2 << 10
	// maxFetches bounds the URLs that are remembered: a certificate for fetchedFor, a failure for failedFor.
	maxFetches = 1000
	fetchedFor = 24 * time.Hour
	failedFor  = 10 * time.Minute
)

// complete looks for a way to a root with the certificates that the server failed to send, where that is what is wrong:
// each certificate says where its issuer's is found (authority information access, RFC 5280 section 4.2.2.1). They only
// complete a chain and are never roots, which is why crypto/tls, that would not wait for them, does not verify.
func (a *attempt) complete(certs []*x509.Certificate, opts x509.VerifyOptions, err error) ([][]*x509.Certificate, []Added, error) {
	if a.store.fetcher == nil || !isUnknownAuthority(err) {
		return nil, nil, err
	}
	var added []Added
	top := topOf(certs)
	for len(added) < maxAdded {
		next, fetchErr := a.fetchIssuer(top)
		if fetchErr != nil {
			if a.report != nil {
				a.report.FetchErr = fetchErr
			}
			return nil, nil, err
		}
		if next.Certificate == nil {
			return nil, nil, err
		}
		added, top = append(added, next), next.Certificate
		opts.Intermediates.AddCert(top)
		chains, verifyErr := certs[0].Verify(opts)
		if verifyErr == nil {
			return chains, added, nil
		}
		if digest := brokenDigest(top.SignatureAlgorithm); digest != "" {
			return nil, nil, &weakError{len(added), top, "is signed with " + digest + ", which is broken"}
		}
		if !isUnknownAuthority(verifyErr) {
			return nil, nil, verifyErr
		}
	}
	return nil, nil, err
}

// topOf returns the certificate of the server's chain that none of the others has signed. A name alone proves nothing: an
// authority that has changed its key keeps it, and servers go on sending the old certificate.
func topOf(certs []*x509.Certificate) *x509.Certificate {
	top := certs[0]
	for tried := 0; !isSelfIssued(top); {
		i := slices.IndexFunc(certs[1:], func(c *x509.Certificate) bool {
			if !bytes.Equal(c.RawSubject, top.RawIssuer) {
				return false
			}
			tried++
			return tried <= maxSigners && hasSigned(c, top)
		})
		if i < 0 {
			break
		}
		top = certs[1+i]
	}
	return top
}

// hasSigned reports whether issuer's key has signed c, for all that can be known: a broken digest is not computed.
func hasSigned(issuer, c *x509.Certificate) bool {
	return brokenDigest(c.SignatureAlgorithm) != "" ||
		issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// fetchIssuer returns the certificate that has signed c, none where c does not say where it is. Nothing is asked for after
// the handshake: a server that renegotiates has had its time.
func (a *attempt) fetchIssuer(c *x509.Certificate) (Added, error) {
	raw := issuerURL(c)
	if raw == "" || isSelfIssued(c) || a.ctx == nil {
		return Added{}, nil
	}
	cert, err := a.store.fetcher.get(a.ctx, a.store.learned.fetched, raw, a.store.now)
	switch {
	case err != nil:
		return Added{}, fmt.Errorf("fetch the certificate of %s from %s: %w", issuerName(c), clip(raw, 200), err)
	case !bytes.Equal(cert.RawSubject, c.RawIssuer) || c.CheckSignatureFrom(cert) != nil:
		return Added{}, fmt.Errorf("fetch the certificate of %s from %s: it is %s, which has not signed the one below it",
			issuerName(c), clip(raw, 200), subjectName(cert))
	case isSelfIssued(cert):
		return Added{}, fmt.Errorf("fetch the certificate of %s from %s: it is a root, which is not trusted", issuerName(c), clip(raw, 200))
	}
	return Added{Certificate: cert, URL: raw}, nil
}

// issuerURL returns the first address that is fit to be asked: http, port 80, without user information.
func issuerURL(c *x509.Certificate) string {
	for _, raw := range c.IssuingCertificateURL {
		if len(raw) > maxFetchURL {
			continue
		}
		u, err := url.Parse(raw)
		if err == nil && u.Scheme == "http" && u.Hostname() != "" && u.User == nil && (u.Port() == "" || u.Port() == "80") {
			return raw
		}
	}
	return ""
}

// fetcher fetches certificates. It is nil where that is not wanted.
type fetcher struct {
	client  *http.Client
	timeout time.Duration // of one certificate
}

// newFetcher returns one that connects with dial alone: past proxies, without redirects, a connection for each request.
func newFetcher(dial func(ctx context.Context, host string, port uint16) (net.Conn, error)) *fetcher {
	transport := &http.Transport{
		Proxy: nil,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			number, err := strconv.ParseUint(port, 10, 16)
			if err != nil {
				return nil, err
			}
			return dial(ctx, host, uint16(number))
		},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 16 << 10,
	}
	return &fetcher{timeout: fetchTimeout, client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// fetched is what became of a URL. done is closed once the other fields are set, which then do not change.
type fetched struct {
	done     chan struct{}
	der      []byte // the certificate as it came: parsed, it can be ten times as large, and there are maxFetches of them
	err      error
	until    time.Time
	canceled bool // whoever asked went away: nothing is known
}

// get returns the certificate at raw, or why there is none, from known where it is there. Of several that ask at once one
// goes, and the others wait for it, or until ctx ends.
func (f *fetcher) get(ctx context.Context, known *fetches, raw string, now func() time.Time) (*x509.Certificate, error) {
	for {
		got, mine := known.claim(raw, now())
		if mine {
			cert, err := f.fetch(ctx, raw)
			if got.err = err; err == nil {
				got.der = bytes.Clone(cert.Raw)
			}
			got.settle(ctx, now())
			if got.canceled {
				known.release(raw, got)
			}
			close(got.done)
			return cert, err
		}
		select {
		case <-got.done:
			if !got.canceled {
				return got.certificate()
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// certificate returns what was fetched, or why nothing was.
func (got *fetched) certificate() (*x509.Certificate, error) {
	if got.err != nil {
		return nil, got.err
	}
	return x509.ParseCertificate(got.der)
}

// settle decides how long an outcome is good for.
func (got *fetched) settle(ctx context.Context, now time.Time) {
	switch {
	case got.err == nil:
		got.until = now.Add(fetchedFor)
	case ctx.Err() != nil:
		got.canceled = true
	default:
		got.until = now.Add(failedFor)
	}
}

// fetch asks for a certificate once.
func (f *fetcher) fetch(ctx context.Context, raw string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, raw, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "whsentry")
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answered %d %s; want 200", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	data, err := readBounded(resp.Body, maxFetched, "the certificate")
	if err != nil {
		return nil, err
	}
	return parseFetched(data)
}

// parseFetched reads one certificate, DER as RFC 5280 wants it or PEM as some have it.
func parseFetched(data []byte) (*x509.Certificate, error) {
	if block, _ := pem.Decode(data); block != nil {
		if block.Type != pemCertificate {
			return nil, fmt.Errorf("it is a PEM %s; want a certificate", quote(block.Type))
		}
		data = block.Bytes
	}
	cert, err := x509.ParseCertificate(data)
	if err != nil {
		return nil, errors.New("it is no certificate in DER or PEM: " + clip(trimPackage(err), 100))
	}
	if key, ok := cert.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxFetchedRSABits {
		return nil, fmt.Errorf("it has an RSA key of %d bits; want at most %d", key.N.BitLen(), maxFetchedRSABits)
	}
	return cert, nil
}
