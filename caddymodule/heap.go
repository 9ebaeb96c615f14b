package caddymodule

import "fmt"

// Go's collector runs when the heap has doubled. A proxy's heap is small, 5 to
// 10 MB, so under load it would run some 20 times a second, and each time costs
// every request that is under way. A reserve that is counted but never touched
// makes it run less often; it takes address space, and memory only for the
// garbage that may gather in the meantime.
const (
	defaultHeapReserve = 16 << 20
	maxHeapReserve     = 1 << 30
)

func (a *App) heapReserve() int64 {
	if a.HeapReserve == nil {
		return defaultHeapReserve
	}
	return *a.HeapReserve
}

func checkHeapReserve(n int64) error {
	if n < 0 || n > maxHeapReserve {
		return fmt.Errorf("heap_reserve of %d bytes is not possible: give 0 (off) to 1GiB, like 16MiB", n)
	}
	return nil
}
