package ca

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

func describeCertificate(e *tls.CertificateVerificationError, host string) string {
	var (
		weak     *weakError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		unknown  x509.UnknownAuthorityError
		critical x509.UnhandledCriticalExtension
	)
	var pin *pinError
	switch {
	case errors.As(e.Err, &weak):
		return weak.Error()
	case errors.As(e.Err, &pin):
		return pin.Error()
	case errors.As(e.Err, &hostname) && hostname.Certificate != nil:
		return describeNames(hostname.Certificate, host)
	case errors.As(e.Err, &invalid) && invalid.Cert != nil:
		return describeInvalid(invalid, e.UnverifiedCertificates, host)
	case errors.As(e.Err, &unknown) && len(e.UnverifiedCertificates) > 0:
		return describeUnknown(unknown, e.UnverifiedCertificates)
	case errors.As(e.Err, &critical):
		return "certificate has a critical extension that is not understood"
	}
	return "certificate is not valid: " + clip(trimPackage(e.Err), 200)
}

// describeNames says which names a certificate has, host not being one of them. A DNS name that looks like an address is
// called one, for it does not count for the address (RFC 9525 section 6.5).
func describeNames(c *x509.Certificate, host string) string {
	const most = 3 // some certificates have hundreds
	wanted, isAddress := host, looksLikeAddress(host)
	var names []string
	for _, name := range c.DNSNames {
		shown := showName(name)
		if looksLikeAddress(name) {
			shown = "the DNS name " + shown
			if isAddress {
				wanted = "the IP address " + host
			}
		}
		names = append(names, shown)
	}
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	switch {
	case len(names) == 0 && c.Subject.CommonName != "":
		return fmt.Sprintf("certificate is for no host: it has only the Common Name %s, which does not count (RFC 9525); "+
			"want %s as a Subject Alternative Name", quote(c.Subject.CommonName), host)
	case len(names) == 0:
		return fmt.Sprintf("certificate is for no host; want %s as a Subject Alternative Name", host)
	case len(names) > most:
		names = append(names[:most], fmt.Sprintf("%d more", len(names)-most))
	}
	return fmt.Sprintf("certificate is for %s, not for %s", strings.Join(names, ", "), wanted)
}

// looksLikeAddress reports whether a name is an IP address, if one in the brackets that IPv6 has in a URL.
func looksLikeAddress(name string) bool {
	if bare, ok := strings.CutPrefix(name, "["); ok {
		name = strings.TrimSuffix(bare, "]")
	}
	_, err := netip.ParseAddr(name)
	return err == nil
}

func describeInvalid(e x509.CertificateInvalidError, chain []*x509.Certificate, host string) string {
	subject := "certificate"
	if len(chain) > 0 && !e.Cert.Equal(chain[0]) {
		subject = "certificate of the authority " + subjectName(e.Cert)
	}
	switch e.Reason {
	case x509.Expired:
		if time.Now().Before(e.Cert.NotBefore) {
			return subject + " is not valid before " + showTime(e.Cert.NotBefore)
		}
		return subject + " expired on " + showTime(e.Cert.NotAfter)
	case x509.NotAuthorizedToSign:
		return subject + " signed another certificate, but it is not a certificate authority"
	case x509.TooManyIntermediates:
		return subject + " does not allow this many intermediate certificates below it"
	case x509.CANotAuthorizedForThisName, x509.UnconstrainedName:
		return fmt.Sprintf("certificate was issued by an authority that may not issue it for %s (name constraints): %s",
			host, clip(e.Detail, 200))
	case x509.IncompatibleUsage, x509.CANotAuthorizedForExtKeyUsage:
		return "certificate may not be used for a TLS server (extended key usage)"
	case x509.TooManyConstraints:
		return "certificate has too many names, or its authority too many name constraints"
	}
	return subject + " is not valid: " + clip(trimPackage(e), 200)
}

// describeUnknown says why a chain led to no root. It walks up from the server's certificate, for crypto/x509 keeps its
// own reason to itself.
func describeUnknown(e x509.UnknownAuthorityError, chain []*x509.Certificate) string {
	top, depth := chain[0], 0
	for depth <= len(chain) {
		if digest := brokenDigest(top.SignatureAlgorithm); digest != "" && !isSelfIssued(top) {
			return (&weakError{depth, top, "is signed with " + digest + ", which is broken"}).Error()
		}
		parent := findIssuer(top, chain)
		if parent == nil {
			break
		}
		if parent.BasicConstraintsValid && !parent.IsCA || parent.Version == 3 && !parent.BasicConstraintsValid {
			return fmt.Sprintf("certificate of %s signed another certificate, but it is not a certificate authority", subjectName(parent))
		}
		top, depth = parent, depth+1
	}
	// What crypto/x509 says itself when a trusted root of that name refused the chain.
	_, hint, _ := strings.Cut(e.Error(), "unknown authority")
	hint = clip(hint, 200)
	switch {
	case isSelfIssued(top) && depth == 0:
		return "certificate is self-signed"
	case isSelfIssued(top):
		return fmt.Sprintf("certificate is signed by an unknown authority: %s is not a trusted root%s", subjectName(top), hint)
	case depth == 0 && hint == "" && len(top.IssuingCertificateURL) > 0:
		// An authority that publishes its certificate is hardly a private one.
		return fmt.Sprintf("certificate is signed by an unknown authority: the server did not send its intermediate certificate %s", issuerName(top))
	case depth == 0 && hint == "":
		return fmt.Sprintf("certificate is signed by an unknown authority, %s: a private one, or the server did not send its intermediate certificate", issuerName(top))
	}
	return fmt.Sprintf("certificate is signed by an unknown authority: the server's chain ends below %s, which is not a trusted root%s", issuerName(top), hint)
}

// findIssuer returns the certificate in the server's chain that c names as its issuer, nil for none and for a
// certificate that names itself. Names suffice here: nothing is trusted for it.
func findIssuer(c *x509.Certificate, chain []*x509.Certificate) *x509.Certificate {
	if isSelfIssued(c) {
		return nil
	}
	for _, candidate := range chain[1:] {
		if bytes.Equal(candidate.RawSubject, c.RawIssuer) {
			return candidate
		}
	}
	return nil
}

func isSelfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

// maxName bounds the distinguished name, in bytes, that is put into words where it has no Common Name. To do so takes time
// that grows with the square of its length: two seconds of the processor for one of 176,000.
const maxName = 1 << 10

// subjectName returns a short quoted name of c for messages.
func subjectName(c *x509.Certificate) string { return shortName(&c.Subject, c.RawSubject) }

func issuerName(c *x509.Certificate) string { return shortName(&c.Issuer, c.RawIssuer) }

// shortName returns name, which is raw in DER, as it is shown.
func shortName(name *pkix.Name, raw []byte) string {
	if name.CommonName != "" {
		return quote(name.CommonName)
	}
	if len(raw) > maxName {
		return quote(fmt.Sprintf("with a name of %d bytes", len(raw)))
	}
	if text := name.String(); text != "" {
		return quote(text)
	}
	return quote("without a name")
}

func quote(name string) string { return strconv.QuoteToASCII(clip(name, 100)) }

// showName returns a DNS name as it is, and anything else that a certificate has in its place quoted.
func showName(name string) string {
	name = clip(name, 100)
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return strconv.QuoteToASCII(name)
	}
	return name
}

// clip shortens what comes from outside to at most n bytes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-3], "") + "..."
}

func showTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
