package e2e

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/policy"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
)

const (
	billingToken = "b-token"
	crmToken     = "c-token"
)

// client is an entry of clients with one token.
func client(name, token string, change func(c *policy.ClientConfig)) policy.ClientConfig {
	c := policy.ClientConfig{Name: name}
	if token != "" {
		c.Tokens = []string{policy.HashToken(token)}
	}
	if change != nil {
		change(&c)
	}
	return c
}

func clientsOf(list ...policy.ClientConfig) policy.Config { return policy.Config{Clients: list} }

func bearer(token string) string { return "Proxy-Authorization: Bearer " + token + "\r\n" }

func basic(name, token string) string {
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+token)) + "\r\n"
}

// with adds fields to a request.
func with(request, fields string) string {
	return strings.Replace(request, "\r\n", "\r\n"+fields, 1)
}

func connect(addr, fields string) string {
	return "CONNECT " + addr + " HTTP/1.1\r\nHost: " + addr + "\r\n" + fields + "\r\n"
}

func withJSONLog(cfg *proxy.Config, _ *guard.Config) { cfg.AccessLog.Type = accesslog.JSON }

// TestClientIsKnown tells clients by their tokens and addresses, and refuses whoever is none.
func TestClientIsKnown(t *testing.T) {
	t.Parallel()
	o := answering(t, okResponse)
	rules := clientsOf(client("billing", billingToken, nil), client("crm", crmToken, nil))
	s := startRuled(t, rules, nil, withJSONLog)
	for _, tt := range []struct{ name, fields, status, reason, client string }{
		{"bearer", bearer(billingToken), "200 OK", "", "billing"},
		{"basic", basic("crm", crmToken), "200 OK", "", "crm"},
		{"none", "", "407 Proxy Authentication Required", "1016", ""},
		{"wrong", bearer("x"), "407 Proxy Authentication Required", "1016", ""},
		{"another's name", basic("billing", crmToken), "407 Proxy Authentication Required", "1016", ""},
		{"two", bearer(billingToken) + bearer(billingToken), "407 Proxy Authentication Required", "1016", ""},
		{"another scheme", "Proxy-Authorization: Digest " + billingToken + "\r\n", "407 Proxy Authentication Required", "1016", ""},
	} {
		r := s.exchangeFor(t, with(get(o, "/"+tt.name[:3]), tt.fields))
		r.check(t, tt.status, tt.reason)
		if tt.reason == "1016" && r.header.Get("Proxy-Authenticate") != `Basic realm="whsentry"` {
			t.Errorf("%s: got Proxy-Authenticate %q", tt.name, r.header.Get("Proxy-Authenticate"))
		}
	}
	if strings.Contains(o.bytes(), "Authorization") {
		t.Errorf("a credential has reached the destination: %q", o.bytes())
	}
	if n := o.requestCount("GET"); n != 2 {
		t.Errorf("got %d requests at the destination; want 2", n)
	}
	if lines := s.jsonLines(7); lines[0]["client"] != "billing" || lines[1]["client"] != "crm" || lines[2]["client"] != nil {
		t.Errorf("got clients %v, %v, %v in the log", lines[0]["client"], lines[1]["client"], lines[2]["client"])
	}
	s.waitMetric(`whsentry_client_requests_total{client="billing",reason="0"}`, "1")
	s.waitMetric(`whsentry_client_requests_total{client="",reason="1016"}`, "5")
}

// TestClientRefusedStays asks again on the same connection, the body of the first request dropped.
func TestClientRefusedStays(t *testing.T) {
	t.Parallel()
	o := answering(t, okResponse)
	s := startRuled(t, clientsOf(client("billing", billingToken, nil)), nil, nil)
	body := pattern(200_000)
	for _, request := range []string{post(o, "/", body), postChunked(o, "/", body, 1000)} {
		c := s.dial()
		c.send(request)
		c.receive("POST").check(t, "407 Proxy Authentication Required", "1016")
		c.send(with(request, bearer(billingToken)))
		c.receive("POST").check(t, "200 OK", "")
		c.send(connect(o.addr, ""))
		c.receive("CONNECT").check(t, "407 the client is not known, or its credential is wrong (1016)", "1016")
		c.send(connect(o.addr, bearer(billingToken)))
		if head := c.readHead(); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
			t.Errorf("got %q; want a tunnel", head)
		}
	}
	if n := o.requestCount("POST"); n != 2 {
		t.Errorf("got %d requests at the destination; want 2", n)
	}
}

// TestClientWithoutTokens is answered 403: there is nothing to ask for.
func TestClientWithoutTokens(t *testing.T) {
	t.Parallel()
	o := answering(t, okResponse)
	far := client("far", "", func(c *policy.ClientConfig) { c.Addresses = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	s := startRuled(t, clientsOf(far), nil, nil)
	r := s.exchange(get(o, "/"))
	r.check(t, "403 Forbidden", "1016")
	if r.header.Get("Proxy-Authenticate") != "" {
		t.Errorf("got a Proxy-Authenticate; want none")
	}
	if o.connections() != 0 {
		t.Errorf("the destination was connected to")
	}
}

// TestClientOrderOfRefusals holds the order of SPEC section 6 in front of what follows.
func TestClientOrderOfRefusals(t *testing.T) {
	t.Parallel()
	o := answering(t, okResponse)
	one := 1
	billing := client("billing", billingToken, func(c *policy.ClientConfig) { c.AllowHosts = []string{"ok.example"} })
	slow := client("slow", crmToken, func(c *policy.ClientConfig) { c.RequestsPerSecond = &one })
	s := startRuled(t, clientsOf(billing, slow), nil, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxRequestBodySize = 10 })
	s.exchange(with(get(o, "/"), bearer(crmToken))).check(t, "200 OK", "")
	for _, tt := range []struct{ name, request, reason string }{
		{"framing before the client", with(get(o, "/"), "Content-Length: 1\r\nContent-Length: 2\r\n"), "1002"},
		{"the client before the URI", "GET /x HTTP/1.1\r\nHost: x\r\n\r\n", "1016"},
		{"the client's limit before the URI", "GET /x HTTP/1.1\r\nHost: x\r\n" + bearer(crmToken) + "\r\n", "1020"},
		{"the URI", "GET /x HTTP/1.1\r\nHost: x\r\n" + bearer(billingToken) + "\r\n", "1002"},
		{"the port before the rules", "GET http://no.example:25/ HTTP/1.1\r\nHost: x\r\n" + bearer(billingToken) + "\r\n", "1013"},
		{"the rules before the alias", "GET https://no.example/ HTTP/1.1\r\nHost: x\r\nX-WhSentry-ClientCert: nope\r\n" + bearer(billingToken) + "\r\n", "1019"},
		{"the alias before the body", "POST https://ok.example/ HTTP/1.1\r\nHost: x\r\nX-WhSentry-ClientCert: nope\r\nContent-Length: 11\r\n" + bearer(billingToken) + "\r\n01234567890", "1010"},
		{"the body before the address", with(post(o, "/", "01234567890"), bearer(crmToken)), "1020"},
		{"1019 before the address", with(get(o, "/"), bearer(billingToken)), "1019"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.reason == "1020" { // whose rate has room again after a second
				eventually(t, "1020", func() bool { return s.exchangeFor(t, tt.request).reason() == "1020" })
				return
			}
			if r := s.exchangeFor(t, tt.request); r.reason() != tt.reason {
				t.Errorf("got %s %s (%s); want %s", r.status, r.reason(), r.header.Get("X-Whsentry-Reason"), tt.reason)
			}
		})
	}
}

// TestClientReport lets through what the rules are against, and says so.
func TestClientReport(t *testing.T) {
	t.Parallel()
	o := answering(t, okResponse)
	s := startRuled(t, clientsOf(client("trial", billingToken, func(c *policy.ClientConfig) {
		c.Mode, c.DenyHosts = "report", []string{"127.0.0.1"}
	})), nil, withJSONLog)
	s.exchange(with(get(o, "/"), bearer(billingToken))).check(t, "200 OK", "")
	if line := s.jsonLines(1)[0]; line["would_deny"] != 1019.0 {
		t.Errorf("got would_deny %v; want 1019", line["would_deny"])
	}
	s.waitMetric(`whsentry_would_deny_total{client="trial"}`, "1")
}

// TestClientLimits refuses what is over a client's own limits, tunnels counted, and nobody else's.
func TestClientLimits(t *testing.T) {
	t.Parallel()
	two := 2
	s := startRuled(t, clientsOf(
		client("billing", billingToken, func(c *policy.ClientConfig) { c.MaxConnections = &two }), client("crm", crmToken, nil),
	), nil, nil)
	release := make(chan struct{})
	o := responding(t, func(c *originConn, body string) bool {
		if body == "wait" {
			<-release
		}
		_, err := io.WriteString(c, okResponse)
		return err == nil
	})
	tunnel := s.dial()
	tunnel.send(connect(o.addr, bearer(billingToken)))
	tunnel.readHead()
	waiting := s.dial()
	waiting.send(with(post(o, "/", "wait"), bearer(billingToken)))
	s.waitMetric(busyConnections, "2")
	r := s.exchange(with(get(o, "/"), bearer(billingToken)))
	r.check(t, "429 Too Many Requests", "1020")
	if r.header.Get("Retry-After") == "" {
		t.Errorf("got no Retry-After")
	}
	s.exchange(with(get(o, "/"), bearer(crmToken))).check(t, "200 OK", "")
	close(release)
	waiting.receive("POST").check(t, "200 OK", "")
	c := s.dial()
	for range 50 { // one after the other never meet
		c.send(with(get(o, "/"), bearer(billingToken)))
		c.receive("GET").check(t, "200 OK", "")
	}
	s.waitMetric(`whsentry_limit_reached_total{limit="clients.maxConnections"}`, "1")
}

// TestClientUnknownRestsShortly holds a connection that has shown no client to clientTimeout, and no other.
func TestClientUnknownRestsShortly(t *testing.T) {
	t.Parallel()
	o := answering(t, okResponse)
	s := startRuled(t, clientsOf(client("billing", billingToken, nil)), nil, func(cfg *proxy.Config, _ *guard.Config) {
		cfg.ClientTimeout = time.Second
	})
	silent, refused, known := s.dial(), s.dial(), s.dial()
	known.send(with(get(o, "/"), bearer(billingToken)))
	known.receive("GET").check(t, "200 OK", "")
	refused.send(get(o, "/"))
	refused.receive("GET").check(t, "407 Proxy Authentication Required", "1016")
	silent.waitEnd()
	refused.waitEnd()
	known.send(with(get(o, "/"), bearer(billingToken)))
	known.receive("GET").check(t, "200 OK", "")
}

// TestClientsAllowListIsItsOwn is a canary: the address that one client's cidrAllowList opens stays shut for everybody
// else, on connections of their own, on kept ones to the destination, on the same client connection, and in tunnels.
func TestClientsAllowListIsItsOwn(t *testing.T) {
	t.Parallel()
	o := answering(t, okResponse)
	s := startRuled(t, clientsOf(
		client("billing", billingToken, func(c *policy.ClientConfig) { c.AllowList = []netip.Prefix{loopback} }), client("crm", crmToken, nil),
	), nil, func(_ *proxy.Config, g *guard.Config) { g.AllowList = nil })
	c := s.dial()
	for range 3 {
		c.send(with(get(o, "/billing"), bearer(billingToken)))
		c.receive("GET").check(t, "200 OK", "")
		c.send(with(get(o, "/crm"), bearer(crmToken)))
		c.receive("GET").check(t, "403 Forbidden", "1000")
		s.exchange(with(get(o, "/crm"), bearer(crmToken))).check(t, "403 Forbidden", "1000")
	}
	if n := o.connections(); n != 1 {
		t.Errorf("got %d connections; want 1, which its client kept", n)
	}
	c.send(connect(o.addr, bearer(crmToken)))
	if r := c.receive("CONNECT"); r.reason() != "1000" {
		t.Fatalf("got %s; want 1000", r.status)
	}
	c.send(connect(o.addr, bearer(billingToken)))
	if head := c.readHead(); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
		t.Fatalf("got %q; want a tunnel", head)
	}
	if strings.Contains(o.bytes(), "/crm") {
		t.Errorf("what nobody may reach was reached")
	}
}

// TestClientReload takes rights away: from the next request on a kept connection, and from opaque tunnels at once.
func TestClientReload(t *testing.T) {
	t.Parallel()
	o := echoing(t)
	a := answering(t, okResponse)
	s := startRuled(t, clientsOf(client("billing", billingToken, nil), client("crm", crmToken, nil)), nil, nil)
	kept, gone, stays := s.dial(), s.dial(), s.dial()
	kept.send(with(get(a, "/"), bearer(billingToken)))
	kept.receive("GET").check(t, "200 OK", "")
	gone.send(connect(o.addr, bearer(billingToken)))
	gone.readHead()
	stays.send(connect(o.addr, bearer(crmToken)))
	stays.readHead()
	s.policy = clientsOf(client("crm", crmToken, nil))
	s.mustReload(nil)
	gone.waitEnd()
	stays.send("hello")
	if b := make([]byte, 5); true {
		if _, err := io.ReadFull(stays.r, b); err != nil || string(b) != "hello" {
			t.Errorf("got %q, %v from the tunnel that stays", b, err)
		}
	}
	kept.send(with(get(a, "/"), bearer(billingToken)))
	kept.receive("GET").check(t, "407 Proxy Authentication Required", "1016")
	s.policy = clientsOf(client("crm", crmToken, func(c *policy.ClientConfig) { c.AllowHosts = []string{"else.example"} }))
	s.mustReload(nil)
	stays.waitEnd()
}

// TestWithoutClients drops what would be a credential, unread.
func TestWithoutClients(t *testing.T) {
	t.Parallel()
	o := answering(t, okResponse)
	s := start(t, nil)
	s.exchange(with(get(o, "/"), bearer("x")+bearer("y"))).check(t, "200 OK", "")
	if strings.Contains(o.bytes(), "Authorization") {
		t.Errorf("it has reached the destination")
	}
}

// TestBreaker refuses a destination that could not be reached, lets one request try it again, and counts per scheme.
func TestBreaker(t *testing.T) {
	t.Parallel()
	_, refusing := boundSocket(t)
	o := answering(t, okResponse)
	rules := policy.Config{Breaker: policy.BreakerConfig{Failures: 2, OpenFor: 2 * time.Second}}
	s := startRuled(t, rules, nil, nil)
	request := "GET http://" + refusing + "/ HTTP/1.1\r\nHost: x\r\n\r\n"
	for range 2 {
		s.exchange(request).check(t, "502 Bad Gateway", "1006")
	}
	r := s.exchange(request)
	r.check(t, "503 Service Unavailable", "1018")
	if wait := r.header.Get("Retry-After"); wait != "1" && wait != "2" {
		t.Errorf("got Retry-After %q; want 1 or 2", wait)
	}
	s.waitMetric("whsentry_breakers_open", "1")
	s.exchange(get(o, "/")).check(t, "200 OK", "")
	c := s.dial()
	c.send(connect(refusing, ""))
	if r := c.receive("CONNECT"); r.reason() != "1006" {
		t.Errorf("got %s; want 1006, for a tunnel has a breaker of its own", r.status)
	}
	eventually(t, "the one that tries", func() bool { return s.exchange(request).reason() == "1006" })
	s.exchange(request).check(t, "503 Service Unavailable", "1018")
}

// A breaker is asked when the connection is wanted, however long ago the CONNECT was: what is begun without TLS under mitm
// is connected for only then.
func TestBreakerAfterAPause(t *testing.T) {
	t.Parallel()
	const openFor = 300 * time.Millisecond
	const upgrade = "GET /chat HTTP/1.1\r\nHost: anything\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	_, refusing := boundSocket(t)
	s := startMITM(t, root, issuer, nil)
	s.policy = policy.Config{Breaker: policy.BreakerConfig{Failures: 1, OpenFor: openFor}}
	s.mustReload(nil)
	var clients [2]*rawConn
	for i := range clients {
		clients[i] = s.dial()
		clients[i].open(refusing, "")
	}
	clients[0].send(upgrade)
	clients[0].waitEnd()
	s.waitMetric("whsentry_breakers_open", "1")
	time.Sleep(openFor) // it is to pass
	clients[1].send(upgrade)
	clients[1].waitEnd()
	for _, line := range s.logLines(2) {
		if !strings.Contains(line, " CONNECT "+refusing+" 200 ") || !strings.Contains(line, " 1006 ") {
			t.Errorf("got the line %q; want 200, and 1006 for what came of it", line)
		}
	}
}

// TestDestinationsLimits hold for the hosts of the entry alone.
func TestDestinationsLimits(t *testing.T) {
	t.Parallel()
	o := answering(t, withLength(pattern(2000)))
	_, port, _ := strings.Cut(o.addr, ":")
	small, one := int64(1000), 1
	var number int
	fmt.Sscan(port, &number)
	rules := policy.Config{Destinations: []policy.DestinationConfig{{
		Hosts: []string{"127.0.0.1"}, Ports: []int{number}, MaxResponseBodySize: &small, MaxConnections: &one, AllowList: []netip.Prefix{loopback},
	}}}
	s := startRuled(t, rules, nil, func(_ *proxy.Config, g *guard.Config) { g.AllowList = nil })
	s.exchange(get(o, "/")).check(t, "502 Bad Gateway", "1008")
	s.waitMetric(`whsentry_limit_reached_total{limit="destinations.maxResponseBodySize"}`, "1")
	other := answering(t, okResponse)
	s.exchange(get(other, "/")).check(t, "403 Forbidden", "1000")
	tunnel := s.dial()
	tunnel.connectTo(o)
	s.exchange(get(o, "/")).check(t, "503 Service Unavailable", "1014")
	s.waitMetric(`whsentry_limit_reached_total{limit="destinations.maxConnections"}`, "1")
}

// TestCallerDeadline shortens, and is the caller's own doing.
func TestCallerDeadline(t *testing.T) {
	t.Parallel()
	silent := swallowing(t)
	quick := answering(t, okResponse)
	half := responding(t, func(c *originConn, _ string) bool {
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"+pattern(80_000))
		io.Copy(io.Discard, c.r)
		return err == nil
	})
	s := start(t, nil)
	deadline := func(d string) string { return "X-WhSentry-Timeout: " + d + "\r\n" }
	c := s.dial()
	for range 2 {
		c.send(with(post(silent, "/", "x"), deadline("100ms")))
		r := c.receive("POST")
		r.check(t, "502 Bad Gateway", "1004")
		r.checkText(t, "the caller's deadline")
		if source, delivered := r.header.Get("X-Whsentry-Source"), r.header.Get("X-Whsentry-Delivered"); source != "client" || delivered != "maybe" {
			t.Errorf("got source %q and delivered %q; want client and maybe", source, delivered)
		}
		c.send(with(get(quick, "/"), deadline("1m")))
		c.receive("GET").check(t, "200 OK", "")
	}
	for _, wrong := range []string{"", "1", "0s", "-1s", "soon"} {
		c.send(with(get(quick, "/"), deadline(wrong)))
		c.receive("GET").check(t, "400 Bad Request", "1002")
	}
	cut := s.dial()
	cut.send(with(get(half, "/"), deadline("300ms")))
	resp, err := http.ReadResponse(bufio.NewReader(cut.Conn), &http.Request{Method: "GET"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != io.ErrUnexpectedEOF {
		t.Errorf("got %v; want a cut answer", err)
	}
	deaf := s.dial()
	deaf.send(with("GET http://"+deafAddress(t)+"/ HTTP/1.1\r\nHost: x\r\n\r\n", deadline("100ms")))
	deaf.receive("GET").checkText(t, "the caller's deadline")
	tunnel := s.dial()
	tunnel.send(connect(echoing(t).addr, deadline("100ms")))
	tunnel.readHead()
	time.Sleep(300 * time.Millisecond) // longer than the deadline, which was over when the tunnel stood
	tunnel.send("x")
	if b, err := tunnel.r.ReadByte(); err != nil || b != 'x' {
		t.Errorf("got %q, %v through the tunnel", b, err)
	}
}
