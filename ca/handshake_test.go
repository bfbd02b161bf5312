package ca

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"whsentry/ca/catest"
)

func TestAttempt(t *testing.T) {
	root := catest.Root(t, "Root")
	with := testConfig(t, root)
	with.ClientCert = keyPairFiles(t, root.Leaf(t, "ours"))
	with.ClientCerts = map[string]KeyPairFiles{"acme": keyPairFiles(t, root.Leaf(t, "acme"))}
	s, none := newStore(t, with), newStore(t, testConfig(t, root))
	tests := []struct {
		name        string
		store       *Store
		alias, host string
		wantName    string
		wantCert    string // the certificate's name
		wantUnknown bool
	}{
		{"no alias is the default", s, "", "a.test", "a.test", "ours", false},
		{"default by name", s, "default", "a.test", "a.test", "ours", false},
		{"alias", s, "acme", "a.test", "a.test", "acme", false},
		{"none by name", s, NoClientCert, "a.test", "a.test", "", false},
		{"unknown alias", s, "globex", "a.test", "", "", true},
		{"alias in other letters", s, "ACME", "a.test", "", "", true},
		{"none configured", none, "", "a.test", "a.test", "", false},
		{"default not configured", none, "default", "a.test", "", "", true},
		{"trailing dot", none, "", "A.Test.", "a.test", "", false},
		{"ip", none, "", "192.0.2.1", "192.0.2.1", "", false},
		{"ipv6", none, "", "2001:db8::1", "2001:db8::1", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := tt.store.newAttempt(Destination{Host: tt.host, Port: 443, Alias: tt.alias}, nil)
			var unknown *UnknownAliasError
			if errors.As(err, &unknown) != tt.wantUnknown {
				t.Fatalf("got error %v; want an unknown alias: %v", err, tt.wantUnknown)
			}
			if tt.alias != "" && tt.alias != NoClientCert && tt.store.HasAlias(tt.alias) == tt.wantUnknown {
				t.Errorf("HasAlias: got %v; want %v", !tt.wantUnknown, tt.wantUnknown)
			}
			if tt.wantUnknown {
				if unknown.Alias != tt.alias {
					t.Errorf("got alias %q; want %q", unknown.Alias, tt.alias)
				}
				return
			}
			cfg := &a.cfg
			if cfg.ServerName != tt.wantName {
				t.Errorf("got server name %q; want %q", cfg.ServerName, tt.wantName)
			}
			if !slices.Equal(cfg.NextProtos, []string{"http/1.1"}) || cfg.MinVersion != tls.VersionTLS12 {
				t.Errorf("got %v from version %x; want http/1.1 from TLS 1.2", cfg.NextProtos, cfg.MinVersion)
			}
			cert, err := cfg.GetClientCertificate(&tls.CertificateRequestInfo{})
			if err != nil || cert == nil {
				t.Fatalf("GetClientCertificate: got %v, %v; want a certificate, if an empty one", cert, err)
			}
			if got := cert.Leaf != nil; got != (tt.wantCert != "") || got && cert.Leaf.DNSNames[0] != tt.wantCert {
				t.Errorf("got the certificate %v; want %q", cert.Leaf, tt.wantCert)
			}
		})
	}
	if s.HasAlias("") {
		t.Error(`HasAlias(""): got true; want false`)
	}
}

// TestClientHello looks at what destinations see.
func TestClientHello(t *testing.T) {
	root := catest.Root(t, "Root")
	s := newStore(t, testConfig(t, root))
	for _, tt := range []struct{ name, host, wantSNI string }{
		{"name", "Hooks.Example.com.", "hooks.example.com"},
		{"ip has no SNI", "127.0.0.1", ""},
		{"ipv6 has no SNI", "2001:db8::1", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hellos := make(chan *tls.ClientHelloInfo, 1)
			leaf := root.Leaf(t, serverName(tt.host))
			port := serveTLS(t, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
				hellos <- h
				return &leaf, nil
			}}, nil)
			if _, err := dial(t, s, "", tt.host, port); err != nil {
				t.Fatalf("dial: %v", err)
			}
			hello := <-hellos
			if hello.ServerName != tt.wantSNI {
				t.Errorf("got SNI %q; want %q", hello.ServerName, tt.wantSNI)
			}
			if !slices.Equal(hello.SupportedProtos, []string{"http/1.1"}) {
				t.Errorf("got ALPN %v; want http/1.1", hello.SupportedProtos)
			}
			if want := []uint16{tls.VersionTLS13, tls.VersionTLS12}; !slices.Equal(hello.SupportedVersions, want) {
				t.Errorf("got versions %x; want %x", hello.SupportedVersions, want)
			}
		})
	}
}

// TestSessions shows that sessions are resumed, but only by the alias, host and port that began them: else the server
// would see the certificate of one customer on a connection for another.
func TestSessions(t *testing.T) {
	root := catest.Root(t, "Root")
	cfg := testConfig(t, root)
	cfg.ClientCerts = map[string]KeyPairFiles{
		"acme": keyPairFiles(t, root.Leaf(t, "acme")), "globex": keyPairFiles(t, root.Leaf(t, "globex")),
	}
	leaf := root.Leaf(t, "", catest.Names("a.test", "b.test"))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			s := newStore(t, cfg)
			seen := make(chan tls.ConnectionState, 1)
			// One configuration for two ports, so that either would accept the other's tickets.
			server := &tls.Config{
				Certificates: []tls.Certificate{leaf}, MaxVersion: version,
				ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: root.Pool(),
			}
			see := func(c tls.ConnectionState) { seen <- c }
			port, other := serveTLS(t, server, see), serveTLS(t, server, see)
			steps := []struct {
				alias, host string
				port        uint16
				wantResumed bool
			}{
				{"acme", "a.test", port, false},
				{"acme", "a.test", port, true},
				{"globex", "a.test", port, false},
				{"", "a.test", port, false},
				{"acme", "b.test", port, false},
				{"acme", "a.test", other, false},
				{"globex", "a.test", port, true},
				{"", "A.test.", port, true},
				{"acme", "a.test", port, true},
			}
			for i, step := range steps {
				state, err := dial(t, s, step.alias, step.host, step.port)
				if err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
				got := ""
				if server := <-seen; len(server.PeerCertificates) > 0 {
					got = server.PeerCertificates[0].DNSNames[0]
				}
				if got != step.alias {
					t.Errorf("step %d: the server saw %q; want %q", i, got, step.alias)
				}
				if state.DidResume != step.wantResumed {
					t.Errorf("step %d: got resumed %v; want %v", i, state.DidResume, step.wantResumed)
				}
			}
		})
	}
}

// TestSessionsAreVerified shows that a session does not outlive the trust in its root.
func TestSessionsAreVerified(t *testing.T) {
	root := catest.Root(t, "Root")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			s := newStore(t, testConfig(t))
			trusting := newTrust(bundle{roots: asRoots(root)}, nil)
			s.trust.Store(trusting)
			port := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{root.Leaf(t, testHost)}, MaxVersion: version}, nil)
			for range 2 {
				if _, err := dial(t, s, "", testHost, port); err != nil {
					t.Fatalf("dial: %v", err)
				}
			}
			distrusting := newTrust(bundle{}, nil)
			distrusting.sessions = trusting.sessions // even if they were kept
			s.trust.Store(distrusting)
			_, err := dial(t, s, "", testHost, port)
			checkError(t, err, testHost, true, "unknown authority")
		})
	}
}

func TestServerConfig(t *testing.T) {
	root, stranger := catest.Root(t, "Root"), catest.Root(t, "Stranger")
	certFile, keyFile := catest.Files(t, root.Intermediate(t, "I").Leaf(t, testHost))
	clients := catest.File(t, "clients.pem", root.PEM())
	s := newStore(t, testConfig(t))
	const refused = "remote error"
	tests := []struct {
		name     string
		clientCA string
		client   *tls.Config
		want     string // "" is accepted
	}{
		{"tls 1.3", "", &tls.Config{MinVersion: tls.VersionTLS13}, ""},
		{"tls 1.2", "", &tls.Config{MaxVersion: tls.VersionTLS12}, ""},
		{"tls 1.1", "", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, refused},
		{"http/1.1 and http/2", "", &tls.Config{NextProtos: []string{"h2", "http/1.1"}}, ""},
		{"only http/2", "", &tls.Config{NextProtos: []string{"h2"}}, refused},
		{"only what nobody knows", "", &tls.Config{NextProtos: []string{"acme/7", "\x0a\x0a"}}, ""},
		{"only what nobody knows, tls 1.2", "", &tls.Config{NextProtos: []string{"acme/7"}, MaxVersion: tls.VersionTLS12}, ""},
		{"only http/1.0", "", &tls.Config{NextProtos: []string{"http/1.0"}}, ""},
		{"http/2 and what nobody knows", "", &tls.Config{NextProtos: []string{"acme/7", "h2"}}, refused},
		{"http/1.1 and what nobody knows", "", &tls.Config{NextProtos: []string{"acme/7", "http/1.1"}}, ""},
		{"what nobody knows, without the client certificate", clients, &tls.Config{NextProtos: []string{"acme/7"}}, refused},
		{"client certificate", clients, &tls.Config{Certificates: []tls.Certificate{root.Leaf(t, "client")}}, ""},
		{"no client certificate", clients, &tls.Config{}, refused},
		{"no client certificate, tls 1.2", clients, &tls.Config{MaxVersion: tls.VersionTLS12}, refused},
		{"a stranger's client certificate", clients, &tls.Config{Certificates: []tls.Certificate{stranger.Leaf(t, "client")}}, refused},
		{"an expired client certificate", clients, &tls.Config{Certificates: []tls.Certificate{root.Leaf(t, "client", catest.Expired())}}, refused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server, err := s.ServerConfig(certFile, keyFile, tt.clientCA)
			if err != nil {
				t.Fatalf("ServerConfig: %v", err)
			}
			tt.client.ServerName, tt.client.RootCAs = testHost, root.Pool()
			// The client sends what it has, whatever the server asks for.
			own := tt.client.Certificates
			tt.client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &append(own, tls.Certificate{})[0], nil
			}
			err = fetch(t, tt.client, serveTLS(t, server, nil))
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v; want %q", err, tt.want)
			}
		})
	}
}

// fetch connects as any client does and reads the greeting.
func fetch(t *testing.T, cfg *tls.Config, port uint16) error {
	t.Helper()
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	conn, err := tls.DialWithDialer(dialer, "tcp", fmt.Sprintf("127.0.0.1:%d", port), cfg)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, err = io.ReadAll(conn)
	return err
}

// TestServerConfigALPN shows which protocol a client is told of, and that it is resumed with one as without.
func TestServerConfigALPN(t *testing.T) {
	root := catest.Root(t, "Root")
	certFile, keyFile := catest.Files(t, root.Leaf(t, testHost))
	server, err := newStore(t, testConfig(t)).ServerConfig(certFile, keyFile, "")
	if err != nil {
		t.Fatalf("ServerConfig: %v", err)
	}
	states := make(chan tls.ConnectionState, 1)
	port := serveTLS(t, server, func(s tls.ConnectionState) { states <- s })
	for _, tt := range []struct {
		offer []string
		want  string
	}{{nil, ""}, {[]string{"acme/7"}, ""}, {[]string{"h2", "http/1.1"}, "http/1.1"}, {[]string{"acme/7", "http/1.1"}, "http/1.1"}} {
		client := &tls.Config{ServerName: testHost, RootCAs: root.Pool(), NextProtos: tt.offer, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		for _, resumed := range []bool{false, true} {
			if err := fetch(t, client, port); err != nil {
				t.Fatalf("with %q: %v", tt.offer, err)
			}
			if s := <-states; s.NegotiatedProtocol != tt.want || s.DidResume != resumed {
				t.Errorf("with %q: got %q, resumed %v; want %q, %v", tt.offer, s.NegotiatedProtocol, s.DidResume, tt.want, resumed)
			}
		}
	}
}

func TestServerConfigErrors(t *testing.T) {
	root := catest.Root(t, "Root")
	certFile, keyFile := catest.Files(t, root.Leaf(t, testHost))
	missing := certFile + ".missing"
	empty := catest.File(t, "empty.pem", nil)
	tests := []struct {
		name                        string
		certFile, keyFile, clientCA string
		want                        string
	}{
		{"nothing", "", "", "", "certFile: missing"},
		{"no key", certFile, "", "", "keyFile: missing"},
		{"no certificate", "", keyFile, "", "certFile: missing"},
		{"missing certificate", missing, keyFile, "", "certFile: open " + missing},
		{"missing key", certFile, missing, "", "keyFile: open " + missing},
		{"missing client CA", certFile, keyFile, missing, "clientCAFile: open " + missing},
		{"empty client CA", certFile, keyFile, empty, "clientCAFile: \"" + empty + "\": no PEM certificate"},
	}
	s := newStore(t, testConfig(t))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := s.ServerConfig(tt.certFile, tt.keyFile, tt.clientCA)
			if cfg != nil || err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, %v; want %q", cfg, err, tt.want)
			}
		})
	}
}

// TestServerConfigReads shows that a renewed certificate is seen by the next call.
func TestServerConfigReads(t *testing.T) {
	root := catest.Root(t, "Root")
	certFile, keyFile := catest.Files(t, root.Leaf(t, "old.test"))
	s := newStore(t, testConfig(t))
	if _, err := s.ServerConfig(certFile, keyFile, ""); err != nil {
		t.Fatalf("ServerConfig: %v", err)
	}
	newCert, newKey := catest.Files(t, root.Leaf(t, "new.test"))
	for from, to := range map[string]string{newCert: certFile, newKey: keyFile} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := s.ServerConfig(certFile, keyFile, "")
	if err != nil {
		t.Fatalf("ServerConfig: %v", err)
	}
	if got := cfg.Certificates[0].Leaf.DNSNames[0]; got != "new.test" {
		t.Errorf("got the certificate of %q; want new.test", got)
	}
}

// TestHybridKeyExchange shows that each session begins with a key exchange that a quantum computer does not undo, and
// that a resumed one, which has its secret from there, does without; also after a server has refused to resume one.
func TestHybridKeyExchange(t *testing.T) {
	root := catest.Root(t, "Root")
	s := newStore(t, testConfig(t, root))
	server := &tls.Config{Certificates: []tls.Certificate{root.Leaf(t, testHost)}}
	port := serveTLS(t, server, nil)
	steps := []struct {
		newTicketKey bool // the server does not know its old tickets any more
		wantResumed  bool
		want         tls.CurveID
	}{
		{want: tls.X25519MLKEM768},
		{wantResumed: true, want: tls.X25519},
		{newTicketKey: true, want: tls.X25519},
		{want: tls.X25519MLKEM768},
		{wantResumed: true, want: tls.X25519},
	}
	for i, step := range steps {
		if step.newTicketKey {
			server.SetSessionTicketKeys([][32]byte{{1}})
		}
		state, err := dial(t, s, "", testHost, port)
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if state.DidResume != step.wantResumed || state.CurveID != step.want {
			t.Errorf("step %d: got resumed %v with %s; want %v with %s", i, state.DidResume, state.CurveID, step.wantResumed, step.want)
		}
	}
}
