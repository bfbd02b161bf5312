package command

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"whsentry/internal/settings"
)

// logFile is the application log's destination, which can be put in the place of another while loggers use it. Nothing
// is buffered. Where it cannot be written, as on a full disk, lines are lost; that is said once, on standard error, and
// once more when it can be written again.
type logFile struct {
	failed func()      // called for every line that is lost; nil: nobody counts them
	warn   func(error) // says it on standard error; nil: nobody does

	mu   sync.Mutex // guards the following
	out  io.Writer
	file *os.File // nil for standard output
	torn bool     // it ends within a line
	lost int      // lines since it could be written
}

// openLogFile opens name for appending; "" is stdout.
func openLogFile(name string, stdout io.Writer) (*logFile, error) {
	if name == "" {
		return &logFile{out: stdout}, nil
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return nil, fmt.Errorf("proxyLog.file: %s: %w; want a file that can be appended to", settings.Quote(name), path.Err)
	}
	return &logFile{out: f, file: f}, err
}

// Write takes one line. It never fails: a logger could do nothing about it, and would say so for every line.
func (l *logFile) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	whole := line
	if l.torn {
		whole = append([]byte{'\n'}, line...) // lest it be taken for the rest of the one that was lost
	}
	n, err := l.out.Write(whole)
	if n > 0 {
		l.torn = whole[n-1] != '\n'
	}
	switch {
	case err != nil:
		l.lose(err)
	case l.lost > 0:
		l.say(fmt.Errorf("the application log can be written again; %d of its lines are lost", l.lost))
		l.lost = 0
	}
	return len(line), nil
}

// lose accounts for a line that could not be written. l.mu is held.
func (l *logFile) lose(err error) {
	if l.lost == 0 {
		l.say(fmt.Errorf("the application log cannot be written: %w", err))
	}
	l.lost++
	if l.failed != nil {
		l.failed()
	}
}

func (l *logFile) say(err error) {
	if l.warn != nil {
		l.warn(err)
	}
}

// replace goes on in next's file, which may be the same one, and closes the one so far. next is not used any more.
func (l *logFile) replace(next *logFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close() // nothing is buffered, so nothing can be lost
	}
	l.out, l.file = next.out, next.file
}

// Close closes the file. Standard output stays open.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
