//go:build !linux

package listen

// ignoreNew is Linux's alone; elsewhere a connection that comes in the very moment of the close is lost.
func (*Listener) ignoreNew() bool { return false }

func (*Listener) halfMade() bool { return false }
