//go:build !linux

package proxy

// ignoreNew is Linux's alone; elsewhere a connection that comes in the very moment of the close is lost.
func (*listener) ignoreNew() bool { return false }

func (*listener) halfMade() bool { return false }
