package inject

import "sync"

const (
	// bufferSize holds a usual page's prefix, a script and a chunk.
	bufferSize = 32 << 10
	// keepBuffer is the largest buffer that returns to the pool.
	keepBuffer = 256 << 10
)

// buffer is a pooled byte slice.
type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, bufferSize)} }}

func takeBuffer() *buffer { return buffers.Get().(*buffer) }

// whole is the buffer at its full size, to be read into.
func (b *buffer) whole() []byte { return b.b[:cap(b.b)] }

// release gives the buffer back; nil is allowed.
func (b *buffer) release() {
	if b == nil || cap(b.b) > keepBuffer {
		return
	}
	b.b = b.b[:0]
	buffers.Put(b)
}
