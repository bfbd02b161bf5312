//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed driver.py
var pythonProgram string

//go:embed driver.mjs
var nodeProgram string

var (
	// curl drops an empty query from what it asks a proxy for.
	curlDriver = driver{
		name: "curl", modes: " direct forward forward-https-listener whsentry-tls tunnel tunnel-tls mitm ", skip: " query-empty ",
		send: (*bench).sendByCurl,
	}
	// Python's urllib asks a proxy for http URLs in absolute form, and tunnels for https ones.
	pythonDriver = driver{
		name: "python", modes: " direct forward whsentry-tls tunnel-tls mitm ", skip: " expect-1k ",
		send: (*bench).sendByPython,
	}
	// undici's ProxyAgent tunnels (CONNECT) for http and https URLs alike; only with proxyTunnel: false does it
	// ask for http URLs in absolute form. It can't send Expect.
	undiciDriver = driver{
		name: "undici", modes: " direct forward tunnel tunnel-tls mitm ", skip: " expect-1k ",
		send: func(b *bench, m mode, hooks []webhook) ([]reply, error) { return b.sendByNode("undici", m, hooks) },
	}
	// https-proxy-agent always tunnels.
	nodeAgentDriver = driver{
		name: "https-proxy-agent", modes: " direct tunnel tunnel-tls mitm ",
		send: func(b *bench, m mode, hooks []webhook) ([]reply, error) { return b.sendByNode("agent", m, hooks) },
	}
	// Go's net/http asks for http URLs in absolute form, and tunnels for https ones.
	goDriver = driver{
		name: "go", modes: " direct forward forward-https-listener whsentry-tls tunnel-tls mitm ",
		send: (*bench).sendByGo,
	}
)

// sendByCurl starts curl once for every webhook.
func (b *bench) sendByCurl(m mode, hooks []webhook) ([]reply, error) {
	file := filepath.Join(b.o.scratch, "curl-body")
	var replies []reply
	for _, h := range hooks {
		args := []string{"-q", "-sS", "-g", "--path-as-is", "--max-time", "30", "--cacert", b.roots, "-X", h.Method, "-w", "\n%{http_code}"}
		switch {
		case m.proxy == "":
			args = append(args, "--noproxy", "*")
		case m.proxy == "https":
			args = append(args, "-x", b.proxyURL(m), "--proxy-cacert", b.roots)
		default:
			args = append(args, "-x", b.proxyURL(m))
		}
		if m.tunnel {
			args = append(args, "--proxytunnel")
		}
		for _, f := range h.Fields {
			args = append(args, "-H", f.Name+": "+f.Value)
		}
		for _, f := range m.connect {
			args = append(args, "--proxy-header", f.Name+": "+f.Value)
		}
		if h.Body != nil {
			if err := os.WriteFile(file, h.Body, 0o600); err != nil {
				return nil, err
			}
			args = append(args, "--data-binary", "@"+file)
		}
		if h.Chunked {
			args = append(args, "-H", "Transfer-Encoding: chunked")
		}
		if h.Expect {
			args = append(args, "-H", "Expect: 100-continue")
		}
		var stdout, stderr bytes.Buffer
		cmd := exec.CommandContext(b.ctx, "curl", append(args, b.base(m)+h.Target)...)
		cmd.Stdout, cmd.Stderr, cmd.Env = &stdout, &stderr, clientEnv()
		got := reply{Name: h.Name}
		if err := cmd.Run(); err != nil {
			got.Error = fmt.Sprintf("%v: %s", err, stderr.String())
		}
		body, status, _ := cutLast(stdout.String(), "\n")
		got.Status, _ = strconv.Atoi(status)
		got.Body = body
		replies = append(replies, got)
	}
	return replies, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// clientEnv is the environment without proxies and other settings of the machine.
func clientEnv(more ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LC_ALL=C.UTF-8"}, more...)
}

// errand is what the Python and Node programs read: everything to send in one go.
type errand struct {
	Proxy   string // URL; "" for none
	Base    string
	Roots   string
	Kind    string // undici or agent
	Tunnel  bool
	Connect []field
	Hooks   []webhook
}

func (b *bench) sendByPython(m mode, hooks []webhook) ([]reply, error) {
	return b.runErrand(exec.CommandContext(b.ctx, "python3", "-I", "-c", pythonProgram), m, "", hooks)
}

func (b *bench) sendByNode(kind string, m mode, hooks []webhook) ([]reply, error) {
	program := filepath.Join(b.o.node, "driver.mjs") // beside node_modules, where imports are looked for
	if err := os.WriteFile(program, []byte(nodeProgram), 0o644); err != nil {
		return nil, err
	}
	return b.runErrand(exec.CommandContext(b.ctx, "node", program), m, kind, hooks)
}

// runErrand hands hooks to a program as JSON on its standard input; it prints one reply as JSON a line.
func (b *bench) runErrand(cmd *exec.Cmd, m mode, kind string, hooks []webhook) ([]reply, error) {
	input, err := json.Marshal(errand{b.proxyURL(m), b.base(m), b.roots, kind, m.tunnel, m.connect, hooks})
	if err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr
	cmd.Env = clientEnv()
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%v: %s", err, stderr.String())
	}
	var replies []reply
	for line := range strings.Lines(stdout.String()) {
		var got reply
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		replies = append(replies, got)
	}
	return replies, nil
}

// goClient is net/http as a webhook sender would set it up.
func (b *bench) goClient(m mode) (*http.Client, error) {
	pem, err := os.ReadFile(b.roots)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableCompression: true, ExpectContinueTimeout: 5 * time.Second}
	if m.proxy != "" {
		u, err := url.Parse(b.proxyURL(m))
		if err != nil {
			return nil, err
		}
		transport.Proxy = http.ProxyURL(u)
		transport.ProxyConnectHeader = http.Header{}
		for _, f := range m.connect {
			transport.ProxyConnectHeader[f.Name] = []string{f.Value}
		}
	}
	return &http.Client{Transport: transport, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

func (b *bench) sendByGo(m mode, hooks []webhook) ([]reply, error) {
	client, err := b.goClient(m)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	var replies []reply
	for _, h := range hooks {
		got := reply{Name: h.Name}
		if got.Status, got.Body, err = b.sendOneByGo(client, m, h); err != nil {
			got.Error = err.Error()
		}
		replies = append(replies, got)
	}
	return replies, nil
}

func (b *bench) sendOneByGo(client *http.Client, m mode, h webhook) (int, string, error) {
	var body io.Reader
	if h.Body != nil {
		body = bytes.NewReader(h.Body)
		if h.Chunked {
			body = io.MultiReader(body) // hides the length
		}
	}
	req, err := http.NewRequestWithContext(b.ctx, h.Method, b.base(m)+h.Target, body)
	if err != nil {
		return 0, "", err
	}
	for _, f := range h.Fields {
		req.Header[f.Name] = []string{f.Value}
	}
	if h.Expect {
		req.Header.Set("Expect", "100-continue")
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return resp.StatusCode, string(text), err
}

// refusals looks at how each client shows a refused tunnel: the reason must be where people see it.
func (b *bench) refusals(r *report) {
	const reason = "IP 10.0.0.1 is blocked"
	hooks := []webhook{{Name: "refused", Method: "POST", Target: "/", Body: []byte("{}"), Fields: []field{{"X-Case", "refused"}}}}
	m := mode{name: "refused", proxy: "plain", tunnel: true, tls: true}
	there := b.secure
	b.secure = "10.0.0.1:443"
	defer func() { b.secure = there }()
	for _, d := range []driver{pythonDriver, undiciDriver, nodeAgentDriver, goDriver, curlDriver} {
		replies, err := d.send(b, m, hooks)
		if err == nil && len(replies) != 1 {
			err = fmt.Errorf("%d replies; want 1", len(replies))
		}
		if err == nil {
			err = shows(d.name, replies[0], reason)
		}
		r.check(d.name+" shows why a tunnel is refused", err)
	}
}

// shows holds what a client reports of a refused tunnel to the most that this client tells.
func shows(client string, got reply, reason string) error {
	all := fmt.Sprintf("%d %s %s", got.Status, got.Body, got.Error)
	want := reason
	if client == "curl" || client == "undici" {
		want = "403" // these two tell the number only
	}
	if !strings.Contains(all, want) {
		return fmt.Errorf("it says %q; want %q in it", all, want)
	}
	if got.Status == 200 {
		return errors.New("it was let through")
	}
	return nil
}
