package proxy

import (
	"bytes"
	"io"
	"os"
	"sync"
	"time"
)

const (
	logFlushInterval = 200 * time.Millisecond
	logFlushSize     = 64 * kiB
	// logBacklog bounds, in bytes, what waits for a log that takes nothing. Where its file cannot be written (a full
	// disk) the oldest lines beyond that are given up, for the proxy goes on; where the reader of a pipe is slow,
	// requests wait.
	logBacklog = 16 * miB
)

// logWriter writes lines to a file, many at once: a write per line would cost as much as the request's own. A line
// is in the file within logFlushInterval.
type logWriter struct {
	path   string // "" is standard output
	report func(err error)

	mu      sync.Mutex // guards the following
	room    sync.Cond  // signalled when pending has been written
	pending []byte
	failing bool // the last write failed

	writing sync.Mutex // held while writing, and guards the following
	out     io.Writer
	file    *os.File // nil for standard output
	spare   []byte

	wake chan struct{}
	stop chan struct{}
	done chan struct{}
}

// openLog opens path for appending; "" is standard output. report is told of the first of a row of failed writes.
// The writer's goroutine runs until close.
func openLog(path string, report func(err error)) (*logWriter, error) {
	w := &logWriter{path: path, report: report, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	w.room.L = &w.mu
	if err := w.open(path); err != nil {
		return nil, err
	}
	go w.run()
	return w, nil
}

func (w *logWriter) open(path string) error {
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
func (w *logWriter) Write(lines []byte) (int, error) {
	w.mu.Lock()
	for len(w.pending) > logBacklog && !w.failing || len(w.pending) > 2*logBacklog {
		w.room.Wait()
	}
	w.pending = append(w.pending, lines...)
	full := len(w.pending) >= logFlushSize
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
func (w *logWriter) run() {
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
func (w *logWriter) flush() {
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
func (w *logWriter) settle(lines []byte, n int, err error) {
	w.mu.Lock()
	news := err != nil && !w.failing
	if len(lines) > 0 {
		w.failing = err != nil
	}
	if rest := lines[n:]; len(rest) > 0 {
		w.pending = append(rest, w.pending...)
		if excess := len(w.pending) - logBacklog; excess > 0 {
			if end := bytes.IndexByte(w.pending[excess:], '\n'); end >= 0 {
				w.pending = append([]byte(nil), w.pending[excess+end+1:]...)
			}
		}
	} else if cap(lines) <= 4*logFlushSize {
		w.spare = lines[:0]
	}
	w.room.Broadcast()
	w.mu.Unlock()
	if err != nil {
		w.report(&logError{err: err, news: news})
	}
}

// logError is a failed write to a log; news says that the write before it had not failed.
type logError struct {
	err  error
	news bool
}

func (e *logError) Error() string { return e.err.Error() }
func (e *logError) Unwrap() error { return e.err }

// reopen goes on in the file at path, which may be the old one or a new one. Where it cannot be opened the old one
// stays in use.
func (w *logWriter) reopen(path string) error {
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

// close writes what is pending and ends the writer.
func (w *logWriter) close() {
	close(w.stop)
	<-w.done
	if w.file != nil {
		w.file.Close()
	}
}
