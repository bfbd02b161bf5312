package main

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestProgressLine(t *testing.T) {
	var done atomic.Int64
	done.Store(3000)
	tests := []struct {
		name        string
		took, about time.Duration
		done        *atomic.Int64
		want        string
	}{
		{"bare", 1500 * time.Millisecond, 0, nil, "post  1.5s"},
		{"with a length", time.Second, 3 * time.Second, nil, "post  1.0s of about 3s"},
		{"just begun", 500 * time.Millisecond, 0, &done, "post  0.5s, 3000 done"},
		{"with a rate", 2 * time.Second, 3 * time.Second, &done, "post  2.0s of about 3s, 3000 done, 1500/s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := progressLine("post", tt.took, tt.about, tt.done); got != tt.want {
				t.Errorf("got %q; want %q", got, tt.want)
			}
		})
	}
}

func TestProgressElsewhere(t *testing.T) {
	var printed bytes.Buffer
	p := newProgress(&printed)
	p.step("one", time.Second, nil)
	p.step("two", 0, nil)
	p.close()
	if got := printed.String(); got != "one\ntwo\n" {
		t.Errorf("got %q; want a line a step", got)
	}
}

func TestProgressOnTerminal(t *testing.T) {
	var printed bytes.Buffer
	p := &progress{w: &printed, width: 10}
	p.step("a name that is too long", 0, nil)
	p.close()
	p.close()
	if got, want := printed.String(), "\ra name tha\r"+strings.Repeat(" ", 10)+"\r"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}
