package ca

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// updateTimeout bounds one look for a newer bundle, redirects and all.
	updateTimeout = 10 * time.Second
	// maxRedirects bounds how often the address of the bundle may be redirected.
	maxRedirects = 5
	// maxValidators bounds the file of validators, in bytes.
	maxValidators = 16 << 10
	// maxValidator bounds one validator, in bytes.
	maxValidator = 1 << 10
)

// RefreshResult is what became of a look for a newer bundle.
type RefreshResult string

// The values of RefreshResult.
const (
	RefreshUpdated   RefreshResult = "updated"   // a newer bundle is in use
	RefreshUnchanged RefreshResult = "unchanged" // there is none
	RefreshFailed    RefreshResult = "failed"    // there was no answer, or it was refused
)

// Start begins to look for newer bundles, at once and then every Bundle.RefreshInterval, and at the files that the
// configuration names, every WatchFiles, in a goroutine each that ends with ctx or Close. It returns at once, and does
// nothing after Close and when called again; no bundle is looked for where Bundle.URL is "".
func (s *Store) Start(ctx context.Context) {
	s.lifecycle.Lock()
	defer s.lifecycle.Unlock()
	if s.closed || s.stop != nil {
		return
	}
	s.adopt(s.learned.bundle()) // what the Store before this one may have found since
	if s.cfg.Bundle.URL == "" && s.cfg.WatchFiles <= 0 {
		return
	}
	ctx, s.stop = context.WithCancel(ctx)
	if s.cfg.Bundle.URL != "" {
		s.running.Go(func() { s.refresh(ctx) })
	}
	if s.cfg.WatchFiles > 0 {
		s.running.Go(func() { s.watch(ctx) })
	}
}

// Close ends what Start began, a download that is under way included, and waits for it. The Store remains usable.
func (s *Store) Close() {
	s.lifecycle.Lock()
	s.closed = true
	if s.stop != nil {
		s.stop()
	}
	s.lifecycle.Unlock()
	s.running.Wait()
}

// refresh is the goroutine of Start that looks for newer bundles.
func (s *Store) refresh(ctx context.Context) {
	ticker := time.NewTicker(s.cfg.Bundle.RefreshInterval)
	defer ticker.Stop()
	for {
		s.Update(ctx) // reports through Hooks.Refreshed
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Update looks for a newer bundle once, for at most 10 seconds, and puts it to use. The result is RefreshFailed with an
// error that says why, also where Bundle.URL is ""; RefreshUpdated comes with an error where the bundle is in use but
// could not be kept in Bundle.File. The bundle in use stays unless the result is RefreshUpdated. Hooks.Refreshed gets
// the same, but not when ctx ended first.
func (s *Store) Update(ctx context.Context) (RefreshResult, error) {
	s.updating.Lock()
	defer s.updating.Unlock()
	result, err := s.update(ctx)
	if err != nil {
		err = fmt.Errorf("update the trust store from %s: %w", redactURL(s.cfg.Bundle.URL), err)
	}
	if s.hooks.Refreshed != nil && ctx.Err() == nil {
		s.hooks.Refreshed(result, err)
	}
	return result, err
}

func (s *Store) update(ctx context.Context) (RefreshResult, error) {
	if s.cfg.Bundle.URL == "" {
		return RefreshFailed, errors.New(`caBundle.url is ""; want an http or https URL`)
	}
	answer, err := s.download(ctx)
	if err != nil {
		return RefreshFailed, err
	}
	if answer == nil {
		return RefreshUnchanged, nil
	}
	b, err := answer.bundle()
	if err != nil {
		return RefreshFailed, err
	}
	current := s.trust.Load()
	// Before the dates are compared: a damaged copy of the bundle in use is no reason to be content.
	if err := checkLoss(current.bundle, b); err != nil {
		return RefreshFailed, err
	}
	s.learned.saw(s.cfg.Bundle.URL, answer.validators)
	if !b.asOf.After(current.bundle.asOf) {
		return RefreshUnchanged, nil
	}
	b.origin = redactURL(s.cfg.Bundle.URL)
	var keepErr error
	if file := s.cfg.Bundle.File; file != "" {
		if keepErr = answer.keep(file, b.asOf); keepErr == nil {
			b.origin = file
		}
	}
	s.learned.keep(b)
	s.swap(newTrust(b, s.extra))
	return RefreshUpdated, keepErr
}

// adopt puts b to use where it is newer than the bundle that is.
func (s *Store) adopt(b bundle) {
	s.updating.Lock()
	defer s.updating.Unlock()
	if b.asOf.After(s.trust.Load().bundle.asOf) {
		s.swap(newTrust(b, s.extra))
	}
}

// swap puts t to use. Its caller holds updating.
func (s *Store) swap(t *trust) {
	if old := s.trust.Swap(t); !sameRoots(old, t) {
		s.hooks.changed()
	}
}

func sameRoots(a, b *trust) bool {
	return len(a.roots) == len(b.roots) && a.anchors.pool.Equal(b.anchors.pool)
}

// checkLoss refuses a bundle that lacks more than a quarter of the roots in use: nobody removes so many at once, but a
// file cut short between two certificates looks like that.
func checkLoss(current, next bundle) error {
	have := make(map[fingerprint]bool, len(next.roots))
	for _, r := range next.roots {
		have[r.fingerprint()] = true
	}
	lost := 0
	for _, r := range current.roots {
		if !have[r.fingerprint()] {
			lost++
		}
	}
	if lost*4 > len(current.roots) {
		return fmt.Errorf("the bundle lacks %d of the %d roots in use; a quarter is the most accepted", lost, len(current.roots))
	}
	return nil
}

// answer is a bundle as downloaded.
type answer struct {
	body         []byte
	lastModified time.Time // zero: not stated
	validators   validators
}

// bundle parses the answer and dates it.
func (a *answer) bundle() (bundle, error) {
	b, err := parseBundle(a.body)
	if err != nil {
		return bundle{}, err
	}
	if b.asOf.IsZero() {
		b.asOf = a.lastModified
	}
	if b.asOf.IsZero() {
		return bundle{}, errors.New("the bundle has no date; want its \"as of\" line or a Last-Modified header")
	}
	return b, nil
}

// download asks for the bundle. The answer is nil where the server says that it is the one seen last.
func (s *Store) download(ctx context.Context) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.cfg.Bundle.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "whsentry")
	conditional := s.learned.validators(s.cfg.Bundle.URL).setConditions(req.Header)
	client, done := s.httpClient()
	defer done()
	resp, err := client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && conditional:
		return nil, nil
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the server answered %d %s; want 200", resp.StatusCode, http.StatusText(resp.StatusCode))
	case resp.ContentLength > maxBundle:
		return nil, fmt.Errorf("the bundle has %d bytes; want at most %d", resp.ContentLength, maxBundle)
	}
	// net/http reports a body that is shorter than its Content-Length as unexpected EOF.
	body, err := readBounded(resp.Body, maxBundle, "the bundle")
	if err != nil {
		return nil, err
	}
	a := &answer{body: body, validators: newValidators(s.cfg.Bundle.URL, resp.Header, body)}
	if t, err := http.ParseTime(resp.Header.Get("Last-Modified")); err == nil {
		a.lastModified = t
	}
	return a, nil
}

// httpClient returns a client for one download: straight to the server, past proxies and the guard, as the operator
// chose the address; https is verified against the trust store in use even where destinations are not.
func (s *Store) httpClient() (client *http.Client, done func()) {
	transport := &http.Transport{
		Proxy:                  nil,
		DialContext:            (&net.Dialer{Timeout: updateTimeout}).DialContext,
		TLSClientConfig:        s.trust.Load().verifyConfig(),
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	return &http.Client{Transport: transport, CheckRedirect: checkRedirect}, transport.CloseIdleConnections
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("redirected more than %d times", maxRedirects)
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("redirected from https to %s", redactURL(req.URL.String()))
	}
	return nil
}

// withoutURL returns the cause of a client's error, in the words of Explain where TLS is the cause. The URL is named by
// Update, without its secrets.
func withoutURL(err error) error {
	var urlErr *url.Error
	if !errors.As(err, &urlErr) {
		return err
	}
	var verification *tls.CertificateVerificationError
	if u, parseErr := url.Parse(urlErr.URL); parseErr == nil && errors.As(err, &verification) {
		return errors.New(Explain(err, u.Hostname()).Text)
	}
	if strings.Contains(urlErr.Err.Error(), "Location header") {
		return errors.New("redirected to something that is not a URL") // net/http repeats it as a whole
	}
	return urlErr.Err
}

// redactURL returns a URL for showing: without password and query, each of which may be a secret.
func redactURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "an invalid URL"
	}
	u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = "", false, "", ""
	return u.Redacted()
}

// hasQuery reports whether a URL has a part that redactURL leaves out, which may tell it from others.
func hasQuery(raw string) bool { return strings.Contains(raw, "?") }

// validators are what a later request for a bundle refers to (RFC 9110 section 8.8). They are kept in a file beside the
// bundle's, as JSON.
type validators struct {
	URL          string `json:"url"` // as it may be shown: the file is for everybody
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"lastModified,omitempty"`
	// SHA256 ties them to the bundle: one file may have been replaced without the other.
	SHA256 string `json:"sha256"`
}

func newValidators(url string, header http.Header, body []byte) validators {
	v := validators{URL: redactURL(url), ETag: header.Get("ETag"), LastModified: header.Get("Last-Modified"), SHA256: hexSum(body)}
	if len(v.ETag) > maxValidator || len(v.LastModified) > maxValidator {
		v.ETag, v.LastModified = "", ""
	}
	return v
}

// setConditions makes a request conditional and reports whether there was something to refer to.
func (v validators) setConditions(header http.Header) bool {
	if v.ETag != "" {
		header.Set("If-None-Match", v.ETag)
	}
	if v.LastModified != "" {
		header.Set("If-Modified-Since", v.LastModified)
	}
	return v.ETag != "" || v.LastModified != ""
}

// loadValidators reads what was kept beside a bundle's file. Whatever is wrong with it, the only loss is that the next
// request is unconditional.
func loadValidators(file string, bundle []byte) validators {
	var v validators
	data, err := readFile(validatorsFile(file), maxValidators)
	if err != nil || json.Unmarshal(data, &v) != nil || v.SHA256 != hexSum(bundle) {
		return validators{}
	}
	return v
}

func validatorsFile(file string) string { return file + ".json" }

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// keep stores a bundle, and beside it its validators. The bundle's file gets its date, for one that does not state it.
func (a *answer) keep(file string, asOf time.Time) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("keep the bundle in caBundle.file: %w", err)
	}
	if err := replaceFile(file, a.body, asOf); err != nil {
		return fmt.Errorf("keep the bundle in caBundle.file %q: %w", file, err)
	}
	data, err := json.Marshal(a.validators)
	if err == nil {
		err = replaceFile(validatorsFile(file), data, time.Now())
	}
	if err != nil {
		return fmt.Errorf("keep the validators of the bundle beside caBundle.file %q: %w", file, err)
	}
	return nil
}

// replaceFile replaces a file as a whole: a reader, or a crash, sees the old one or the new one.
func replaceFile(file string, data []byte, modified time.Time) (err error) {
	dir := filepath.Dir(file)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			temp.Close()
			os.Remove(temp.Name())
		}
	}()
	if _, err := temp.Write(data); err != nil {
		return err
	}
	if err := temp.Chmod(0o644); err != nil { // not a secret, and `whsentry ca list` may be run by another user
		return err
	}
	if err := temp.Sync(); err != nil {
		return err
	}
	if err := temp.Close(); err != nil {
		return err
	}
	if err := os.Chtimes(temp.Name(), modified, modified); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), file); err != nil {
		return err
	}
	syncDir(dir)
	return nil
}

// syncDir makes a rename survive a crash, on the systems that can sync a folder.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		d.Sync()
		d.Close()
	}
}
