//go:build !linux

package listen

import (
	"net/netip"
	"syscall"
)

// portGroup is Linux's alone; elsewhere nothing keeps new connections from a socket that is about to leave.
type portGroup struct {
	listener *Listener
	arrives  func(from netip.AddrPort) bool
}

func (*portGroup) exclude() bool { return false }

func detachPrograms(syscall.RawConn) {}

// isTCP takes every stream for one of TCP: no other protocol is to be expected.
func isTCP(int) bool { return true }
