package ca

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// DescribeError puts an error of a TLS handshake with host into words for those who run that server: no jargon where
// it can be avoided, and what to change. certificate says whether the server's certificate is at fault, rather than the
// handshake. Of a TLS 1.3 server that refuses the client's certificate, or wants one, the error comes with the first
// read after the handshake. Names in the text are those of the certificate, at most 100 bytes each.
func DescribeError(err error, host string) (certificate bool, text string) {
	var verification *tls.CertificateVerificationError
	if errors.As(err, &verification) {
		return true, describeCertificate(verification, serverName(host))
	}
	for _, known := range untypedErrors {
		if err != nil && strings.Contains(err.Error(), known.says) {
			return known.certificate, known.text
		}
	}
	return false, describeHandshake(err, serverName(host))
}

// untypedErrors are those of crypto/tls that only their text tells apart. The tests hold them against the real ones.
var untypedErrors = []struct {
	says        string
	certificate bool
	text        string
}{
	{"tls: failed to parse certificate from server", true, "certificate is malformed"},
	{"tls: server sent certificate containing RSA key larger", true, "certificate has an RSA key of more than 8192 bits"},
	{"tls: server's certificate contains an unsupported type of public key", true,
		"certificate has a key of an unsupported type; want RSA, ECDSA or Ed25519"},
	{"tls: received empty certificates message", true, "the server sent no certificate"},
	{"tls: server selected unsupported protocol version", false, noCommonVersion},
}

const (
	noCommonVersion = "the server supports neither TLS 1.2 nor TLS 1.3"
	wantsClientCert = "the server demands a client certificate and none is configured"
)

func describeCertificate(e *tls.CertificateVerificationError, host string) string {
	var (
		weak     *weakError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		unknown  x509.UnknownAuthorityError
		critical x509.UnhandledCriticalExtension
	)
	switch {
	case errors.As(e.Err, &weak):
		return weak.Error()
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

// describeNames says which names a certificate has, host not being one of them.
func describeNames(c *x509.Certificate, host string) string {
	const most = 3 // some certificates have hundreds
	var names []string
	for _, name := range c.DNSNames {
		names = append(names, showName(name))
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
	return fmt.Sprintf("certificate is for %s, not for %s", strings.Join(names, ", "), host)
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

// askedError is an error of a handshake that came after the server had asked for a client certificate.
type askedError struct {
	err       error
	presented bool // whether it got one
}

func (e *askedError) Error() string { return e.err.Error() }
func (e *askedError) Unwrap() error { return e.err }

func describeHandshake(err error, host string) string {
	var (
		record tls.RecordHeaderError
		asked  *askedError
		netErr net.Error
	)
	code, isAlert := remoteAlert(err)
	switch {
	case errors.As(err, &record):
		if string(record.RecordHeader[:]) == "HTTP/" {
			return "the server answered with plain HTTP instead of TLS"
		}
		return "the server answered with something that is not TLS"
	case errors.As(err, &netErr) && netErr.Timeout():
		return "the TLS handshake timed out"
	case errors.As(err, &asked) && !asked.presented:
		// The server's next word after our empty answer was a refusal, or none: TLS 1.2 has no alert for this.
		return wantsClientCert
	case asked != nil && code == 40:
		return describeAlert(42, host) // TLS 1.2 servers may refuse a certificate with the general alert
	case isAlert:
		return describeAlert(code, host)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the server closed the connection during the TLS handshake"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the server reset the connection during the TLS handshake"
	case err == nil:
		return "no error"
	}
	return clip(trimPackage(err), 200)
}

// remoteAlert returns the number of the alert that the server sent (RFC 8446 section 6). crypto/tls has no exported type
// for it outside of QUIC, only this shape: a *net.OpError around a number.
func remoteAlert(err error) (tls.AlertError, bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return 0, false
	}
	v := reflect.ValueOf(op.Err)
	if v.Kind() != reflect.Uint8 {
		return 0, false
	}
	return tls.AlertError(v.Uint()), true
}

// IsAlert reports whether err is an alert that the server has sent, which DescribeError puts into words.
func IsAlert(err error) bool {
	_, is := remoteAlert(err)
	return is
}

func describeAlert(code tls.AlertError, host string) string {
	name := trimPackage(code)
	switch code {
	case 40, 71: // handshake_failure, insufficient_security
		return "the server refused the TLS handshake (" + name + "): it accepts none of the cipher suites offered, or demands a client certificate"
	case 42, 43, 44, 45, 46, 48, 49: // bad_certificate to unknown_ca, access_denied
		return "the server rejected the client certificate (" + name + ")"
	case 70: // protocol_version
		return noCommonVersion
	case 112: // unrecognized_name
		return "the server does not know the name " + host
	case 116: // certificate_required
		return wantsClientCert
	case 120: // no_application_protocol
		return "the server does not speak HTTP/1.1 over TLS"
	}
	return "the server ended the TLS handshake (" + name + ")"
}

// subjectName returns a short quoted name of c for messages.
func subjectName(c *x509.Certificate) string {
	return quote(firstOf(c.Subject.CommonName, c.Subject.String(), "without a name"))
}

func issuerName(c *x509.Certificate) string {
	return quote(firstOf(c.Issuer.CommonName, c.Issuer.String(), "without a name"))
}

func firstOf(names ...string) string {
	for _, name := range names {
		if name != "" {
			return name
		}
	}
	return ""
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
