//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// tlsBench is what the checks of TLS share, beside the bench's proxies and clients: nginx with a destination for each
// kind of certificate, which hands requests on to the bench's origin, and names for all of them.
type tlsBench struct {
	*bench
	r       *report
	config  string      // the settings of every proxy
	ca      *authority  // whom everybody trusts
	newRoot *authority  // whom nobody trusts yet
	names   *dns.Server // NAME.hooks.test is 127.0.0.1
	nginx   *nginx
	sites   map[string]*site
	closers []func()

	published int // how many bundles were
}

// tlsChecks tries everything that whsentry does with TLS, against nginx and with real clients.
func tlsChecks(ctx context.Context, o options) *report {
	r := &report{name: "tls"}
	t, err := newTLSBench(ctx, o, r)
	defer t.close()
	if !r.check("proxies, nginx and name server start", err) {
		return r
	}
	var slow sync.WaitGroup // it waits for timeouts, and so has the time of the others
	slow.Go(func() { r.check("start/a bundle server that hangs is given up after 10 s", t.hangGivenUp()) })
	for _, d := range []driver{curlDriver, pythonDriver, undiciDriver, nodeAgentDriver, goDriver} {
		t.matrix(d)
	}
	t.verdicts()
	t.spellings()
	t.identities()
	t.caCommands()
	t.bulk()
	t.renewals()
	t.starts()
	slow.Wait()
	for name, s := range t.proxies {
		r.check("proxy "+name+" exits 0", s.stop(stopLimit))
	}
	return r
}

func newTLSBench(ctx context.Context, o options, r *report) (*tlsBench, error) {
	t := &tlsBench{
		bench: &bench{ctx: ctx, o: o, proxies: map[string]*sentry{}, seen: map[string][]arrival{}, roots: filepath.Join(o.scratch, "roots.pem")},
		r:     r, sites: map[string]*site{},
	}
	if err := t.certificates(); err != nil {
		return t, err
	}
	t.origin = newOrigin(t.record)
	t.closers = append(t.closers, t.origin.close)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return t, err
	}
	t.origin.listen(ln)
	t.plain = ln.Addr().String()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return t, err
	}
	t.names = &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(answerLoopback)}
	go t.names.ActivateAndServe() // until Shutdown
	t.closers = append(t.closers, func() { t.names.Shutdown() })

	var all []*site
	for _, s := range t.sites {
		all = append(all, s)
	}
	if t.nginx, err = startNginx(ctx, o.scratch, t.plain, all); err != nil {
		return t, err
	}
	t.config = "cidrAllowList: [127.0.0.1/32]\naccessLog: {type: json, file: access.log}\n" +
		"dns: {servers: [\"" + packets.LocalAddr().String() + "\"]}\n" +
		"caBundle: {url: \"\", extraFile: " + t.file("ca.pem") + "}\nclientCerts:\n"
	for _, alias := range []string{"acme", "other", "stranger"} {
		t.config += fmt.Sprintf("  %s: {certFile: %s, keyFile: %s}\n", alias, t.file(alias+".pem"), t.file(alias+".key"))
	}
	return t, t.startProxies(t.config)
}

func (t *tlsBench) close() {
	for _, s := range t.proxies {
		s.kill()
	}
	if t.nginx != nil {
		t.r.check("nginx stops", t.nginx.stop())
	}
	for _, f := range t.closers {
		f()
	}
}

func (t *tlsBench) file(name string) string { return filepath.Join(t.o.scratch, name) }

// answerLoopback answers that every name below hooks.test is 127.0.0.1; no other name exists.
func answerLoopback(w dns.ResponseWriter, query *dns.Msg) {
	reply := new(dns.Msg).SetReply(query)
	switch q := query.Question[0]; {
	case !strings.HasSuffix(q.Name, ".hooks.test."):
		reply.Rcode = dns.RcodeNameError
	case q.Qtype == dns.TypeA:
		header := dns.RR_Header{Name: q.Name, Class: dns.ClassINET, Rrtype: dns.TypeA, Ttl: 30}
		reply.Answer = append(reply.Answer, &dns.A{Hdr: header, A: net.IPv4(127, 0, 0, 1)})
	}
	w.WriteMsg(reply)
}

// certificates makes all that the proxies and nginx show: what comes from "ca" is trusted, from "unknown" it is not.
func (t *tlsBench) certificates() error {
	roots := map[string]*authority{}
	for _, name := range []string{"ca", "unknown", "issuer", "new root"} {
		a, err := newAuthority(t.o.scratch, name)
		if err != nil {
			return err
		}
		roots[name] = a
	}
	t.ca, t.newRoot = roots["ca"], roots["new root"]
	for name, from := range map[string]*authority{"acme": t.ca, "other": t.ca, "stranger": roots["unknown"], "server": t.ca} {
		if _, err := from.leaf(name); err != nil {
			return err
		}
	}
	return errors.Join(t.makeSites(roots["unknown"]),
		os.WriteFile(t.file("clients.pem"), pemOf(t.ca.cert.Raw), 0o644),
		os.WriteFile(t.roots, pemOf(t.ca.cert.Raw, roots["issuer"].cert.Raw), 0o644))
}

// makeSites makes nginx's servers with their certificates.
func (t *tlsBench) makeSites(unknown *authority) error {
	middle, err := t.ca.intermediate("Middle CA")
	if err != nil {
		return err
	}
	alone := *middle
	alone.chain = nil // its leaves come without the intermediate
	end := time.Date(2020, 3, 1, 12, 0, 0, 0, time.UTC)
	byAddress := func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }
	rows := []struct {
		name   string
		issuer *authority // nil: itself
		change change
		lines  string
	}{
		{"good", middle, nil, ""},
		{"demands", middle, nil, "ssl_verify_client on;"},
		{"asks", middle, nil, "ssl_verify_client optional;"},
		{"once12", middle, nil, "ssl_verify_client optional; ssl_protocols TLSv1.2; keepalive_timeout 0;"},
		{"once13", middle, nil, "ssl_verify_client optional; ssl_protocols TLSv1.3; keepalive_timeout 0;"},
		{"tls11", middle, nil, "ssl_protocols TLSv1.1;"},
		{"tls12", middle, nil, "ssl_protocols TLSv1.2;"},
		{"tls13", middle, nil, "ssl_protocols TLSv1.3;"},
		{"expired", middle, validBetween(end.AddDate(-1, 0, 0), end), ""},
		{"early", middle, validBetween(end.AddDate(70, 0, 0), end.AddDate(71, 0, 0)), ""},
		{"wrong-name", middle, forNames("*.example.com", "example.com"), ""},
		{"self-signed", nil, nil, ""},
		{"no-intermediate", &alone, nil, ""},
		{"unknown-root", unknown, nil, ""},
		{"new-root", t.newRoot, nil, ""},
		{"bundles", middle, byAddress, ""}, // downloads of bundles do not ask dns.servers
		{"plain-http", middle, nil, ""},
	}
	free := freeAddresses(len(rows))
	for i, row := range rows {
		at := &site{Name: row.name, Address: free[i], Lines: row.lines, Plain: row.name == "plain-http"}
		t.sites[row.name] = at
		changes := []change{forNames(at.host())}
		if row.change != nil {
			changes = append(changes, row.change)
		}
		if _, err := newLeaf(t.o.scratch, row.name, row.issuer, changes); err != nil {
			return err
		}
	}
	return nil
}

// tlsModes are the ways over TLS; each client has those that it knows: https-proxy-agent only ever tunnels, so does
// undici to an https proxy, and urllib can't add header lines to CONNECT.
var tlsModes = []struct {
	mode
	site    string
	drivers string // with spaces around
}{
	{mode{name: "absolute", proxy: "plain", startTLS: true}, "good", " curl python undici go "},
	{mode{name: "tunnel", proxy: "plain", tunnel: true, opaque: true, tls: true}, "good", " curl python undici https-proxy-agent go "},
	{mode{name: "mitm", proxy: "mitm", tunnel: true, tls: true}, "good", " curl python undici https-proxy-agent go "},
	{mode{name: "https-listener", proxy: "https", startTLS: true}, "good", " curl python go "},
	{mode{name: "https-listener-tunnel", proxy: "https", tunnel: true, opaque: true, tls: true}, "good", " curl undici https-proxy-agent go "},
	{mode{name: "alias-absolute", proxy: "plain", startTLS: true, alias: "acme"}, "demands", " curl python undici go "},
	{mode{name: "alias-mitm", proxy: "mitm", tunnel: true, tls: true, alias: "acme"}, "demands", " curl python undici https-proxy-agent go "},
	{mode{name: "alias-connect", proxy: "mitm", tunnel: true, tls: true, connect: []field{{"X-WhSentry-ClientCert", "acme"}}}, "demands",
		" curl undici https-proxy-agent go "},
}

// matrix sends webhooks of 1 KB and 1 MiB by one client in each of its modes.
func (t *tlsBench) matrix(d driver) {
	for _, row := range tlsModes {
		if !strings.Contains(row.drivers, " "+d.name+" ") {
			continue
		}
		m := row.mode
		m.to = t.sites[row.site].authority()
		var hooks []webhook
		for _, h := range webhooks {
			if h.Name != "json-1k" && h.Name != "binary-1m" {
				continue
			}
			h.Fields = slices.Concat(h.Fields, []field{{"X-Case", d.name + "/" + m.name + "/" + h.Name}})
			if m.startTLS {
				h.Fields = append(h.Fields, field{"X-WhSentry-TLS", "true"})
			}
			if m.alias != "" {
				h.Fields = append(h.Fields, field{"X-WhSentry-ClientCert", m.alias})
			}
			hooks = append(hooks, h)
		}
		replies, err := d.send(t.bench, m, hooks)
		if err == nil && len(replies) != len(hooks) {
			err = fmt.Errorf("%d replies; want %d", len(replies), len(hooks))
		}
		for i, h := range hooks {
			id := d.name + "/" + m.name + "/" + h.Name
			if err != nil {
				t.r.check(id, err)
				continue
			}
			t.r.check(id, t.delivered(m, t.sites[row.site], h, id, replies[i]))
		}
	}
}

// delivered holds a webhook's reply and arrival to what was sent, and the connection to what nginx saw of it.
func (t *tlsBench) delivered(m mode, at *site, h webhook, id string, got reply) error {
	body := fmt.Sprintf("received %x %d at 127.0.0.1\n", sha256.Sum256(h.Body), len(h.Body))
	if got.Error != "" || got.Status != 200 || got.Body != body {
		return fmt.Errorf("the client got %d %q %s; want 200 %q", got.Status, got.Body, got.Error, body)
	}
	seen := t.arrivals(id)
	if len(seen) != 1 {
		return fmt.Errorf("it arrived %d times; want once", len(seen))
	}
	a := seen[0]
	errs := []error{
		want("signature", a.get("X-Hub-Signature-256"), signature(a.Body)),
		want("body length", len(a.Body), len(h.Body)),
		want("name in SNI", a.get("X-Seen-Name"), at.host()),
		want("protocol", a.get("X-Seen-Protocol"), "TLSv1.3"),
	}
	if m.opaque {
		return errors.Join(errs...)
	}
	client := ""
	if m.alias != "" || len(m.connect) > 0 {
		client = "CN=acme"
	}
	return errors.Join(append(errs,
		want("ALPN", a.get("X-Seen-ALPN"), "http/1.1"),
		want("client certificate", a.get("X-Seen-Client"), client),
		properlyForwarded(a.message, m.to))...)
}

// post sends one webhook in absolute form through a proxy, with more header lines, and returns the answer and what
// arrived, if anything did.
func (t *tlsBench) post(s *sentry, authority, id string, more ...field) (*message, []arrival, error) {
	head := fmt.Sprintf("POST http://%s/hook HTTP/1.1\r\nHost: %s\r\nX-WhSentry-TLS: 1\r\nX-Case: %s\r\nContent-Length: 2\r\n", authority, authority, id)
	for _, f := range more {
		head += f.Name + ": " + f.Value + "\r\n"
	}
	m, err := ask(s.address, head+"\r\nhi")
	return m, t.arrivals(id), err
}

// intercepted sends the same within a tunnel that is intercepted; connect are header lines of CONNECT. Where CONNECT
// is refused, that is the answer.
func (t *tlsBench) intercepted(authority, id string, connect []field, more ...field) (*message, []arrival, error) {
	conn, err := dialReader(t.proxies["mitm"].address)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	head := "CONNECT " + authority + " HTTP/1.1\r\nHost: " + authority + "\r\n"
	for _, f := range connect {
		head += f.Name + ": " + f.Value + "\r\n"
	}
	if m, err := conn.ask(head + "\r\n"); err != nil || m.status() != 200 {
		return m, nil, err
	}
	roots, err := t.pool()
	if err != nil {
		return nil, nil, err
	}
	host, _, _ := net.SplitHostPort(authority)
	inside := tls.Client(conn.Conn, &tls.Config{RootCAs: roots, ServerName: host})
	head = "POST /hook HTTP/1.1\r\nHost: " + authority + "\r\nX-Case: " + id + "\r\nContent-Length: 2\r\n"
	for _, f := range more {
		head += f.Name + ": " + f.Value + "\r\n"
	}
	m, err := (&dialled{inside, bufio.NewReader(inside)}).ask(head + "\r\nhi")
	return m, t.arrivals(id), err
}

// pool is what clients trust.
func (t *tlsBench) pool() (*x509.CertPool, error) {
	text, err := os.ReadFile(t.roots)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return pool, err
}
