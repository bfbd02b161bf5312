//go:build !linux

package guard

import "syscall"

// bindAddressNoPort is Linux's alone.
func bindAddressNoPort(syscall.RawConn) {}
