//go:build linux

package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	// guesses is how many wrong tokens are shown, and guessers over how many connections.
	guesses  = 100_000
	guessers = 10
	// residentSlack is how much memory may be resident for it, in bytes, after a first tenth of them.
	residentSlack = 8 << 20
)

// wrongTokens shows one wrong token after the other over connections that are kept: whsentry may remember nothing of
// them, and write nothing but a line for each to the access log.
func (t *scarce) wrongTokens() error {
	s, err := start(t.ctx, t.o, filepath.Join(t.o.scratch, "guessed"), t.config()+"proxyLog: {file: proxy.log}\n"+
		"clients: [{name: shop, tokens: [\"sha256:"+strings.Repeat("0", 64)+"\"]}]\n")
	if err != nil {
		return err
	}
	defer s.kill()
	if err := t.guess(s, guesses/10); err != nil {
		return err
	}
	if err := t.back(s, levels{goroutines: 1 << 20, descriptors: 1 << 20}); err != nil { // the guessers have left
		return err
	}
	before, err := s.levels()
	if err != nil {
		return err
	}
	said, err := os.ReadFile(filepath.Join(s.dir, "proxy.log"))
	if err != nil {
		return err
	}
	if err := t.guess(s, guesses); err != nil {
		return err
	}
	if err := t.back(s, before); err != nil {
		return err
	}
	after, err := s.levels()
	if err != nil {
		return err
	}
	fmt.Printf("%d wrong tokens: before %v; after %v\n", guesses, before, after)
	if after.resident > before.resident+residentSlack {
		return fmt.Errorf("it holds %v; before it held %v", after, before)
	}
	if err := errors.Join(t.lines(s, guesses+guesses/10), unchanged(filepath.Join(s.dir, "proxy.log"), said)); err != nil {
		return err
	}
	return s.stop(stopLimit)
}

// guess sends n requests with wrong credentials, of every kind that there is.
func (t *scarce) guess(s *sentry, n int) error {
	errs := make([]error, guessers)
	var running sync.WaitGroup
	for g := range guessers {
		running.Go(func() {
			c, err := dialReader(s.address)
			if err != nil {
				errs[g] = err
				return
			}
			defer c.Close()
			for i := range n / guessers {
				m, err := c.ask(strings.Replace(t.post(""), "\r\n", "\r\nProxy-Authorization: "+credential(g, i)+"\r\n", 1))
				if err == nil {
					err = want("verdict", m.verdict(), "407/1016")
				}
				if err != nil {
					errs[g] = fmt.Errorf("guess %d: %w", i, err)
					return
				}
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// credential is a wrong one, and no other is the same.
func credential(guesser, i int) string {
	token := fmt.Sprintf("guess-%d-%d", guesser, i)
	basic := func(name, token string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+token))
	}
	return []string{basic("shop", token), basic(token, "x"), "Bearer " + token, "Digest " + token, "Basic " + token}[i%5]
}

// lines waits until the access log has n lines, for a line may be written a second after its answer.
func (t *scarce) lines(s *sentry, n int) error {
	return eventually(t.ctx, 10*time.Second, func() error {
		log, err := os.ReadFile(filepath.Join(s.dir, "access.log"))
		if err != nil {
			return err
		}
		return want("lines of the access log", bytes.Count(log, []byte("\n")), n)
	})
}

// unchanged compares a file with what it held.
func unchanged(file string, held []byte) error {
	now, err := os.ReadFile(file)
	if err == nil && !bytes.Equal(now, held) {
		err = fmt.Errorf("%s has grown: %s", file, bytes.TrimPrefix(now, held))
	}
	return err
}
