//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// stage is what the checks of signals share: a destination, and settings that let it be reached.
type stage struct {
	ctx         context.Context
	o           options
	r           *report
	origin      *origin
	destination string // host:port
	ca          *authority
	arrivals    atomic.Int64
}

// allowed are the settings every check starts from; the access log is a file.
const allowed = "cidrAllowList: [127.0.0.1/32]\ncaBundle: {url: \"\"}\naccessLog: {type: json, file: access.log}\n"

// signals starts whsentry over and over, each time for one promise about starting, reloading or stopping.
func signals(ctx context.Context, o options) *report {
	t := &stage{ctx: ctx, o: o, r: &report{name: "signals"}}
	t.origin = newOrigin(func(arrival) { t.arrivals.Add(1) })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		t.ca, err = newAuthority(o.scratch, "ca")
	}
	if !t.r.check("signals/the destination starts", err) {
		return t.r
	}
	t.origin.listen(ln)
	defer t.origin.close()
	t.destination = ln.Addr().String()
	for _, c := range []struct {
		name   string
		config string
		try    func(s *sentry) error
	}{
		{"stop/SIGTERM drains", allowed + "readTimeout: 30s\n", t.drains(syscall.SIGTERM)},
		{"stop/SIGINT drains", allowed + "readTimeout: 30s\n", t.drains(syscall.SIGINT)},
		{"stop/a second signal stops at once", allowed, t.secondSignal},
		{"stop/shutdownTimeout is the limit", allowed + "shutdownTimeout: 1s\n", t.shutdownTimeout},
		{"stop/under load no answered request is lost", allowed, t.stopUnderLoad},
		{"stop/idle connections do not hold it up", allowed, t.idleConnections},
		{"stop/an open tunnel has until shutdownTimeout", allowed + "shutdownTimeout: 5s\n", t.openTunnel},
		{"stop/a tunnel that ends is not waited for", allowed + "shutdownTimeout: 20s\n", t.tunnelEnds},
		{"suspend/nobody's time is up for what came meanwhile", allowed + "readTimeout: 10s\nclientTimeout: 10s\n", t.suspended},
		{"reload/many times, amid a request and a tunnel", allowed, t.reloadAmid},
		{"reload/good settings", allowed, t.reloadGood},
		{"reload/bad settings", allowed, t.reloadBad},
		{"reload/another log type", allowed, t.reloadLogType},
		{"reload/log file moved", allowed + "proxyLog: {file: proxy.log}\n", t.reopen},
		{"disk/the access log is full from the start", strings.Replace(allowed, "access.log", "/dev/full", 1), t.fullDevice},
		{"disk/the proxy log is full too", strings.Replace(allowed, "access.log", "/dev/full", 1) + "proxyLog: {file: /dev/full}\n", t.fullBoth},
	} {
		t.r.check(c.name, t.with(c.name, c.config, nil, c.try))
	}
	t.r.check("reload/another address to listen on", t.reloadAddress())
	t.certificates()
	t.r.check("disk/a full disk that gets room again", t.fullDisk())
	t.r.check("start/a second instance shares the port", t.secondInstance())
	t.r.check("start/address in use", t.addressInUse("--listener-address", "--metrics-address"))
	t.r.check("start/metrics address in use", t.addressInUse("--metrics-address", "--listener-address"))
	return t.r
}

// with runs try against a fresh whsentry.
func (t *stage) with(name, config string, args []string, try func(*sentry) error) error {
	s, err := start(t.ctx, t.o, filepath.Join(t.o.scratch, strings.NewReplacer("/", "-", " ", "-").Replace(name)), config, args...)
	if err != nil {
		return err
	}
	defer s.kill()
	return try(s)
}

// post is a request to the destination that behaves as told.
func (t *stage) post(behave string) string {
	return "POST http://" + t.destination + "/ HTTP/1.1\r\nHost: " + t.destination + "\r\nX-Behave: " + behave + "\r\nContent-Length: 2\r\n\r\nhi"
}

// pending sends a request from another goroutine, waits until the destination has it, and hands back its answer.
func (t *stage) pending(s *sentry, behave string) (<-chan *message, error) {
	before := t.arrivals.Load()
	answer := make(chan *message, 1)
	go func() {
		m, _ := ask(s.address, t.post(behave)) // ends with ask's deadline
		answer <- m
	}()
	return answer, eventually(t.ctx, 5*time.Second, func() error {
		if t.arrivals.Load() == before {
			return errors.New("the destination did not get the request")
		}
		return nil
	})
}

// drains stops whsentry while a request is running.
func (t *stage) drains(sig syscall.Signal) func(*sentry) error {
	return func(s *sentry) error {
		answer, err := t.pending(s, "hold "+sig.String())
		if err != nil {
			return err
		}
		idle, err := net.Dial("tcp", s.address)
		if err != nil {
			return err
		}
		defer idle.Close()
		if err := s.signal(sig); err != nil {
			return err
		}
		refused := eventually(t.ctx, 10*time.Second, func() error {
			if m, err := ask(s.address, t.post("")); err == nil {
				return fmt.Errorf("a new connection was served: %s", m.verdict())
			}
			return nil
		})
		unready := eventually(t.ctx, 10*time.Second, func() error {
			readyz, err := s.health("/readyz")
			if err != nil {
				return err
			}
			return want("/readyz while stopping", readyz, 503)
		})
		t.origin.release(sig.String())
		if err := errors.Join(refused, unready); err != nil {
			return err
		}
		m := <-answer
		if m == nil || m.verdict() != "200/0" {
			return fmt.Errorf("the running request got %+v; want 200/0", m)
		}
		if err := s.exits(0, 5*time.Second); err != nil {
			return err
		}
		last, err := lastLine(filepath.Join(s.dir, "access.log"))
		if err != nil {
			return err
		}
		if !strings.Contains(last, `"response_code":200`) {
			return fmt.Errorf("last log line %q; want that of the running request", last)
		}
		return nil
	}
}

func lastLine(file string) (string, error) {
	text, err := os.ReadFile(file)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1], err
}

// suspended stops the process as a suspended machine would, for longer than its limits: the answers and the rest of a
// request that came meanwhile are there when it goes on.
func (t *stage) suspended(s *sentry) error {
	const waiting = 250 // more than Go takes note of at once
	answers := make(chan string, waiting)
	before := t.arrivals.Load()
	for range waiting {
		go func() { // ends with ask's deadline
			m, err := ask(s.address, t.post("hold suspended"))
			if err != nil {
				answers <- err.Error()
				return
			}
			answers <- m.verdict()
		}()
	}
	half, err := dialReader(s.address)
	if err != nil {
		return err
	}
	defer half.Close()
	request := t.post("")
	if _, err := io.WriteString(half, request[:len(request)/2]); err != nil {
		return err
	}
	err = eventually(t.ctx, 10*time.Second, func() error { return want("requests at the destination", t.arrivals.Load()-before, waiting) })
	err = errors.Join(err, s.signal(syscall.SIGSTOP))
	t.origin.release("suspended")
	if err != nil {
		return err
	}
	time.Sleep(12 * time.Second)
	_, err = io.WriteString(half, request[len(request)/2:])
	if err := errors.Join(err, s.signal(syscall.SIGCONT)); err != nil {
		return err
	}
	for range waiting {
		if err := want("a request that waited for its answer", <-answers, "200/0"); err != nil {
			return err
		}
	}
	half.SetDeadline(time.Now().Add(20 * time.Second))
	m, err := readAnswer(half.br, "POST")
	if err != nil {
		return fmt.Errorf("the request that had come by half: %w", err)
	}
	return want("the request that had come by half", m.verdict(), "200/0")
}

func (t *stage) secondSignal(s *sentry) error {
	if _, err := t.pending(s, "wait 20000"); err != nil {
		return err
	}
	s.signal(syscall.SIGTERM)
	time.Sleep(500 * time.Millisecond) // that it does not stop yet can only be seen by waiting
	select {
	case <-s.ended:
		return fmt.Errorf("it stopped at the first signal with a request running: %s", s.output())
	default:
	}
	began := time.Now()
	s.signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
	}
	if took := time.Since(began); took > 4*time.Second { // below shutdownPatience, which would end it too
		return fmt.Errorf("it took %v after the second signal", took)
	}
	return nil
}

func (t *stage) shutdownTimeout(s *sentry) error {
	if _, err := t.pending(s, "hang"); err != nil {
		return err
	}
	began := time.Now()
	if err := s.stop(4 * time.Second); err != nil {
		return err
	}
	if took := time.Since(began); took < 900*time.Millisecond {
		return fmt.Errorf("it stopped after %v; want the running request to have its second", took)
	}
	lines, err := countLines(filepath.Join(s.dir, "access.log"))
	if err != nil {
		return err
	}
	return want("log lines of the request that was broken off", lines, 1)
}

// traffic is a light load from a few clients: one POST after the other, each client on its own connection.
type traffic struct {
	t      *stage
	s      *sentry
	quit   chan struct{}
	wg     sync.WaitGroup
	ok     atomic.Int64
	failed tally
}

func (t *stage) traffic(s *sentry) *traffic {
	l := &traffic{t: t, s: s, quit: make(chan struct{})}
	for i := range 4 {
		l.wg.Go(func() { l.client(i%2 == 0) })
	}
	return l
}

// client sends until quit, keeping its connection, or with a new one for each request.
func (l *traffic) client(keep bool) {
	for {
		select {
		case <-l.quit:
			return
		case <-time.After(2 * time.Millisecond):
		}
		if err := l.some(keep); err != nil {
			l.failed.add(err.Error())
		}
	}
}

func (l *traffic) some(keep bool) error {
	conn, err := dialReader(l.s.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	for range 50 {
		select {
		case <-l.quit:
			return nil
		default:
		}
		m, err := conn.ask(l.t.post(""))
		if err != nil {
			return err
		}
		if err := want("verdict", m.verdict(), "200/0"); err != nil {
			return err
		}
		l.ok.Add(1)
		if !keep {
			return nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

// stop lets some more requests through and ends the traffic; it is an error if a request failed.
func (l *traffic) stop() error {
	enough := l.ok.Load() + 20
	stuck := eventually(l.t.ctx, 10*time.Second, func() error {
		if l.ok.Load() < enough {
			return errors.New("the traffic stands still")
		}
		return nil
	})
	close(l.quit)
	l.wg.Wait()
	if stuck != nil {
		return stuck
	}
	if failed := l.failed.all(); len(failed) > 0 {
		return fmt.Errorf("of the requests sent meanwhile %d succeeded and these failed: %v", l.ok.Load(), failed)
	}
	return nil
}

// stopUnderLoad: clients may be refused once it stops, but what was answered is logged, and nothing else.
func (t *stage) stopUnderLoad(s *sentry) error {
	l := t.traffic(s)
	err := eventually(t.ctx, 10*time.Second, func() error {
		if n := l.ok.Load(); n < 100 {
			return fmt.Errorf("%d requests were answered; want some load", n)
		}
		return nil
	})
	err = errors.Join(err, s.stop(stopLimit))
	close(l.quit)
	l.wg.Wait()
	if err != nil {
		return err
	}
	lines, err := countLines(filepath.Join(s.dir, "access.log"))
	if err != nil {
		return err
	}
	if int64(lines) < l.ok.Load() || lines > int(l.ok.Load())+4 {
		return fmt.Errorf("%d log lines for %d answered requests of 4 clients", lines, l.ok.Load())
	}
	return nil
}
