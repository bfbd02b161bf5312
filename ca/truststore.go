package ca

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	mozilla "golang.org/x/crypto/x509roots/fallback/bundle"
)

// maxBundle bounds a bundle or a file of extra roots, in bytes.
const maxBundle = 4 << 20

// maxSessions bounds the TLS sessions kept for resumption, over all destinations.
const maxSessions = 4096

// builtInOrigin is the Origin of the bundle that is compiled in.
const builtInOrigin = "built-in"

// builtInDate is when the built-in bundle was taken from Mozilla: the time in its module's version, since it has no
// date of its own.
var builtInDate = time.Date(2026, 10, 30, 15, 31, 54, 0, time.UTC)

// trust is the trust store of a moment. It never changes.
type trust struct {
	bundle  bundle
	roots   []*x509.Certificate // of the bundle and the extra ones, each once
	anchors *anchors            // of roots
	// sessions end with the trust store that their certificates were verified against.
	sessions *lru[string, session]
}

// bundle is a set of roots with its date.
type bundle struct {
	roots  []root
	asOf   time.Time // zero: unknown
	origin string    // builtInOrigin, a file or a URL
}

// root is a certificate that is trusted to issue others.
type root struct {
	cert *x509.Certificate
	// constraint, if not nil, refuses chains for what X.509 cannot express (Mozilla's "distrust after").
	constraint func([]*x509.Certificate) error
}

type fingerprint [sha256.Size]byte

func (r root) fingerprint() fingerprint { return sha256.Sum256(r.cert.Raw) }

// Roots returns how many roots are trusted, the extra ones included.
func (s *Store) Roots() int { return len(s.trust.Load().roots) }

// Timestamp returns the date of the Mozilla bundle in use.
func (s *Store) Timestamp() time.Time { return s.trust.Load().bundle.asOf }

// Origin returns where the Mozilla bundle in use came from: "built-in", the file that it is kept in or, kept in none,
// the URL.
func (s *Store) Origin() string { return s.trust.Load().bundle.origin }

// Certificates returns the roots that are trusted, the extra ones included, in the order of their names.
func (s *Store) Certificates() []*x509.Certificate {
	certs := slices.Clone(s.trust.Load().roots)
	slices.SortStableFunc(certs, func(a, b *x509.Certificate) int {
		return strings.Compare(strings.ToLower(a.Subject.String()), strings.ToLower(b.Subject.String()))
	})
	return certs
}

func newTrust(b bundle, extra []root) *trust {
	t := &trust{bundle: b, sessions: newLRU[string, session](maxSessions)}
	var roots []root
	have := make(map[fingerprint]bool)
	// Extra roots first: the operator's word lifts a constraint that Mozilla puts on the same root.
	for _, r := range slices.Concat(extra, b.roots) {
		if fp := r.fingerprint(); !have[fp] {
			have[fp] = true
			t.roots = append(t.roots, r.cert)
			roots = append(roots, r)
		}
	}
	t.anchors = newAnchors(x509.NewCertPool(), roots)
	return t
}

// builtIn returns the compiled-in bundle. It is parsed once, as it is the same for every Store.
var builtIn = sync.OnceValue(func() bundle {
	b := bundle{asOf: builtInDate, origin: builtInOrigin}
	for r := range mozilla.Roots() {
		cert, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			panic("BUG: a built-in root does not parse: " + err.Error())
		}
		b.roots = append(b.roots, root{cert, r.Constraint})
	}
	return b
})

// loadRoots reads a file of further roots that key names; "" has none.
func loadRoots(key, file string) ([]root, error) {
	if file == "" {
		return nil, nil
	}
	data, err := readFile(file, maxBundle)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	certs, err := parseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %q: %w", key, file, err)
	}
	roots := make([]root, len(certs))
	for i, c := range certs {
		roots[i].cert = c
	}
	return roots, nil
}

// loadKept reads the bundle that an earlier download kept, with what to ask about it; no file, no bundle.
func loadKept(file string) (bundle, validators, error) {
	if file == "" {
		return bundle{}, validators{}, nil
	}
	data, err := readFile(file, maxBundle)
	if errors.Is(err, fs.ErrNotExist) {
		return bundle{}, validators{}, nil
	}
	if err != nil {
		return bundle{}, validators{}, err
	}
	b, err := parseBundle(data)
	if err != nil {
		return bundle{}, validators{}, fmt.Errorf("%q: %w", file, err)
	}
	b.origin = file
	if info, err := os.Stat(file); b.asOf.IsZero() && err == nil {
		b.asOf = info.ModTime() // keep sets it to Last-Modified
	}
	return b, loadValidators(file, data), nil
}

// asOfLine is how the bundles made by curl's mk-ca-bundle state the date of Mozilla's data.
var asOfLine = regexp.MustCompile(`(?m)^#+ *Certificate data from Mozilla [a-z -]{1,40}: *([^\r\n]{1,80})`)

// parseBundle reads a PEM bundle with the date that its first lines may state. Every certificate has to parse.
func parseBundle(data []byte) (bundle, error) {
	certs, err := parseCertificates(data)
	if err != nil {
		return bundle{}, err
	}
	b := bundle{asOf: parseAsOf(data)}
	constraints := make(map[fingerprint]func([]*x509.Certificate) error)
	for _, r := range builtIn().roots {
		constraints[r.fingerprint()] = r.constraint
	}
	have := make(map[fingerprint]bool)
	for _, c := range certs {
		r := root{cert: c}
		fp := r.fingerprint()
		if have[fp] {
			continue
		}
		have[fp] = true
		// PEM cannot carry a constraint; the one that is known of this root still holds.
		r.constraint = constraints[fp]
		b.roots = append(b.roots, r)
	}
	return b, nil
}

// parseAsOf returns the date in the comment above the first certificate, zero where there is none.
func parseAsOf(data []byte) time.Time {
	head, _, _ := strings.Cut(string(data), "-----BEGIN ")
	m := asOfLine.FindStringSubmatch(head)
	if m == nil {
		return time.Time{}
	}
	date := strings.Join(strings.Fields(m[1]), " ") // the day is padded with a space
	for _, layout := range []string{"Mon Jan 2 15:04:05 2006 GMT", "Mon Jan 2 15:04:05 2006 UTC", "Mon Jan 2 15:04:05 2006"} {
		if t, err := time.Parse(layout, date); err == nil {
			return t
		}
	}
	return time.Time{}
}
