package socket

import (
	"math/bits"
	"sync"
)

// MemoryKept is how large Memory may be to be kept for others, in bytes; what is larger is left to the garbage collector.
const MemoryKept = smallestMemory << (memoryClasses - 1)

// Memory is kept by its size, which is a power of two.
const (
	smallestMemory = 1 << 10 // bytes
	memoryClasses  = 15
)

// Memory holds what is larger than a Buffer, a body say, for as long as it is needed.
type Memory struct {
	bytes []byte
	class int // memoryClasses: none
}

var memories [memoryClasses]sync.Pool

// AcquireMemory returns memory for size bytes or more. Release gives it back.
func AcquireMemory(size int) *Memory {
	class := 0
	if size > smallestMemory {
		class = bits.Len(uint((size - 1) / smallestMemory))
	}
	if class >= memoryClasses {
		return &Memory{bytes: make([]byte, 0, size+size/4), class: memoryClasses}
	}
	if m, ok := memories[class].Get().(*Memory); ok {
		return m
	}
	return &Memory{bytes: make([]byte, 0, smallestMemory<<class), class: class}
}

// Bytes is the memory, empty, to be appended to.
func (m *Memory) Bytes() []byte { return m.bytes[:0] }

// Release gives the memory to others: nothing of it may be used from here on.
func (m *Memory) Release() {
	if m.class < memoryClasses {
		memories[m.class].Put(m)
	}
}
