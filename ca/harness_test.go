package ca

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"net"
	"strings"
	"testing"
	"time"

	"whsentry/ca/catest"
)

const testHost = "hooks.example.com"

// testConfig returns a configuration that trusts roots beside the built-in ones, and downloads and keeps nothing.
func testConfig(t testing.TB, roots ...*catest.Authority) Config {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Bundle.File, cfg.Bundle.URL, cfg.WatchFiles = "", "", 0
	var pems []byte
	for _, r := range roots {
		pems = append(pems, r.PEM()...)
	}
	if pems != nil {
		cfg.Bundle.ExtraFile = catest.File(t, "extra.pem", pems)
	}
	return cfg
}

// newStore returns a Store that fails the test where it warns.
func newStore(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := New(cfg, Hooks{Warn: func(err error) { t.Errorf("New warns: %v", err) }})
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

func keyPairFiles(t testing.TB, c tls.Certificate) KeyPairFiles {
	t.Helper()
	certFile, keyFile := catest.Files(t, c)
	return KeyPairFiles{CertFile: certFile, KeyFile: keyFile}
}

// serve answers each connection to a new listener with handle, which owns the connection until it returns.
func serve(t testing.TB, handle func(net.Conn)) (port uint16) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			handle(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return uint16(ln.Addr().(*net.TCPAddr).Port)
}

// serveTLS greets each client that completes a handshake, and passes the server's view of it to seen.
func serveTLS(t testing.TB, cfg *tls.Config, seen func(tls.ConnectionState)) (port uint16) {
	t.Helper()
	return serve(t, func(conn net.Conn) { greet(conn, cfg, seen) })
}

// greet says "ok" over TLS.
func greet(conn net.Conn, cfg *tls.Config, seen func(tls.ConnectionState)) {
	server := tls.Server(conn, cfg)
	if server.Handshake() == nil {
		if seen != nil {
			seen(server.ConnectionState())
		}
		server.Write([]byte("ok"))
		server.CloseWrite()
	}
	io.Copy(io.Discard, conn) // until the client is done, or it may lose what was sent
}

func serveCertificate(t testing.TB, c tls.Certificate) (port uint16) {
	t.Helper()
	return serveTLS(t, &tls.Config{Certificates: []tls.Certificate{c}}, nil)
}

// dial connects as the proxy does and reads the server's greeting.
func dial(t testing.TB, s *Store, alias, host string, port uint16) (tls.ConnectionState, error) {
	t.Helper()
	return dialTimeout(t, s, alias, host, port, patience)
}

// patience is for what should take no time.
const patience = 10 * time.Second

func dialTimeout(t testing.TB, s *Store, alias, host string, port uint16, timeout time.Duration) (tls.ConnectionState, error) {
	t.Helper()
	return dialAs(t, s, Destination{Host: host, Port: port, Alias: alias}, timeout)
}

func dialAs(t testing.TB, s *Store, to Destination, timeout time.Duration) (tls.ConnectionState, error) {
	t.Helper()
	conn := connect(t, to.Port)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	client, err := s.Handshake(ctx, conn, to, nil)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	return client.ConnectionState(), readGreeting(client)
}

func connect(t testing.TB, port uint16) net.Conn {
	t.Helper()
	conn, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	return conn
}

func readGreeting(client *tls.Conn) error {
	client.SetDeadline(time.Now().Add(patience))
	greeting, err := io.ReadAll(client)
	if err == nil && !bytes.Equal(greeting, []byte("ok")) {
		err = errors.New("the server did not say ok")
	}
	return err
}

// checkError compares a handshake's error with what DescribeError should make of it; "" is no error.
func checkError(t *testing.T, err error, host string, wantCertificate bool, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("dial %s: got %v; want no error", host, err)
		}
		return
	}
	if err == nil {
		t.Errorf("dial %s: got no error; want %q", host, want)
		return
	}
	certificate, text := DescribeError(err, host)
	if certificate != wantCertificate || !strings.Contains(text, want) {
		t.Errorf("DescribeError(%v): got %v, %q; want %v, %q", err, certificate, text, wantCertificate, want)
	}
}

func unknownExtension(c *catest.Template) {
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}})
}

func asRoots(authorities ...*catest.Authority) []root {
	var roots []root
	for _, a := range authorities {
		roots = append(roots, root{cert: a.Certificate})
	}
	return roots
}

// quiet is for servers whose clients hang up.
var quiet = log.New(io.Discard, "", 0)
