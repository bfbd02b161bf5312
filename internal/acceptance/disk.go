//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// serves sends n requests and wants 200 for each.
func (t *stage) serves(s *sentry, n int) error {
	conn, err := dialReader(s.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	for i := range n {
		m, err := conn.ask(t.post(""))
		if err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
		if err := want(fmt.Sprintf("request %d", i), m.verdict(), "200/0"); err != nil {
			return err
		}
	}
	return nil
}

// logErrors waits until whsentry_log_errors_total is not 0.
func (t *stage) logErrors(s *sentry) error {
	return eventually(t.ctx, 5*time.Second, func() error {
		samples, err := s.scrape()
		if err == nil && sum(samples, "whsentry_log_errors_total") == 0 {
			err = errors.New("whsentry_log_errors_total is 0")
		}
		return err
	})
}

func (t *stage) fullDevice(s *sentry) error {
	reported := eventually(t.ctx, 5*time.Second, func() error {
		if err := t.serves(s, 5); err != nil {
			return fatal{err}
		}
		if out := strings.ToLower(s.output()); !strings.Contains(out, "no space left") {
			return fmt.Errorf("nothing is reported: %q", out)
		}
		return nil
	})
	return errors.Join(reported, t.logErrors(s), t.serves(s, 200), s.stop(stopLimit))
}

func (t *stage) fullBoth(s *sentry) error {
	return errors.Join(t.serves(s, 200), t.logErrors(s), s.stop(stopLimit))
}

// fullDisk has the access log on a file system of 64 KiB that fills up, and later has room again.
func (t *stage) fullDisk() error {
	if os.Getuid() != 0 {
		return errors.New("root is needed to mount a file system")
	}
	mount := filepath.Join(t.o.scratch, "tiny")
	if err := os.MkdirAll(mount, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=65536"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	defer syscall.Unmount(mount, syscall.MNT_DETACH)
	ballast := filepath.Join(mount, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 32<<10), 0o600); err != nil {
		return err
	}
	config := strings.Replace(allowed, "access.log", filepath.Join(mount, "access.log"), 1)
	return t.with("full-disk", config, nil, func(s *sentry) error {
		file := filepath.Join(mount, "access.log")
		err := errors.Join(t.serves(s, 300), t.logErrors(s), os.Remove(ballast))
		if err != nil {
			return err
		}
		before, err := os.Stat(file)
		if err != nil {
			return err
		}
		err = eventually(t.ctx, 5*time.Second, func() error {
			if err := t.serves(s, 1); err != nil {
				return fatal{err}
			}
			if after, err := os.Stat(file); err != nil || after.Size() <= before.Size() {
				return fmt.Errorf("no line is written though there is room again (%v)", err)
			}
			return nil
		})
		return errors.Join(err, s.stop(stopLimit))
	})
}

// addressInUse starts whsentry where another program listens: one message, and exit code 1.
func (t *stage) addressInUse(taken, other string) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close()
	dir := filepath.Join(t.o.scratch, "in-use"+taken)
	s, err := launch(t.o, dir, allowed, taken, ln.Addr().String(), other, freeAddress())
	if err != nil {
		return err
	}
	if err := s.exits(1, 10*time.Second); err != nil {
		return err
	}
	said, err := os.ReadFile(filepath.Join(dir, "stderr"))
	if err != nil {
		return err
	}
	text := strings.TrimSpace(string(said))
	key := strings.Replace(strings.TrimPrefix(taken, "--"), "-", ".", 1)
	if text == "" || strings.Count(text, "address already in use") != 1 || !strings.Contains(text, ln.Addr().String()) || !strings.Contains(text, key) {
		return fmt.Errorf("standard error is %q; want one message with %s and %s", text, key, ln.Addr())
	}
	if strings.Contains(text, "goroutine ") || strings.Contains(text, "panic") {
		return fmt.Errorf("a stack trace: %s", text)
	}
	return nil
}
