//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// upgrade changes a whsentry under load: its settings, its certificates, and the process itself. No request may fail.
func upgrade(ctx context.Context, o options) *report {
	t := &stage{ctx: ctx, o: o, r: &report{name: "upgrade"}}
	var err error
	if t.ca, err = newAuthority(o.scratch, "ca"); !t.r.check("upgrade/certificates", err) {
		return t.r
	}
	for _, c := range []struct {
		name string
		try  func(f *fleet, dir string) error
	}{
		{"20 reloads, good and bad", t.manyReloads},
		{"20 certificates of a listener and of clients", t.manyCertificates},
		{"10 stops", t.manyStops},
		{"10 successors share the port", t.manySuccessors},
		{"the newer one leaves, of two and of three", t.newerLeaves},
		{"10 successors inherit the sockets, one after the other", t.inheritInTurn},
		{"10 successors inherit the sockets while there is one", t.inheritAtOnce},
	} {
		f := newFleet()
		dir := filepath.Join(o.scratch, strings.NewReplacer(" ", "-", ",", "").Replace(c.name))
		err := t.serving(f, func() error { return c.try(f, dir) })
		t.r.check("upgrade/"+c.name+f.counts(), err)
	}
	t.r.check("activation/a socket that nobody wants", t.strangeSocket())
	t.r.check("activation/sockets for another process", t.othersSockets())
	t.systemdActivates()
	t.r.check("notify/ready, reloading, stopping", t.notifies())
	return t.r
}

// serving runs try with a destination that counts for f.
func (t *stage) serving(f *fleet, try func() error) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	t.origin, t.destination = newOrigin(f.seen), ln.Addr().String()
	t.origin.listen(ln)
	defer t.origin.close()
	return try()
}

// manyReloads: good settings, and bad ones that fail at every stage of a reload.
func (t *stage) manyReloads(f *fleet, dir string) error {
	s, err := start(t.ctx, t.o, dir, allowed)
	if err != nil {
		return err
	}
	defer s.kill()
	f.start(plainSenders(s.address, t.destination))
	f.startLibrary(2, s.address, t.destination)
	configs := []string{
		allowed + "cidrDenyList: [8.8.9.0/24]\n",
		allowed + "readTimeout: fast\n",
		allowed + "maxConnections: 1000\nmaxConnectionsPerDestination: 200\nreadTimeout: 8s\n",
		allowed + "clientCertFile: missing.pem\nclientKeyFile: missing.key\n",
		allowed + "userAgent: Another\nrequestIDHeader: X-Other\n",
		allowed + "accessLog: [\n",
		allowed + "dns: {servers: [\"127.0.0.1:1\"], cacheTTL: 0s}\nportDenyList: [1]\n",
		strings.Replace(allowed, "access.log", "missing/access.log", 1),
		allowed + "listeners: [{type: http, address: \":1\"}, {type: https, address: \":2\", certFile: no.pem, keyFile: no.key}]\n",
		allowed,
	}
	for i := 0; i < 20 && err == nil; i++ {
		err = errors.Join(reload(s, configs[i%len(configs)]), t.reloads(s, float64(i+1)), f.more(t, 50))
	}
	if err != nil {
		return errors.Join(err, f.finish())
	}
	samples, err := s.scrape()
	if err == nil {
		good, bad := samples[`whsentry_config_reloads_total{result="ok"}`], samples[`whsentry_config_reloads_total{result="failed"}`]
		if good < 6 || bad < 6 || good+bad != 20 {
			err = fmt.Errorf("%v reloads were good and %v bad; want 20, with some of each", good, bad)
		}
	}
	return errors.Join(err, f.finish(), s.stop(stopLimit))
}

// manyCertificates renews the key pair of an https listener, and the one that a destination is shown, in turn; some
// are broken, so that the old ones stay.
func (t *stage) manyCertificates(f *fleet, dir string) error {
	var serials sync.Map // of the certificates that the destination was shown
	to, err := t.demanding(f, &serials)
	if err != nil {
		return err
	}
	for _, name := range []string{"listener", "acme"} {
		if _, err := t.ca.leaf(name); err != nil {
			return err
		}
	}
	file := func(name string) string { return filepath.Join(t.o.scratch, name) }
	config := allowed + "caBundle: {url: \"\", extraFile: " + file("ca.pem") + "}\nclientCerts: {acme: {certFile: " + file("acme.pem") +
		", keyFile: " + file("acme.key") + "}}\n"
	config = strings.Replace(config, "caBundle: {url: \"\"}\n", "", 1)
	s, err := start(t.ctx, t.o, dir, config, "--listener-type", "https", "--listener-cert-file", file("listener.pem"), "--listener-key-file", file("listener.key"))
	if err != nil {
		return err
	}
	defer s.kill()
	f.start(tlsSenders(s.address, t.destination, ""))
	f.start(tlsSenders(s.address, to, "X-WhSentry-TLS: true\r\nX-WhSentry-ClientCert: acme\r\n"))
	for i := 0; i < 20 && err == nil; i++ {
		err = errors.Join(t.renew(s, i, &serials), t.reloads(s, float64(i+1)), f.more(t, 50))
	}
	return errors.Join(err, f.finish(), s.stop(stopLimit))
}

// demanding starts a destination over TLS that demands a certificate, and notes the serial number of each it is shown.
func (t *stage) demanding(f *fleet, serials *sync.Map) (address string, err error) {
	cert, err := t.ca.leaf("destination")
	if err != nil {
		return "", err
	}
	roots := x509.NewCertPool()
	roots.AddCert(t.ca.cert)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
		VerifyConnection: func(state tls.ConnectionState) error {
			serials.Store(state.PeerCertificates[0].SerialNumber.String(), true)
			return nil
		},
	})
	if err != nil {
		return "", err
	}
	t.origin.listen(ln)
	return ln.Addr().String(), nil
}

// renew replaces the listener's pair, or that for destinations, and waits until the new one is shown. Every fifth is
// broken, which must change nothing.
func (t *stage) renew(s *sentry, i int, serials *sync.Map) error {
	name := []string{"listener", "acme"}[i%2]
	if i%5 == 4 {
		key := filepath.Join(t.o.scratch, name+".key")
		old, err := os.ReadFile(key)
		if err != nil {
			return err
		}
		err = errors.Join(os.WriteFile(key, []byte("no key\n"), 0o600), s.signal(syscall.SIGHUP), t.reloads(s, float64(i+1)))
		return errors.Join(err, os.WriteFile(key, old, 0o600))
	}
	cert, err := t.ca.leaf(name)
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return err
	}
	if err := s.signal(syscall.SIGHUP); err != nil {
		return err
	}
	serial := leaf.SerialNumber.String()
	return eventually(t.ctx, 5*time.Second, func() error {
		if name == "acme" {
			if _, shown := serials.Load(serial); !shown {
				return errors.New("the new certificate is not shown to the destination")
			}
			return nil
		}
		conn, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return err
		}
		defer conn.Close()
		return want("the listener's certificate", conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), serial)
	})
}

// manyStops: clients are refused in the end, but what was sent before is answered, or was never taken.
func (t *stage) manyStops(f *fleet, dir string) error {
	f.untilRefused = true
	var err error
	for i := 0; i < 10 && err == nil; i++ {
		s, startErr := start(t.ctx, t.o, filepath.Join(dir, fmt.Sprint(i)), allowed)
		if startErr != nil {
			return startErr
		}
		f.start(append(plainSenders(s.address, t.destination), farSenders(s.address, t.destination)...))
		f.startLibrary(2, s.address, t.destination)
		err = errors.Join(f.more(t, 300), s.stop(stopLimit))
		s.kill()
		f.wg.Wait() // all have been refused
	}
	return errors.Join(err, f.finish(), f.logged(dir))
}

// logged holds the access logs below dir to one line for each request that was answered.
func (f *fleet) logged(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*", "access.log"))
	if err != nil {
		return err
	}
	lines := 0
	for _, name := range files {
		n, err := countLines(name)
		if err != nil {
			return err
		}
		lines += n
	}
	return want("lines in the access logs", int64(lines), f.ok.Load())
}

// sharing is a whsentry on a port that others listen on too.
func (t *stage) sharing(address, dir string) (*sentry, error) {
	metrics := freeAddress()
	s, err := launch(t.o, dir, allowed, "--listener-address", address, "--listener-reuse-port", "--metrics-address", metrics)
	if err != nil {
		return nil, err
	}
	s.address, s.metrics = address, metrics
	return s, s.ready(t.ctx)
}

// manySuccessors: one is started, and when it is ready, the one before is told to stop.
func (t *stage) manySuccessors(f *fleet, dir string) error {
	address := freeAddress()
	current, err := t.sharing(address, filepath.Join(dir, "0"))
	if err != nil {
		return err
	}
	defer func() { current.kill() }()
	f.start(append(plainSenders(address, t.destination), farSenders(address, t.destination)...))
	f.startLibrary(2, address, t.destination)
	err = f.more(t, 100)
	for i := 0; i < 10 && err == nil; i++ {
		var next *sentry
		if next, err = t.sharing(address, filepath.Join(dir, fmt.Sprint(i+1))); err != nil {
			break
		}
		err = errors.Join(f.more(t, 200), current.stop(stopLimit), f.more(t, 200))
		current.kill()
		current = next
	}
	return errors.Join(err, f.finish(), current.stop(stopLimit), f.logged(dir))
}

// newerLeaves: it is not always the oldest that leaves, and not always all but one.
func (t *stage) newerLeaves(f *fleet, dir string) error {
	address := freeAddress()
	var running []*sentry
	defer func() {
		for _, s := range running {
			s.kill()
		}
	}()
	started := 0
	begin := func() error {
		s, err := t.sharing(address, filepath.Join(dir, fmt.Sprint(started)))
		if err == nil {
			running, started = append(running, s), started+1
		}
		return err
	}
	leave := func(i int) error {
		s := running[i]
		running = append(running[:i:i], running[i+1:]...)
		return errors.Join(f.more(t, 200), s.stop(stopLimit), f.more(t, 200))
	}
	if err := begin(); err != nil {
		return err
	}
	f.start(append(plainSenders(address, t.destination), farSenders(address, t.destination)...))
	f.startLibrary(2, address, t.destination)
	err := errors.Join(begin(), leave(1), begin(), begin(), leave(1), begin(), leave(2), leave(0))
	return errors.Join(err, f.finish(), running[0].stop(stopLimit), f.logged(dir))
}
