package accesslog

import (
	"bytes"
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	logFlushInterval = 200 * time.Millisecond
	logFlushSize     = 64 << 10
	// logBacklog bounds, in bytes, what waits for a log that takes nothing. Where its file cannot be written (a full
	// disk) the oldest lines beyond that are given up, for the proxy goes on; where the reader of a pipe is slow,
	// requests wait.
	logBacklog = 16 << 20
)

// writer writes lines to a file, many at once: a write per line would cost as much as the request's own. A line
// is in the file within logFlushInterval.
type writer struct {
	path   string // "" is standard output
	report func(err error)
	again  func(lost int)

	mu      sync.Mutex // guards the following
	room    sync.Cond  // signalled when pending has been written
	pending []byte
	failing bool // the last write failed
	torn    bool // the file ends within a line, the rest of which is where pending begins
	lost    int  // lines given up since it failed

	writing sync.Mutex // held while writing, and guards the following
	out     io.Writer
	file    *os.File // nil for standard output
	spare   []byte

	wake chan struct{}
	stop chan struct{}
	done chan struct{}
}

// openWriter opens path for appending; "" is standard output. report is told of every write that fails, with a *WriteError;
// again of the first that does not after some that did, and how many lines were given up in between.
// The writer's goroutine runs until close.
func openWriter(path string, report func(err error), again func(lost int)) (*writer, error) {
	w := &writer{path: path, report: report, again: again, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	w.room.L = &w.mu
	if err := w.open(path); err != nil {
		return nil, err
	}
	go w.run()
	return w, nil
}

func (w *writer) open(path string) error {
	if path == "" {
		w.out, w.file, w.path = os.Stdout, nil, ""
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	w.out, w.file, w.path = f, f, path
	return nil
}

// Write takes whole lines. It waits where the log is behind by logBacklog, and never fails.
func (w *writer) Write(lines []byte) (int, error) {
	w.mu.Lock()
	for len(w.pending) > logBacklog && !w.failing || len(w.pending) > 2*logBacklog {
		w.room.Wait()
	}
	w.pending = append(w.pending, lines...)
	full := len(w.pending) >= logFlushSize && !w.failing // which is not made better by trying more often
	w.mu.Unlock()
	if full {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	return len(lines), nil
}

// run is the writer's goroutine; close ends it.
func (w *writer) run() {
	defer close(w.done)
	ticker := time.NewTicker(logFlushInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-w.wake:
		case <-w.stop:
			w.flush()
			return
		}
		w.flush()
	}
}

// flush writes what is pending.
func (w *writer) flush() {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.mu.Lock()
	lines := w.pending
	w.pending = w.spare[:0]
	w.spare = nil
	w.mu.Unlock()
	n, err := 0, error(nil)
	if len(lines) > 0 {
		n, err = w.out.Write(lines)
	}
	w.settle(lines, n, err)
}

// settle keeps what could not be written for the next flush, within logBacklog.
func (w *writer) settle(lines []byte, n int, err error) {
	w.mu.Lock()
	news, over, lost := err != nil && !w.failing, false, 0
	if len(lines) > 0 {
		over = err == nil && w.failing
		w.failing = err != nil
	}
	if n > 0 {
		w.torn = lines[n-1] != '\n'
	}
	if rest := lines[n:]; len(rest) > 0 {
		w.pending = append(rest, w.pending...)
		w.giveUp()
	} else if cap(lines) <= 4*logFlushSize {
		w.spare = lines[:0]
	}
	if over {
		lost, w.lost = w.lost, 0
	}
	w.room.Broadcast()
	w.mu.Unlock()
	if err != nil {
		w.report(&WriteError{Err: err, News: news})
	}
	if over {
		w.again(lost)
	}
}

// giveUp drops the oldest lines beyond logBacklog, but never the rest of one that has been begun. w.mu is held.
func (w *writer) giveUp() {
	excess := len(w.pending) - logBacklog
	if excess <= 0 {
		return
	}
	from := 0
	if w.torn {
		from = bytes.IndexByte(w.pending, '\n') + 1
	}
	to := min(from+excess, len(w.pending)) - 1
	to += bytes.IndexByte(w.pending[to:], '\n') + 1
	w.lost += bytes.Count(w.pending[from:to], []byte("\n"))
	w.pending = slices.Concat(w.pending[:from], w.pending[to:])
}

// WriteError is a failed write to the log. Its lines are kept, and tried again.
type WriteError struct {
	Err  error
	News bool // the write before it had not failed
}

func (e *WriteError) Error() string { return e.Err.Error() }

// Unwrap returns the system's error.
func (e *WriteError) Unwrap() error { return e.Err }

// reopen goes on in the file at path, which may be the old one or a new one. Where it cannot be opened the old one
// stays in use.
func (w *writer) reopen(path string) error {
	w.flush()
	w.writing.Lock()
	defer w.writing.Unlock()
	old := w.file
	if err := w.open(path); err != nil {
		return err
	}
	if old != nil {
		old.Close()
	}
	return nil
}

// close writes what is pending and ends the writer. It returns how many lines are lost, because the log cannot be
// written.
func (w *writer) close() (lost int) {
	close(w.stop)
	<-w.done
	if w.file != nil {
		w.file.Close()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost + bytes.Count(w.pending, []byte("\n"))
}
