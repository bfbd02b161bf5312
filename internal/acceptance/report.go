//go:build linux

package main

import (
	"fmt"
	"strings"
	"sync"
)

// report prints one line a check, as it is made, and keeps count.
type report struct {
	name string

	mu             sync.Mutex // guards the following fields, and the order of lines
	passed, failed int
}

// check prints `ok NAME`, or `FAIL NAME: why` where err says why.
func (r *report) check(name string, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.failed++
		fmt.Printf("FAIL %s: %s\n", name, strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "\n     "))
		return false
	}
	r.passed++
	fmt.Printf("ok %s\n", name)
	return true
}

// skip says that a check could not be made here, and why. It counts neither way.
func (r *report) skip(name, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Printf("skip %s: %s\n", name, why)
}

// finish prints the summary and returns the exit code: a report without a single check is a failure.
func (r *report) finish() int {
	fmt.Printf("%s: %d checks held, %d did not\n", r.name, r.passed, r.failed)
	if r.failed > 0 || r.passed == 0 {
		return 1
	}
	return 0
}

// want returns an error unless got is what was expected.
func want[T comparable](what string, got, expected T) error {
	if got != expected {
		return fmt.Errorf("%s: got %v; want %v", what, got, expected)
	}
	return nil
}
