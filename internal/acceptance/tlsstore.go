//go:build linux

package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// builtIn is what the program is delivered with, DER.
func builtIn() (roots [][]byte) {
	for root := range bundle.Roots() {
		roots = append(roots, root.Certificate)
	}
	return roots
}

// bundleOf is a file as mk-ca-bundle makes it.
func bundleOf(year int, roots ...[]byte) string {
	return fmt.Sprintf("##\n## Bundle of CA Root Certificates\n##\n## Certificate data from Mozilla as of: Tue Jan  3 04:05:06 %d GMT\n##\n\n%s", year, pemOf(roots...))
}

// publish puts a bundle where nginx serves it. Each has a second of its own, for nginx tells files apart by that and
// by their size.
func (t *tlsBench) publish(text string) error {
	t.published++
	name, at := t.file("bundles/cacert.pem"), time.Now().Add(time.Duration(t.published)*time.Minute-time.Hour)
	return errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name+".new", []byte(text), 0o644),
		os.Chtimes(name+".new", at, at), os.Rename(name+".new", name))
}

// caCommands tries `whsentry ca list` and `ca update`, and a proxy that looks for bundles itself.
func (t *tlsBench) caCommands() {
	roots := builtIn()
	more := append(roots[:len(roots):len(roots)], t.newRoot.cert.Raw)
	mine := fmt.Sprintf("%x", sha256.Sum256(t.ca.cert.Raw))
	t.r.check("ca list/built-in and extra roots", t.command("list", t.config, 0,
		[]string{fmt.Sprintf("\n%d roots, as of ", len(roots)+1), "built-in", mine + "  CN=ca\n"}, "ca", "list"))
	url := "https://" + t.sites["bundles"].Address + "/bundles/cacert.pem"
	kept := t.file("kept.pem")
	t.updates(url, kept, more)
	t.r.check("ca list/the kept bundle", t.command("list", t.config, 0,
		[]string{fmt.Sprintf("\n%d roots, as of 2090-01-03", len(more)+1), kept, "CN=new root\n"}, "ca", "--ca-bundle-file", kept, "list"))
	t.r.check("ca update/from a server that is not trusted", t.command("update", strings.Replace(t.config, "ca.pem", "unknown.pem", 1), 1,
		[]string{"certificate is signed by an unknown authority"}, "ca", "--ca-bundle-url", url, "--ca-bundle-file", kept, "update"))
	t.r.check("store/swapped while running", t.swapped(url, roots, more))
}

// updates publishes one bundle after the other, and runs `ca update` on each; from the first on, the good one is kept.
func (t *tlsBench) updates(url, kept string, roots [][]byte) {
	good, next := bundleOf(2090, roots...), bundleOf(2091, roots...)
	for _, row := range []struct {
		name, text string
		code       int
		says       string
	}{
		{"a newer one", good, 0, "updated: "},
		{"the same", "", 0, "unchanged: "},
		{"an older one", bundleOf(2021, roots...), 0, "unchanged: "},
		{"truncated within a certificate", next[:len(next)*9/10], 1, "cut short"},
		{"truncated between two", bundleOf(2091, roots[:len(roots)/2]...), 1, "roots in use; a quarter is the most accepted"},
		{"a line lost in the middle", strings.Replace(next, "-----END CERTIFICATE-----\n", "", 1), 1, "damaged"},
		{"no bundle", strings.Repeat("<html>maintenance</html>\n", 1000), 1, "no PEM certificate"},
		{"over 4 MiB", next + strings.Repeat("# more\n", 700_000), 1, "want at most 4194304"},
	} {
		var err error
		if row.text != "" {
			err = t.publish(row.text)
		}
		err = errors.Join(err, t.command("update", t.config, row.code, []string{row.says}, "ca", "--ca-bundle-url", url, "--ca-bundle-file", kept, "update"))
		got, readErr := os.ReadFile(kept)
		if readErr == nil && string(got) != good {
			readErr = fmt.Errorf("the kept file has %d bytes that are not the good bundle's %d", len(got), len(good))
		}
		t.r.check("ca update/"+row.name, errors.Join(err, readErr))
	}
	n, err := t.nginx.logged("304 GET /bundles/cacert.pem")
	t.r.check("ca update/with a condition, which nginx answered with 304", errors.Join(err, want("answers of 304", n, 1)))
}

// swapped publishes a root, and later one without it: a proxy that runs all the while trusts it, and then no longer.
func (t *tlsBench) swapped(url string, without, with [][]byte) error {
	if err := t.publish(bundleOf(2021, without...)); err != nil {
		return err
	}
	s, err := start(t.ctx, t.o, t.file("proxy-swap"), t.config, "--ca-bundle-url", url, "--ca-bundle-refresh-interval", "200ms")
	if err != nil {
		return err
	}
	defer s.kill()
	number := 0
	becomes := func(verdict string, roots int) error {
		return eventually(t.ctx, 5*time.Second, func() error {
			number++
			m, _, err := t.post(s, t.sites["new-root"].authority(), fmt.Sprintf("swap/%d", number))
			if err != nil {
				return err
			}
			if err := want("answer", m.verdict(), verdict); err != nil {
				return err
			}
			samples, err := s.scrape()
			return errors.Join(err, want("whsentry_trust_store_roots", samples["whsentry_trust_store_roots"], float64(roots)))
		})
	}
	for _, step := range []struct {
		text, verdict string
		roots         int
	}{
		{bundleOf(2021, without...), "502/1007", len(without) + 1},
		{bundleOf(2092, with...), "200/0", len(with) + 1},
		{bundleOf(2093, with...)[:50_000], "200/0", len(with) + 1},
		{bundleOf(2094, without...), "502/1007", len(without) + 1},
	} {
		before, err := looks(s)
		err = errors.Join(err, t.publish(step.text), eventually(t.ctx, 5*time.Second, func() error {
			now, err := looks(s)
			if err == nil && now < before+2 { // one may have been under way
				err = errors.New("the proxy does not look for bundles")
			}
			return err
		}))
		if err := errors.Join(err, becomes(step.verdict, step.roots)); err != nil {
			return fmt.Errorf("bundle of %d bytes: %w", len(step.text), err)
		}
	}
	return s.stop(stopLimit)
}

// looks is how often a proxy has looked for a bundle, with whatever result.
func looks(s *sentry) (float64, error) {
	samples, err := s.scrape()
	return sum(samples, "whsentry_trust_store_refreshes_total"), err
}

// hang accepts connections, reads what comes and never answers; each is handed out with what came first.
func hang() (ln net.Listener, came chan net.Conn, err error) {
	ln, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	came = make(chan net.Conn, 10)
	go func() { // until ln is closed
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			came <- conn
		}
	}()
	return ln, came, nil
}

// stillOpen reads what the other side sent: it must have begun to ask, and be waiting.
func stillOpen(conn net.Conn) error {
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("nothing was asked: %w", err)
	}
	conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	_, err := io.Copy(io.Discard, conn)
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the download is over: %v", err)
	}
	return nil
}

// starts launches a proxy whose bundle comes from a server that hangs, in HTTP and in the TLS handshake: it serves
// requests while the download is open.
func (t *tlsBench) starts() {
	for _, scheme := range []string{"http", "https"} {
		t.r.check("start/not delayed by a bundle server that hangs, "+scheme, t.startsAtOnce(scheme))
	}
}

func (t *tlsBench) startsAtOnce(scheme string) error {
	ln, came, err := hang()
	if err != nil {
		return err
	}
	defer ln.Close()
	began := time.Now()
	s, err := start(t.ctx, t.o, t.file("proxy-start-"+scheme), t.config, "--ca-bundle-url", scheme+"://"+ln.Addr().String()+"/cacert.pem")
	if err != nil {
		return err
	}
	defer s.kill()
	m, seen, err := t.post(s, t.sites["good"].authority(), "start/"+scheme)
	took := time.Since(began)
	if err := t.verdict(m, seen, err, "200/0", ""); err != nil {
		return err
	}
	select {
	case conn := <-came:
		defer conn.Close()
		if err := stillOpen(conn); err != nil {
			return err
		}
	case <-time.After(5 * time.Second):
		return errors.New("the bundle server is not asked")
	}
	if took > 6*time.Second { // the download is given up after 10 s
		return fmt.Errorf("the first request was answered %v after the start", took)
	}
	return s.stop(6 * time.Second) // nor does the download hold up the stop
}

func (t *tlsBench) hangGivenUp() error {
	ln, came, err := hang()
	if err != nil {
		return err
	}
	defer ln.Close()
	began := time.Now()
	s, err := start(t.ctx, t.o, t.file("proxy-hang"), t.config, "--ca-bundle-url", "http://"+ln.Addr().String()+"/cacert.pem")
	if err != nil {
		return err
	}
	defer s.kill()
	err = eventually(t.ctx, 15*time.Second, func() error {
		time.Sleep(100 * time.Millisecond)
		samples, err := s.scrape()
		return errors.Join(err, want("failed refreshes", samples[`whsentry_trust_store_refreshes_total{result="failed"}`], 1))
	})
	if err != nil {
		return err
	}
	if took := time.Since(began); took < 9*time.Second {
		return fmt.Errorf("given up after %v", took)
	}
	if err := said(t.ctx, s, "update the trust store from http://"+ln.Addr().String()); err != nil { // after it is counted
		return err
	}
	(<-came).Close()
	return s.stop(stopLimit)
}
