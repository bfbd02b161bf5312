package ca

import (
	"crypto/tls"
	"crypto/x509"
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

// TestAllocVerify holds the look at a chain that is known to be valid to five allocations, the digest and what crypto/x509
// makes of the host, of 72 without; and an attempt to what a connection needs to itself.
func TestAllocVerify(t *testing.T) {
	root := catest.Root(t, "Root")
	s := newStore(t, testConfig(t, root))
	to := Destination{Host: testHost, Port: 443}
	a, err := s.newAttempt(to, nil)
	if err != nil {
		t.Fatal(err)
	}
	state := stateOf(t, root.Intermediate(t, "Intermediate").Leaf(t, testHost))
	if n := testing.AllocsPerRun(100, func() {
		if err := a.verify(state); err != nil {
			t.Fatal(err)
		}
	}); n > 5 {
		t.Errorf("verify: got %v allocations; want at most 5", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := s.newAttempt(to, nil); err != nil {
			t.Fatal(err)
		}
	}); n > 6 {
		t.Errorf("newAttempt: got %v allocations; want at most 6", n)
	}
}

// stateOf is a connection to a server that sends c.
func stateOf(t testing.TB, c tls.Certificate) (state tls.ConnectionState) {
	t.Helper()
	for _, der := range c.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		state.PeerCertificates = append(state.PeerCertificates, cert)
	}
	return state
}

// BenchmarkVerify is what is asked of a server's certificates: the first time, and when they are known.
func BenchmarkVerify(b *testing.B) {
	root := catest.Root(b, "Root")
	s := newStore(b, testConfig(b, root))
	state := stateOf(b, root.Intermediate(b, "Intermediate").Leaf(b, testHost))
	a, err := s.newAttempt(Destination{Host: testHost, Port: 443}, nil)
	if err != nil {
		b.Fatal(err)
	}
	known := a.trust.anchors.verified
	for _, bb := range []struct {
		name  string
		known bool
	}{{"first", false}, {"known", true}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !bb.known {
					a.trust.anchors.verified = newLRU[chainSum, *verifiedChain](1)
				}
				if err := a.verify(state); err != nil {
					b.Fatal(err)
				}
			}
			a.trust.anchors.verified = known
		})
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
