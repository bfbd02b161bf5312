package accesslog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// flakyWriter is a file on a disk that is sometimes full.
type flakyWriter struct {
	mu      sync.Mutex // guards the following
	written bytes.Buffer
	full    bool
	most    int // how much of the next write it takes while it is full
	writes  int
	stuck   chan struct{} // where set, a write waits until it is closed
}

func (w *flakyWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	stuck := w.stuck
	w.writes++
	w.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.full {
		n := min(w.most, len(p))
		w.most = 0
		w.written.Write(p[:n])
		return n, syscall.ENOSPC
	}
	return w.written.Write(p)
}

func (w *flakyWriter) setFull(full bool, most int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.full, w.most = full, most
}

func (w *flakyWriter) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.written.String()
}

// reports collects what a writer reports.
type reports struct {
	mu   sync.Mutex // guards the following
	all  int
	news int
	last error

	again, lost int
}

func (r *reports) addAgain(lost int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.again++
	r.lost += lost
}

func (r *reports) recovered() (times, lost int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.again, r.lost
}

func (r *reports) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all++
	r.last = err
	var failed *WriteError
	if errors.As(err, &failed) && failed.News {
		r.news++
	}
}

func (r *reports) counts() (all, news int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all, r.news
}

// openFlaky opens a log whose file is out.
func openFlaky(t *testing.T, out *flakyWriter) (*writer, *reports) {
	t.Helper()
	r := new(reports)
	w, err := openWriter(filepath.Join(t.TempDir(), "log"), r.add, r.addAgain)
	if err != nil {
		t.Fatalf("open the log: %v", err)
	}
	w.writing.Lock()
	w.out = out
	w.writing.Unlock()
	return w, r
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestLogWriterKeepsTheOrder(t *testing.T) {
	out := new(flakyWriter)
	w, _ := openFlaky(t, out)
	const writers, each = 4, 5000
	var writing sync.WaitGroup
	for n := range writers {
		writing.Add(1)
		go func() { // awaited below
			defer writing.Done()
			for i := range each {
				fmt.Fprintf(w, "%d %d %s\n", n, i, strings.Repeat("x", i%200))
			}
		}()
	}
	writing.Wait()
	w.close()
	next := make([]int, writers)
	lines := 0
	for line := range strings.Lines(out.text()) {
		var n, i int
		if _, err := fmt.Sscanf(line, "%d %d", &n, &i); err != nil || strings.Count(line, "x") != i%200 {
			t.Fatalf("the line %q is torn", line)
		}
		if next[n] != i {
			t.Fatalf("got line %d of writer %d; want %d", i, n, next[n])
		}
		next[n]++
		lines++
	}
	if lines != writers*each {
		t.Errorf("got %d lines; want %d", lines, writers*each)
	}
	if out.writes > writers*each/10 {
		t.Errorf("got %d writes for %d lines; want many lines a write", out.writes, lines)
	}
}

func TestLogWriterOnAFullDisk(t *testing.T) {
	t.Parallel()
	out := &flakyWriter{full: true, most: 7} // in the middle of a line
	w, r := openFlaky(t, out)
	var want strings.Builder
	write := func(line string) {
		want.WriteString(line)
		w.Write([]byte(line))
	}
	write("first line\n")
	waitFor(t, "a report", func() bool { all, _ := r.counts(); return all >= 3 })
	write("second line\n")
	if all, news := r.counts(); news != 1 || all < 3 {
		t.Errorf("got %d reports, %d of them news; want every one reported, and one news", all, news)
	}
	r.mu.Lock()
	last := r.last
	r.mu.Unlock()
	if !errors.Is(last, syscall.ENOSPC) {
		t.Errorf("got the report %v; want ENOSPC", last)
	}
	out.setFull(false, 0)
	write("third line\n")
	waitFor(t, "the lines that were kept", func() bool { return out.text() == want.String() })
	waitFor(t, "the report that it works again", func() bool { again, lost := r.recovered(); return again == 1 && lost == 0 })
	out.setFull(true, 0)
	write("fourth line\n")
	waitFor(t, "news of the second failure", func() bool { _, news := r.counts(); return news == 2 })
	out.setFull(false, 0)
	w.close()
	if got := out.text(); got != want.String() {
		t.Errorf("got %q; want %q", got, want.String())
	}
}

// Lines that come while a write is failing are behind those that it failed to write.
func TestLogWriterKeepsTheOrderOfFailedLines(t *testing.T) {
	out := &flakyWriter{full: true, most: 3, stuck: make(chan struct{})}
	w, r := openFlaky(t, out)
	w.Write([]byte("first\n"))
	waitFor(t, "a write to begin", func() bool {
		out.mu.Lock()
		defer out.mu.Unlock()
		return out.writes > 0
	})
	w.Write([]byte("second\n"))
	close(out.stuck)
	waitFor(t, "it to fail", func() bool { all, _ := r.counts(); return all > 0 })
	out.setFull(false, 0)
	w.close()
	if got, want := out.text(), "first\nsecond\n"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}

// What a full disk keeps waiting is bounded, requests go on, and it is the oldest that is given up.
func TestLogWriterBacklogIsBounded(t *testing.T) {
	t.Parallel()
	out := &flakyWriter{full: true}
	w, r := openFlaky(t, out)
	w.Write([]byte("the oldest line\n"))
	waitFor(t, "a report", func() bool { all, _ := r.counts(); return all > 0 })
	tried := func() int { out.mu.Lock(); defer out.mu.Unlock(); return out.writes }
	before, began := tried(), time.Now()
	line := append(bytes.Repeat([]byte("x"), 64<<10-1), '\n')
	for range logBacklog/len(line) + 10 {
		w.Write(line)
	}
	w.Write([]byte("the newest line\n"))
	if tries, most := tried()-before, int(time.Since(began)/logFlushInterval)+2; tries > most {
		t.Errorf("got %d attempts to write while it was full; want %d at most, one every %v", tries, most, logFlushInterval)
	}
	waitFor(t, "the backlog to be cut", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.pending) > 0 && len(w.pending) <= logBacklog
	})
	out.setFull(false, 0)
	w.close()
	got := out.text()
	if len(got) > logBacklog || !strings.HasSuffix(got, "\nthe newest line\n") || strings.Contains(got, "oldest") {
		t.Errorf("got %d bytes that end with %q; want %d at most, with the newest line and without the oldest", len(got), got[max(0, len(got)-20):], logBacklog)
	}
	if _, lost := r.recovered(); lost != 2+logBacklog/len(line)+10-strings.Count(got, "\n") {
		t.Errorf("got %d lines told to be lost; %d of %d are there", lost, strings.Count(got, "\n"), 2+logBacklog/len(line)+10)
	}
	for l := range strings.Lines(got) {
		if len(l) != len(line) && l != "the newest line\n" {
			t.Fatalf("a line of %d bytes is torn", len(l))
		}
	}
}

// A line of which the disk took a part before it was full is completed, however long that takes.
func TestLogWriterCompletesALine(t *testing.T) {
	t.Parallel()
	out := &flakyWriter{full: true, most: 5}
	w, r := openFlaky(t, out)
	w.Write([]byte("the oldest line\n"))
	waitFor(t, "a report", func() bool { all, _ := r.counts(); return all > 0 })
	line := append(bytes.Repeat([]byte("x"), 64<<10-1), '\n')
	for range 2 {
		for range logBacklog/len(line) + 10 {
			w.Write(line)
		}
		waitFor(t, "the backlog to be cut", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return len(w.pending) > 0 && len(w.pending) <= logBacklog
		})
	}
	out.setFull(false, 0)
	w.close()
	got := out.text()
	if !strings.HasPrefix(got, "the oldest line\nxxx") {
		t.Errorf("got %q at the beginning; want the whole line that was begun", got[:min(len(got), 30)])
	}
	for l := range strings.Lines(got[len("the oldest line\n"):]) {
		if len(l) != len(line) {
			t.Fatalf("a line of %d bytes is torn", len(l))
		}
	}
}

// A log that is full to the end loses what waits for it, and says how much.
func TestLogWriterLosesLines(t *testing.T) {
	w, _ := openFlaky(t, &flakyWriter{full: true, most: 8})
	w.Write([]byte("first\nsecond\nthird\n"))
	if lost := w.close(); lost != 2 {
		t.Errorf("got %d lines told to be lost; want 2: one was written, and one in part", lost)
	}
}

// A reader that is slow, not gone, makes requests wait: no line is dropped.
func TestLogWriterWaitsForASlowReader(t *testing.T) {
	t.Parallel()
	out := &flakyWriter{stuck: make(chan struct{})}
	w, _ := openFlaky(t, out)
	const size = 64 << 10
	line := append(bytes.Repeat([]byte("x"), size-1), '\n')
	const lines = 2*logBacklog/size + 100
	written := make(chan struct{})
	go func() { // awaited below
		defer close(written)
		for range lines {
			w.Write(line)
		}
	}()
	waitFor(t, "the backlog to be full", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.pending) > logBacklog
	})
	time.Sleep(50 * time.Millisecond) // in which a writer that does not wait would go on
	w.mu.Lock()
	if len(w.pending) > logBacklog+size {
		t.Errorf("got %d bytes waiting; want %d at most, and the writers waiting", len(w.pending), logBacklog+size)
	}
	w.mu.Unlock()
	close(out.stuck)
	<-written
	w.close()
	if got := len(out.text()); got != lines*size {
		t.Errorf("got %d bytes; want %d", got, lines*size)
	}
}

func TestLogWriterReopens(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	r := new(reports)
	w, err := openWriter(first, r.add, r.addAgain)
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("one\n"))
	if err := w.reopen(second); err != nil {
		t.Fatalf("reopen: %v", err)
	}
	w.Write([]byte("two\n"))
	if err := w.reopen(filepath.Join(dir, "missing", "log")); err == nil {
		t.Errorf("got no error for a folder that is not there")
	}
	w.Write([]byte("three\n"))
	if err := w.reopen(first); err != nil {
		t.Fatalf("reopen: %v", err)
	}
	w.Write([]byte("four\n"))
	w.close()
	for file, want := range map[string]string{first: "one\nfour\n", second: "two\nthree\n"} {
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("got %q, %v in %s; want %q", got, err, filepath.Base(file), want)
		}
	}
	if all, _ := r.counts(); all != 0 {
		t.Errorf("got %d failures reported; want none", all)
	}
}

// A line is written within a second, whenever it comes, on a clock that only sleepers move.
func TestLogWriterWritesWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := new(flakyWriter)
		w, _ := openFlaky(t, out)
		defer w.close()
		want := ""
		for i := range 20 {
			time.Sleep(time.Duration(i) * 37 * time.Millisecond)
			line := fmt.Sprintf("line %d\n", i)
			w.Write([]byte(line))
			time.Sleep(time.Second)
			synctest.Wait()
			if want += line; out.text() != want {
				t.Fatalf("got %q a second after line %d; want %q", out.text(), i, want)
			}
		}
	})
}

// The last line may come just before the end.
func TestLogWriterCloseWritesAll(t *testing.T) {
	for range 50 {
		out := new(flakyWriter)
		w, _ := openFlaky(t, out)
		w.Write([]byte("last\n"))
		w.close()
		if out.text() != "last\n" {
			t.Fatalf("got %q; want the last line", out.text())
		}
	}
}

func TestOpenLogFails(t *testing.T) {
	if w, err := openWriter(t.TempDir(), nil, nil); err == nil {
		w.close()
		t.Errorf("got no error for a folder")
	}
}
