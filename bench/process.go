package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	startTimeout = 20 * time.Second      // until a proxy accepts connections
	stopTimeout  = 5 * time.Second       // from SIGTERM to SIGKILL, and then for the processes that are left
	pollEvery    = 20 * time.Millisecond // of what cannot be waited for
	logTail      = 1 << 10               // bytes of a proxy's output that an error tells
)

// process is a proxy that start has started, with all the processes that it has started itself.
type process struct {
	cmd      *exec.Cmd
	name     string        // of the program
	log      string        // file with its standard output and error
	metrics  string        // host:port; "": none
	patience time.Duration // from SIGTERM to SIGKILL
	ended    chan struct{}
	once     sync.Once // stops it
	mallocs  mallocCounter
	asked    usage // what its answers about itself took
}

// start starts a proxy on the CPU numbered cpu (-1: on any) and waits until its address accepts connections.
// An error holds the last lines of what the proxy printed.
func start(ctx context.Context, c command, s setup, cpu int) (*process, error) {
	if err := c.write(s.dir); err != nil {
		return nil, err
	}
	if conn, err := net.DialTimeout("tcp", s.address, time.Second); err == nil {
		conn.Close()
		return nil, fmt.Errorf("start %s: something listens on %s already; want a free address", c.path, s.address)
	}
	p := &process{name: filepath.Base(c.path), metrics: c.metrics, patience: stopTimeout, ended: make(chan struct{})}
	p.log = filepath.Join(s.dir, p.name+".log")
	if err := p.launch(c, s, cpu); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.path, err)
	}
	for _, address := range []string{s.address, c.metrics} {
		if err := p.accepts(ctx, address); err != nil {
			p.stop()
			return nil, fmt.Errorf("start %s: %w%s", c.path, err, p.printed())
		}
	}
	return p, nil
}

// write writes the command's files.
func (c command) write(dir string) error {
	for name, content := range c.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("write a proxy's configuration: %w", err)
		}
	}
	return nil
}

// refused has the program look at its configuration, where it can, and returns what it has against it; "": nothing.
func (c command) refused(ctx context.Context, s setup) (string, error) {
	if c.check == "" {
		return "", nil
	}
	if err := c.write(s.dir); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	check := exec.CommandContext(ctx, c.path, append([]string{c.check}, c.args...)...)
	check.Dir = s.dir
	said, err := check.CombinedOutput()
	if err == nil {
		return "", nil
	}
	text := firstLine(string(bytes.TrimSpace(said)))
	if text == "" {
		text = err.Error()
	}
	return "it refuses the configuration: " + text, nil
}

// launch starts the program in a process group of its own, so that Ctrl-C reaches the suite alone, which then ends it in order.
func (p *process) launch(c command, s setup, cpu int) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command(c.path, c.args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = s.dir, log, log
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + s.dir}, c.env...)
	p.cmd.SysProcAttr = ownGroup()
	if err := pinned(cpu, p.cmd.Start); err != nil {
		return err
	}
	go p.wait() // ends with the program, which stop sees to
	return nil
}

func (p *process) wait() {
	// How it ended is of no interest: that it did shows in ended.
	_ = p.cmd.Wait()
	close(p.ended)
}

// accepts waits until address, where it is not "", accepts connections.
func (p *process) accepts(ctx context.Context, address string) error {
	if address == "" {
		return nil
	}
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	for {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.ended:
			return fmt.Errorf("it ended (%s) before it listened on %s", p.cmd.ProcessState, address)
		case <-deadline.C:
			return fmt.Errorf("it does not listen on %s after %s", address, startTimeout)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pollEvery):
		}
	}
}

// printed returns the end of what the program has printed, to stand behind an error.
func (p *process) printed() string {
	text, err := os.ReadFile(p.log)
	if err != nil || len(bytes.TrimSpace(text)) == 0 {
		return ""
	}
	text = bytes.TrimSpace(text)
	return fmt.Sprintf("; it printed:\n%s", text[max(0, len(text)-logTail):])
}

// dir is the folder that the program runs in.
func (p *process) dir() string { return filepath.Dir(p.log) }

// running reports whether the program has not ended.
func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// stop ends the proxy and all its processes, and waits for them.
func (p *process) stop() { p.once.Do(p.end) }

// end is stop. It is called once: later, the process' number may be another's.
func (p *process) end() {
	family := p.family()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(p.patience):
		family = append(family, p.family()...)
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	p.endLeftovers(family)
}

// buildProxy builds whsentry from the module around the working directory into dir and returns the program's path.
func buildProxy(ctx context.Context, dir string) (string, error) {
	gomod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	root := filepath.Dir(string(bytes.TrimSpace(gomod)))
	if err != nil || root == "." || root == filepath.Dir(os.DevNull) {
		return "", errors.New("build whsentry: the working directory is in no Go module; run this within a checkout, or use --binary")
	}
	path := filepath.Join(dir, "whsentry")
	build := exec.CommandContext(ctx, "go", "build", "-o", path, ".")
	build.Dir = root
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build whsentry in %s: %w: %s", root, err, bytes.TrimSpace(text))
	}
	return path, nil
}
