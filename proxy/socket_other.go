//go:build !linux

package proxy

// hungUp is Linux's alone.
func hungUp(uintptr) bool { return false }

// queued is Linux's alone.
func queued(uintptr) int { return -1 }
