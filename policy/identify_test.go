package policy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

// t0 is when tests begin.
var t0 = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func mustNew(t testing.TB, cfg Config, previous *Policy) *Policy {
	t.Helper()
	p, err := New(cfg, previous, t0)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return p
}

func basic(userinfo string) Credential {
	return Credential{[]byte("Basic " + base64.StdEncoding.EncodeToString([]byte(userinfo))), 1}
}

func field(value string) Credential { return Credential{[]byte(value), 1} }

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// fourClients is one for each way to be known, and everybody.
func fourClients() Config {
	return Config{ClientCertificates: true, Clients: []ClientConfig{
		{Name: "token", Tokens: []string{HashToken("old"), HashToken("n:e w")}},
		{Name: "both", Tokens: []string{HashToken("both")}, Addresses: prefixes("10.2.0.0/16")},
		{Name: "cert", Certificates: []string{"spiffe://prod/billing", "dns:Billing.internal", "cn:billing"}},
		{Name: "address", Addresses: prefixes("10.1.0.0/16", "2001:db8::/64")},
		{Name: "everybody"},
	}}
}

func TestIdentify(t *testing.T) {
	p := mustNew(t, fourClients(), nil)
	cert := &Certificate{uris: []string{"spiffe://prod/billing"}}
	for _, tt := range []struct {
		name       string
		credential Credential
		cert       *Certificate
		addr       string
		want       string // "": refused
	}{
		{"nothing", Credential{}, nil, "", "everybody"},
		{"basic", basic("token:old"), nil, "", "token"},
		{"the second token, with colon and blank", basic("token:n:e w"), nil, "", "token"},
		{"scheme in capitals", field("BASIC " + string(basic("token:old").Value[6:])), nil, "", "token"},
		{"blanks around", field(" \tBearer   old \t"), nil, "", "token"},
		{"bearer", field("bearer old"), nil, "", "token"},
		{"another's name", basic("both:old"), nil, "10.2.0.1", ""},
		{"no name", basic(":old"), nil, "", ""},
		{"the name in capitals", basic("Token:old"), nil, "", ""},
		{"wrong token", basic("token:new"), nil, "", ""},
		{"wrong bearer, from a known address", field("Bearer new"), nil, "10.1.0.1", ""},
		{"the hash itself", field("Bearer " + HashToken("old")[7:]), nil, "", ""},
		{"empty token", basic("token:"), nil, "", ""},
		{"no colon", basic("token"), nil, "", ""},
		{"no value", field(""), nil, "10.1.0.1", ""},
		{"the scheme alone", field("Bearer"), nil, "", ""},
		{"the scheme and a blank", field("Bearer "), nil, "", ""},
		{"a tab for the blank", field("Bearer\told"), nil, "", ""},
		{"two tokens", field("Bearer old old"), nil, "", ""},
		{"another scheme", field("Digest old"), nil, "", ""},
		{"no base64", field("Basic token:old"), nil, "", ""},
		{"base64 without padding", field("Basic dG9rZW46b2xk="), nil, "", ""},
		{"two fields", Credential{[]byte("Bearer old"), 2}, nil, "", ""},
		{"both", basic("both:both"), nil, "10.2.0.1", "both"},
		{"both, mapped", basic("both:both"), nil, "::ffff:10.2.0.1", "both"},
		{"both, below the prefix", basic("both:both"), nil, "10.1.255.255", ""},
		{"both, above the prefix", basic("both:both"), nil, "10.3.0.0", ""},
		{"both, no address", basic("both:both"), nil, "", ""},
		{"only the address of both", Credential{}, nil, "10.2.0.1", "everybody"},
		{"certificate", Credential{}, cert, "", "cert"},
		{"certificate before address", Credential{}, cert, "10.1.0.1", "cert"},
		{"certificate and another's token", basic("token:old"), cert, "", "token"},
		{"address", Credential{}, nil, "10.1.0.0", "address"},
		{"address, IPv6 with a zone", Credential{}, nil, "2001:db8::1%eth0", "address"},
		{"address, one too far", Credential{}, nil, "10.2.0.0", "everybody"},
	} {
		addr, _ := netip.ParseAddr(tt.addr)
		peer := &Peer{Certificate: tt.cert, Addr: addr}
		for range 2 { // the second time from what the peer remembers
			got := ""
			if c := p.Identify(peer, tt.credential); c != nil {
				got = c.Name
			}
			if got != tt.want {
				t.Errorf("%s: got %q; want %q", tt.name, got, tt.want)
			}
		}
	}
}

func TestIdentifyWithoutEverybody(t *testing.T) {
	cfg := fourClients()
	cfg.Clients = cfg.Clients[:4]
	p := mustNew(t, cfg, nil)
	if c := p.Identify(&Peer{}, Credential{}); c != nil {
		t.Errorf("got %q; want nobody", c.Name)
	}
	if !p.HasTokens() || !p.HasClients() {
		t.Errorf("got tokens %t, clients %t; want both", p.HasTokens(), p.HasClients())
	}
	cfg.Clients = cfg.Clients[2:]
	if p := mustNew(t, cfg, nil); p.HasTokens() {
		t.Error("got tokens; want none")
	}
}

func TestIdentifyWithoutClients(t *testing.T) {
	p := mustNew(t, Config{}, nil)
	c := p.Identify(&Peer{}, Credential{[]byte("nonsense"), 7})
	if c == nil || c.Name != "" || p.HasClients() || c.Judge(host("127.0.0.1"), 1) != Allowed {
		t.Errorf("got %+v; want everybody, who may do anything", c)
	}
}

// leaf returns a certificate with these names, which may be any bytes.
func leaf(t *testing.T, subject pkix.Name, uris, names []string) *x509.Certificate {
	t.Helper()
	var general []asn1.RawValue
	for _, uri := range uris {
		general = append(general, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(uri)})
	}
	for _, name := range names {
		general = append(general, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(name)})
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: subject, NotAfter: t0}
	if general != nil {
		value, err := asn1.Marshal(general)
		if err != nil {
			t.Fatal(err)
		}
		template.ExtraExtensions = []pkix.Extension{{Id: oidSubjectAltName, Value: value}}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCertificate(t *testing.T) {
	p := mustNew(t, fourClients(), nil)
	cn := func(values ...string) (name pkix.Name) {
		for _, value := range values {
			name.ExtraNames = append(name.ExtraNames, pkix.AttributeTypeAndValue{Type: oidCommonName, Value: value})
		}
		return name
	}
	for _, tt := range []struct {
		name    string
		subject pkix.Name
		uris    []string
		names   []string
		want    string
	}{
		{"URI", cn("x"), []string{"spiffe://prod/billing"}, nil, "cert"},
		{"second URI", cn("x"), []string{"spiffe://prod/other", "spiffe://prod/billing"}, nil, "cert"},
		{"URI and more", cn("x"), []string{"spiffe://prod/billing/x"}, nil, "everybody"},
		{"URI, the scheme in capitals", cn("x"), []string{"SPIFFE://prod/billing"}, nil, "everybody"},
		{"URI with an empty fragment", cn("x"), []string{"spiffe://prod/billing#"}, nil, "everybody"},
		{"DNS", cn("x"), nil, []string{"billing.INTERNAL"}, "cert"},
		{"DNS, a wildcard", cn("x"), nil, []string{"*.internal"}, "everybody"},
		{"CN", cn("billing"), nil, nil, "cert"},
		{"CN in capitals", cn("Billing"), nil, nil, "everybody"},
		{"CN like a DNS name", cn("billing.internal"), nil, nil, "everybody"},
		{"two CNs", cn("other", "billing"), nil, nil, "everybody"},
		{"the same CN twice", cn("billing", "billing"), nil, nil, "everybody"},
		{"no CN", pkix.Name{Organization: []string{"billing"}}, nil, nil, "everybody"},
	} {
		peer := &Peer{Certificate: NewCertificate(leaf(t, tt.subject, tt.uris, tt.names))}
		if got := p.Identify(peer, Credential{}); got.Name != tt.want {
			t.Errorf("%s: got %q; want %q", tt.name, got.Name, tt.want)
		}
	}
}

func TestRawURIsAreThoseOfX509(t *testing.T) {
	u, _ := url.Parse("spiffe://prod/a%2Fb?q#f")
	if got := rawURIs(leaf(t, pkix.Name{}, []string{u.String()}, []string{"a.test"})); len(got) != 1 || got[0] != u.String() {
		t.Errorf("got %q; want %q", got, u)
	}
}

func TestRecheck(t *testing.T) {
	before := mustNew(t, fourClients(), nil)
	cert := &Certificate{uris: []string{"spiffe://prod/billing"}}
	byToken := Peer{Addr: netip.MustParseAddr("10.2.0.1")}
	change := func(change func(c []ClientConfig) []ClientConfig) *Policy {
		cfg := fourClients()
		cfg.Clients = change(cfg.Clients)
		return mustNew(t, cfg, before)
	}
	same := change(func(c []ClientConfig) []ClientConfig { return c })
	for _, tt := range []struct {
		name       string
		peer       Peer
		credential Credential
		after      *Policy
		want       string
	}{
		{"nothing changed", byToken, basic("both:both"), same, "both"},
		{"nothing changed, certificate", Peer{Certificate: cert}, Credential{}, same, "cert"},
		{"token gone", byToken, field("Bearer both"), change(func(c []ClientConfig) []ClientConfig {
			c[1].Tokens = []string{HashToken("new")}
			return c
		}), ""},
		{"token another's", byToken, basic("both:both"), change(func(c []ClientConfig) []ClientConfig {
			c[0].Tokens, c[1].Tokens = c[1].Tokens, c[0].Tokens
			return c
		}), ""},
		{"address gone", byToken, basic("both:both"), change(func(c []ClientConfig) []ClientConfig {
			c[1].Addresses = prefixes("10.3.0.0/16")
			return c
		}), ""},
		{"certificate gone, though everybody may", Peer{Certificate: cert}, Credential{}, change(func(c []ClientConfig) []ClientConfig {
			c[2].Certificates = []string{"cn:other"}
			return c
		}), ""},
		{"entry gone, though everybody may", Peer{Certificate: cert}, Credential{}, change(func(c []ClientConfig) []ClientConfig {
			return append(c[:2], c[3:]...)
		}), ""},
		{"everybody gone", Peer{}, Credential{}, change(func(c []ClientConfig) []ClientConfig { return c[:4] }), ""},
		{"clients gone", byToken, basic("both:both"), mustNew(t, Config{}, before), "(anybody)"},
	} {
		id := before.Identify(&tt.peer, tt.credential).Identity(&tt.peer, tt.credential)
		got := ""
		if c := tt.after.Recheck(&id); c != nil {
			got = c.Name
			if c == tt.after.everybody {
				got = "(anybody)"
			}
		}
		if got != tt.want {
			t.Errorf("%s: got %q; want %q", tt.name, got, tt.want)
		}
	}
	anybody := mustNew(t, Config{}, nil)
	id := anybody.Identify(&Peer{}, basic("token:old")).Identity(&Peer{}, basic("token:old"))
	if c := before.Recheck(&id); c == nil || c.Name != "everybody" {
		t.Errorf("clients come: got %v; want everybody, for the credential had not been read", c)
	}
}

func TestNewToken(t *testing.T) {
	token, hash := NewToken()
	other, _ := NewToken()
	if token == other || len(token) != 43 || strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		t.Errorf("got %q and %q; want two of 43 letters, digits, _ and -", token, other)
	}
	p := mustNew(t, Config{Clients: []ClientConfig{{Name: "a", Tokens: []string{hash}}}}, nil)
	if p.Identify(&Peer{}, basic("a:"+token)) == nil || p.Identify(&Peer{}, field("Bearer "+token)) == nil {
		t.Error("the token is not known by its hash")
	}
}

func FuzzCredential(f *testing.F) {
	for _, seed := range []string{"Basic dG9rZW46b2xk", "Bearer old", "Basic", "Basic  =", "Bearer \x00", "basic dG9rZW46b2xk\r\n"} {
		f.Add([]byte(seed), 1)
	}
	p, err := New(fourClients(), nil, t0)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value []byte, fields int) {
		kept := bytes.Clone(value)
		name, token, ok := readCredential(nil, Credential{value, fields})
		c := p.Identify(&Peer{}, Credential{value, fields})
		if !bytes.Equal(kept, value) {
			t.Fatalf("%q became %q", kept, value)
		}
		known := ok && (name == nil || string(name) == "token") && (string(token) == "old" || string(token) == "n:e w")
		if fields != 0 && known != (c != nil) || fields == 0 && c.Name != "everybody" {
			t.Errorf("%q of %d fields: got client %v with name %q; want known: %t", value, fields, c, name, known)
		}
		if ok && fields != 1 {
			t.Errorf("%d fields were read", fields)
		}
	})
}
