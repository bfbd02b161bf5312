//go:build !linux

package main

import "syscall"

// ownGroup has a program start in a process group of its own.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// procStat is one of a proxy's processes. Without /proc they are not known.
type procStat struct{}

func (p *process) family() []procStat { return nil }

func (p *process) endLeftovers([]procStat) {}

// systemUsage returns that nothing is known.
func (p *process) systemUsage() (usage, error) {
	return usage{user: -1, system: -1, rss: -1}, nil
}
