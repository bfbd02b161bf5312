package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"whsentry/guard"
	"whsentry/proxy"
)

// canary is a listener on every address of this host, inside ones all, that nobody may reach.
type canary struct {
	t    *testing.T
	port int
	hits atomic.Int64
}

func newCanary(t *testing.T) *canary {
	t.Helper()
	ln, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	c := &canary{t: t, port: ln.Addr().(*net.TCPAddr).Port}
	done := make(chan struct{})
	go func() { // ends with the listener
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			c.hits.Add(1)
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
		c.check()
	})
	return c
}

// check fails the test where somebody came.
func (c *canary) check() {
	c.t.Helper()
	if n := c.hits.Swap(0); n != 0 {
		c.t.Errorf("got %d connections to an inside address; want none", n)
	}
}

// at returns host with the canary's port.
func (c *canary) at(host string) string { return fmt.Sprintf("%s:%d", host, c.port) }

// guarded is a proxy that may reach nothing on this host.
func guarded(t *testing.T) *sentry {
	return start(t, func(_ *proxy.Config, g *guard.Config) { g.AllowList = nil })
}

// spelling is a way to write an inside address, and what the proxy says to it: the address in its one form, or ""
// where it is no host at all.
type spelling struct{ host, address string }

// insideAddresses are addresses in the strict form, which are refused for what they are.
var insideAddresses = []spelling{
	{"127.0.0.1", "127.0.0.1"}, {"127.0.0.2", "127.0.0.2"}, {"127.255.255.254", "127.255.255.254"}, {"0.0.0.0", "0.0.0.0"}, {"0.1.2.3", "0.1.2.3"},
	{"10.0.0.1", "10.0.0.1"}, {"172.16.0.1", "172.16.0.1"}, {"172.31.255.255", "172.31.255.255"}, {"192.168.0.1", "192.168.0.1"},
	{"100.64.0.1", "100.64.0.1"}, {"100.127.255.255", "100.127.255.255"}, {"169.254.0.1", "169.254.0.1"},
	{"169.254.169.254", "169.254.169.254"}, {"169.254.170.2", "169.254.170.2"}, {"100.100.100.200", "100.100.100.200"},
	{"168.63.129.16", "168.63.129.16"}, {"192.0.0.192", "192.0.0.192"}, {"192.0.0.1", "192.0.0.1"}, {"192.0.2.1", "192.0.2.1"},
	{"198.18.0.1", "198.18.0.1"}, {"198.19.255.255", "198.19.255.255"}, {"198.51.100.1", "198.51.100.1"}, {"203.0.113.1", "203.0.113.1"},
	{"192.88.99.1", "192.88.99.1"}, {"224.0.0.1", "224.0.0.1"}, {"239.255.255.255", "239.255.255.255"}, {"240.0.0.1", "240.0.0.1"}, {"255.255.255.255", "255.255.255.255"},

	{"[::1]", "::1"}, {"[::]", "::"}, {"[0:0:0:0:0:0:0:1]", "::1"}, {"[0000:0000:0000:0000:0000:0000:0000:0001]", "::1"}, {"[::0:1]", "::1"}, {"[::0.0.0.1]", "::1"},
	{"[::ffff:127.0.0.1]", "::ffff:127.0.0.1"}, {"[::FFFF:7f00:1]", "::ffff:127.0.0.1"}, {"[0:0:0:0:0:ffff:127.0.0.1]", "::ffff:127.0.0.1"},
	{"[::ffff:10.0.0.1]", "::ffff:10.0.0.1"}, {"[::ffff:169.254.169.254]", "::ffff:169.254.169.254"}, {"[::ffff:0.0.0.0]", "::ffff:0.0.0.0"},
	{"[::ffff:0:127.0.0.1]", "::ffff:0:7f00:1"}, {"[::127.0.0.1]", "::7f00:1"}, {"[::7f00:1]", "::7f00:1"}, {"[::a00:1]", "::a00:1"},
	{"[64:ff9b::127.0.0.1]", "64:ff9b::7f00:1"}, {"[64:ff9b::7f00:1]", "64:ff9b::7f00:1"}, {"[64:FF9B::A9FE:A9FE]", "64:ff9b::a9fe:a9fe"}, {"[64:ff9b:1::1]", "64:ff9b:1::1"},
	{"[2002:7f00:1::]", "2002:7f00:1::"}, {"[2002:a00:1::1]", "2002:a00:1::1"}, {"[2001::1]", "2001::1"}, {"[2001:0:7f00:1::]", "2001:0:7f00:1::"},
	{"[fe80::1]", "fe80::1"}, {"[febf::1]", "febf::1"}, {"[fec0::1]", "fec0::1"}, {"[fc00::1]", "fc00::1"}, {"[fd00:ec2::254]", "fd00:ec2::254"}, {"[FD00::2]", "fd00::2"},
	{"[ff02::1]", "ff02::1"}, {"[ff0e::1]", "ff0e::1"}, {"[2001:db8::1]", "2001:db8::1"}, {"[3fff::1]", "3fff::1"}, {"[5f00::1]", "5f00::1"}, {"[100::1]", "100::1"},
	{"[2001:2::1]", "2001:2::1"}, {"[2001:10::1]", "2001:10::1"}, {"[4000::1]", "4000::1"}, {"[::fffe:7f00:1]", "::fffe:7f00:1"},
}

// disguises are inside addresses as other parsers read them; to the proxy they are malformed.
var disguises = []string{
	"2130706433", "0x7f000001", "0X7F000001", "017700000001", "0x7f.1", "0x7f.0.0.1", "0x7f.0x0.0x0.0x1", "0177.0.0.1", "0177.0.0.01", "00177.0.0.1", "127.1", "127.0.1",
	"127.0.0.01", "127.0.0.1.", "127.00.0.1", "127.0.0.0x1", "0", "0.0", "0x0", "0x", "1.0x", "127.0.0.1..", ".127.0.0.1", "127..0.1", "127.0.0.1.1", "256.0.0.1", "127.0.0.257",
	"4294967295", "4294967296", "18446744073709551617", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "169.16689662", "a.2130706433", "a.0x7f000001", "a.1",
	"127%2e0%2e0%2e1", "%31%32%37.0.0.1", "127.0.0.1%00.example.com", "localhos%74", "127.0.0.1%23.example.com",
	"\xe2\x91\xa0\xe2\x91\xa1\xe2\x91\xa6.\xe2\x93\xaa.\xe2\x93\xaa.\xe2\x91\xa0", "\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1", "127\xe3\x80\x820\xe3\x80\x820\xe3\x80\x821",
	"\xef\xbd\x8cocalhost", "local\xc2\xadhost", "\xd9\xa1\xd9\xa2\xd9\xa7.0.0.1", "lo\xe2\x80\x8bcalhost", "\xe2\x93\x81ocalhost",
	"[::1%25lo]", "[::1%lo]", "[fe80::1%25eth0]", "[::1%250]", "[127.0.0.1]", "[localhost]", "[::ffff:0177.0.0.1]", "[::ffff:127.1]", "[::ffff:2130706433]", "[::00001]", "[:::1]", "[1]", "[]",
	"[::1].", "[::1].example.com", "[[::1]]", "[::1", "::1]", "::1", "[v1.::1]", "[0x0::1]", "[::1]127.0.0.1", "127.0.0.1[::1]",
	"user@127.0.0.1", "user:pass@127.0.0.1", "@127.0.0.1", "example.com@127.0.0.1", "127.0.0.1@example.com", "example.com#@127.0.0.1", "example.com\\@127.0.0.1", "127.0.0.1\\@example.com",
	"example.com,127.0.0.1", "127.0.0.1,example.com", "127.0.0.1;example.com", "127.0.0.1&example.com", "127.0.0.1|a", "127.0.0.1*", "$127.0.0.1", "(127.0.0.1)", "'127.0.0.1'", "127.0.0.1!",
	"127.0.0.1\\.example.com", "\\127.0.0.1", "127.0.0.1:80:", "127.0.0.1:80@example.com", "127.0.0.1:+", "127.0.0.1:-", "",
}

// request is a way to ask for a host; %[1]s is the host with the port.
var ssrfRequests = []struct{ name, raw string }{
	{"plain", "GET http://%[1]s/ HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"with a body", "POST http://%[1]s/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"},
	{"asking first", "POST http://%[1]s/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"},
	{"https", "GET https://%[1]s/ HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"over TLS", "GET http://%[1]s/ HTTP/1.1\r\nHost: a\r\nX-WhSentry-TLS: true\r\n\r\n"},
	{"of 1.0", "GET http://%[1]s/ HTTP/1.0\r\n\r\n"},
	{"of the server", "OPTIONS http://%[1]s HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"CONNECT", "CONNECT %[1]s HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"CONNECT of 1.0", "CONNECT %[1]s HTTP/1.0\r\n\r\n"},
	{"CONNECT and bytes behind", "CONNECT %[1]s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n\x16\x03\x01"},
}

// refused asks for authority in every way, and checks each answer: 403 with 1000 for an address, and otherwise 400 with
// 1002.
func (c *canary) refused(t *testing.T, s *sentry, authority, address string) {
	t.Helper()
	for _, q := range ssrfRequests {
		conn := s.dial()
		conn.send(fmt.Sprintf(q.raw, authority))
		r := conn.receiveRefusable(q.raw[:strings.IndexByte(q.raw, ' ')])
		conn.Close()
		status, code, reason := 400, "1002", ""
		if address != "" {
			status, code, reason = 403, "1000", "IP "+address+" is blocked"
		}
		text := r.header.Get("X-Whsentry-Reason")
		if r.code() != status || r.reason() != code || reason != "" && text != reason || r.body != text+"\n" {
			t.Errorf("%s, %s: got %s, %s, %q; want %d, %s, %q", authority, q.name, r.status, r.reason(), r.body, status, code, reason)
		}
		if want := fmt.Sprint(status, " ", text, " (", code, ")"); strings.HasPrefix(q.name, "CONNECT") && r.status != want {
			t.Errorf("%s, %s: got the status line %q; want %q", authority, q.name, r.status, want)
		}
	}
	c.check()
}

func TestInsideAddresses(t *testing.T) {
	t.Parallel()
	s, c := guarded(t), newCanary(t)
	for _, inside := range insideAddresses {
		c.refused(t, s, c.at(inside.host), inside.address)
	}
}

// TestOwnAddresses is about the addresses of this host's interfaces, whatever they are.
func TestOwnAddresses(t *testing.T) {
	t.Parallel()
	s, c := guarded(t), newCanary(t)
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			t.Fatalf("parse %s: %v", a, err)
		}
		c.refused(t, s, netip.AddrPortFrom(prefix.Addr(), uint16(c.port)).String(), prefix.Addr().String())
	}
}

func TestDisguisedAddresses(t *testing.T) {
	t.Parallel()
	s, c := guarded(t), newCanary(t)
	for _, host := range disguises {
		c.refused(t, s, c.at(host), "")
	}
}

// TestWhiteSpaceInAnAuthority is about what breaks the request line, after which the connection is closed.
func TestWhiteSpaceInAnAuthority(t *testing.T) {
	t.Parallel()
	s, c := guarded(t), newCanary(t)
	for _, host := range []string{"127.0.0.1 example.com", "127.0.0.1\texample.com", "127.0.0.1\x00example.com", "127.0.0.1\x0bexample.com", "example.com\r127.0.0.1", " 127.0.0.1", "127.0.0.1\x7f"} {
		c.refused(t, s, c.at(host), "")
	}
}

// resolving starts a resolver of whose answers each query takes the next, the last for ever. An answer is a list
// of addresses for both families. A name's two answers are sent together, with the one that has addresses first: a
// client that has one of them waits for the other only for moments.
func resolving(t *testing.T, answers map[string][][]string) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	type answer struct {
		to    dns.ResponseWriter
		reply *dns.Msg
	}
	asked, held := make(map[string]int), make(map[string]answer)
	started, ended := make(chan struct{}), make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }}
	var turn = make(chan struct{}, 1) // holds asked and held together
	server.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		turn <- struct{}{}
		defer func() { <-turn }()
		question := q.Question[0]
		name := strings.ToLower(question.Name)
		reply := new(dns.Msg).SetReply(q)
		list := answers[name]
		if list == nil {
			reply.Rcode = dns.RcodeNameError
			w.WriteMsg(reply)
			return
		}
		key := fmt.Sprint(name, question.Qtype)
		for _, address := range list[min(asked[key], len(list)-1)] {
			reply.Answer = append(reply.Answer, record(question, address)...)
		}
		asked[key]++
		first, second := answer{w, reply}, held[name]
		if second.to == nil || second.reply.Question[0].Qtype == question.Qtype {
			held[name] = first
			return
		}
		delete(held, name)
		if len(first.reply.Answer) == 0 || question.Qtype == dns.TypeAAAA && len(second.reply.Answer) > 0 {
			first, second = second, first
		}
		first.to.WriteMsg(first.reply)
		second.to.WriteMsg(second.reply)
	})
	go func() { // ends with Shutdown
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

// record is an address as an answer to q, with a TTL of 0, where it is of the family that q asks for.
func record(q dns.Question, address string) []dns.RR {
	header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET}
	ip := net.ParseIP(address)
	switch v6 := strings.Contains(address, ":"); {
	case v6 && q.Qtype == dns.TypeAAAA:
		return []dns.RR{&dns.AAAA{Hdr: header, AAAA: ip}}
	case !v6 && q.Qtype == dns.TypeA:
		return []dns.RR{&dns.A{Hdr: header, A: ip}}
	}
	return nil
}

// TestNamesOfInsideAddresses is about names that lead inside.
func TestNamesOfInsideAddresses(t *testing.T) {
	t.Parallel()
	c := newCanary(t)
	names := map[string]struct {
		addresses []string
		refused   string
	}{
		"loopback.test.":   {[]string{"127.0.0.1"}, "127.0.0.1"},
		"private.test.":    {[]string{"10.0.0.1"}, "10.0.0.1"},
		"metadata.test.":   {[]string{"169.254.169.254"}, "169.254.169.254"},
		"unspecified.test": {[]string{"0.0.0.0"}, "0.0.0.0"},
		"six.test.":        {[]string{"::1"}, "::1"},
		"mapped.test.":     {[]string{"::ffff:127.0.0.1"}, "::ffff:127.0.0.1"},
		"nat64.test.":      {[]string{"64:ff9b::7f00:1"}, "64:ff9b::7f00:1"},
		"compatible.test.": {[]string{"::7f00:1"}, "::7f00:1"},
		"ula.test.":        {[]string{"fd00:ec2::254"}, "fd00:ec2::254"},
		"two.test.":        {[]string{"127.0.0.2", "127.0.0.2"}, "127.0.0.2"},
		"under_score.test": {[]string{"127.0.0.1"}, "127.0.0.1"},
		"1.2.3.4.test.":    {[]string{"127.0.0.1"}, "127.0.0.1"},
	}
	answers := make(map[string][][]string)
	for name, n := range names {
		answers[dns.Fqdn(name)] = [][]string{n.addresses}
	}
	resolver := resolving(t, answers)
	s := start(t, func(_ *proxy.Config, g *guard.Config) {
		g.AllowList, g.DNSServers = nil, []netip.AddrPort{resolver}
	})
	for name, n := range names {
		host := strings.TrimSuffix(name, ".")
		for _, spelt := range []string{host, host + ".", strings.ToUpper(host)} {
			c.refused(t, s, c.at(spelt), n.refused)
		}
	}
	for _, spelt := range []string{"localhost", "LOCALHOST", "LocalHost."} {
		conn := s.dial()
		conn.send("GET http://" + c.at(spelt) + "/ HTTP/1.1\r\nHost: a\r\n\r\n")
		if r := conn.receive("GET"); r.code() != 403 || r.reason() != "1000" {
			t.Errorf("%s: got %s, %s; want 403, 1000", spelt, r.status, r.reason())
		}
	}
	conn := s.dial()
	conn.send("GET http://" + c.at("nowhere.test") + "/ HTTP/1.1\r\nHost: a\r\n\r\n")
	if r := conn.receive("GET"); r.code() != 502 || r.reason() != "1001" {
		t.Errorf("a name that is not there: got %s, %s; want 502, 1001", r.status, r.reason())
	}
	c.check()
}

// TestMixedAnswers is about a name with allowed and refused addresses: the allowed ones alone are connected to.
func TestMixedAnswers(t *testing.T) {
	t.Parallel()
	o := answering(t, okResponse)
	_, port, _ := net.SplitHostPort(o.addr)
	other, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Skipf("no second loopback address: %v", err)
	}
	var hits atomic.Int64
	done := make(chan struct{})
	go func() { // ends with the listener
		defer close(done)
		for {
			conn, err := other.Accept()
			if err != nil {
				return
			}
			hits.Add(1)
			conn.Close()
		}
	}()
	resolver := resolving(t, map[string][][]string{"mixed.test.": {{"127.0.0.2", "::1", "127.0.0.1", "fe80::1", "10.0.0.1"}}})
	s := start(t, func(_ *proxy.Config, g *guard.Config) { g.DNSServers = []netip.AddrPort{resolver} })
	for range 10 {
		c := s.dial()
		c.send("GET http://mixed.test:" + port + "/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if r := c.receive("GET"); r.code() != 200 || r.body != "ok" {
			t.Errorf("got %s, %q; want 200, ok", r.status, r.body)
		}
	}
	other.Close()
	<-done
	if n := hits.Load(); n != 0 {
		t.Errorf("got %d connections to the refused address; want none", n)
	}
}

// TestRebinding is about a name that is an allowed address to the one who checks and a refused one to the one who
// connects: there is no second look-up.
func TestRebinding(t *testing.T) {
	t.Parallel()
	o := answeringOnce(t, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
	_, port, _ := net.SplitHostPort(o.addr)
	other, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Skipf("no second loopback address: %v", err)
	}
	var hits atomic.Int64
	done := make(chan struct{})
	go func() { // ends with the listener
		defer close(done)
		for {
			conn, err := other.Accept()
			if err != nil {
				return
			}
			hits.Add(1)
			conn.Close()
		}
	}()
	var turns [][]string
	for i := range 40 {
		turns = append(turns, []string{[]string{"127.0.0.1", "127.0.0.2"}[i%2]})
	}
	resolver := resolving(t, map[string][][]string{"rebind.test.": turns})
	s := start(t, func(cfg *proxy.Config, g *guard.Config) {
		g.DNSServers, g.DNSCacheTTL = []netip.AddrPort{resolver}, 0
	})
	var passed, refused int
	for range 20 {
		c := s.dial()
		c.send("GET http://rebind.test:" + port + "/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		switch r := c.receive("GET"); {
		case r.code() == 200 && r.body == "ok":
			passed++
		case r.code() == 403 && r.header.Get("X-Whsentry-Reason") == "IP 127.0.0.2 is blocked":
			refused++
		default:
			t.Errorf("got %s, %q; want ok, or 127.0.0.2 blocked", r.status, r.body)
		}
	}
	other.Close()
	<-done
	if hits.Load() != 0 || passed == 0 || refused == 0 {
		t.Errorf("got %d passed, %d refused, and %d connections to the refused address; want some, some and none", passed, refused, hits.Load())
	}
}

// TestDestinationsCannotLeadInside is about what an allowed destination says, and what a client says beside its URI.
func TestDestinationsCannotLeadInside(t *testing.T) {
	t.Parallel()
	c := newCanary(t)
	s := start(t, nil)
	inside := c.at("127.0.0.1")
	for _, status := range []string{"201 Created", "301 Moved", "302 Found", "303 See Other", "305 Use Proxy", "307 Temporary", "308 Permanent"} {
		fields := "Location: http://" + inside + "/\r\nRefresh: 0; url=http://" + inside + "/\r\nAlt-Svc: h1=\"" + inside + "\"\r\nLink: <http://" + inside + "/>; rel=preload\r\n"
		o := answering(t, "HTTP/1.1 103 Early Hints\r\n"+fields+"\r\nHTTP/1.1 "+status+"\r\n"+fields+"Content-Length: 0\r\n\r\n")
		conn := s.dial()
		conn.send("GET http://" + o.addr + "/ HTTP/1.1\r\nHost: " + inside + "\r\nX-Forwarded-Host: " + inside + "\r\nX-Original-URL: http://" + inside +
			"/\r\nForwarded: host=\"" + inside + "\"\r\nReferer: http://" + inside + "/\r\n\r\n")
		if head := conn.readHead(); !strings.HasPrefix(head, "HTTP/1.1 103 ") {
			t.Errorf("got %q; want the 103", head)
		}
		if r := conn.receive("GET"); r.status != status || r.header.Get("Location") != "http://"+inside+"/" {
			t.Errorf("got %s to %q; want %s as it came", r.status, r.header.Get("Location"), status)
		}
		if !strings.Contains(o.bytes(), "\r\nHost: "+o.addr+"\r\n") {
			t.Errorf("got %q; want the URI's Host", o.bytes())
		}
	}
	c.check()
}

// TestAddressIsJudgedBeforeThePool holds that a pooled connection is no way around a guard that has changed.
func TestAddressIsJudgedBeforeThePool(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	c := s.dial()
	c.send(get(o, "/"))
	if r := c.receive("GET"); r.code() != 200 {
		t.Fatalf("got %s; want 200", r.status)
	}
	if err := s.reload(func(_ *proxy.Config, g *guard.Config) {
		g.DenyList = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	}); err != nil {
		t.Fatalf("reload: %v", err)
	}
	c.send(get(o, "/2"))
	if r := c.receive("GET"); r.code() != 403 || r.reason() != "1000" {
		t.Errorf("got %s, %s; want 403, 1000", r.status, r.reason())
	}
	if strings.Contains(o.bytes(), "/2") {
		t.Error("got the request at the refused destination; want it refused")
	}
}
