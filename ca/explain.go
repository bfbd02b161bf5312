package ca

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"syscall"
)

// Cause is the kind of a failure of TLS with a destination, as RFC 9209 section 2.3 tells them apart.
type Cause int

// The values of Cause.
const (
	CauseProtocol      Cause = iota // the handshake failed: tls_protocol_error
	CauseAlert                      // the server ended it with an alert: tls_alert_received
	CauseCertificate                // the server's certificate is not valid: tls_certificate_error
	CauseTimeout                    // the handshake took too long: connection_timeout
	CauseRenegotiation              // the server asked for a renegotiation that is not allowed: tls_protocol_error
)

// Failure is a failure of TLS with a destination, for those who run that server.
type Failure struct {
	Cause Cause
	// Text has no jargon where it can be avoided, and says what to change. Names in it are those of the certificate, at
	// most 100 bytes each.
	Text string
	// Alert is the number of the server's alert (RFC 8446 section 6) and its name, as RFC 9209 has them beside
	// tls_alert_received; AlertName is "" where Cause is not CauseAlert.
	Alert     uint8
	AlertName string
}

// Explain puts an error of a TLS handshake with host into words. Of a TLS 1.3 server that refuses the client's
// certificate, or wants one, the error comes with the first read after the handshake, and so does that of a renegotiation.
func Explain(err error, host string) Failure {
	host = serverName(host)
	var verification *tls.CertificateVerificationError
	if errors.As(err, &verification) {
		return Failure{Cause: CauseCertificate, Text: describeCertificate(verification, host)}
	}
	for _, known := range untypedErrors {
		if err != nil && strings.Contains(err.Error(), known.says) {
			text := known.text
			if text == noCommonVersion {
				text = versionText(err)
			}
			return Failure{Cause: known.cause, Text: text}
		}
	}
	if IsRenegotiation(err) {
		return Failure{Cause: CauseRenegotiation, Text: "the server asked for a renegotiation, perhaps for a client certificate; " +
			"renegotiation in its entry of destinations allows one"}
	}
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		return Failure{Cause: CauseTimeout, Text: "the TLS handshake timed out"}
	}
	f := Failure{Text: describeHandshake(err, host)}
	if code, is := remoteAlert(err); is {
		f.Cause, f.Alert, f.AlertName = CauseAlert, uint8(code), trimPackage(code)
	}
	return f
}

// DescribeError is Explain's text, and whether the server's certificate is at fault rather than the handshake.
func DescribeError(err error, host string) (certificate bool, text string) {
	f := Explain(err, host)
	return f.Cause == CauseCertificate, f.Text
}

// IsAlert reports whether err is an alert that the server has sent, which Explain puts into words.
func IsAlert(err error) bool {
	_, is := alertOf(err, "remote error")
	return is
}

// IsRenegotiation reports whether err is that a server asked for a renegotiation, which was refused: it is not allowed, or
// it would have been the second. It comes from a read or write after the handshake.
func IsRenegotiation(err error) bool {
	code, is := alertOf(err, "local error")
	return is && code == 100 // no_renegotiation
}

// untypedErrors are those of crypto/tls that only their text tells apart. The tests hold them against the real ones.
var untypedErrors = []struct {
	says  string
	cause Cause
	text  string
}{
	{"x509: negative serial number", CauseCertificate, "certificate has a negative serial number, which RFC 5280 forbids; want one that is above 0"},
	{"tls: failed to parse certificate from server", CauseCertificate, "certificate is malformed"},
	{"tls: server sent certificate containing RSA key larger", CauseCertificate, "certificate has an RSA key of more than 8192 bits"},
	{"tls: server's certificate contains an unsupported type of public key", CauseCertificate,
		"certificate has a key of an unsupported type; want RSA, ECDSA or Ed25519"},
	{"tls: received empty certificates message", CauseCertificate, "the server sent no certificate"},
	{"tls: server selected unsupported protocol version", CauseProtocol, noCommonVersion},
	{"tls: server selected unadvertised ALPN protocol", CauseProtocol, "the server chose a protocol that was not offered: perhaps it speaks HTTP/2 alone; want HTTP/1.1"},
	{"tls: server selected an unconfigured cipher suite", CauseProtocol, noCommonSuite},
	{"tls: server chose an unconfigured cipher suite", CauseProtocol, noCommonSuite},
}

const (
	noCommonVersion = "the server supports neither TLS 1.2 nor TLS 1.3"
	noCommonSuite   = "the server chose a cipher suite that was not offered; perhaps legacyCiphers in its entry of destinations cures it"
	wantsClientCert = "the server demands a client certificate and none is configured"
)

func describeHandshake(err error, host string) string {
	var (
		record tls.RecordHeaderError
		made   *handshakeError
	)
	code, isAlert := remoteAlert(err)
	asked := errors.As(err, &made) && made.asked
	switch {
	case errors.As(err, &record):
		return describeRecord(record.RecordHeader)
	case asked && !made.presented:
		// The server's next word after our empty answer was a refusal, or none: TLS 1.2 has no alert for this.
		return wantsClientCert
	case asked && code == 40:
		return describeAlert(42, host, err) // TLS 1.2 servers may refuse a certificate with the general alert
	case isAlert:
		return describeAlert(code, host, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the server closed the connection during the TLS handshake"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the server reset the connection during the TLS handshake"
	case err == nil:
		return "no error"
	}
	return clip(trimPackage(err), 200)
}

// describeRecord says what the first bytes of a server are that are no TLS record.
func describeRecord(head [5]byte) string {
	switch {
	case string(head[:]) == "HTTP/":
		return "the server answered with plain HTTP instead of TLS"
	case head[0] == 0 && head[1] == 0 && head[3] == 4 && head[4] == 0:
		// A SETTINGS frame, which every HTTP/2 server begins with (RFC 9113 section 3.4).
		return "the server answered with plain HTTP/2 instead of TLS: it speaks HTTP/2"
	}
	return "the server answered with something that is not TLS"
}

// remoteAlert returns the number of the alert that the server sent (RFC 8446 section 6).
func remoteAlert(err error) (tls.AlertError, bool) { return alertOf(err, "remote error") }

// alertOf returns the number of an alert. crypto/tls has no exported type for it outside of QUIC, only this shape: a
// *net.OpError around a number.
func alertOf(err error, side string) (tls.AlertError, bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != side {
		return 0, false
	}
	v := reflect.ValueOf(op.Err)
	if v.Kind() != reflect.Uint8 {
		return 0, false
	}
	return tls.AlertError(v.Uint()), true
}

func describeAlert(code tls.AlertError, host string, err error) string {
	name := trimPackage(code)
	switch code {
	case 40, 71: // handshake_failure, insufficient_security
		text := "the server refused the TLS handshake (" + name + "): it accepts none of the cipher suites offered, or demands a client certificate"
		if code == 40 && !offered(err).legacy() {
			text += "; perhaps legacyCiphers in its entry of destinations cures it"
		}
		return text
	case 42, 43, 44, 45, 46, 48, 49: // bad_certificate to unknown_ca, access_denied
		return "the server rejected the client certificate (" + name + ")"
	case 70: // protocol_version
		return versionText(err)
	case 112: // unrecognized_name
		return "the server does not know the name " + host
	case 116: // certificate_required
		return wantsClientCert
	case 120: // no_application_protocol
		return "the server does not speak HTTP/1.1 over TLS: perhaps it speaks HTTP/2 alone"
	}
	return "the server ended the TLS handshake (" + name + ")"
}

// versionText says which versions were offered in vain, and what might cure it.
func versionText(err error) string {
	switch offered(err).lowest() {
	case tls.VersionTLS13:
		return "the server does not support TLS 1.3; minVersion in its entry of destinations demands that"
	case tls.VersionTLS12:
		return noCommonVersion + "; minVersion in its entry of destinations allows older ones"
	case tls.VersionTLS11:
		return "the server supports none of TLS 1.1 to TLS 1.3; minVersion in its entry of destinations allows older ones"
	}
	return "the server supports none of TLS 1.0 to TLS 1.3"
}

// offered returns the rules that a handshake was made under, nil where they are not known.
func offered(err error) *ruleSet {
	var made *handshakeError
	if errors.As(err, &made) {
		return made.rules
	}
	return nil
}

func (r *ruleSet) legacy() bool { return r != nil && r.suites != nil }

func (r *ruleSet) lowest() uint16 {
	if r == nil {
		return tls.VersionTLS12
	}
	return r.minVersion
}
