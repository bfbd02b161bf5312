package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"whsentry/proxy"
)

const (
	defaultConfigFile = "config.yaml"
	configVariable    = "WHSENTRY_CONFIG"
	maxConfigFile     = 1 << 20 // bytes
)

// sources are where settings come from, beside the defaults.
type sources struct {
	configFile string              // --config
	flags      map[string][]string // what was given for each flag of the table, in order
	getenv     func(string) string
}

// load returns the settings, which have been found to make sense together. An error names the key, the value, where
// it stands and what is accepted.
func (src sources) load() (*settings, error) {
	s, err := src.collect()
	if err != nil {
		return nil, err
	}
	if err := s.settle(); err != nil {
		return nil, err
	}
	if err := s.validate(); err != nil {
		return nil, s.locate(err)
	}
	return s, nil
}

// collect takes each key from the first of flags, environment, file and defaults that has it. What cannot be read is
// an error whether another source overrides it or not.
func (src sources) collect() (*settings, error) {
	s := defaultSettings()
	if err := src.loadFile(s); err != nil {
		return nil, err
	}
	for i := range table {
		st := &table[i]
		if st.structure {
			continue
		}
		if err := src.loadVariable(s, st); err != nil {
			return nil, err
		}
		if err := src.loadFlag(s, st); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (src sources) loadFile(s *settings) error {
	name, origin := src.configFile, "--config"
	if name == "" {
		name, origin = src.getenv(configVariable), configVariable
	}
	named := name != ""
	if !named {
		name = defaultConfigFile
	}
	data, err := readConfigFile(name)
	switch {
	case err == nil:
		return s.loadYAML(name, data)
	case named:
		return fmt.Errorf("%s: %s: %w; want a YAML file that can be read", origin, quote(name), err)
	case errors.Is(err, fs.ErrNotExist):
		return nil // nobody asked for it
	}
	return fmt.Errorf("%s: %w; want a YAML file that can be read", name, err)
}

// readConfigFile reads name. The errors leave the name out.
func readConfigFile(name string) ([]byte, error) {
	data, err := func() ([]byte, error) {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	}()
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		err = path.Err
	}
	if err == nil && len(data) > maxConfigFile {
		err = errors.New("larger than 1 MiB")
	}
	return data, err
}

// loadVariable takes a key from the environment, where an empty variable is no setting. Variables of no key are
// nobody's mistake: Kubernetes sets WHSENTRY_PORT and others for a service of this name.
func (src sources) loadVariable(s *settings, st *setting) error {
	text := src.getenv(st.variable())
	if text == "" {
		return nil
	}
	return st.assign(s, st.variable(), text)
}

// loadFlag takes a key from the command line: all that was given for a list, else what was given last.
func (src sources) loadFlag(s *settings, st *setting) error {
	texts := src.flags[st.flag()]
	if len(texts) == 0 {
		return nil
	}
	return st.assign(s, st.flag(), texts...)
}

// assign sets st to what is written outside of YAML, where the items of a list have commas between them.
func (st *setting) assign(s *settings, origin string, texts ...string) error {
	s.origin[st.key] = origin
	var values []scalar
	for _, text := range texts {
		if !st.list {
			values = append(values, scalar{text, bareForm, origin})
			continue
		}
		if strings.TrimSpace(text) == "" {
			continue // the empty list
		}
		for item := range strings.SplitSeq(text, ",") {
			values = append(values, scalar{strings.TrimSpace(item), bareForm, origin})
		}
	}
	return st.set(s, st.key, values)
}

// settle makes what one key means for another.
func (s *settings) settle() error {
	origin, several := s.origin["listeners"]
	if !several {
		s.proxy.Listeners = []proxy.ListenerConfig{s.listener}
	}
	for _, key := range slices.Sorted(maps.Keys(s.origin)) {
		if several && (key == "listener" || strings.HasPrefix(key, "listener.")) {
			return fmt.Errorf("%s: listeners: set beside %s (%s); want one of listener and listeners", origin, key, s.origin[key])
		}
	}
	if _, chosen := s.origin["connect.mode"]; !chosen && s.ca.MITMIssuer.CertFile != "" {
		s.proxy.ConnectMode = proxy.ConnectMITM
	}
	return nil
}

func (s *settings) validate() error {
	for _, check := range []func() error{s.guard.Validate, s.ca.Validate, s.proxy.Validate, s.log.validate} {
		if err := check(); err != nil {
			return err
		}
	}
	if s.proxy.ConnectMode == proxy.ConnectMITM && s.ca.MITMIssuer.CertFile == "" {
		return errors.New(`connect.mode: "mitm": nobody to sign certificates; want mitmIssuerCertFile and mitmIssuerKeyFile beside it`)
	}
	return nil
}

// locatedError is an error with another text.
type locatedError struct {
	text  string
	cause error
}

func (e *locatedError) Error() string { return e.text }
func (e *locatedError) Unwrap() error { return e.cause }

// locate puts in front of a package's error, which begins with a key, where that key was set. Where that is
// nowhere, the error is about something that lacks, and another key in its text is what called for it.
func (s *settings) locate(err error) error {
	text := err.Error()
	if _, several := s.origin["listeners"]; !several {
		text = strings.ReplaceAll(text, "listeners[0]", "listener")
	}
	key, rest, _ := strings.Cut(text, ":")
	for path := key; path != ""; path = parent(path) {
		if origin, set := s.origin[path]; set {
			return &locatedError{origin + ": " + text, err}
		}
	}
	for word := range strings.FieldsSeq(rest) {
		if origin, set := s.origin[strings.Trim(word, ",;:")]; set {
			return &locatedError{origin + ": " + text, err}
		}
	}
	return &locatedError{text, err}
}

// parent returns the path without its last part: listeners[1] of listeners[1].address.
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}
