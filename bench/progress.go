package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	redrawEvery    = 200 * time.Millisecond
	defaultColumns = 80
)

// progress shows what is being done: on a terminal a line that renews itself, elsewhere one line a step.
type progress struct {
	w     io.Writer
	width int           // of the line, in columns; 0: no terminal
	quit  chan struct{} // closed to end the current step's redrawing; nil: none
	drawn chan struct{} // closed when it has ended
}

// newProgress returns a progress that writes to w.
func newProgress(w io.Writer) *progress {
	// The last column stays free: filling it makes some terminals go to the next line.
	return &progress{w: w, width: max(columns(w)-1, 0)}
}

// columns returns how wide a terminal w is; 0: none, or one that does not understand a carriage return.
func columns(w io.Writer) int {
	file, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	switch {
	case err != nil:
		return 0
	case size.Col == 0: // one that does not tell
		return defaultColumns
	}
	return int(size.Col)
}

// step ends the step before and says that the one called name begins. about says how long it will take (0: unknown), and
// done is raised as things get done in it (nil: nothing is counted).
func (p *progress) step(name string, about time.Duration, done *atomic.Int64) {
	p.close()
	if p.width == 0 {
		fmt.Fprintln(p.w, name)
		return
	}
	p.quit, p.drawn = make(chan struct{}), make(chan struct{})
	go p.draw(name, about, done, time.Now(), p.quit, p.drawn)
}

// draw renews the line until quit is closed, and then clears it.
func (p *progress) draw(name string, about time.Duration, done *atomic.Int64, began time.Time, quit, drawn chan struct{}) {
	defer close(drawn)
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	for {
		fmt.Fprintf(p.w, "\r%-*.*s", p.width, p.width, progressLine(name, time.Since(began), about, done))
		select {
		case <-tick.C:
		case <-quit:
			fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", p.width))
			return
		}
	}
}

// progressLine is what the line says.
func progressLine(name string, took, about time.Duration, done *atomic.Int64) string {
	text := fmt.Sprintf("%s  %.1fs", name, took.Seconds())
	if about > 0 {
		text += fmt.Sprintf(" of about %.0fs", about.Seconds())
	}
	if done == nil {
		return text
	}
	n := done.Load()
	if text += fmt.Sprintf(", %d done", n); took > time.Second {
		text += fmt.Sprintf(", %.0f/s", float64(n)/took.Seconds())
	}
	return text
}

// close ends the last step and clears its line.
func (p *progress) close() {
	if p.quit == nil {
		return
	}
	close(p.quit)
	<-p.drawn
	p.quit = nil
}
