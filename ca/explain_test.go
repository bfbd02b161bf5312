package ca

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"whsentry/ca/catest"
)

// TestCures holds what a failed handshake says about what might cure it against what does.
func TestCures(t *testing.T) {
	root := catest.Root(t, "Root", catest.RSA(t, 2048))
	cfg := testConfig(t, root)
	cfg.Destinations = []RulesConfig{
		{}, {LegacyCiphers: true}, {MinVersion: "1.0"}, {MinVersion: "1.1"}, {MinVersion: "1.3"}, {MinVersion: "1.0", LegacyCiphers: true},
	}
	const none, plain, legacy, from10, from11, from13, old = -1, 0, 1, 2, 3, 4, 5
	s := newStore(t, cfg)
	suites := func(ids ...uint16) *tls.Config { return &tls.Config{CipherSuites: ids, MaxVersion: tls.VersionTLS12} }
	versions := func(low, high uint16) *tls.Config { return &tls.Config{MinVersion: low, MaxVersion: high} }
	const perhaps = "perhaps legacyCiphers in its entry of destinations cures it"
	tests := []struct {
		name   string
		server *tls.Config
		rules  int
		want   string // "" is a connection
		not    string
	}{
		{"rsa key exchange", suites(tls.TLS_RSA_WITH_AES_128_GCM_SHA256), none, "(handshake failure): it accepts none of the cipher suites offered, or demands a client certificate; " + perhaps, ""},
		{"rsa key exchange, entry without", suites(tls.TLS_RSA_WITH_AES_128_GCM_SHA256), plain, perhaps, ""},
		{"rsa key exchange, allowed", suites(tls.TLS_RSA_WITH_AES_128_GCM_SHA256), legacy, "", ""},
		{"rsa key exchange, cbc", suites(tls.TLS_RSA_WITH_AES_128_CBC_SHA), legacy, "", ""},
		{"rsa key exchange, aes-256", suites(tls.TLS_RSA_WITH_AES_256_GCM_SHA384), legacy, "", ""},
		{"rsa key exchange, cbc, aes-256", suites(tls.TLS_RSA_WITH_AES_256_CBC_SHA), legacy, "", ""},
		{"rsa key exchange, cbc-sha256", suites(tls.TLS_RSA_WITH_AES_128_CBC_SHA256), legacy, "", ""},
		{"cbc-sha256", suites(tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256), none, perhaps, ""},
		{"cbc-sha256, allowed", suites(tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256), legacy, "", ""},
		{"what all have, with legacy", suites(tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384), legacy, "", ""},
		{"tls 1.3, with legacy", versions(tls.VersionTLS13, tls.VersionTLS13), legacy, "", ""},
		{"3des", suites(tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA), legacy, "(handshake failure)", "legacyCiphers"},
		{"3des, ecdhe", suites(tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA), legacy, "(handshake failure)", "legacyCiphers"},
		{"rc4", suites(tls.TLS_RSA_WITH_RC4_128_SHA), legacy, "(handshake failure)", "legacyCiphers"},
		{"rc4, ecdhe", suites(tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA), legacy, "(handshake failure)", "legacyCiphers"},

		{"tls 1.0", versions(tls.VersionTLS10, tls.VersionTLS10), none, noCommonVersion + "; minVersion in its entry of destinations allows older ones", ""},
		{"tls 1.0, allowed", versions(tls.VersionTLS10, tls.VersionTLS10), from10, "", ""},
		{"tls 1.0, 1.1 allowed", versions(tls.VersionTLS10, tls.VersionTLS10), from11, "the server supports none of TLS 1.1 to TLS 1.3; minVersion", ""},
		{"tls 1.1, allowed", versions(tls.VersionTLS10, tls.VersionTLS11), from11, "", ""},
		{"tls 1.2, 1.0 allowed", versions(tls.VersionTLS12, tls.VersionTLS12), from10, "", ""},
		{"tls 1.2, 1.3 demanded", versions(tls.VersionTLS12, tls.VersionTLS12), from13, "the server does not support TLS 1.3; minVersion in its entry of destinations demands that", ""},
		{"tls 1.3, 1.3 demanded", versions(tls.VersionTLS13, tls.VersionTLS13), from13, "", ""},
		{"tls 1.0 with rsa key exchange", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}}, from10, perhaps, ""},
		{"tls 1.0 with rsa key exchange, allowed", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}}, old, "", ""},
	}
	leaf := root.Leaf(t, testHost, catest.RSA(t, 2048))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.server.Certificates = []tls.Certificate{leaf}
			to := Destination{Host: testHost, Port: serveTLS(t, tt.server, nil)}
			if tt.rules != none {
				to.Rules = s.Rules(tt.rules)
			}
			_, err := dialAs(t, s, to, patience)
			checkError(t, err, testHost, false, tt.want)
			if err == nil {
				return
			}
			f := Explain(err, testHost)
			if f.Cause != CauseAlert || tt.not != "" && strings.Contains(f.Text, tt.not) {
				t.Errorf("got %+v; want an alert, and nothing of %q", f, tt.not)
			}
		})
	}
}

// TestCauses is how errors are told apart for RFC 9209.
func TestCauses(t *testing.T) {
	alert := func(code byte) func(net.Conn) {
		return func(c net.Conn) { readSome(c); c.Write([]byte{0x15, 3, 3, 0, 2, 2, code}) }
	}
	s := newStore(t, testConfig(t))
	fails := func(handle func(net.Conn)) error {
		_, err := dial(t, s, "", testHost, serve(t, handle))
		return err
	}
	stranger := &tls.Config{Certificates: []tls.Certificate{catest.SelfSigned(t, testHost)}}
	tests := []struct {
		name  string
		err   error
		cause Cause
		alert uint8
		says  string
	}{
		{"handshake_failure", fails(alert(40)), CauseAlert, 40, "handshake failure"},
		{"certificate_required", fails(alert(116)), CauseAlert, 116, "certificate required"},
		{"protocol_version", fails(alert(70)), CauseAlert, 70, "protocol version not supported"},
		{"unheard-of", fails(alert(199)), CauseAlert, 199, "alert(199)"},
		{"closed", fails(readSome), CauseProtocol, 0, ""},
		{"not TLS", fails(func(c net.Conn) { readSome(c); io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }), CauseProtocol, 0, ""},
		{"certificate", fails(func(c net.Conn) { greet(c, stranger, nil) }), CauseCertificate, 0, ""},
		{"deadline", os.ErrDeadlineExceeded, CauseTimeout, 0, ""},
		{"context's deadline", context.DeadlineExceeded, CauseTimeout, 0, ""},
		{"reset", &net.OpError{Op: "read", Err: syscall.ECONNRESET}, CauseProtocol, 0, ""},
		{"our own alert", &net.OpError{Op: "local error", Err: errors.New("tls: bad record MAC")}, CauseProtocol, 0, ""},
		{"none", nil, CauseProtocol, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := Explain(tt.err, testHost)
			if f.Cause != tt.cause || f.Alert != tt.alert || f.AlertName != tt.says {
				t.Errorf("Explain(%v): got %+v; want cause %d, alert %d %q", tt.err, f, tt.cause, tt.alert, tt.says)
			}
			if IsAlert(tt.err) != (tt.cause == CauseAlert) {
				t.Errorf("IsAlert(%v): got %v", tt.err, IsAlert(tt.err))
			}
		})
	}
}
