package command

import (
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// availableMemory returns what the process may use, in bytes: the least limit of its cgroup and their parents, or the
// machine's memory where that is less. 0: it cannot be known.
func availableMemory() uint64 {
	machine, err := memlimit.FromSystem()
	if err != nil {
		machine = 0
	}
	group, err := memlimit.FromCgroup()
	if err != nil || group == 0 { // none, or no limit
		return machine
	}
	if machine == 0 {
		return group
	}
	return min(group, machine)
}

// limitMemory has the garbage collector keep the process below nine tenths of its memory. GOMEMLIMIT, which the runtime
// obeys itself, comes first.
func (a *app) limitMemory() {
	if a.environ.Get("GOMEMLIMIT") == "" && a.memory > 0 {
		debug.SetMemoryLimit(int64(a.memory / 10 * 9))
	}
}
