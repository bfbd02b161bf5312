//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const (
	soakWorkers = 48
	soakPause   = 30 * time.Millisecond // at most, between two deeds of a worker
	// soakHeapSlack and soakResidentSlack are by how much what whsentry holds at rest may have grown; soakResident is what
	// it may ever hold, with bodies of 2 MiB from every worker.
	soakHeapSlack     = 8 << 20
	soakResidentSlack = 64 << 20
	soakResident      = 512 << 20
)

// soaking is one run: two whsentrys, one with tunnels and one that intercepts, and all that can go wrong around them.
type soaking struct {
	*scarce
	configs  [2]string
	proxies  [2]*sentry
	stranger string // host:port over TLS, with a certificate that nobody trusts
	stuck    string // host:port that accepts and says nothing
	rude     string // host:port that resets once it has a part of a request
	curt     string // host:port that accepts and resets
	closed   string // host:port that refuses connections
	roots    *x509.CertPool
	closers  []func()

	done     atomic.Int64
	deeds    tally // by name
	wrong    tally // by name and outcome
	resident atomic.Int64
}

// soak does to whsentry what the Internet does, all at once and at random, for o.duration. Every outcome must be the one
// for what was done; and when it is over, whsentry must hold what it held at the start.
func soak(ctx context.Context, o options) *report {
	r := &report{name: "soak"}
	k, err := newSoaking(ctx, o, r)
	if k != nil {
		defer k.close()
	}
	if !r.check("soak/starts", err) {
		return r
	}
	fresh, err := k.rest()
	if !r.check("soak/rests at the start", err) {
		return r
	}
	k.run(min(max(o.duration/10, 5*time.Second), 30*time.Second))
	before, err := k.rest()
	if !r.check("soak/comes to rest when everything has happened once", err) {
		return r
	}
	for i := range before { // memory may be kept for what comes again, but nothing else
		before[i].goroutines, before[i].descriptors = fresh[i].goroutines, fresh[i].descriptors
	}
	k.done.Store(0)
	k.run(o.duration)
	after, err := k.rest()
	fmt.Printf("%d deeds in %v\n", k.done.Load(), o.duration)
	r.check("soak/every outcome is as it must be", k.asMeant())
	r.check("soak/everything was done", k.allDone())
	if r.check("soak/nothing is left open", err) {
		for i, name := range []string{"tunnel", "mitm"} {
			fmt.Printf("%s: at the start %v; at the end %v\n", name, before[i], after[i])
			r.check("soak/"+name+": what it holds is what it held at the start", k.shrinks(k.proxies[i], before[i], after[i]))
		}
	}
	r.check("soak/resident memory is bounded", k.bounded())
	r.check("soak/no bug has shown", k.noBug())
	for i, s := range k.proxies {
		r.check(fmt.Sprintf("soak/proxy %d exits 0", i), s.stop(stopLimit))
	}
	return r
}

func newSoaking(ctx context.Context, o options, r *report) (*soaking, error) {
	common, err := newScarce(ctx, o, r, answerSoak)
	if err != nil {
		return nil, err
	}
	k := &soaking{scarce: common, roots: x509.NewCertPool()}
	if err := k.destinations(); err != nil {
		return k, err
	}
	issuer, err := newAuthority(o.scratch, "issuer")
	if err != nil {
		return k, err
	}
	k.roots.AddCert(issuer.cert)
	config := strings.Replace(k.config(), "readTimeout: 3s", "readTimeout: 2s", 1)
	config = strings.Replace(config, "access.log", os.DevNull, 1) + "clientTimeout: 3s\nconnectTimeout: 3s\nconnectionLifetime: 10s\nmaxRequestBodySize: 4MiB\n"
	k.configs = [2]string{config, config + fmt.Sprintf("mitmIssuerCertFile: %s\nmitmIssuerKeyFile: %s\n",
		filepath.Join(o.scratch, "issuer.pem"), filepath.Join(o.scratch, "issuer.key"))}
	for i, name := range []string{"soak-tunnel", "soak-mitm"} {
		if k.proxies[i], err = start(ctx, o, filepath.Join(o.scratch, name), k.configs[i]); err != nil {
			return k, err
		}
	}
	return k, nil
}

// destinations starts those that newScarce has not.
func (k *soaking) destinations() error {
	unknown, err := newAuthority(k.o.scratch, "unknown")
	if err != nil {
		return err
	}
	leaf, err := unknown.leaf("stranger")
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	k.stranger = ln.Addr().String()
	k.origin.listen(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{leaf}}))
	if k.stuck, err = k.silent(-1); err != nil {
		return err
	}
	if k.rude, err = k.silent(100_000); err != nil {
		return err
	}
	if k.curt, err = k.silent(0); err != nil {
		return err
	}
	fd, closed, err := refusingAddress()
	if err != nil {
		return err
	}
	k.closed = closed
	k.closers = append(k.closers, func() { syscall.Close(fd) })
	return nil
}

// silent starts a destination that never answers. It reads to the end, or resets the connection after so many bytes.
func (k *soaking) silent(most int64) (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	k.closers = append(k.closers, func() { ln.Close() })
	go func() { // ends with ln
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go discard(conn.(*net.TCPConn), most)
		}
	}()
	return ln.Addr().String(), nil
}

// discard ends with the connection, or after a minute.
func discard(conn *net.TCPConn, most int64) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	if most < 0 {
		io.Copy(io.Discard, conn)
		return
	}
	io.CopyN(io.Discard, conn, most)
	conn.SetLinger(0)
}

func (k *soaking) close() {
	for _, s := range k.proxies {
		if s != nil {
			s.kill()
		}
	}
	for _, f := range k.closers {
		f()
	}
	k.scarce.close()
}

// answerSoak is answerLoopback, but for names that begin with slow, fail and mute.
func answerSoak(w dns.ResponseWriter, query *dns.Msg) {
	switch name := query.Question[0].Name; {
	case strings.HasPrefix(name, "mute"):
		return
	case strings.HasPrefix(name, "fail"):
		w.WriteMsg(new(dns.Msg).SetRcode(query, dns.RcodeServerFailure))
		return
	case strings.HasPrefix(name, "slow"):
		time.Sleep(200 * time.Millisecond)
	}
	answerLoopback(w, query)
}

// run lets the workers do deeds for d, and reloads now and then.
func (k *soaking) run(d time.Duration) {
	ctx, cancel := context.WithTimeout(k.ctx, d)
	defer cancel()
	var running sync.WaitGroup
	for n := range soakWorkers {
		running.Go(func() { k.worker(ctx, uint64(n)) })
	}
	running.Go(func() { k.reloading(ctx) })
	running.Go(func() { k.watching(ctx, d/10) })
	running.Wait()
}

func (k *soaking) worker(ctx context.Context, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, uint64(time.Now().UnixNano())))
	total := 0
	for _, d := range soakDeeds {
		total += d.weight
	}
	for ctx.Err() == nil {
		at, d := rng.IntN(total), 0
		for ; at >= soakDeeds[d].weight; d++ {
			at -= soakDeeds[d].weight
		}
		k.do(&soakDeeds[d], rng)
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(soakPause)):
		}
	}
}

// do does one deed, and notes an outcome that it must not have.
func (k *soaking) do(d *deed, rng *rand.Rand) {
	s := k.proxies[rng.IntN(2)]
	if d.only != anyProxy {
		s = k.proxies[d.only]
	}
	outcome, err := d.do(k, s, rng)
	k.done.Add(1)
	k.deeds.add(d.name)
	if err != nil || !slices.Contains(strings.Fields(d.want), outcome) {
		k.wrong.add(fmt.Sprintf("%s: got %s; want %s (%v)", d.name, outcome, d.want, err))
	}
}

// reloading sends SIGHUP again and again, every third time with settings that are wrong.
func (k *soaking) reloading(ctx context.Context) {
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Second):
		}
		for i, s := range k.proxies {
			config := k.configs[i]
			if n%3 == 2 {
				config += "noSuchKey: 1\n"
			}
			if err := reload(s, config); err != nil {
				k.wrong.add("reload: " + err.Error())
			}
		}
	}
}

// watching prints what whsentry holds now and then, and notes the most memory.
func (k *soaking) watching(ctx context.Context, every time.Duration) {
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
		for i, s := range k.proxies {
			l, err := s.levels()
			if err != nil { // one may time out on a busy machine
				l, err = s.levels()
			}
			if err != nil {
				k.wrong.add("metrics: " + err.Error())
				continue
			}
			k.resident.Store(max(k.resident.Load(), l.resident))
			fmt.Printf("after %v, %d deeds: proxy %d has %v\n", time.Since(began).Round(time.Second), k.done.Load(), i, l)
		}
	}
}

// rest waits until both hold nothing open, and returns what they hold then.
func (k *soaking) rest() (rest [2]levels, err error) {
	for i, s := range k.proxies {
		var restErr error
		rest[i], restErr = s.restLevels(k.ctx)
		err = errors.Join(err, restErr)
	}
	return rest, err
}

// shrinks waits until a proxy holds no more memory than at the start, which is given back by and by, unlike all else.
func (k *soaking) shrinks(s *sentry, before, after levels) error {
	return eventually(k.ctx, time.Minute, func() error {
		err := grown(before, after)
		if err == nil {
			return nil
		}
		if now, restErr := s.restLevels(k.ctx); restErr == nil {
			after = now
		}
		return err
	})
}

// grown says what a proxy holds more of than at the start; waiting helps against more memory only.
func grown(before, after levels) error {
	switch {
	case after.goroutines > before.goroutines+goroutineSlack:
		return fatal{fmt.Errorf("%d goroutines; want %d", after.goroutines, before.goroutines)}
	case after.descriptors > before.descriptors:
		return fatal{fmt.Errorf("%d descriptors; want %d", after.descriptors, before.descriptors)}
	case after.heap > before.heap+soakHeapSlack:
		return fmt.Errorf("%d bytes of heap; want %d or little more", after.heap, before.heap)
	case after.resident > before.resident+soakResidentSlack:
		return fmt.Errorf("%d bytes are resident; want %d or little more", after.resident, before.resident)
	}
	return nil
}

func (k *soaking) asMeant() error {
	all := k.wrong.all()
	if len(all) == 0 {
		return nil
	}
	var lines []string
	for _, what := range slices.Sorted(maps.Keys(all)) {
		lines = append(lines, fmt.Sprintf("%d x %s", all[what], what))
	}
	return errors.New(strings.Join(lines[:min(len(lines), 30)], "\n"))
}

func (k *soaking) allDone() error {
	all := k.deeds.all()
	for _, d := range soakDeeds {
		if all[d.name] == 0 {
			return fmt.Errorf("never: %s", d.name)
		}
	}
	return nil
}

func (k *soaking) bounded() error {
	if most := k.resident.Load(); most == 0 || most > soakResident {
		return fmt.Errorf("%d MiB were resident; want %d at most", most>>20, soakResident>>20)
	}
	return nil
}

// noBug looks for what a panic leaves in the log.
func (k *soaking) noBug() error {
	for _, s := range k.proxies {
		for _, name := range []string{"stdout", "stderr"} {
			text, err := os.ReadFile(filepath.Join(s.dir, name))
			if err != nil {
				return err
			}
			for _, sign := range []string{"a bug ended", "BUG", "panic", "goroutine "} {
				if at := strings.Index(string(text), sign); at >= 0 {
					return fmt.Errorf("%s of %s: %s", name, s.dir, text[at:min(at+2000, len(text))])
				}
			}
		}
	}
	return nil
}
