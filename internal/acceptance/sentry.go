//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sentry is a running whsentry.
type sentry struct {
	address string // where clients connect to
	metrics string // where metrics and health are; "": off
	dir     string // working directory; stdout and stderr are files in it
	process *exec.Cmd
	ended   chan struct{} // closed when the process has ended
	code    int           // exit code; valid once ended is closed
}

// stopLimit is how long whsentry may take to stop when nothing is running.
const stopLimit = 10 * time.Second

// freeAddress returns an address on 127.0.0.1 that nothing listened on a moment ago.
func freeAddress() string { return freeAddresses(1)[0] }

// freeAddresses returns n of them, all different. Their ports are below those that systems give to connections, which
// would take one before whsentry does.
func freeAddresses(n int) (free []string) {
	for tries := 0; len(free) < n; tries++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)))
		if err != nil && tries < 1000 {
			continue
		}
		if err != nil {
			panic("no free port on 127.0.0.1: " + err.Error())
		}
		defer l.Close() // only at the end, lest it be given out again
		free = append(free, l.Addr().String())
	}
	return free
}

// launch starts whsentry with its settings in dir/config.yaml (none where config is "") and does not wait for it.
func launch(o options, dir, config string, args ...string) (*sentry, error) {
	return launchAs(o, dir, config, func(*exec.Cmd) {}, args...)
}

// launchAs is launch with a command that prepare has changed.
func launchAs(o options, dir, config string, prepare func(*exec.Cmd), args ...string) (*sentry, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if config != "" {
		if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o644); err != nil {
			return nil, err
		}
	}
	stdout, err := os.Create(filepath.Join(dir, "stdout"))
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	s := &sentry{dir: dir, ended: make(chan struct{}), process: exec.Command(o.whsentry, args...)}
	s.process.Dir, s.process.Stdout, s.process.Stderr = dir, stdout, stderr
	s.process.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_CACHE_HOME=" + filepath.Join(dir, "cache")}
	prepare(s.process)
	if err := s.process.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", o.whsentry, err)
	}
	go s.wait()
	return s, nil
}

// wait owns the process' end; it closes s.ended.
func (s *sentry) wait() {
	s.process.Wait()
	s.code = s.process.ProcessState.ExitCode()
	close(s.ended)
}

// start launches whsentry on free addresses and waits until it is ready. The settings may not name `listener`
// or `metrics`; flags for both are added.
func start(ctx context.Context, o options, dir, config string, args ...string) (*sentry, error) {
	free := freeAddresses(2)
	address, metrics := free[0], free[1]
	s, err := launch(o, dir, config, append([]string{"--listener-address", address, "--metrics-address", metrics}, args...)...)
	if err != nil {
		return nil, err
	}
	s.address, s.metrics = address, metrics
	return s, s.ready(ctx)
}

// ready waits until /readyz says yes and the listener accepts, for at most 15 s.
func (s *sentry) ready(ctx context.Context) error {
	return s.orStop(eventually(ctx, 15*time.Second, func() error {
		select {
		case <-s.ended:
			return fatal{fmt.Errorf("whsentry ended with exit code %d instead of starting: %s", s.code, s.output())}
		default:
		}
		status, err := s.health("/readyz")
		if err != nil {
			return err
		}
		if err := want("/readyz", status, 200); err != nil {
			return err
		}
		c, err := net.DialTimeout("tcp", s.address, time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	}))
}

func (s *sentry) orStop(err error) error {
	if err != nil {
		s.kill()
	}
	return err
}

// fatal ends eventually's attempts.
type fatal struct{ error }

// eventually calls f until it returns nil, for at most limit, and returns its last error.
func eventually(ctx context.Context, limit time.Duration, f func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := f()
		var f fatal
		if err == nil || errors.As(err, &f) {
			return err
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("not within %v: %w", limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// output is what whsentry printed, its end where that is long.
func (s *sentry) output() string {
	var all []byte
	for _, name := range []string{"stdout", "stderr"} {
		b, _ := os.ReadFile(filepath.Join(s.dir, name))
		all = append(all, b...)
	}
	if len(all) > 4000 {
		all = all[len(all)-4000:]
	}
	return string(bytes.TrimSpace(all))
}

func (s *sentry) signal(sig syscall.Signal) error { return s.process.Process.Signal(sig) }

// kill ends the process whatever it does, and waits for that.
func (s *sentry) kill() {
	s.process.Process.Kill()
	<-s.ended
}

// stop sends SIGTERM and holds it to exit code 0 within limit.
func (s *sentry) stop(limit time.Duration) error {
	if err := s.signal(syscall.SIGTERM); err != nil {
		return err
	}
	return s.exits(0, limit)
}

// exits waits for the process' end and holds it to its exit code.
func (s *sentry) exits(code int, limit time.Duration) error {
	select {
	case <-s.ended:
		if s.code != code {
			return fmt.Errorf("exit code %d; want %d: %s", s.code, code, s.output())
		}
		return nil
	case <-time.After(limit):
		s.kill()
		return fmt.Errorf("it had not ended after %v: %s", limit, s.output())
	}
}

var plainClient = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}

// health returns the status of a page on the metrics address.
func (s *sentry) health(path string) (int, error) {
	resp, err := plainClient.Get("http://" + s.metrics + path)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}

// scrape returns every sample of /metrics by its name with labels.
func (s *sentry) scrape() (map[string]float64, error) {
	resp, err := plainClient.Get("http://" + s.metrics + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return nil, err
	}
	samples := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			value, err := strconv.ParseFloat(line[i+1:], 64)
			if err != nil {
				return nil, fmt.Errorf("metrics line %q has no number", line)
			}
			samples[line[:i]] = value
		}
	}
	if len(samples) == 0 {
		return nil, errors.New("/metrics has no samples")
	}
	return samples, nil
}

// sum adds the samples of one metric over all its labels.
func sum(samples map[string]float64, metric string) (total float64) {
	for name, value := range samples {
		if name == metric || strings.HasPrefix(name, metric+"{") {
			total += value
		}
	}
	return total
}
