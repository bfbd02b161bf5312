//go:build !linux

package main

import (
	"context"
	"time"
)

// timer waits for moments, as exactly as the system's sleep does.
type timer struct{}

func newTimer() (*timer, error) { return &timer{}, nil }

func (t *timer) close() {}

// until waits for a moment; false where ctx ended before it.
func (t *timer) until(ctx context.Context, moment time.Time) bool {
	for ctx.Err() == nil {
		left := time.Until(moment)
		if left <= 0 {
			return true
		}
		time.Sleep(min(left, pollPause))
	}
	return false
}
