package visitor

import (
	"sync/atomic"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// placeBits is the logarithm of how many decoded places a database keeps:
// 4,096, of some 200 bytes each.
const placeBits = 12

// place is a decoded record, at its offset in the file. It does not change.
type place struct {
	offset uintptr
	geo    sessionctx.Geo
	known  bool
}

// placeCache keeps decoded records, each in the one slot that its offset
// hashes to; a newcomer takes the slot. It needs no lock, and a record that
// lost its slot costs a decoding, no more.
type placeCache [1 << placeBits]atomic.Pointer[place]

func (c *placeCache) get(offset uintptr) *place {
	if p := c.slot(offset).Load(); p != nil && p.offset == offset {
		return p
	}
	return nil
}

func (c *placeCache) put(p *place) { c.slot(p.offset).Store(p) }

// slot spreads offsets by Fibonacci hashing: they are far from random.
func (c *placeCache) slot(offset uintptr) *atomic.Pointer[place] {
	return &c[uint64(offset)*0x9e3779b97f4a7c15>>(64-placeBits)]
}
