//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// verdicts are what becomes of a request over TLS, for each kind of destination: the answer to a request in absolute
// form, the same within an intercepted tunnel, and what `whsentry ca check` says, with its exit code.
func (t *tlsBench) verdicts() {
	for _, row := range []struct {
		site, verdict, text string
		code                int
		says                string
	}{
		{"good", "200/0", "", 0, "trusted: valid for good.hooks.test, issued under the root CN=ca"},
		{"tls12", "200/0", "", 0, "trusted: "},
		{"tls13", "200/0", "", 0, "trusted: "},
		{"asks", "200/0", "", 0, "client certificate: the server asks for one; none is configured"},
		{"tls11", "502/1005", "the server supports neither TLS 1.2 nor TLS 1.3", 1, "reason 1005"},
		{"plain-http", "502/1005", "the server answered with plain HTTP instead of TLS", 1, "reason 1005"},
		{"expired", "502/1007", "certificate expired on 2020-03-01", 1, "reason 1007"},
		{"early", "502/1007", "certificate is not valid before 2090-03-01", 1, "reason 1007"},
		{"wrong-name", "502/1007", "certificate is for *.example.com, example.com, not for wrong-name.hooks.test", 1, "reason 1007"},
		{"self-signed", "502/1007", "certificate is self-signed", 1, "reason 1007"},
		{"no-intermediate", "502/1007", "the server did not send its intermediate certificate", 1, "reason 1007"},
		{"unknown-root", "502/1007", "certificate is signed by an unknown authority", 1, "reason 1007"},
	} {
		at := t.sites[row.site].authority()
		id := "verdict/" + row.site
		m, seen, err := t.post(t.proxies["plain"], at, id)
		t.r.check(id+", absolute form", t.verdict(m, seen, err, row.verdict, row.text))
		m, seen, err = t.intercepted(at, id+"/mitm", nil)
		t.r.check(id+", intercepted", t.verdict(m, seen, err, row.verdict, row.text))
		t.r.check(id+", ca check", t.command("check", t.config, row.code, []string{row.text, row.says}, "ca", "check", "https://"+at+"/hook"))
	}
	for _, version := range []string{"12", "13"} {
		seen := t.arrivals("verdict/tls" + version)
		t.r.check("verdict/tls"+version+", protocol", func() error {
			if len(seen) != 1 {
				return fmt.Errorf("%d arrivals; want 1", len(seen))
			}
			return want("protocol", seen[0].get("X-Seen-Protocol"), map[string]string{"12": "TLSv1.2", "13": "TLSv1.3"}[version])
		}())
	}
	good := t.sites["good"].authority()
	guarded := strings.Replace(t.config, "cidrAllowList: [127.0.0.1/32]\n", "", 1)
	t.r.check("verdict/refused by the guard, ca check", t.command("check-guarded", guarded, 3, []string{"IP 127.0.0.1 is blocked"}, "ca", "check", good))
	demands := t.sites["demands"].authority()
	t.r.check("verdict/demands a client certificate, ca check with one",
		t.command("check", t.config, 0, []string{"that of clientCertFile is presented", "trusted: "},
			"ca", "--client-cert-file", t.file("acme.pem"), "--client-key-file", t.file("acme.key"), "check", demands))
}

// spellings are the ways to ask for TLS, and for none: what must go over TLS never goes in plain text. The log says
// https where TLS was used, and which version.
func (t *tlsBench) spellings() {
	good, plain := t.sites["good"].authority(), t.plain
	for i, row := range []struct{ name, target, header, verdict, url string }{
		{"X-WhSentry-TLS: TRUE", "http://" + good + "/a", "X-WhSentry-TLS: TRUE", "200/0", "https://" + good + "/a"},
		{"x-whsentry-tls: yes", "http://" + good + "/b", "x-whsentry-tls: yes", "200/0", "https://" + good + "/b"},
		{"HTTP:// with the header", "HTTP://" + good + "/http-x", "X-WhSentry-TLS: 1", "200/0", "https://" + good + "/http-x"},
		{"https://", "https://" + good + "/c", "X-Nothing: 0", "200/0", "https://" + good + "/c"},
		{"HTTPS:// with X-WhSentry-TLS: false", "HTTPS://" + good + "/d", "X-WhSentry-TLS: false", "200/0", "https://" + good + "/d"},
		{"X-WhSentry-TLS: False", "http://" + plain + "/e", "X-WhSentry-TLS: False", "200/0", "http://" + plain + "/e"},
		{"X-WhSentry-TLS: 0", "http://" + plain + "/f", "X-WhSentry-TLS: 0", "200/0", "http://" + plain + "/f"},
		{"TLS to a port without it", "http://" + plain + "/g", "X-WhSentry-TLS: 1", "502/1005", "https://" + plain + "/g"},
	} {
		id := fmt.Sprintf("spelling-%d", i)
		m, err := ask(t.proxies["plain"].address, "POST "+row.target+" HTTP/1.1\r\nHost: x\r\nRequest-ID: "+id+"\r\nX-Case: "+id+"\r\n"+
			row.header+"\r\nContent-Length: 2\r\n\r\nhi")
		t.r.check("spelling/"+row.name, errors.Join(t.verdict(m, t.arrivals(id), err, row.verdict, ""), t.loggedAs(id, row.url, row.verdict)))
	}
}

// loggedAs waits for the log line of a request and holds its URL and version of TLS to what was used.
func (t *tlsBench) loggedAs(id, url, verdict string) error {
	return eventually(t.ctx, 10*time.Second, func() error {
		text, err := os.ReadFile(filepath.Join(t.proxies["plain"].dir, "access.log"))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			var l struct {
				ID      string `json:"rq_id"`
				URL     string `json:"url"`
				Version string `json:"tls_version"`
			}
			if json.Unmarshal([]byte(line), &l) != nil || l.ID != id {
				continue
			}
			if secure := strings.HasPrefix(url, "https:") && verdict == "200/0"; secure != strings.Contains(l.Version, "1.3") {
				return fatal{fmt.Errorf("the log has tls_version %q", l.Version)}
			}
			return want("url in the log", l.URL, url)
		}
		return errors.New("the log has no line of it")
	})
}

// verdict holds an answer to its status and reason, and a refusal to its text, in the header and the body, and to
// not having reached the destination.
func (t *tlsBench) verdict(m *message, seen []arrival, err error, verdict, text string) error {
	if err != nil {
		return err
	}
	if err := want("answer", m.verdict(), verdict); err != nil {
		return fmt.Errorf("%w: %s", err, m.Body)
	}
	if verdict == "200/0" {
		return want("arrivals", len(seen), 1)
	}
	reason := m.get("X-WhSentry-Reason")
	if m.reason() != "0" && (!strings.Contains(reason, text) || string(m.Body) != reason+"\n") {
		return fmt.Errorf("reason %q, body %q; want both with %q", reason, m.Body, text)
	}
	if !strings.Contains(string(m.Body), text) {
		return fmt.Errorf("body %q; want %q in it", m.Body, text)
	}
	return want("arrivals", len(seen), 0)
}

// command runs whsentry in a folder of its own with these settings, and holds it to its exit code and to parts of
// what it prints: one line of error on stderr at most.
func (t *tlsBench) command(dir, config string, code int, parts []string, args ...string) error {
	got, stdout, stderr, err := t.run(dir, config, args...)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if !strings.Contains(stdout+stderr, part) {
			return fmt.Errorf("exit code %d, it prints %q; want %q in it", got, stdout+stderr, part)
		}
	}
	if got != code || strings.Count(stderr, "\n") > 1 || strings.Contains(stderr, "goroutine ") {
		return fmt.Errorf("exit code %d and %q; want %d and at most one line", got, stderr, code)
	}
	return nil
}

func (t *tlsBench) run(dir, config string, args ...string) (code int, stdout, stderr string, err error) {
	dir = t.file(dir)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o644)); err != nil {
		return 0, "", "", err
	}
	ctx, cancel := context.WithTimeout(t.ctx, 30*time.Second)
	defer cancel()
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, t.o.whsentry, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errOut
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_CACHE_HOME=" + filepath.Join(dir, "cache")}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = nil
	}
	return cmd.ProcessState.ExitCode(), out.String(), errOut.String(), err
}

// identities are client certificates: who gets which, and who none.
func (t *tlsBench) identities() {
	strict := map[string]string{}
	for name, version := range map[string]uint16{"strict12": tls.VersionTLS12, "strict13": tls.VersionTLS13} {
		at, err := t.strict(name, version)
		t.r.check("identity/"+name+" starts", err)
		strict[name] = at
	}
	demands := t.sites["demands"].authority()
	for _, row := range []struct{ name, at, alias, verdict, text string }{
		{"unknown alias", demands, "nobody", "400/1010", "nobody"},
		{"alias of other letters", demands, "ACME", "400/1010", "ACME"},
		// nginx completes the handshake and says it in HTTP.
		{"nginx demands, none is sent", demands, "", "400/0", "No required SSL certificate was sent"},
		{"nginx demands, from another CA", demands, "stranger", "400/0", "The SSL certificate error"},
		{"strict TLS 1.2, none is sent", strict["strict12"], "", "502/1005", "the server demands a client certificate and none is configured"},
		{"strict TLS 1.3, none is sent", strict["strict13"], "", "502/1005", "the server demands a client certificate and none is configured"},
		{"strict TLS 1.2, from another CA", strict["strict12"], "stranger", "502/1005", "the server rejected the client certificate"},
		{"strict TLS 1.3, from another CA", strict["strict13"], "stranger", "502/1005", "the server rejected the client certificate"},
		{"strict TLS 1.2", strict["strict12"], "acme", "200/0", ""},
		{"strict TLS 1.3", strict["strict13"], "other", "200/0", ""},
	} {
		id := "identity/" + row.name
		var with []field
		if row.alias != "" {
			with = []field{{"X-WhSentry-ClientCert", row.alias}}
		}
		m, seen, err := t.post(t.proxies["plain"], row.at, id, with...)
		t.r.check(id+", absolute form", t.verdict(m, seen, err, row.verdict, row.text))
		m, seen, err = t.intercepted(row.at, id+"/mitm", nil, with...)
		t.r.check(id+", intercepted", t.verdict(m, seen, err, row.verdict, row.text))
		m, seen, err = t.intercepted(row.at, id+"/connect", with)
		t.r.check(id+", on an intercepted CONNECT", t.verdict(m, seen, err, row.verdict, row.text))
		if row.verdict == "400/1010" && err == nil {
			t.r.check(id+", in the status line of CONNECT", want("status line", m.Start, "HTTP/1.1 400 "+m.get("X-WhSentry-Reason")+" (1010)"))
		}
	}
	t.r.check("identity/strict TLS 1.2, ca check", t.command("check", t.config, 1,
		[]string{"the server demands a client certificate and none is configured", "reason 1005"}, "ca", "check", strict["strict12"]))
	// In TLS 1.3 the refusal comes after the handshake, with the first answer: the server's own certificate is trusted.
	t.r.check("identity/strict TLS 1.3, ca check", t.command("check", t.config, 0,
		[]string{"client certificate: the server asks for one; none is configured", "trusted: "}, "ca", "check", strict["strict13"]))
	t.r.check("identity/no connection is shared between aliases", t.shared("asks", []string{"acme", "other", "", "acme", "other", ""}, nil,
		func(first, again arrival) error {
			return want("connection", again.get("X-Seen-Connection"), first.get("X-Seen-Connection"))
		}))
	for _, name := range []string{"once12", "once13"} {
		t.r.check("identity/no session is shared between aliases, "+name, t.shared(name, []string{"acme", "other", "", "acme", "other", ""},
			func(first arrival) error { return want("resumed", first.get("X-Seen-Resumed"), ".") },
			func(_, again arrival) error { return want("resumed", again.get("X-Seen-Resumed"), "r") }))
	}
}

// strict serves the origin over TLS of one version, and refuses clients without a certificate in the handshake.
func (t *tlsBench) strict(name string, version uint16) (authority string, err error) {
	cert, err := t.ca.leaf(name, forNames(name+".hooks.test"))
	if err != nil {
		return "", err
	}
	clients := x509.NewCertPool()
	clients.AddCert(t.ca.cert)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
		MinVersion: version, MaxVersion: version,
	})
	if err != nil {
		return "", err
	}
	t.origin.listen(ln)
	return fmt.Sprintf("%s.hooks.test:%d", name, ln.Addr().(*net.TCPAddr).Port), nil
}

// shared sends one request after the other as these aliases: each must be seen as its own. first and again look at
// an alias' first arrival, and at the next one.
func (t *tlsBench) shared(name string, aliases []string, first func(arrival) error, again func(first, again arrival) error) error {
	at := t.sites[name].authority()
	before := map[string]arrival{}
	connections := map[string]string{} // by connection, the alias
	for i, alias := range aliases {
		var with []field
		client := ""
		if alias != "" {
			with, client = []field{{"X-WhSentry-ClientCert", alias}}, "CN="+alias
		}
		id := fmt.Sprintf("shared/%s/%d", name, i)
		m, seen, err := t.post(t.proxies["plain"], at, id, with...)
		if err := t.verdict(m, seen, err, "200/0", ""); err != nil {
			return err
		}
		a := seen[0]
		if err := want("client certificate", a.get("X-Seen-Client"), client); err != nil {
			return fmt.Errorf("request %d as %q: %w", i, alias, err)
		}
		old, known := before[alias]
		switch {
		case known:
			err = again(old, a)
		case first != nil:
			err = first(a)
		}
		if err != nil {
			return fmt.Errorf("request %d as %q: %w", i, alias, err)
		}
		before[alias] = a
		number := a.get("X-Seen-Connection")
		if owner, used := connections[number]; used && owner != alias {
			return fmt.Errorf("request %d as %q came over the connection of %q", i, alias, owner)
		}
		connections[number] = alias
	}
	return nil
}
