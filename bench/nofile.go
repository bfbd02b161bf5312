package main

import "syscall"

// raiseOpenFiles lets this process, and the proxies that it starts, have as many open files as the system allows. Go has
// raised its own limit already, but hands the old one to its children unless it is set explicitly.
func raiseOpenFiles() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return
	}
	limit.Cur = limit.Max
	// Where it fails the old limit stays, and what needs more is left out.
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// maxOpenFiles returns how many files a process may have open; 0: unknown.
func maxOpenFiles() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return int(min(uint64(limit.Cur), 1<<30))
}
