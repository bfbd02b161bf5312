package guard

import (
	"errors"
	"testing"
	"time"
)

// TestSnapshotOfManyCallers blocks one caller's fetch: others go on with the old value until it is stale.
func TestSnapshotOfManyCallers(t *testing.T) {
	clock := &testClock{at: time.Now()}
	fetching, release := make(chan bool), make(chan bool)
	s, err := newSnapshot(clock.now, func(old int) (int, error) {
		if old > 0 {
			fetching <- true
			<-release
		}
		return old + 1, nil
	})
	if err != nil || s.get() != 1 {
		t.Fatalf("got %d, %v; want 1", s.get(), err)
	}
	clock.add(snapshotFresh + 1)
	got := make(chan int, 2)
	go func() { got <- s.get() }()
	<-fetching
	if v := s.get(); v != 1 {
		t.Errorf("got %d while somebody fetches; want the old 1", v)
	}
	clock.add(snapshotStale - snapshotFresh)
	go func() { got <- s.get() }()
	select {
	case v := <-got:
		t.Errorf("got %d, which is stale; want to wait", v)
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	for range 2 {
		if v := <-got; v != 2 {
			t.Errorf("got %d; want what was fetched", v)
		}
	}
}

func TestSnapshotKeepsTheOldValue(t *testing.T) {
	clock := &testClock{at: time.Now()}
	tries := 0
	var failure error
	s, _ := newSnapshot(clock.now, func(int) (int, error) { tries++; return tries, failure })
	failure = errors.New("no")
	for _, step := range []struct {
		after time.Duration
		tries int
	}{{snapshotStale, 2}, {snapshotRetry - 1, 2}, {1, 3}, {time.Hour, 4}} {
		clock.add(step.after)
		if v := s.get(); v != 1 || tries != step.tries {
			t.Errorf("%s later: got %d after %d tries; want 1 after %d", step.after, v, tries, step.tries)
		}
	}
	failure = nil
	clock.add(snapshotRetry)
	if v := s.get(); v != 5 {
		t.Errorf("got %d; want the new value", v)
	}
}
