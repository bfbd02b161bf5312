//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// fullDiskBoth has both logs on a small file system that fills up, and later has room again. Requests go on; no line of
// the access log is lost, for there are not that many; and there is word of it where there is room for it.
func (t *scarce) fullDiskBoth() error {
	mount := filepath.Join(t.o.scratch, "small")
	if err := os.MkdirAll(mount, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=65536"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	defer syscall.Unmount(mount, syscall.MNT_DETACH)
	access, application := filepath.Join(mount, "access.log"), filepath.Join(mount, "proxy.log")
	config := strings.Replace(t.config(), "access.log", access, 1) + "proxyLog: {type: json, file: " + application + "}\n"
	return t.with("small-disk", config, nil, func(s *sentry) error {
		const before, after = 500, 100 // of some 300 bytes each in the log
		if err := errors.Join(t.serves(s, before), t.logErrors(s)); err != nil {
			return err
		}
		for n := range 60 { // each is a line in the application log, which has the rest of a page of 4 KiB to fill
			if err := errors.Join(s.signal(syscall.SIGHUP), t.reloads(s, float64(n+1))); err != nil {
				return err
			}
		}
		if err := t.saidOnce(s, "the application log cannot be written: "); err != nil {
			return err
		}
		if err := syscall.Mount("tmpfs", mount, "tmpfs", syscall.MS_REMOUNT, "size=4m"); err != nil {
			return fmt.Errorf("make room: %w", err)
		}
		if err := t.serves(s, after); err != nil {
			return err
		}
		return errors.Join(t.allLogged(access, before+after), t.sayWhatHappened(application),
			t.saidOnce(s, "the application log can be written again; "), s.stop(stopLimit))
	})
}

// saidOnce waits for something on standard error, which may be there but once.
func (t *scarce) saidOnce(s *sentry, what string) error {
	return eventually(t.ctx, 5*time.Second, func() error {
		said, err := os.ReadFile(filepath.Join(s.dir, "stderr"))
		if n := bytes.Count(said, []byte(what)); err == nil && n != 1 {
			err = fmt.Errorf("standard error has %q %d times: %s", what, n, said)
		}
		return err
	})
}

// allLogged waits for so many lines, each of which must be whole and of a request of its own.
func (t *scarce) allLogged(file string, n int) error {
	return eventually(t.ctx, 5*time.Second, func() error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		ids := map[string]bool{}
		for raw := range bytes.Lines(text) {
			var entry line
			if err := json.Unmarshal(raw, &entry); err != nil {
				return fmt.Errorf("line %q: %w", raw, err)
			}
			ids[entry.ID] = true
		}
		if lines := bytes.Count(text, []byte("\n")); lines != n || len(ids) != n {
			return fmt.Errorf("%d lines with %d ids; want %d", lines, len(ids), n)
		}
		return nil
	})
}

// sayWhatHappened holds the application log to its word on the access log, and to at most one line that is torn.
func (t *scarce) sayWhatHappened(file string) error {
	return eventually(t.ctx, 5*time.Second, func() error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		torn := 0
		for raw := range bytes.Lines(text) {
			if !json.Valid(raw) {
				torn++
			}
		}
		if torn > 1 || !bytes.Contains(text, []byte(`the access log can be written again`)) || !bytes.Contains(text, []byte(`"lost_lines":0`)) {
			return fmt.Errorf("%d lines are torn in %s", torn, text)
		}
		return nil
	})
}
