//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// mode is a way to reach the destination: directly, or through one of the proxies that the bench runs.
type mode struct {
	name     string
	tls      bool    // the client asks for https://
	proxy    string  // which proxy: "" none, else plain, https or mitm
	tunnel   bool    // by CONNECT
	opaque   bool    // the proxy does not see the request
	startTLS bool    // X-WhSentry-TLS on a plain request
	to       string  // the destination's host:port; "": the one of the bench that fits
	alias    string  // X-WhSentry-ClientCert, on the request
	connect  []field // header lines that the client is to send on CONNECT
}

var modes = []mode{
	{name: "direct"},
	{name: "forward", proxy: "plain"},
	{name: "forward-https-listener", proxy: "https"},
	{name: "whsentry-tls", proxy: "plain", startTLS: true},
	{name: "tunnel", proxy: "plain", tunnel: true, opaque: true},
	{name: "tunnel-tls", proxy: "plain", tunnel: true, opaque: true, tls: true},
	{name: "mitm", proxy: "mitm", tunnel: true, tls: true},
}

// webhook is one request that every client sends in every mode it knows.
type webhook struct {
	Name, Method, Target string
	Body                 []byte
	Chunked, Expect      bool
	Fields               []field
}

// driver is a client: it sends webhooks to base and returns, for each, the answer's status and body.
type driver struct {
	name  string
	modes string // names of modes, with spaces around
	skip  string // webhooks that this client can't send, with spaces around
	send  func(b *bench, m mode, hooks []webhook) ([]reply, error)
}

type reply struct {
	Name   string
	Status int
	Body   string
	Error  string
}

// bench is what all clients share: the proxies, the destination and what it saw.
type bench struct {
	ctx     context.Context
	o       options
	proxies map[string]*sentry
	plain   string // the destination's host:port
	secure  string // the same over TLS
	roots   string // PEM file that clients trust
	origin  *origin

	mu   sync.Mutex // guards seen
	seen map[string][]arrival
}

// clients sends webhooks with signatures through real clients, and compares what arrives with what arrives when
// the same client sends the same webhook directly: only what users are told of may differ.
func clients(ctx context.Context, o options) *report {
	r := &report{name: "clients"}
	b, err := newBench(ctx, o)
	if !r.check("proxies and destination start", err) {
		return r
	}
	for _, d := range []driver{curlDriver, pythonDriver, undiciDriver, nodeAgentDriver, goDriver} {
		b.compare(r, d)
	}
	b.refusals(r)
	b.raw(r)
	for name, s := range b.proxies {
		r.check("proxy "+name+" exits 0", s.stop(stopLimit))
	}
	b.origin.close()
	return r
}

func newBench(ctx context.Context, o options) (*bench, error) {
	b := &bench{ctx: ctx, o: o, proxies: map[string]*sentry{}, seen: map[string][]arrival{}}
	ca, err := newAuthority(o.scratch, "ca")
	if err != nil {
		return nil, err
	}
	if _, err := newAuthority(o.scratch, "issuer"); err != nil {
		return nil, err
	}
	server, err := ca.leaf("server")
	if err != nil {
		return nil, err
	}
	file := func(name string) string { return filepath.Join(o.scratch, name) }
	var roots []byte
	for _, name := range []string{"ca.pem", "issuer.pem"} {
		pem, err := os.ReadFile(file(name))
		if err != nil {
			return nil, err
		}
		roots = append(roots, pem...)
	}
	b.roots = file("roots.pem")
	if err := os.WriteFile(b.roots, roots, 0o644); err != nil {
		return nil, err
	}
	b.origin = newOrigin(b.record)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	secure, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{server}})
	if err != nil {
		return nil, err
	}
	// By name, for https-proxy-agent checks a certificate for an IP address against localhost.
	b.plain, b.secure = plain.Addr().String(), fmt.Sprintf("localhost:%d", secure.Addr().(*net.TCPAddr).Port)
	b.origin.listen(plain)
	b.origin.listen(secure)

	config := "cidrAllowList: [127.0.0.1/32]\naccessLog: {type: json, file: access.log}\n" +
		"caBundle:\n  url: \"\"\n  extraFile: " + file("ca.pem") + "\n"
	return b, b.startProxies(config)
}

// startProxies starts one for each way to be one, with the authorities "issuer" and the certificate "server".
func (b *bench) startProxies(config string) error {
	file := func(name string) string { return filepath.Join(b.o.scratch, name) }
	for name, args := range map[string][]string{
		"plain": nil,
		"https": {"--listener-type", "https", "--listener-cert-file", file("server.pem"), "--listener-key-file", file("server.key")},
		"mitm":  {"--connect-mode", "mitm", "--mitm-issuer-cert-file", file("issuer.pem"), "--mitm-issuer-key-file", file("issuer.key")},
	} {
		s, err := start(b.ctx, b.o, file("proxy-"+name), config, args...)
		if err != nil {
			return fmt.Errorf("proxy %s: %w", name, err)
		}
		b.proxies[name] = s
	}
	return nil
}

func (b *bench) record(a arrival) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := a.get("X-Case")
	b.seen[id] = append(b.seen[id], a)
}

func (b *bench) arrivals(id string) []arrival {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen[id]
}

// proxyURL is how a client names the proxy of m; "" for none.
func (b *bench) proxyURL(m mode) string {
	switch m.proxy {
	case "":
		return ""
	case "https":
		return "https://" + b.proxies[m.proxy].address
	default:
		return "http://" + b.proxies[m.proxy].address
	}
}

// authority is the destination's host:port in m, and base the URL that the client is given.
func (b *bench) authority(m mode) string {
	switch {
	case m.to != "":
		return m.to
	case m.tls || m.startTLS:
		return b.secure
	}
	return b.plain
}

func (b *bench) base(m mode) string {
	if m.tls {
		return "https://" + b.authority(m)
	}
	return "http://" + b.authority(m)
}

// compare runs one client through its modes; the first, direct, is what the others are held against.
func (b *bench) compare(r *report, d driver) {
	for _, m := range modes {
		if !strings.Contains(d.modes, " "+m.name+" ") {
			continue
		}
		var hooks []webhook
		for _, h := range webhooks {
			if !strings.Contains(d.skip, " "+h.Name+" ") {
				h.Fields = slices.Concat(h.Fields, []field{{"X-Case", d.name + "/" + m.name + "/" + h.Name}})
				if m.startTLS {
					h.Fields = append(h.Fields, field{"X-WhSentry-TLS", "true"})
				}
				hooks = append(hooks, h)
			}
		}
		before := b.origin.conns.Load()
		replies, err := d.send(b, m, hooks)
		if !r.check(d.name+"/"+m.name+" runs", err) {
			continue
		}
		for i, h := range hooks {
			id := d.name + "/" + m.name + "/" + h.Name
			if i >= len(replies) {
				r.check(id, fmt.Errorf("the client reported nothing of it"))
				continue
			}
			r.check(id, b.judge(d, m, h, id, replies[i]))
		}
		if m.proxy != "" && !m.tunnel {
			r.check(d.name+"/"+m.name+" reuses connections to the destination", func() error {
				if opened := b.origin.conns.Load() - before; opened > 3 {
					return fmt.Errorf("%d connections for %d requests, one after the other; want 1", opened, len(hooks))
				}
				return nil
			}())
		}
	}
}

// judge holds one webhook's reply and arrival to what was sent.
func (b *bench) judge(d driver, m mode, h webhook, id string, got reply) error {
	if got.Error != "" {
		return fmt.Errorf("the client says: %s", got.Error)
	}
	body := fmt.Sprintf("received %x %d at 127.0.0.1\n", sha256.Sum256(h.Body), len(h.Body))
	if got.Status != 200 || h.Method != "HEAD" && got.Body != body {
		return fmt.Errorf("the client got %d %q; want 200 %q", got.Status, got.Body, body)
	}
	seen := b.arrivals(id)
	if len(seen) != 1 {
		return fmt.Errorf("it arrived %d times; want once", len(seen))
	}
	a := seen[0]
	if line := h.Method + " " + h.Target + " HTTP/1.1"; a.Start != line {
		return fmt.Errorf("request line %q; want %q", a.Start, line)
	}
	if !bytes.Equal(a.Body, h.Body) {
		return fmt.Errorf("the body is not what was sent: %d bytes; want %d", len(a.Body), len(h.Body))
	}
	if h.Body != nil && a.get("X-Hub-Signature-256") != signature(a.Body) {
		return fmt.Errorf("signature %q does not fit the body", a.get("X-Hub-Signature-256"))
	}
	if m.proxy == "" {
		return b.asMeant(d, h, a)
	}
	if !m.opaque {
		if err := properlyForwarded(a.message, b.authority(m)); err != nil {
			return err
		}
	}
	direct := b.arrivals(d.name + "/direct/" + h.Name)
	if len(direct) != 1 {
		return fmt.Errorf("nothing to compare with: directly it arrived %d times", len(direct))
	}
	got1, want1 := headerOf(a, b.authority(m)), headerOf(direct[0], b.plain)
	if !slices.Equal(got1, want1) {
		return fmt.Errorf("header lines differ from those sent directly\n  got  %q\n  want %q", got1, want1)
	}
	return nil
}

// asMeant makes sure that a client did what its test is about: that a chunked upload was chunked, for example.
func (b *bench) asMeant(d driver, h webhook, a arrival) error {
	if err := want("chunked", a.Chunked, h.Chunked); err != nil {
		return err
	}
	if expect := a.get("Expect") != ""; h.Expect && !expect && d.name != "python" && d.name != "undici" {
		return fmt.Errorf("the client sent no Expect")
	}
	return nil
}

// properlyForwarded holds a forwarded request to what may and may not reach a destination.
func properlyForwarded(m *message, authority string) error {
	hosts, agents := 0, []string{}
	for _, f := range m.Fields {
		name := strings.ToLower(f.Name)
		switch {
		case name == "host":
			hosts++
		case name == "user-agent":
			agents = append(agents, f.Value)
		case slices.Contains([]string{"connection", "keep-alive", "te", "trailer", "upgrade", "via", "x-forwarded-for", "forwarded", "expect"}, name),
			strings.HasPrefix(name, "proxy-"), strings.HasPrefix(name, "x-whsentry-"):
			return fmt.Errorf("%s: %s reached the destination", f.Name, f.Value)
		}
	}
	if hosts != 1 || m.get("Host") != authority {
		return fmt.Errorf("%d Host, %q; want one, %q", hosts, m.get("Host"), authority)
	}
	if !slices.Equal(agents, []string{"Webhook Sentry/0.1"}) {
		return fmt.Errorf("User-Agent %q; want one, %q", agents, "Webhook Sentry/0.1")
	}
	return nil
}

// headerOf is the header as it may be compared between a direct and a proxied request: without what belongs to
// one connection, User-Agent, and, of a chunked body, the framing; the authority and the test's name are masked.
func headerOf(a arrival, authority string) []string {
	var lines []string
	for _, f := range a.Fields {
		switch name := strings.ToLower(f.Name); {
		case name == "connection", name == "keep-alive", name == "te", name == "expect", name == "user-agent",
			strings.HasPrefix(name, "proxy-"), strings.HasPrefix(name, "x-whsentry-"), name == "transfer-encoding":
		case name == "content-length" && strings.Contains(a.get("X-Case"), "chunked"):
		case name == "host" && f.Value == authority:
			lines = append(lines, f.Name+": AUTHORITY")
		case name == "x-case":
			lines = append(lines, f.Name+": CASE")
		default:
			lines = append(lines, f.Name+": "+f.Value)
		}
	}
	return lines
}
