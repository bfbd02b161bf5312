// Package ca decides whom we trust and says who we are. It is the only maker of TLS configurations.
//
// A Store holds the trust store (Mozilla's bundle, built in or downloaded, and the operator's own roots), the client
// certificates, what entries of destinations say about TLS, and the issuer of certificates for intercepted tunnels. All
// of it is read by New. The trust store changes afterwards, as a whole, when Start or Update finds a newer bundle, and
// what the files hold changes with them where Config.WatchFiles says so. A changed configuration is a new Store, made
// with Reload.
//
// Handshake is how a connection to a destination is made: handshake.go tells its story, verify.go what is asked of a
// server's certificate, intermediates.go how a chain is completed that the server sends in part.
//
// The package knows certificates and files. It knows nothing of proxying, of addresses that may not be reached, of logs
// or metrics: it reports through Hooks and returns errors. Explain turns those of a handshake into words.
package ca

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Hooks are how a Store reports what nobody waits for, and reaches what it may not reach by itself. Each may be nil. They
// are called, and waited for, by whatever finds something out (New, Update, Start's goroutines, ServerConfig), so they
// must be quick.
type Hooks struct {
	// Refreshed follows each look for a newer bundle. err is set with RefreshFailed, and with RefreshUpdated
	// where the new bundle is in use but could not be kept in its file.
	Refreshed func(result RefreshResult, err error)
	// Changed follows a change of what connections to destinations rest on: the trusted roots, a client certificate.
	// Pools should retire the connections made before.
	Changed func()
	// IssuerChanged follows a change of the CA that signs certificates for intercepted tunnels: the clients' connections
	// that were made before rest on the old one.
	IssuerChanged func()
	// ListenerChanged follows a change of a listener's files. now is what ServerConfig would return today in place of old.
	ListenerChanged func(old, now *tls.Config)
	// Warn takes what is wrong but stops nothing: an expired client certificate, a damaged cached bundle, a changed file
	// that cannot be used.
	Warn func(err error)
	// Dial connects to a host and port that a certificate of a stranger names, to fetch the certificate that a server
	// failed to send, until ctx ends. It is to refuse every address that is not public. Nil: nothing is fetched.
	Dial func(ctx context.Context, host string, port uint16) (net.Conn, error)
}

func (h *Hooks) warn(err error) {
	if h.Warn != nil && err != nil {
		h.Warn(err)
	}
}

func (h *Hooks) changed() {
	if h.Changed != nil {
		h.Changed()
	}
}

// Store is the trust store and the identities. All its methods may be called concurrently.
type Store struct {
	cfg         Config
	hooks       Hooks
	now         func() time.Time
	clientCerts map[string]*identity // by alias
	noCert      *clientCert
	rules       []*Rules // by entry of destinations
	noRules     *Rules
	issuer      atomic.Pointer[issuer] // nil where none is configured
	fetcher     *fetcher               // nil where nothing is fetched
	trust       atomic.Pointer[trust]
	learned     *learned

	updating sync.Mutex // serialises Update and other changes of trust; guards extra
	extra    []root     // of caBundle.extraFile

	watching sync.Mutex // guards watched
	watched  []*watched

	lifecycle sync.Mutex // guards stop and closed
	stop      context.CancelFunc
	closed    bool
	running   sync.WaitGroup
}

// New reads every file that cfg names and returns a Store that trusts the newer of the built-in bundle and the one
// kept in cfg.Bundle.File, and the extra roots. An error names the configuration key and the file; a kept bundle that
// cannot be read is a warning only. New uses no network and starts nothing.
func New(cfg Config, hooks Hooks) (*Store, error) { return open(cfg, hooks, newLearned()) }

// Reload is New for a Store that takes the place of s, which may still be in use: it goes on with what s learned, so that
// it never trusts an older bundle than s, also where that could not be kept in a file.
func (s *Store) Reload(cfg Config, hooks Hooks) (*Store, error) { return open(cfg, hooks, s.learned) }

func open(cfg Config, hooks Hooks, known *learned) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, hooks: hooks, now: time.Now, learned: known, noCert: &clientCert{id: NoClientCert}}
	s.watchConfigured()
	if err := s.load(); err != nil {
		return nil, err
	}
	if cfg.Bundle.FetchIntermediates && hooks.Dial != nil {
		s.fetcher = newFetcher(hooks.Dial)
	}
	s.warnOfValidity()
	s.trust.Store(newTrust(s.newestBundle(), s.extra))
	return s, nil
}

// load reads the files that the configuration names, but for the kept bundle.
func (s *Store) load() (err error) {
	if s.clientCerts, err = s.cfg.loadClientCerts(); err != nil {
		return err
	}
	made, err := newIssuer(s.cfg.MITMIssuer)
	if err != nil {
		return err
	}
	s.issuer.Store(made)
	if s.extra, err = loadRoots("caBundle.extraFile", s.cfg.Bundle.ExtraFile); err != nil {
		return err
	}
	if s.noRules, err = newRules("", "", RulesConfig{}); err != nil {
		return err
	}
	s.rules = make([]*Rules, len(s.cfg.Destinations))
	for i, cfg := range s.cfg.Destinations {
		if s.rules[i], err = newRules(entryKey(i), strconv.Itoa(i), cfg); err != nil {
			return err
		}
	}
	return nil
}

// newestBundle returns the newest there is: built in, kept in the file, or in use by a Store before this one.
func (s *Store) newestBundle() bundle {
	newest := builtIn()
	kept, seen, err := loadKept(s.cfg.Bundle.File)
	if err != nil {
		s.hooks.warn(fmt.Errorf("caBundle.file: %w; going on with the bundle that there is", err))
	}
	known := s.learned.bundle()
	for _, b := range []bundle{kept, known} {
		if b.asOf.After(newest.asOf) {
			newest = b
		}
	}
	// A file that was kept does not have the query of its URL, so it may be that of another one.
	if known.roots == nil && !hasQuery(s.cfg.Bundle.URL) && seen.URL == redactURL(s.cfg.Bundle.URL) {
		s.learned.saw(s.cfg.Bundle.URL, seen)
	}
	s.learned.keep(kept) // the file may be another by the time of a reload, or gone
	return newest
}

func (s *Store) warnOfValidity() {
	for alias, who := range s.clientCerts {
		certKey, _ := aliasKeys(alias)
		s.hooks.warn(checkValidity(certKey, who.current.Load().pair.Leaf))
	}
	if i := s.issuer.Load(); i != nil {
		s.hooks.warn(checkValidity("mitmIssuerCertFile", i.cert))
	}
}
