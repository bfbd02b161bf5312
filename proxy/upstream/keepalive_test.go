package upstream

import (
	"math"
	"testing"
	"time"

	"whsentry/proxy/socket"
)

func TestKeptUntil(t *testing.T) {
	const at = socket.Tick(time.Hour)
	for _, tt := range []struct {
		seconds int
		want    socket.Tick
	}{
		{5, at + int64(4*time.Second)},
		{2, at + int64(time.Second)},
		{1, at},
		{0, at - int64(time.Second)},
		{-1, socket.Never},
	} {
		if got := KeptUntil(at, tt.seconds); got != tt.want {
			t.Errorf("%d: got %v; want %v", tt.seconds, time.Duration(got), time.Duration(tt.want))
		}
	}
	if got := KeptUntil(at, math.MaxInt); got < at+int64(time.Hour) {
		t.Errorf("got %v for ever; want a late moment", time.Duration(got))
	}
}
