package policy

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"strings"
)

// Certificate is what rules can be held against of a client's certificate.
type Certificate struct {
	uris  []string // as they are written in it
	names []string // of DNS, in lower case
	cn    string   // where there is one
	hasCN bool
}

var (
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidCommonName     = asn1.ObjectIdentifier{2, 5, 4, 3}
)

// NewCertificate returns what counts of leaf, which has been verified by the listener's clientCAFile: its URIs, its
// DNS names, and its common name where it has exactly one. Of its chain nothing counts.
func NewCertificate(leaf *x509.Certificate) *Certificate {
	c := &Certificate{uris: rawURIs(leaf)}
	for _, name := range leaf.DNSNames {
		c.names = append(c.names, strings.ToLower(name))
	}
	commonNames := 0
	for _, attribute := range leaf.Subject.Names {
		if attribute.Type.Equal(oidCommonName) {
			commonNames++
			c.cn, c.hasCN = attribute.Value.(string)
		}
	}
	c.hasCN = c.hasCN && commonNames == 1
	return c
}

// rawURIs returns the URIs of leaf byte for byte: a url.URL that is written out again may be another text, and so
// another name.
func rawURIs(leaf *x509.Certificate) []string {
	var uris []string
	for _, extension := range leaf.Extensions {
		if !extension.Id.Equal(oidSubjectAltName) {
			continue
		}
		var names []asn1.RawValue // GeneralNames, RFC 5280 section 4.2.1.6
		if _, err := asn1.Unmarshal(extension.Value, &names); err != nil {
			return nil
		}
		for _, name := range names {
			if name.Class == asn1.ClassContextSpecific && name.Tag == 6 {
				uris = append(uris, string(name.Bytes))
			}
		}
	}
	return uris
}

// certificateRules are those of one client.
type certificateRules struct {
	uris, names, cns []string
}

func (r *certificateRules) empty() bool { return len(r.uris)+len(r.names)+len(r.cns) == 0 }

// fit reports whether there are no rules, or c, which may be nil, fits one.
func (r *certificateRules) fit(c *Certificate) bool {
	if r.empty() {
		return true
	}
	if c == nil {
		return false
	}
	return intersect(r.uris, c.uris) || intersect(r.names, c.names) || c.hasCN && slices.Contains(r.cns, c.cn)
}

func intersect(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

const wantCertificate = `a URI such as spiffe://prod/billing, "dns:" and a name, or "cn:" and a common name`

// add reads one element of certificates, and returns what is wrong with it, or "".
func (r *certificateRules) add(text string) (problem string) {
	kind, rest, found := strings.Cut(text, ":")
	switch {
	case !found || kind == "" || rest == "":
		return "is not complete"
	case kind == "dns":
		r.names = append(r.names, strings.ToLower(rest))
	case kind == "cn":
		r.cns = append(r.cns, rest)
	case strings.EqualFold(kind, "dns") || strings.EqualFold(kind, "cn") || strings.ContainsAny(kind, "/. "):
		return "is no URI"
	default:
		r.uris = append(r.uris, text)
	}
	return ""
}
