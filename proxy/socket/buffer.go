package socket

import (
	"sync"
	"sync/atomic"
)

// Sizes of memory for bytes on their way, in bytes.
const (
	BufferSize = 4 << 10  // a Buffer at first
	BufferKept = 72 << 10 // a buffer larger than this is not kept for the next request: a body of 64 KiB fits, and its head
	bufferStep = 8 << 10  // by which Go's memory for what is large differs, so that the rest of it would be lost
	// CopyLimit is up to where copying a body behind its head costs less than handing both to the system.
	CopyLimit = 16 << 10
	// copyBufferSize is how much of a tunnel or of a large body is moved at once.
	copyBufferSize = 32 << 10
	// bulkBufferSize is how much of a tunnel is moved at once where more flows than that: a GiB costs a tenth less so.
	bulkBufferSize = 256 << 10
)

// bulkBuffers is how many buffers of bulkBufferSize may be in use: a tunnel holds one for as long as who is at its other
// end does not read.
const bulkBuffers = 64

// Buffer holds bytes that were read and not yet used. The zero Buffer is empty, and takes its memory with the first
// call of Free.
type Buffer struct {
	bytes    []byte
	from, to int // what is unused
	kept     *[]byte
}

var buffers = sync.Pool{New: func() any {
	b := make([]byte, BufferSize)
	return &b
}}

// Len is how many bytes are unused.
func (b *Buffer) Len() int { return b.to - b.from }

// Unused is the bytes that are not used yet, a part of the buffer's memory.
func (b *Buffer) Unused() []byte { return b.bytes[b.from:b.to] }

// Free is where the next bytes go; it is empty where the buffer is full. Added tells how many there are now.
func (b *Buffer) Free() []byte {
	if b.bytes == nil {
		b.kept = buffers.Get().(*[]byte)
		b.bytes = *b.kept
	}
	return b.bytes[b.to:]
}

// Added adds the first n bytes of Free to those that are unused.
func (b *Buffer) Added(n int) { b.to += n }

// Skip marks n bytes as used. They stay where they are until Restart, Grow, Clear or Release is called.
func (b *Buffer) Skip(n int) { b.from += n }

// Mark is where the first unused byte is, for Rewind.
func (b *Buffer) Mark() int { return b.from }

// Rewind empties the buffer down to mark: what is before it stays where it is.
func (b *Buffer) Rewind(mark int) { b.from, b.to = mark, mark }

// Grow makes the buffer hold at least size bytes from the first unused one on; what has been used may go. Slices
// taken before keep what they held, for memory that is left is not written to again. The next message like this one will
// fit with what has been used.
func (b *Buffer) Grow(size int) {
	if len(b.bytes)-b.from >= size {
		return
	}
	whole := (b.from + size + bufferStep - 1) / bufferStep * bufferStep
	if whole > BufferKept {
		whole = max(size, BufferKept)
	}
	bytes := make([]byte, max(whole, min(2*len(b.bytes), BufferKept)))
	b.to = copy(bytes, b.Unused())
	b.from, b.bytes = 0, bytes
}

// Restart moves what is unused to the beginning, over what has been used.
func (b *Buffer) Restart() {
	if b.from > 0 {
		b.to = copy(b.bytes, b.Unused())
		b.from = 0
	}
}

// Clear forgets what the buffer holds, and keeps its memory unless that is large.
func (b *Buffer) Clear() {
	b.from, b.to = 0, 0
	if len(b.bytes) > BufferKept {
		b.bytes = nil
	}
}

// Release forgets what the buffer holds, and gives its memory to others: nothing of it may be used from here on.
func (b *Buffer) Release() {
	bytes, kept := b.bytes, b.kept
	*b = Buffer{}
	switch {
	case bytes == nil || len(bytes) > BufferKept:
		return
	case kept == nil: // grown before anything was in it
		kept = new([]byte)
	}
	*kept = bytes
	buffers.Put(kept)
}

var copyBuffers = sync.Pool{New: func() any {
	b := make([]byte, copyBufferSize)
	return &b
}}

// AcquireCopyBuffer returns 32 KiB, to move bytes by. ReleaseCopyBuffer gives them back.
func AcquireCopyBuffer() *[]byte { return copyBuffers.Get().(*[]byte) }

// ReleaseCopyBuffer gives back what AcquireCopyBuffer has returned.
func ReleaseCopyBuffer(b *[]byte) { copyBuffers.Put(b) }

var (
	bulkPool = sync.Pool{New: func() any {
		b := make([]byte, bulkBufferSize)
		return &b
	}}
	bulkInUse atomic.Int32
)

// acquireBulkBuffer returns 256 KiB, or nil where bulkBuffers are in use. releaseBulkBuffer gives them back.
func acquireBulkBuffer() *[]byte {
	if bulkInUse.Add(1) > bulkBuffers {
		bulkInUse.Add(-1)
		return nil
	}
	return bulkPool.Get().(*[]byte)
}

func releaseBulkBuffer(b *[]byte) {
	bulkPool.Put(b)
	bulkInUse.Add(-1)
}
