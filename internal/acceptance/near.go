//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// inside is the proxy's side: whsentry with its default configuration, the client, and canaries.
type inside struct {
	ctx      context.Context
	o        options
	s        *sentry
	canaries tally           // connections to anything of the proxy's own machine
	allowed  map[string]bool // addresses that may have been connected to
	number   int             // makes names unique
}

// muteLimit is how long a request may take while one of its name's two queries is never answered: far above what it
// takes, on a busy machine too, and far below the 10 s after which a look-up is given up.
const muteLimit = 3 * time.Second

// near checks from inside its namespace that nothing but public addresses is ever connected to.
func near(ctx context.Context, o options) *report {
	r := &report{name: "netns"}
	n := &inside{ctx: ctx, o: o, allowed: map[string]bool{far4: true, far6: true}}
	canary, err := net.Listen("tcp", "[::]:80")
	if !r.check("netns/canary listens", err) {
		return r
	}
	local := newOrigin(nil)
	local.listen(countedListener{canary, &n.canaries})
	defer local.close()
	r.check("netns/the canary sings", n.canarySings())

	n.s, err = launch(o, filepath.Join(o.scratch, "proxy"), "")
	if err == nil {
		n.s.address, n.s.metrics = "127.0.0.1:9090", "127.0.0.1:2112"
		err = n.s.ready(ctx)
	}
	if !r.check("netns/whsentry starts with nothing set", err) {
		return r
	}
	defer n.s.kill()
	for _, address := range publicAddresses {
		n.allowed[netip.MustParseAddr(address).Unmap().String()] = true
		r.check("public/"+address, n.reached(address))
	}
	for _, address := range refusedAddresses {
		r.check("refused/"+address, n.refused(address))
	}
	for _, t := range spellings {
		r.check("spelling/"+t.host, n.spelled(t.host, t.verdict))
	}
	n.names(r)
	n.rebinding(r)
	n.appears(r)
	n.explains(r)
	r.check("netns/no forbidden address was connected to", n.silent())
	r.check("netns/exits 0", n.s.stop(stopLimit))
	return r
}

// canarySings makes sure that a connection would be seen: on both sides, to a forbidden address too.
func (n *inside) canarySings() error {
	for _, address := range []string{"127.0.0.1", "::1", near4, near6, "10.0.0.1", "169.254.169.254", "fd00:ec2::254"} {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, "80"), 5*time.Second)
		if err != nil {
			return err
		}
		conn.Close()
	}
	return eventually(n.ctx, 5*time.Second, func() error { // the last ones are yet to be accepted
		hits, err := counts(n.o, "/hits")
		if err != nil {
			return err
		}
		for _, address := range []string{"10.0.0.1", "169.254.169.254", "fd00:ec2::254"} {
			if hits[address] != 1 {
				return fmt.Errorf("the far canary on %s counted %d connections; want 1", address, hits[address])
			}
		}
		if own := n.canaries.all(); len(own) != 4 {
			return fmt.Errorf("the near canary heard %v; want its four addresses", own)
		}
		return nil
	})
}

// silent compares what all canaries heard with what canarySings made them hear.
func (n *inside) silent() error {
	hits, err := counts(n.o, "/hits")
	if err != nil {
		return err
	}
	sung := map[string]int{"10.0.0.1": 1, "169.254.169.254": 1, "fd00:ec2::254": 1}
	var heard []string
	for address, count := range hits {
		if !n.allowed[address] && count > sung[address] {
			heard = append(heard, fmt.Sprintf("%s (%d times)", address, count-sung[address]))
		}
	}
	for address, count := range n.canaries.all() {
		if count != 1 {
			heard = append(heard, fmt.Sprintf("the proxy's own %s (%d times)", address, count-1))
		}
	}
	if len(heard) > 0 {
		return fmt.Errorf("connected to: %s", strings.Join(heard, ", "))
	}
	if hits[far4] < 100 || hits[far6] < 10 {
		return fmt.Errorf("the public server saw only %d and %d connections, so this shows nothing", hits[far4], hits[far6])
	}
	return nil
}

// get asks for http://HOST/ on a connection that the destination closes, so that the next one is a new one.
func (n *inside) get(host string) (*message, error) {
	return ask(n.s.address, "GET http://"+host+"/ HTTP/1.1\r\nHost: "+host+"\r\nX-Behave: close\r\n\r\n")
}

func (n *inside) connect(host string) (*message, error) {
	return ask(n.s.address, "CONNECT "+host+":80 HTTP/1.1\r\nHost: "+host+":80\r\n\r\n")
}

func bracketed(address string) string {
	if strings.Contains(address, ":") {
		return "[" + address + "]"
	}
	return address
}

// reached holds a public address to being connected to, by literal, by name, and by CONNECT.
func (n *inside) reached(address string) error {
	n.number++
	expected := " at " + netip.MustParseAddr(address).Unmap().String() + "\n"
	hosts := []string{bracketed(address)}
	if !strings.HasPrefix(address, "::ffff:") {
		hosts = append(hosts, nameFor("all", n.number, address))
	}
	for _, host := range hosts {
		answer, err := n.get(host)
		if err != nil {
			return fmt.Errorf("GET %s: %w", host, err)
		}
		if answer.verdict() != "200/0" || !strings.HasSuffix(string(answer.Body), expected) {
			return fmt.Errorf("GET %s: %s %q; want 200/0 from %s", host, answer.verdict(), answer.Body, address)
		}
		if answer, err = n.connect(host); err != nil {
			return fmt.Errorf("CONNECT %s: %w", host, err)
		}
		if err := want("CONNECT "+host, answer.verdict(), "200/0"); err != nil {
			return err
		}
	}
	return nil
}

// refused holds an address to 403 and 1000 by literal, by name, by an alias, over TLS and by CONNECT.
func (n *inside) refused(address string) error {
	n.number++
	text := "IP " + address + " is blocked"
	hosts := []string{bracketed(address), nameFor("all", n.number, address), nameFor("cname", n.number, address)}
	for i, host := range hosts {
		if i > 0 && strings.HasPrefix(address, "::ffff:") {
			continue // what a resolver makes of an AAAA record with a mapped address is its own
		}
		requests := []string{
			"GET http://" + host + "/ HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
			"POST https://" + host + "/ HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 2\r\n\r\n{}",
			"POST http://" + host + ":80/ HTTP/1.1\r\nHost: " + host + ":80\r\nX-WhSentry-TLS: true\r\nContent-Length: 2\r\n\r\n{}",
			"CONNECT " + host + ":80 HTTP/1.1\r\nHost: " + host + ":80\r\n\r\n",
		}
		for _, request := range requests {
			line, _, _ := strings.Cut(request, "\r\n")
			answer, err := ask(n.s.address, request)
			if err != nil {
				return fmt.Errorf("%s: %w", line, err)
			}
			if answer.verdict() != "403/1000" || string(answer.Body) != text+"\n" || answer.get("X-WhSentry-Reason") != text {
				return fmt.Errorf("%s: %s %q; want 403/1000 %q", line, answer.verdict(), answer.Body, text)
			}
			if strings.HasPrefix(line, "CONNECT") && answer.Start != "HTTP/1.1 403 "+text+" (1000)" {
				return fmt.Errorf("%s: status line %q; want the reason and its code in it", line, answer.Start)
			}
		}
	}
	return nil
}

// spelled holds a host as written in a URI, plainly and by CONNECT, to a verdict.
func (n *inside) spelled(host, verdict string) error {
	for _, send := range []func(string) (*message, error){n.get, n.connect} {
		answer, err := send(host)
		if err != nil {
			return err
		}
		if err := want("verdict", answer.verdict(), verdict); err != nil {
			return fmt.Errorf("%w (%s)", err, bytes.TrimSpace(answer.Body))
		}
	}
	return nil
}

// names checks what resolution adds to literals.
func (n *inside) names(r *report) {
	verdict := func(host, expected string) error { return n.spelled(host, expected) }
	r.check("names/hosts file, public", verdict("public.hosts.example", "200/0"))
	r.check("names/hosts file, private", verdict("private.hosts.example", "403/1000"))
	r.check("names/localhost", errors.Join(verdict("localhost", "403/1000"), verdict("LocalHost", "403/1000"), verdict("localhost.", "403/1000")))
	r.check("names/does not exist", verdict("nowhere.test", "502/1001"))
	r.check("names/search domains are not used", verdict(strings.TrimSuffix(nameFor("all", 1, far4), ".test"), "502/1001"))
	r.check("names/trailing dot", verdict(nameFor("all", 2, far4)+".", "200/0"))
	r.check("names/alias of a public name", verdict(nameFor("cname", 3, far4), "200/0"))
	r.check("names/both families public", verdict(nameFor("all", 4, far4, far6), "200/0"))
	r.check("names/IPv6 only", verdict(nameFor("all", 5, far6), "200/0"))
	for i, mixed := range [][]string{
		{"10.0.0.1", far4}, {far4, "127.0.0.1"}, {"169.254.169.254", far6}, {"fd00:ec2::254", far4}, {"::1", "192.168.0.1", far6},
		{"10.0.0.1", "10.0.0.2", "10.0.0.3", far4, "::1", "fe80::1", "127.0.0.1"},
	} {
		r.check(fmt.Sprintf("mixed/%s", strings.Join(mixed, "+")), func() error {
			for round := range 20 {
				if err := verdict(nameFor("zero", 100*i+round, mixed...), "200/0"); err != nil {
					return err
				}
			}
			return nil
		}())
	}
	r.check("mixed/all private", verdict(nameFor("all", 6, "10.0.0.1", "fd00:ec2::254", "127.0.0.1"), "403/1000"))
	for _, kind := range []string{"mute6", "mute4"} {
		address := map[string]string{"mute6": far4, "mute4": far6}[kind]
		r.check("names/"+kind+" does not delay", func() error {
			began := time.Now()
			answer, err := n.get(nameFor(kind, 7, address))
			if err != nil {
				return err
			}
			if took := time.Since(began); took > muteLimit {
				return fmt.Errorf("%s after %v; want an answer soon after 50 ms", answer.verdict(), took)
			}
			return want("verdict", answer.verdict(), "200/0")
		}())
	}
	r.check("names/a redirect to the metadata address is passed on, not followed", func() error {
		answer, err := ask(n.s.address, "GET http://"+far4+"/ HTTP/1.1\r\nHost: "+far4+"\r\nX-Behave: redirect http://169.254.169.254/\r\n\r\n")
		if err != nil {
			return err
		}
		return want("verdict", answer.verdict(), "302/0")
	}())
	r.check("names/a Host that differs changes nothing", func() error {
		answer, err := ask(n.s.address, "GET http://"+far4+"/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
		if err != nil {
			return err
		}
		return want("verdict", answer.verdict(), "200/0")
	}())
	for _, routed := range []string{"9.9.9.78", "2a00:1450:77::78"} { // ours by a route, on no interface
		r.check("own/a route to "+routed, n.ip("route", "add", "local", routed, "dev", "lo"))
	}
	for _, own := range []string{"127.0.0.1:2112", "[::1]:2112", near4 + ":9090", "[" + near6 + "]:2112", "localhost:9090",
		"9.9.9.78:9090", "9.9.9.78:2112", "[2a00:1450:77::78]:9090", "[2a00:1450:77::78]:2112"} {
		r.check("own/"+own, func() error {
			answer, err := n.get(own)
			if err != nil {
				return err
			}
			return want("verdict", answer.verdict(), "403/1000")
		}())
	}
}

// rebinding asks for names whose answer alternates between a public and a forbidden address: every request must
// be let through to the public one, or refused.
func (n *inside) rebinding(r *report) {
	for i, forbidden := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", near4, "::1", "fd00:ec2::254", near6} {
		public := far4
		if strings.Contains(forbidden, ":") {
			public = far6
		}
		r.check("rebinding/"+forbidden, n.rebind(nameFor("flip", i, public, forbidden), 300, 1))
		r.check("rebinding/"+forbidden+" by many at once", n.rebind(nameFor("flip", 100+i, forbidden, public), 40, 8))
	}
}

func (n *inside) rebind(name string, rounds, clients int) error {
	var verdicts tally
	errs := make([]error, clients)
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := range rounds {
				send := n.get
				if i%3 == 2 {
					send = n.connect
				}
				answer, err := send(name)
				if err != nil {
					errs[c] = err
					return
				}
				verdicts.add(answer.verdict())
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	all := verdicts.all()
	total := rounds * clients
	if all["200/0"]+all["403/1000"] != total {
		return fmt.Errorf("verdicts %v; want 200/0 and 403/1000 only", all)
	}
	if least := total / 10; all["200/0"] < least || all["403/1000"] < least {
		return fmt.Errorf("verdicts %v; want at least %d of each, or this shows nothing", all, least)
	}
	return n.asked(name, rounds)
}

// asked holds the number of look-ups of a name with TTL 0 to the number of requests that one client made.
func (n *inside) asked(name string, least int) error {
	queries, err := counts(n.o, "/queries")
	if err != nil {
		return err
	}
	if most := max(queries[name+". A"], queries[name+". AAAA"]); most < least {
		return fmt.Errorf("%d look-ups for %d requests, one after the other, though its TTL is 0", most, least)
	}
	return nil
}

// appears gives the proxy's machine a public address while it runs: it must be refused within 10 s.
func (n *inside) appears(r *report) {
	for address, size := range map[string]string{"9.9.9.77": "/32", "2a00:1450:77::77": "/128"} {
		n.allowed[address] = true
		r.check("own/"+address+" appears later", func() error {
			if err := n.reached(address); err != nil {
				return fmt.Errorf("before it is ours: %w", err)
			}
			n.canaries.add(address) // an address of our own from now on
			if err := n.ip("addr", "add", address+size, "dev", "lo"); err != nil {
				return err
			}
			time.Sleep(10 * time.Second) // what is promised is the latest moment, so there is nothing to wait for
			return n.refused(address)
		}())
	}
}

func (n *inside) ip(args ...string) error {
	if out, err := exec.CommandContext(n.ctx, "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// explains holds `whsentry explain` to the same verdicts.
func (n *inside) explains(r *report) {
	for _, t := range []struct {
		url  string
		code int
	}{
		{"http://" + far4 + "/", 0}, {"http://[" + far6 + "]/", 0}, {"http://" + nameFor("all", 8, far4) + "/", 0},
		{"http://10.0.0.1/", 3}, {"http://[::ffff:127.0.0.1]/", 3}, {"http://" + nameFor("all", 9, "10.0.0.1") + "/", 3},
		{"http://" + near4 + "/", 3}, {"http://2130706433/", 3}, {"ftp://" + far4 + "/", 3}, {"http://" + far4 + ":25/", 3},
		{"http://nowhere.test/", 4},
	} {
		r.check("explain/"+t.url, func() error {
			ctx, cancel := context.WithTimeout(n.ctx, 30*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, n.o.whsentry, "explain", t.url)
			cmd.Dir = n.o.scratch
			out, err := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != t.code {
				return fmt.Errorf("exit code %d (%v); want %d: %s", code, err, t.code, out)
			}
			return nil
		}())
	}
}
