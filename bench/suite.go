package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// suite is one run: every scenario with every peer, in rounds.
type suite struct {
	form      form
	peers     []*peer
	scenarios []*scenario
	dir       string // temporary, for the proxies' files
	origins   *origins
	cpu       int // for the proxies; -1: any
	progress  *progress
	done      int // measurements so far, of all
	all       int
	result    result
	older     *result // to compare with; nil: none
	out       io.Writer
}

// runSuite measures whsentry and its peers, prints what comes of it, and writes report.html and report.json. It ends early
// with ctx, and then reports what it has. Requests of ours that failed are an error; a missed target is none.
func runSuite(ctx context.Context, o suiteOptions) (err error) {
	if o.stdout == nil {
		o.stdout = os.Stdout
	}
	if o.stderr == nil {
		o.stderr = os.Stderr
	}
	peers, err := knownPeers(ctx, o.peersFile)
	if err != nil {
		return err
	}
	if o.list {
		list(o.stdout, peers)
		return nil
	}
	s := &suite{form: o.form(), out: o.stdout}
	if o.compare != "" {
		if s.older, err = readReport(o.compare); err != nil {
			return fmt.Errorf("--compare: %w", err)
		}
	}
	if o.report != "" {
		return s.compareOnly(o.report)
	}
	if s.peers, err = pickPeers(peers, o); err != nil {
		return err
	}
	if s.scenarios, err = pickScenarios(o.scenarios); err != nil {
		return err
	}
	if o.out == "" {
		o.out = "."
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	if s.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	if err := s.run(ctx, o); err != nil {
		return err
	}
	return s.report(ctx, o.out)
}

// compareOnly compares a run that has been made with the older one.
func (s *suite) compareOnly(file string) error {
	if s.older == nil {
		return errors.New("--report is what to compare; want --compare with it")
	}
	newer, err := readReport(file)
	if err != nil {
		return fmt.Errorf("--report: %w", err)
	}
	printComparison(s.out, s.older, newer)
	return nil
}

// run prepares, measures, and cleans up.
func (s *suite) run(ctx context.Context, o suiteOptions) (err error) {
	raiseOpenFiles()
	if s.cpu, err = pinLoad(); err != nil {
		return err
	}
	s.progress = newProgress(o.stderr)
	defer s.progress.close()
	if err := s.findOurs(ctx, o.binary); err != nil {
		return err
	}
	if s.origins, err = startOrigins(s.dir); err != nil {
		return err
	}
	defer s.origins.close()
	s.result = result{Started: time.Now(), Short: s.form.short, Rounds: s.form.rounds, Pinned: s.cpu >= 0, Machine: thisMachine(ctx)}
	for _, p := range s.peers {
		s.result.Peers = append(s.result.Peers, peerResult{Name: p.Name, About: p.About, Version: p.version, Program: p.path})
	}
	for _, about := range s.scenarios {
		s.all += s.form.roundsOf(about) * len(s.peers)
	}
	for _, about := range s.scenarios {
		done := s.scenario(ctx, about)
		if ctx.Err() != nil {
			s.result.Incomplete = true
			break
		}
		s.result.Scenarios = append(s.result.Scenarios, *done)
		s.progress.close()
		printScenario(s.out, done)
	}
	s.result.Seconds = time.Since(s.result.Started).Round(time.Second).Seconds()
	return nil
}

// findOurs builds whsentry, or takes the binary given.
func (s *suite) findOurs(ctx context.Context, binary string) (err error) {
	if binary == "" {
		s.progress.step("build whsentry", 0, nil)
		if binary, err = buildProxy(ctx, s.dir); err != nil {
			return err
		}
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return fmt.Errorf("--binary: %w", err)
	}
	if info, err := os.Stat(binary); err != nil {
		return fmt.Errorf("--binary: %w", err)
	} else if info.IsDir() {
		return fmt.Errorf("--binary: %s is a folder; want a program", binary)
	}
	for _, p := range s.peers {
		if p.Name == ours {
			p.path = binary
			p.askVersion(ctx, binary)
		}
	}
	return nil
}

// report judges, prints the end of the table, and writes the report.
func (s *suite) report(ctx context.Context, out string) error {
	if len(s.result.Scenarios) == 0 {
		return context.Cause(ctx) // nothing to report, and no reason to overwrite an older report
	}
	printSummary(s.out, &s.result)
	files, err := writeReports(out, &s.result)
	if err != nil {
		return err
	}
	if s.older != nil {
		printComparison(s.out, s.older, &s.result)
	}
	fmt.Fprintf(s.out, "\nreport: %s, after %.0f s\n", strings.Join(files, ", "), s.result.Seconds)
	if ctx.Err() != nil {
		fmt.Fprintln(s.out, "interrupted: it holds what was measured up to then")
		return context.Cause(ctx)
	}
	return s.result.failures()
}

// failures returns an error that names the scenarios in which requests through whsentry failed.
func (r *result) failures() error {
	var failed []string
	for i := range r.Scenarios {
		mine := r.Scenarios[i].row(ours)
		if mine != nil && mine.Skipped == "" && (mine.Error != "" || mine.Failed > 0) {
			failed = append(failed, fmt.Sprintf("%s (%d of %d: %s)", r.Scenarios[i].ID, mine.Failed, mine.Failed+mine.Requests, mine.Error))
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("requests through %s failed in %s", ours, strings.Join(failed, "; "))
}

// gathered is what the rounds of one scenario with one peer came to.
type gathered struct {
	row    row
	curves [][]curvePoint
}

// scenario measures every peer in every round: A B C A B C, so that what disturbs the machine for a while disturbs all.
func (s *suite) scenario(ctx context.Context, about *scenario) *scenarioResult {
	done := &scenarioResult{ID: about.id, Title: about.title, About: about.about, Of: about.of(), Main: about.main, chart: about.chart}
	rows := make([]gathered, len(s.peers))
	for round := 1; round <= s.form.roundsOf(about) && ctx.Err() == nil; round++ {
		for i, p := range s.peers {
			s.done++
			rows[i].row.Peer = p.Name
			if why := p.why(about.needs); why != "" {
				rows[i].row.Skipped = why
			}
			if rows[i].row.Skipped != "" || ctx.Err() != nil {
				continue
			}
			count := new(atomic.Int64)
			s.progress.step(fmt.Sprintf("%d/%d%s %s, round %d: %s", s.done, s.all, s.left(), about.id, round, p.Name), s.form.about(about), count)
			t := &trial{form: s.form, about: about, origins: s.origins, peer: p, done: count, figures: figures{}}
			rows[i].add(t, s.trial(ctx, t))
		}
	}
	for i := range rows {
		done.Rows = append(done.Rows, rows[i].finish())
	}
	for _, t := range about.targets {
		done.Targets = append(done.Targets, t.judge(done, s.result.Scenarios))
	}
	return done
}

// left says how long the run will take from here, judging by what it has taken; "": it has hardly begun.
func (s *suite) left() string {
	before := time.Duration(s.done - 1)
	if before < max(1, time.Duration(s.all/20)) {
		return ""
	}
	left := time.Since(s.result.Started) / before * (time.Duration(s.all) - before)
	return fmt.Sprintf(" (%s left)", left.Round(10*time.Second))
}

// roundsOf returns how often a scenario is measured.
func (f form) roundsOf(s *scenario) int {
	if s.once {
		return 1
	}
	return f.rounds
}

// about is roughly how long a measurement takes; 0: who knows.
func (f form) about(s *scenario) time.Duration {
	if s.once {
		return 0
	}
	return f.duration + f.warmUp
}

// trial starts t's proxy, measures it and ends it.
func (s *suite) trial(ctx context.Context, t *trial) error {
	dir, err := t.peer.ownDir(s.dir)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ports, err := freeAddresses(2)
	if err != nil {
		return err
	}
	t.address = ports[0]
	place := setup{dir: dir, address: t.address, origins: s.origins, tls: t.about.tls, full: t.about.full}
	if t.command, err = t.peer.command(place, ports[1]); err != nil {
		return err
	}
	t.command.args, t.command.env = append(t.command.args, t.args...), append(t.command.env, t.env...)
	if t.skipped, err = t.command.refused(ctx, place); t.skipped != "" || err != nil {
		return err
	}
	if t.process, err = start(ctx, t.command, place, s.cpu); err != nil {
		return err
	}
	defer t.process.stop()
	err = t.about.measure(ctx, t)
	if err != nil && !t.process.running() {
		_, ended := t.process.usage()
		err = fmt.Errorf("%w (after: %w)", ended, err)
	}
	return err
}

// freeAddresses returns n addresses of this host that nobody listens on. Their ports are below those that systems give
// to connections, of which the load makes many.
func freeAddresses(n int) ([]string, error) {
	var free []string
	for tries := 0; len(free) < n; tries++ {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)))
		if err != nil && tries < 1000 {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		// Open until all are found, so that they differ.
		defer ln.Close()
		free = append(free, ln.Addr().String())
	}
	return free, nil
}

// add takes in one round.
func (g *gathered) add(t *trial, err error) {
	if t.skipped != "" {
		g.row.Skipped = t.skipped
		return
	}
	g.row.Requests += t.total.requests
	g.row.Failed += t.total.failed
	g.row.Partial = t.partial
	if t.note != "" {
		g.row.Note = t.note
	}
	measured := err == nil
	if measured && t.total.firstError != "" {
		err = errors.New(t.total.firstError)
	}
	if err != nil && g.row.Error == "" {
		g.row.Error = err.Error()
	}
	if measured && t.total.requests > 0 {
		g.row.Rounds = append(g.row.Rounds, t.figures)
	}
	if t.curve != nil {
		g.curves = append(g.curves, t.curve)
	}
}

// finish returns the row over all rounds.
func (g *gathered) finish() row {
	g.row.Median, g.row.Low, g.row.High = spread(g.row.Rounds)
	if len(g.curves) == 0 {
		return g.row
	}
	for i, first := range g.curves[0] {
		var rounds []figures
		for _, curve := range g.curves {
			if i < len(curve) {
				rounds = append(rounds, curve[i].Figures)
			}
		}
		median, _, _ := spread(rounds)
		g.row.Curve = append(g.row.Curve, curvePoint{first.Connections, median})
	}
	return g.row
}
