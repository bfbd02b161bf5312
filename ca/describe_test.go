package ca

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"whsentry/ca/catest"
)

func TestDescribeHandshake(t *testing.T) {
	root := catest.Root(t, "Root")
	stranger := catest.Root(t, "Stranger")
	leaf := root.Leaf(t, testHost)
	config := func(change func(*tls.Config)) *tls.Config {
		cfg := &tls.Config{Certificates: []tls.Certificate{leaf}}
		change(cfg)
		return cfg
	}
	reply := func(text string) func(net.Conn) {
		return func(conn net.Conn) {
			readSome(conn)
			io.WriteString(conn, text)
		}
	}
	alert := func(code byte) func(net.Conn) { return reply("\x15\x03\x03\x00\x02\x02" + string([]byte{code})) }
	https := func(change func(*tls.Config)) func(net.Conn) {
		return func(conn net.Conn) { greet(conn, config(change), nil) }
	}
	demand := func(version uint16) func(*tls.Config) {
		return func(c *tls.Config) { c.MaxVersion, c.ClientAuth = version, tls.RequireAnyClientCert }
	}
	own := func(version uint16) func(*tls.Config) {
		return func(c *tls.Config) {
			c.MaxVersion, c.ClientAuth, c.ClientCAs = version, tls.RequireAndVerifyClientCert, root.Pool()
		}
	}
	tests := []struct {
		name   string
		alias  string
		handle func(net.Conn)
		want   string
	}{
		{"plain http", "", reply("HTTP/1.1 400 Bad Request\r\n\r\n"), "the server answered with plain HTTP instead of TLS"},
		{"garbage", "", reply("220 mail.example.com ESMTP\r\n"), "the server answered with something that is not TLS"},
		{"zeros", "", reply(strings.Repeat("\x00", 64)), "not TLS"},
		{"plain http/2", "", reply("\x00\x00\x12\x04\x00\x00\x00\x00\x00"), "it speaks HTTP/2"},
		{"http/2 chosen nonetheless", "", reply(serverHelloWith("\x00\x10\x00\x05\x00\x03\x02h2")), "perhaps it speaks HTTP/2 alone"},
		{"closed at once", "", func(conn net.Conn) { readSome(conn) }, "the server closed the connection during the TLS handshake"},
		{"closed within a record", "", reply("\x16\x03\x03\x01\x00\x02"), "the server closed the connection during the TLS handshake"},
		{"reset", "", func(conn net.Conn) { readSome(conn); conn.(*net.TCPConn).SetLinger(0) }, "the server reset the connection during the TLS handshake"},
		{"only tls 1.1", "", https(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }), noCommonVersion},
		{"only tls 1.0", "", https(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10 }), noCommonVersion},
		{"tls 1.1 chosen nonetheless", "", reply("\x16\x03\x02\x00\x2a\x02\x00\x00\x26\x03\x02" + strings.Repeat("r", 32) + "\x00\x00\x2f\x00"), noCommonVersion},
		{"only http/2", "", alert(120), "the server does not speak HTTP/1.1 over TLS"},
		{"no alpn at all", "", https(func(*tls.Config) {}), ""},
		{"handshake failure", "", alert(40), "the server refused the TLS handshake (handshake failure)"},
		{"insufficient security", "", alert(71), "the server refused the TLS handshake (insufficient security level)"},
		{"unrecognized name", "", alert(112), "the server does not know the name " + testHost},
		{"internal error", "", alert(80), "the server ended the TLS handshake (internal error)"},
		{"unheard-of alert", "", alert(199), "the server ended the TLS handshake (alert(199))"},

		{"certificate demanded, tls 1.3", "", https(demand(tls.VersionTLS13)), wantsClientCert},
		{"certificate demanded, tls 1.2", "", https(demand(tls.VersionTLS12)), wantsClientCert},
		{"certificate given, tls 1.3", "good", https(own(tls.VersionTLS13)), ""},
		{"certificate given, tls 1.2", "good", https(own(tls.VersionTLS12)), ""},
		{"certificate demanded, tls 1.2, closed", "", hangUp(config(demand(tls.VersionTLS12))), wantsClientCert},
		{"certificate refused, tls 1.2, closed", "good", hangUp(config(demand(tls.VersionTLS12))), "the connection during the TLS handshake"},
		{"certificate refused, tls 1.3", "bad", https(own(tls.VersionTLS13)), "the server rejected the client certificate ("},
		{"certificate refused, tls 1.2", "bad", https(own(tls.VersionTLS12)), "the server rejected the client certificate ("},
	}
	cfg := testConfig(t, root)
	cfg.ClientCerts = map[string]KeyPairFiles{
		"good": keyPairFiles(t, root.Leaf(t, "client")), "bad": keyPairFiles(t, stranger.Leaf(t, "client")),
	}
	s := newStore(t, cfg)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := dial(t, s, tt.alias, testHost, serve(t, tt.handle))
			checkError(t, err, testHost, false, tt.want)
		})
	}
}

// hangUp returns a server that closes the connection where cfg would have it send an alert: at the client's certificate.
func hangUp(cfg *tls.Config) func(net.Conn) {
	cfg.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { return errors.New("no") }
	return func(conn net.Conn) { tls.Server(&fewWrites{Conn: conn, left: 1}, cfg).Handshake() }
}

// fewWrites is a connection that closes instead of writing more than a number of times.
type fewWrites struct {
	net.Conn
	left int
}

func (c *fewWrites) Write(p []byte) (int, error) {
	if c.left--; c.left < 0 {
		c.Conn.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// readSome reads the ClientHello, or most of it: closing with unread input would reset the connection.
func readSome(conn net.Conn) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(conn, head); err == nil {
		io.CopyN(io.Discard, conn, int64(head[3])<<8|int64(head[4]))
	}
}

// serverHelloWith is a TLS 1.2 ServerHello with extensions, of a suite that was offered.
func serverHelloWith(extensions string) string {
	n := byte(len(extensions))
	body := "\x03\x03" + strings.Repeat("r", 32) + "\x00\xc0\x2f\x00\x00" + string([]byte{n}) + extensions
	return "\x16\x03\x03\x00" + string([]byte{byte(len(body) + 4)}) + "\x02\x00\x00" + string([]byte{byte(len(body))}) + body
}

func TestDescribeStalledHandshake(t *testing.T) {
	s := newStore(t, testConfig(t))
	done := make(chan struct{})
	port := serve(t, func(net.Conn) { <-done })
	_, err := dialTimeout(t, s, "", testHost, port, 50*time.Millisecond)
	close(done)
	checkError(t, err, testHost, false, "the TLS handshake timed out")
}

// TestDescribeUntyped holds the texts that DescribeError recognises against those that crypto/tls writes.
func TestDescribeUntyped(t *testing.T) {
	root := catest.Root(t, "Root")
	leaf := root.Leaf(t, testHost)
	send := func(certs ...[]byte) tls.Certificate {
		c := leaf
		c.Certificate = certs
		return c
	}
	tests := []struct {
		name string
		cert tls.Certificate
		want string
	}{
		{"malformed certificate", send([]byte("certificate")), "certificate is malformed"},
		{"malformed intermediate", send(leaf.Certificate[0], []byte{0x30, 0}), "certificate is malformed"},
		{"x448 key", send(x448Certificate(t, root)), "certificate has a key of an unsupported type"},
		{"huge rsa key", send(hugeCertificate(t, root)), "more than 8192 bits"},
		{"negative serial number", send(negative(t, leaf.Leaf)), "certificate has a negative serial number"},
		{"negative serial number of an intermediate", send(leaf.Certificate[0], negative(t, leaf.Leaf)), "certificate has a negative serial number"},
	}
	cfg := testConfig(t)
	cfg.InsecureSkipVerify = true // or the unknown authority comes first
	s := newStore(t, cfg)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := dial(t, s, "", testHost, serveCertificate(t, tt.cert))
			checkError(t, err, testHost, true, tt.want)
		})
	}
}

// x448Certificate is one with a key that crypto/x509 does not know.
func x448Certificate(t *testing.T, issuer *catest.Authority) []byte {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der := issuer.Leaf(t, testHost, catest.Key(key)).Certificate[0]
	ed25519OID, x448OID := []byte{6, 3, 0x2b, 0x65, 0x70}, []byte{6, 3, 0x2b, 0x65, 0x6f}
	return bytes.Replace(der, ed25519OID, x448OID, 1)
}

// hugeCertificate is one with an RSA key of 8200 bits, which would take long to check.
func hugeCertificate(t *testing.T, issuer *catest.Authority) []byte {
	t.Helper()
	n := new(big.Int).Lsh(big.NewInt(1), 8199)
	template := &x509.Certificate{NotAfter: time.Now().Add(time.Hour), DNSNames: []string{testHost}}
	pub := &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Certificate, pub, issuer.Key)
	if err != nil {
		t.Fatalf("make a certificate: %v", err)
	}
	return der
}

// negative returns c with a serial number below 0, which CreateCertificate refuses to write.
func negative(t *testing.T, c *x509.Certificate) []byte {
	t.Helper()
	der, serial := bytes.Clone(c.Raw), c.SerialNumber.Bytes()
	at := bytes.Index(der, serial)
	if at < 1 || der[at-1] != byte(len(serial)) {
		t.Fatalf("the serial number %x is not where it should be", serial)
	}
	der[at] |= 0x80
	return der
}

func TestDescribeOthers(t *testing.T) {
	chain := []*x509.Certificate{catest.Root(t, "Root").Certificate}
	verification := func(err error) error {
		return fmt.Errorf("handshake: %w", &tls.CertificateVerificationError{UnverifiedCertificates: chain, Err: err})
	}
	long := errors.New(strings.Repeat("x", 1000))
	tests := []struct {
		name        string
		err         error
		certificate bool
		want        string
	}{
		{"no error", nil, false, "no error"},
		{"any error", errors.New("tls: bad luck"), false, "bad luck"},
		{"any verification error", verification(errors.New("x509: bad luck")), true, "certificate is not valid: bad luck"},
		{"unknown authority of nothing", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, true, "certificate is not valid: certificate signed by unknown authority"},
		{"invalid nothing", verification(x509.CertificateInvalidError{Reason: x509.NoValidChains}), true, "certificate is not valid: no valid chains built"},
		{"policies", verification(x509.CertificateInvalidError{Cert: chain[0], Reason: x509.NoValidChains}), true, "certificate is not valid: no valid chains built"},
		{"long", long, false, strings.Repeat("x", 197) + "..."},
		{"long verification error", verification(long), true, "certificate is not valid: " + strings.Repeat("x", 197) + "..."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			certificate, text := DescribeError(tt.err, testHost)
			if certificate != tt.certificate || text != tt.want {
				t.Errorf("DescribeError(%v): got %v, %q; want %v, %q", tt.err, certificate, text, tt.certificate, tt.want)
			}
		})
	}
}

// TestLongNames shows that a name is put into words only where it is short.
func TestLongNames(t *testing.T) {
	for _, tt := range []struct {
		names int
		want  string
	}{
		{2, `"1.2.3=#130161,1.2.3=#130161"`},
		{20_000, `"with a name of 220005 bytes"`},
	} {
		name := slices.Repeat(pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{1, 2, 3}, Value: "a"}}}, tt.names)
		raw, err := asn1.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		c := catest.SelfSigned(t, testHost, func(c *catest.Template) { c.RawSubject = raw }).Leaf
		if subject, issuer := subjectName(c), issuerName(c); subject != tt.want || issuer != tt.want {
			t.Errorf("got %s and %s; want %s", subject, issuer, tt.want)
		}
	}
}
