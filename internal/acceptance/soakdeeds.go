//go:build linux

package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

// deed is one thing that is done to whsentry, and what must come of it: a verdict as "200/0", or "cut" for a response
// that is not whole, or "gone" where the client has left without waiting for one.
type deed struct {
	name   string
	weight int
	only   int // which of the proxies
	do     func(k *soaking, s *sentry, rng *rand.Rand) (outcome string, err error)
	want   string
}

const (
	tunnelProxy = iota
	mitmProxy
	anyProxy
)

// soakDeeds are in proportion to what they cost: whatever waits for a timeout is rare.
var soakDeeds = []deed{
	{"post", 200, anyProxy, kept("", 1000), "200/0"},
	{"post without a body", 20, anyProxy, kept("", 0), "200/0"},
	{"large upload", 10, anyProxy, kept("", 2<<20), "200/0"},
	{"chunked upload", 30, anyProxy, raw(func(k *soaking, _ *rand.Rand) string {
		return "POST http://" + k.destination + "/ HTTP/1.1\r\nHost: " + k.destination + "\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"186a0\r\n" + strings.Repeat("c", 100_000) + "\r\n0\r\n\r\n"
	}), "200/0"},
	{"expects 100", 20, anyProxy, raw(func(k *soaking, _ *rand.Rand) string {
		return strings.Replace(k.post(""), "\r\n", "\r\nExpect: 100-continue\r\n", 1)
	}), "200/0"},
	{"small response", 30, anyProxy, kept("size 60000", 10), "200/0"},
	{"large response", 20, anyProxy, kept("size 900000", 10), "200/0"},
	{"chunked response", 20, anyProxy, kept("chunked 700000", 10), "200/0"},
	{"slow response", 20, anyProxy, kept("wait 100", 10), "200/0"},
	{"dripping response", 10, anyProxy, kept("drip 50", 10), "200/0"},
	{"response that closes", 20, anyProxy, kept("close", 10), "200/0"},
	{"no response", 3, anyProxy, kept("hang", 10), "502/1004"},
	{"stalls early", 3, anyProxy, kept("stall 1000 500", 10), "502/1004"},
	{"stalls late", 3, anyProxy, once("stall 300000 200000"), "cut"},
	{"vanishes", 10, anyProxy, kept("vanish", 10), "502/1011"},
	{"cut early", 10, anyProxy, kept("cut-length 1000 500", 10), "502/1011"},
	{"cut late", 10, anyProxy, once("cut-length 300000 200000"), "cut"},
	{"chunks cut early", 10, anyProxy, kept("cut-chunked 500", 10), "502/1011"},
	{"chunks cut late", 10, anyProxy, once("cut-chunked 200000"), "cut"},
	{"reset", 10, anyProxy, kept("reset", 10), "502/1011"},
	{"reset early", 10, anyProxy, kept("reset 1000 500", 10), "502/1011"},
	{"reset late", 10, anyProxy, once("reset 300000 200000"), "cut"},
	{"reset amid an upload", 5, anyProxy, raw(func(k *soaking, _ *rand.Rand) string {
		return strings.TrimSuffix(strings.Replace(strings.ReplaceAll(k.post(""), k.destination, k.rude), "Content-Length: 2", "Content-Length: 2000000", 1), "hi") +
			strings.Repeat("b", 2_000_000)
	}), "502/1011"},
	{"garbage", 10, anyProxy, kept("garbage", 10), "502/1011"},
	{"two lengths", 10, anyProxy, kept("lengths", 10), "502/1011"},
	{"untidy", 10, anyProxy, kept("untidy", 10), "200/0"},
	{"too large", 5, anyProxy, kept("size 1048577", 10), "502/1008"},
	{"grows too large", 5, anyProxy, once("chunked 1200000"), "cut"},

	{"refused address", 30, anyProxy, toward("10.0.0.1"), "403/1000"},
	{"refused port", 10, anyProxy, toward("127.0.0.1:25"), "403/1013"},
	{"connection refused", 20, anyProxy, raw(func(k *soaking, _ *rand.Rand) string { return strings.ReplaceAll(k.post(""), k.destination, k.closed) }), "502/1006"},
	{"reset at once", 20, anyProxy, raw(func(k *soaking, _ *rand.Rand) string { return strings.ReplaceAll(k.post(""), k.destination, k.curt) }), "502/1006 502/1011"},
	{"new name", 50, anyProxy, named("n"), "200/0"},
	{"slow name", 20, anyProxy, named("slow"), "200/0"},
	{"name that cannot be resolved", 20, anyProxy, named("fail"), "502/1001"},
	{"name that nobody answers", 2, anyProxy, named("mute"), "502/1001"},
	{"no such name", 20, anyProxy, toward("nowhere.test"), "502/1001"},
	{"not absolute", 10, anyProxy, raw(func(*soaking, *rand.Rand) string { return "GET / HTTP/1.1\r\nHost: x\r\n\r\n" }), "400/1002"},
	{"no HTTP at all", 10, anyProxy, raw(func(*soaking, *rand.Rand) string { return "\x16\x03\x01\x02\x00\x01\r\n\r\n" }), "400/1002"},
	{"large head", 5, anyProxy, raw(func(*soaking, *rand.Rand) string {
		return "GET http://x.test/ HTTP/1.1\r\nX: " + strings.Repeat("x", 70_000) + "\r\n\r\n"
	}), "431/1012"},
	{"upload too large", 3, anyProxy, once5M, "413/1012"},

	{"over TLS", 60, anyProxy, secured((*soaking).secureHost, ""), "200/0"},
	{"over TLS, large response", 10, anyProxy, secured((*soaking).secureHost, "size 900000"), "200/0"},
	{"over TLS, vanishes", 10, anyProxy, secured((*soaking).secureHost, "vanish"), "502/1011"},
	{"over TLS, cut late", 10, anyProxy, secured((*soaking).secureHost, "cut-length 300000 200000"), "cut"},
	{"over TLS, no TLS there", 10, anyProxy, secured(func(k *soaking) string { return k.destination }, ""), "502/1005"},
	{"over TLS, not trusted", 10, anyProxy, secured(func(k *soaking) string { return k.stranger }, ""), "502/1007"},
	{"over TLS, handshake stalls", 2, anyProxy, secured(func(k *soaking) string { return k.stuck }, ""), "502/1004"},

	{"pipelined", 20, anyProxy, (*soaking).pipelined, "200/0"},
	{"client stalls in the head", 3, anyProxy, (*soaking).slowHead, "408/1017"},
	{"client stalls in the body", 3, anyProxy, (*soaking).slowBody, "408/1017"},
	{"client reads slowly", 10, anyProxy, (*soaking).slowReader, "200/0"},
	{"client does not read", 3, anyProxy, (*soaking).noReader, "gone"},
	{"client rests", 20, anyProxy, (*soaking).resting, "gone"},
	{"client leaves in the head", 20, anyProxy, leaves(func(k *soaking) string { return k.post("")[:20] }), "gone"},
	{"client leaves in the body", 20, anyProxy, leaves(func(k *soaking) string {
		return strings.TrimSuffix(strings.Replace(k.post(""), "Content-Length: 2", "Content-Length: 100000", 1), "hi") + strings.Repeat("b", 50_000)
	}), "gone"},
	{"client leaves while it waits", 20, anyProxy, leaves(func(k *soaking) string { return k.post("hang") }), "gone"},
	{"client leaves in the response", 20, anyProxy, leaves(func(k *soaking) string { return k.post("drip 100") }), "gone"},
	{"client leaves while it connects", 5, anyProxy, leaves(func(k *soaking) string {
		return strings.Replace(strings.ReplaceAll(k.post(""), k.destination, k.stuck), "\r\n", "\r\nX-WhSentry-TLS: 1\r\n", 1)
	}), "gone"},
	{"client leaves while a name is looked up", 5, anyProxy, leaves(func(k *soaking) string {
		return strings.ReplaceAll(k.post(""), k.destination, fmt.Sprintf("mute%d.hooks.test", rand.Uint64()))
	}), "gone"},

	{"tunnel", 40, tunnelProxy, (*soaking).tunnelled, "200/0"},
	{"tunnel, client resets", 20, tunnelProxy, (*soaking).tunnelReset, "gone"},
	{"tunnel, destination resets", 20, tunnelProxy, (*soaking).tunnelCut, "cut"},
	{"inspected tunnel, destination resets", 20, tunnelProxy, (*soaking).inspectedCut, "502/1011"},
	{"tunnel, idle", 3, tunnelProxy, (*soaking).tunnelIdle, "cut"},
	{"tunnel refused", 10, anyProxy, raw(func(*soaking, *rand.Rand) string {
		return "CONNECT 10.0.0.1:443 HTTP/1.1\r\nHost: 10.0.0.1:443\r\n\r\n"
	}), "403/1000"},
	{"tunnel to nobody", 10, tunnelProxy, raw(func(k *soaking, _ *rand.Rand) string {
		return "CONNECT " + k.closed + " HTTP/1.1\r\nHost: " + k.closed + "\r\n\r\n"
	}), "502/1006"},

	{"intercepted", 40, mitmProxy, intercepted(""), "200/0"},
	{"intercepted, large response", 10, mitmProxy, intercepted("size 900000"), "200/0"},
	{"intercepted, vanishes", 10, mitmProxy, intercepted("vanish"), "502/1011"},
	{"intercepted, cut late", 10, mitmProxy, intercepted("cut-chunked 200000"), "cut"},
	{"intercepted, no response", 3, mitmProxy, intercepted("hang"), "502/1004"},
	{"intercepted, no handshake", 10, mitmProxy, (*soaking).noHandshake, "gone"},
}

func (k *soaking) secureHost() string { return k.secure }

// outcomeOf is the verdict, or that the response is cut.
func outcomeOf(m *message, err error) (string, error) {
	switch {
	case m != nil && errors.Is(err, errCut):
		return "cut", nil
	case err != nil:
		return "", err
	}
	return m.verdict(), nil
}

// kept sends some requests over one connection, which is to go on whatever the destination does.
func kept(behave string, body int) func(*soaking, *sentry, *rand.Rand) (string, error) {
	return func(k *soaking, s *sentry, rng *rand.Rand) (string, error) {
		conn, err := dialReader(s.address)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		outcomes := map[string]bool{}
		last := ""
		for range 1 + rng.IntN(3) {
			if last, err = outcomeOf(conn.ask(strings.TrimSuffix(strings.Replace(k.post(behave), "Content-Length: 2", fmt.Sprint("Content-Length: ", body), 1), "hi") +
				strings.Repeat("b", body))); err != nil {
				return "", err
			}
			outcomes[last] = true
		}
		if len(outcomes) > 1 {
			return "", fmt.Errorf("outcomes %v on one connection", outcomes)
		}
		return last, nil
	}
}

// raw sends bytes over a connection of their own.
func raw(request func(*soaking, *rand.Rand) string) func(*soaking, *sentry, *rand.Rand) (string, error) {
	return func(k *soaking, s *sentry, rng *rand.Rand) (string, error) {
		return outcomeOf(ask(s.address, request(k, rng)))
	}
}

func once(behave string) func(*soaking, *sentry, *rand.Rand) (string, error) {
	return raw(func(k *soaking, _ *rand.Rand) string { return k.post(behave) })
}

// toward is a request for a host.
func toward(host string) func(*soaking, *sentry, *rand.Rand) (string, error) {
	return raw(func(*soaking, *rand.Rand) string {
		return "GET http://" + host + "/ HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
	})
}

// named is a request for a name that was not asked for before.
func named(kind string) func(*soaking, *sentry, *rand.Rand) (string, error) {
	return raw(func(k *soaking, rng *rand.Rand) string {
		_, port, _ := net.SplitHostPort(k.destination)
		return strings.ReplaceAll(k.post(""), k.destination, fmt.Sprintf("%s%d.hooks.test:%s", kind, rng.Uint64(), port))
	})
}

// once5M is an upload over the limit; the answer may come before all of it is sent.
func once5M(k *soaking, s *sentry, _ *rand.Rand) (string, error) {
	conn, err := dialReader(s.address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(conn, strings.TrimSuffix(strings.Replace(k.post(""), "Content-Length: 2", "Content-Length: 5000000", 1), "hi")+strings.Repeat("b", 100_000))
	return outcomeOf(readAnswer(conn.br, "POST"))
}

// secured is a request that the proxy sends over TLS.
func secured(host func(*soaking) string, behave string) func(*soaking, *sentry, *rand.Rand) (string, error) {
	return raw(func(k *soaking, _ *rand.Rand) string {
		return strings.Replace(strings.ReplaceAll(k.post(behave), k.destination, host(k)), "\r\n", "\r\nX-WhSentry-TLS: 1\r\n", 1)
	})
}

// connect opens a tunnel to a destination.
func (k *soaking) connect(s *sentry, host string) (*dialled, error) {
	conn, err := dialReader(s.address)
	if err != nil {
		return nil, err
	}
	m, err := conn.ask("CONNECT " + host + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
	if err == nil {
		err = want("CONNECT", m.verdict(), "200/0")
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// intercepted sends a request inside a tunnel that is intercepted.
func intercepted(behave string) func(*soaking, *sentry, *rand.Rand) (string, error) {
	return func(k *soaking, s *sentry, _ *rand.Rand) (string, error) {
		conn, err := k.connect(s, k.secure)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		inside := tls.Client(conn, &tls.Config{RootCAs: k.roots, ServerName: "127.0.0.1"})
		if err := inside.Handshake(); err != nil {
			return "", err
		}
		d := &dialled{inside, bufio.NewReader(inside)}
		return outcomeOf(d.ask("POST / HTTP/1.1\r\nHost: " + k.secure + "\r\nX-Behave: " + behave + "\r\nContent-Length: 2\r\n\r\nhi"))
	}
}
