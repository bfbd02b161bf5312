package ca

import (
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"whsentry/ca/catest"
)

func pinOf(c *x509.Certificate) string { return showPin(sha256.Sum256(c.RawSubjectPublicKeyInfo)) }

func TestRulesErrors(t *testing.T) {
	pin := pinOf(catest.Root(t, "Root").Certificate)
	file := catest.File(t, "corp.pem", catest.Root(t, "Corp").PEM())
	tests := []struct {
		name  string
		rules RulesConfig
		want  string // "" is accepted
	}{
		{"nothing", RulesConfig{}, ""},
		{"all that goes together", RulesConfig{Pins: []string{pin, pin}, MinVersion: "1.0", LegacyCiphers: true, Renegotiation: true}, ""},
		{"file", RulesConfig{CAFile: file, MinVersion: "1.3"}, ""},
		{"pins beside a file", RulesConfig{CAFile: file, Pins: []string{pin}}, `destinations[1].pins: set beside caFile "` + file + `"`},
		{"pin without sha256", RulesConfig{Pins: []string{pin, pin[7:]}}, `destinations[1].pins[1]: "` + pin[7:] + `" is not a pin`},
		{"pin of another digest", RulesConfig{Pins: []string{"sha1/" + pin[7:]}}, "destinations[1].pins[0]: "},
		{"pin too short", RulesConfig{Pins: []string{"sha256/aGVsbG8="}}, "destinations[1].pins[0]: "},
		{"pin too long", RulesConfig{Pins: []string{"sha256/" + strings.Repeat("A", 48)}}, "destinations[1].pins[0]: "},
		{"pin without padding", RulesConfig{Pins: []string{strings.TrimSuffix(pin, "=")}}, "destinations[1].pins[0]: "},
		{"pin with a line end", RulesConfig{Pins: []string{pin + "\n"}}, "destinations[1].pins[0]: "},
		{"empty pin", RulesConfig{Pins: []string{""}}, "destinations[1].pins[0]: "},
		{"ssl 3", RulesConfig{MinVersion: "3.0"}, `destinations[1].tls.minVersion: "3.0" is no version of TLS; want "1.0", "1.1", "1.2" or "1.3"`},
		{"version of the future", RulesConfig{MinVersion: "1.4"}, "destinations[1].tls.minVersion: "},
		{"version with a name", RulesConfig{MinVersion: "TLS 1.2"}, "destinations[1].tls.minVersion: "},
		{"no such file", RulesConfig{CAFile: file + ".missing"}, "destinations[1].caFile: open " + file + ".missing"},
		{"no certificates in the file", RulesConfig{CAFile: catest.File(t, "x.pem", []byte("x"))}, "destinations[1].caFile: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig(t)
			cfg.Destinations = []RulesConfig{{}, tt.rules}
			_, err := New(cfg, Hooks{})
			if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v; want %q", err, tt.want)
			}
		})
	}
}

// TestPins shows that the server's own key is all that counts where there are pins, and that it does count.
func TestPins(t *testing.T) {
	root := catest.Root(t, "Known Root", catest.RSA(t, 2048))
	stranger := catest.Root(t, "Stranger", catest.RSA(t, 2048))
	valid := root.Leaf(t, testHost)
	short := root.Leaf(t, testHost, catest.RSA(t, 1024))
	tests := []struct {
		name   string
		server tls.Certificate
		pin    *x509.Certificate
		want   string // "" is accepted
	}{
		{"valid", valid, valid.Leaf, ""},
		{"self-signed", catest.SelfSigned(t, testHost), nil, ""},
		{"unknown root", stranger.Leaf(t, testHost), nil, ""},
		{"wrong name", root.Leaf(t, "other.test"), nil, ""},
		{"no name", root.Leaf(t, ""), nil, ""},
		{"expired", root.Leaf(t, testHost, catest.Expired()), nil, ""},
		{"not yet valid", root.Leaf(t, testHost, catest.NotYetValid()), nil, ""},
		{"sha-1", root.Leaf(t, testHost, catest.Digest(crypto.SHA1)), nil, ""},
		{"for clients", root.Leaf(t, testHost, catest.Usage(x509.ExtKeyUsageClientAuth)), nil, ""},
		{"rsa 2048", root.Leaf(t, testHost, catest.RSA(t, 2048)), nil, ""},
		{"rsa 1024", short, short.Leaf, "certificate has an RSA key of 1024 bits"},
		{"another key", valid, stranger.Certificate, "certificate has the key " + pinOf(valid.Leaf) + ", which is none of the pins"},
		{"the key of its authority", valid, root.Certificate, "none of the pins"},
		{"a pinned certificate beside its own", withRoot(valid, stranger), stranger.Certificate, "none of the pins"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.pin == nil {
				tt.pin = tt.server.Leaf
			}
			cfg := testConfig(t, root)
			cfg.Destinations = []RulesConfig{{Pins: []string{pinOf(catest.Root(t, "Unused").Certificate), pinOf(tt.pin)}}}
			s := newStore(t, cfg)
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				port := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{tt.server}, MinVersion: version, MaxVersion: version}, nil)
				_, err := dialAs(t, s, Destination{Host: testHost, Port: port, Rules: s.Rules(0)}, patience)
				checkError(t, err, testHost, true, tt.want)
			}
		})
	}
}

// TestPinsHoldForSessions changes the pins of an entry under a session, and looks at whose sessions are resumed.
func TestPinsHoldForSessions(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			leaf := catest.SelfSigned(t, testHost)
			cfg := testConfig(t)
			pins := []string{pinOf(leaf.Leaf)}
			cfg.Destinations = []RulesConfig{{Pins: pins}, {Pins: pins}}
			s := newStore(t, cfg)
			port := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{leaf}, MaxVersion: version}, nil)
			for i, step := range []struct {
				entry   int
				resumed bool
			}{{0, false}, {0, true}, {1, false}, {1, true}, {0, true}} {
				state, err := dialAs(t, s, Destination{Host: testHost, Port: port, Rules: s.Rules(step.entry)}, patience)
				if err != nil || state.DidResume != step.resumed {
					t.Fatalf("step %d: got resumed %v, %v; want %v", i, state.DidResume, err, step.resumed)
				}
			}
			// Without the entry there are no pins, and no session that would hide it.
			_, err := dial(t, s, "", testHost, port)
			checkError(t, err, testHost, true, "self-signed")
			was := s.Rules(0).current.Load()
			s.Rules(0).current.Store(&ruleSet{id: was.id, minVersion: was.minVersion, pins: [][sha256.Size]byte{{1}}})
			_, err = dialAs(t, s, Destination{Host: testHost, Port: port, Rules: s.Rules(0)}, patience)
			checkError(t, err, testHost, true, "none of the pins")
		})
	}
}

// TestEntryRoots shows that an entry's caFile is trusted for the entry alone, on top of the trust store.
func TestEntryRoots(t *testing.T) {
	root, corp := catest.Root(t, "Root"), catest.Root(t, "Corp")
	cfg := testConfig(t, root)
	cfg.Destinations = []RulesConfig{{CAFile: catest.File(t, "corp.pem", corp.PEM())}, {}}
	s := newStore(t, cfg)
	private, public := serveCertificate(t, corp.Leaf(t, testHost)), serveCertificate(t, root.Leaf(t, testHost))
	const unknown = `unknown authority, "Corp"`
	for _, tt := range []struct {
		name  string
		port  uint16
		rules *Rules
		want  string
	}{
		{"private", private, s.Rules(0), ""},
		{"private, resumed", private, s.Rules(0), ""},
		{"private, without an entry", private, nil, unknown},
		{"private, another entry", private, s.Rules(1), unknown},
		{"public", public, s.Rules(0), ""},
		{"public, another entry", public, s.Rules(1), ""},
		{"public, without an entry", public, nil, ""},
	} {
		_, err := dialAs(t, s, Destination{Host: testHost, Port: tt.port, Rules: tt.rules}, patience)
		if tt.want == "" && err != nil || tt.want != "" && err == nil {
			t.Errorf("%s: got %v; want %q", tt.name, err, tt.want)
		} else if err != nil {
			checkError(t, err, testHost, true, tt.want)
		}
	}
	// The entry's roots are on top of the trust store of the moment.
	s.trust.Store(newTrust(bundle{}, nil))
	_, err := dialAs(t, s, Destination{Host: testHost, Port: private, Rules: s.Rules(0)}, patience)
	checkError(t, err, testHost, true, "")
	_, err = dialAs(t, s, Destination{Host: testHost, Port: public, Rules: s.Rules(0)}, patience)
	checkError(t, err, testHost, true, `unknown authority, "Root"`)
}

// TestEntryRootsAreStrong shows that an entry's roots lift no other demand.
func TestEntryRootsAreStrong(t *testing.T) {
	corp := catest.Root(t, "Corp", catest.RSA(t, 2048))
	cfg := testConfig(t)
	cfg.Destinations = []RulesConfig{{CAFile: catest.File(t, "corp.pem", corp.PEM())}}
	s := newStore(t, cfg)
	for name, tt := range map[string]struct {
		cert tls.Certificate
		want string
	}{
		"expired":    {corp.Leaf(t, testHost, catest.Expired()), "expired"},
		"wrong name": {corp.Leaf(t, "other.test"), "not for " + testHost},
		"sha-1":      {corp.Leaf(t, testHost, catest.Digest(crypto.SHA1)), "SHA-1"},
		"rsa 1024":   {corp.Leaf(t, testHost, catest.RSA(t, 1024)), "1024 bits"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := dialAs(t, s, Destination{Host: testHost, Port: serveCertificate(t, tt.cert), Rules: s.Rules(0)}, patience)
			checkError(t, err, testHost, true, tt.want)
		})
	}
}
