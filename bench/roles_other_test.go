//go:build !linux

package main

import "testing"

// printPins has nothing to print where there is no pinning.
func printPins() int { return 0 }

// restorePins has nothing to restore where there is no pinning.
func restorePins(*testing.T) {}
