package socket

import (
	"testing"
	"time"
)

func TestTimeOfTick(t *testing.T) {
	at := time.Now()
	if got := Time(At(at)); !got.Equal(at) {
		t.Errorf("got %v; want %v", got, at)
	}
	if before, now, after := time.Now(), Time(Now()), time.Now(); now.Before(before) || now.After(after) {
		t.Errorf("got %v; want it between %v and %v", now, before, after)
	}
}
