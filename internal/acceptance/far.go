//go:build linux

package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// The two sides of the wire between the namespaces. The addresses are public ones, used inside them only.
const (
	far4, far6   = "8.8.9.1", "2a00:1450:9::1"
	near4, near6 = "8.8.9.2", "2a00:1450:9::2"
)

// tally counts by name.
type tally struct {
	mu sync.Mutex // guards n
	n  map[string]int
}

func (t *tally) add(name string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == nil {
		t.n = map[string]int{}
	}
	t.n[name]++
	return t.n[name]
}

func (t *tally) all() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := map[string]int{}
	for name, n := range t.n {
		all[name] = n
	}
	return all
}

// countedListener counts connections by the address that was connected to, a request sent or not.
type countedListener struct {
	net.Listener
	hits *tally
}

func (l countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.hits.add(hostOf(conn.LocalAddr()))
	}
	return conn, err
}

// far is the Internet: in its namespace every address there is leads to this one server on port 80, which counts
// connections by address, so that none goes unseen; and it is the name server. Counts are told over a Unix socket,
// which works across network namespaces.
func far(ctx context.Context, o options) *report {
	r := &report{name: "far"}
	var hits, queries tally
	held := pairs{first: map[string]func(){}}
	ln, err := net.Listen("tcp", "[::]:80")
	if !r.check("far/destination listens", err) {
		return r
	}
	server := newOrigin(nil)
	server.listen(countedListener{ln, &hits})
	defer server.close()
	names := dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) { answerQuery(pairedWriter{w, &held}, query, &queries) })
	for _, network := range []string{"udp", "tcp"} {
		started := make(chan struct{})
		s := &dns.Server{Addr: far4 + ":53", Net: network, Handler: names, NotifyStartedFunc: func() { close(started) }}
		go func() { // until Shutdown
			if err := s.ListenAndServe(); err != nil {
				r.check("far/name server", err)
			}
		}()
		defer s.Shutdown()
		<-started
	}
	socket, err := net.Listen("unix", o.control)
	if !r.check("far/control", err) {
		return r
	}
	control := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		counts := map[string]*tally{"/hits": &hits, "/queries": &queries}[req.URL.Path]
		json.NewEncoder(w).Encode(counts.all())
	})}
	go control.Serve(socket)
	<-ctx.Done()
	control.Close()
	return nil
}

// pairs holds the answer to the first of a name's two questions, A and AAAA, which are asked at once, until the second
// has come, and lets both go together: whsentry waits only 50 ms for the second answer, and what it does with the first
// one alone is not what names of the kind zero are for.
type pairs struct {
	mu    sync.Mutex // guards first
	first map[string]func()
}

func (p *pairs) answer(name string, send func()) {
	p.mu.Lock()
	first := p.first[name]
	if first == nil {
		p.first[name] = send
	} else {
		delete(p.first, name)
	}
	p.mu.Unlock()
	if first != nil {
		first()
		send()
	}
}

// pairedWriter sends answers of the kind zero in pairs.
type pairedWriter struct {
	dns.ResponseWriter
	pairs *pairs
}

func (w pairedWriter) WriteMsg(reply *dns.Msg) error {
	name := strings.ToLower(reply.Question[0].Name)
	if !strings.HasPrefix(name, "zero.") {
		return w.ResponseWriter.WriteMsg(reply)
	}
	w.pairs.answer(name, func() { w.ResponseWriter.WriteMsg(reply) })
	return nil
}

// answerQuery answers names of the form KIND.ADDRESS.ADDRESS...[.rNUMBER].test, each address in hex:
// all (every address, TTL 30), zero (the same, TTL 0), flip (one of them at a time, TTL 0), cname (an alias of all),
// mute4 and mute6 (all, but A or AAAA is never answered). No other name exists.
func answerQuery(w dns.ResponseWriter, query *dns.Msg, queries *tally) {
	reply := new(dns.Msg).SetReply(query)
	reply.RecursionAvailable = true
	q := query.Question[0]
	name := strings.ToLower(q.Name)
	kind, rest, _ := strings.Cut(strings.TrimSuffix(name, ".test."), ".")
	nth := queries.add(name + " " + dns.TypeToString[q.Qtype])
	addresses := addressesIn(rest, q.Qtype)
	header := dns.RR_Header{Name: q.Name, Class: dns.ClassINET, Rrtype: q.Qtype, Ttl: 30}
	switch kind {
	case "mute4", "mute6":
		if (q.Qtype == dns.TypeA) == (kind == "mute4") {
			return
		}
	case "cname":
		alias := header
		alias.Rrtype = dns.TypeCNAME
		header.Name = "all." + rest + ".test."
		reply.Answer = append(reply.Answer, &dns.CNAME{Hdr: alias, Target: header.Name})
	case "flip":
		header.Ttl = 0
		if len(addresses) > 0 {
			addresses = addresses[(nth-1)%len(addresses):][:1]
		}
	case "zero":
		header.Ttl = 0
	case "all":
	default:
		reply.Rcode = dns.RcodeNameError
	}
	if !strings.HasSuffix(name, ".test.") {
		reply.Rcode, addresses = dns.RcodeNameError, nil
	}
	for _, a := range addresses {
		if q.Qtype == dns.TypeA {
			reply.Answer = append(reply.Answer, &dns.A{Hdr: header, A: a.AsSlice()})
		} else {
			reply.Answer = append(reply.Answer, &dns.AAAA{Hdr: header, AAAA: a.AsSlice()})
		}
	}
	w.WriteMsg(reply)
}

// addressesIn are the addresses of one type that a name's hex parts stand for.
func addressesIn(parts string, qtype uint16) (found []netip.Addr) {
	size := map[uint16]int{dns.TypeA: 4, dns.TypeAAAA: 16}[qtype]
	for part := range strings.SplitSeq(parts, ".") {
		if raw, err := hex.DecodeString(part); err == nil && size > 0 && len(raw) == size {
			a, _ := netip.AddrFromSlice(raw)
			found = append(found, a)
		}
	}
	return found
}

// nameFor is a name of the given kind for some addresses; number makes it one that was not asked for before.
func nameFor(kind string, number int, addresses ...string) string {
	for _, a := range addresses {
		kind += "." + hex.EncodeToString(netip.MustParseAddr(a).AsSlice())
	}
	return kind + ".r" + strconv.Itoa(number) + ".test"
}

// counts asks the far side.
func counts(o options, path string) (map[string]int, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", o.control)
		},
	}}
	resp, err := client.Get("http://far" + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	found := map[string]int{}
	return found, json.NewDecoder(resp.Body).Decode(&found)
}
