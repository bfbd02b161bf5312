package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Counting finds what one request takes that does not depend on how fast the machine is, or how busy: heap objects, system
// calls on sockets, bytes held while it waits. So that a busy machine changes nothing, a single client sends one request
// after another, slowly, to a destination that takes its time, and of three tries the least counts: whatever every request
// costs is in each of them.

const (
	countedRequests = 200 // of each try
	countedRate     = 250 // requests a second: each finds a proxy that is at rest
	countTries      = 3
	heldRequests    = 1000 // in flight, for what one of them holds
	heldReadings    = 60   // of memory: garbage comes and goes, the least is what is held
)

// countCase is a kind of request to count for.
type countCase struct {
	id   string
	args []string // further ones of whsentry
	full bool     // with everything on
	tls  bool     // towards the destination
	kept bool     // connections are kept, so that also calls that find nothing are always as many
	load func(*origins) load
}

// countCases returns the cases.
func countCases() []countCase {
	plain := func(o *origins) load { return post(1, at(o.plain, "/soon")) }
	json := []string{"--access-log-type", "json"}
	return []countCase{
		{id: "post", kept: true, load: plain},
		{id: "post, JSON log", kept: true, args: json, load: plain},
		{id: "post, everything on", kept: true, full: true, args: json, load: plain},
		{id: "post, TLS to the destination", kept: true, tls: true, load: func(o *origins) load { return post(1, at(o.tls, "/soon")) }},
		{id: "post inside a kept tunnel", kept: true, load: func(o *origins) load {
			l := plain(o)
			l.tunnel = fmt.Sprintf("127.0.0.1:%d", o.plain)
			return l
		}},
		{id: "a client connection for each request", load: func(o *origins) load {
			l := plain(o)
			l.lone = true
			return l
		}},
		{id: "a destination connection for each request", load: func(o *origins) load { return post(1, at(o.plain, "/soon/close")) }},
		{id: "a new tunnel", load: openTunnels(1)},
	}
}

// tolerated says how much more than the figure in the file is no change: what the process does now and then, whatever
// the requests. What every request does is 1 or more.
func tolerated(f figure, was float64) float64 {
	switch f {
	case heldBytes:
		return was/10 + 256
	case socketCalls, emptyCalls:
		return 0.5
	}
	return max(0.5, was/50)
}

// runCounts counts, prints what it finds, and compares it with the file's figures: an error where one has become worse.
func runCounts(ctx context.Context, o suiteOptions) (err error) {
	peers, err := knownPeers(ctx, o.peersFile)
	if err != nil {
		return err
	}
	own := slices.IndexFunc(peers, func(p *peer) bool { return p.Name == ours })
	s := &suite{form: o.form(), out: o.stdout, cpu: -1, peers: []*peer{peers[own]}}
	if s.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	raiseOpenFiles()
	s.progress = newProgress(o.stderr)
	defer s.progress.close()
	if err := s.findOurs(ctx, o.binary); err != nil {
		return err
	}
	if s.origins, err = startOrigins(s.dir); err != nil {
		return err
	}
	defer s.origins.close()
	counts, err := s.count(ctx)
	if err != nil {
		return err
	}
	s.progress.close()
	return s.settle(o.counts, counts)
}

// countedFigures are those that are counted.
var countedFigures = []figure{allocations, socketCalls, emptyCalls, heldBytes}

// counts are figures by the case that they are of.
type counts map[string]figures

// count counts every case.
func (s *suite) count(ctx context.Context) (counts, error) {
	all := counts{}
	for _, c := range countCases() {
		s.progress.step("count: "+c.id, 0, nil)
		if why := s.peers[0].why([]need{needTLS}); c.tls && why != "" {
			s.progress.close()
			fmt.Fprintf(s.out, "%s: not counted: %s\n", c.id, why)
			continue
		}
		about := &scenario{full: c.full, tls: c.tls, measure: func(ctx context.Context, t *trial) error { return s.countRequests(ctx, t, c) }}
		if err := s.countCase(ctx, all, c.id, about, c.args, nil); err != nil {
			return nil, err
		}
	}
	s.progress.step("count: requests in flight", 0, nil)
	// Next to no garbage before it is collected, so that what is held shows.
	err := s.countCase(ctx, all, "post, waiting for its answer", &scenario{measure: measureHeld}, nil, []string{"GOGC=25"})
	return all, err
}

// countCase starts whsentry for one case and adds what it finds to all.
func (s *suite) countCase(ctx context.Context, all counts, id string, about *scenario, args, env []string) error {
	t := &trial{form: s.form, about: about, origins: s.origins, peer: s.peers[0], figures: figures{}, args: args, env: env}
	err := s.trial(ctx, t)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("%s: %w", id, err)
	case t.total.failed > 0:
		return fmt.Errorf("%s: %d requests failed: %s", id, t.total.failed, t.total.firstError)
	case t.skipped != "":
		s.progress.close()
		fmt.Fprintf(s.out, "%s: not counted: %s\n", id, t.skipped)
		return nil
	}
	if t.note != "" {
		s.progress.close()
		fmt.Fprintf(s.out, "%s: %s\n", id, t.note)
	}
	all[id] = t.figures
	return nil
}

// countRequests counts what c's requests take.
func (s *suite) countRequests(ctx context.Context, t *trial, c countCase) error {
	l := c.load(s.origins)
	l.count, l.maxRate, l.timeout = int64(t.form.fewer(countedRequests)), countedRate, time.Minute
	for range countTries {
		o, used, err := t.run(ctx, l)
		if err != nil {
			return err
		}
		if used.mallocs >= 0 && o.requests > 0 {
			t.figures.least(allocations, float64(used.mallocs)/float64(o.requests))
		}
		delete(t.figures, growth)
	}
	for range countTries {
		use, requests, err := t.traced(ctx, l)
		if errors.Is(err, errCannotTrace) {
			t.note = err.Error()
			return nil
		}
		if err != nil {
			return err
		}
		if t.figures.least(socketCalls, perRequest(use.done, requests)) {
			t.note = listCalls(use.done, requests)
		}
		if c.kept {
			t.figures.least(emptyCalls, perRequest(use.empty, requests))
		}
	}
	return nil
}

// least keeps value where it is the least of its figure so far, and reports whether it is.
func (f figures) least(name figure, value float64) bool {
	if before, ok := f[name]; ok && before <= value {
		return false
	}
	f[name] = value
	return true
}

// traced sends l and returns the system calls on sockets that the proxy made meanwhile.
func (t *trial) traced(ctx context.Context, l load) (use socketUse, requests int64, err error) {
	l = t.dress(l)
	var tracer *tracing
	var begun, ended error
	l.begin = func() { tracer, begun = trace(ctx, t.process.cmd.Process.Pid, t.process.dir()) }
	l.end = func() {
		if tracer != nil {
			use, ended = tracer.stop()
		}
	}
	o, err := l.run(ctx, t.address)
	t.total.failed += o.failed
	if t.total.firstError == "" {
		t.total.firstError = o.firstError
	}
	return use, max(o.requests, 1), errors.Join(begun, ended, err)
}

// measureHeld measures what a request holds that waits for its answer.
func measureHeld(ctx context.Context, t *trial) error {
	// Connections and goroutines that are made anyhow are there.
	warm := post(1, at(t.origins.plain, "/ok"))
	warm.count = countedRequests
	if _, _, err := t.run(ctx, warm); err != nil {
		return err
	}
	before := t.process.held()
	release, err := t.hang(ctx, heldRequests)
	if err != nil {
		return err
	}
	defer release()
	during := t.process.held()
	if before < 0 || during < 0 {
		return errors.New("whsentry does not tell what memory it holds")
	}
	t.figures = figures{heldBytes: (during - before) / heldRequests}
	return nil
}

// held returns the least bytes of heap and stacks in some readings, which make garbage themselves; -1: unknown.
func (p *process) held() float64 {
	least := -1.0
	for range heldReadings {
		heap, stacks := p.scrape("go_memstats_heap_alloc_bytes"), p.scrape("go_memstats_stack_inuse_bytes")
		if heap < 0 || stacks < 0 {
			return -1
		}
		if least < 0 || heap+stacks < least {
			least = heap + stacks
		}
	}
	return least
}

// settle compares what was counted with the file's figures, or writes them where there is none.
func (s *suite) settle(file string, now counts) error {
	text, err := readSmall(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s.writeCounts(file, now)
	}
	if err != nil {
		return fmt.Errorf("--counts: %w", err)
	}
	var then counts
	if err := yaml.Unmarshal(text, &then); err != nil {
		return fmt.Errorf("--counts: %s: %s", file, yaml.FormatError(err, false, true))
	}
	lines, worse := compareCounts(then, now)
	printTable(s.out, append([][]string{{"", "what", "in the file", "now", ""}}, lines...))
	if len(worse) > 0 {
		return fmt.Errorf("a request takes more than %s says: %s; where that is meant, remove the file and have it written again", file, strings.Join(worse, "; "))
	}
	return nil
}

// compareCounts returns a line for each figure in either, and words for those that have become worse.
func compareCounts(then, now counts) (lines [][]string, worse []string) {
	both := maps.Clone(then)
	maps.Copy(both, now)
	for _, id := range slices.Sorted(maps.Keys(both)) {
		for _, f := range countedFigures {
			is, counted := now[id][f]
			was, known := then[id][f]
			switch {
			case !counted && !known:
			case !counted:
				lines = append(lines, []string{id, f.says("request"), f.format(was), "", "not counted"})
				if f == allocations || f == heldBytes { // the others need strace
					worse = append(worse, fmt.Sprintf("%s: %s cannot be counted any more", id, f.says("request")))
				}
			case !known:
				lines = append(lines, []string{id, f.says("request"), "", f.format(is), "not in the file"})
			default:
				verdict := "same"
				if is > was+tolerated(f, was) {
					verdict = "WORSE"
					worse = append(worse, fmt.Sprintf("%s: %s %s, was %s", id, f.says("request"), f.format(is), f.format(was)))
				} else if is < was-tolerated(f, was) {
					verdict = "better: write the file again"
				}
				lines = append(lines, []string{id, f.says("request"), f.format(was), f.format(is), verdict})
			}
		}
	}
	return lines, worse
}

// writeCounts writes the file.
func (s *suite) writeCounts(file string, now counts) error {
	var b strings.Builder
	b.WriteString("# What a request takes, counted by `go run ./bench --counts FILE`, which fails where it takes more. To write it anew, remove it.\n")
	for _, id := range slices.Sorted(maps.Keys(now)) {
		fmt.Fprintf(&b, "%s:\n", id)
		for _, f := range countedFigures {
			if value, ok := now[id][f]; ok {
				fmt.Fprintf(&b, "  %s: %s\n", f, strings.ReplaceAll(f.format(value), ",", ""))
			}
		}
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("--counts: %w", err)
	}
	fmt.Fprintf(s.out, "%s\nwritten: %s\n", b.String(), file)
	return nil
}
