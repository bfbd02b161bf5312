package ca

import (
	"crypto/tls"
	"testing"
	"time"

	"whsentry/ca/catest"
)

// TestAllocSession holds the look for a session to no allocation; making a connection's configuration and the handshake
// allocate, as crypto/tls does.
func TestAllocSession(t *testing.T) {
	sessions := &keyedSessions{
		sessions: newLRU[string, session](maxSessions), key: " hooks.example.com:443",
		now: time.Now, until: time.Now().Add(time.Hour),
	}
	sessions.Put("", new(tls.ClientSessionState))
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok := sessions.Get(""); !ok {
			t.Fatal("got no session; want the one that was put")
		}
	}); n != 0 {
		t.Errorf("got %v allocations; want 0", n)
	}
}

func BenchmarkAttempt(b *testing.B) {
	s := newStore(b, testConfig(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.newAttempt(Destination{Host: testHost, Port: 443}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHandshake is a new connection with a handshake, both sides of it in this process: with a session that is
// resumed, and without one.
func BenchmarkHandshake(b *testing.B) {
	root := catest.Root(b, "Root")
	leaf := root.Intermediate(b, "Intermediate").Leaf(b, testHost)
	for _, bb := range []struct {
		name    string
		version uint16
		resumed bool
	}{
		{"TLS 1.3 resumed", tls.VersionTLS13, true},
		{"TLS 1.3 full", tls.VersionTLS13, false},
		{"TLS 1.2 resumed", tls.VersionTLS12, true},
		{"TLS 1.2 full", tls.VersionTLS12, false},
	} {
		b.Run(bb.name, func(b *testing.B) {
			s := newStore(b, testConfig(b, root))
			server := &tls.Config{Certificates: []tls.Certificate{leaf}, MaxVersion: bb.version, SessionTicketsDisabled: !bb.resumed}
			port := serveTLS(b, server, nil)
			benchDial(b, s, port, false)
			b.ReportAllocs()
			for b.Loop() {
				benchDial(b, s, port, bb.resumed)
			}
		})
	}
}

func benchDial(b *testing.B, s *Store, port uint16, wantResumed bool) {
	b.Helper()
	state, err := dial(b, s, "", testHost, port)
	if err != nil || state.DidResume != wantResumed {
		b.Fatalf("got resumed %v, %v; want %v", state.DidResume, err, wantResumed)
	}
}
