//go:build !linux

package main

// pinLoad returns -1: this system has no way to keep a process to a CPU.
func pinLoad() (int, error) { return -1, nil }

// pinned just calls do.
func pinned(_ int, do func() error) error { return do() }
