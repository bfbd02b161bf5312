//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// bulkSize goes each way through one tunnel, both ways at once.
const bulkSize = 64 << 20

// halfCloser is a connection of which one side can be ended.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// random is bulkSize bytes that a seed stands for.
func random(seed byte) io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{seed}), bulkSize) }

// bulk sends 64 MiB both ways through one tunnel at once. Which side is first to end its half differs: the other
// half must go on.
func (t *tlsBench) bulk() {
	for _, proxy := range []string{"plain", "https"} {
		t.r.check("tunnel/64 MiB both ways, client ends first, "+proxy+" listener", t.bulkThrough(proxy, false))
		t.r.check("tunnel/64 MiB both ways, destination ends first, "+proxy+" listener", t.bulkThrough(proxy, true))
	}
}

func (t *tlsBench) bulkThrough(proxy string, peerFirst bool) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close()
	peer := make(chan error, 1)
	go func() { peer <- bulkPeer(ln, peerFirst) }() // ends with ln or its deadline
	conn, err := t.tunnelTo(proxy, ln.Addr().String())
	if err != nil {
		return err
	}
	defer conn.Close()
	received := sha256.New()
	if peerFirst {
		err = both(
			func() error { return send(conn, random(1)) },
			func() error { return hashed(received, conn) })
		// The destination has ended its side, and must still get this.
		err = errors.Join(err, send(conn, strings.NewReader("last word")), conn.CloseWrite(), <-peer)
		return errors.Join(err, rightHash(received, random(2)), t.tunnelLogged(proxy, ln.Addr().String(), bulkSize+9, bulkSize))
	}
	err = both(
		func() error { return errors.Join(send(conn, random(1)), conn.CloseWrite()) },
		func() error { return hashed(received, conn) })
	return errors.Join(err, <-peer, rightHash(received, io.MultiReader(random(2), strings.NewReader("last word"))),
		t.tunnelLogged(proxy, ln.Addr().String(), bulkSize, bulkSize+9))
}

// bulkPeer is the tunnel's other end. The side that ends last says a last word that only a half-closed tunnel can pass.
func bulkPeer(ln net.Listener, first bool) error {
	conn, err := ln.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(40 * time.Second))
	half := conn.(halfCloser)
	received := sha256.New()
	if first {
		err = both(
			func() error { return errors.Join(send(conn, random(2)), half.CloseWrite()) },
			func() error { return hashed(received, conn) })
		return errors.Join(err, rightHash(received, io.MultiReader(random(1), strings.NewReader("last word"))))
	}
	err = both(
		func() error { return send(conn, random(2)) },
		func() error { return hashed(received, conn) })
	return errors.Join(err, send(conn, strings.NewReader("last word")), rightHash(received, random(1)))
}

// both runs the two at once and waits for them.
func both(a, b func() error) error {
	done := make(chan error, 1)
	go func() { done <- a() }() // ends with its connection's deadline
	return errors.Join(b(), <-done)
}

func send(w io.Writer, r io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, 64<<10))
	return err
}

func hashed(h hash.Hash, r io.Reader) error {
	_, err := io.Copy(h, r)
	return err
}

func rightHash(got hash.Hash, r io.Reader) error {
	expected := sha256.New()
	io.Copy(expected, r)
	if !bytes.Equal(got.Sum(nil), expected.Sum(nil)) {
		return errors.New("what came is not what was sent")
	}
	return nil
}

// tunnelTo opens a tunnel to a port through the listener of a proxy, over TLS where it has that.
func (t *tlsBench) tunnelTo(proxy, to string) (halfCloser, error) {
	plain, err := net.Dial("tcp", t.proxies[proxy].address)
	if err != nil {
		return nil, err
	}
	plain.SetDeadline(time.Now().Add(40 * time.Second))
	conn := plain.(halfCloser)
	if proxy == "https" {
		roots, err := t.pool()
		if err != nil {
			return nil, err
		}
		conn = tls.Client(plain, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"})
	}
	if _, err := io.WriteString(conn, "CONNECT "+to+" HTTP/1.1\r\nHost: "+to+"\r\n\r\n"); err != nil {
		return nil, err
	}
	// One byte at a time, for what follows the head is the tunnel's.
	m, err := readAnswer(bufio.NewReaderSize(byteReader{conn}, 16), "CONNECT")
	if err == nil {
		err = want("CONNECT", m.verdict(), "200/0")
	}
	return conn, err
}

// byteReader reads a byte at a time.
type byteReader struct{ r io.Reader }

func (o byteReader) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 1)]) }

// tunnelLogged waits for a tunnel's line in the access log and holds it to the bytes that passed.
func (t *tlsBench) tunnelLogged(proxy, to string, up, down int) error {
	return eventually(t.ctx, 8*time.Second, func() error { // below readTimeout, which ends a tunnel too
		text, err := os.ReadFile(filepath.Join(t.proxies[proxy].dir, "access.log"))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			var l struct {
				Method, URL  string
				ResponseCode int `json:"response_code"`
				Up           int `json:"request_bytes"`
				Down         int `json:"response_bytes"`
			}
			if json.Unmarshal([]byte(line), &l) == nil && l.Method == "CONNECT" && l.URL == to {
				return errors.Join(want("response_code", l.ResponseCode, 200), want("request_bytes", l.Up, up), want("response_bytes", l.Down, down))
			}
		}
		return fmt.Errorf("no line of the tunnel to %s", to)
	})
}

// renewing is a proxy whose certificates are renewed while requests run: clients reach it over TLS, with certificates
// of their own, and it reaches nginx with one.
type renewing struct {
	*tlsBench
	s      *sentry
	client tls.Certificate
	roots  *x509.CertPool
	quit   chan struct{}
	wg     sync.WaitGroup
	ok     atomic.Int64
	failed tally
}

func (t *tlsBench) renewals() {
	n := &renewing{tlsBench: t, quit: make(chan struct{})}
	if !t.r.check("renewal/starts", n.begin()) {
		return
	}
	defer n.s.kill()
	t.r.check("renewal/a client without a certificate is refused", n.refusesStrangers())
	for i := range 4 {
		n.wg.Go(func() { n.traffic(i%2 == 0) })
	}
	old, err := n.dial(&n.client)
	for range 3 {
		t.r.check("renewal/both certificates are in use after SIGHUP", errors.Join(err, n.renew()))
	}
	t.r.check("renewal/a key that does not fit leaves the old ones in use", n.misfit())
	if err == nil {
		t.r.check("renewal/a connection from before goes on", n.goesOn(old))
	}
	time.Sleep(200 * time.Millisecond) // more traffic, after the last of it
	close(n.quit)
	n.wg.Wait()
	t.r.check("renewal/no request failed", func() error {
		if failed := n.failed.all(); len(failed) > 0 || n.ok.Load() < 50 {
			return fmt.Errorf("%d requests succeeded; these failed: %v", n.ok.Load(), failed)
		}
		return nil
	}())
	t.r.check("renewal/exits 0", n.s.stop(stopLimit))
}

func (n *renewing) begin() (err error) {
	for _, name := range []string{"renewed-listener", "renewed-client"} {
		if _, err := n.ca.leaf(name); err != nil {
			return err
		}
	}
	if n.client, err = n.ca.leaf("sender"); err != nil {
		return err
	}
	if n.roots, err = n.pool(); err != nil {
		return err
	}
	config := strings.NewReplacer("acme.pem", "renewed-client.pem", "acme.key", "renewed-client.key").Replace(n.config)
	n.s, err = start(n.ctx, n.o, n.file("proxy-renewal"), config, "--listener-type", "https", "--listener-client-ca-file", n.file("ca.pem"),
		"--listener-cert-file", n.file("renewed-listener.pem"), "--listener-key-file", n.file("renewed-listener.key"))
	return err
}

func (n *renewing) tlsConfig(cert *tls.Certificate) *tls.Config {
	cfg := &tls.Config{RootCAs: n.roots, ServerName: "127.0.0.1"}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	return cfg
}

func (n *renewing) dial(cert *tls.Certificate) (*tls.Conn, error) {
	return tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", n.s.address, n.tlsConfig(cert))
}

func (n *renewing) request() string {
	to := n.sites["demands"].authority()
	return "POST http://" + to + "/ HTTP/1.1\r\nHost: " + to + "\r\nX-WhSentry-TLS: 1\r\nX-WhSentry-ClientCert: acme\r\nX-Case: renewal\r\nContent-Length: 2\r\n\r\nhi"
}

// refusesStrangers: in TLS 1.3 a client learns of it when it reads.
func (n *renewing) refusesStrangers() error {
	conn, err := n.dial(nil)
	if err != nil {
		return nil
	}
	defer conn.Close()
	if m, err := (&dialled{conn, bufio.NewReader(conn)}).ask(n.request()); err == nil {
		return fmt.Errorf("it was served: %s", m.verdict())
	}
	return nil
}

// traffic posts until quit, over one connection or over a new one each time.
func (n *renewing) traffic(keep bool) {
	proxy := &url.URL{Scheme: "https", Host: n.s.address}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: n.tlsConfig(&n.client), DisableKeepAlives: !keep}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	for {
		select {
		case <-n.quit:
			return
		case <-time.After(5 * time.Millisecond):
		}
		if err := n.postOne(client); err != nil {
			n.failed.add(err.Error())
			continue
		}
		n.ok.Add(1)
	}
}

func (n *renewing) postOne(client *http.Client) error {
	req, err := http.NewRequestWithContext(n.ctx, "POST", "http://"+n.sites["demands"].authority()+"/", strings.NewReader("hi"))
	if err != nil {
		return err
	}
	req.Header = http.Header{"X-Whsentry-Tls": {"1"}, "X-Whsentry-Clientcert": {"acme"}, "X-Case": {"renewal"}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != 200 {
		err = fmt.Errorf("%d: %s", resp.StatusCode, text)
	}
	return err
}

// renew replaces both certificates and waits until clients and nginx see the new ones, and only these.
func (n *renewing) renew() error {
	listener, err := n.ca.leaf("renewed-listener")
	if err != nil {
		return err
	}
	client, err := n.ca.leaf("renewed-client")
	if err != nil {
		return err
	}
	if err := n.s.signal(syscall.SIGHUP); err != nil {
		return err
	}
	if err := eventually(n.ctx, 15*time.Second, func() error { return n.shows(listener) }); err != nil {
		return err
	}
	const inARow = 20 // requests that were running may still come with the old one
	return eventually(n.ctx, 15*time.Second, func() error {
		seen := n.arrivals("renewal")
		if len(seen) < inARow {
			return errors.New("the traffic stands still")
		}
		for _, a := range seen[len(seen)-inARow:] {
			if err := want("serial number that nginx sees", strings.TrimLeft(a.get("X-Seen-Serial"), "0"), serial(client)); err != nil {
				return err
			}
		}
		return nil
	})
}

// shows connects and compares the listener's certificate.
func (n *renewing) shows(cert tls.Certificate) error {
	conn, err := n.dial(&n.client)
	if err != nil {
		return err
	}
	defer conn.Close()
	return want("serial number of the listener's", fmt.Sprintf("%X", conn.ConnectionState().PeerCertificates[0].SerialNumber), serial(cert))
}

func serial(cert tls.Certificate) string {
	c, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%X", c.SerialNumber)
}

// misfit leaves a listener's key that belongs to another certificate.
func (n *renewing) misfit() error {
	now, err := n.ca.leaf("renewed-listener")
	if err == nil {
		err = n.s.signal(syscall.SIGHUP)
	}
	if err == nil {
		err = eventually(n.ctx, 15*time.Second, func() error { return n.shows(now) })
	}
	if err != nil {
		return err
	}
	other, err := os.ReadFile(n.file("sender.key"))
	if err != nil {
		return err
	}
	err = errors.Join(os.WriteFile(n.file("renewed-listener.key"), other, 0o600), n.s.signal(syscall.SIGHUP),
		eventually(n.ctx, 15*time.Second, func() error {
			if !strings.Contains(n.s.output(), "renewed-listener.key") {
				return fmt.Errorf("nothing is logged of the key: %s", n.s.output())
			}
			return nil
		}))
	return errors.Join(err, n.shows(now))
}

func (n *renewing) goesOn(conn *tls.Conn) error {
	defer conn.Close()
	m, err := (&dialled{conn, bufio.NewReader(conn)}).ask(n.request())
	if err != nil {
		return err
	}
	return want("answer", m.verdict(), "200/0")
}
