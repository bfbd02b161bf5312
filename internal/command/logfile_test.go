package command

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// smallDisk takes so many bytes, and then none.
type smallDisk struct {
	bytes.Buffer
	room int
}

func (d *smallDisk) Write(p []byte) (int, error) {
	n := min(d.room, len(p))
	d.room -= n
	d.Buffer.Write(p[:n])
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func TestLogFileOnAFullDisk(t *testing.T) {
	disk := &smallDisk{room: len("first\nsec")}
	var said []string
	failed := 0
	l := &logFile{out: disk, failed: func() { failed++ }, warn: func(err error) { said = append(said, err.Error()) }}
	for _, line := range []string{"first\n", "second\n", "third\n", "", "fourth\n", "fifth\n"} {
		if line == "" {
			disk.room = 1000
			continue
		}
		if n, err := l.Write([]byte(line)); n != len(line) || err != nil {
			t.Errorf("%q: got %d, %v; want all of it taken", line, n, err)
		}
	}
	if got, want := disk.String(), "first\nsec\nfourth\nfifth\n"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	if failed != 2 {
		t.Errorf("got %d failed writes; want 2", failed)
	}
	want := []string{"the application log cannot be written: no space left on device",
		"the application log can be written again; 2 of its lines are lost"}
	if !slices.Equal(said, want) {
		t.Errorf("got %q; want %q", said, want)
	}
}

func TestLogFileIsReplaced(t *testing.T) {
	dir := t.TempDir()
	open := func(name string) *logFile {
		l, err := openLogFile(filepath.Join(dir, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := open("a")
	l.Write([]byte("one\n"))
	os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b"))
	l.Write([]byte("two\n"))
	l.replace(open("a"))
	l.Write([]byte("three\n"))
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"b": "one\ntwo\n", "a": "three\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != want {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := openLogFile(dir, nil); err == nil || !strings.Contains(err.Error(), "proxyLog.file") {
		t.Errorf("a directory: got %v; want an error that names the key", err)
	}
}
