//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// fewDescriptors is how many file descriptors whsentry has where they are to be used up.
const fewDescriptors = 256

// scarce is what the checks of resources share: destinations, names for them, and a whsentry that lacks something.
type scarce struct {
	*stage
	secure  string // host:port of a destination over TLS
	names   *dns.Server
	limited options // with a whsentry of few descriptors
}

// resources takes from whsentry what it needs: file descriptors, and room for its logs; and has it meet more
// destinations than it may remember, and strangers. It must say so, go on, and hold nothing of it afterwards.
func resources(ctx context.Context, o options) *report {
	r := &report{name: "resources"}
	t, err := newScarce(ctx, o, r, answerLoopback)
	if !r.check("the destinations start", err) {
		return r
	}
	defer t.close()
	r.check("descriptors/used up by clients", t.starve("clients", t.byClients))
	r.check("descriptors/used up by destinations", t.starve("destinations", t.byDestinations))
	if os.Getuid() != 0 {
		r.skip("disk/both logs on a disk that fills up", "root is needed to mount a file system")
	} else {
		r.check("disk/both logs on a disk that fills up", t.fullDiskBoth())
	}
	r.check("memory/20,000 destinations", t.manyDestinations())
	r.check("memory/100,000 wrong tokens", t.wrongTokens())
	return r
}

// newScarce starts the destinations, and a name server that answers as answer does.
func newScarce(ctx context.Context, o options, r *report, answer dns.HandlerFunc) (*scarce, error) {
	t := &scarce{stage: &stage{ctx: ctx, o: o, r: r}, limited: o}
	var err error
	if t.limited.whsentry, err = limitDescriptors(o.scratch, o.whsentry, fewDescriptors); err != nil {
		return nil, err
	}
	if t.ca, err = newAuthority(o.scratch, "ca"); err != nil {
		return nil, err
	}
	leaf, err := t.ca.leaf("destination")
	if err != nil {
		return nil, err
	}
	t.origin = newOrigin(nil)
	for _, address := range []*string{&t.destination, &t.secure} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		*address = ln.Addr().String()
		if address == &t.secure {
			ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{leaf}})
		}
		t.origin.listen(ln)
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t.names = &dns.Server{PacketConn: packets, Handler: answer}
	go t.names.ActivateAndServe() // until Shutdown
	return t, nil
}

func (t *scarce) close() {
	t.origin.close()
	t.names.Shutdown()
}

// config are settings with which the destinations can be reached, by name too.
func (t *scarce) config() string {
	return fmt.Sprintf("cidrAllowList: [127.0.0.1/32]\ndns: {servers: [\"%s\"]}\nreadTimeout: 5s\n"+
		"caBundle: {url: \"\", extraFile: %s}\naccessLog: {type: json, file: access.log}\n",
		t.names.PacketConn.LocalAddr(), filepath.Join(t.o.scratch, "ca.pem"))
}

// starve runs use against a whsentry of few descriptors, twice, and wants all of them back each time.
func (t *scarce) starve(name string, use func(*sentry) error) error {
	s, err := start(t.ctx, t.limited, filepath.Join(t.o.scratch, "few-"+name), t.config())
	if err != nil {
		return err
	}
	defer s.kill()
	if err := errors.Join(t.serves(s, 1), t.back(s, levels{1 << 20, fewDescriptors, 0, 0})); err != nil {
		return err
	}
	before, err := s.levels()
	if err != nil {
		return err
	}
	for range 2 {
		if err := use(s); err != nil {
			return err
		}
		if err := errors.Join(t.serves(s, 20), t.back(s, before)); err != nil {
			return fmt.Errorf("afterwards: %w", err)
		}
	}
	return s.stop(stopLimit)
}

// back waits until whsentry is well, and holds no more than before.
func (t *scarce) back(s *sentry, before levels) error {
	return eventually(t.ctx, 15*time.Second, func() error {
		for _, path := range []string{"/healthz", "/readyz"} {
			status, err := s.health(path)
			if err != nil {
				return err
			}
			if err := want(path, status, 200); err != nil {
				return err
			}
		}
		samples, err := s.scrape()
		if err != nil {
			return err
		}
		if err := holdsNothing(samples); err != nil {
			return err
		}
		now, err := s.levels()
		if err == nil && (now.goroutines > before.goroutines+goroutineSlack || now.descriptors > before.descriptors) {
			err = fmt.Errorf("it holds %v; want no more than %v", now, before)
		}
		return err
	})
}

// byClients connects until nothing is left, and leaves again.
func (t *scarce) byClients(s *sentry) error {
	var clients []*dialled
	leave := func(n int) {
		for _, c := range clients[n:] {
			c.Close()
		}
		clients = clients[:n]
	}
	defer func() { leave(0) }()
	for range 2 * fewDescriptors {
		c, err := dialReader(s.address) // the system accepts it; whsentry may not be able to
		if err != nil {
			return err
		}
		clients = append(clients, c)
	}
	if err := t.usedUp(s); err != nil {
		return err
	}
	if err := t.refusals(clients[0]); err != nil {
		return err
	}
	if err := s.signal(syscall.SIGHUP); err != nil { // nothing of which can be read
		return err
	}
	time.Sleep(3 * time.Second) // in which many attempts fail, that are not to be logged one by one
	if err := t.complaints(s); err != nil {
		return err
	}
	leave(10)
	if err := t.serves(s, 20); err != nil {
		return fmt.Errorf("when most clients had left: %w", err)
	}
	m, err := clients[0].ask(t.post(""))
	if err != nil {
		return fmt.Errorf("who stayed: %w", err)
	}
	return want("who stayed", m.verdict(), "200/0")
}

// usedUp waits until whsentry has no descriptor left, and has said so.
func (t *scarce) usedUp(s *sentry) error {
	return eventually(t.ctx, 10*time.Second, func() error {
		open, err := s.descriptors()
		if err == nil && open < fewDescriptors {
			err = fmt.Errorf("%d descriptors are open; want %d", open, fewDescriptors)
		}
		if err == nil && !strings.Contains(s.output(), "too many open files") {
			err = fmt.Errorf("nothing is said of it: %s", s.output())
		}
		return err
	})
}

// refusals holds what a client is told while no descriptor is left for its destination.
func (t *scarce) refusals(c *dialled) error {
	_, port, _ := net.SplitHostPort(t.destination)
	for _, row := range []struct{ name, request, verdict string }{
		{"by address", t.post(""), "503/1014"},
		{"by name", strings.ReplaceAll(t.post(""), t.destination, "few.hooks.test:"+port), "503/1014"},
		{"over TLS", strings.Replace(strings.ReplaceAll(t.post(""), t.destination, t.secure), "\r\n", "\r\nX-WhSentry-TLS: 1\r\n", 1), "503/1014"},
		{"tunnel", "CONNECT " + t.destination + " HTTP/1.1\r\nHost: " + t.destination + "\r\n\r\n", "503/1014"},
		{"refused address", "GET http://10.0.0.1/ HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n", "403/1000"},
	} {
		m, err := c.ask(row.request)
		if err == nil {
			err = want("verdict", m.verdict(), row.verdict)
		}
		if err == nil && m.status() == 503 && (m.get("Retry-After") == "" || !strings.Contains(m.get("X-WhSentry-Reason"), "file descriptor")) {
			err = fmt.Errorf("the refusal %q does not say what is missing, or when to come again", m.Fields)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
	}
	return nil
}

// complaints holds the application log to a few lines about it.
func (t *scarce) complaints(s *sentry) error {
	out, err := os.ReadFile(filepath.Join(s.dir, "stdout"))
	if err != nil {
		return err
	}
	// Two listeners and one reload a round, and a round takes less than the 10 s that lie between two reports.
	if n := strings.Count(string(out), "too many open files"); n < 1 || n > 8 {
		return fmt.Errorf("%d lines are about descriptors; want a few: %s", n, s.output())
	}
	return nil
}

// byDestinations has more requests run at once than there are descriptors for, over every kind of connection.
func (t *scarce) byDestinations(s *sentry) error {
	_, port, _ := net.SplitHostPort(t.destination)
	var verdicts tally
	var running sync.WaitGroup
	for i := range fewDescriptors * 3 / 4 {
		running.Go(func() {
			verdict, err := "", error(nil)
			switch slow := t.post("wait 1500"); i % 4 {
			case 0:
				verdict, err = verdictOf(s, slow)
			case 1:
				verdict, err = verdictOf(s, strings.ReplaceAll(slow, t.destination, fmt.Sprintf("n%d.hooks.test:%s", i, port)))
			case 2:
				verdict, err = verdictOf(s, strings.Replace(strings.ReplaceAll(slow, t.destination, t.secure), "\r\n", "\r\nX-WhSentry-TLS: 1\r\n", 1))
			case 3:
				verdict, err = t.slowTunnel(s)
			}
			if err != nil {
				verdict = err.Error()
			}
			verdicts.add(verdict)
		})
	}
	running.Wait()
	all := verdicts.all()
	if all["200/0"] == 0 || all["503/1014"] == 0 || len(all) != 2 {
		return fmt.Errorf("outcomes %v; want 200/0 and 503/1014, both, and no other", all)
	}
	return nil
}

func verdictOf(s *sentry, raw string) (string, error) {
	m, err := ask(s.address, raw)
	if err != nil {
		return "", err
	}
	return m.verdict(), nil
}

// slowTunnel holds a tunnel for a while where it gets one, and then uses it.
func (t *scarce) slowTunnel(s *sentry) (string, error) {
	conn, err := dialReader(s.address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	m, err := conn.ask("CONNECT " + t.destination + " HTTP/1.1\r\nHost: " + t.destination + "\r\n\r\n")
	if err != nil || m.status() != 200 {
		return verdictIn(m), err
	}
	time.Sleep(1500 * time.Millisecond)
	return m.verdict(), t.through(conn)
}

func verdictIn(m *message) string {
	if m == nil {
		return ""
	}
	return m.verdict()
}
