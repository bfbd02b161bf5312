package socket

import (
	"bytes"
	"testing"
)

func TestBuffer(t *testing.T) {
	var b Buffer
	if b.Len() != 0 || cap(b.Unused()) != 0 {
		t.Fatalf("got %d bytes in %d; want none, and no memory", b.Len(), cap(b.Unused()))
	}
	b.Added(copy(b.Free(), "head body"))
	b.Skip(5)
	mark := b.Mark()
	if got := string(b.Unused()); got != "body" {
		t.Errorf("got %q; want body", got)
	}
	head := b.Unused()
	b.Grow(2 * BufferSize)
	if got := string(b.Unused()); got != "body" || len(b.Free()) < 2*BufferSize-4 {
		t.Errorf("got %q with %d free; want body, and room", got, len(b.Free()))
	}
	b.Unused()[0] = 'B'
	if string(head) != "body" {
		t.Errorf("got %q in a slice that was taken before; want it as it was", head)
	}
	b.Rewind(mark)
	if b.Len() != 0 {
		t.Errorf("got %d bytes after Rewind", b.Len())
	}
	b.Release()
	if b.Len() != 0 || cap(b.Unused()) != 0 {
		t.Errorf("got %d bytes in %d after Release; want no memory", b.Len(), cap(b.Unused()))
	}
	b.Release() // once more does no harm
}

// What is large is not kept for others.
func TestBufferLarge(t *testing.T) {
	var b Buffer
	b.Added(copy(b.Free(), "x"))
	b.Grow(2 * BufferKept)
	b.Release()
	for range 100 {
		var other Buffer
		if n := len(other.Free()); n > BufferKept {
			t.Fatalf("got a buffer of %d bytes; want %d at most", n, BufferKept)
		}
		defer other.Release()
	}
}

func TestAllocBuffer(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties every sync.Pool")
	}
	data := bytes.Repeat([]byte("x"), 1024)
	if got := testing.AllocsPerRun(1000, func() {
		var b Buffer
		b.Added(copy(b.Free(), data))
		b.Skip(len(data))
		b.Release()
	}); got != 0 {
		t.Errorf("got %v allocations; want 0", got)
	}
}
