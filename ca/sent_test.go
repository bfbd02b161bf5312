package ca

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"

	"whsentry/ca/catest"
)

// TestSentIsBounded shows that what a server sends beside its chain is not kept for as long as the connection lives, nor
// with a session, of which there are thousands.
func TestSentIsBounded(t *testing.T) {
	root := catest.Root(t, "Root")
	leaf := root.Leaf(t, testHost)
	size := len(leaf.Certificate[0])
	with := func(others ...[]byte) tls.Certificate {
		c := leaf
		c.Certificate = slices.Concat(leaf.Certificate[:1], others)
		return c
	}
	small := catest.Root(t, "Other").Certificate.Raw
	padded := func(padding int) []byte { // a certificate that is so much larger
		return catest.Root(t, "Other", catest.FoundAt("http://"+strings.Repeat("a", padding))).Certificate.Raw
	}
	const room = 1000 // for what else is in them
	tests := []struct {
		name    string
		cert    tls.Certificate
		want    string // of the error
		resumed bool
	}{
		{"certificates of a session", with(slices.Repeat([][]byte{small}, maxSessionCerts-1)...), "", true},
		{"certificates over a session's", with(slices.Repeat([][]byte{small}, maxSessionCerts)...), "", false},
		{"bytes of a session", with(padded(maxSessionBytes - size - room)), "", true},
		{"bytes over a session's", with(padded(maxSessionBytes)), "", false},
		{"as many certificates as may be", with(slices.Repeat([][]byte{small}, maxSent-1)...), "", false},
		{"too many certificates", with(slices.Repeat([][]byte{small}, maxSent)...),
			fmt.Sprintf("the server sends %d certificates; want at most %d", maxSent+1, maxSent), false},
		{"too many bytes", with(padded(60<<10), padded(40<<10)), fmt.Sprintf("bytes of certificates; want at most %d", maxSentBytes), false},
	}
	for _, tt := range tests {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(tt.name+" "+tls.VersionName(version), func(t *testing.T) {
				s := newStore(t, testConfig(t, root))
				port := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{tt.cert}, MaxVersion: version}, nil)
				for i := range 2 {
					state, err := dial(t, s, "", testHost, port)
					checkError(t, err, testHost, true, tt.want)
					if want := tt.resumed && i > 0; state.DidResume != want {
						t.Errorf("connection %d: got resumed %v; want %v", i, state.DidResume, want)
					}
				}
			})
		}
	}
}

// TestStapledCounts shows that what comes with the certificates counts as they do.
func TestStapledCounts(t *testing.T) {
	c := x509.Certificate{Raw: make([]byte, 1)}
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{&c, &c}, OCSPResponse: make([]byte, 10),
		SignedCertificateTimestamps: [][]byte{make([]byte, 100), make([]byte, 100)}}
	if got := sentBytes(&state); got != 212 {
		t.Errorf("got %d bytes; want 212", got)
	}
}

// TestTicketsAreBounded shows that a session with a large ticket is not kept.
func TestTicketsAreBounded(t *testing.T) {
	root := catest.Root(t, "Root")
	for _, extra := range []int{0, maxSessionBytes} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			server := &tls.Config{Certificates: []tls.Certificate{root.Leaf(t, testHost)}, MaxVersion: version}
			server.WrapSession = func(_ tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
				raw, err := session.Bytes()
				return append(raw, make([]byte, extra)...), err
			}
			server.UnwrapSession = func(ticket []byte, _ tls.ConnectionState) (*tls.SessionState, error) {
				if len(ticket) <= extra {
					return nil, nil // the client has none
				}
				return tls.ParseSessionState(ticket[:len(ticket)-extra])
			}
			s, port := newStore(t, testConfig(t, root)), serveTLS(t, server, nil)
			for i := range 2 {
				state, err := dial(t, s, "", testHost, port)
				if want := extra == 0 && i > 0; err != nil || state.DidResume != want {
					t.Errorf("%s, a ticket larger by %d bytes, connection %d: got resumed %v, %v; want %v",
						tls.VersionName(version), extra, i, state.DidResume, err, want)
				}
			}
		}
	}
}
