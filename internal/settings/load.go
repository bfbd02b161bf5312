package settings

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"whsentry/proxy"
	"whsentry/proxy/listen"
)

const (
	defaultConfigFile = "config.yaml"
	configVariable    = "WHSENTRY_CONFIG"
	maxConfigFile     = 1 << 20 // bytes
)

// Sources are where settings come from, beside the defaults.
type Sources struct {
	ConfigFile string              // --config
	Flags      map[string][]string // what was given for each flag of the table, in order
	Environ    Environ
	Memory     uint64 // what the process may use, in bytes; 0: not known
}

// Load returns the settings, which have been found to make sense together. An error names the key, the value, where
// it stands and what is accepted.
func (src Sources) Load() (*Settings, error) {
	s, err := src.collect()
	if err != nil {
		return nil, err
	}
	if err := s.settle(); err != nil {
		return nil, err
	}
	if err := s.validate(); err != nil {
		return nil, s.Locate(err)
	}
	return s, nil
}

// collect takes each key from the first of flags, environment, file and defaults that has it. What cannot be read is
// an error whether another source overrides it or not.
func (src Sources) collect() (*Settings, error) {
	s := Default()
	s.home, s.Memory = src.Environ.Get("HOME"), src.Memory
	if err := src.Environ.check(); err != nil {
		return nil, err
	}
	if err := src.loadFile(s); err != nil {
		return nil, err
	}
	for i := range table {
		st := &table[i]
		if st.Structure {
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

func (src Sources) loadFile(s *Settings) error {
	name, origin := src.ConfigFile, "--config"
	if name == "" {
		name, origin = src.Environ.Get(configVariable), configVariable
	}
	named := name != ""
	if !named {
		name = defaultConfigFile
	}
	name, err := underHome(name, s.home)
	if err != nil {
		return fmt.Errorf("%s: %s: %w; want a YAML file that can be read", origin, Quote("~/..."), err)
	}
	data, err := readConfigFile(name)
	switch {
	case err == nil:
		if s.File, err = filepath.Abs(name); err != nil { // there is no working directory any more
			s.File = name
		}
		return s.loadYAML(name, data)
	case named:
		return fmt.Errorf("%s: %s: %w; want a YAML file that can be read", origin, Quote(name), err)
	case errors.Is(err, fs.ErrNotExist) && !isLink(name):
		return nil // nobody asked for it
	}
	return fmt.Errorf("%s: %w; want a YAML file that can be read", name, err)
}

// isLink reports whether name is a symbolic link, whether or not what it names is there.
func isLink(name string) bool {
	info, err := os.Lstat(name)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
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

// maxNesting is how deep lists and mappings may lie in each other. No key needs more than 4 levels, and the
// parser's time grows with the square of them.
const maxNesting = 32

// loadYAML takes settings from the text of a configuration file. It walks the syntax tree itself, key by key
// against the table, where a decoder would know neither the line nor the key of half of the errors, would let an
// empty file wipe out the defaults and would ignore a second document. A key without a value is not set.
func (s *Settings) loadYAML(file string, data []byte) error {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")) // of which the parser counts some as two lines
	if err := checkEncoding(file, data); err != nil {
		return err
	}
	tokens := lexer.Tokenize(string(data))
	if err := checkNesting(file, tokens); err != nil {
		return err
	}
	tokens = joinTexts(tokens)
	tree, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return syntaxError(file, data, err)
	}
	body, err := onlyDocument(file, tokens, tree)
	if err != nil {
		return err
	}
	r := &yamlReader{file: file, origin: s.origin, anchors: make(map[string]ast.Node)}
	return r.document(s, body)
}

// onlyDocument returns the content of the one document in tree. The parser takes an empty document that another one
// follows for none at all, and a directive for a document.
func onlyDocument(file string, tokens token.Tokens, tree *ast.File) (body ast.Node, err error) {
	second := errors.New("a second document; want one, with no --- below its first key")
	headers := 0
	for _, t := range tokens {
		if t.Type == token.DocumentHeaderType {
			if headers++; headers > 1 {
				return nil, fmt.Errorf("%s: %w", position(file, t), second)
			}
		}
	}
	var first *ast.DocumentNode
	for _, doc := range tree.Docs {
		if _, directive := doc.Body.(*ast.DirectiveNode); directive {
			continue
		}
		if first != nil {
			return nil, fmt.Errorf("%s: %w", position(file, cmp.Or(doc.Start, first.End)), second)
		}
		first, body = doc, doc.Body
	}
	return body, nil
}

// checkEncoding refuses what is not text in UTF-8: the parser would take it for text and go on.
func checkEncoding(file string, data []byte) error {
	for line, rest := 1, data; len(rest) > 0; {
		c, size := utf8.DecodeRune(rest)
		switch {
		case c == utf8.RuneError && size == 1:
			return fmt.Errorf("%s:%d: byte 0x%02x is not UTF-8; want a YAML file in UTF-8", file, line, rest[0])
		case c == '\n':
			line++
		case unicode.IsControl(c) && c != '\t':
			return fmt.Errorf("%s:%d: control character %U; want a YAML file, which has none", file, line, c)
		}
		rest = rest[size:]
	}
	return nil
}

// checkNesting counts the open brackets, and the hyphens and question marks on a line, which nest likewise.
// Nesting by indentation alone takes so many bytes that the file's size bounds it.
func checkNesting(file string, tokens token.Tokens) error {
	brackets, line, marks := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, marks = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			brackets++
		case token.SequenceEndType, token.MappingEndType:
			brackets--
		case token.SequenceEntryType, token.MappingKeyType:
			marks++
		}
		if brackets > maxNesting || marks > maxNesting {
			return fmt.Errorf("%s: nested more than %d deep; want the keys that whsentry --help lists", position(file, t), maxNesting)
		}
	}
	return nil
}

func syntaxError(file string, data []byte, err error) error {
	const want = "want YAML such as connectTimeout: 10s"
	var syntax *yaml.SyntaxError
	if !errors.As(err, &syntax) {
		return fmt.Errorf("%s: %w; %s", file, err, want)
	}
	message := strings.ReplaceAll(syntax.Message, "\t", `\t`)
	if syntax.Token == nil {
		return fmt.Errorf("%s: %s; %s", file, message, want)
	}
	value := syntax.Token.Value
	if isOfClients(data, syntax.Token.Position.Line) {
		value = "..."
	}
	return fmt.Errorf("%s: %s: %s; %s", position(file, syntax.Token), Quote(value), message, want)
}

// isOfClients reports whether a line belongs to the key clients, and what is there may be a token.
func isOfClients(data []byte, line int) bool {
	of := false
	for text := range bytes.Lines(data) {
		if first := bytes.TrimLeft(text, "\"'{"); !bytes.ContainsAny(text[:1], " #-\n") {
			of = bytes.HasPrefix(first, []byte("clients"))
		}
		if line--; line == 0 {
			break
		}
	}
	return of
}

func position(file string, t *token.Token) string {
	if t == nil {
		return file
	}
	return file + ":" + strconv.Itoa(t.Position.Line)
}

// loadVariable takes a key from the environment, where an empty variable is no setting.
func (src Sources) loadVariable(s *Settings, st *Setting) error {
	text := src.Environ.Get(st.Variable())
	if text == "" {
		return nil
	}
	return st.assign(s, st.Variable(), text)
}

// loadFlag takes a key from the command line: all that was given for a list, else what was given last.
func (src Sources) loadFlag(s *Settings, st *Setting) error {
	texts := src.Flags[st.Flag()]
	if len(texts) == 0 {
		return nil
	}
	return st.assign(s, st.Flag(), texts...)
}

// assign sets st to what is written outside of YAML, where the items of a list have commas between them.
func (st *Setting) assign(s *Settings, origin string, texts ...string) error {
	s.origin[st.Key] = origin
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
	return st.set(s, st.Key, values)
}

// settle makes what one key means for another.
func (s *Settings) settle() error {
	origin, several := s.origin["listeners"]
	if !several {
		s.Proxy.Listeners = []listen.Config{s.listener}
	}
	for _, key := range slices.Sorted(maps.Keys(s.origin)) {
		if several && (key == "listener" || strings.HasPrefix(key, "listener.")) {
			return fmt.Errorf("%s: listeners: set beside %s (%s); want one of listener and listeners", origin, key, s.origin[key])
		}
	}
	if _, chosen := s.origin["connect.mode"]; !chosen && s.CA.MITMIssuer.CertFile != "" {
		s.Proxy.ConnectMode = proxy.ConnectMITM
	}
	if _, chosen := s.origin["maxBufferedBytes"]; !chosen && s.Memory > 0 {
		s.Proxy.MaxBufferedBytes = max(min(s.Proxy.MaxBufferedBytes, int64(s.Memory/4)), s.Proxy.MaxRequestBodySize)
	}
	s.settlePolicy()
	return nil
}

func (s *Settings) validate() error {
	for _, check := range []func() error{s.Guard.Validate, s.validatePolicy, s.CA.Validate, s.Proxy.Validate, s.Log.validate} {
		if err := check(); err != nil {
			return err
		}
	}
	if s.Proxy.ConnectMode == proxy.ConnectMITM && s.CA.MITMIssuer.CertFile == "" {
		return errors.New(`connect.mode: "mitm": nobody to sign certificates; want mitmIssuerCertFile and mitmIssuerKeyFile beside it`)
	}
	return nil
}

// Locate puts in front of a package's error, which begins with a key, where that key was set, and behind it what is
// accepted where it does not say so itself: of a file that cannot be opened. Where the key was set nowhere, the error
// is about something that lacks, and another key in its text is what called for it.
func (s *Settings) Locate(err error) error {
	text := err.Error()
	if _, several := s.origin["listeners"]; !several {
		text = strings.ReplaceAll(text, "listeners[0]", "listener")
	}
	if strings.HasPrefix(text, "clients[") {
		text = longWord.ReplaceAllString(text, "(a token)")
	}
	key, rest, _ := strings.Cut(text, ":")
	if want := accepted(key); want != "" && !strings.Contains(rest, "want ") {
		text += "; want " + want
	}
	for path := key; path != ""; path = parent(path) {
		if origin, set := s.origin[path]; set {
			return errors.New(origin + ": " + text)
		}
	}
	for word := range strings.FieldsSeq(rest) {
		if origin, set := s.origin[strings.Trim(word, ",;:")]; set {
			return errors.New(origin + ": " + text)
		}
	}
	return errors.New(text)
}

// longWord may be a token, or the hash of one, that stands where it should not.
var longWord = regexp.MustCompile(`[A-Za-z0-9_-]{40,}`)

// accepted returns what the key path accepts. One within a structure accepts what its like in listener does.
func accepted(path string) string {
	name := path[strings.LastIndex(path, ".")+1:]
	if name == "caFile" { // of an entry of destinations
		return files.want
	}
	for _, key := range []string{path, "listener." + name} {
		if i := slices.IndexFunc(table, func(st Setting) bool { return st.Key == key }); i >= 0 {
			return table[i].Want
		}
	}
	return ""
}

// parent returns the path without its last part: listeners[1] of listeners[1].address.
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}
