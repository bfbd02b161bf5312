package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"whsentry/ca"
	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/listen"
)

// hooksHost is a name that is 127.0.0.1 to every proxy that startTLS starts, like all names that end in .test.
const hooksHost = "hooks.test"

// startTLS starts a proxy that trusts root and resolves names that end in .test to 127.0.0.1.
func startTLS(t *testing.T, root *catest.Authority, trust func(cfg *ca.Config), change func(cfg *proxy.Config, g *guard.Config)) *sentry {
	t.Helper()
	extra := catest.File(t, "extra.pem", root.PEM())
	resolver := startResolver(t)
	return startTrusting(t, func(cfg *ca.Config) {
		cfg.Bundle.ExtraFile = extra
		if trust != nil {
			trust(cfg)
		}
	}, func(cfg *proxy.Config, g *guard.Config) {
		g.DNSServers = []netip.AddrPort{resolver}
		if change != nil {
			change(cfg, g)
		}
	})
}

// startResolver serves DNS: 127.0.0.1 for names that end in .test, and no other names.
func startResolver(t *testing.T) netip.AddrPort {
	t.Helper()
	return serveDNS(t, func(reply *dns.Msg) {
		name := reply.Question[0].Name
		switch {
		case !strings.HasSuffix(strings.ToLower(name), ".test."):
			reply.Rcode = dns.RcodeNameError
		case reply.Question[0].Qtype == dns.TypeA:
			reply.Answer = []dns.RR{&dns.A{
				Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(127, 0, 0, 1)}}
		}
	})
}

// serveDNS is a name server whose replies answer completes.
func serveDNS(t *testing.T, answer func(reply *dns.Msg)) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	started, ended := make(chan struct{}), make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }}
	server.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		answer(reply)
		w.WriteMsg(reply)
	})
	go func() { // awaited below
		defer close(ended)
		server.ActivateAndServe()
	}()
	<-started
	t.Cleanup(func() {
		server.Shutdown()
		<-ended
	})
	return netip.MustParseAddrPort(conn.LocalAddr().String())
}

// tlsOrigin is an origin that speaks TLS. Its bytes are those on the wire; what was inside is kept by connection.
type tlsOrigin struct {
	*origin
	port   string
	seen   sync.Mutex // guards the following
	hellos []tls.ClientHelloInfo
	states []tls.ConnectionState
	inside []*recording
}

// tlsConn is a connection of a tlsOrigin, after the handshake.
type tlsConn struct {
	*tls.Conn
	tcp    *net.TCPConn
	wire   *packingConn
	number int
	r      *bufio.Reader
}

// serving is the configuration of a server with that certificate.
func serving(c tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{c}} }

// newTLSOrigin serves every connection that completes the handshake with serve.
func newTLSOrigin(t *testing.T, cfg *tls.Config, serve func(c *tlsConn)) *tlsOrigin {
	t.Helper()
	o := new(tlsOrigin)
	cfg = cfg.Clone()
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		o.seen.Lock()
		defer o.seen.Unlock()
		o.hellos = append(o.hellos, *hello)
		return nil, nil
	}
	o.origin = newOrigin(t, func(c *originConn) {
		wire := &packingConn{Conn: c.Conn, r: c.r}
		conn := tls.Server(wire, cfg)
		if conn.Handshake() != nil {
			return
		}
		o.seen.Lock()
		o.states = append(o.states, conn.ConnectionState())
		inside := &recording{mu: &o.seen}
		o.inside = append(o.inside, inside)
		o.seen.Unlock()
		serve(&tlsConn{Conn: conn, tcp: c.Conn.(*net.TCPConn), wire: wire, number: c.number, r: bufio.NewReader(io.TeeReader(conn, inside))})
	})
	_, o.port, _ = net.SplitHostPort(o.addr)
	return o
}

// answeringTLS answers every request with raw.
func answeringTLS(t *testing.T, cfg *tls.Config, raw string) *tlsOrigin {
	t.Helper()
	return newTLSOrigin(t, cfg, func(c *tlsConn) {
		for c.request() {
			if _, err := io.WriteString(c, raw); err != nil {
				return
			}
		}
	})
}

// request reads a whole request, and reports whether there was one.
func (c *tlsConn) request() bool {
	c.SetDeadline(time.Now().Add(patience))
	req, err := http.ReadRequest(c.r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

// state returns what the origin knows of its nth successful handshake, from 0.
func (o *tlsOrigin) state(n int) tls.ConnectionState {
	o.t.Helper()
	o.seen.Lock()
	defer o.seen.Unlock()
	if n >= len(o.states) {
		o.t.Fatalf("got %d handshakes at the origin; want at least %d", len(o.states), n+1)
	}
	return o.states[n]
}

func (o *tlsOrigin) handshakes() int {
	o.seen.Lock()
	defer o.seen.Unlock()
	return len(o.states)
}

// decrypted returns everything that was received inside TLS, connection after connection.
func (o *tlsOrigin) decrypted() string {
	o.seen.Lock()
	defer o.seen.Unlock()
	return recorded(o.inside)
}

// to returns host with the origin's port.
func (o *tlsOrigin) to(host string) string { return net.JoinHostPort(host, o.port) }

// packingConn reads from a reader of its connection's, and can hold back what is written, to send it as one packet.
type packingConn struct {
	net.Conn
	r      io.Reader
	packed []byte
	packs  bool
	sawEOF bool
}

func (p *packingConn) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.sawEOF = p.sawEOF || err == io.EOF
	return n, err
}

func (p *packingConn) Write(b []byte) (int, error) {
	if p.packs {
		p.packed = append(p.packed, b...)
		return len(b), nil
	}
	return p.Conn.Write(b)
}

// unpack sends what was held back.
func (p *packingConn) unpack() {
	p.packs = false
	p.Conn.SetWriteDeadline(time.Now().Add(patience)) // CloseWrite has let it pass
	p.Conn.Write(p.packed)
}

// overTLS is a POST that the proxy sends over TLS; fields are more header lines, each with its line end.
func overTLS(authority, path, body string, fields ...string) string {
	return fmt.Sprintf("POST http://%s%s HTTP/1.1\r\nHost: %s\r\nX-WhSentry-TLS: true\r\n%sContent-Length: %d\r\n\r\n%s",
		authority, path, authority, strings.Join(fields, ""), len(body), body)
}

// inOrigin is a POST in origin form, as it is sent inside a tunnel.
func inOrigin(authority, path, body string, fields ...string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n%s",
		path, authority, strings.Join(fields, ""), len(body), body)
}

// records returns the content types of the TLS records in the bytes of one direction of a connection.
func records(wire string) (types []byte) {
	for len(wire) >= 5 {
		types = append(types, wire[0])
		wire = wire[min(len(wire), 5+int(binary.BigEndian.Uint16([]byte(wire[3:5])))):]
	}
	return types
}

// clientConfig is that of a client of the proxy's which trusts root.
func clientConfig(root *catest.Authority, name string, certs ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: root.Pool(), ServerName: name, NextProtos: []string{"http/1.1"}, Certificates: certs}
}

// secure starts TLS on a client's connection to the proxy and fails the test where that fails.
func (c *rawConn) secure(cfg *tls.Config) *rawConn {
	c.t.Helper()
	conn := tls.Client(&packingConn{Conn: c.Conn, r: c.r}, cfg)
	if err := conn.Handshake(); err != nil {
		c.t.Fatalf("TLS handshake with the proxy: %v", err)
	}
	return &rawConn{t: c.t, Conn: conn, r: bufio.NewReader(conn)}
}

// open sends a CONNECT and returns its answer, which has no body where it is a 200.
func (c *rawConn) open(authority string, fields ...string) *response {
	c.t.Helper()
	c.send("CONNECT " + authority + " HTTP/1.1\r\nHost: " + authority + "\r\n" + strings.Join(fields, "") + "\r\n")
	return c.receiveConnect()
}

func (c *rawConn) receiveConnect() *response {
	c.t.Helper()
	const established = "HTTP/1.1 200 "
	if start, err := c.r.Peek(len(established)); err != nil || string(start) != established {
		return c.receive("CONNECT")
	}
	line, _, _ := strings.Cut(c.readHead(), "\r\n")
	return &response{status: strings.TrimPrefix(line, "HTTP/1.1 ")}
}

// intercepted opens a tunnel that is intercepted, and starts TLS in it.
func (c *rawConn) intercepted(issuer *catest.Authority, authority string, fields ...string) *rawConn {
	c.t.Helper()
	if r := c.open(authority, fields...); r.code() != http.StatusOK {
		c.t.Fatalf("got %q to a CONNECT; want 200", r.status)
	}
	host, _, _ := net.SplitHostPort(authority)
	return c.secure(clientConfig(issuer, strings.TrimSuffix(host, ".")))
}

// httpsListener makes the proxy's listener an https one with that certificate.
func httpsListener(t *testing.T, cfg *proxy.Config, cert tls.Certificate) {
	t.Helper()
	l := &cfg.Listeners[0]
	l.Type = listen.HTTPS
	l.CertFile, l.KeyFile = catest.Files(t, cert)
}

// keyPair writes a certificate and its key into files.
func keyPair(t *testing.T, c tls.Certificate) ca.KeyPairFiles {
	t.Helper()
	certFile, keyFile := catest.Files(t, c)
	return ca.KeyPairFiles{CertFile: certFile, KeyFile: keyFile}
}

// wholeLog returns the access log as it is now.
func (s *sentry) wholeLog() string {
	s.t.Helper()
	b, err := os.ReadFile(s.logFile)
	if err != nil {
		s.t.Fatalf("read the access log: %v", err)
	}
	return string(b)
}

// presented returns the common name of the certificate that a client has shown, "" for none.
func presented(state tls.ConnectionState) string {
	if len(state.PeerCertificates) == 0 {
		return ""
	}
	return state.PeerCertificates[0].Subject.CommonName
}

// tlsVersions are those that the contract has.
var tlsVersions = []struct {
	name    string
	version uint16
}{{"TLS 1.2", tls.VersionTLS12}, {"TLS 1.3", tls.VersionTLS13}}

// only returns cfg with version as the only one.
func only(cfg *tls.Config, version uint16) *tls.Config {
	cfg = cfg.Clone()
	cfg.MinVersion, cfg.MaxVersion = version, version
	return cfg
}

// demanding returns cfg as that of a server which demands a certificate by authority.
func demanding(cfg *tls.Config, authority *catest.Authority) *tls.Config {
	cfg = cfg.Clone()
	cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, authority.Pool()
	return cfg
}
