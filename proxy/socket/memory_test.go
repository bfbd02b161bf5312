package socket

import "testing"

func TestMemory(t *testing.T) {
	for _, tt := range []struct{ size, want int }{
		{0, 1 << 10}, {1, 1 << 10}, {1 << 10, 1 << 10}, {1<<10 + 1, 2 << 10}, {100_000, 128 << 10}, {MemoryKept, MemoryKept},
		{MemoryKept + 4, MemoryKept + 4 + MemoryKept/4 + 1},
	} {
		m := AcquireMemory(tt.size)
		if got := m.Bytes(); len(got) != 0 || cap(got) != tt.want {
			t.Errorf("got %d bytes in %d for %d; want none, in %d", len(got), cap(got), tt.size, tt.want)
		}
		m.Release()
	}
	m := AcquireMemory(3000)
	m.Release()
	if again := AcquireMemory(2049); cap(again.Bytes()) != 4<<10 || len(again.Bytes()) != 0 {
		t.Errorf("got %d bytes in %d; want none, in 4096", len(again.Bytes()), cap(again.Bytes()))
	}
}
