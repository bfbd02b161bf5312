//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// parent is what a service manager is to whsentry: it has the listening sockets, and passes them to one after the other.
type parent struct {
	address, metrics string
	files            []*os.File
}

// newParent listens on two free addresses.
func newParent() (*parent, error) {
	p := &parent{}
	for _, address := range []*string{&p.address, &p.metrics} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			p.close()
			return nil, err
		}
		file, err := ln.(*net.TCPListener).File()
		*address = ln.Addr().String()
		ln.Close() // file is a socket of its own
		if err != nil {
			p.close()
			return nil, err
		}
		p.files = append(p.files, file)
	}
	return p, nil
}

func (p *parent) close() {
	for _, f := range p.files {
		f.Close()
	}
}

// activate starts whsentry with the sockets. LISTEN_PID is the process' own id, which only the process itself knows in
// time: so there is a shell first.
func (p *parent) activate(o options, dir, config string, args ...string) (*sentry, error) {
	s, err := launchAs(o, dir, config, func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, o.whsentry}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		cmd.ExtraFiles = p.files
		cmd.Env = append(cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(p.files)), "LISTEN_FDNAMES=web:metrics")
	}, args...)
	if err == nil {
		s.address, s.metrics = p.address, p.metrics
	}
	return s, err
}

func (p *parent) flags() []string {
	return []string{"--listener-address", p.address, "--metrics-address", p.metrics}
}

// inheritInTurn: who connects while nobody is there waits for the next.
func (t *stage) inheritInTurn(f *fleet, dir string) error { return t.inherit(f, dir, false) }

// inheritAtOnce: both take connections of the same socket for a while.
func (t *stage) inheritAtOnce(f *fleet, dir string) error { return t.inherit(f, dir, true) }

func (t *stage) inherit(f *fleet, dir string, atOnce bool) error {
	p, err := newParent()
	if err != nil {
		return err
	}
	defer p.close()
	started := 0
	next := func() (*sentry, error) {
		started++
		return p.activate(t.o, filepath.Join(dir, fmt.Sprint(started)), allowed, p.flags()...)
	}
	current, err := next()
	if err != nil {
		return err
	}
	defer func() { current.kill() }()
	f.start(append(plainSenders(p.address, t.destination), farSenders(p.address, t.destination)...))
	f.startLibrary(2, p.address, t.destination)
	err = f.more(t, 100)
	for i := 0; i < 10 && err == nil; i++ {
		former := current
		if !atOnce {
			err = former.stop(stopLimit)
		}
		var started error
		if current, started = next(); started != nil {
			current = former
			err = errors.Join(err, started)
			break
		}
		if atOnce {
			err = errors.Join(said(t.ctx, current, "started"), f.more(t, 100), former.stop(stopLimit))
		}
		former.kill()
		err = errors.Join(err, f.more(t, 200))
	}
	err = errors.Join(err, current.ready(t.ctx)) // on the metrics' socket
	return errors.Join(err, f.finish(), current.stop(stopLimit), f.logged(dir))
}

// said waits until whsentry has printed a text.
func said(ctx context.Context, s *sentry, text string) error {
	return eventually(ctx, 15*time.Second, func() error {
		if out := s.output(); !strings.Contains(out, text) {
			return fmt.Errorf("it does not say %q: %s", text, out)
		}
		return nil
	})
}

// strangeSocket: a socket that is for no listener stops the start, with both sides named.
func (t *stage) strangeSocket() error {
	p, err := newParent()
	if err != nil {
		return err
	}
	defer p.close()
	other := freeAddress()
	s, err := p.activate(t.o, filepath.Join(t.o.scratch, "strange-socket"), allowed, "--listener-address", other, "--metrics-address", p.metrics)
	if err != nil {
		return err
	}
	defer s.kill()
	if err := s.exits(1, stopLimit); err != nil {
		return err
	}
	for _, part := range []string{"socket activation: passed, but not configured: ", p.address, `("web")`, "listener.address", other, "metrics.address"} {
		if out := s.output(); !strings.Contains(out, part) || strings.Count(out, "\n") > 0 {
			return fmt.Errorf("it says %q; want one line with %q", out, part)
		}
	}
	return nil
}

// othersSockets: variables that are meant for another process, as one of whsentry's parents would have left them, are
// no sockets.
func (t *stage) othersSockets() error {
	free := freeAddresses(2)
	address, metrics := free[0], free[1]
	s, err := launchAs(t.o, filepath.Join(t.o.scratch, "others-sockets"), allowed, func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Env, "LISTEN_FDS=7", "LISTEN_PID=1")
	}, "--listener-address", address, "--metrics-address", metrics)
	if err != nil {
		return err
	}
	defer s.kill()
	s.address, s.metrics = address, metrics
	return errors.Join(s.ready(t.ctx), s.stop(stopLimit))
}

// systemdActivates has systemd's own tool pass the socket, where it is installed.
func (t *stage) systemdActivates() {
	const name = "activation/by systemd-socket-activate"
	tool, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.r.skip(name, "it is not installed")
		return
	}
	address := freeAddress()
	s, err := launchAs(t.o, filepath.Join(t.o.scratch, "systemd"), allowed, func(cmd *exec.Cmd) {
		cmd.Args = append([]string{tool, "--listen=" + address, "--fdname=web", t.o.whsentry}, cmd.Args[1:]...)
		cmd.Path = tool
	}, "--listener-address", address, "--metrics-address", "")
	if err != nil {
		t.r.check(name, err)
		return
	}
	defer s.kill()
	// Its tool listens first, and starts whsentry at the first connection.
	err = t.serving(newFleet(), func() error {
		return eventually(t.ctx, 5*time.Second, func() error {
			m, err := ask(address, t.post(""))
			if err != nil {
				return err
			}
			return want("verdict", m.verdict(), "200/0")
		})
	})
	t.r.check(name, errors.Join(err, s.stop(stopLimit)))
}

// notifies plays the service manager that is told how it goes.
func (t *stage) notifies() error {
	name := filepath.Join(t.o.scratch, "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer manager.Close()
	s, err := launchAs(t.o, filepath.Join(t.o.scratch, "notifies"), allowed, func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+name)
	}, "--listener-address", "127.0.0.1:0", "--metrics-address", "")
	if err != nil {
		return err
	}
	defer s.kill()
	hears := func(pattern string) error {
		b := make([]byte, 4096)
		manager.SetDeadline(time.Now().Add(10 * time.Second))
		n, err := manager.Read(b)
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", pattern, err)
		}
		m := regexp.MustCompile("^" + pattern + "$").FindSubmatch(b[:n])
		if m == nil {
			return fmt.Errorf("it says %q; want %s", b[:n], pattern)
		}
		if len(m) > 1 { // microseconds of the monotonic clock
			var now unix.Timespec
			at, _ := strconv.ParseInt(string(m[1]), 10, 64)
			if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
				return err
			}
			if age := time.Duration(now.Nano()) - time.Duration(at)*time.Microsecond; age < 0 || age > 10*time.Second {
				return fmt.Errorf("the reload began %v ago; want just now", age)
			}
		}
		return nil
	}
	const reloading = `RELOADING=1\nMONOTONIC_USEC=(\d+)`
	return errors.Join(
		hears(`READY=1\nSTATUS=[^\n]*`),
		s.signal(syscall.SIGHUP), hears(reloading), hears(`READY=1\nSTATUS=[^\n]*`),
		reload(s, allowed+"readTimeout: fast\n"), hears(reloading), hears(`READY=1\nSTATUS=[^\n]*readTimeout[^\n]*`),
		s.signal(syscall.SIGTERM), hears(`STOPPING=1\nEXTEND_TIMEOUT_USEC=\d{8}\nSTATUS=[^\n]*`),
		s.exits(0, stopLimit),
	)
}
