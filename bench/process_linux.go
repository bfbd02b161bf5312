package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ticksPerSecond is the unit of the times in /proc/<pid>/stat: sysconf(_SC_CLK_TCK), 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// ownGroup has a program start in a process group of its own, and end with this one even if that is killed.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// procStat is what matters of /proc/<pid>/stat (proc_pid_stat(5)).
type procStat struct {
	pid, parent, group int
	started            uint64        // since the system's start: with pid, who the process is
	user, system       time.Duration // its own
	waited             time.Duration // of children that have ended
}

// family returns the proxy's processes: the one that was started, those of its group, and their children.
func (p *process) family() []procStat {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all, family []procStat
	for _, entry := range entries {
		if id, err := strconv.Atoi(entry.Name()); err == nil {
			if st, err := readStat(id); err == nil {
				all = append(all, st)
			}
		}
	}
	belongs := func(st procStat) bool {
		return st.pid == p.cmd.Process.Pid || st.group == p.cmd.Process.Pid ||
			slices.ContainsFunc(family, func(parent procStat) bool { return st.parent == parent.pid })
	}
	for grown := true; grown; {
		grown = false
		for i := len(all) - 1; i >= 0; i-- {
			if belongs(all[i]) {
				family, all, grown = append(family, all[i]), slices.Delete(all, i, i+1), true
			}
		}
	}
	return family
}

// readStat reads /proc/<pid>/stat.
func readStat(pid int) (procStat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	// The second field, the name, is in parentheses and may hold any character.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return procStat{}, fmt.Errorf("/proc/%d/stat has %d fields; want more", pid, len(fields)+2)
	}
	number := func(field int) int64 { // as proc_pid_stat(5) counts them
		n, _ := strconv.ParseInt(fields[field-3], 10, 64)
		return n
	}
	ticks := func(field int) time.Duration { return time.Duration(number(field)) * time.Second / ticksPerSecond }
	return procStat{
		pid: pid, parent: int(number(4)), group: int(number(5)), started: uint64(number(22)),
		user: ticks(14), system: ticks(15), waited: ticks(16) + ticks(17),
	}, nil
}

// systemUsage returns what the operating system knows. The kernel counts a process' CPU time in nanoseconds, but tells how
// it divides into user and system in ticks of 10 ms.
func (p *process) systemUsage() (usage, error) {
	var u usage
	for _, st := range p.family() {
		exact, err := cpuClock(st.pid)
		if err != nil {
			exact = st.user + st.system
		}
		user := exact
		if ticks := st.user + st.system; ticks > 0 {
			user = time.Duration(float64(exact) * float64(st.user) / float64(ticks))
		}
		u.user += user
		u.system += exact - user + st.waited
		u.rss += residentBytes(st.pid)
	}
	return u, nil
}

// cpuClock reads the CPU clock of another process, all threads that it has or has had together (clock_getcpuclockid(3)).
func cpuClock(pid int) (time.Duration, error) {
	const perProcess = 2 // CPUCLOCK_SCHED
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|perProcess), &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// residentBytes returns VmRSS of a process; 0 where there is none.
func residentBytes(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, text, _ = bytes.Cut(text, []byte("VmRSS:"))
	line, _, _ := bytes.Cut(text, []byte("kB"))
	n, _ := strconv.ParseInt(string(bytes.TrimSpace(line)), 10, 64)
	return n << 10
}

// endLeftovers ends what of the family has outlived the program that was started.
func (p *process) endLeftovers(family []procStat) {
	deadline := time.Now().Add(stopTimeout)
	for _, st := range append(family, p.family()...) {
		for st.alive() && time.Now().Before(deadline) {
			_ = syscall.Kill(st.pid, syscall.SIGKILL)
			time.Sleep(pollEvery)
		}
	}
}

// alive reports whether the process is there still: a process, not another one by the same number, and no zombie.
func (st procStat) alive() bool {
	now, err := readStat(st.pid)
	return err == nil && now.started == st.started && residentBytes(st.pid) > 0
}
