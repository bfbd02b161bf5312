//go:build !linux

package e2e

import (
	"net"
	"testing"
)

// cork does nothing where there is no way to tell the system.
func cork(*testing.T, *net.TCPConn) {}
