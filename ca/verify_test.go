package ca

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"testing"

	"whsentry/ca/catest"
)

// TestVerification is SPEC's promise about destinations' certificates: who is let in, who is not, and in which words.
func TestVerification(t *testing.T) {
	root := catest.Root(t, "Known Root", catest.RSA(t, 2048))
	intermediate := root.Intermediate(t, "Known Intermediate")
	stranger := catest.Root(t, "Unknown Root")
	constrained := root.Intermediate(t, "Constrained Intermediate", catest.OnlyDomains("example.org"))
	notCA := root.Intermediate(t, "No Authority", catest.NotCA())
	shortCA := root.Intermediate(t, "Short Intermediate", catest.RSA(t, 1024))
	sha1CA := root.Intermediate(t, "Old Intermediate", catest.Digest(crypto.SHA1))
	expiredCA := root.Intermediate(t, "Expired Intermediate", catest.Expired())
	clientCA := root.Intermediate(t, "Client Intermediate", catest.Usage(x509.ExtKeyUsageClientAuth))
	deepCA := root.Intermediate(t, "Flat Intermediate", func(c *catest.Template) { c.MaxPathLenZero = true }).
		Intermediate(t, "Too Deep Intermediate")
	pinned := catest.SelfSigned(t, testHost)
	pinnedAuthority := &catest.Authority{Certificate: pinned.Leaf}
	withAIA := func(c *catest.Template) { c.IssuingCertificateURL = []string{"http://ca.example/i.crt"} }
	without := func(c tls.Certificate) tls.Certificate { c.Certificate = c.Certificate[:1]; return c }

	tests := []struct {
		name string
		host string // "" is testHost
		cert tls.Certificate
		want string // "" is accepted
	}{
		{"valid", "", intermediate.Leaf(t, testHost), ""},
		{"signed by the root", "", root.Leaf(t, testHost), ""},
		{"rsa 2048", "", intermediate.Leaf(t, testHost, catest.RSA(t, 2048)), ""},
		{"root sent too", "", withRoot(intermediate.Leaf(t, testHost), root), ""},
		{"intermediates in disorder", "", disordered(intermediate.Intermediate(t, "Second").Leaf(t, testHost)), ""},
		{"unrelated certificate sent too", "", withRoot(intermediate.Leaf(t, testHost), stranger), ""},
		{"trusted itself", "", pinned, ""},

		{"expired", "", intermediate.Leaf(t, testHost, catest.Expired()), "certificate expired on 2020-03-01"},
		{"not yet valid", "", intermediate.Leaf(t, testHost, catest.NotYetValid()), "certificate is not valid before 2090-03-01"},
		{"self-signed", "", catest.SelfSigned(t, testHost), "certificate is self-signed"},
		{"unknown root", "", stranger.Leaf(t, testHost), `signed by an unknown authority, "Unknown Root"`},
		{"unknown root and its intermediate", "", stranger.Intermediate(t, "I").Leaf(t, testHost), `unknown authority: the server's chain ends below "Unknown Root"`},
		{"unknown root sent", "", withRoot(stranger.Leaf(t, testHost), stranger), `unknown authority: "Unknown Root" is not a trusted root`},
		{"intermediate missing", "", without(intermediate.Leaf(t, testHost)), "the server did not send its intermediate certificate"},
		{"public intermediate missing", "", without(intermediate.Leaf(t, testHost, withAIA)), `the server did not send its intermediate certificate "Known Intermediate"`},
		{"root of the same name", "", catest.Root(t, "Known Root").Leaf(t, testHost), `is not a trusted root`},

		{"name constraints kept", "hooks.example.org", constrained.Leaf(t, "hooks.example.org"), ""},
		{"name constraints broken", "", constrained.Leaf(t, testHost), "may not issue it for " + testHost},
		{"intermediate is no authority", "", notCA.Leaf(t, testHost), `"No Authority" signed another certificate, but it is not a certificate authority`},
		{"intermediate expired", "", expiredCA.Leaf(t, testHost), `certificate of the authority "Expired Intermediate" expired on 2020-03-01`},
		{"intermediate too deep", "", deepCA.Leaf(t, testHost), "does not allow this many intermediate certificates"},
		{"only for clients", "", intermediate.Leaf(t, testHost, catest.Usage(x509.ExtKeyUsageClientAuth)), "extended key usage"},
		{"authority only for clients", "", clientCA.Leaf(t, testHost), "extended key usage"},

		{"sha-1", "", root.Leaf(t, testHost, catest.Digest(crypto.SHA1)), "certificate is signed with SHA-1"},
		{"md5", "", root.Leaf(t, testHost, catest.Digest(crypto.MD5)), "certificate is signed with MD5"},
		{"sha-1 intermediate", "", sha1CA.Leaf(t, testHost), `certificate of the authority "Old Intermediate" is signed with SHA-1`},
		{"rsa 1024", "", intermediate.Leaf(t, testHost, catest.RSA(t, 1024)), "certificate has an RSA key of 1024 bits"},
		{"rsa 1024 intermediate", "", shortCA.Leaf(t, testHost), `certificate of the authority "Short Intermediate" has an RSA key of 1024 bits`},

		{"wrong host", "", intermediate.Leaf(t, "www.example.com"), "certificate is for www.example.com, not for " + testHost},
		{"name in other letters", "", intermediate.Leaf(t, "HOOKS.Example.COM"), ""},
		{"host in other letters, with a dot", "Hooks.Example.com.", intermediate.Leaf(t, testHost), ""},
		{"underscore", "my_hooks.example.com", intermediate.Leaf(t, "my_hooks.example.com"), ""},
		{"common name only", "", intermediate.Leaf(t, testHost, catest.Names("")), `only the Common Name "hooks.example.com"`},
		{"no name", "", intermediate.Leaf(t, ""), "certificate is for no host"},
		{"many names", "", intermediate.Leaf(t, "", catest.Names("a.test", "b.test", "c.test", "d.test", "e.test")), "for a.test, b.test, c.test, 2 more, not for"},
		{"wildcard", "", intermediate.Leaf(t, "*.example.com"), ""},
		{"wildcard of another domain", "hooks.example.org", intermediate.Leaf(t, "*.example.com"), "certificate is for *.example.com, not for hooks.example.org"},
		{"wildcard is one label", "a.hooks.example.com", intermediate.Leaf(t, "*.example.com"), "not for a.hooks"},
		{"wildcard is not none", "example.com", intermediate.Leaf(t, "*.example.com"), "not for example.com"},
		{"part of a label", "", intermediate.Leaf(t, "h*.example.com"), "not for " + testHost},
		{"wildcard in the middle", "a.hooks.example.com", intermediate.Leaf(t, "a.*.example.com"), "not for a.hooks"},
		{"bare wildcard", "localhost", intermediate.Leaf(t, "*"), "not for localhost"},
		{"ip", "127.0.0.1", intermediate.Leaf(t, "127.0.0.1"), ""},
		{"ipv6", "2001:db8::1", intermediate.Leaf(t, "2001:db8::1"), ""},
		{"wrong ip", "127.0.0.1", intermediate.Leaf(t, "127.0.0.2"), "certificate is for 127.0.0.2, not for 127.0.0.1"},
		{"ip as a dns name", "127.0.0.1", intermediate.Leaf(t, "", func(c *catest.Template) { c.DNSNames = []string{"127.0.0.1"} }), "certificate is for the DNS name 127.0.0.1, not for the IP address 127.0.0.1"},
		{"ipv6 in brackets as a dns name", "2001:db8::1", intermediate.Leaf(t, "", func(c *catest.Template) { c.DNSNames = []string{"[2001:db8::1]"} }), "certificate is for the DNS name [2001:db8::1], not for the IP address 2001:db8::1"},
		{"ip beside another as a dns name", "127.0.0.1", intermediate.Leaf(t, "", catest.Names("127.0.0.2"), func(c *catest.Template) { c.DNSNames = []string{"a.test", "127.0.0.1"} }), "certificate is for a.test, the DNS name 127.0.0.1, 127.0.0.2, not for the IP address 127.0.0.1"},
		{"address as a dns name beside a host's", "", intermediate.Leaf(t, "", func(c *catest.Template) { c.DNSNames = []string{"127.0.0.1"} }), "certificate is for the DNS name 127.0.0.1, not for " + testHost},
		{"wildcard for an ip", "127.0.0.1", intermediate.Leaf(t, "", func(c *catest.Template) { c.DNSNames = []string{"*.0.0.1"} }), "not for 127.0.0.1"},
		{"control characters in a name", "", intermediate.Leaf(t, "", func(c *catest.Template) { c.DNSNames = []string{"a\r\nb"} }), `certificate is`},
		{"unknown critical extension", "", intermediate.Leaf(t, testHost, unknownExtension), "critical extension"},
	}
	s := newStore(t, testConfig(t, root, pinnedAuthority))
	lax := testConfig(t)
	lax.InsecureSkipVerify = true
	skip := newStore(t, lax)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			host := tt.host
			if host == "" {
				host = testHost
			}
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				cfg := &tls.Config{Certificates: []tls.Certificate{tt.cert}, MinVersion: version, MaxVersion: version}
				port := serveTLS(t, cfg, nil)
				_, err := dial(t, s, "", host, port)
				checkError(t, err, host, true, tt.want)
				_, err = dial(t, skip, "", host, port)
				checkError(t, err, host, false, "")
			}
		})
	}
}

// withRoot is c by a server that sends another certificate too.
func withRoot(c tls.Certificate, root *catest.Authority) tls.Certificate {
	c.Certificate = slices.Concat(c.Certificate, [][]byte{root.Certificate.Raw})
	return c
}

// disordered is c by a server that sends its intermediates the wrong way round.
func disordered(c tls.Certificate) tls.Certificate {
	slices.Reverse(c.Certificate[1:])
	return c
}

// TestExpiredCrossSign is what broke clients in May 2020 and September 2021: a server goes on sending a cross-sign of a
// trusted root, by a root that has expired. The path that ends at the trusted root is valid.
func TestExpiredCrossSign(t *testing.T) {
	old := catest.Root(t, "Old Root", catest.Expired())
	root := catest.Root(t, "New Root")
	intermediate := root.Intermediate(t, "Intermediate")
	expired := old.CrossSign(t, root, catest.Expired())
	valid := old.CrossSign(t, root)
	leaf := intermediate.Leaf(t, testHost)
	chain := func(more ...*x509.Certificate) tls.Certificate {
		c := leaf
		for _, cert := range more {
			c.Certificate = slices.Concat(c.Certificate, [][]byte{cert.Raw})
		}
		return c
	}
	tests := []struct {
		name  string
		roots []*catest.Authority
		cert  tls.Certificate
		want  string
	}{
		{"expired cross-sign", []*catest.Authority{root}, chain(expired), ""},
		{"expired cross-sign and its expired root", []*catest.Authority{root}, chain(expired, old.Certificate), ""},
		{"both roots trusted", []*catest.Authority{old, root}, chain(expired, old.Certificate), ""},
		{"cross-sign below an expired root", []*catest.Authority{old, root}, chain(valid), ""},
		{"cross-sign before the intermediate", []*catest.Authority{root}, disordered(chain(expired)), ""},
		{"only the expired root trusted", []*catest.Authority{old}, chain(expired), "expired on 2020-03-01"},
		{"only the expired root trusted, valid cross-sign", []*catest.Authority{old}, chain(valid), "expired on 2020-03-01"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStore(t, testConfig(t, tt.roots...))
			_, err := dial(t, s, "", testHost, serveCertificate(t, tt.cert))
			checkError(t, err, testHost, true, tt.want)
		})
	}
}
