package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	maxCPUs       = 1024 // that a unix.CPUSet has room for
	pinningRounds = 100  // over the process' threads, until a round finds none that is new
)

// pinLoad keeps this process, and so load and origins, off one of its CPUs and returns that CPU's number, which is for
// the proxies; -1 where there is but one.
func pinLoad() (int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return -1, fmt.Errorf("ask which CPUs this process may use: %w", err)
	}
	if set.Count() < 2 {
		return -1, nil
	}
	proxies := maxCPUs - 1
	for !set.IsSet(proxies) {
		proxies--
	}
	set.Clear(proxies)
	if err := pinThreads(&set); err != nil {
		return -1, err
	}
	runtime.GOMAXPROCS(set.Count())
	return proxies, nil
}

// pinThreads keeps every thread of this process to set. A new thread has the set of the one that made it, so once a round
// finds no thread outside of set, there will never be one.
func pinThreads(set *unix.CPUSet) error {
	for range pinningRounds {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("list the threads of this process: %w", err)
		}
		changed := false
		for _, thread := range threads {
			id, err := strconv.Atoi(thread.Name())
			if err != nil {
				continue
			}
			var has unix.CPUSet
			if unix.SchedGetaffinity(id, &has) != nil || has == *set {
				continue // ended since, or done
			}
			changed = true
			if err := unix.SchedSetaffinity(id, set); err != nil && err != unix.ESRCH {
				return fmt.Errorf("pin thread %d: %w", id, err)
			}
		}
		if !changed {
			return nil
		}
	}
	return fmt.Errorf("pin this process: after %d rounds there still were new threads", pinningRounds)
}

// pinned calls do on a thread that is kept to one CPU, so that a process which do starts is, too. With cpu -1 it just calls it.
func pinned(cpu int, do func() error) error {
	if cpu < 0 {
		return do()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("ask which CPUs this thread may use: %w", err)
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("pin a thread to CPU %d: %w", cpu, err)
	}
	err := do()
	if back := unix.SchedSetaffinity(0, &before); back != nil && err == nil {
		err = fmt.Errorf("pin a thread back: %w", back)
	}
	return err
}
