package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tracing is strace while it looks at a process' system calls.
type tracing struct {
	cmd  *exec.Cmd
	file string // what it writes
	said *bytes.Buffer
}

// errCannotTrace is for a system without strace, or that does not let it look.
var errCannotTrace = errors.New("system calls cannot be counted here")

// attachTimeout is how long strace may take until it looks at every thread.
const attachTimeout = 30 * time.Second

// trace has strace look at the process called pid, and returns once it does.
func trace(ctx context.Context, pid int, dir string) (*tracing, error) {
	path, err := exec.LookPath("strace")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCannotTrace, err)
	}
	t := &tracing{file: filepath.Join(dir, "strace.log"), said: new(bytes.Buffer)}
	// -y shows what a descriptor is, so that sockets can be told from Go's own eventfd and from the log.
	t.cmd = exec.Command(path, "-f", "-y", "-s", "0", "-e", "trace=%desc,%network", "-e", "signal=none", "-o", t.file, "-p", strconv.Itoa(pid))
	out, err := t.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := t.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: %w", errCannotTrace, err)
	}
	late := time.AfterFunc(attachTimeout, func() { _ = t.cmd.Process.Kill() })
	defer late.Stop()
	defer context.AfterFunc(ctx, func() { _ = t.cmd.Process.Kill() })()
	for lines := bufio.NewScanner(io.TeeReader(out, t.said)); lines.Scan(); {
		if strings.Contains(lines.Text(), " attached") {
			go io.Copy(io.Discard, out) // ends with strace, which stop ends
			return t, nil
		}
	}
	_ = t.cmd.Wait()
	return nil, fmt.Errorf("%w: strace: %s", errCannotTrace, firstLine(t.said.String()))
}

// stop ends it and returns what it saw.
func (t *tracing) stop() (socketUse, error) {
	// It lets go of the process, and exits as if the signal had ended it.
	_ = t.cmd.Process.Signal(os.Interrupt)
	_ = t.cmd.Wait()
	file, err := os.Open(t.file)
	if err != nil {
		return socketUse{}, err
	}
	defer file.Close()
	return countSocketCalls(file)
}

// tracedCall is a line of strace -f that begins a call or ends one: the thread's number, the call, and which of both.
var tracedCall = regexp.MustCompile(`^(?:(\d+) +)?(?:<\.\.\. )?([a-z0-9_]+)(\(| resumed>)`)

// socketUse is how often each system call was made on a socket: those that did something, and those that found nothing to
// do (EAGAIN). Calls for waiting (epoll_pwait), for Go's own threads and for the log depend on time rather than on requests.
type socketUse struct {
	done, empty map[string]int
}

// countSocketCalls reads what strace wrote.
func countSocketCalls(log io.Reader) (socketUse, error) {
	use := socketUse{map[string]int{}, map[string]int{}}
	begun := map[string]bool{} // by thread: whether the call that has not ended is one on a socket
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		m := tracedCall.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		thread, name := m[1], m[2]
		ofSocket := strings.Contains(line, "<socket:") || begun[thread]
		begun[thread] = ofSocket && strings.HasSuffix(line, "<unfinished ...>")
		switch {
		case !ofSocket || begun[thread]:
		case strings.Contains(line, " EAGAIN "):
			use.empty[name]++
		default:
			use.done[name]++
		}
	}
	return use, lines.Err()
}

// perRequest returns how many calls there were for each of so many requests.
func perRequest(calls map[string]int, requests int64) float64 {
	total := 0
	for _, n := range calls {
		total += n
	}
	return float64(total) / float64(requests)
}

// listCalls writes what a request's calls were, the most frequent first.
func listCalls(calls map[string]int, requests int64) string {
	names := slices.Collect(maps.Keys(calls))
	slices.SortFunc(names, func(a, b string) int {
		if calls[a] != calls[b] {
			return calls[b] - calls[a]
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, name := range names {
		if each := float64(calls[name]) / float64(requests); each >= 0.05 {
			parts = append(parts, fmt.Sprintf("%s %.1f", name, each))
		}
	}
	return strings.Join(parts, ", ")
}
