//go:build linux

package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// dialled is a client's connection that is kept.
type dialled struct {
	net.Conn
	br *bufio.Reader
}

func dialReader(address string) (*dialled, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &dialled{conn, bufio.NewReader(conn)}, nil
}

func (d *dialled) ask(raw string) (*message, error) {
	answer, _, err := d.askAt(raw)
	return answer, err
}

// askAt is ask, and says when the request was sent.
func (d *dialled) askAt(raw string) (answer *message, sent time.Time, err error) {
	d.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = io.WriteString(d, raw)
	sent = time.Now()
	if err == nil {
		method, _, _ := strings.Cut(raw, " ")
		answer, err = readAnswer(d.br, method)
	}
	return answer, sent, err
}

// reload writes new settings and sends SIGHUP.
func reload(s *sentry, config string) error {
	file := filepath.Join(s.dir, "config.yaml")
	if err := os.WriteFile(file+".new", []byte(config), 0o644); err != nil {
		return err
	}
	if err := os.Rename(file+".new", file); err != nil { // a reload that is still going on must not read half of it
		return err
	}
	return s.signal(syscall.SIGHUP)
}

// verdictOf waits until a request for a destination has a verdict.
func (t *stage) verdictOf(s *sentry, url, expected string) error {
	return eventually(t.ctx, 5*time.Second, func() error {
		m, err := ask(s.address, "GET "+url+" HTTP/1.1\r\nHost: whatever\r\n\r\n")
		if err != nil {
			return err
		}
		return want("GET "+url, m.verdict(), expected)
	})
}

// reloads waits until the count of reloads is n.
func (t *stage) reloads(s *sentry, n float64) error {
	return eventually(t.ctx, 15*time.Second, func() error {
		samples, err := s.scrape()
		if err != nil {
			return err
		}
		return want("whsentry_config_reloads_total", sum(samples, "whsentry_config_reloads_total"), n)
	})
}

// reloadGood refuses a port by SIGHUP and allows it again, and a second address likewise, while others go on.
func (t *stage) reloadGood(s *sentry) error {
	_, port, _ := net.SplitHostPort(t.destination)
	other := newOrigin(nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	other.listen(ln)
	defer other.close()
	_, otherPort, _ := net.SplitHostPort(ln.Addr().String())
	url := "http://127.0.0.1:" + otherPort + "/"
	kept, err := dialReader(s.address)
	if err != nil {
		return err
	}
	defer kept.Close()
	if _, err := kept.ask(t.post("")); err != nil {
		return err
	}
	l := t.traffic(s)
	err = errors.Join(
		t.verdictOf(s, url, "200/0"),
		reload(s, allowed+"portDenyList: ["+otherPort+"]\n"),
		t.verdictOf(s, url, "403/1013"),
		reload(s, allowed+"cidrDenyList: [8.8.9.0/24]\nmaxResponseBodySize: 1KiB\n"),
		t.verdictOf(s, url, "200/0"),
		t.verdictOf(s, "http://8.8.9.1:"+port+"/", "403/1000"),
		t.reloads(s, 2),
	)
	err = errors.Join(err, l.stop())
	if m, keptErr := kept.ask(t.post("size 1025")); keptErr != nil || m.verdict() != "502/1008" {
		err = errors.Join(err, fmt.Errorf("the connection from before: %+v, %v; want 502/1008 by the new limit", m, keptErr))
	}
	return err
}

// reloadBad sends broken settings of several sorts: each is logged, and the old ones stay.
func (t *stage) reloadBad(s *sentry) error {
	l := t.traffic(s)
	var errs []error
	for i, bad := range []struct{ config, mentions string }{
		{allowed + "readTimeout: fast\n", "readTimeout"},
		{allowed + "cidrDenyList: [10.1.2.3/8]\n", "cidrDenyList"},
		{allowed + "nonsense: 1\n", "nonsense"},
		{allowed + "caBundle: [\n", ""},
		{allowed + "clientCertFile: missing.pem\nclientKeyFile: missing.key\n", "clientCertFile"},
	} {
		if err := errors.Join(reload(s, bad.config), t.reloads(s, float64(i+1))); err != nil {
			errs = append(errs, fmt.Errorf("after %q: %w", bad.config, err))
			continue
		}
		if err := said(t.ctx, s, bad.mentions); err != nil { // it is counted before it is logged
			errs = append(errs, fmt.Errorf("after %q: %w", bad.config, err))
		}
	}
	errs = append(errs, t.verdictOf(s, "http://"+t.destination+"/", "200/0"), l.stop())
	return errors.Join(errs...)
}

// unchangeable reloads settings with a change that can't be made this way: that is logged, by its key.
func (t *stage) unchangeable(s *sentry, config, key string) error {
	l := t.traffic(s)
	before := s.output()
	err := errors.Join(
		reload(s, config),
		eventually(t.ctx, 5*time.Second, func() error {
			if after := strings.TrimPrefix(s.output(), before); !strings.Contains(after, key) {
				return fmt.Errorf("nothing is logged of %s: %q", key, after)
			}
			return nil
		}),
		t.verdictOf(s, "http://"+t.destination+"/", "200/0"),
	)
	return errors.Join(err, l.stop())
}

func (t *stage) reloadLogType(s *sentry) error {
	if err := t.unchangeable(s, strings.Replace(allowed, "type: json", "type: text", 1), "accessLog.type"); err != nil {
		return err
	}
	return eventually(t.ctx, 10*time.Second, func() error {
		last, err := lastLine(filepath.Join(s.dir, "access.log"))
		if err == nil && !strings.HasPrefix(last, "{") {
			err = fmt.Errorf("the last line of the log is %q; want JSON", last)
		}
		return err
	})
}

// reloadAddress names another address to listen on: the old one stays, and the new one is not opened.
func (t *stage) reloadAddress() error {
	settings := func(address, metrics string) string {
		return allowed + "listener: {address: \"" + address + "\"}\nmetrics: {address: \"" + metrics + "\"}\n"
	}
	free := freeAddresses(3)
	address, metrics, other := free[0], free[1], free[2]
	s, err := launch(t.o, filepath.Join(t.o.scratch, "reload-address"), settings(address, metrics))
	if err != nil {
		return err
	}
	defer s.kill()
	s.address, s.metrics = address, metrics
	if err := s.ready(t.ctx); err != nil {
		return err
	}
	err = errors.Join(t.unchangeable(s, settings(other, metrics), "listener"), t.unchangeable(s, settings(address, other), "metrics.address"))
	if conn, dialErr := net.Dial("tcp", other); dialErr == nil {
		conn.Close()
		err = errors.Join(err, errors.New("it listens on the new address"))
	}
	return err
}

// reopen moves the log files away: what comes after SIGHUP is in new ones, and no line is lost in between.
func (t *stage) reopen(s *sentry) error {
	l := t.traffic(s)
	file := filepath.Join(s.dir, "access.log")
	var errs []error
	for i := range 5 {
		errs = append(errs, os.Rename(file, fmt.Sprintf("%s.%d", file, i)), s.signal(syscall.SIGHUP),
			eventually(t.ctx, 5*time.Second, func() error {
				lines, err := countLines(file)
				if err == nil && lines == 0 {
					err = errors.New("the new file has no line")
				}
				return err
			}))
	}
	errs = append(errs, l.stop(), s.stop(stopLimit))
	all := 0
	files, err := filepath.Glob(file + "*")
	for _, name := range files {
		lines, err := countLines(name)
		errs = append(errs, err)
		all += lines
	}
	errs = append(errs, err, want("files", len(files), 6), want("log lines", int64(all), l.ok.Load()))
	return errors.Join(errs...)
}

// certificates replaces a listener's certificate by SIGHUP: new handshakes see it, old connections go on.
func (t *stage) certificates() {
	dir := t.o.scratch
	_, err := t.ca.leaf("listener")
	if err == nil {
		args := []string{"--listener-type", "https", "--listener-cert-file", filepath.Join(dir, "listener.pem"), "--listener-key-file", filepath.Join(dir, "listener.key")}
		err = t.with("reload-certificate", allowed, args, t.newCertificate)
	}
	t.r.check("reload/a listener's certificate", err)
}

func (t *stage) newCertificate(s *sentry) error {
	open := func() (*tls.Conn, error) { return tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true}) }
	serial := func(c *tls.Conn) string { return c.ConnectionState().PeerCertificates[0].SerialNumber.String() }
	old, err := open()
	if err != nil {
		return err
	}
	defer old.Close()
	if _, err := t.ca.leaf("listener"); err != nil {
		return err
	}
	if err := s.signal(syscall.SIGHUP); err != nil {
		return err
	}
	err = eventually(t.ctx, 5*time.Second, func() error {
		c, err := open()
		if err != nil {
			return err
		}
		defer c.Close()
		if serial(c) == serial(old) {
			return errors.New("the old certificate is still shown")
		}
		return nil
	})
	if err != nil {
		return err
	}
	m, err := (&dialled{old, bufio.NewReader(old)}).ask(t.post(""))
	if err != nil {
		return fmt.Errorf("the connection from before: %w", err)
	}
	return want("the connection from before", m.verdict(), "200/0")
}
