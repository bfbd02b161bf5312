package ca

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"time"
)

// watched is what rests on files whose contents are looked at now and then, by one goroutine.
type watched struct {
	files []string
	used  contents // what is in use
	bad   contents // what was complained about last
	// change reads the files and puts them to use. Where that fails, all stays as it was.
	change func() error
}

// contents stands for what is in some files: through symbolic links, for that is how Kubernetes and cert-manager swap
// them, and whatever their times say.
type contents [sha256.Size]byte

func readContents(files []string) (c contents) {
	h := sha256.New()
	for _, file := range files {
		data, err := readFile(file, maxBundle)
		if err != nil {
			data = []byte(err.Error()) // gone is a content too
		}
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(data))))
		h.Write(data)
	}
	h.Sum(c[:0])
	return c
}

// look puts changed files to use. What cannot be used is an error, the first time that it is seen.
func (w *watched) look() error {
	now := readContents(w.files)
	switch now {
	case w.used:
		w.bad = contents{}
		return nil
	case w.bad:
		return nil
	}
	if err := w.change(); err != nil {
		w.bad = now
		return fmt.Errorf("%w; what was read before stays in use", err)
	}
	w.used, w.bad = now, contents{}
	return nil
}

// watch is the goroutine of Start that looks at files.
func (s *Store) watch(ctx context.Context) {
	ticker := time.NewTicker(s.cfg.WatchFiles)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.lookAtFiles()
		}
	}
}

// lookAtFiles looks at all files once. Hooks may make use of the Store meanwhile.
func (s *Store) lookAtFiles() {
	s.watching.Lock()
	all := slices.Clone(s.watched)
	s.watching.Unlock()
	for _, w := range all {
		s.hooks.warn(w.look())
	}
}

// watchFor has files watched from now on. What is in them is to be put to use after this, so that no change is missed.
func (s *Store) watchFor(change func() error, files ...string) {
	if s.cfg.WatchFiles > 0 {
		s.watchFrom(readContents(files), change, files...)
	}
}

// watchFrom has files watched of which used is in use.
func (s *Store) watchFrom(used contents, change func() error, files ...string) {
	s.watching.Lock()
	defer s.watching.Unlock()
	s.watched = append(s.watched, &watched{files: files, used: used, change: change})
}

// watchConfigured has the files watched that the configuration names.
func (s *Store) watchConfigured() {
	files := s.cfg.clientCertFiles()
	for _, alias := range slices.Sorted(maps.Keys(files)) {
		pair := files[alias]
		s.watchFor(func() error { return s.changeClientCert(alias, pair) }, pair.CertFile, pair.KeyFile)
	}
	if i := s.cfg.MITMIssuer; i != (KeyPairFiles{}) {
		s.watchFor(s.changeIssuer, i.CertFile, i.KeyFile)
	}
	if file := s.cfg.Bundle.ExtraFile; file != "" {
		s.watchFor(s.changeExtra, file)
	}
	if file := s.cfg.Bundle.File; file != "" {
		s.watchFor(s.changeBundle, file)
	}
	for i, cfg := range s.cfg.Destinations {
		if cfg.CAFile != "" {
			s.watchFor(func() error { return s.changeRules(i) }, cfg.CAFile)
		}
	}
}

func (s *Store) changeClientCert(alias string, files KeyPairFiles) error {
	certKey, keyKey := aliasKeys(alias)
	pair, err := files.load(certKey, keyKey)
	if err != nil {
		return err
	}
	s.hooks.warn(checkValidity(certKey, pair.Leaf))
	who := s.clientCerts[alias]
	if sameChain(who.current.Load().pair, *pair) {
		return nil
	}
	who.current.Store(newClientCert(alias, pair))
	s.hooks.changed()
	return nil
}

// sameChain reports whether two pairs have the same certificates, and so the same key.
func sameChain(a, b tls.Certificate) bool {
	return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
}

func (s *Store) changeIssuer() error {
	next, err := newIssuer(s.cfg.MITMIssuer)
	if err != nil {
		return err
	}
	s.hooks.warn(checkValidity("mitmIssuerCertFile", next.cert))
	s.issuer.Store(next)
	if s.hooks.IssuerChanged != nil {
		s.hooks.IssuerChanged()
	}
	return nil
}

func (s *Store) changeExtra() error {
	extra, err := loadRoots("caBundle.extraFile", s.cfg.Bundle.ExtraFile)
	if err != nil {
		return err
	}
	s.updating.Lock()
	defer s.updating.Unlock()
	s.extra = extra
	s.swap(newTrust(s.trust.Load().bundle, extra))
	return nil
}

// changeBundle takes a newer bundle from the file where downloads are kept: another process may have put it there.
func (s *Store) changeBundle() error {
	file := s.cfg.Bundle.File
	if _, err := readFile(file, maxBundle); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("caBundle.file: %w", err)
	}
	b, _, err := loadKept(file)
	if err == nil {
		err = checkLoss(s.trust.Load().bundle, b)
	}
	if err != nil {
		return fmt.Errorf("caBundle.file: %w", err)
	}
	s.learned.keep(b)
	s.adopt(b)
	return nil
}

func (s *Store) changeRules(i int) error {
	r := s.rules[i]
	sum := readContents([]string{r.cfg.CAFile})
	// Another number, so that no session goes on that began with the old roots.
	next, err := newRules(r.key, strconv.Itoa(i)+"."+hex.EncodeToString(sum[:8]), r.cfg)
	if err != nil {
		return err
	}
	r.current.Store(next.current.Load())
	s.hooks.changed()
	return nil
}

// newListener reads the files of a listener and has them watched.
func (s *Store) newListener(certFile, keyFile, clientCAFile string) (*tls.Config, error) {
	files := []string{certFile, keyFile}
	if clientCAFile != "" {
		files = append(files, clientCAFile)
	}
	watches := s.cfg.WatchFiles > 0
	var used contents
	if watches {
		used = readContents(files)
	}
	current, err := loadListener(certFile, keyFile, clientCAFile)
	if err != nil {
		return nil, err
	}
	if watches {
		s.watchFrom(used, s.changeListener(current, certFile, keyFile, clientCAFile), files...)
	}
	return current, nil
}

// changeListener returns the change of a listener that has the configuration current.
func (s *Store) changeListener(current *tls.Config, certFile, keyFile, clientCAFile string) func() error {
	return func() error {
		next, err := loadListener(certFile, keyFile, clientCAFile)
		if err != nil {
			return fmt.Errorf("listeners: %w", err)
		}
		s.hooks.warn(checkValidity("certFile", next.Certificates[0].Leaf))
		if s.hooks.ListenerChanged != nil {
			s.hooks.ListenerChanged(current, next)
		}
		current = next
		return nil
	}
}
