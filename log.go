package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"whsentry/proxy"
)

// logConfig is where and how the proxy logs what it does itself (proxyLog).
type logConfig struct {
	Type  string // text or json
	File  string // appended to; "" is standard output
	Level string // debug, info, warn or error
}

func defaultLogConfig() logConfig {
	return logConfig{Type: proxy.LogText, Level: zerolog.LevelInfoValue}
}

func (c *logConfig) validate() error {
	if c.Type != proxy.LogText && c.Type != proxy.LogJSON {
		return fmt.Errorf("proxyLog.type: %q: not known; want text or json", c.Type)
	}
	switch c.Level {
	case zerolog.LevelDebugValue, zerolog.LevelInfoValue, zerolog.LevelWarnValue, zerolog.LevelErrorValue:
		return nil
	}
	return fmt.Errorf("proxyLog.level: %q: not known; want debug, info, warn or error", c.Level)
}

// logger returns a logger that writes to w as c says.
func (c *logConfig) logger(w io.Writer) zerolog.Logger {
	if c.Type == proxy.LogText {
		w = zerolog.ConsoleWriter{Out: w, NoColor: true, TimeFormat: time.RFC3339}
	}
	level, err := zerolog.ParseLevel(c.Level)
	if err != nil {
		panic("BUG: the log level was not validated: " + err.Error())
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

// logFile is a log's destination, which can be put in the place of another while loggers use it.
type logFile struct {
	mu   sync.Mutex // guards the following
	out  io.Writer
	file *os.File // nil for standard output
}

// openLogFile opens name for appending; "" is stdout.
func openLogFile(name string, stdout io.Writer) (*logFile, error) {
	if name == "" {
		return &logFile{out: stdout}, nil
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return nil, fmt.Errorf("proxyLog.file: %s: %w; want a file that can be appended to", quote(name), path.Err)
	}
	return &logFile{out: f, file: f}, err
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

// replace goes on in next's file and closes the one so far. next is not used any more.
func (l *logFile) replace(next *logFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close() // nothing is buffered, so nothing can be lost
	}
	l.out, l.file = next.out, next.file
}

func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
