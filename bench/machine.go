package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machine describes where a run took place; what is not known is empty.
type machine struct {
	System    string `json:"system"` // operating system and architecture, as Go calls them
	Kernel    string `json:"kernel,omitempty"`
	CPU       string `json:"cpu,omitempty"`
	CPUs      int    `json:"cpus"`
	MemoryMiB int64  `json:"memory_mib,omitempty"`
	OpenFiles int    `json:"open_files,omitempty"` // that a process may have
	Go        string `json:"go"`                   // that built the suite
}

// String names what tells machines apart.
func (m machine) String() string {
	return fmt.Sprintf("%s, %d CPUs, %s, %d MiB", m.CPU, m.CPUs, m.Kernel, m.MemoryMiB)
}

// thisMachine describes the machine that the suite runs on.
func thisMachine(ctx context.Context) machine {
	m := machine{
		System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), OpenFiles: maxOpenFiles(), Go: runtime.Version(),
		Kernel: ask(ctx, "uname", "-sr"),
	}
	if runtime.GOOS == "darwin" {
		m.CPU = ask(ctx, "sysctl", "-n", "machdep.cpu.brand_string")
		bytes, _ := strconv.ParseInt(ask(ctx, "sysctl", "-n", "hw.memsize"), 10, 64)
		m.MemoryMiB = bytes >> 20
		return m
	}
	m.CPU = field("/proc/cpuinfo", "model name")
	kib, _ := strconv.ParseInt(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 10, 64)
	m.MemoryMiB = kib >> 10
	return m
}

// ask returns what a command prints; "" where it fails.
func ask(ctx context.Context, name string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	text, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(text))
}

// field returns the value of the first line "name : value" in a file; "" where there is none.
func field(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, found := strings.Cut(lines.Text(), ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
