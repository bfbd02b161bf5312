package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/goccy/go-yaml"
)

// ours is the name of the peer that the others are compared with, or rather that is compared with them.
const ours = "whsentry"

// builtinPeers is the file of the peers that the suite knows; what its keys mean is said at its top.
//
//go:embed peers.yaml
var builtinPeers []byte

// peer is a proxy that the suite can start, as peers.yaml or a file of the user's describes it.
type peer struct {
	Name    string            `yaml:"name"`
	About   string            `yaml:"about"`
	Command string            `yaml:"command"`
	Version string            `yaml:"version"`
	Headers []string          `yaml:"headers"`
	TLS     string            `yaml:"tls"`
	User    string            `yaml:"user"`
	Metrics string            `yaml:"metrics"`
	Short   bool              `yaml:"short"`
	Cannot  map[need]string   `yaml:"cannot"`
	Files   map[string]string `yaml:"files"`

	Everything everything `yaml:"everything"`

	path    string // of the program; "": not installed
	said    string // what the version command printed
	version string // the version in it; "": unknown
}

// everything is what a proxy gets that has everything on.
type everything struct {
	Args    string   `yaml:"args"`
	Headers []string `yaml:"headers"`
	Check   string   `yaml:"check"`
}

// need is something that a scenario needs of a proxy and that not every proxy can do.
type need string

const (
	needRequests need = "requests" // forwards plain HTTP requests
	needTLS      need = "tls"      // originates TLS
	needConnect  need = "connect"  // opens tunnels
	needKeep     need = "keep"     // keeps connections to a destination
	needMany     need = "many"     // keeps connections to destinations that its configuration does not name
)

var needs = []need{needRequests, needTLS, needConnect, needKeep, needMany}

// The ways in which a request asks for TLS to its destination.
const (
	tlsByHeader = "header"
	tlsByScheme = "https"
)

// readPeers reads a peers file. name is for errors.
func readPeers(name string, text []byte) ([]*peer, error) {
	var file struct {
		Peers []*peer `yaml:"peers"`
	}
	dec := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict())
	if err := dec.Decode(&file); err != nil && err != io.EOF {
		return nil, fmt.Errorf("peers file %s: %s", name, yaml.FormatError(err, false, true))
	}
	if len(file.Peers) == 0 {
		return nil, fmt.Errorf("peers file %s: no peers in it; want a list under the key peers", name)
	}
	for i, p := range file.Peers {
		if p == nil {
			return nil, fmt.Errorf("peers file %s: peer %d is empty", name, i+1)
		}
		if err := p.validate(); err != nil {
			return nil, fmt.Errorf("peers file %s: peer %d (%q): %w", name, i+1, p.Name, err)
		}
	}
	return file.Peers, nil
}

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$`)

// validate completes what is optional and checks the rest, templates included.
func (p *peer) validate() error {
	if !validName.MatchString(p.Name) {
		return fmt.Errorf("name %q; want up to 32 letters, digits, '-', '_' and '.'", p.Name)
	}
	if p.TLS == "" {
		p.TLS = tlsByHeader
	}
	p.Version = strings.TrimSpace(p.Version)
	if !slices.Contains([]string{tlsByHeader, tlsByScheme}, p.TLS) {
		return fmt.Errorf("tls %q; want header or https", p.TLS)
	}
	for n := range p.Cannot {
		if !slices.Contains(needs, n) {
			return fmt.Errorf("cannot: %q; want one of %v", n, needs)
		}
	}
	for name := range p.Files {
		if !validName.MatchString(name) {
			return fmt.Errorf("files: %q; want a name of up to 32 letters, digits, '-', '_' and '.'", name)
		}
	}
	sample := setup{dir: "/dir", address: "127.0.0.1:1", origins: &origins{}, full: true}
	_, err := p.command(sample, "127.0.0.1:2")
	return err
}

// place is what templates may say.
type place struct {
	Dir, Address, Host, Port, MetricsAddress string
	Root                                     bool
	Version, CAFile                          string
	Plain, TLS, TLSFull, Tunnel              int
}

// command returns how p is started for s. metricsAddress is a free host:port.
func (p *peer) command(s setup, metricsAddress string) (command, error) {
	host, port, _ := strings.Cut(s.address, ":")
	at := place{
		Dir: s.dir, Address: s.address, Host: host, Port: port, MetricsAddress: metricsAddress,
		Root: os.Geteuid() == 0, Version: p.said, CAFile: s.origins.caFile,
		Plain: s.origins.plain, TLS: s.origins.tls, TLSFull: s.origins.tlsFull, Tunnel: s.origins.tunnel,
	}
	var problem error
	fill := func(key, text string) string {
		out, err := fillIn(text, at)
		problem = errors.Join(problem, wrap(key, err))
		return out
	}
	// Split first: a folder with a space in its name is one argument.
	words, headers := strings.Fields(p.Command), p.Headers
	if len(words) == 0 {
		return command{}, errors.New("command: empty; want a program and its arguments")
	}
	var check string
	if s.full {
		words = append(words, strings.Fields(p.Everything.Args)...)
		headers, check = slices.Concat(headers, p.Everything.Headers), p.Everything.Check
	}
	c := command{path: p.path, check: check, metrics: fill("metrics", p.Metrics), files: map[string]string{}}
	for _, word := range words[1:] {
		c.args = append(c.args, fill("command", word))
	}
	for _, line := range headers {
		c.header = append(c.header, fill("headers", line))
	}
	if s.tls && p.TLS == tlsByHeader {
		c.header = append(c.header, "X-WhSentry-TLS: true")
	}
	for name, text := range p.Files {
		c.files[name] = fill("files: "+name, text)
	}
	return c, problem
}

// fillIn executes text as a template.
func fillIn(text string, at place) (string, error) {
	t, err := template.New("").Funcs(template.FuncMap{"has": strings.Contains, "to": numbersTo}).Parse(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, at)
	return b.String(), err
}

// numbersTo returns the numbers from 0 to n-1, for a template to go through.
func numbersTo(n int) []int {
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i
	}
	return numbers
}

// wrap puts what err is about before it.
func wrap(about string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", about, err)
}

// find looks for p's program and asks for its version. A program that is not there is no error: path stays empty.
func (p *peer) find(ctx context.Context) {
	program := strings.Fields(p.Command)[0]
	if p.path = lookUp(program); p.path == "" || p.Version == "" {
		return
	}
	asked := strings.Fields(p.Version)[0]
	if asked == program {
		p.askVersion(ctx, p.path)
	} else if path := lookUp(asked); path != "" {
		p.askVersion(ctx, path)
	}
}

// askVersion runs the version command, where there is one, with the program at path.
func (p *peer) askVersion(ctx context.Context, path string) {
	if p.Version == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, strings.Fields(p.Version)[1:]...)
	cmd.WaitDelay = time.Second
	// Some exit with 1 after they have said it.
	said, _ := cmd.CombinedOutput()
	p.said = string(said)
	p.version = versionNumber.FindString(p.said)
}

var versionNumber = regexp.MustCompile(`\d+\.\d+[0-9A-Za-z.+~-]*`)

// serverFolders are where servers are that are not in every user's PATH.
var serverFolders = []string{"/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin", "/opt/homebrew/sbin"}

// lookUp finds a program as a shell would, and also in serverFolders.
func lookUp(program string) string {
	if path, err := exec.LookPath(program); err == nil {
		if path, err = filepath.Abs(path); err == nil {
			return path
		}
	}
	if strings.ContainsRune(program, filepath.Separator) {
		return ""
	}
	for _, dir := range serverFolders {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path
		}
	}
	return ""
}

// ownDir makes a folder for p below dir. Where root starts a program that becomes another user, the folder is that user's.
func (p *peer) ownDir(dir string) (string, error) {
	own, err := os.MkdirTemp(dir, p.Name+"-")
	if err != nil {
		return "", fmt.Errorf("make a folder for %s: %w", p.Name, err)
	}
	if p.User == "" || os.Geteuid() != 0 {
		return own, nil
	}
	if err := giveTo(own, p.User); err != nil {
		return "", fmt.Errorf("give the folder of %s to the user %q: %w", p.Name, p.User, err)
	}
	// The folder above is root's alone, which is more than enough for one who only passes through.
	return own, wrap("let "+p.User+" through to its folder", os.Chmod(dir, 0o711))
}

// giveTo makes the user called name the owner of path.
func giveTo(path, name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return err
	}
	return os.Chown(path, uid, gid)
}

// why says why p cannot do what a scenario needs; "": it can.
func (p *peer) why(wanted []need) string {
	for _, n := range wanted {
		if reason, ok := p.Cannot[n]; ok {
			return reason
		}
	}
	return ""
}
